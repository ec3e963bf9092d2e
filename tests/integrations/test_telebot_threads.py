"""Handlers of a synchronous TeleBot get the sessions that they name, in all the ways that telebot has."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from aiogram_aids import Pizza, message
from telebot import TeleBot
from telebot.async_telebot import AsyncTeleBot
from telebot.handler_backends import BaseMiddleware, CancelUpdate, ContinueHandling
from telebot.types import Message
from telebot_threads_aids import QuietThreadBot, parsed

import chatsession
from chatsession import SessionClosedError, SessionConflictError, SessionKeyError, SessionTooLargeError, per_user
from chatsession.integrations.telebot import SyncSessionContext, setup_sessions, start_polling
from chatsession.integrations.webhooks import handle
from chatsession.sync import SessionManager

PATIENCE = 60


@pytest.fixture(params=["memory:", "sqlite:///{}/bot.db"], ids=["memory", "sqlite"])
def sessions(request: pytest.FixtureRequest, tmp_path: Any) -> Iterator[SessionManager[Pizza]]:
    with SessionManager(Pizza, storage=request.param.format(tmp_path)) as sessions:
        yield sessions


@pytest.fixture
def errors() -> list[BaseException]:
    return []


@pytest.fixture
def bot(sessions: SessionManager[Pizza], errors: list[BaseException]) -> QuietThreadBot:
    """A bot that handles its updates where they come in, as behind a webhook."""
    bot = QuietThreadBot(errors, threaded=False)
    setup_sessions(bot, sessions)
    return bot


def feed(bot: TeleBot, *texts: str, **other: Any) -> None:
    for text in texts:
        bot.process_new_updates([parsed(message(text, **other))])


def chat_of(sessions: SessionManager[Pizza]) -> Pizza | None:
    return sessions.get(1)


def test_session_and_ctx_and_what_telebot_gives(bot: QuietThreadBot, sessions: SessionManager[Pizza]) -> None:
    @bot.message_handler(commands=["reset"])
    def on_reset(message: Message, ctx: SyncSessionContext[Pizza]) -> None:
        ctx.session = None

    @bot.message_handler(commands=["save"], pass_bot=True)
    def on_save(message: Message, bot: TeleBot, ctx: SyncSessionContext[Pizza]) -> None:
        ctx.session.count = 40
        ctx.save_session()
        ctx.release_session()
        sessions.update(1, lambda pizza: Pizza(pizza.count + 2))

    @bot.message_handler()
    def on_text(message: Message, session: Pizza, ctx: SyncSessionContext[Pizza]) -> None:
        session.count += 1
        assert ctx.session is session is ctx.load_session()

    feed(bot, "a", "b")
    assert chat_of(sessions) == Pizza(2)
    feed(bot, "/save")
    assert chat_of(sessions) == Pizza(42)
    feed(bot, "/reset")
    assert chat_of(sessions) is None


def test_next_steps_and_replies(bot: QuietThreadBot, sessions: SessionManager[Pizza]) -> None:
    def ask_size(message: Message, topping: str, session: Pizza) -> None:
        session.toppings.append(f"{topping} {message.text}")

    def ask_topping(message: Message, ctx: SyncSessionContext[Pizza]) -> None:
        ctx.session.count += 1
        bot.register_next_step_handler(message, ask_size, message.text)

    @bot.message_handler()
    def on_text(message: Message, session: Pizza) -> None:
        bot.register_next_step_handler(message, ask_topping)

    feed(bot, "order", "salami", "large", "order", "ham", "small")
    assert chat_of(sessions) == Pizza(2, ["salami large", "ham small"])


def test_a_next_step_that_fails_stores_nothing(
    bot: QuietThreadBot, sessions: SessionManager[Pizza], errors: list[BaseException]
) -> None:
    def burn(message: Message, session: Pizza) -> None:
        session.count += 1
        raise ZeroDivisionError

    @bot.message_handler()
    def on_text(message: Message) -> None:
        bot.register_next_step_handler(message, burn)

    feed(bot, "a", "b")
    assert [type(error) for error in errors] == [ZeroDivisionError]
    assert chat_of(sessions) is None


@pytest.mark.parametrize("reply", [False, True], ids=["next step", "reply"])
def test_a_callback_is_called_again_when_its_update_comes_again(
    bot: QuietThreadBot, sessions: SessionManager[Pizza], reply: bool
) -> None:
    answered: list[str] = []
    failures = [SessionConflictError("it was changed", key="1")]

    def on_answer(message: Message, topping: str, session: Pizza) -> None:
        session.toppings.append(f"{topping} {message.text}")
        if failures:
            raise failures.pop()

    @bot.message_handler()
    def on_text(message: Message) -> None:
        answered.append(message.text or "")

    raw = message("large")
    if reply:
        raw["message"]["reply_to_message"] = message("b")["message"] | {"message_id": 5}
        bot.register_for_reply_by_message_id(5, on_answer, "salami")
    else:
        bot.register_next_step_handler_by_chat_id(1, on_answer, "salami")
    with pytest.raises(SessionConflictError):
        handle(bot.process_new_updates, [parsed(raw)])
    handle(bot.process_new_updates, [parsed(raw)])
    assert chat_of(sessions) == Pizza(0, ["salami large"])
    assert answered == (["large", "large"] if reply else []), "telebot gives replies to other handlers, too"
    feed(bot, "end")
    assert answered[-1] == "end"


class Counter:
    """A handler that is an object."""

    def __call__(self, message: Message, session: Pizza) -> None:
        session.count += 1

    def method(self, message: Message, ctx: SyncSessionContext[Pizza]) -> None:
        ctx.session.count += 1


def add(amount: int, message: Message, session: Pizza) -> None:
    session.count += amount


@pytest.mark.parametrize("handler", [Counter(), Counter().method, partial(add, 1)])
def test_objects_methods_and_partials(
    bot: QuietThreadBot, sessions: SessionManager[Pizza], handler: Callable[..., None]
) -> None:
    bot.register_message_handler(handler)
    feed(bot, "a", "b")
    assert chat_of(sessions) == Pizza(2)


@pytest.mark.parametrize("class_middlewares", [False, True])
def test_handlers_that_continue_are_one_unit(
    sessions: SessionManager[Pizza], errors: list[BaseException], class_middlewares: bool
) -> None:
    bot = QuietThreadBot(errors, threaded=False, use_class_middlewares=class_middlewares)
    setup_sessions(bot, sessions)

    @bot.message_handler()
    def first(message: Message, session: Pizza) -> ContinueHandling:
        session.count += 1
        return ContinueHandling()

    @bot.message_handler()
    def second(message: Message, session: Pizza) -> None:
        session.count += 1
        if message.text == "burn":
            raise ZeroDivisionError

    feed(bot, "burn", "a")
    assert [type(error) for error in errors] == [ZeroDivisionError]
    assert chat_of(sessions) == Pizza(2)


def test_class_middlewares_find_the_context(sessions: SessionManager[Pizza]) -> None:
    bot = QuietThreadBot(threaded=False, use_class_middlewares=True)
    setup_sessions(bot, sessions)
    seen: list[str] = []

    class Noting(BaseMiddleware):
        def __init__(self) -> None:
            self.update_types = ["message"]

        def pre_process(self, message: Message, data: dict[str, Any]) -> object:
            if message.text == "cancel":
                data["ctx"].session.count = 100
                return CancelUpdate()
            data["ctx"].session.toppings.append(message.text or "")
            return None

        def post_process(self, message: Message, data: dict[str, Any], exception: object) -> None:
            seen.append(f"{data['ctx'].session.count} {exception}")

    bot.setup_middleware(Noting())

    @bot.message_handler(regexp="data")
    def on_data(message: Message, data: dict[str, Any]) -> None:
        data["ctx"].session.count += 1

    @bot.message_handler()
    def on_text(message: Message, session: Pizza) -> None:
        session.count += 1

    feed(bot, "a", "data")
    assert chat_of(sessions) == Pizza(2, ["a", "data"])
    assert seen == ["1 None", "2 None"]


def test_errors_of_sessions_reach_the_exception_handler(
    bot: QuietThreadBot, sessions: SessionManager[Pizza], errors: list[BaseException], tmp_path: Any
) -> None:
    small = SessionManager(list[str], storage=f"sqlite:///{tmp_path}/small.db", name="small", max_size=10)
    users = SessionManager(int, storage="memory:", name="user", get_session_key=per_user)
    setup_sessions(bot, small)
    setup_sessions(bot, users)

    @bot.message_handler(commands=["grow"])
    def on_grow(message: Message, session: Pizza, small: list[str]) -> None:
        session.count += 1
        small.append("more than ten bytes")

    @bot.channel_post_handler()
    def on_post(message: Message, user: int) -> None: ...

    feed(bot, "/grow")
    assert [type(error) for error in errors] == [SessionTooLargeError]
    assert chat_of(sessions) is None, "all sessions of an update are stored, or none"
    bot.process_new_updates(
        [
            parsed(
                {
                    "update_id": 1,
                    "channel_post": {"message_id": 1, "date": 1, "chat": {"id": -1, "type": "channel"}, "text": "a"},
                }
            )
        ]
    )
    assert [type(error) for error in errors] == [SessionTooLargeError, SessionKeyError]
    small.close()
    users.close()


def test_after_the_update_the_context_is_closed(bot: QuietThreadBot) -> None:
    left: list[SyncSessionContext[Pizza]] = []

    @bot.message_handler()
    def on_text(message: Message, ctx: SyncSessionContext[Pizza]) -> None:
        left.append(ctx)

    feed(bot, "a")
    for use in (lambda: left[0].session, left[0].load_session, left[0].save_session):
        with pytest.raises(SessionClosedError):
            use()


def test_a_message_that_two_callbacks_get_is_remembered_for_each(
    sessions: SessionManager[Pizza], tmp_path: Any
) -> None:
    bot = QuietThreadBot(threaded=False)
    with SessionManager(Pizza, storage=f"sqlite:///{tmp_path}/again.db", deduplicate=10) as remembering:
        setup_sessions(bot, remembering)

        def on_reply(message: Message, session: Pizza) -> None:
            session.toppings.append("reply")

        @bot.message_handler()
        def on_text(message: Message, session: Pizza) -> None:
            session.toppings.append("text")

        bot.register_for_reply_by_message_id(5, on_reply)
        raw = message("a")
        raw["message"]["reply_to_message"] = message("b")["message"] | {"message_id": 5}
        bot.process_new_updates([parsed(raw)])
        bot.process_new_updates([parsed(raw)])
        assert remembering.get(1) == Pizza(0, ["reply", "text"])


def test_threads_keep_the_order_of_each_chat(sessions: SessionManager[Pizza]) -> None:
    bot = QuietThreadBot(num_threads=8)
    setup_sessions(bot, sessions)
    ended = threading.Semaphore(0)

    @bot.message_handler()
    def on_text(message: Message, session: Pizza) -> None:
        session.toppings.append(message.text or "")
        ended.release()

    polling = threading.Thread(target=bot.polling)
    polling.start()
    assert bot.polled.wait(PATIENCE)
    chats = [{"id": number, "type": "private", "first_name": "Ann"} for number in range(1, 6)]
    bot.process_new_updates([parsed(message(str(number), chat=chat)) for number in range(40) for chat in chats])
    for _ in range(200):
        assert ended.acquire(timeout=PATIENCE)
    bot.stop_polling()
    polling.join(PATIENCE)
    bot.end_threads()
    sessions.start()
    assert [sessions.get(number) for number in range(1, 6)] == [Pizza(0, [str(n) for n in range(40)])] * 5


def test_one_thread_handles_what_many_threads_feed(sessions: SessionManager[Pizza]) -> None:
    bot = QuietThreadBot(num_threads=1)
    setup_sessions(bot, sessions)
    ended = threading.Semaphore(0)

    @bot.message_handler()
    def on_text(message: Message, session: Pizza) -> None:
        session.count += 1
        ended.release()

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    feeding = [threading.Thread(target=feed, args=(bot, *"abcdefghijklmnopqrst")) for _ in range(8)]
    for thread in feeding:
        thread.start()
    for thread in feeding:
        thread.join()
    sys.setswitchinterval(before)
    for _ in range(160):
        assert ended.acquire(timeout=PATIENCE), "an update waits for one that is behind it in the queue"
    bot.end_threads()


def test_a_handler_may_stop_the_bot_while_its_chat_waits(sessions: SessionManager[Pizza]) -> None:
    bot = QuietThreadBot(num_threads=2)
    setup_sessions(bot, sessions)
    polling = threading.Thread(target=bot.infinity_polling)
    polling.start()
    assert bot.polled.wait(PATIENCE)

    def other_waits() -> bool:
        return len(sessions.asynchronous.runtime.coordinator.queue._queues.get("1", ())) > 0

    @bot.message_handler()
    def on_text(message: Message, session: Pizza) -> None:
        session.count += 1
        if message.text == "stop":
            while not other_waits():
                time.sleep(0)
            bot.stop_bot()

    bot.process_new_updates([parsed(message("stop")), parsed(message("a"))])
    polling.join(PATIENCE)
    assert not polling.is_alive()
    assert not any(worker.is_alive() for worker in bot.worker_pool.workers)
    sessions.start()
    assert chat_of(sessions) == Pizza(2)


def test_a_bot_whose_threads_have_ended_refuses_updates(sessions: SessionManager[Pizza]) -> None:
    bot = QuietThreadBot()
    setup_sessions(bot, sessions)
    bot.register_message_handler(lambda message, session: None)
    bot.stop_bot()
    with pytest.raises(RuntimeError, match="threads of this TeleBot do not run"):
        feed(bot, "a")
    with pytest.raises(RuntimeError, match="threaded=False"):
        start_polling(bot)


def test_the_other_kind_of_manager_is_refused(sessions: SessionManager[Pizza]) -> None:
    with pytest.raises(TypeError, match=r"Bot needs a chatsession\.sync\.SessionManager"):
        setup_sessions(QuietThreadBot(threaded=False), chatsession.SessionManager(Pizza, storage="memory:"))  # type: ignore[call-overload]
    with pytest.raises(TypeError, match=r"AsyncTeleBot needs a chatsession\.SessionManager"):
        setup_sessions(AsyncTeleBot("42:token"), sessions)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="needs an AsyncTeleBot or a TeleBot"):
        setup_sessions(object(), sessions)  # type: ignore[call-overload]


@pytest.mark.parametrize("threaded", [True, False])
def test_a_webhook_waits_until_an_update_is_done(sessions: SessionManager[Pizza], threaded: bool) -> None:
    errors, told = list[BaseException](), list[tuple[str, int]]()
    bot = QuietThreadBot(errors, threaded=threaded)
    setup_sessions(bot, sessions)

    @sessions.action
    def tell(text: str) -> None:
        told.append((text, (sessions.get(1) or Pizza()).count))

    @bot.message_handler()
    def on_message(message: Message, session: Pizza, ctx: SyncSessionContext[Pizza]) -> None:
        session.count += 1
        ctx.after_commit(tell, message.text)
        if message.text == "burn":
            raise ZeroDivisionError
        if message.text == "conflict":
            raise SessionConflictError("it was changed", key="1")

    handle(bot.process_new_updates, [parsed(message("hello"))])
    assert told == [("hello", 1)]
    handle(bot.process_new_updates, [parsed(message("burn"))])
    assert [type(error) for error in errors] == [ZeroDivisionError]
    with pytest.raises(SessionConflictError):
        handle(bot.process_new_updates, [parsed(message("conflict"))])
    assert (told, sessions.get(1)) == ([("hello", 1)], Pizza(1))
    bot.end_threads()


def test_an_action_without_asyncio_is_not_async(sessions: SessionManager[Pizza]) -> None:
    async def tell() -> None: ...

    with pytest.raises(TypeError, match="not async"):
        sessions.action(tell)
