"""`user_data` and `chat_data` of python-telegram-bot on a storage: stored with each update, or not at all."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiogram_aids import ANN, BEN, CountingStorage, Pizza, group, inline_query, message
from ptb_aids import BurntError, build, builder, errors_of, feed, on_text, process, serving
from ptb_persistence_aids import kept, persistent
from telegram import Update
from telegram.ext import Application, CallbackContext, ContextTypes, PersistenceInput, PicklePersistence, TypeHandler
from waiting_aids import until

from chatsession import SessionManager
from chatsession.errors import SessionClosedError, SessionEncodeError, SessionError
from chatsession.integrations.telegram_ext import (
    SessionPersistence,
    open_persistence,
    setup_persistence,
    setup_sessions,
)


async def count(update: Update, context: Any) -> None:
    """Counts for the user and for the chat, and fails at the word `burn`."""
    for data in (context.user_data, context.chat_data):
        if data is not None:
            data["count"] = data.get("count", 0) + 1
    if update.effective_message is not None and update.effective_message.text == "burn":
        raise BurntError


async def look(update: Update, context: Any) -> None:
    """Looks at what is there, and changes nothing."""
    assert context.user_data is not None
    assert context.chat_data is not None


async def test_an_update_stores_what_its_handlers_changed(storage: CountingStorage) -> None:
    application = persistent(storage)
    on_text(application, count)
    async with serving(application):
        await feed(application, message(), message(chat=group()))
        await process(application, message(user=BEN))
        assert await kept(storage, 1) == {"user_data": {"count": 2}, "chat_data": {"count": 1}}
        assert await kept(storage, -100) == {"chat_data": {"count": 1}}
        assert await kept(storage, 2) == {"user_data": {"count": 1}, "chat_data": {"count": 1}}


async def test_a_private_chat_costs_one_lock_and_one_write(storage: CountingStorage) -> None:
    application = persistent(storage)
    on_text(application, count)
    async with serving(application):
        storage.calls.clear()  # the prefix was noted at the start
        await feed(application, message())
        assert storage.calls == {"lock": 1, "put": 1}


async def test_data_that_was_only_looked_at_is_not_stored(storage: CountingStorage) -> None:
    application = persistent(storage)
    on_text(application, look)
    async with serving(application):
        storage.calls.clear()  # the prefix was noted at the start
        await feed(application, message(), message(chat=group()))
    assert storage.calls["put"] == 0


async def test_an_update_without_a_chat(storage: CountingStorage) -> None:
    application = persistent(storage)
    application.add_handler(TypeHandler(Update, count))
    async with serving(application):
        await feed(application, inline_query())
        assert await kept(storage, 1) == {"user_data": {"count": 1}}


async def test_data_that_was_emptied_is_deleted(storage: CountingStorage) -> None:
    async def clear(update: Update, context: Any) -> None:
        context.user_data.clear()
        context.chat_data.clear()

    application = persistent(storage)
    on_text(application, clear, "clear")
    on_text(application, count)
    async with serving(application):
        await feed(application, message(), message("clear"))
        assert await kept(storage, 1) is None


@pytest.mark.parametrize("ask", [list, len, dict])
async def test_a_list_of_all_users_is_refused(storage: CountingStorage, ask: Any) -> None:
    """A broadcast to `application.user_data` would reach the sender only."""

    async def broadcast(update: Update, context: Any) -> None:
        ask(context.application.user_data)

    application = persistent(storage)
    on_text(application, broadcast)
    errors = errors_of(application)
    async with serving(application):
        await feed(application, message())
    assert "await application.persistence.get_user_data()" in str(errors[0])


async def test_what_a_failing_handler_changed_is_undone(storage: CountingStorage) -> None:
    application = persistent(storage)
    on_text(application, count)
    seen: list[Any] = []

    async def note(update: object, context: Any) -> None:
        seen.append((context.error, dict(context.user_data)))
        context.chat_data["errors"] = 1

    application.add_error_handler(note)
    async with serving(application):
        await feed(application, message(), message("burn"))
        ((error, user_data),) = seen
        assert isinstance(error, BurntError)
        assert user_data == {"count": 1}
        assert await kept(storage, 1) == {"user_data": {"count": 1}, "chat_data": {"count": 1, "errors": 1}}


async def test_groups_after_a_failure_begin_with_what_is_stored(storage: CountingStorage) -> None:
    application = persistent(storage)
    errors = errors_of(application)
    on_text(application, count)
    on_text(application, count, group=1)
    async with serving(application):
        await feed(application, message(), message("burn"), message())
        assert (await kept(storage, 1))["user_data"] == {"count": 4}
        assert [type(error) for error in errors] == [BurntError, BurntError]


async def test_data_is_gone_from_memory_after_the_update(storage: CountingStorage) -> None:
    application = persistent(storage)
    left: list[Any] = []

    async def keep(update: Update, context: Any) -> None:
        context.user_data["count"] = 1
        left.append(context)

    on_text(application, keep)
    async with serving(application):
        await feed(application, message())
        with pytest.raises(SessionError, match="outside of any"):
            assert application.user_data[1]
        with pytest.raises(SessionError, match="outside of any"):
            assert left[0].chat_data
        assert not application._chat_ids_to_be_updated_in_persistence, "ids pile up"


async def test_a_task_that_outlives_its_update_is_told(storage: CountingStorage) -> None:
    told: list[Exception] = []
    done, go_on = asyncio.Event(), asyncio.Event()

    async def late(context: Any) -> None:
        await go_on.wait()
        try:
            context.user_data["late"] = True
        except SessionClosedError as error:
            told.append(error)
        done.set()

    tasks: list[asyncio.Task[None]] = []

    async def start(update: Update, context: Any) -> None:
        tasks.append(asyncio.create_task(late(context)))

    application = persistent(storage)
    on_text(application, start)
    async with serving(application):
        await feed(application, message())
        go_on.set()
        await done.wait()
    assert "open_persistence" in str(told[0])


async def test_data_of_others_is_refused(storage: CountingStorage) -> None:
    async def reach(update: Update, context: Any) -> None:
        context.application.user_data[2]["count"] = 1

    application = persistent(storage)
    errors = errors_of(application)
    on_text(application, reach)
    async with serving(application):
        storage.calls.clear()  # the prefix was noted at the start
        await feed(application, message())
    assert "user_data[2] is not loaded" in str(errors[0])
    assert storage.calls["put"] == 0


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ({"pizzas": [{"at": object()}]}, '$.user_data["pizzas"][0]["at"]'),
        ({5: "x"}, "$.user_data[5]"),
        ({"tags": {1, 2}}, '$.user_data["tags"]'),
    ],
)
async def test_what_json_cannot_hold_is_refused_by_path(storage: CountingStorage, value: Any, path: str) -> None:
    async def put(update: Update, context: Any) -> None:
        context.chat_data["fine"] = 1
        context.user_data.update(value)

    application = persistent(storage)
    errors = errors_of(application)
    on_text(application, put)
    async with serving(application):
        storage.calls.clear()  # the prefix was noted at the start
        await feed(application, message(chat=group()))
    (error,) = errors
    assert isinstance(error, SessionEncodeError)
    assert path in str(error)
    assert "'ptb:id:1'" in str(error)
    assert storage.calls["put"] == 0, "half of the update was stored"


@dataclass
class Profile:
    """A user's data as a class."""

    visits: int = 0
    tags: set[str] = field(default_factory=set[str])


