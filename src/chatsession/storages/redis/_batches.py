"""Splits a batch into calls, and puts their replies together again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, TypeAlias, TypeVar, cast

from chatsession.errors import SessionError, SessionKeyError, StorageError
from chatsession.storages.base import Change
from chatsession.storages.redis._call import Call
from chatsession.storages.redis._calls import Calls
from chatsession.storages.redis._errors import of_key, too_long
from chatsession.storages.redis._names import name_of

Item = TypeVar("Item")
Replies: TypeAlias = Sequence[Any]


async def replies_for(
    calls: Calls,
    keys: Sequence[str],
    items: Sequence[Item],
    prepare: Callable[[Sequence[bytes], Sequence[Item]], Call],
    replicas: int = 0,
) -> Sequence[Replies | SessionError]:
    """Call a script for all items, in one round trip.

    Args:
        calls: what sends the calls.
        keys: the session keys of the items.
        items: the batch.
        prepare: makes a call for some of the items, given the names of their keys in Redis.
        replicas: how many replicas must have the changes.

    Returns:
        For each item: what the script and the `MGET` after it replied, or the error of this session alone.

    Raises:
        StorageError: all calls failed.
    """
    names = [name_of(key) for key in keys]
    most = calls.servers.items_per_script
    sent = [pair for pair in zip(names, items, strict=True) if type(pair[0]) is bytes]
    portions = [sent[start : start + most] for start in range(0, len(sent), most)]
    made = [prepare(*cast("Any", zip(*portion, strict=True))) for portion in portions]
    await calls.run(made, replicas)
    if made and all(call.error is not None and not call.unread for call in made):
        raise cast("SessionError", made[-1].error)
    replies = chain.from_iterable(map(_by_session, made, map(len, portions)))
    results = [next(replies) if type(name) is bytes else cast("SessionError", name) for name in names]
    unread = [call.error for call in made if call.unread]
    if unread:
        # The server does not say which string is too long, but the longest one is.
        places = [place for place, result in enumerate(results) if result in unread]
        longest = max(places, key=lambda place: max(len(cast("bytes", names[place])), len(_value(items[place]))))
        results[longest] = too_long(keys[longest], cast("bytes", names[longest]), _value(items[longest]))
        places.remove(longest)
        try:
            again = await replies_for(
                calls, [keys[place] for place in places], [items[place] for place in places], prepare, replicas
            )
        except StorageError as error:
            again = [error] * len(places)
        for place, result in zip(places, again, strict=True):
            results[place] = result
    return results


def _value(item: object) -> bytes:
    return item.value if isinstance(item, Change) else b""


def only(reply: Replies | SessionError, key: str) -> object:
    """Return the only reply for a key, or raise its error. `None`: no such key can be stored."""
    if isinstance(reply, SessionKeyError):
        return None
    if isinstance(reply, SessionError):
        raise reply
    if isinstance(reply[0], Exception):
        raise of_key(reply[0], key)
    return reply[0]


def _by_session(call: Call, count: int) -> Iterable[Replies | SessionError]:
    """Group the lists that the commands replied; each has one or more entries in a row for each session."""
    if call.error is not None:
        return [call.error] * count
    columns: list[Iterator[object]] = []
    for reply in call.replies:
        if isinstance(reply, list):
            entries = cast("list[object]", reply)
            columns += [iter(entries)] * (len(entries) // count)
    return zip(*columns, strict=True)
