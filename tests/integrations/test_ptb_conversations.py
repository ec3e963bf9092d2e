"""The states of persistent `ConversationHandler`s: stored with the data of their update, in as many processes as one
likes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from enum import Enum, IntEnum, StrEnum
from pathlib import Path
from typing import Any

import pytest
from aiogram_aids import ANN, BEN, CountingStorage, group, message, update
from ptb_aids import App, BurntError, builder, errors_of, feed, serving
from ptb_persistence_aids import kept, persistent
from telegram import Update
from telegram.ext import (
    ApplicationHandlerStop,
    CallbackContext,
    CallbackQueryHandler,
    CommandHandler,
    ConversationHandler,
    JobQueue,
    MessageHandler,
    filters,
)

from chatsession.errors import SessionEncodeError
from chatsession.integrations.telegram_ext import setup_persistence
from chatsession_playground import _updates as build

NAME, AGE = range(2)


def words(update: Update) -> str:
    assert update.effective_message is not None
    return update.effective_message.text or ""


async def ask(update: Update, context: Any) -> int:
    context.user_data["asked"] = context.user_data.get("asked", 0) + 1
    return NAME


async def name(update: Update, context: Any) -> int:
    context.user_data["name"] = words(update)
    return AGE


async def age(update: Update, context: Any) -> int:
    context.user_data["age"] = words(update)
    if words(update) == "burn":
        raise BurntError
    return ConversationHandler.END


TEXT = filters.TEXT & ~filters.COMMAND


def interview(**options: Any) -> ConversationHandler[Any]:
    """Asks for a name, then for an age."""
    states: Any = {NAME: [MessageHandler(TEXT, name)], AGE: [MessageHandler(TEXT, age)]}
    given: dict[str, Any] = {"name": "interview", "persistent": True, "states": states, "fallbacks": []}
    return ConversationHandler(**{"entry_points": [CommandHandler("start", ask)]} | given | options)


def start(**given: Any) -> Any:
    return message("/start", **given)


def with_interview(storage: Any, *, made: Any = None, per_bot: bool = False, **options: Any) -> App:
    application = persistent(storage, made=made, per_bot=per_bot)
    application.add_handler(interview(**options))
    return application


async def test_a_conversation_is_stored_with_the_data(storage: CountingStorage) -> None:
    application = with_interview(storage)
    async with serving(application):
        await feed(application, start())
        assert await kept(storage, 1) == {
            "user_data": {"asked": 1},
            "conversations": {"interview": {"[1,1]": NAME}},
        }
        storage.calls.clear()
        await feed(application, message("Ann"))
        assert storage.calls == {"lock": 1, "put": 1}
        await feed(application, message("42"))
        assert await kept(storage, 1) == {"user_data": {"asked": 1, "name": "Ann", "age": "42"}}


async def test_conversations_of_several_chats_and_users(storage: CountingStorage) -> None:
    application = with_interview(storage)
    async with serving(application):
        await feed(application, start(), start(chat=group()), start(chat=group(), user=BEN))
        await feed(application, message("Ann", chat=group()))
        assert (await kept(storage, 1))["conversations"] == {"interview": {"[1,1]": NAME, "[-100,1]": AGE}}
        assert (await kept(storage, 2))["conversations"] == {"interview": {"[-100,2]": NAME}}
        assert await application.persistence.get_conversations("interview") == {
            (1, 1): NAME,
            (-100, 1): AGE,
            (-100, 2): NAME,
        }


async def test_each_bot_on_one_storage_knows_its_own(storage: CountingStorage) -> None:
    one = with_interview(storage, per_bot=True)
    two = with_interview(storage, made=builder(None).token("43:playground"), per_bot=True)
    async with serving(one):
        await feed(one, start())
        async with two.persistence:
            assert await one.persistence.get_conversations("interview") == {(1, 1): NAME}
            assert await two.persistence.get_conversations("interview") == {}


async def test_a_failing_handler_leaves_state_and_data(storage: CountingStorage) -> None:
    application = with_interview(storage)
    errors = errors_of(application)
    async with serving(application):
        await feed(application, start(), message("Ann"), message("burn"))
        assert await kept(storage, 1) == {
            "user_data": {"asked": 1, "name": "Ann"},
            "conversations": {"interview": {"[1,1]": AGE}},
        }
        assert isinstance(errors[0], BurntError)
        await feed(application, message("42"))
        assert "conversations" not in await kept(storage, 1)


async def test_two_processes_lead_one_conversation(tmp_path: Path) -> None:
    one, other = (with_interview(f"sqlite:///{tmp_path}/bot.db") for _ in range(2))
    async with serving(one), serving(other):
        await feed(one, start())
        await feed(other, message("Ann"))
        await feed(one, message("42"))
        assert await other.persistence.get_user_data() == {1: {"asked": 1, "name": "Ann", "age": "42"}}
        assert await other.persistence.get_conversations("interview") == {}


async def test_an_update_that_no_handler_takes(storage: CountingStorage) -> None:
    application = with_interview(storage)
    async with serving(application):
        await feed(application, message("hello"))
    assert await kept(storage, 1) is None


@pytest.mark.parametrize(
    ("per", "home", "key"),
    [
        ({"per_user": False}, -100, "[-100]"),
        ({"per_chat": False}, 1, "[1]"),
        ({"per_message": True}, 1, "[-100,1,7]"),
        ({"per_message": True, "per_user": False}, -100, "[-100,7]"),
        ({"per_message": True, "per_user": False, "per_chat": False}, "message:7", "[7]"),
    ],
)
@pytest.mark.filterwarnings("ignore::telegram.warnings.PTBUserWarning")
async def test_what_a_conversation_belongs_to(storage: CountingStorage, per: Any, home: Any, key: str) -> None:
    async def press(update: Update, context: Any) -> int:
        return AGE

    application = persistent(storage)
    handler: Any = ConversationHandler(
        [CallbackQueryHandler(press)], {AGE: [CallbackQueryHandler(age_pressed)]}, [], name="c", persistent=True, **per
    )
    application.add_handler(handler)
    async with serving(application):
        await feed(application, pressed())
        assert (await kept(storage, home))["conversations"] == {"c": {key: AGE}}
        await feed(application, pressed())
        assert await kept(storage, home) is None


async def age_pressed(update: Update, context: Any) -> int:
    return ConversationHandler.END


def pressed() -> Any:
    sent = build.message(7, 1, group(), build.User(42, "Bot", is_bot=True), **build.text("choose"))
    return update(callback_query=build.callback_query("1", ANN, "1", "x", pressed_on=sent))


@pytest.mark.parametrize("by", ["the handler", "the conversation"])
async def test_states_of_handlers_in_the_background(storage: CountingStorage, by: str) -> None:
    go_on = asyncio.Event()

    async def slow(update: Update, context: Any) -> int | None:
        await go_on.wait()
        context.user_data["name"] = words(update)
        return None if words(update) == "stay" else AGE

    blocks = by != "the handler"
    options: Any = {} if blocks else {"block": False}
    states: Any = {NAME: [MessageHandler(TEXT, slow, **options)], AGE: [MessageHandler(TEXT, age)]}
    application = with_interview(storage, states=states, **({"block": False} if blocks else {}))
    async with serving(application):
        await feed(application, start())
        for text in ("stay", "Ann", "42"):
            await application.update_queue.put(Update.de_json(message(text), application.bot))
        go_on.set()
        await application.update_queue.join()
    assert await kept(storage, 1) == {"user_data": {"asked": 1, "name": "Ann", "age": "42"}}


async def test_a_failing_handler_in_the_background(storage: CountingStorage) -> None:
    async def burn(update: Update, context: Any) -> int:
        context.user_data["name"] = "?"
        raise BurntError

    states: Any = {NAME: [MessageHandler(TEXT, burn, block=False)]}
    application = with_interview(storage, states=states)
    errors = errors_of(application)
    async with serving(application):
        await feed(application, start(), message("Ann"))
    assert [type(error) for error in errors] == [BurntError]
    assert await kept(storage, 1) == {"user_data": {"asked": 1}, "conversations": {"interview": {"[1,1]": NAME}}}


async def test_a_state_told_by_stopping_the_handlers(storage: CountingStorage) -> None:
    async def stop(update: Update, context: Any) -> None:
        raise ApplicationHandlerStop(AGE)

    application = with_interview(storage, states={NAME: [MessageHandler(TEXT, stop)], AGE: []})
    async with serving(application):
        await feed(application, start(), message("Ann"))
        assert (await kept(storage, 1))["conversations"] == {"interview": {"[1,1]": AGE}}


class Step(IntEnum):
    FIRST = 0


class Word(StrEnum):
    FIRST = "first"


class Other(Enum):
    FIRST = "first"


@pytest.mark.parametrize(("state", "stored"), [(Step.FIRST, 0), (Word.FIRST, "first"), ("", ""), (-7, -7)])
async def test_states_that_can_be_stored(storage: CountingStorage, state: Any, stored: Any) -> None:
    async def begin(update: Update, context: Any) -> Any:
        return state

    application = with_interview(
        storage, entry_points=[CommandHandler("start", begin)], states={state: [MessageHandler(TEXT, age)]}
    )
    async with serving(application):
        await feed(application, start())
        assert (await kept(storage, 1))["conversations"] == {"interview": {"[1,1]": stored}}
        await feed(application, message("42"))
        assert await kept(storage, 1) == {"user_data": {"age": "42"}}


@pytest.mark.parametrize("state", [(1, 2), 1.5, Other.FIRST, object()])
async def test_a_state_that_cannot_be_stored(storage: CountingStorage, state: Any) -> None:
    async def begin(update: Update, context: Any) -> Any:
        context.user_data["asked"] = 1
        return state

    application = with_interview(
        storage, entry_points=[CommandHandler("start", begin)], states={state: [MessageHandler(TEXT, age)]}
    )
    errors = errors_of(application)
    async with serving(application):
        await feed(application, start())
        assert await kept(storage, 1) is None
    (error,) = errors
    assert isinstance(error, SessionEncodeError)
    assert "'interview' went to a state of type" in str(error)


async def test_nested_conversations(storage: CountingStorage) -> None:
    async def begin(update: Update, context: Any) -> int:
        return NAME

    inner = interview(name="inner", map_to_parent={ConversationHandler.END: AGE})
    application = persistent(storage)
    application.add_handler(
        ConversationHandler(
            [CommandHandler("begin", begin)], {NAME: [inner], AGE: []}, [], name="outer", persistent=True
        )
    )
    async with serving(application):
        await feed(application, message("/begin"), start())
        assert (await kept(storage, 1))["conversations"] == {"outer": {"[1,1]": NAME}, "inner": {"[1,1]": NAME}}
        await feed(application, message("Ann"), message("42"))
        assert (await kept(storage, 1))["conversations"] == {"outer": {"[1,1]": AGE}}


async def test_a_handler_that_is_added_while_the_bot_runs(storage: CountingStorage) -> None:
    application = persistent(storage)
    async with serving(application):
        with pytest.warns(UserWarning, match="after `Application.initialize`"):
            application.add_handler(interview())
        await asyncio.sleep(0)
        await feed(application, start(), message("Ann"))
        assert (await kept(storage, 1))["conversations"] == {"interview": {"[1,1]": AGE}}


@pytest.fixture
async def timed(storage: CountingStorage) -> AsyncIterator[App]:
    """An interview that times out, in an application that runs."""
    application = timing(storage)
    async with serving(application):
        yield application


async def forget(update: Update, context: Any) -> None:
    context.user_data["timed out"] = True


def timing(storage: CountingStorage) -> App:
    states: Any = {
        NAME: [MessageHandler(TEXT, name)],
        AGE: [MessageHandler(TEXT, age)],
        ConversationHandler.TIMEOUT: [MessageHandler(filters.ALL, forget)],
    }
    application = persistent(storage, made=builder(None).job_queue(JobQueue()))
    application.add_handler(interview(states=states, conversation_timeout=timedelta(hours=1)))
    return application


def timer(application: App) -> Any:
    (handler,) = application.handlers[0]
    return handler.timeout_jobs.get((1, 1))  # type: ignore[attr-defined]


async def test_a_conversation_times_out(storage: CountingStorage, timed: App) -> None:
    await feed(timed, start())
    ((state, ends),) = (await kept(storage, 1))["conversations"]["interview"].values()
    assert state == NAME
    assert abs(ends - storage.now() - 3600) < 60
    await run_late(storage, timer(timed), timed)
    assert await kept(storage, 1) == {"user_data": {"asked": 1, "timed out": True}}


async def run_late(storage: CountingStorage, job: Any, application: App) -> None:
    """Run a timer as if its hour was over."""
    now = storage.now
    storage.now = lambda: now() + 3601  # type: ignore[method-assign]
    await job.run(application)
    storage.now = now  # type: ignore[method-assign]


async def test_a_conversation_that_goes_on_elsewhere_does_not_time_out(storage: CountingStorage, timed: App) -> None:
    other = timing(storage)
    async with serving(other):
        await feed(timed, start())
        job = timer(timed)
        now = storage.now
        storage.now = lambda: now() + 1800  # type: ignore[method-assign]
        await feed(other, message("Ann"))
        storage.now = now  # type: ignore[method-assign]
        await run_late(storage, job, timed)
        assert list((await kept(storage, 1))["conversations"]) == ["interview"]
        assert "timed out" not in (await kept(storage, 1))["user_data"]
        assert timer(timed) is None
        await feed(timed, message("42"))
        assert (await kept(storage, 1))["user_data"]["age"] == "42"


async def test_a_conversation_whose_timer_went_with_its_process_is_over(storage: CountingStorage) -> None:
    async with serving(application := timing(storage)):
        await feed(application, start())
    async with serving(application := timing(storage)):
        now = storage.now
        storage.now = lambda: now() + 3601  # type: ignore[method-assign]
        await feed(application, message("Ann"), start())
        storage.now = now  # type: ignore[method-assign]
        assert (await kept(storage, 1))["user_data"] == {"asked": 2}


def test_a_conversation_without_a_name() -> None:
    with pytest.raises(ValueError, match="unnamed"):
        interview(name=None)


async def test_a_conversation_that_is_not_persistent(
    storage: CountingStorage, caplog: pytest.LogCaptureFixture
) -> None:
    application = with_interview(storage, name=None, persistent=False)
    async with serving(application):
        await feed(application, start(), message("Ann"), message("42"))
        assert await kept(storage, 1) == {"user_data": {"asked": 1, "name": "Ann", "age": "42"}}
    assert "states are lost at restart" in caplog.text


def test_two_conversations_of_one_name() -> None:
    application = with_interview("memory:")
    with pytest.raises(ValueError, match="two persistent ConversationHandlers have the name 'interview'"):
        application.add_handler(interview(), group=1)
    first = application.handlers[0][0]
    application.add_handler(first, group=2)
    application.remove_handler(first)
    application.remove_handler(first, group=2)
    application.add_handler(interview())


def test_an_inner_conversation_of_the_same_name() -> None:
    application = persistent("memory:")
    with pytest.raises(ValueError, match="the name 'interview'"):
        application.add_handler(interview(states={NAME: [interview()]}))


def test_an_inner_conversation_that_is_not_persistent() -> None:
    application = persistent("memory:")
    with pytest.raises(ValueError, match="'inner' inside of the persistent 'interview' is not persistent"):
        application.add_handler(interview(states={NAME: [interview(name="inner", persistent=False)]}))


def test_setting_up_after_the_handlers() -> None:
    application = builder(None).build()
    with pytest.raises(ValueError, match="can not be persistent if application has no persistence"):
        application.add_handler(interview())
    setup_persistence(application, "memory:")
    application.add_handler(interview())


@pytest.mark.parametrize(
    "private",
    [
        "_add_ch_to_persistence",
        "_mark_for_persistence_update",
        "_initialized",
        "_conversations",
        "_chat_id",
        "_user_id",
    ],
)
def test_what_is_private_of_python_telegram_bot_is_still_there(private: str) -> None:
    """These have no public way; see `telegram_ext/_persistent.py`."""
    application = builder(None).build()
    assert any(hasattr(each, private) for each in (application, interview(), CallbackContext(application)))


@pytest.mark.parametrize("per_user", [True, False], ids=["of a member", "of the group"])
async def test_a_conversation_goes_on_in_the_supergroup(storage: CountingStorage, per_user: bool) -> None:
    application = with_interview(storage, per_user=per_user)
    old, new = group(-5), group(-1005)
    async with serving(application):
        await feed(application, start(chat=old))
        await feed(application, message("", chat=old, migrate_to_chat_id=-1005))
        await feed(application, message("", chat=new, migrate_from_chat_id=-5))
    other = with_interview(storage, per_user=per_user)  # as after a restart
    async with serving(other):
        await feed(other, message("Ann", chat=new))
        of = "[-1005,1]" if per_user else "[-1005]"
        conversations = {"interview": {of: AGE}}
        assert (await kept(storage, 1 if per_user else -1005))["conversations"] == conversations
        await feed(other, message("42", chat=old))  # was under way when the group moved
        assert await kept(storage, 1) == {"user_data": {"asked": 1, "name": "Ann", "age": "42"}}
        await feed(other, message("43", chat=new))
        assert (await kept(storage, 1))["user_data"]["age"] == "42", "the conversation is over"
