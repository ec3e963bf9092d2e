"""Sessions of every kind: how a bot of any version stores them, and what every later version must find."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

from chatsession import SessionFlavor, SessionManager
from chatsession.storages import Record, Storage

OLD_KEY, NEW_KEY = "b2xk" * 10 + "b2w=", "bmV3" * 10 + "bmU="
LIFETIME = timedelta(days=36_500)
"""Far beyond the time for which anybody will run these tests."""


@dataclass
class Player:
    name: str = ""
    coins: int = 0
    tags: list[str] = field(default_factory=list[str])
    since: datetime | None = None


PLAYERS = {
    "42": Player("Ann", 7, ["a"], datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)),
    "-1001234567890": Player(),
    "Üb/er all ☕️": Player("🍕" * 50, 1 << 62),
    "long " * 60: Player("\u0001\u0000'\"\\", -1),
}
MANY = {"7": ["pizza"] * 500, "8": ["few"]}


def _to_coins(data: dict[str, int]) -> dict[str, int]:
    return {"coins": data["gold"]}


def _to_cents(data: dict[str, int]) -> dict[str, int]:
    return {"cents": data["coins"] * 100}


@dataclass(frozen=True)
class Kind:
    """One kind of session."""

    type: Any
    found: dict[str, Any]
    """What a bot of today finds, by key."""
    options: dict[str, Any] = field(default_factory=dict[str, Any])
    """Of the bot of today."""
    written: Sequence[tuple[dict[str, Any], dict[str, Any]]] | None = None
    """By which bots of earlier days what was stored, if not by that of today what it finds."""
    moves: dict[str, str] = field(default_factory=dict[str, str])
    """From which key to which the sessions have moved."""


KINDS: dict[str, Kind] = {
    "plain": Kind(Player, PLAYERS),
    "migrated": Kind(
        dict[str, int],
        {"1": {"cents": 100}, "2": {"cents": 200}, "3": {"cents": 300}},
        {"migrations": {1: _to_coins, 2.5: _to_cents}},
        [
            ({}, {"1": {"gold": 1}}),
            ({"migrations": {1: _to_coins}}, {"2": {"coins": 2}}),
            ({"migrations": {1: _to_coins, 2.5: _to_cents}}, {"3": {"cents": 300}}),
        ],
    ),
    "compressed": Kind(list[str], MANY, {"compression": 100}),
    "encrypted": Kind(
        Player,
        {**PLAYERS, "old": Player("old")},
        {"encryption_keys": [NEW_KEY, OLD_KEY]},
        [({"encryption_keys": [OLD_KEY]}, {"old": Player("old")}), ({"encryption_keys": [NEW_KEY]}, PLAYERS)],
    ),
    "deduplicated": Kind(Player, PLAYERS, {"deduplicate": 3}),
    "moved": Kind(
        Player, {**PLAYERS, "-100": Player("from")}, {}, [({}, {**PLAYERS, "-1": Player("from")})], {"-1": "-100"}
    ),
    "moved onto": Kind(
        int, {"-200": 2}, {}, [({}, {"-2": 1, "-200": 2})], {"-2": "-200"}
    ),
    "expiring": Kind(Player, PLAYERS, {"ttl": LIFETIME}),
    "expiring once": Kind(Player, PLAYERS, {"ttl": LIFETIME, "expiry": "fixed"}),
    "all": Kind(
        list[str],
        MANY,
        {
            "compression": 100,
            "encryption_keys": [NEW_KEY],
            "deduplicate": 3,
            "ttl": LIFETIME,
            "migrations": {1: lambda data: data},
        },
    ),
}  # fmt: skip


class Update(SessionFlavor[Any]):
    def __init__(self, key: str, update_id: int) -> None:
        self.key = key
        self.update_id = update_id


Managing: TypeAlias = AbstractAsyncContextManager[SessionManager[Any]]


def _manager(storage: Storage, name: str, options: dict[str, Any]) -> Managing:
    return SessionManager(
        type=KINDS[name].type, storage=storage, prefix=f"{name}:", get_session_key=lambda ctx: ctx.key, **options
    )


async def _deliver(sessions: SessionManager[Any], key: str, update_id: int, change: Callable[[Any], Any]) -> bool:
    """An update in which a handler changes the session; did it run?"""
    ctx = Update(key, update_id)
    ran = False

    async def handler() -> None:
        nonlocal ran
        ran = True
        ctx.session = change(ctx.session)

    await sessions.middleware()(ctx, handler)
    return ran


async def store(storage: Storage, name: str) -> None:
    """Store what the bots of one kind have stored."""
    kind = KINDS[name]
    for options, data in kind.written or [(kind.options, kind.found)]:
        async with _manager(storage, name, options) as sessions:
            for number, (key, value) in enumerate(data.items()):
                await _deliver(sessions, key, number, lambda _, value=value: value)
            for old, new in kind.moves.items():
                await sessions.move(old, new)


async def check_read(storage: Storage, name: str) -> None:
    """What was stored is found, by its key and among all, and lives as long as it should."""
    kind = KINDS[name]
    async with _manager(storage, name, kind.options) as sessions:
        for key, value in kind.found.items():
            assert await sessions.get(key) == value
        for old, new in kind.moves.items():
            assert await sessions.get(old) == kind.found[new]
        assert {key: value async for key, value in sessions.entries()} == kind.found
        assert {key async for key in sessions.keys()} == kind.found.keys()  # noqa: SIM118 - no dict's
        for key in kind.found:
            (record,) = await storage.read_many([f"{name}:{key}"])
            assert isinstance(record, Record)
            assert (record.expires_at is not None) == ("ttl" in kind.options)


async def check_redelivered(storage: Storage, name: str) -> None:
    """The updates that were handled are still known."""
    kind = KINDS[name]
    async with _manager(storage, name, kind.options) as sessions:
        for options, data in kind.written or [(kind.options, kind.found)]:
            for number, key in enumerate(data):
                ran = await _deliver(sessions, key, number, lambda value: value)
                assert ran == (not options.get("deduplicate"))


async def check_written_on(storage: Storage, name: str) -> None:
    """Every session can be changed, deleted and made again."""
    kind = KINDS[name]
    async with _manager(storage, name, kind.options) as sessions:
        for key, value in kind.found.items():
            assert await _deliver(sessions, key, 1000, lambda found: _changed(found))
            assert await sessions.get(key) == _changed(value)
        for old, new in kind.moves.items():
            await _deliver(sessions, old, 1001, lambda _, new=new: kind.found[new])
            assert await sessions.get(new) == kind.found[new]
    async with _manager(storage, name, kind.options) as sessions:
        for key, value in kind.found.items():
            await _deliver(sessions, key, 1002, lambda _: None)
            assert await sessions.get(key) is None
            await _deliver(sessions, key, 1003, lambda _, value=value: value)
        assert not (await sessions.rewrite()).failed
    await check_read(storage, name)


async def count_all(storage: Storage) -> int:
    """How many keys there are, of sessions and of what is set aside or left as a memory, without those of prefixes."""
    count, cursor = 0, None
    while True:
        keys, cursor = await storage.scan_keys("", cursor, 500)
        count += sum(not key.startswith("!prefix:") for key in keys)
        if cursor is None:
            return count


def _changed(value: Any) -> Any:
    if isinstance(value, Player):
        return replace(value, coins=5, name=value.name + "!")
    if isinstance(value, int):
        return value + 1
    return {**value, "more": 1} if isinstance(value, dict) else [*value, "more"]
