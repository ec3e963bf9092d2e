"""One JetStream key-value bucket: created or checked, read, and changed by compare-and-swap."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence
from datetime import datetime

import msgspec

from chatsession.errors import StorageError, StorageUnavailableError
from chatsession.storages._shared.clock import ServerClock
from chatsession.storages.nats._api import Ack, ConsumerInfo, StreamInfo, decode
from chatsession.storages.nats._calls import Calls, Reply, Request
from chatsession.storages.nats._records import FOREVER, HEADER, NOTHING, Entry, Stored, parse, replacing, serialize

_WRONG_REVISION = {10071, 10164}
"""Replicated streams give the second one while another change of the same entry is under way."""
_MAY_COME_YET = 10158
"""An earlier copy of the same message is still under way."""
_NAME_IN_USE = 10058
_NO_STREAM = 10059
_NO_PEERS = 10005
"""The servers of a cluster have not all found each other yet, or are fewer than the replicas."""
_DUPLICATES_SECONDS = 60
_OPENING = 2.0
_LARGE = 64 * 1024
"""Bytes of JSON from which on it is decoded in a thread."""

_OPERATION = "KV-Operation"
_MARKER_REASON = "Nats-Marker-Reason"
_EXPECTED = "Nats-Expected-Last-Subject-Sequence"
_MESSAGE_ID = "Nats-Msg-Id"
_TTL = "Nats-TTL"


class Put(msgspec.Struct, frozen=True):
    """One compare-and-swap."""

    name: str
    value: bytes
    entry: Entry
    last: int
    """The revision that must be the newest; 0: none."""
    message_id: str
    now: float


class Done(msgspec.Struct, frozen=True):
    """The change was made, at this revision."""

    revision: int
    duplicate: bool = False
    """An earlier message with the same id was stored already; this is its revision."""
    moved: bool = False
    """It was stored over a later connection than the one on which it was first sent."""


class Stale(msgspec.Struct, frozen=True):
    """Another revision is the newest."""

    in_doubt: bool
    """The change was sent more than once, so that an earlier copy may have been stored."""


class Bucket:
    """Access to the bucket's stream.

    Args:
        calls: sends the requests.
        name: the bucket's name.
        replicas: the number of servers that keep a bucket that is created here.
    """

    def __init__(self, calls: Calls, name: str, replicas: int) -> None:
        self._calls = calls
        self._stream = f"KV_{name}"
        self._prefix = f"$KV.{name}."
        self._name = name
        self._replicas = replicas
        self._clock = ServerClock()
        self._measuring = asyncio.Lock()
        self.expires_by_itself = False

    async def open(self) -> None:
        """Create the bucket if it is missing, check it, and set the clock."""
        info = await self.info()
        if info.error is not None and info.error.err_code == _NO_STREAM:
            info = await self._create_once_there_are_servers()
        if info.error is not None:
            raise StorageError(f"NATS refused to open the bucket {self._name!r}: {info.error.description}")
        config = info.config
        if self._prefix + ">" not in config.subjects or config.max_msgs_per_subject < 1:
            raise StorageError(f"the stream {self._stream} is not a key-value bucket; choose another bucket")
        if config.max_msgs_per_subject > 1:
            raise StorageError(
                f"the bucket {self._name!r} keeps a history of {config.max_msgs_per_subject}; sessions need one of 1"
            )
        if not config.allow_direct:
            raise StorageError(
                f"the bucket {self._name!r} does not allow direct access; set allow_direct on its stream"
            )
        self.expires_by_itself = config.allow_msg_ttl
        await self.keep_clock()

    def now(self) -> float:
        """The server's time, as Unix seconds: the clocks of different machines need not agree."""
        return self._clock.now()

    async def keep_clock(self) -> None:
        """Ask for the server's time if it is unknown, or was measured too long ago."""
        if not self._clock.is_due():
            return
        async with self._measuring:
            if self._clock.is_due():
                await self._set_clock()

    async def _set_clock(self) -> None:
        config = {"deliver_policy": "new", "ack_policy": "none", "inactive_threshold": 1_000_000_000}
        asked_at = time.monotonic()
        reply = await self._call(f"CONSUMER.CREATE.{self._stream}", {"stream_name": self._stream, "config": config})
        info = decode(reply.payload, ConsumerInfo)
        # A user that may not create consumers is not told the time; then the clocks of the machines must agree.
        known = info.error is None and info.created
        self._clock.set(datetime.fromisoformat(info.created).timestamp() if known else None, asked_at)

    async def get_all(self, names: Sequence[str]) -> Sequence[Stored | StorageError]:
        """Read the newest message of each name."""
        subject = f"$JS.API.DIRECT.GET.{self._stream}.{self._prefix}"
        replies = await self._calls.ask_all([Request(subject + name) for name in names])
        return [reply if isinstance(reply, StorageError) else _stored(reply) for reply in replies]

    async def put_all(self, puts: Sequence[Put]) -> Sequence[Done | Stale | StorageError]:
        """Make each change whose expected revision is still the newest."""
        replies = await self._calls.ask_all([self._publication(put) for put in puts])
        return [reply if isinstance(reply, StorageError) else _outcome(reply) for reply in replies]

    async def purge(self, name: str, below: int) -> None:
        """Remove a name's messages with revisions below a number."""
        await self._call(f"STREAM.PURGE.{self._stream}", {"filter": self._prefix + name, "seq": below})

    async def names(self, offset: int) -> tuple[list[str], int]:
        """Some names in order from `offset` on (the server decides how many), and the number of all names."""
        request = {"subjects_filter": self._prefix + ">", "offset": offset}
        reply = await self._call(f"STREAM.INFO.{self._stream}", request)
        if len(reply.payload) < _LARGE:
            return self._names_in(reply)
        return await asyncio.to_thread(self._names_in, reply)

    async def info(self) -> StreamInfo:
        """The server's answer about the stream. Raises `StorageUnavailableError` if there is none."""
        reply = await self._calls.ask(Request(f"$JS.API.STREAM.INFO.{self._stream}"), _OPENING)
        if reply.status == "503":
            raise StorageUnavailableError(
                "JetStream does not answer: it is not enabled on this server (nats-server -js), "
                "or not for this account, or has no leader yet"
            )
        return decode(reply.payload, StreamInfo)

    def _names_in(self, reply: Reply) -> tuple[list[str], int]:
        info = decode(reply.payload, StreamInfo)
        if info.error is not None:
            raise StorageError(f"NATS refused to list the bucket {self._name!r}: {info.error.description}")
        return sorted(name.removeprefix(self._prefix) for name in info.state.subjects), info.state.num_subjects

    def _publication(self, put: Put) -> Request:
        headers = {_EXPECTED: str(put.last), _MESSAGE_ID: put.message_id}
        outlived_at = put.entry.outlived_at(put.now)
        if outlived_at is not None and self.expires_by_itself and put.entry.tombstone_until < FOREVER:
            headers[_TTL] = str(math.ceil(max(outlived_at, put.entry.tombstone_until) - put.now) + 1)
        if put.entry.is_nothing():
            headers[_OPERATION] = "DEL"
        if put.entry != NOTHING.entry and (header := serialize(put.entry)):
            headers[HEADER] = header
        return Request(self._prefix + put.name, put.value, headers)

    async def _create_once_there_are_servers(self) -> StreamInfo:
        end = time.monotonic() + self._calls.retry_for
        while True:
            info = await self._create()
            if info.error is None or info.error.err_code != _NO_PEERS or time.monotonic() > end:
                return info
            await asyncio.sleep(0.1)

    async def _create(self) -> StreamInfo:
        config = {
            "name": self._stream,
            "description": "chat sessions",
            "subjects": [self._prefix + ">"],
            "max_msgs_per_subject": 1,
            "storage": "file",
            "num_replicas": self._replicas,
            "discard": "new",
            "allow_rollup_hdrs": True,
            "deny_delete": True,
            "allow_direct": True,
            "allow_msg_ttl": True,  # servers before 2.11 ignore it
            "duplicate_window": _DUPLICATES_SECONDS * 1_000_000_000,
        }
        info = decode((await self._call(f"STREAM.CREATE.{self._stream}", config)).payload, StreamInfo)
        if info.error is not None and info.error.err_code == _NAME_IN_USE:  # another process has created it
            return await self.info()
        return info

    async def _call(self, subject: str, request: object) -> Reply:
        reply = await self._calls.ask(Request(f"$JS.API.{subject}", msgspec.json.encode(request)))
        if reply.status == "503":
            raise StorageUnavailableError("JetStream does not answer")
        return reply


