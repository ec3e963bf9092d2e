"""What an application with sessions does beyond python-telegram-bot's own: begins and ends the units of work."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
from collections.abc import Awaitable, Callable, Generator
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar, cast

from msgspec.structs import replace
from telegram.ext import Application, CallbackContext, Job

from chatsession.errors import SessionError
from chatsession.integrations.polling.delivery import belongs_to_update, note_undone
from chatsession.integrations.telegram_ext._context_scope import ContextScope
from chatsession.integrations.telegram_ext._handlers import serve_handler
from chatsession.integrations.telegram_ext._ids import ids_of_job, ids_of_update, moves_chat
from chatsession.integrations.telegram_ext._polling import ConfirmingUpdater
from chatsession.integrations.telegram_ext._shared_scope import Served, SharedScope, shared_scope
from chatsession.integrations.telegram_ext._usage import attributes_used
from chatsession.integrations.update_context import UpdateContext

R = TypeVar("R")

_log = logging.getLogger("chatsession")

AnyApplication = Application[Any, Any, Any, Any, Any, Any]
AnyContext = CallbackContext[Any, Any, Any, Any]
Callback = Callable[[object, AnyContext], Awaitable[Any]]

if TYPE_CHECKING:
    _Base = AnyApplication
else:
    _Base = object


class ServedApplication(_Base):
    """Comes before the class of an application: `process_update` and its like are where an update begins and ends."""

    __slots__ = ()
    served: ClassVar[Served]

    async def initialize(self) -> None:
        self.serve_handlers()
        await super().initialize()
        await self.served.start()

    async def shutdown(self) -> None:
        try:
            if not self.running:  # before the rest, so that handlers that still run have their bot
                if isinstance(self.updater, ConfirmingUpdater) and not self.updater.running:
                    await self.updater.ended()
                await self.served.release()
        finally:
            await super().shutdown()

    async def process_update(self, update: object) -> None:
        scope = ContextScope(self.served, lambda: self._ids_of(update), update)
        token = shared_scope.set(scope.shared)
        try:
            if await self._told(self._begin(scope.shared, update), update):
                await super().process_update(update)
        except BaseException:
            await scope.shared.fail()
            raise
        else:
            await self._told(scope.shared.leave(), update)
        finally:
            shared_scope.reset(token)

    async def session_context_made(self, context: AnyContext, refresh_data: Callable[[], Awaitable[None]]) -> None:
        """A new context is about to be used. In a job, that is by its callback; else by the first handler."""
        shared = shared_scope.get()
        if context.job is not None:
            self._take_over(context, context.job, refresh_data)
        elif shared is None:  # somebody refreshes a context of their own
            await refresh_data()
        else:
            shared.scope.bind(context)
            await refresh_data()
            await shared.refresh_data()

    async def process_error(
        self,
        update: object | None,
        error: Exception,
        job: Job[Any] | None = None,
        coroutine: Any = None,
    ) -> bool:
        if isinstance(coroutine, PartOfUpdate):
            coroutine = cast("PartOfUpdate[Any]", coroutine).coroutine
        note_undone(error)
        shared = shared_scope.get()
        if shared is None or update is None or shared.scope.update is not update:
            return await super().process_error(update, error, job, coroutine)
        if shared.opened or shared.data is not None:
            await shared.fail()
        if await super().process_error(update, error, job, coroutine) or shared.unopenable:
            return True
        if not _left_its_handler(error):
            return False
        return not await self._go_on(shared.scope)

    def create_task(
        self, coroutine: Any, update: object | None = None, *, name: str | None = None
    ) -> asyncio.Task[Any]:
        shared = shared_scope.get()
        if shared is None or update is None or shared.scope.update is not update:
            return super().create_task(coroutine, update, name=name)
        part = PartOfUpdate(shared, coroutine)
        task = super().create_task(cast("Awaitable[Any]", part), update, name=name)
        part.runs_in(task)
        belongs_to_update(task)
        return task

    def add_handler(self, handler: Any, group: int = 0) -> None:
        super().add_handler(handler, group)
        serve_handler(handler, self.context_types.context)

    def serve_handlers(self) -> None:
        """Let all handlers that are there open the sessions that they use."""
        for handlers in self.handlers.values():
            for handler in handlers:
                serve_handler(handler, self.context_types.context)

    def add_error_handler(self, callback: Any, block: Any = True) -> None:
        super().add_error_handler(ErrorHandler(self, callback), block)

    async def _begin(self, shared: SharedScope, update: object) -> None:
        """Load what is looked at before the first handler."""
        if moves_chat(update):
            await shared.follow_chat()
        await shared.load_data()
        if self.served.persistence is not None:
            await self.served.persistence.keyboards.insert(update)

    async def _told(self, step: Awaitable[None], update: object) -> bool:
        """Do something for an update; if that fails, tell the error handlers."""
        try:
            await step
        except Exception as error:
            note_undone(error)
            await super().process_error(update, error)
            return False
        return True

    async def _go_on(self, scope: ContextScope) -> bool:
        """A handler has failed, and python-telegram-bot goes on with those of later groups."""
        if scope.shared.ended:
            scope.renew()
            if len(self.handlers) > 1 and not await self._told(scope.shared.load_data(), scope.update):
                return False
        return True

    def ids_of_error(self, update: object, job: Job[Any] | None) -> UpdateContext:
        """Whose session the handler of an error gets, which is not the update's own."""
        if job is not None:
            return ids_of_job(job, self.served.bot_id_of(self.bot))
        return replace(self._ids_of(update), update_id=None)

    def _ids_of(self, update: object) -> UpdateContext:
        return ids_of_update(update, self.served.bot_id_of(self.bot), self.served.methods)

    def _take_over(self, context: AnyContext, job: Job[Any], refresh_data: Callable[[], Awaitable[None]]) -> None:
        """Let the callback of a job run with its sessions. It is called next, and nobody else can see the other one."""
        callback = job.callback
        update, timed_out = _timed_out(job)

        def ids() -> UpdateContext:
            bot_id = self.served.bot_id_of(self.bot)
            return ids_of_job(job, bot_id) if update is None else ids_of_update(update, bot_id)

        scope = ContextScope(self.served, ids)
        scope.bind(context)

        async def run(context: AnyContext) -> None:
            job.callback = callback
            if timed_out is not None:
                scope.bind(timed_out)
            async with scope as shared:
                await shared.load_data()
                if shared.data is not None and not shared.data.persistence.conversations.is_over(shared.data, job):
                    return
                await refresh_data()
                await shared.refresh_data()
                await shared.load_bot_data_for(callback, type(context))
                if shared.needs_sessions(attributes_used(callback, 0, type(context))):
                    await shared.open()
                await callback(context)

        job.callback = run


