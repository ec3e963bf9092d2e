"""Access to the inspector: for this machine's browser, with a cookie, given for a one-time token."""

from __future__ import annotations

import hmac
import secrets

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

ENTRY = "/enter"
PUBLIC = "/static/"
"""The page's own files, which hold no secret."""

MOST_TOKENS = 20
MOST_COOKIES = 100

_HEADERS = {
    # Nothing from elsewhere, nothing inline, no HTML made of text, in no frame.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}

_ENTERED = """<!doctype html><html lang="en"><meta charset="utf-8"><meta http-equiv="refresh" content="0;url=/">
<title>chatsession</title><link rel="icon" href="/static/icon.svg"><p><a href="/">Go on</a></p></html>"""

_CLOSED = """<!doctype html><html lang="en"><meta charset="utf-8"><title>chatsession: closed</title>
<link rel="icon" href="/static/icon.svg"><link rel="stylesheet" href="/static/style.css">
<main class="closed"><h1>This address does not open the inspector</h1>
<p>%s</p></main></html>"""
_USED = """The token in it is wrong, or was used already: each opens the inspector once. Start the inspector again, or
press “Another browser” on a page that is open, to get a new address."""
_NO_COOKIE = """Open the address with the token that the inspector printed when it started."""


class Guard:
    """Refuses requests that must not reach the app, and adds the security headers to every response.

    Args:
        app: what is guarded.
        port: that it is served on.
    """

    def __init__(self, app: ASGIApp, port: int) -> None:
        self._app = app
        self._hosts = {f"127.0.0.1:{port}", f"localhost:{port}"}
        # Cookies are not bound to ports: two inspectors must not overwrite each other's.
        self._cookie = f"chatsession_{port}"
        self._origin = f"http://127.0.0.1:{port}"
        self._tokens: list[str] = []
        self._cookies: list[str] = []

    def invite(self) -> str:
        """Make an address that opens the inspector once."""
        token = secrets.token_urlsafe(32)
        self._tokens = [*self._tokens, token][-MOST_TOKENS:]
        return f"{self._origin}{ENTRY}?token={token}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        answer = self._answer(Request(scope))
        await (self._app if answer is None else answer)(scope, receive, send_safely)

    def _answer(self, request: Request) -> Response | None:
        headers = request.headers
        if headers.get("host") not in self._hosts:  # a foreign name that leads to this machine
            return PlainTextResponse("The inspector answers to 127.0.0.1 only.\n", 421)
        if request.method not in ("GET", "HEAD") and not self._own(headers):
            return PlainTextResponse("Only the inspector's own page may ask for this.\n", 403)
        path = request.scope["path"]  # as the app finds its routes by; a URL made of it may have another
        if path == ENTRY and request.method == "GET":
            return self._enter(request.query_params.get("token", ""))
        if path.startswith(PUBLIC) or self._known(request.cookies.get(self._cookie, "")):
            return None
        return HTMLResponse(_CLOSED % _NO_COOKIE, 401)

    def _own(self, headers: Headers) -> bool:
        return (
            headers.get("origin") == f"http://{headers['host']}" and headers.get("content-type") == "application/json"
        )

    def _enter(self, token: str) -> Response:
        found = _among(self._tokens, token)
        if found is None:
            return HTMLResponse(_CLOSED % _USED, 403)
        self._tokens.remove(found)
        cookie = secrets.token_urlsafe(32)
        self._cookies = [*self._cookies, cookie][-MOST_COOKIES:]
        # No redirect: after a link on another site, the browser would follow it without the strict cookie.
        response = HTMLResponse(_ENTERED)
        response.set_cookie(self._cookie, cookie, httponly=True, samesite="strict")
        return response

    def _known(self, cookie: str) -> bool:
        return _among(self._cookies, cookie) is not None


def _among(secret: list[str], given: str) -> str | None:
    """The secret that equals what was given, compared in constant time."""
    matches = [one for one in secret if hmac.compare_digest(one.encode(), given.encode())]
    return matches[0] if matches else None