def _stored(reply: Reply) -> Stored | StorageError:
    if reply.status == "404":
        return NOTHING
    headers = reply.headers
    try:
        revision = int(headers["Nats-Sequence"])
    except (KeyError, ValueError):
        if reply.status == "503":
            return StorageUnavailableError("JetStream does not answer for the bucket")
        return StorageError("NATS refused to read from the bucket")
    header = headers.get(HEADER)
    if header is None and (_OPERATION in headers or _MARKER_REASON in headers):
        by_others = _TTL not in headers and _MARKER_REASON not in headers
        return Stored(revision, b"", replacing(Entry(), NOTHING.entry, 0.0) if by_others else NOTHING.entry)
    try:
        entry = parse(header) if header else Entry()
    except msgspec.DecodeError:
        return StorageError(f"its entry in the bucket has a {HEADER} header of an unknown form; it is left as it is")
    return Stored(revision, reply.payload, entry, headers.get(_MESSAGE_ID))


def _outcome(reply: Reply) -> Done | Stale | StorageError:
    if reply.status == "503":
        return StorageUnavailableError("JetStream does not answer for the bucket")
    ack = decode(reply.payload, Ack)
    if ack.error is None:
        return Done(ack.seq, ack.duplicate, reply.moved)
    if ack.error.err_code in _WRONG_REVISION:
        return Stale(reply.tries > 1)
    if ack.error.err_code == _MAY_COME_YET:
        return Stale(in_doubt=True)
    if ack.error.code == 503:
        return StorageUnavailableError(f"NATS refused the change: {ack.error.description}")
    return StorageError(f"NATS refused the change: {ack.error.description}")
