"""`bot_data` of python-telegram-bot: one record for all updates, locked for those that use it and for nobody else."""

from __future__ import annotations

import asyncio
import contextvars
import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiogram_aids import ANN, BEN, CountingStorage, message
from ptb_aids import App, BurntError, builder, errors_of, feed, on_text, serving
from ptb_persistence_aids import kept, persistent
from telegram import Update
from telegram.ext import (
    BaseHandler,
    CallbackContext,
    ContextTypes,
    ConversationHandler,
    JobQueue,
    MessageHandler,
    filters,
)
from test_ptb_persistence import count as count_for_chat
from waiting_aids import until

from chatsession.errors import SessionEncodeError, SessionError
from chatsession.integrations.telegram_ext import SessionPersistence, open_persistence
from chatsession.storages import Storage


async def stored(storage: Storage) -> Any:
    (record,) = await storage.read_many(["ptb:bot:data"])
    assert not isinstance(record, Exception)
    return None if record is None else msgspec.json.decode(record.value)


async def count(update: Update, context: Any) -> None:
    before = context.bot_data.get("count", 0)
    await asyncio.sleep(0)
    context.bot_data["count"] = before + 1
    if update.effective_message is not None and update.effective_message.text == "burn":
        raise BurntError


async def look(update: Update, context: Any) -> None:
    assert context.bot_data is not None


async def test_it_is_stored_with_the_update(storage: CountingStorage) -> None:
    application = persistent(storage)
    on_text(application, count)
    async with serving(application):
        await feed(application, message(), message(user=BEN))
        assert await stored(storage) == {"count": 2}
        assert await application.persistence.get_bot_data() == {"count": 2}


async def test_looking_at_it_stores_nothing(storage: CountingStorage) -> None:
    application = persistent(storage)
    on_text(application, look)
    async with serving(application):
        await feed(application, message())
        assert await stored(storage) is None


async def test_a_failing_handler_leaves_it(storage: CountingStorage) -> None:
    application = persistent(storage)
    on_text(application, count)
    on_text(application, count, group=1)
    errors = errors_of(application)
    async with serving(application):
        await feed(application, message(), message("burn"))
        assert await stored(storage) == {"count": 2}
        assert len(errors) == 2


async def test_updates_of_two_processes_lose_nothing(tmp_path: Path) -> None:
    one, other = (persistent(f"sqlite:///{tmp_path}/bot.db") for _ in range(2))
    for application in (one, other):
        on_text(application, count)
    async with serving(one), serving(other):
        for number in range(40):
            for application in (one, other):
                user = (ANN, BEN)[number % 2]
                await application.update_queue.put(Update.de_json(message(user=user), application.bot))
        await one.update_queue.join()
        await other.update_queue.join()
        assert await one.persistence.get_bot_data() == {"count": 80}


async def test_it_holds_nobody_up_who_does_not_use_it(storage: CountingStorage) -> None:
    go_on = asyncio.Event()
    held: list[bool] = []

    async def hold(update: Update, context: Any) -> None:
        context.bot_data["held"] = True
        held.append(True)
        await go_on.wait()

    application = persistent(storage)
    on_text(application, hold, "hold")
    on_text(application, count_for_chat)
    async with serving(application):
        await application.update_queue.put(Update.de_json(message("hold"), application.bot))
        await until(lambda: held)
        await application.update_queue.put(Update.de_json(message(user=BEN), application.bot))
        await until(lambda: storage.read("ptb:id:2"))
        go_on.set()
    assert await stored(storage) == {"held": True}


async def test_what_cannot_be_stored_is_refused_with_all_of_the_update(storage: CountingStorage) -> None:
    async def put(update: Update, context: Any) -> None:
        context.user_data["fine"] = True
        context.bot_data["db"] = [object()]

    application = persistent(storage)
    on_text(application, put)
    errors = errors_of(application)
    async with serving(application):
        await feed(application, message())
    assert isinstance(errors[0], SessionEncodeError)
    assert '$["db"][0]' in str(errors[0]) or "$.db[0]" in str(errors[0])
    assert await kept(storage, 1) is None


@dataclass
class Shop:
    """The bot's data as a class."""

    orders: int = 0


class ShopContext(CallbackContext[Any, Any, Any, Shop]):
    """Uses the bot's data by a property."""

    @property
    def orders(self) -> int:
        return self.bot_data.orders

    @orders.setter
    def orders(self, orders: int) -> None:
        self.bot_data.orders = orders