async def test_the_applications_own_classes(storage: CountingStorage) -> None:
    types = ContextTypes(user_data=Profile, chat_data=Pizza)
    application = persistent(storage, made=builder(None).context_types(types))

    async def visit(update: Update, context: Any) -> None:
        context.user_data.visits += 1
        context.user_data.tags.add("new")
        assert context.chat_data == Pizza()

    on_text(application, visit)
    on_text(application, look, group=1)
    async with serving(application):
        await feed(application, message(chat=group()), message(chat=group()))
        assert await kept(storage, 1) == {"user_data": {"visits": 2, "tags": ["new"]}}
        assert await kept(storage, -100) is None, "a default that was only looked at is stored"


async def test_a_type_beside_the_class(storage: CountingStorage) -> None:
    application = persistent(storage, user_data=dict[int, str])

    async def put(update: Update, context: Any) -> None:
        context.user_data[5] = "five"
        assert context.user_data.get(4) in (None, "four")
        context.user_data[4] = "four"

    on_text(application, put)
    errors = errors_of(application)
    async with serving(application):
        await feed(application, message(), message())
    assert errors == []


async def test_handlers_in_the_background_belong_to_their_update(storage: CountingStorage) -> None:
    go_on = asyncio.Event()
    running: list[int] = []

    async def slow(update: Update, context: Any) -> None:
        before = context.user_data.get("count", 0)
        running.append(before)
        await go_on.wait()
        context.user_data["count"] = before + 1

    application = persistent(storage)
    on_text(application, slow, block=False)
    async with serving(application):
        storage.calls.clear()  # the prefix was noted at the start
        for _ in range(3):
            await application.update_queue.put(Update.de_json(message(), application.bot))
        await until(lambda: running)
        assert storage.calls["put"] == 0
        go_on.set()
        await until(lambda: len(running) == 3)
    assert running == [0, 1, 2]
    assert (await kept(storage, 1))["user_data"] == {"count": 3}


