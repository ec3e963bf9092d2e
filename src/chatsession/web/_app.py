"""What the page asks for, as JSON over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from chatsession.contents import Kind, stored_form, view
from chatsession.keys import checked
from chatsession.maintenance import break_lock
from chatsession.serialization.encryption import Keyring
from chatsession.storages import Record, Storage
from chatsession.storages.inspection import HeldLock, ListsLocks
from chatsession.web._answers import described
from chatsession.web._finding import Order, find
from chatsession.web._http import HANDLERS, RefusedError, asked_for, json_answer
from chatsession.web._sessions import LOCK_TIMEOUT, ChangedMeanwhileError, Sessions, mark_of
from chatsession.web._streams import EventStream, changes, figures, problems
from chatsession.web._survey import Survey

MOST_LOCKS = 1000
LONGEST = 100 * 365 * 86400
"""Seconds to live."""
STATIC = Path(__file__).parent / "static"


class _Find(Struct):
    text: str = ""
    value: str = ""
    order: Order | None = None
    cursor: str | None = None


class _Key(Struct):
    key: str
    whole: bool = False
    """Send all of it, however large it is."""


class _Delete(Struct):
    key: str
    mark: str


class _Write(Struct):
    key: str
    mark: str
    text: str
    kind: Kind


class _Expire(Struct):
    key: str
    mark: str
    seconds: Annotated[float, Meta(gt=0, le=LONGEST)] | None


class _Break(Struct):
    key: str
    token: int


class _Undo(Struct):
    undo: str


class _Empty(Struct):
    pass


class Api:
    """The HTTP API of the page.

    Args:
        storage: is open while this answers.
        name: of the storage, as people see it.
        read_only: refuse every change.
        keyring: reads encrypted sessions.
        invite: makes an address that opens the inspector once.
    """

    def __init__(
        self, storage: Storage, *, name: str, read_only: bool, keyring: Keyring | None, invite: Callable[[], str]
    ) -> None:
        self.sessions = Sessions(storage)
        self._storage = storage
        self.closing = asyncio.Event()
        """Set when streams are to end."""
        self._survey = Survey(storage)
        self._name = name
        self._read_only = read_only
        self._keyring = keyring
        self._invite = invite

    def app(self) -> Starlette:
        """The routes."""
        return Starlette(
            routes=[
                Route("/", _page),
                *(
                    Route(f"/api/{answer.__name__}", answer, methods=["POST"])
                    for answer in (
                        self.about,
                        self.find,
                        self.read,
                        self.write,
                        self.delete,
                        self.expire,
                        self.undo,
                        self.changes,
                        self.locks,
                        self.unlock,
                        self.problems,
                        self.watch,
                        self.statistics,
                        self.invite,
                    )
                ),
                Mount("/static", StaticFiles(directory=STATIC)),
            ],
            exception_handlers=HANDLERS,
        )

    async def about(self, request: Request) -> Response:
        """What this inspector looks at."""
        await asked_for(request, _Empty)
        about = {"storage": self._name, "read_only": self._read_only, "expiring": self._storage.expiring}
        return json_answer({**about, "wait": LOCK_TIMEOUT})

    async def find(self, request: Request) -> Response:
        """A page of sessions."""
        asked = await asked_for(request, _Find)
        start = asked.text and _key(asked.text)
        found = await find(
            self._storage,
            start,
            cursor=asked.cursor,
            order=asked.order,
            value=asked.value,
            keyring=self._keyring,
        )
        return json_answer(found)

    async def read(self, request: Request) -> Response:
        """One session."""
        asked = await asked_for(request, _Key)
        return await self._session(_key(asked.key), await self.sessions.read(asked.key), whole=asked.whole)

    async def write(self, request: Request) -> Response:
        """Change one session, if it still is what the page shows."""
        asked = await asked_for(request, _Write)
        self._check_writable()
        key = _key(asked.key)
        before = await self.sessions.read(key)
        if mark_of(before) != asked.mark:
            raise ChangedMeanwhileError
        value = await asyncio.to_thread(self._stored_form, key, before, asked)
        record, undo = await self.sessions.write(key, asked.mark, value)
        return await self._session(key, record, whole=True, undo=undo)

    async def delete(self, request: Request) -> Response:
        """Remove one session, if it still is what the page shows."""
        asked = await asked_for(request, _Delete)
        self._check_writable()
        record, undo = await self.sessions.delete(_key(asked.key), asked.mark)
        return await self._session(asked.key, record, undo=undo)

    async def expire(self, request: Request) -> Response:
        """Change when one session expires, if it still is what the page shows."""
        asked = await asked_for(request, _Expire)
        self._check_writable()
        record, undo = await self.sessions.expire(_key(asked.key), asked.mark, asked.seconds)
        return await self._session(asked.key, record, undo=undo)

    async def changes(self, request: Request) -> Response:
        """The changes that can be undone."""
        await asked_for(request, _Empty)
        changes = self.sessions.changes
        return json_answer(
            [{"undo": name, "key": made.key, "what": made.what, "at": made.at} for name, made in changes]
        )

    async def locks(self, request: Request) -> Response:
        """The sessions that are locked now; `null`: the storage does not tell."""
        await asked_for(request, _Empty)
        if not isinstance(self._storage, ListsLocks):
            return json_answer(None)
        locks = await self._storage.list_locks("", MOST_LOCKS)
        return json_answer({"now": self._storage.now(), "locks": locks})

    async def unlock(self, request: Request) -> Response:
        """Take a lock from its holder, if it is still the same one."""
        asked = await asked_for(request, _Break)
        self._check_writable()
        broken = await break_lock(self._storage, HeldLock(_key(asked.key), asked.token, 0))
        return json_answer({"broken": broken})

    async def problems(self, request: Request) -> Response:
        """What is wrong with stored sessions."""
        await asked_for(request, _Empty)
        return EventStream(problems(self._storage, self.closing))

    async def undo(self, request: Request) -> Response:
        """Take a change back, if the session has not changed since."""
        asked = await asked_for(request, _Undo)
        self._check_writable()
        key, record, undo = await self.sessions.undo(asked.undo)
        return await self._session(key, record, undo=undo)

    async def watch(self, request: Request) -> Response:
        """One session, again whenever it changes."""
        asked = await asked_for(request, _Key)
        key = _key(asked.key)

        def describe(record: Record | None) -> bytes:
            return described(key, record, self._keyring, whole=asked.whole)

        return EventStream(changes(self.sessions, key, describe, self.closing))

    async def statistics(self, request: Request) -> Response:
        """Figures, periodically."""
        await asked_for(request, _Empty)
        return EventStream(figures(self.sessions, self._survey, self.closing))

    async def invite(self, request: Request) -> Response:
        """An address that lets another browser in, once."""
        await asked_for(request, _Empty)
        return json_answer({"address": self._invite()})

    async def _session(
        self, key: str, record: Record | None, *, whole: bool = False, undo: str | None = None
    ) -> Response:
        body = await asyncio.to_thread(described, key, record, self._keyring, whole=whole, undo=undo)
        return Response(body, media_type="application/json")

    def _check_writable(self) -> None:
        if self._read_only:
            raise RefusedError(403, "This inspector was started to look only; nothing was changed.")

    def _stored_form(self, key: str, before: Record | None, asked: _Write) -> bytes:
        seen = view(key, b"" if before is None else before.value, self._keyring)
        if seen.hidden:
            raise RefusedError(403, "It is encrypted, and its key was not given; nothing was changed.")
        return stored_form(key, seen, asked.text, asked.kind, self._keyring)


async def _page(_request: Request) -> Response:
    return FileResponse(STATIC / "index.html")


def _key(text: str) -> str:
    key = checked(text, "", None)
    if key is None:
        raise RefusedError(400, "A key is missing.")
    return key
