"""aiogram passes the suite of all integrations."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any, ClassVar

import pytest
from aiogram import Bot, Dispatcher
from aiogram.dispatcher.event.bases import CancelHandler, SkipHandler
from aiogram.types import Message

from chatsession import SessionManager
from chatsession.integrations.aiogram import setup_sessions
from chatsession.testing.integrations import (
    FrameworkDriver,
    Incoming,
    IntegrationConformance,
    Kind,
    MakeDriver,
    NeutralContext,
    NeutralHandler,
)


async def _has_text(message: Message) -> bool:
    """Async, because aiogram runs other filters in threads, from which updates may come in another order."""
    return bool(message.text)


class AiogramDriver(FrameworkDriver):
    """A dispatcher that is fed what the Bot API would send."""

    control_flow: ClassVar[Mapping[str, Callable[[], BaseException]]] = {"skip": SkipHandler, "cancel": CancelHandler}

    def __init__(self) -> None:
        super().__init__()
        self.bot = Bot("42:conformance")  # asks nothing of any server unless a handler does
        self.dispatcher = Dispatcher()
        self.running = False

    def setup(self, sessions: SessionManager[Any], *, lazy: bool = False) -> None:
        setup_sessions(self.dispatcher, sessions, lazy=lazy)

    def handle(self, handler: NeutralHandler, *, wants: Collection[SessionManager[Any]]) -> None:
        contexts = {name: "ctx" if name == "session" else f"{name}_ctx" for name in (w.options.name for w in wants)}

        async def on_event(event: Any, **given: Any) -> None:
            access = {name: given[parameter] for name, parameter in contexts.items()}
            await handler(NeutralContext(event.text if hasattr(event, "text") else event.query, access))

        # As if it were written `async def on_event(event, ctx, cart_ctx)`, which is how handlers ask.
        parameters = [
            inspect.Parameter(n, inspect.Parameter.POSITIONAL_OR_KEYWORD) for n in ("event", *contexts.values())
        ]
        on_event.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined] # inspect looks for it
        self.dispatcher.message.register(on_event, _has_text)
        self.dispatcher.inline_query.register(on_event)

    async def start(self) -> None:
        await self.dispatcher.emit_startup(bot=self.bot)
        self.running = True

    async def feed(self, incoming: Incoming) -> None:
        try:
            if incoming.kind is Kind.UNKNOWN:
                with pytest.warns(RuntimeWarning, match="unknown update type"):
                    await self._feed(incoming)
            else:
                await self._feed(incoming)
        except (SkipHandler, CancelHandler):
            pass
        except BaseException as error:
            self.errors.append(error)

    async def _feed(self, incoming: Incoming) -> None:
        await self.dispatcher.feed_raw_update(self.bot, incoming.bot_api())

    async def stop(self) -> None:
        if self.running:
            self.running = False
            await self.dispatcher.emit_shutdown(bot=self.bot)


class TestAiogram(IntegrationConformance):
    @pytest.fixture
    def make_driver(self) -> MakeDriver:
        return AiogramDriver