async def test_concurrent_updates_lose_nothing(storage: CountingStorage) -> None:
    async def slow(update: Update, context: Any) -> None:
        user, chat = context.user_data.get("count", 0), context.chat_data.get("count", 0)
        await asyncio.sleep(0)
        context.user_data["count"], context.chat_data["count"] = user + 1, chat + 1

    application = persistent(storage)
    on_text(application, slow)
    async with serving(application):
        for place in range(60):
            chat = group(-100 - place % 3)
            await application.update_queue.put(
                Update.de_json(message(chat=chat, user=(ANN, BEN)[place % 2]), application.bot)
            )
        await application.update_queue.join()
        assert [(await kept(storage, user.id))["user_data"]["count"] for user in (ANN, BEN)] == [30, 30]
        assert [(await kept(storage, -100 - place))["chat_data"]["count"] for place in range(3)] == [20, 20, 20]


async def test_a_new_process_goes_on(tmp_path: Path) -> None:
    for visits in (1, 2):
        application = persistent(f"sqlite:///{tmp_path}/bot.db")
        seen: list[int] = []

        async def note(update: Update, context: Any, seen: list[int] = seen) -> None:
            seen.append(context.user_data["count"])

        on_text(application, count)
        on_text(application, note, group=1)
        async with serving(application):
            await feed(application, message())
        assert seen == [visits]


async def test_dropping_data(storage: CountingStorage) -> None:
    async def drop(update: Update, context: Any) -> None:
        context.application.drop_user_data(1)
        assert context.user_data == {}
        context.application.drop_user_data(2)
        context.application.drop_chat_data(2)

    application = persistent(storage)
    on_text(application, drop, "drop")
    on_text(application, count)
    async with serving(application):
        await feed(application, message(), message(user=BEN), message("drop"))
        assert await kept(storage, 1) == {"chat_data": {"count": 1}}
        assert await kept(storage, 2) is None
        application.drop_chat_data(1)
        await application.update_persistence()
        assert await kept(storage, 1) is None


async def test_dropping_the_own_data_beside_that_of_others(storage: CountingStorage) -> None:
    async def drop(update: Update, context: Any) -> None:
        context.user_data["count"] = 1
        async with open_persistence(application, user_id=2):
            application.user_data[2]["count"] = 1
            application.drop_user_data(1)

    application = persistent(storage)
    on_text(application, drop)
    errors = errors_of(application)
    async with serving(application):
        await feed(application, message())
        assert errors == []
        assert await application.persistence.get_user_data() == {2: {"count": 1}}


async def test_a_handler_that_flushes_does_not_wait_for_what_waits_for_it(storage: CountingStorage) -> None:
    busy, go_on = asyncio.Event(), asyncio.Event()

    async def flush(update: Update, context: Any) -> None:
        context.user_data["count"] = 1
        busy.set()
        await go_on.wait()
        await context.application.update_persistence()

    application = persistent(storage)
    on_text(application, flush)
    async with serving(application), asyncio.timeout(120):
        feeding = asyncio.create_task(feed(application, message()))
        await busy.wait()
        application.drop_user_data(1)
        await asyncio.sleep(0)
        go_on.set()
        await feeding
        await application.update_persistence()
        assert await kept(storage, 1) is None


async def test_a_failing_handler_drops_nothing(storage: CountingStorage) -> None:
    async def drop(update: Update, context: Any) -> None:
        context.application.drop_user_data(1)
        context.application.drop_user_data(2)
        raise BurntError

    application = persistent(storage)
    on_text(application, drop, "drop")
    on_text(application, count)
    async with serving(application):
        await feed(application, message(), message(user=BEN), message("drop"))
        assert "user_data" in await kept(storage, 1)
        assert "user_data" in await kept(storage, 2)


