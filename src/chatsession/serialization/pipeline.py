"""The steps between a codec's bytes and what is stored: version, envelope, compression, encryption."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Protocol

from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import replace

from chatsession.errors import SessionDecryptError
from chatsession.serialization.codec import CodecError
from chatsession.serialization.compression import COMPRESSED, Compressor, decompress
from chatsession.serialization.encryption import SEALED, Keyring
from chatsession.serialization.envelope import Envelope, StoredAction, UpdateActions, looks_enveloped, unwrap, wrap
from chatsession.serialization.migrations import Migration, Migrations

_LARGEST = 16 * 1024 * 1024
"""Bytes that compressed data may have, should `max_size` be smaller today than it was."""

_LARGEST_EMPTY = 65_536
"""Bytes that the memory of a session can have; more is data."""


class Unpacked(Struct, frozen=True, gc=False):
    """What is stored under a key, less the steps."""

    data: bytes
    """For the codec, of the latest version; empty where there is none."""
    empty: bool = False
    """There is no session: it was deleted, has moved, or is over."""
    outdated: bool = False
    """It would be stored in another form today: another version, another key, or encrypted at all."""
    schema_version: float | None = None
    expires: float | None = None
    updates: tuple[int | str, ...] = ()
    moved_to: str | None = None
    moving_from: str | None = None
    actions: tuple[UpdateActions, ...] = ()
    """Of updates, in the order of their commits; some may be sent."""


NOTHING = Unpacked(b"", empty=True)
"""Nothing is stored."""


class PipelineOptions(Protocol):
    """The options of a manager that decide about the form of what is stored (see `SessionOptions`)."""

    @property
    def migrations(self) -> Mapping[float, Migration] | None: ...
    @property
    def encryption_keys(self) -> Sequence[str | bytes]: ...
    @property
    def allow_unencrypted(self) -> bool: ...
    @property
    def compression(self) -> int | None: ...
    @property
    def deduplicate(self) -> int: ...
    @property
    def max_size(self) -> int: ...


class Pipeline:
    """How the sessions of one manager are stored.

    Args:
        options: of the manager.
        json: its codec makes JSON.
        ttl: seconds that a session lives, if they end at all.
    """

    def __init__(self, options: PipelineOptions, *, json: bool, ttl: float | None) -> None:
        self._json = json
        self._migrations = Migrations(options.migrations) if options.migrations is not None else None
        keys = options.encryption_keys
        # An empty text, as of a variable that is not set, is a mistake, and not no encryption.
        self._keyring = Keyring(keys) if keys or isinstance(keys, (str, bytes, int, float)) else None
        self._compressor = Compressor(options.compression) if options.compression is not None else None
        self._allow_unencrypted = options.allow_unencrypted
        self._most_updates = options.deduplicate
        self._largest = max(options.max_size, _LARGEST)
        self._ttl = ttl
        self.reads_bare: bool = self._migrations is None and self._keyring is None
        """What does not look like an envelope is the codec's own output."""
        self.writes_bare: bool = self.reads_bare and self._compressor is None

    def unpack(self, key: str, stored: bytes) -> Unpacked:
        """Undo all steps.

        Raises:
            CodecError: it was altered or cut.
            SessionDecryptError: there is no key for it, or it is not encrypted and should be.
            SessionMigrationError: it could not be brought up to date.
        """
        data, found, outdated = self._unpacked(key, stored)
        if found is None:
            return self._up_to_date(key, Unpacked(data, outdated=outdated))
        envelope, inner = found
        expires = _or_none(envelope.expires)
        over = expires is not None and expires <= time.time() * 1000
        unpacked = Unpacked(
            inner or b"",
            inner is None or over,
            outdated or (expires is not None and self._ttl is not None),
            _or_none(envelope.version),
            None if over or self._ttl is not None else expires,
            tuple(envelope.updates or ()),
            envelope.moved_to or None,
            envelope.moving_from or None,
            envelope.actions or (),
        )
        return replace(unpacked, data=b"") if unpacked.empty else self._up_to_date(key, unpacked)

    def is_empty(self, key: str, stored: bytes) -> bool:
        """Whether only a session's memory is left. Quicker than `unpack`; what cannot be read is a session."""
        if (self.reads_bare and not looks_enveloped(stored)) or len(stored) > _LARGEST_EMPTY:
            return False
        try:
            _, found, _ = self._unpacked(key, stored)
        except (CodecError, SessionDecryptError):
            return False
        return found is not None and (found[1] is None or bool(found[0].moved_to))

    def would_drop(self, key: str, stored: bytes) -> str | None:
        """Tell which field migrations would drop that they neither read nor pass on; see `Migrations.would_drop`."""
        if self._migrations is None:
            return None
        data, found, _ = self._unpacked(key, stored)
        version = None if found is None else _or_none(found[0].version)
        data = data if found is None else found[1]
        return self._migrations.would_drop(key, data, version) if data else None

    def pack(
        self,
        key: str,
        data: bytes | None,
        beside: Unpacked | None,
        update: int | str | None,
        actions: tuple[StoredAction, ...] = (),
    ) -> bytes:
        """Take all steps; gives what to store.

        Args:
            key: the session key, with its prefix.
            data: the codec's output; `None`: nothing is left of the session.
            beside: what is to be kept of that which was stored before.
            update: the update that did this, to be remembered.
            actions: of that update, which are not sent yet.
        """
        beside = beside or NOTHING
        updates = beside.updates
        if update is not None and update not in updates:
            updates = (*updates, update)[-self._most_updates :]
        waiting = beside.actions
        if waiting or actions:
            waiting = tuple(each for each in waiting if each.update != update and each.update in updates)
            if actions and update is not None:
                waiting = (*waiting, UpdateActions(update, actions))
        version = self._migrations.latest if self._migrations is not None else beside.schema_version
        expires = beside.expires
        if data is None:
            version = expires = None
        stored = data
        bare = version is expires is beside.moved_to is beside.moving_from is None and not updates
        if stored is None or not bare or (looks_enveloped(stored) and self._ambiguous(stored)):
            stored = wrap(
                data,
                json=self._json,
                version=version,
                expires=expires,
                updates=list(updates),
                moved_to=beside.moved_to,
                moving_from=beside.moving_from,
                actions=waiting,
            )
        if self._compressor is not None:
            stored = self._compressor.compress(stored)
        return stored if self._keyring is None else self._keyring.seal(key, stored)

    def _ambiguous(self, data: bytes) -> bool:
        """Would a user's own data be taken for an envelope?"""
        return data[:1] == SEALED[:1] or unwrap(data, json=self._json) is not None

    def _unpacked(self, key: str, stored: bytes) -> tuple[bytes, tuple[Envelope, bytes | None] | None, bool]:
        """The data without encryption and compression, the envelope that it may be, and whether it is outdated."""
        data, outdated = self._decrypted(key, stored)
        if data.startswith(COMPRESSED):
            data = decompress(data, self._largest)
        return data, unwrap(data, json=self._json) if looks_enveloped(data) else None, outdated

    def _decrypted(self, key: str, stored: bytes) -> tuple[bytes, bool]:
        if stored.startswith(SEALED):
            if self._keyring is None:
                raise SessionDecryptError("it is encrypted; give the manager its encryption_keys", key=key)
            return self._keyring.open(key, stored), not self._keyring.newest(stored)
        if self._keyring is not None and not self._allow_unencrypted:
            raise SessionDecryptError(
                "it is not encrypted, although encryption_keys are given; while old data is being encrypted, pass "
                "allow_unencrypted=True",
                key=key,
            )
        return stored, self._keyring is not None

    def _up_to_date(self, key: str, unpacked: Unpacked) -> Unpacked:
        migrations = self._migrations
        if migrations is None or unpacked.schema_version == migrations.latest:
            return unpacked
        data = migrations.run(key, unpacked.data, unpacked.schema_version)
        return replace(unpacked, data=data, outdated=True, schema_version=migrations.latest)


def _or_none(value: float | UnsetType | None) -> float | None:
    return None if value is UNSET or value is None else value
