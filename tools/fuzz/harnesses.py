"""What is fuzzed: functions of some bytes that return, or raise what is a bug.

Each is a promise: only the contract's errors, no data in a message, and what was read can be written and read again.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, cast

from chatsession import (
    JsonCodec,
    SessionDecodeError,
    SessionEncodeError,
    SessionKeyError,
    SessionManager,
    SessionMigrationError,
    StorageError,
    open_storage,
)
from chatsession.cli import _lines
from chatsession.contents import UnusableTextError, stored_form, view
from chatsession.errors import SessionDecryptError
from chatsession.importers._pickles import Plain
from chatsession.importers._unpickling import PickleError, load
from chatsession.serialization.codec import CodecError
from chatsession.serialization.compression import COMPRESSED, decompress
from chatsession.serialization.encryption import SEALED, Keyring
from chatsession.serialization.envelope import unwrap, wrap
from chatsession.storages.file import _disk
from chatsession.storages.file._grammy_names import GrammyNames
from chatsession.storages.file._names import Names
from chatsession.storages.nats import _names as _nats_names
from chatsession.storages.nats import _records as _nats_records
from chatsession.storages.redis import _names as _redis_names
from chatsession.storages.sqlite import _records

KEY = "a" * 43 + "="
_LIMIT = 1 << 20


@dataclass
class Player:
    """A session with fields of many kinds."""

    name: str = ""
    coins: int = 0
    parts: dict[str, list[float]] = field(default_factory=dict[str, list[float]])
    since: datetime | None = None
    inner: Player | None = None


_CODECS = [cast("JsonCodec[Any]", JsonCodec(kind)) for kind in (Any, Player, dict[str, int], list[str | int | None])]


def codec(data: bytes) -> None:
    """What decodes can be encoded, and is then the same."""
    for each in _CODECS:
        with contextlib.suppress(CodecError):
            value = each.decode(data)
            with contextlib.suppress(CodecError):  # an int of hundreds of digits, say
                again = each.encode(value)
                assert each.decode(again) == value
                assert each.decode(each.carry_over(data, again)) == value


def envelope(data: bytes) -> None:
    """An envelope that was read can be written, and holds the same."""
    for json in (True, False):
        found = unwrap(data, json=json)
        if found is None:
            continue
        seen, inner = found
        given = {
            name: _set(getattr(seen, name)) for name in ("version", "expires", "updates", "moved_to", "moving_from")
        }
        again = unwrap(wrap(inner, json=json, **given), json=json)
        assert again is not None
        assert again[1] == inner
        for name, value in given.items():
            assert (_set(getattr(again[0], name)) or None) == (value or None) or value == 0


def _set(value: Any) -> Any:
    return None if type(value).__name__ == "UnsetType" else value


def _plans() -> list[Any]:
    steps = {1: _same, 2.5: _same}
    options: list[dict[str, Any]] = [
        {},
        {"migrations": steps},
        {"encryption_keys": [KEY], "allow_unencrypted": True},
        {"compression": 10, "deduplicate": 3, "migrations": steps, "ttl": 60},
    ]
    return [SessionManager(type=kind, storage="memory:", **each).runtime for kind in (Any, Player) for each in options]


def _same(data: Any) -> Any:
    return data


_PLANS = _plans()


def form(data: bytes) -> None:
    """Whatever is stored gives a value or an error of the contract; what is beside it can be stored again."""
    for plan in _PLANS:
        with contextlib.suppress(SessionDecodeError, SessionMigrationError, SessionEncodeError):
            opened = plan.serializer.unpack("chat", data)
            if opened is None or not opened.empty:
                plan.serializer.loads("chat", data if opened is None else opened.data)
            if opened is not None:
                again = plan.serializer.unpack("chat", plan.serializer.pack("chat", b"1", opened, 7))
                assert again is not None
                assert again.moved_to == opened.moved_to
                assert 7 in again.updates


_KEYRING = Keyring([KEY])
_SEALED = _KEYRING.seal("chat", b"hunter2")


def encryption(data: bytes) -> None:
    """Nothing but what was sealed opens."""
    for sealed in (data, SEALED + data, _SEALED[:6] + data, _SEALED[:18] + data, _SEALED + data):
        try:
            _KEYRING.open("chat", sealed)
        except (CodecError, SessionDecryptError):
            continue
        assert sealed == _SEALED


def compression(data: bytes) -> None:
    """Never more than the limit."""
    with contextlib.suppress(CodecError):
        assert len(decompress(COMPRESSED + data, _LIMIT)) <= _LIMIT


_FOLDER = Path(tempfile.mkdtemp(prefix="chatsession-fuzz-"))
_PICKLE = _FOLDER / "bot.pickle"


def pickles(data: bytes) -> None:
    """Nothing is run; data, or an error."""
    _PICKLE.write_bytes(data)
    for allow in ((), ("*",)):
        with contextlib.suppress(PickleError):
            Plain(allow)(load(_PICKLE))


def lines(data: bytes) -> None:
    """A line of an export."""
    with contextlib.suppress(ValueError):
        _lines.session_of(_lines.parsed(data), now=0)


def names(data: bytes) -> None:
    """Keys and names, both ways; no file lies outside of its folder."""
    text = data.decode(errors="surrogateescape")
    for naming in (Names(), GrammyNames(), _nats_names):
        key = naming.key_of(text)
        assert key is None or naming.name_of(key) == text
        with contextlib.suppress(SessionKeyError):
            name = naming.name_of(text)
            digest = isinstance(naming, Names) and naming.is_digest(name)
            assert naming.key_of(name) == (None if digest else text)
            if isinstance(naming, Names):
                place = os.path.normpath(f"/a/{naming.folder_of(name)}/{name.rpartition('/')[2]}.json")
                assert place.startswith("/a/")
                assert place.count("/") == 3
    name = _redis_names.name_of(text)
    if isinstance(name, bytes):
        assert _redis_names.slot_of(_redis_names.lock_of(name)) == _redis_names.slot_of(name)
    _redis_names.locked_by(data)
    if "\0" not in text and text.isprintable():
        assert _records.unescaped(_records.escaped(text).encode()) == text


_EXPIRY = str(_FOLDER / "a.expires")


def beside(data: bytes) -> None:
    """What storages keep beside a session: NATS's header, the link that tells when a file expires."""
    import msgspec

    text = data.decode(errors="replace")
    with contextlib.suppress(msgspec.DecodeError):
        found = _nats_records.parse(text)
        assert _nats_records.parse(_nats_records.serialize(found) or "{}") == found
    with contextlib.suppress(FileNotFoundError):
        os.unlink(_EXPIRY)
    with contextlib.suppress(StorageError, OSError, ValueError):
        os.symlink(data, _EXPIRY)
        with contextlib.suppress(StorageError):
            try:
                _disk.read_expiry(_EXPIRY)
            except ValueError as error:
                raise AssertionError from error


def urls(data: bytes) -> None:
    """A storage, or an error of the contract."""
    text = data.decode(errors="surrogateescape")
    for scheme in ("", "redis:", "redis+sentinel:", "postgresql:", "nats:", "mongodb:", "sqlite:", "file:"):
        with contextlib.suppress(StorageError):
            repr(open_storage(scheme + text))


def views(data: bytes) -> None:
    """What the inspector shows of stored bytes can be stored again, and shows the same."""
    seen = view("chat", data, _KEYRING)
    with contextlib.suppress(UnusableTextError):
        again = stored_form("chat", seen, seen.text, seen.kind, _KEYRING)
        if seen.data is not None:
            assert view("chat", again, _KEYRING).text == seen.text


HARNESSES: dict[str, Callable[[bytes], None]] = {
    each.__name__: each
    for each in (codec, envelope, form, encryption, compression, pickles, lines, names, beside, urls, views)
}