@pytest.mark.parametrize("by_hand", [False, True])
async def test_a_group_that_became_a_supergroup(storage: CountingStorage, by_hand: bool) -> None:
    async def migrate(update: Update, context: Any) -> None:
        if by_hand:
            context.application.migrate_chat_data(message=update.message)

    application = persistent(storage)
    application.add_handler(TypeHandler(Update, migrate), group=-1)
    on_text(application, count, "🍕")
    old, new = group(-5), group(-1005)
    async with serving(application):
        await feed(application, message(chat=old), message("", chat=old, migrate_to_chat_id=-1005))
        await feed(application, message("", chat=new, migrate_from_chat_id=-5), message(chat=new), message(chat=old))
        assert await kept(storage, -1005) == {"chat_data": {"count": 3}}


async def test_migrating_by_ids(storage: CountingStorage) -> None:
    application = persistent(storage)
    on_text(application, count)
    async with serving(application):
        await feed(application, message(chat=group(-5)), message(chat=group(-5)), message(chat=group(-1005)))
        application.migrate_chat_data(old_chat_id=-5, new_chat_id=-1005)
        await application.update_persistence()
        assert await kept(storage, -1005) == {"chat_data": {"count": 2}}, "as python-telegram-bot: the old one's stays"
        with pytest.raises(ValueError, match="mutually exclusive"):
            application.migrate_chat_data(message=object(), old_chat_id=1)  # type: ignore[call-overload]


async def test_only_what_is_to_be_stored_is(storage: CountingStorage) -> None:
    application = persistent(storage, store_data=PersistenceInput(chat_data=False))
    on_text(application, count)
    async with serving(application):
        await feed(application, message(), message())
        assert await kept(storage, 1) == {"user_data": {"count": 2}}
        assert application.chat_data[1] == {"count": 2}


class Refreshing(SessionPersistence):
    """Knows something from elsewhere."""

    async def refresh_user_data(self, user_id: int, user_data: Any) -> None:
        user_data["refreshed"] = user_id

    async def refresh_chat_data(self, chat_id: int, chat_data: Any) -> None:
        chat_data["refreshed"] = chat_id


async def test_data_is_refreshed_before_the_first_handler(storage: CountingStorage) -> None:
    application = persistent(storage, persistence_class=Refreshing)
    on_text(application, count)
    async with serving(application):
        await feed(application, message(chat=group()))
        assert (await kept(storage, 1))["user_data"] == {"refreshed": 1, "count": 1}
        assert (await kept(storage, -100))["chat_data"] == {"refreshed": -100, "count": 1}


class OwnContext(CallbackContext[Any, Any, Any, Any]):
    """Looks at the data while it is made, as an official example does."""

    def __init__(self, application: Any, chat_id: int | None = None, user_id: int | None = None) -> None:
        super().__init__(application, chat_id, user_id)
        if user_id is not None:
            self.before = dict(self.user_data or {})


async def test_a_context_that_looks_at_the_data(storage: CountingStorage) -> None:
    application = persistent(storage, made=builder(None).context_types(ContextTypes(context=OwnContext)))
    seen: list[Any] = []

    async def note(update: Update, context: Any) -> None:
        seen.append(context.before)
        context.user_data["count"] = 1

    on_text(application, note)
    async with serving(application):
        await feed(application, message(), message())
    assert seen == [{}, {"count": 1}]


async def test_sessions_and_data_are_one_unit(storage: CountingStorage) -> None:
    application = persistent(storage, made=builder())
    sessions = SessionManager(Pizza, storage=storage)
    setup_sessions(application, sessions)

    async def both(update: Update, context: Any) -> None:
        context.user_data["count"] = context.user_data.get("count", 0) + 1
        context.session.count += 1
        if update.effective_message is not None and update.effective_message.text == "bad":
            context.user_data["bad"] = object()

    errors = errors_of(application)
    on_text(application, both)
    async with serving(application):
        await feed(application, message(), message("bad"))
        assert await sessions.get(1) == Pizza(1)
        assert await kept(storage, 1) == {"user_data": {"count": 1}}
        assert isinstance(errors[0], SessionEncodeError)


