"""Runs a bot's script unchanged, as `__main__`, against another server than Telegram.

`python -m chatsession_playground._loopback URL SCRIPT` imports the framework, waits for a byte on its standard input,
and runs the script until that input ends.
"""

import os
import runpy
import socket
import sys
import threading
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

TELEGRAM = "https://api.telegram.org"
HOST = "api.telegram.org"
FRAMEWORKS = ("aiogram", "telegram.ext", "telebot.async_telebot", "telebot")
WITHOUT_BOT_API = {"telethon": "Telethon", "pyrogram": "Pyrogram"}
"""Frameworks that speak MTProto to addresses of their own."""


def redirect(url: str) -> None:
    """Send every call of the Bot API to this server, whatever framework or HTTP client makes it.

    Nothing else reaches Telegram: other ways to its Bot API, and frameworks that do without it, are refused.

    Args:
        url: of a Bot API server, such as `"http://127.0.0.1:43210"`.
    """
    for client, redirect_client in {"aiohttp": _aiohttp, "httpx": _httpx, "requests": _requests}.items():
        if find_spec(client) is not None:
            redirect_client(url)
    sys.addaudithook(_refuse)


def _aiohttp(url: str) -> None:
    from aiohttp import ClientRequest
    from yarl import URL

    begin: Callable[..., None] = ClientRequest.__init__

    def begin_redirected(request: object, method: str, asked: URL, *args: Any, **options: Any) -> None:
        begin(request, method, URL(_redirected(str(asked), url), encoded=True), *args, **options)

    # The class is where all ways of aiohttp to make a request meet.
    setattr(ClientRequest, "__init__", begin_redirected)  # noqa: B010 - an assignment would have to repeat its types


def _httpx(url: str) -> None:
    import httpx

    for client in (httpx.Client, httpx.AsyncClient):
        _before_send(client, lambda request: _redirect_httpx(request, url))


def _redirect_httpx(request: Any, url: str) -> None:
    import httpx

    asked = str(request.url)
    if (redirected := _redirected(asked, url)) != asked:
        request.url = httpx.URL(redirected)


def _requests(url: str) -> None:
    import requests

    def redirect_prepared(request: requests.PreparedRequest) -> None:
        request.url = _redirected(request.url or "", url)

    _before_send(requests.Session, redirect_prepared)


def _before_send(client: type[Any], change: Callable[[Any], None]) -> None:
    send: Callable[..., object] = client.send

    def send_changed(self: object, request: object, *args: Any, **options: Any) -> object:
        change(request)
        return send(self, request, *args, **options)

    client.send = send_changed


def _redirected(asked: str, url: str) -> str:
    return url + asked.removeprefix(TELEGRAM) if asked.startswith(f"{TELEGRAM}/") else asked


def _refuse(event: str, args: tuple[Any, ...]) -> None:
    """An audit hook: https://docs.python.org/3/library/sys.html#sys.addaudithook"""
    if event == "socket.getaddrinfo" and args[0] in (HOST, HOST.encode()):
        raise socket.gaierror(
            f"the playground lets no bot contact {HOST}, and knows no way to redirect this one: it redirects calls by "
            "aiohttp, httpx and requests"
        )
    if event == "import" and (name := WITHOUT_BOT_API.get(args[0])):
        raise ImportError(f"{name} speaks MTProto to Telegram's own servers, and the playground is a Bot API server")


def run_as_main(script: Path) -> dict[str, Any]:
    """Run a script as `python SCRIPT` does: its folder is the first to import from.

    Returns:
        The names that it defines.
    """
    sys.argv = [str(script)]
    sys.path[0] = str(script.parent)
    return runpy.run_path(str(script), run_name="__main__")


def _import_frameworks(script: Path) -> None:
    """Import what the script will import anyway, and what takes most of the time of its start."""
    text = script.read_text(encoding="utf-8", errors="replace")
    for name in FRAMEWORKS:
        package = name.partition(".")[0]
        if (f"from {name} import" in text or f"import {name}" in text) and find_spec(package) is not None:
            import_module(name)


def _run_with_webhook(script: Path) -> None:
    """Run the script, and serve its `app` if it is a web application that something else has to start."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        os.environ.setdefault("WEBHOOK_URL", f"http://127.0.0.1:{listener.getsockname()[1]}/")
        os.environ.setdefault("WEBHOOK_SECRET", "playground")
        app = run_as_main(script).get("app")
        if callable(app) and find_spec("uvicorn") is not None:
            import uvicorn

            uvicorn.Server(uvicorn.Config(app, log_level="warning")).run([listener])


def _leave_with_parent() -> None:
    # Whoever started us holds the other end of stdin. It closes when they are gone, however they went.
    while os.read(0, 1024):
        pass
    os._exit(1)


def main() -> None:
    """The command line."""
    url, script = sys.argv[1], Path(sys.argv[2])
    redirect(url)
    _import_frameworks(script)
    if os.read(0, 1):  # it is time; or else whoever started us is gone
        threading.Thread(target=_leave_with_parent, daemon=True).start()
        _run_with_webhook(script)


if __name__ == "__main__":
    main()
