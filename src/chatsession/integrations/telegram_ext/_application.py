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

from chatsession.errors import SessionError, SessionLockTimeoutError, StorageUnavailableError
from chatsession.integrations.polling.delivery import belongs_to_update, note_undone
from chatsession.integrations.telegram_ext._handlers import serve_handler
from chatsession.integrations.telegram_ext._ids import ids_of_job, ids_of_update
from chatsession.integrations.telegram_ext._polling import ConfirmingUpdater
from chatsession.integrations.telegram_ext._scope import Scope, Served, running
from chatsession.integrations.telegram_ext._usage import usage_of
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

    def add_handler(self, handler: Any, group: int = 0) -> None:
        super().add_handler(handler, group)
        serve_handler(handler, self.context_types.context)

    def serve_handlers(self) -> None:
        """Let all handlers that are there have loaded what they use."""
        for handlers in self.handlers.values():
            for handler in handlers:
                serve_handler(handler, self.context_types.context)

    def add_error_handler(self, callback: Any, block: Any = True) -> None:
        super().add_error_handler(ErrorHandler(self, callback), block)

    async def process_update(self, update: object) -> None:
        scope = Scope(self.served, self._ids_of(update), update)
        token = running.set(scope)
        try:
            if await self._told(scope.begin(), update):
                await super().process_update(update)
        except BaseException:
            await scope.current.fail()
            raise
        else:
            await self._told(scope.current.leave(), update)
        finally:
            scope.current.context = None  # which holds this scope: a cycle would leave both to the garbage collector
            running.reset(token)

    async def _told(self, step: Awaitable[None], update: object) -> bool:
        """Do something for an update; if that fails, tell the error handlers."""
        try:
            await step
        except Exception as error:
            note_undone(error)
            await super().process_error(update, error)
            return False
        return True

    def take_over(self, job: Job[Any], context: AnyContext, refresh_data: Callable[[], Awaitable[None]]) -> None:
        """Let the callback of a job run with its sessions. It is called next, and nobody else can see the other one."""
        callback, data = job.callback, cast("Any", job.data)
        # The time-out of a conversation has its last update, and the context of that one, which handlers get again.
        timed_out: object = getattr(data, "callback_context", None)
        of_update = isinstance(timed_out, CallbackContext)
        ids = self._ids_of(data.update) if of_update else ids_of_job(job, self.served.bot_id)

        async def run(context: AnyContext) -> None:
            job.callback = callback
            scope = Scope(self.served, replace(ids, update_id=None, bot_methods=None))
            scope.bind(context)
            if of_update:
                scope.bind(timed_out)
            async with scope:
                await scope.load_data()
                if not scope.is_over(job):
                    return
                await refresh_data()
                await scope.refresh_data(context)
                uses = usage_of(callback, 0, type(context))
                await scope.load_bot_data(uses)
                if uses.sessions(self.served.bindings):
                    await scope.open()
                await callback(context)

        job.callback = run

    async def process_error(
        self, update: object | None, error: Exception, job: Job[Any] | None = None, coroutine: Any = None
    ) -> bool:
        if isinstance(coroutine, PartOfUpdate):
            coroutine = cast("PartOfUpdate[Any]", coroutine).coroutine
        note_undone(error)
        scope = self._scope_of(update)
        if scope is None:
            return await super().process_error(update, error, job, coroutine)
        if scope.opened or scope.data is not None:
            await scope.fail()
        if await super().process_error(update, error, job, coroutine) or scope.unopenable:
            return True
        if not scope.ended or not _left_its_handler(error):
            return False
        # python-telegram-bot goes on with the handlers of later groups, if there are any.
        return len(self.handlers) > 1 and not await self._told(scope.renewed().load_data(), update)

    def create_task(
        self, coroutine: Any, update: object | None = None, *, name: str | None = None
    ) -> asyncio.Task[Any]:
        scope = self._scope_of(update)
        if scope is None:
            return super().create_task(coroutine, update, name=name)
        part = PartOfUpdate(scope, coroutine)
        task = super().create_task(cast("Awaitable[Any]", part), update, name=name)
        part.runs_in(task)
        belongs_to_update(task)
        return task

    def ids_of_error(self, update: object, job: Job[Any] | None) -> UpdateContext:
        """Whose session the handler of an error gets, which is not the update's own."""
        return replace(self._ids_of(update), update_id=None) if job is None else ids_of_job(job, self.served.bot_id)

    def _ids_of(self, update: object) -> UpdateContext:
        return ids_of_update(update, self.served.bot_id, self.served.methods)

    @staticmethod
    def _scope_of(update: object) -> Scope | None:
        """The running scope, if it is about an update."""
        scope = running.get()
        return None if scope is None or update is None or scope.update is not update else scope


class PartOfUpdate(Generic[R]):
    """A task that belongs to an update, such as a handler with `block=False`: the update is done when it is.

    Args:
        scope: the scope in which it takes part.
        coroutine: what it does.
    """

    def __init__(self, scope: Scope, coroutine: Awaitable[R]) -> None:
        self.coroutine = coroutine
        self._scope = scope
        self._begun = False

    def __await__(self) -> Generator[Any, None, R]:
        return self._run().__await__()

    async def _run(self) -> R:
        self._begun = True
        try:
            result = await self.coroutine
        except BaseException as error:
            await self._scope.end(error)
            raise
        self._scope.results[asyncio.current_task()] = result
        await self._scope.end(None)
        return result

    def runs_in(self, task: asyncio.Task[Any]) -> None:
        """Its task was made. An eager one (`asyncio.eager_task_factory`) may have ended already."""
        if not task.done():
            self._scope.users.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[Any]) -> None:
        if self._begun:
            return
        if inspect.iscoroutine(self.coroutine):
            self.coroutine.close()
        _log.warning("a handler or task of an update was cancelled before it began: %r", task.get_name())
        ending = asyncio.ensure_future(self._scope.fail())
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
        scope = Scope(application.served, application.ids_of_error(update, context.job), update)
        scope.bind(context)
        async with scope:
            await scope.prepare()
            if not isinstance(context.error, (SessionLockTimeoutError, StorageUnavailableError)):
                with contextlib.suppress(SessionError):  # whoever uses the data is told that it is missing
                    await scope.load_data()
                    await scope.load_bot_data(usage_of(self.callback, 1, type(context)))
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
