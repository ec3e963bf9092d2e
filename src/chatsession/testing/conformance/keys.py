"""Any string is a key: stored, or refused with a `SessionKeyError`, and never mapped onto another."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from chatsession.errors import SessionError, SessionKeyError
from chatsession.storages import Action, Change, Committed, Lease, Locked, Storage
from chatsession.testing.conformance.single import number, request, scan_all, scan_all_keys
from chatsession.testing.conformance.suite import StorageSuite

MIB = 1024 * 1024
ODD_KEYS = [
    # as they are in most bots
    "424242", "-100123", "-100123:42", "424242:-100123", "bot:424242",
    # paths, and what leads out of a folder
    "a", "a/b", "a//b", "/a", "a/", "/", "//", ".", "..", "../a", "../../etc/passwd", "a/../b", "b", "./a", "a/.",
    "a/..", "~", "~/a", "C:", "C:\\a", "\\", "\\\\server\\share", "a\\b", "CON", "con", "NUL", "COM1.txt", "a.",
    "a..", ".a", "-a",
    # control characters, spaces and quotes
    "\0", "a\0", "a\0b", "\0a", "\n", "a\nb", "a\r\nb", "a\rb", "\t", "a\x7f", "a\x85b", "a\u2028b", " ", "  ",
    "a ", " a", "a b", "a  b", "a\u00a0b", "'", '"', "a'b", 'a"b', "a;b", "a`b`", "$(a)",
    "'; DROP TABLE sessions; --",
    # what somebody's escapes, patterns or separators could be
    "%", "%%", "%61", "a%2Fb", "a%2fb", "%2e%2e", "a%00b", "a%", "a%2", "=2F", "a=2Fb", "a+b", "a_b", "a-b", "_",
    "__", "*", "a*", "a.*", ">", "a.>", "?", "[a]", "{a}", "{a}b", "a{b}", "{", "}", "{}", "a:b", ":", "::", "a|b",
    "a,b", "a@b", "#", "a#b", "&", "\\x00", "\\u0000", "\\0", "a.b", "a..b", "$a", "~1", "~0", "xn--a", "YQ==",
    "YQ", "61", "0x61",
    # case, and letters that only look the same
    "A", "aB", "AB", "Ab", "ab", "é", "e\u0301", "É", "E\u0301", "ß", "SS", "ss", "ſ", "s", "K", "\u212a", "k", "ı",
    "İ", "i\u0307", "ﬁ", "fi", "①", "1", "01", "１", "\u200b", "a\u200bb", "\ufeff", "\ufeffa", "\u202ea", "\u0430",
    # far planes of Unicode
    "🍕", "👨‍👩‍👧", "👨👩👧", "🇫🇷", "\U0001f1eb", "\uffff", "\ufffd", "\U0010ffff", "\U00010000", "\ue000",
    "日本語", "שלום", "नमस्ते",
    # half of a surrogate pair, which no text has that came from outside
    "\ud800", "a\udfffb", "\udcff",
    # names that a storage might use inside
    "lock:a", "a:lock", "{a}:lock", "a.lock", ".lock", "lock", "locks", "queue:a", "a:queue", "a:waiters",
    "a:token", "fence:a", "a:fence", "a:version", "a.json", "a.json.tmp", "a.tmp", ".tmp", "sessions",
    "chatsession", "_", "None", "null", "true", "0", "-1", "!quarantine:a", "__d", "key", "schema", "_schema",
    "index", "meta",
    # long ones, the same for very long
    "x" * 100, "x" * 250, "x" * 255, "x" * 256, "x" * 1_000, "x" * 4_000, "é" * 255, "🍕" * 255, "a/" * 2_000,
    "../" * 500, "%" * 300, "x" * MIB, "x" * (MIB - 1) + "y", "X" + "x" * (MIB - 1), "🍕" * (MIB // 4),
]  # fmt: skip


class KeyTests(StorageSuite):
    """All odd keys at once, so that any two which are mapped onto one are found."""

    @property
    def odd_keys(self) -> Sequence[str]:
        return list(dict.fromkeys([*ODD_KEYS, *self.more_keys]))

    async def test_every_key_is_stored_or_refused_and_none_is_another(self, storage: Storage, other: Storage) -> None:
        keys = self.odd_keys
        stored = await _store(storage, keys)
        assert {"424242", "-100123:42"} <= stored.keys(), "the keys of chats can be stored"
        await _are_stored(other, stored)

        found = await other.read_many(keys)
        for key, record in zip(keys, found, strict=True):
            if key not in stored:
                assert record is None or isinstance(record, SessionKeyError), _shown(key)

    async def test_every_stored_key_is_enumerated_as_it_is(self, storage: Storage, other: Storage) -> None:
        stored = await _store(storage, self.odd_keys)
        entries = await scan_all(other, limit=50)
        assert _sorted(key for key, _ in entries) == _sorted(stored)
        assert {key: record.value for key, record in entries} == stored
        assert _sorted(await scan_all_keys(other, limit=50)) == _sorted(stored)

    async def test_deleting_one_key_deletes_no_other(self, storage: Storage, other: Storage) -> None:
        stored = await _store(storage, self.odd_keys)
        gone = list(stored)[::2]
        outcomes = await storage.commit_many([Change(key, Action.DELETE) for key in gone])
        assert all(outcome == Committed(None) for outcome in outcomes)
        assert set(await other.read_many(gone)) <= {None}
        await _are_stored(other, {key: value for key, value in stored.items() if key not in set(gone)})

    async def test_locking_one_key_locks_no_other(self, storage: Storage, other: Storage) -> None:
        """Each odd key is locked and waited for, while all of them are stored: no name inside meets a key."""
        keys = self.odd_keys
        stored = await _store(storage, keys)
        found = await storage.lock_many([request(key) for key in keys])
        locked: dict[str, Locked] = {}
        for key, each in zip(keys, found, strict=True):
            if isinstance(each, SessionError):
                assert isinstance(each, SessionKeyError), _shown(key)
                assert key not in stored, _shown(key)
                continue
            assert each is not None, f"{_shown(key)} is locked together with another key"
            assert each.lease.key == key
            assert each.record is not None
            assert each.record.value == stored[key], _shown(key)
            locked[key] = each
        assert locked.keys() == stored.keys()

        waiting = [request(key) for key in locked]
        assert set(await other.lock_many(waiting)) == {None}
        await _are_stored(other, stored)
        await other.abandon_many(waiting)

        unlocking = [
            Change(key, Action.PUT, b"7", each.record and each.record.version, lease=each.lease, unlock=True)
            for key, each in locked.items()
        ]
        for change, outcome in zip(unlocking, await storage.commit_many(unlocking), strict=True):
            assert type(outcome) is Committed, _shown(change.key)
        await _are_stored(other, dict.fromkeys(stored, b"7"))

    async def test_a_refused_key_fails_no_neighbour(self, storage: Storage) -> None:
        keys = self.odd_keys
        stored = await _store(storage, keys)
        refused = [key for key in keys if key not in stored]
        batch = ["before", *refused, "after"]
        outcomes = await storage.commit_many([Change(key, Action.PUT, b"1") for key in batch])
        assert type(outcomes[0]) is type(outcomes[-1]) is Committed
        found = await storage.read_many(batch)
        assert [getattr(record, "value", None) for record in (found[0], found[-1])] == [b"1", b"1"]
        locked = await storage.lock_many([request(key) for key in batch])
        leases = [
            each.lease if isinstance(each, Locked) else Lease(key, 1) for key, each in zip(batch, locked, strict=True)
        ]
        assert list(await storage.renew_many(leases, 600.0)) == [True, *(False for _ in refused), True]
        await storage.abandon_many([request(key) for key in batch])
        for key in refused:
            (error,) = await storage.commit_many([Change(key, Action.PUT, b"1")])
            assert isinstance(error, SessionKeyError)
            assert len(str(error)) < 1_000, "a message does not repeat a very long key"


async def _store(storage: Storage, keys: Sequence[str]) -> dict[str, bytes]:
    """Store a number of its own under each key. Returns those that were not refused."""
    values = {key: number(n + 100) for n, key in enumerate(keys)}
    outcomes = await storage.commit_many([Change(key, Action.PUT, value) for key, value in values.items()])
    stored: dict[str, bytes] = {}
    for (key, value), outcome in zip(values.items(), outcomes, strict=True):
        if isinstance(outcome, SessionKeyError):
            continue
        assert type(outcome) is Committed, (_shown(key), outcome)
        stored[key] = value
    return stored


async def _are_stored(storage: Storage, stored: dict[str, bytes]) -> None:
    found = await storage.read_many(list(stored))
    for (key, value), record in zip(stored.items(), found, strict=True):
        assert record is not None, f"{_shown(key)} is gone"
        assert not isinstance(record, SessionError), record
        assert record.value == value, f"{_shown(key)} was mapped onto another key"


def _sorted(keys: Iterable[str]) -> list[str]:
    """For a comparison whose failure can be read: very long keys are cut."""
    return sorted(map(_shown, keys))


def _shown(key: str) -> str:
    return repr(key) if len(key) < 60 else f"{key[:25]!r}…{key[-25:]!r} ({len(key)} characters)"