async def order(update: Update, context: ShopContext) -> None:
    context.orders += 1


async def test_the_applications_own_class_by_a_property_of_the_context(storage: CountingStorage) -> None:
    application = persistent(
        storage, made=builder(None).context_types(ContextTypes(context=ShopContext, bot_data=Shop))
    )
    on_text(application, order)
    async with serving(application):
        await feed(application, message(), message())
        assert await stored(storage) == {"orders": 2}


async def test_in_conversations(storage: CountingStorage) -> None:
    async def begin(update: Update, context: Any) -> int:
        context.bot_data["begun"] = context.bot_data.get("begun", 0) + 1
        return 1

    application = persistent(storage)
    handler: Any = ConversationHandler([MessageHandler(filters.ALL, begin)], {1: []}, [], name="c", persistent=True)
    application.add_handler(handler)
    async with serving(application):
        await feed(application, message())
    assert await stored(storage) == {"begun": 1}


async def test_in_jobs_and_error_handlers(storage: CountingStorage) -> None:
    application = persistent(storage, made=builder(None).job_queue(JobQueue()))

    async def run(context: Any) -> None:
        context.bot_data["ran"] = context.bot_data.get("ran", 0) + 1
        context.user_data["ran"] = True

    async def note(update: object, context: Any) -> None:
        context.bot_data["errors"] = context.bot_data.get("errors", 0) + 1

    async def burn(update: Update, context: Any) -> None:
        raise BurntError

    on_text(application, burn)
    application.add_error_handler(note)
    async with serving(application):
        job = application.job_queue.run_once(run, 3600, user_id=1)
        await job.run(application)
        await job.run(application)
        await feed(application, message())
        assert await stored(storage) == {"ran": 2, "errors": 1}
        assert await kept(storage, 1) == {"user_data": {"ran": True}}


async def test_in_hooks_of_the_application(storage: CountingStorage) -> None:
    async def begin(application: App) -> None:
        application.bot_data["begun"] = True

    application = persistent(storage, made=builder(None).post_init(begin))
    async with serving(application):
        await application.post_init(application)  # as run_polling does
        assert await stored(storage) == {"begun": True}


async def test_outside_of_any_update(storage: CountingStorage) -> None:
    application = persistent(storage)
    async with serving(application):
        with pytest.raises(SessionError, match="open_persistence"):
            application.bot_data["count"] = 1
        async with open_persistence(application, user_id=1, bot_data=True):
            application.bot_data["count"] = 1
            application.user_data[1]["count"] = 1
            with pytest.raises(SessionError, match="not loaded"):
                application.chat_data[2]["count"] = 1
        with pytest.raises(BurntError):
            async with open_persistence(application, chat_id=-100):
                application.chat_data[-100]["count"] = 1
                raise BurntError
        assert await stored(storage) == {"count": 1}
        assert await kept(storage, 1) == {"user_data": {"count": 1}}
        assert await kept(storage, -100) is None


async def test_outside_of_updates_before_the_bot_was_initialized(storage: CountingStorage) -> None:
    application = persistent(storage)
    async with open_persistence(application, user_id=1):
        application.user_data[1]["count"] = 1
    assert await kept(storage, 1) == {"user_data": {"count": 1}}


class Own(BaseHandler[Update, Any, None]):
    """Does not call its callback."""

    def check_update(self, update: object) -> bool:
        return isinstance(update, Update)

    async def handle_update(self, update: Update, application: Any, check_result: object, context: Any) -> None:
        await count(update, context)


async def test_in_a_handler_class_of_ones_own(storage: CountingStorage) -> None:
    application = persistent(storage)
    application.add_handler(Own(look))
    application.add_handler(Own(by_nobody), group=1)
    async with serving(application):
        await feed(application, message())
        assert await stored(storage) == {"count": 2}


async def test_the_data_of_others_inside_of_a_handler(storage: CountingStorage) -> None:
    async def greet(update: Update, context: Any) -> None:
        async with open_persistence(context.application, user_id=BEN.id):
            context.application.user_data[BEN.id]["greeted by"] = ANN.name
            context.user_data["greeted"] = BEN.name

    application = persistent(storage)
    on_text(application, greet)
    async with serving(application):
        await feed(application, message())
        assert await kept(storage, 1) == {"user_data": {"greeted": "Ben"}}
        assert await kept(storage, 2) == {"user_data": {"greeted by": "Ann"}}