class PartOfUpdate(Generic[R]):
    """A task that belongs to an update, such as a handler with `block=False`: the update is done when it is.

    Args:
        shared: the scope in which it takes part.
        coroutine: what it does.
    """

    def __init__(self, shared: SharedScope, coroutine: Awaitable[R]) -> None:
        self.coroutine = coroutine
        self._shared = shared
        self._begun = False

    def __await__(self) -> Generator[Any, None, R]:
        return self._run().__await__()

    async def _run(self) -> R:
        self._begun = True
        try:
            result = await self.coroutine
        except BaseException as error:
            await self._shared.end(error)
            raise
        self._shared.results[asyncio.current_task()] = result
        await self._shared.end(None)
        return result

    def runs_in(self, task: asyncio.Task[Any]) -> None:
        """Its task was made. An eager one (`asyncio.eager_task_factory`) may have ended already."""
        if not task.done():
            self._shared.users.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[Any]) -> None:
        if self._begun:
            return
        if inspect.iscoroutine(self.coroutine):
            self.coroutine.close()
        _log.warning("a handler or task of an update was cancelled before it began: %r", task.get_name())
        ending = asyncio.ensure_future(self._shared.fail())
        _endings.add(ending)
        ending.add_done_callback(_endings.discard)


_endings: set[asyncio.Future[None]] = set()


class ErrorHandler:
    """The callback of an error handler, with sessions of its own; equal to the callback, so that it can be removed."""

    def __init__(self, application: ServedApplication, callback: Callback) -> None:
        self._application = application
        self.callback = callback

    async def __call__(self, update: object, context: AnyContext) -> None:
        application = self._application
        scope = ContextScope(application.served, lambda: application.ids_of_error(update, context.job), update)
        scope.bind(context)
        async with scope as shared:
            await shared.prepare()
            with contextlib.suppress(
                SessionError
            ):  # perhaps the one that is told; the data then says why it is not there
                await shared.load_data()
                await shared.load_bot_data_for(self.callback, type(context))
            await self.callback(update, context)

    def __eq__(self, other: object) -> bool:
        return self.callback == (other.callback if isinstance(other, ErrorHandler) else other)

    def __hash__(self) -> int:
        return hash(self.callback)

    def __repr__(self) -> str:
        return repr(self.callback)


def _left_its_handler(error: Exception) -> bool:
    """Has python-telegram-bot caught it? Else a handler reports what it has caught itself, and goes on."""
    trace = error.__traceback__
    return trace is not None and trace.tb_frame.f_code.co_name == "process_update"


def _timed_out(job: Job[Any]) -> tuple[object | None, object | None]:
    """Of a conversation's time-out: the conversation's last update, and its context, which handlers get again."""
    data: Any = job.data
    context: object = getattr(data, "callback_context", None)
    return (data.update, cast("object", context)) if isinstance(context, CallbackContext) else (None, None)
