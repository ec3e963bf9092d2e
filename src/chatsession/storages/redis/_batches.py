"""Splits a batch into calls, and puts their replies together again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias, cast

from chatsession.errors import SessionError, StorageError
from chatsession.storages.redis._call import Call
from chatsession.storages.redis._calls import Calls
from chatsession.storages.redis._connection import Word
from chatsession.storages.redis._errors import of_key
from chatsession.storages.redis._names import lock_of

Names: TypeAlias = Sequence[bytes | SessionError]
Prepare: TypeAlias = Callable[[Sequence[int], Sequence[bytes]], Call]
"""Makes a call for some of the items, given their indexes and the names of all."""

_BYTES_PER_SCRIPT = 1 << 18


def portions_of(names: Sequence[bytes | SessionError], most: int, sizes: Sequence[int] | None) -> list[Sequence[int]]:
    """Return the indexes of all valid names, in groups that one script call may handle."""
    numbers: Sequence[int] = range(len(names))
    if any(type(name) is not bytes for name in names):
        numbers = [number for number in numbers if not isinstance(names[number], SessionError)]
    if sizes is not None and sum(sizes) > _BYTES_PER_SCRIPT:
        return _portions_by_size(numbers, most, sizes)
    return [numbers[start : start + most] for start in range(0, len(numbers), most)]


def _portions_by_size(numbers: Sequence[int], most: int, sizes: Sequence[int]) -> list[Sequence[int]]:
    portions: list[list[int]] = []
    free = 0
    for number in numbers:
        if not portions or len(portions[-1]) == most or sizes[number] > free:
            portions.append([])
            free = _BYTES_PER_SCRIPT
        portions[-1].append(number)
        free -= sizes[number]
    return list[Sequence[int]](portions)


async def replies_for(
    calls: Calls, names: Names, portions: Sequence[Sequence[int]], width: int, prepare: Prepare, replicas: int
) -> Sequence[Sequence[Any] | SessionError]:
    """Call a script for all names, in one round trip.

    Args:
        calls: what sends the calls.
        names: the names of the sessions, or the error of an invalid key.
        portions: the indexes of those that one call handles, as `portions_of` gives them.
        width: how many replies the script returns for each.
        prepare: makes a call.
        replicas: how many replicas must have the changes.

    Returns:
        For each name: the replies, or the error of this session alone.

    Raises:
        StorageError: all calls failed.
    """
    good = cast("Sequence[bytes]", names)  # in those places that the portions name
    made = [prepare(numbers, good) for numbers in portions]
    await calls.run(made, replicas)
    if len(made) == 1 and len(portions[0]) == len(names) and not isinstance(made[0].reply, StorageError):
        return list(_in_groups(made[0], width))
    results = cast("list[Sequence[Any] | SessionError]", list(names))
    failed = 0
    for numbers, call in zip(portions, made, strict=True):
        if isinstance(call.reply, StorageError):
            failed += 1
            if failed == len(made):
                raise call.reply
            replies = [call.reply] * len(numbers)
        else:
            replies = _in_groups(call, width)
        for number, each in zip(numbers, replies, strict=True):
            results[number] = each
    return results


def with_locks(sessions: Sequence[bytes]) -> list[Word]:
    """Return the keys of sessions, each followed by the key of its lock."""
    keys: list[Word] = []
    for name in sessions:
        keys += (name, lock_of(name))
    return keys


def only(reply: Sequence[Any] | SessionError, key: str) -> object:
    """Return the only reply for a key, or raise its error."""
    if isinstance(reply, SessionError):
        raise reply
    if isinstance(reply[0], Exception):
        raise of_key(reply[0], key)
    return reply[0]


def _in_groups(call: Call, width: int) -> Iterator[Sequence[Any]]:
    """The replies of a script for each session, and after them that of the command behind it, if there is one."""
    columns = [iter(cast("list[object]", call.reply))] * width
    if call.behind is not None:
        columns.append(iter(cast("list[object]", call.values)))
    return zip(*columns, strict=True)
