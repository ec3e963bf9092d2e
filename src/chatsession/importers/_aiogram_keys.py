"""The keys of aiogram's FSM storages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from chatsession.importers._entries import is_id


class KeyBuilder(Protocol):
    """What aiogram's `DefaultKeyBuilder` says about its keys."""

    prefix: str
    separator: str
    with_bot_id: bool
    with_business_connection_id: bool
    with_destiny: bool


@dataclass
class DefaultKeys:
    """The settings of a `DefaultKeyBuilder`, with aiogram's defaults; its own object will do as well."""

    prefix: str = "fsm"
    separator: str = ":"
    with_bot_id: bool = False
    with_business_connection_id: bool = False
    with_destiny: bool = False


def ids_of(name: str, part: str, keys: KeyBuilder) -> dict[str, Any] | None:
    """What is in a key: `prefix:[bot:][business connection:]chat:[topic:]user:[destiny:][part]`."""
    start, end = keys.prefix + keys.separator, keys.separator + part if part else ""
    if not name.startswith(start) or not name.endswith(end):
        return None
    inner = name[len(start) : len(name) - len(end)]
    left = inner.split(keys.separator)
    ids: dict[str, Any] = {}
    if keys.with_bot_id:
        if not is_id(left[0]):
            return None
        ids["bot_id"] = int(left.pop(0))
    if keys.with_business_connection_id and left and not is_id(left[0]):
        ids["business_connection_id"] = left.pop(0)
    after = 1 if keys.with_destiny else 0
    numbers = 3 if len(left) >= 3 + after and all(map(is_id, left[:3])) else 2
    if len(left) < numbers + after or not all(map(is_id, left[:numbers])):
        return None
    chat, *topic, user = map(int, left[:numbers])
    ids |= {"chat_id": chat, "user_id": user, "thread_id": topic[0] if topic else None}
    rest = keys.separator.join(left[numbers:])
    if keys.with_destiny:
        ids["destiny"] = rest
    elif len(left) > numbers:
        return None
    return ids
