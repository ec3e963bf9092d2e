"""The demo in the browser: chats on the left, what is stored on the right, as it changes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import cast

from chatsession.errors import SessionError

from ._extra import not_installed
from ._queue import Update
from ._stage import Stage
from ._updates import JsonObject, User
from .chats import Chat, Group

try:
    from aiohttp import web
except ModuleNotFoundError as missing:
    raise not_installed("aiohttp") from missing

STATIC = Path(__file__).parent / "page_static"
FILES = {"/": "index.html", "/page.js": "page.js", "/page.css": "page.css"}
SECONDS_BETWEEN_LOOKS = 0.1
MOST_MESSAGES = 200
LONGEST_TEXT = 4096
PEOPLE = [User(1001, "Ann", ""), User(1002, "Ben", ""), User(1003, "Cem", "")]
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


@dataclass(slots=True)
class _Room:
    """A chat as the page shows it."""

    name: str
    chat: Chat
    people: list[User]
    ids: list[int]
    """Under which it is, and was, known."""
    messages: list[dict[str, str]] = field(default_factory=list[dict[str, str]])

    def say(self, who: str, text: str, kind: str) -> None:
        self.messages = [*self.messages, {"who": who, "text": text, "kind": kind}][-MOST_MESSAGES:]


class PlaygroundPage:
    """A page on 127.0.0.1 about a stage. Used by `async with`.

    Args:
        on: the stage with the bot.
        kill: asks whoever watches over the bot to kill it, and to start it again.
    """

    def __init__(self, on: Stage, kill: Callable[[], None]) -> None:
        self._stage = on
        self._kill = kill
        self._killed: int | None = None
        self._heard = 0
        self._last: Update | None = None
        self._group = on.api.group(title="Pizza lovers", user=PEOPLE[0])
        self._rooms = [
            *(_Room(user.name, on.api.private_chat(user.id, user.name), [user], [user.id]) for user in PEOPLE),
            _Room("Pizza lovers", self._group, PEOPLE[:2], [self._group.id]),
        ]
        self._runner: web.AppRunner | None = None
        self._url = ""

    @property
    def url(self) -> str:
        """The page's address."""
        return self._url

    async def __aenter__(self) -> PlaygroundPage:
        app = web.Application(middlewares=[self._guard])
        app.router.add_get("/events", self._events)
        app.router.add_post("/do", self._do)
        for path, name in FILES.items():
            app.router.add_get(path, _file(STATIC / name))
        # A page that is still open must not hold the end of the demo up.
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        host, port = self._runner.addresses[0][:2]
        self._url = f"http://{host}:{port}"
        return self

    async def __aexit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    @web.middleware
    async def _guard(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Only this machine's browser, and only the page itself, may ask for anything."""
        own = request.method == "GET" or request.headers.get("Origin") == self._url
        if f"http://{request.host}" != self._url or not own:
            return web.Response(status=403, text="Only the playground's own page may ask for this.\n")
        return await handler(request)

    async def _events(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers=HEADERS | {"Content-Type": "text/event-stream"})
        await response.prepare(request)
        shown = ""
        while True:
            now = json.dumps(await self._state())
            if now != shown:
                shown = now
                try:
                    await response.write(f"data: {now}\n\n".encode())
                except ConnectionError:
                    return response
            # There is no event to wait for: who stores the sessions is another process.
            await asyncio.sleep(SECONDS_BETWEEN_LOOKS)

    async def _state(self) -> JsonObject:
        self._listen()
        rooms = [
            {
                "name": room.name,
                "people": [user.name for user in room.people],
                "messages": room.messages,
                "sessions": [[str(chat_id), await self._stored(chat_id)] for chat_id in room.ids],
                "group": room.chat is self._group,
            }
            for room in self._rooms
        ]
        return {"rooms": rooms, "bot": self._bot(), "again": self._last is not None}

    def _listen(self) -> None:
        """Hear what the bot has said since the last time."""
        calls = self._stage.api.calls
        new, self._heard = calls[self._heard :], len(calls)
        for call in new:
            if call.method != "sendMessage":
                continue
            room = self._room_of(cast("int", call.params.get("chat_id")))
            if room is not None:
                text = str(call.params.get("text", "")) if call.error is None else f"(not sent: {call.error})"
                room.say("bot", text, "bot")

    async def _stored(self, chat_id: int) -> str | None:
        try:
            return await self._stage.stored.of(chat_id)
        except (SessionError, UnicodeDecodeError) as error:
            return str(error)

    def _bot(self) -> str:
        try:
            pid = self._stage.bot.pid
        except RuntimeError:
            return "starting …"
        return "killed, starting again …" if pid == self._killed else f"running, process {pid}"

    def _room_of(self, chat_id: int) -> _Room | None:
        return next((room for room in self._rooms if chat_id in room.ids), None)

    async def _do(self, request: web.Request) -> web.Response:
        try:
            asked = cast("object", json.loads(await request.text()))
        except (ValueError, LookupError):
            asked = None
        match asked:
            case {"do": "send", "room": int(number), "who": str(who), "text": str(text)} if (
                0 <= number < len(self._rooms) and 0 < len(text) <= LONGEST_TEXT
            ):
                self._send(self._rooms[number], who, text)
            case {"do": "again"} if self._last is not None:
                self._stage.api.redeliver(self._last)
                self._tell_all(f"(update {self._last.id} was delivered again)")
            case {"do": "kill"}:
                self._killed = self._stage.bot.pid
                self._kill()
            case {"do": "upgrade"} if self._rooms[-1].chat is self._group:
                self._upgrade(self._group)
            case _:
                return web.Response(status=400, headers=HEADERS)
        return web.Response(status=204, headers=HEADERS)

    def _send(self, room: _Room, who: str, text: str) -> None:
        user = next((user for user in room.people if user.name == who), room.people[0])
        room.say(user.name, text, "own")
        self._last = room.chat.send(text, user=user)

    def _upgrade(self, group: Group) -> None:
        room = self._rooms[-1]
        room.chat = group.migrate()
        room.ids = [*room.ids, room.chat.id]
        room.say("", f"(a supergroup from now on: {group.id} has become {room.chat.id})", "service")

    def _tell_all(self, text: str) -> None:
        for room in self._rooms:
            if self._last is not None and cast("JsonObject", self._last.payload["chat"])["id"] in room.ids:
                room.say("", text, "service")


def _file(path: Path) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def answer(_request: web.Request) -> web.StreamResponse:
        return web.FileResponse(path, headers=HEADERS)

    return answer
