"""Moves a session from one key to another, atomically and once, even if a process dies at any point.

No storage changes two keys atomically, so the move is recorded before it is made:

1. the new key records "moving here from the old key",
2. the old key records "moved to the new key", and still has the data,
3. the new key has the data,
4. the old key keeps only the reference to the new one, for ever.

Before step 2 the session belongs to the old key, afterwards to the new one. Opening either key in between finds these
records and finishes the move first, with both keys locked.
"""

from __future__ import annotations

import logging
from typing import Any

from msgspec.structs import replace

from chatsession.errors import SessionConflictError, SessionError, shown
from chatsession.serialization.pipeline import NOTHING, Unpacked
from chatsession.storages import Action, Change
from chatsession.unit_of_work.locked_key import LockedKey, locked_key
from chatsession.unit_of_work.runtime import MOVED, Runtime, aside_key

_log = logging.getLogger("chatsession")

_TRIES = 20


async def move(runtime: Runtime[Any], old: str, new: str) -> None:
    """Move the session of one key to another; does nothing if it is there already.

    If either key has moved on, the session moves from the end of one chain to the end of the other, so that all
    keys of a chain lead to one session, in whatever order its moves arrive.

    Raises:
        SessionError: the user's `merge` failed, or one of the sessions cannot be read; nothing was moved.
    """
    if runtime.serializer.pipeline is None:
        await _move(runtime, old, new)
        return
    while True:  # until they lead to one key: either may move on meanwhile
        source, target = await _end(runtime, old), await _end(runtime, new)
        if source == target and source == old:  # it once moved here from the new key, and goes back
            target = new
        if source == target:
            return
        await _move(runtime, source, target)


async def follow(runtime: Runtime[Any], key: str, unpacked: Unpacked) -> str:
    """Finish a move that was found under a key. Returns the key that now has the session."""
    if unpacked.moving_from is not None:
        await _move(runtime, unpacked.moving_from, key)
        return key
    assert unpacked.moved_to is not None
    if not unpacked.empty:
        await _move(runtime, key, unpacked.moved_to)
    return unpacked.moved_to


async def _end(runtime: Runtime[Any], key: str) -> str:
    """The key to which a key leads, after all interrupted moves on the way are finished."""
    passed: set[str] = set()
    while key not in passed:
        passed.add(key)
        record = await runtime.coordinator.read(key)
        unpacked = None if record is None else runtime.serializer.unpack(key, record.value)
        if unpacked is None or (unpacked.moved_to is None and unpacked.moving_from is None):
            return key
        following = await follow(runtime, key, unpacked)
        if following == key:  # a move to this key was finished
            passed.discard(key)
        key = following
    return key


async def _move(runtime: Runtime[Any], old: str, new: str) -> None:
    """Move between these two keys, or finish a move between them."""
    if old == new:
        return
    tries = 0
    while True:
        try:
            async with (
                locked_key(runtime, min(old, new)) as first,
                locked_key(runtime, max(old, new)) as second,
            ):
                source, target = (first, second) if first.key == old else (second, first)
                if runtime.serializer.pipeline is None:
                    await _move_value(runtime, source, target)
                    return
                there, here = _unpacked(runtime, source), _unpacked(runtime, target)
                if there.moving_from is None and here.moving_from in (None, old):
                    await _move_bytes(runtime, source, there, target, here)
                    return
        except SessionConflictError:  # another program writes without locking
            tries += 1
            if tries == _TRIES:
                raise
        else:  # one that was broken off comes first: a key that moves on is moving from nowhere any more
            if there.moving_from is not None:
                await _move(runtime, there.moving_from, old)
            if here.moving_from not in (None, old):
                await _move(runtime, here.moving_from, new)


