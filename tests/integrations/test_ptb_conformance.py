"""python-telegram-bot passes the suite that all integrations pass."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, ClassVar

import pytest
from ptb_aids import build, errors_of
from telegram import Update
from telegram.ext import ApplicationHandlerStop, BaseHandler

from chatsession import SessionManager
from chatsession.integrations.telegram_ext import setup_sessions
from chatsession.testing.integrations import (
    FrameworkDriver,
    Incoming,
    IntegrationConformance,
    MakeDriver,
    NeutralContext,
    NeutralHandler,
)


class Access:
    """The suite's access to one session, by the attribute of a context."""

    def __init__(self, context: Any, name: str) -> None:
        self._context = context
        self._name = name

    @property
    def session(self) -> Any:
        return getattr(self._context, self._name)

    @session.setter
    def session(self, value: Any) -> None:
        setattr(self._context, self._name, value)

    async def save_session(self) -> None:
        await self._context.save_session()

    async def release_session(self) -> None:
        await self._context.release_session()

    def after_commit(self, action: object, *args: Any, **kwargs: Any) -> None:
        self._context.after_commit(action, *args, **kwargs)


class TextHandler(BaseHandler[Update, Any, None]):
    """Takes messages with text, and inline queries."""

    def check_update(self, update: object) -> bool:
        return isinstance(update, Update) and text_of(update) is not None


class PtbDriver(FrameworkDriver):
    control_flow: ClassVar[Mapping[str, Callable[[], BaseException]]] = {
        "ApplicationHandlerStop": ApplicationHandlerStop
    }
    asks_by_name: ClassVar[bool] = False

    def __init__(self) -> None:
        super().__init__()
        self._application = build(context=None)
        self.errors = errors_of(self._application)  # type: ignore[assignment] # they are never None here

    def setup(self, sessions: SessionManager[Any], *, lazy: bool = False) -> None:
        setup_sessions(self._application, sessions, lazy=lazy)

    def handle(self, handler: NeutralHandler, *, wants: Collection[SessionManager[Any]]) -> None:
        names = [sessions.options.name for sessions in wants]

        async def run(update: Update, context: Any) -> None:
            await handler(NeutralContext(text_of(update) or "", {name: Access(context, name) for name in names}))

        self._application.add_handler(TextHandler(run))

    async def start(self) -> None:
        await self._application.initialize()
        await self._application.start()

    async def feed(self, incoming: Incoming) -> None:
        update = Update.de_json(incoming.bot_api(), self._application.bot)
        await self._application.update_processor.process_update(update, self._application.process_update(update))

    async def stop(self) -> None:
        if self._application.running:
            await self._application.stop()
        await self._application.shutdown()


def text_of(update: Update) -> str | None:
    if update.inline_query is not None:
        return update.inline_query.query
    return None if update.message is None else update.message.text


class TestPythonTelegramBot(IntegrationConformance):
    @pytest.fixture
    def make_driver(self) -> MakeDriver:
        return PtbDriver
