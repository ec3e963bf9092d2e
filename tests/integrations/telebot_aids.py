"""What the tests of telebot's integration share: bots that ask nothing of any server, and updates as they get them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Collection
from typing import Any

from telebot.async_telebot import AsyncTeleBot, ExceptionHandler
from telebot.types import InlineQuery, Message, Update, User

from chatsession import SessionManager
from chatsession.integrations.telebot import setup_sessions
from chatsession.testing.integrations import FrameworkDriver, Incoming, NeutralContext, NeutralHandler

TOKEN = "42:playground"


class Errors(ExceptionHandler):
    """An exception handler that keeps what it gets."""

    def __init__(self, errors: list[BaseException]) -> None:
        self.errors = errors

    async def handle(self, exception: BaseException) -> bool:
        self.errors.append(exception)
        return True


class QuietBot(AsyncTeleBot):
    """A bot that starts and stops as any other, but whose server has never anything to say."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.polls = asyncio.Event()

    async def get_me(self) -> User:
        return User(42, True, "Bot", username="bot")

    async def get_updates(self, *args: Any, **kwargs: Any) -> list[Update]:
        self.polls.set()
        await asyncio.Event().wait()
        raise AssertionError

    @staticmethod
    async def close_session() -> None:
        """There was no request, so there is nothing to close."""


def make_bot(errors: list[BaseException] | None = None, token: str = TOKEN) -> QuietBot:
    return QuietBot(token, exception_handler=None if errors is None else Errors(errors), validate_token=False)


def parsed(raw: object) -> Update:
    """An update, as a webhook gets it."""
    return Update.de_json(json.dumps(raw))


async def feed(bot: AsyncTeleBot, *raw: object) -> None:
    """Updates that come as one batch."""
    await bot.process_new_updates([parsed(each) for each in raw])


class TelebotDriver(FrameworkDriver):
    """The bot of the conformance suite."""

    def __init__(self) -> None:
        super().__init__()
        self.bot = make_bot(self.errors)
        self._polling: asyncio.Task[None] | None = None

    def setup(self, sessions: SessionManager[Any], *, lazy: bool = False) -> None:
        setup_sessions(self.bot, sessions, lazy=lazy)

    def handle(self, handler: NeutralHandler, *, wants: Collection[SessionManager[Any]]) -> None:
        contexts = {each.options.name: context_name(each) for each in wants}

        async def serve(event: Message | InlineQuery, **given: Any) -> None:
            text = event.text if isinstance(event, Message) else event.query
            await handler(NeutralContext(text or "", {name: given[context] for name, context in contexts.items()}))

        named = asking_for(serve, contexts.values())
        self.bot.register_message_handler(named)
        self.bot.register_inline_handler(named, lambda query: True)

    async def start(self) -> None:
        self._polling = asyncio.create_task(self.bot.polling())
        # Before 4.28, telebot has no such attribute until it polls.
        while not getattr(self.bot, "_polling", False):  # noqa: ASYNC110 - telebot has no event for it
            await asyncio.sleep(0)

    async def feed(self, incoming: Incoming) -> None:
        await feed(self.bot, incoming.bot_api())

    async def stop(self) -> None:
        if self._polling is not None:
            self._polling.cancel()
            await self._polling


def context_name(sessions: SessionManager[Any]) -> str:
    name = sessions.options.name
    return "ctx" if name == "session" else f"{name}_ctx"


def asking_for(function: Any, names: Collection[str], first: str = "event") -> Any:
    """The function as if its author had written these parameters, after the framework's."""
    keywords = "".join(f", {name}={name}" for name in names)
    source = f"async def handler({first}, {', '.join(names)}): await function(event{keywords})"
    scope: dict[str, Any] = {"function": function}
    exec(source, scope)
    return scope["handler"]
