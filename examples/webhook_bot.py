"""The pizza bot without any bot framework: a webhook in Starlette, and answers by plain HTTP.

Start it as `uvicorn webhook_bot:app`, behind the address that `WEBHOOK_URL` names; as many processes as you like
share the sessions once `SESSIONS` names a Redis or PostgreSQL server.
"""

import hmac
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx
import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from chatsession import SessionFlavor, SessionManager

API = os.environ.get("BOT_API", "https://api.telegram.org")
SECRET = os.environ["WEBHOOK_SECRET"]  # Telegram sends it along, so that nobody else can
SECRET_HEADER = "X-Telegram-Bot-Api-Secret-Token"


@dataclass
class Pizza:
    count: int = 0


class Chat(msgspec.Struct):
    id: int


class Message(msgspec.Struct):
    chat: Chat
    text: str = ""
    migrate_to_chat_id: int | None = None
    migrate_from_chat_id: int | None = None


class Update(msgspec.Struct):
    update_id: int
    message: Message | None = None


class Context(SessionFlavor[Pizza]):
    """What handlers get; sessions find their key and know an update again by `chat_id` and `update_id`."""

    def __init__(self, update_id: int, message: Message, http: httpx.AsyncClient) -> None:
        self.update_id = update_id
        self.chat_id = message.chat.id
        self.text = message.text
        self._http = http

    async def answer(self, text: str) -> None:
        await self._http.post("sendMessage", json={"chat_id": self.chat_id, "text": text})


sessions = SessionManager(Pizza, storage=os.environ.get("SESSIONS", "sqlite:///bot.db"), deduplicate=100)
with_session = sessions.middleware()
decode = msgspec.json.Decoder(Update).decode


async def on_message(ctx: Context) -> None:
    if ctx.text == "/reset":
        ctx.session = None  # deletes the session
        await ctx.answer("Forgotten.")
    elif "🍕" in ctx.text:
        ctx.session.count += 1  # stored before Telegram is told that the update is done
        await ctx.answer(f"Pizza number {ctx.session.count} for this chat!")


async def on_update(request: Request) -> Response:
    """If this fails, nothing is stored, and Telegram sends the update again."""
    if not hmac.compare_digest(request.headers.get(SECRET_HEADER, "").encode(), SECRET.encode()):
        return Response(status_code=403)
    update = decode(await request.body())
    if (message := update.message) is None:
        return Response()
    if message.migrate_to_chat_id is not None:  # the group became a supergroup: its session goes along
        await sessions.move(message.chat.id, message.migrate_to_chat_id)
        return Response()
    if message.migrate_from_chat_id is not None:  # the same, told in the supergroup, and before what is said there
        await sessions.move(message.migrate_from_chat_id, message.chat.id)
        return Response()
    ctx = Context(update.update_id, message, request.state.http)
    await with_session(ctx, lambda: on_message(ctx))
    return Response()


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncGenerator[dict[str, httpx.AsyncClient]]:
    """The storage opens before the first update, and closes after the last one is done."""
    token, url = os.environ["BOT_TOKEN"], os.environ["WEBHOOK_URL"]
    async with sessions, httpx.AsyncClient(base_url=f"{API}/bot{token}/") as http:
        answer = await http.post("setWebhook", json={"url": url, "secret_token": SECRET})
        answer.raise_for_status()
        yield {"http": http}


app = Starlette(routes=[Route("/", on_update, methods=["POST"])], lifespan=lifespan)
