"""The demo in the browser: chats on the left, what is stored on the right, as it changes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import cast

from ._extra import not_installed
from ._playground import Playground
from ._room import Room
from ._updates import JsonObject

try:
    from aiohttp import web
except ModuleNotFoundError as missing:
    raise not_installed("aiohttp") from missing

STATIC = Path(__file__).parent / "page_static"
FILES = {"/": "index.html", "/page.js": "page.js", "/page.css": "page.css"}
LONGEST_TEXT = 4096
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class PlaygroundPage:
    """A page on 127.0.0.1 about a playground. Used by `async with`.

    Args:
        playground: the bot, and the chats with it.
    """

    def __init__(self, playground: Playground) -> None:
        self._playground = playground
        self._rooms = playground.rooms
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

    async def __aexit__(self, *_: object) -> None:
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
        with suppress(ConnectionError):
            while True:
                changed = asyncio.ensure_future(self._rooms.changed())
                try:
                    await response.write(f"data: {json.dumps(self._state())}\n\n".encode())
                    await changed
                finally:
                    changed.cancel()
        return response

    def _state(self) -> JsonObject:
        return {
            "rooms": [self._room(room) for room in self._rooms.all],
            "status": self._playground.status,
            "running": self._playground.is_running,
            "again": self._rooms.last is not None,
            "command": self._playground.command,
        }

    def _room(self, room: Room) -> JsonObject:
        return {
            "id": room.ids[0],
            "name": room.name,
            "people": [user.name for user in room.people],
            "lines": [
                {
                    "kind": line.kind,
                    "who": line.who,
                    "text": line.text,
                    "waits": self._rooms.is_waiting(line.update),
                    "message": line.message_id,
                    "buttons": [button.text for button in line.buttons],
                }
                for line in room.lines
            ],
            "sessions": sorted(room.stored.items()) or [[str(room.chat.id), None]],
            "group": room is self._rooms.group,
        }

    async def _do(self, request: web.Request) -> web.Response:
        try:
            asked = cast("object", json.loads(await request.text()))
        except (ValueError, LookupError):
            asked = None
        done = self._act(asked)
        return web.Response(status=204 if done else 400, headers=HEADERS)

    def _act(self, asked: object) -> bool:
        """Do what the page asks for; gives whether it is something that it can ask for."""
        match asked:
            case {"do": "send", "room": int(chat_id), "who": str(who), "text": str(text)} if (
                room := self._room_of(chat_id)
            ) and 0 < len(text) <= LONGEST_TEXT:
                self._rooms.say(room, text, who)
            case {
                "do": "press",
                "room": int(chat_id),
                "who": str(who),
                "message": int(message),
                "button": int(number),
            } if (
                (room := self._room_of(chat_id))
                and (line := next((line for line in room.lines if line.message_id == message), None))
                and 0 <= number < len(line.buttons)
            ):
                self._rooms.press(room, line, line.buttons[number], who)
            case {"do": "rush", "room": int(chat_id)} if room := self._room_of(chat_id):
                self._playground.rush(room)
            case {"do": "again"} if self._rooms.last is not None:
                self._playground.deliver_again()
            case {"do": "kill"}:
                self._playground.kill()
            case {"do": "upgrade"} if self._rooms.group is not None:
                self._rooms.upgrade()
            case _:
                return False
        return True

    def _room_of(self, chat_id: int) -> Room | None:
        return next((room for room in self._rooms.all if room.ids[0] == chat_id), None)


def _file(path: Path) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def answer(_request: web.Request) -> web.StreamResponse:
        return web.FileResponse(path, headers=HEADERS)

    return answer
