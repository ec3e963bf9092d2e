"""A Bot API server on 127.0.0.1: real HTTP and JSON for any framework, and a programmatic side for tests."""

from ._extra import not_installed

try:
    from aiohttp import web
except ModuleNotFoundError as missing:
    raise not_installed("aiohttp") from missing

from ._account import BotAccount, BotMessage, Call
from ._errors import ApiError
from ._methods import perform
from ._parameters import read_request
from ._queue import Update
from ._updates import JsonObject, User
from .audience import Audience
from .chats import Channel, Chat, Group, PrivateChat, Supergroup

__all__ = [
    "Audience",
    "BotApiServer",
    "BotMessage",
    "Call",
    "Channel",
    "Chat",
    "Group",
    "JsonObject",
    "PrivateChat",
    "Supergroup",
    "Update",
    "User",
]

LARGEST_REQUEST = 50 * 1024 * 1024
SECONDS_TO_FINISH = 1.0


class BotApiServer(Audience):
    """A Bot API server on a free port of 127.0.0.1, with one bot or more.

    ```python
    async with BotApiServer() as api:
        bot = Bot(api.token, session=AiohttpSession(api=TelegramAPIServer.from_base(api.url)))
        ann = api.private_chat(user_id=1001, name="Ann")
        ann.send("🍕")
        polling = asyncio.create_task(dp.start_polling(bot))
        print((await ann.receive()).text)
    ```

    It is an `Audience` of its first bot; `bot` adds others. As on Telegram, a token that it was not told of
    is refused, updates stay until they are confirmed, and a second `getUpdates` ends the first. Marks of
    `parse_mode` are left in texts as they come.

    Args:
        token: of the first bot, `"<bot id>:<secret>"`.
    """

    def __init__(self, token: str = "42:playground") -> None:
        first = BotAccount(token)
        super().__init__(first)
        self._accounts = {token: first}
        self._audiences: dict[str, Audience] = {token: self}
        self._runner: web.AppRunner | None = None
        self._url = ""

    @property
    def url(self) -> str:
        """The base of all addresses, such as `"http://127.0.0.1:43210"`."""
        if not self._url:
            raise RuntimeError("the Bot API server runs inside `async with` only")
        return self._url

    def bot(self, token: str) -> Audience:
        """Let another bot in.

        Args:
            token: `"<bot id>:<secret>"`.

        Returns:
            The people and chats around that bot; the same each time.
        """
        if token not in self._accounts:
            self._accounts[token] = BotAccount(token)
            self._audiences[token] = Audience(self._accounts[token])
        return self._audiences[token]

    async def __aenter__(self) -> "BotApiServer":
        app = web.Application(client_max_size=LARGEST_REQUEST)
        app.router.add_route("*", "/bot{token}/{method}", self._answer)
        app.router.add_route("*", "/{anything:.*}", _not_found)
        app.on_shutdown.append(self._release)
        # A bot that is gone must not hold on to its long poll.
        self._runner = web.AppRunner(
            app, access_log=None, handler_cancellation=True, shutdown_timeout=SECONDS_TO_FINISH
        )
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self._url = f"http://{host}:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        runner, self._runner, self._url = self._runner, None, ""
        if runner is not None:
            await runner.cleanup()

    async def _release(self, _app: web.Application) -> None:
        for account in self._accounts.values():
            await account.close()

    async def _answer(self, request: web.Request) -> web.Response:
        try:
            account = self._accounts.get(request.match_info["token"])
            if account is None:
                raise ApiError(401, "Unauthorized")
            account.note_contact()
            params = await read_request(request)
            method = request.match_info["method"]
            result = await perform(account, method, params)
            await account.released(method)
        except ApiError as error:
            return web.json_response(error.json(), status=error.code)
        return web.json_response({"ok": True, "result": result})


async def _not_found(_request: web.Request) -> web.Response:
    return web.json_response(ApiError(404, "Not Found").json(), status=404)
