"""Managers of one bot have keys of their own, so that none waits for, or overwrites, the sessions of another."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations
from typing import Any

from chatsession.keys import per_chat, per_topic, per_user, per_user_in_chat
from chatsession.manager import SessionManager

_KEYS_OF_OURS = frozenset((per_chat, per_topic, per_user, per_user_in_chat))
"""They give the same keys in private chats."""


def check_separate(named: Iterable[tuple[str, SessionManager[Any]]]) -> None:
    """Make sure that no two managers of one bot have the same keys in the same storage, and wait for each other.

    Args:
        named: managers, and what their user calls them.

    Raises:
        ValueError: two have.
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
    return one.options.prefix == other.options.prefix and (len(functions) == 1 or functions <= _KEYS_OF_OURS)