async def test_saving_and_releasing(storage: CountingStorage) -> None:
    async def save(update: Update, context: Any) -> None:
        data = context.user_data
        await context.save_session()
        data["count"] = 1
        await context.save_session()
        assert await kept(storage, 1) == {"user_data": {"count": 1}}
        await context.release_session()
        assert context.user_data == {"count": 1}

    application = persistent(storage)
    errors = errors_of(application)
    on_text(application, save)
    async with serving(application):
        await feed(application, message())
        assert errors == []
        assert await kept(storage, 1) == {"user_data": {"count": 1}}


async def test_an_update_that_comes_twice(storage: CountingStorage) -> None:
    application = persistent(storage, deduplicate=10)
    on_text(application, count)
    async with serving(application):
        twice = message()
        await feed(application, twice, twice)
        assert b'"count":1' in (await storage.read_many(["ptb:id:1"]))[0].value  # type: ignore[union-attr]


async def test_two_bots_on_one_storage(storage: CountingStorage) -> None:
    application = persistent(storage, per_bot=True)
    on_text(application, count)
    async with serving(application):
        await feed(application, message())
        assert await kept(storage, "42:1") == {"user_data": {"count": 1}, "chat_data": {"count": 1}}
        assert await application.persistence.get_user_data() == {1: {"count": 1}}


async def test_looking_at_and_changing_what_is_stored(storage: CountingStorage) -> None:
    application = persistent(storage)
    on_text(application, count)
    async with serving(application):
        await feed(application, message(chat=group()), message(user=BEN, chat=group()))
        persistence = application.persistence
        assert await persistence.get_user_data() == {1: {"count": 1}, 2: {"count": 1}}
        assert await persistence.get_chat_data() == {-100: {"count": 2}}
        await persistence.update_user_data(1, {"count": 7})
        await persistence.drop_user_data(2)
        await persistence.update_chat_data(-100, {})
        assert await persistence.get_user_data() == {1: {"count": 7}}
        assert await persistence.get_chat_data() == {}


def test_a_persistence_in_the_builder_as_well(tmp_path: Path) -> None:
    pickle = PicklePersistence(tmp_path / "bot.pickle")
    application = builder(None).persistence(pickle).build()
    with pytest.raises(ValueError, match=r"take \.persistence\(…\) out of its builder"):
        setup_persistence(application, "memory:")
    assert application.persistence is pickle


def test_setting_up_twice() -> None:
    application = persistent("memory:")
    with pytest.raises(ValueError, match="already"):
        setup_persistence(application, "memory:")


async def test_setting_up_too_late() -> None:
    application = builder(None).build()
    async with application:
        with pytest.raises(RuntimeError, match="directly after build"):
            setup_persistence(application, "memory:")


def test_a_builder_instead_of_the_application() -> None:
    with pytest.raises(TypeError, match="build it before"):
        setup_persistence(Application.builder(), "memory:")  # type: ignore[arg-type]


class Unstorable:
    """A class of which nothing is known."""


def made_somehow() -> dict[str, int]:
    return {}


@pytest.mark.parametrize("maker", [Unstorable, made_somehow])
def test_a_class_that_cannot_be_stored(maker: Any) -> None:
    application = builder(None).context_types(ContextTypes(user_data=maker)).build()
    with pytest.raises(TypeError, match=r"user_data|Unstorable"):
        setup_persistence(application, "memory:")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"user_data": "dict"}, r"user_data takes a type, as in user_data=dict\[int, str\], not 'dict'"),
        ({"store_data": 5}, "store_data takes a PersistenceInput or None, not 5"),
        ({"persistence_class": dict}, "persistence_class takes a subclass of SessionPersistence"),
        ({"per_bot": "yes"}, "per_bot takes True or False, not 'yes'"),
        ({"prefix": 5}, "prefix takes a string, not 5"),
        ({"codec": None}, "states have no option 'codec'"),
    ],
)
def test_an_option_that_gets_something_else(given: dict[str, Any], says: str) -> None:
    with pytest.raises(TypeError, match=says):
        setup_persistence(build(None), "memory:", **given)


async def test_persistence_may_be_set_up_after_sessions(storage: CountingStorage) -> None:
    application = builder().build()
    sessions = SessionManager(Pizza, storage=storage)
    setup_sessions(application, sessions)
    setup_persistence(application, storage)

    async def both(update: Update, context: Any) -> None:
        context.user_data["count"] = 1
        context.session.count += 1

    on_text(application, both)
    async with serving(application):
        await feed(application, message())
        assert await sessions.get(1) == Pizza(1)
        assert await kept(storage, 1) == {"user_data": {"count": 1}}