async def test_a_use_that_could_not_be_foreseen(storage: CountingStorage) -> None:
    reach = functools.partial(lambda name, context: getattr(context, name), "".join(["bot_", "data"]))

    async def hidden(update: Update, context: Any) -> None:
        context.user_data["fine"] = True
        reach(context)["count"] = 1

    application = persistent(storage)
    on_text(application, hidden)
    errors = errors_of(application)
    async with serving(application):
        await feed(application, message())
    assert "open_persistence(application, bot_data=True)" in str(errors[0])
    assert await kept(storage, 1) is None


async def test_handlers_that_were_there_before(storage: CountingStorage) -> None:
    from chatsession.integrations.telegram_ext import setup_persistence

    application = builder(None).build()
    on_text(application, count)
    setup_persistence(application, storage)
    async with serving(application):
        await feed(application, message())
    assert await stored(storage) == {"count": 1}


class Refreshing(SessionPersistence):
    """Knows something from elsewhere."""

    async def refresh_bot_data(self, bot_data: Any) -> None:
        bot_data["refreshed"] = True


async def test_it_is_refreshed(storage: CountingStorage) -> None:
    application = persistent(storage, persistence_class=Refreshing)
    on_text(application, look)
    async with serving(application):
        await feed(application, message())
        assert await stored(storage) == {"refreshed": True}


async def helper(context: Any) -> None:
    context.bot_data["helped"] = True


class Service:
    async def use(self, context: Any) -> None:
        await helper(context)

    async def __call__(self, update: Update, context: Any) -> None:
        await self.use(context)


service = Service()


def decorated(callback: Any) -> Any:
    async def run(update: Update, context: Any) -> Any:
        return await callback(update, context)

    return run


async def by_function(update: Update, context: Any) -> None:
    await helper(context)


async def by_object(update: Update, context: Any) -> None:
    await service.use(context)


def made_elsewhere() -> Any:
    """An object whose class this module does not know."""

    class Elsewhere:
        async def count_up(self, context: Any) -> None:
            context.bot_data["count"] = 1

    return Elsewhere()


elsewhere = made_elsewhere()


async def by_object_elsewhere(update: Update, context: Any) -> None:
    await elsewhere.count_up(context)


class Desk:
    def __init__(self, service: Any) -> None:
        self.service = service

    async def by_attribute(self, update: Update, context: Any) -> None:
        await self.service.count_up(context)


async def by_name(update: Update, context: Any) -> None:
    getattr(context, "bot_data")  # noqa: B009 - as people do


async def by_inner(update: Update, context: Any) -> None:
    async def inner() -> None:
        await asyncio.gather(*[helper(each) for each in [context]])

    await inner()


async def by_nobody(update: Update, context: Any) -> None:
    context.user_data["count"] = str(update)
    await asyncio.sleep(0)


async def unfollowed(update: Update, context: Any) -> None:
    await asyncio.sleep(0, context)


USING: dict[str, Any] = {
    **{each.__name__: each for each in (count, by_function, by_object, by_object_elsewhere, by_name, by_inner)},
    "an object": service,
    "a method": service.use,
    "an attribute of its object": Desk(made_elsewhere()).by_attribute,
    "a decorator": decorated(count),
    "a partial": functools.partial(count),
    "a decorator twice": decorated(decorated(count)),
    "a partial of a decorator": functools.partial(decorated(by_function)),
}


@pytest.mark.parametrize("way", USING)
async def test_a_handler_that_uses_it_has_it(storage: CountingStorage, way: str) -> None:
    application, callback = persistent(storage), USING[way]
    on_text(application, (lambda update, context: callback(context)) if way == "a method" else callback)
    errors = errors_of(application)
    async with serving(application):
        await feed(application, message())
    assert errors == []


@pytest.mark.parametrize("callback", [by_nobody, decorated(by_nobody), unfollowed])
async def test_a_handler_that_does_not_use_it_does_not_lock_it(storage: CountingStorage, callback: Any) -> None:
    application = persistent(storage)
    on_text(application, callback)
    async with serving(application), open_persistence(application, bot_data=True), asyncio.timeout(120):
        await asyncio.create_task(feed(application, message()), context=contextvars.Context())