async def _move_bytes(
    runtime: Runtime[Any], source: LockedKey, there: Unpacked, target: LockedKey, here: Unpacked
) -> None:
    coming = here.moving_from == source.key
    if here.moved_to is not None:  # it once moved from here, and comes back
        here = replace(NOTHING, updates=here.updates, actions=here.actions)
    if there.moved_to == target.key and not coming:
        if not there.empty:  # only step 4 is missing
            await _put(runtime, source, None, replace(there, actions=()), ttl=None)
        return
    if there.moved_to not in (None, target.key):  # it went elsewhere meanwhile
        if coming:
            await _put(runtime, target, _data(here), replace(here, moving_from=None), ttl=runtime.ttl)
        return
    if there.empty:
        if coming:
            await _put(runtime, target, _data(here), replace(here, moving_from=None), ttl=runtime.ttl)
        await _put(runtime, source, None, replace(there, moved_to=target.key), ttl=None)
        return
    there = replace(there, moved_to=target.key)
    final, aside = _final(runtime, source.key, target.key, there, here)
    if not coming:
        await _put(runtime, target, _data(here), replace(here, moving_from=source.key), ttl=runtime.ttl)
    await _put(runtime, source, there.data, there, ttl=None)
    if aside is not None:
        await _set_aside(runtime, source.key, aside)
    await _put(runtime, target, final.data, final, ttl=runtime.ttl)
    await _put(runtime, source, None, replace(there, actions=()), ttl=None)
    _log.info("session %s moved to %s", shown(source.key), shown(target.key))


def _unpacked(runtime: Runtime[Any], held: LockedKey) -> Unpacked:
    if held.record is None:
        return NOTHING
    return runtime.serializer.unpack(held.key, held.record.value) or Unpacked(held.record.value)


def _data(unpacked: Unpacked) -> bytes | None:
    return None if unpacked.empty else unpacked.data


async def _put(
    runtime: Runtime[Any], held: LockedKey, data: bytes | None, beside: Unpacked, *, ttl: float | None
) -> None:
    assert runtime.serializer.pipeline is not None
    stored = runtime.serializer.pipeline.pack(held.key, data, beside, None)
    await held.put(stored, ttl)


def _final(runtime: Runtime[Any], old: str, new: str, there: Unpacked, here: Unpacked) -> tuple[Unpacked, bytes | None]:
    """What the new key will have, and the old chat's data if it must be set aside."""
    updates = tuple(dict.fromkeys((*there.updates, *here.updates)))
    base = there if here.empty else here
    actions = tuple({each.update: each for each in (*there.actions, *here.actions)}.values())
    final = replace(base, moved_to=None, moving_from=None, updates=updates, actions=actions, empty=False)
    if here.empty:
        return final, None
    if runtime.merge is None:
        return final, there.data
    return replace(final, data=_merged(runtime, old, new, there.data, here.data)), None


def _merged(runtime: Runtime[Any], old: str, new: str, there: bytes, here: bytes) -> bytes:
    assert runtime.merge is not None
    try:
        value = runtime.merge(runtime.serializer.loads(old, there), runtime.serializer.loads(new, here))
    except SessionError:
        raise
    except Exception as error:
        raise SessionError(f"merge raised {type(error).__name__} when {shown(old)} moved here", key=new) from error
    encoded = runtime.serializer.dumps(new, value, None)
    assert encoded is not None
    return encoded


async def _set_aside(runtime: Runtime[Any], old: str, data: bytes) -> None:
    aside = aside_key(MOVED, old, data)
    stored = runtime.serializer.pack(aside, data, None, None)
    await runtime.coordinator.commit(Change(aside, Action.PUT, stored))
    _log.warning(
        "session %s moved to where one was already, which stays; the old one was set aside under %s "
        "(pass merge=… to make one of two)",
        shown(old),
        shown(aside),
    )


async def _move_value(runtime: Runtime[Any], source: LockedKey, target: LockedKey) -> None:
    """Move within a `StorageAdapter`, whose values have no place for a reference to the new key."""
    if source.record is None:
        return
    value = source.record.value
    if target.record is not None:
        if runtime.merge is None:
            _log.warning("session %s has moved to %s, where one was already", shown(source.key), shown(target.key))
            return
        value = _merged(runtime, source.key, target.key, value, target.record.value)
    await target.put(value, None)
    await source.delete()
