"""A synchronous `TeleBot` in the conformance suite, whose handlers run in the bot's threads."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from telebot import ExceptionHandler, TeleBot
from telebot.types import InlineQuery, Message, Update, User
from telebot_aids import TOKEN, context_name

from chatsession import SessionManager
from chatsession.integrations.telebot import SyncSessionContext, setup_sessions
from chatsession.sync import SessionManager as SyncSessionManager
from chatsession.sync.loop_thread import LoopThread
from chatsession.testing.integrations import FrameworkDriver, Incoming, NeutralContext, NeutralHandler


class Errors(ExceptionHandler):
    """An exception handler that keeps what it gets."""

    def __init__(self, errors: list[BaseException]) -> None:
        self.errors = errors
        self.handled: list[BaseException] = []
        """Also those that a test has taken from the errors."""

    def handle(self, exception: BaseException) -> bool:
        self.errors.append(exception)
        self.handled.append(exception)
        return True


class QuietThreadBot(TeleBot):
    """A bot that starts and stops as any other, but whose server has never anything to say."""

    def __init__(self, errors: list[BaseException] | None = None, **options: Any) -> None:
        super().__init__(
            TOKEN, exception_handler=None if errors is None else Errors(errors), validate_token=False, **options
        )
        self.polled, self._stopped = threading.Event(), threading.Event()

    def get_me(self) -> User:
        return User(42, True, "Bot", username="bot")

    def get_updates(self, *args: Any, **kwargs: Any) -> list[Update]:
        self.polled.set()
        self._stopped.wait()
        return []

    def stop_polling(self) -> None:
        super().stop_polling()
        self._stopped.set()

    def end_threads(self) -> None:
        """Let its threads end at once; those that are not woken look twice a second, and hold up the next tests."""
        if self.threaded:
            for worker in self.worker_pool.workers:
                worker.stop()
            for _ in self.worker_pool.workers:
                self.worker_pool.put(int)


def parsed(raw: object) -> Update:
    return Update.de_json(json.dumps(raw))


class ToldBot(QuietThreadBot):
    """Tells an event loop when an update is done with."""

    def __init__(self, errors: list[BaseException]) -> None:
        super().__init__(errors, num_threads=64)
        self.doing: set[asyncio.Future[None]] = set()
        self.raised: list[Exception] = []

    def _exec_task(self, task: Callable[..., object], *args: Any, **kwargs: Any) -> None:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        self.doing.add(done)

        def do(*args: Any, **kwargs: Any) -> None:
            try:
                task(*args, **kwargs)
            except Exception as error:
                self.raised.append(error)  # which the bot's thread is about to give to the exception handler
                raise
            finally:
                loop.call_soon_threadsafe(done.set_result, None)

        super()._exec_task(do, *args, **kwargs)


def in_loop(sessions: SessionManager[Any], loop_thread: LoopThread) -> SyncSessionManager[Any]:
    """The manager for threads, in the event loop of the suite, which looks at the asynchronous one."""
    manager: SyncSessionManager[Any] = SyncSessionManager.__new__(SyncSessionManager)
    manager.options, manager.storage, manager.asynchronous = sessions.options, sessions.storage, sessions
    manager.loop_user, manager._loop_thread, manager._closed = sessions, loop_thread, False
    return manager


class ContextFromAfar:
    """A context of the bot's threads, for handlers that the suite runs in its event loop."""

    def __init__(self, context: SyncSessionContext[Any]) -> None:
        self._context = context

    @property
    def session(self) -> Any:
        return in_a_thread(lambda: self._context.session)

    @session.setter
    def session(self, value: Any) -> None:
        self._context.session = value

    async def save_session(self) -> None:
        await in_a_thread(self._context.save_session)

    async def release_session(self) -> None:
        await in_a_thread(self._context.release_session)

    def after_commit(self, action: object, *args: Any, **kwargs: Any) -> None:
        self._context.after_commit(action, *args, **kwargs)


async def in_a_thread(function: Callable[[], Any]) -> Any:
    """Call a function in a thread of its own: one of a pool could be that which holds the key for another update."""
    thread = ThreadPoolExecutor(1)
    try:
        return await asyncio.get_running_loop().run_in_executor(thread, function)
    finally:
        thread.shutdown(wait=False)


class TeleBotDriver(FrameworkDriver):
    """The bot of the conformance suite."""

    def __init__(self) -> None:
        super().__init__()
        self.bot = ToldBot(self.errors)
        self._loop_thread: LoopThread | None = None
        self._polling: threading.Thread | None = None

    def setup(self, sessions: SessionManager[Any], *, lazy: bool = False) -> None:
        self._loop_thread = self._loop_thread or LoopThread(asyncio.get_running_loop())
        setup_sessions(self.bot, in_loop(sessions, self._loop_thread), lazy=lazy)

    def handle(self, handler: NeutralHandler, *, wants: Collection[SessionManager[Any]]) -> None:
        contexts = {each.options.name: context_name(each) for each in wants}
        loop = asyncio.get_running_loop()

        def serve(event: Message | InlineQuery, **given: Any) -> None:
            text = event.text if isinstance(event, Message) else event.query
            access = {name: ContextFromAfar(given[context]) for name, context in contexts.items()}
            asyncio.run_coroutine_threadsafe(handler(NeutralContext(text or "", access)), loop).result()

        named = asking_for(serve, contexts.values())
        self.bot.register_message_handler(named, content_types=["text"])
        self.bot.register_inline_handler(named, lambda query: True)

    async def start(self) -> None:
        self._polling = threading.Thread(target=self.bot.polling)
        self._polling.start()
        await asyncio.to_thread(self.bot.polled.wait)

    async def feed(self, incoming: Incoming) -> None:
        before = set(self.bot.doing)
        self.bot.process_new_updates([parsed(incoming.bot_api())])
        doing = self.bot.doing - before
        if doing:
            await asyncio.wait(doing)
        handler = self.bot.exception_handler
        while any(error not in handler.handled for error in self.bot.raised):  # noqa: ASYNC110 - a thread does that
            await asyncio.sleep(0)

    async def stop(self) -> None:
        if self._polling is not None:
            self.bot.stop_polling()
            await asyncio.to_thread(self._polling.join)
        self.bot.end_threads()


def asking_for(function: Any, names: Collection[str], first: str = "event") -> Any:
    """The function as if its author had written these parameters, after the framework's."""
    keywords = "".join(f", {name}={name}" for name in names)
    source = f"def handler({first}, {', '.join(names)}): return function(event{keywords})"
    scope: dict[str, Any] = {"function": function}
    exec(source, scope)
    return scope["handler"]
