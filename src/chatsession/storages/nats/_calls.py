"""Sends many requests at once over one NATS connection, and again when the connection is lost."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from itertools import count
from typing import NamedTuple, TypeAlias

import msgspec
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from chatsession.errors import StorageError, StorageUnavailableError
from chatsession.storages._shared.retries import retried
from chatsession.storages._shared.waiters import wake_token
from chatsession.storages.nats._errors import forbidden

LONGEST_TRY = 3.0
"""Seconds to wait for an answer before asking again, while the connection seems to work."""
_BETWEEN_TRIES = 0.05
_BETWEEN_LOOKS = 0.1
"""Seconds between looks at a connection on which no answer comes: it may have been replaced."""
_AT_A_STRETCH = 16
"""The number of requests that are written before other tasks may run."""
_STATUS = "Status"
_AROUND_HEADERS = 16
_LONGEST_LINE = 4000
"""Bytes of the two subjects in a protocol line. The server reads lines of at most 4,096 bytes."""


class Request(msgspec.Struct, frozen=True):
    """A request. The server may get it more than once."""

    subject: str
    payload: bytes = b""
    headers: dict[str, str] | None = None


class Reply(msgspec.Struct, frozen=True):
    """An answer."""

    status: str
    """Empty, or a number such as 404."""
    payload: bytes
    headers: dict[str, str]
    tries: int
    """If more than 1, the server may have got the request more than once."""
    moved: bool
    """The connection was replaced after the request was made."""


_Answer: TypeAlias = Msg | StorageError | None
"""A reply, the reason why there will be none, or `None`: the request must be sent again."""


class _Pending(NamedTuple):
    subject: str
    answer: asyncio.Future[_Answer]

    def end(self, answer: _Answer) -> None:
        if not self.answer.done():
            self.answer.set_result(answer)


class Calls:
    """Sends requests and gathers their replies, from `start` on.

    Args:
        retry_for: seconds in which a request is sent again.
        woken: called with each token that `wake` sends here.
    """

    client: Client
    """The connected client."""

    def __init__(self, retry_for: float, woken: Callable[[str], None]) -> None:
        self.inbox = ""
        self.retry_for = retry_for
        self._woken = woken
        self._numbers = count()
        self._pending: dict[str, _Pending] = {}
        self._heard: Exception | None = None
        self._ambiguous: list[Exception] = []
        """Errors that fit several subjects, which differ in case only."""
        self._subscription: Subscription | None = None

    async def start(self, client: Client) -> None:
        """Listen for replies."""
        self.client, self.inbox, self._heard = client, client.new_inbox(), client.last_error
        self._subscription = await self.client.subscribe(  # pyright: ignore[reportUnknownMemberType] # half typed there
            f"{self.inbox}.*", cb=self._receive
        )

    async def stop(self) -> None:
        """Stop listening."""
        self.cut()
        if self._subscription is not None and not self.client.is_closed:
            await self._subscription.unsubscribe()

    async def wake(self, inbox: str, waiter: str) -> None:
        """Wake a waiter in any process. If that fails, it tries again by itself a little later.

        Args:
            inbox: of its connection.
            waiter: its name.
        """
        with suppress(nats.errors.Error):
            await self.client.publish(f"{inbox}.{wake_token(waiter)}")

    def cut(self) -> None:
        """The connection is lost: pending requests must be sent again."""
        for pending in self._pending.values():
            pending.end(None)

    def refuse(self, error: Exception) -> None:
        """Take an error that the driver reported. A request whose subject it names will get no reply."""
        refusal = forbidden(error)
        if refusal is None:
            return
        verb, subject = refusal
        if verb == "subscription" and subject.startswith(self.inbox.lower()):
            named = list(self._pending.values())  # no reply at all will be heard
        else:
            named = [
                each for each in self._pending.values() if each.subject.lower() == subject and not each.answer.done()
            ]
        if verb == "publish" and len({pending.subject for pending in named}) > 1:
            self._ambiguous.append(error)  # until all but one are answered
            return
        for pending in named:
            what = f"publish to {pending.subject}" if verb == "publish" else f"subscribe to {self.inbox}.*"
            pending.end(StorageError(f"this user of NATS may not {what}; give it the permission"))

    async def ask(self, request: Request, retry_for: float | None = None) -> Reply:
        """Send one request. Raises `StorageUnavailableError` if no reply comes."""
        (reply,) = await self.ask_all([request], retry_for)
        if isinstance(reply, StorageError):
            raise reply
        return reply

    async def ask_all(
        self, requests: Sequence[Request], retry_for: float | None = None
    ) -> Sequence[Reply | StorageError]:
        """Send requests together.

        Args:
            requests: the server may get each more than once.
            retry_for: seconds in which requests are repeated while no server answers for the stream. `None`: as long as
                others.

        Returns:
            In the order of the requests: the reply, or an error if there was none in time.
        """
        now, connection = asyncio.get_running_loop().time(), self._connection()
        end = now + self.retry_for
        refused_until = end if retry_for is None else now + retry_for
        replies: dict[int, Reply] = {}
        refused = {index: error for index, each in enumerate(requests) if (error := self._cannot_send(each))}
        waiting = [index for index in range(len(requests)) if index not in refused]
        tries = 0
        while waiting and await self._is_connected(end):
            tries += 1
            answers = await self._exchange([requests[index] for index in waiting], end)
            for index, answer in zip(waiting, answers, strict=True):
                if isinstance(answer, StorageError):
                    refused[index] = answer
                elif answer is not None:
                    replies[index] = _reply(answer, tries, moved=self._connection() != connection)
            waiting = [
                index
                for index in waiting
                if index not in refused and (index not in replies or _is_passing(replies[index]))
            ]
            if waiting:
                if all(index in replies for index in waiting) and asyncio.get_running_loop().time() > refused_until:
                    break
                retried("NATS")
                await asyncio.sleep(_BETWEEN_TRIES)
        return [refused.get(index) or replies.get(index) or self._unanswered(tries) for index in range(len(requests))]

    def _cannot_send(self, request: Request) -> StorageError | None:
        """Why the server would close the connection because of this request, so that all others fail too."""
        size = len(request.payload) + sum(len(f"{name}: {text}\r\n".encode()) for name, text in _headers(request))
        if size + _AROUND_HEADERS > self.client.max_payload:
            return StorageError(
                f"the session, its lock and its queue are {size:,} bytes, more than the NATS server takes "
                f"({self.client.max_payload:,}); make the session smaller, or raise the server's max_payload"
            )
        if len(request.subject) + len(self.inbox) > _LONGEST_LINE:
            return StorageError("the names of key and bucket are too long for NATS together; use shorter ones")
        return None

    async def _exchange(self, requests: Sequence[Request], end: float) -> list[_Answer]:
        """One try."""
        loop = asyncio.get_running_loop()
        pending: dict[str, asyncio.Future[_Answer]] = {}
        connection = self._connection()
        try:
            for number, request in enumerate(requests):
                if number % _AT_A_STRETCH == _AT_A_STRETCH - 1:
                    await asyncio.sleep(0)
                token = str(next(self._numbers))
                pending[token] = loop.create_future()
                self._pending[token] = _Pending(request.subject, pending[token])
                await self.client.publish(
                    request.subject, request.payload, f"{self.inbox}.{token}", headers=request.headers
                )
            await self._wait(pending.values(), connection, min(loop.time() + LONGEST_TRY, end))
        except nats.errors.Error:
            pass  # it is being reconnected, or was closed; the replies that came count
        finally:
            for token in pending:
                del self._pending[token]
        found = [future.result() if future.done() else None for future in pending.values()]
        return found + [None] * (len(requests) - len(found))

    async def _wait(self, pending: Collection[asyncio.Future[_Answer]], connection: object, end: float) -> None:
        """Wait for answers, at most for as long as the connection lasts on which the requests were sent."""
        loop = asyncio.get_running_loop()
        while (left := end - loop.time()) > 0 and self._connection() == connection:
            _, waiting = await asyncio.wait(pending, timeout=min(left, _BETWEEN_LOOKS))
            if not waiting:
                return
            self._look_at_errors()

    def _look_at_errors(self) -> None:
        errors, self._ambiguous = self._ambiguous, []
        newest = self.client.last_error  # a client of the user reports its errors elsewhere
        if newest is not None and newest is not self._heard:
            self._heard = newest
            errors.append(newest)
        for error in errors:
            self.refuse(error)

    def _connection(self) -> object:
        """Identifies the present connection."""
        return self.client.is_connected and self.client.stats["reconnects"]

    async def _is_connected(self, end: float) -> bool:
        while not self.client.is_connected:
            if self.client.is_closed or asyncio.get_running_loop().time() > end:
                return False
            await asyncio.sleep(_BETWEEN_TRIES)
        return asyncio.get_running_loop().time() < end

    async def _receive(self, message: Msg) -> None:
        token = message.subject[len(self.inbox) + 1 :]
        pending = self._pending.get(token)
        if pending is not None:
            pending.end(message)
        elif not token.isdigit():
            self._woken(token)

    def _unanswered(self, tries: int) -> StorageUnavailableError:
        if self.client.is_closed:
            return StorageUnavailableError("the connection to NATS is closed")
        if not tries:
            return StorageUnavailableError(f"NATS could not be reached for {self.retry_for:g} s")
        return StorageUnavailableError(
            f"NATS did not answer within {self.retry_for:g} s; it is not known whether what was asked for was done"
        )


def _headers(request: Request) -> Iterable[tuple[str, str]]:
    return request.headers.items() if request.headers else ()


def message_id() -> str:
    """A new name for a change."""
    return secrets.token_hex(12)


def _reply(message: Msg, tries: int, *, moved: bool) -> Reply:
    headers = message.headers or {}
    return Reply(headers.get(_STATUS, ""), message.data, headers, tries, moved)


def _is_passing(reply: Reply) -> bool:
    """Whether no server answers for the stream, because it is starting or has no leader."""
    return reply.status == "503"
