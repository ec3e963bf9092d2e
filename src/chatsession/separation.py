"""Checks that the managers of one bot use different keys, so that none waits for, or overwrites, another's sessions."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations
from typing import Any

from chatsession.keys import per_chat, per_topic, per_user, per_user_in_chat
from chatsession.manager import SessionManager

_OUR_KEY_FUNCTIONS = frozenset((per_chat, per_topic, per_user, per_user_in_chat))
"""They return equal keys in private chats."""


def check_separate(named: Iterable[tuple[str, SessionManager[Any]]]) -> None:
    """Raise an error if two managers of one bot have the same keys in the same storage.

    Args:
        named: managers with the names by which their user knows them.

    Raises:
        ValueError: two managers have the same keys.
    """
    for (earlier_name, earlier), (name, manager) in combinations(named, 2):
        if _same_storage(earlier, manager) and _same_keys(earlier, manager):
            raise ValueError(
                f"{earlier_name!r} and {name!r} would have the same keys in the same storage; "
                f"give one of them a prefix, as in prefix='{name}:'"
            )


def _same_storage(one: SessionManager[Any], other: SessionManager[Any]) -> bool:
    return one.storage is other.storage or (one.storage.shared and one.options.storage == other.options.storage)


def _same_keys(one: SessionManager[Any], other: SessionManager[Any]) -> bool:
    functions = {one.options.get_session_key, other.options.get_session_key}
    return one.options.prefix == other.options.prefix and (len(functions) == 1 or functions <= _OUR_KEY_FUNCTIONS)
