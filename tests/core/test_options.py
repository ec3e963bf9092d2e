"""What options take, and how it is said when they get something else."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable
from dataclasses import fields
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from chatsession import (
    SessionKeyError,
    SessionManager,
    SessionOptions,
    enhance_storage,
    multi_session,
    open_storage,
    options,
    session,
)


class Adapter(dict[str, Any]):
    read, write, delete = dict[str, Any].get, dict[str, Any].__setitem__, dict[str, Any].pop


def identity(data: Any) -> Any:
    return data


WRONG_TYPES = [
    ("ttl", "1d", "ttl takes a positive number of seconds, a timedelta, or None to keep sessions for ever, not '1d'"),
    ("ttl", True, "ttl takes a positive number of seconds"),
    ("max_size", "1MB", "max_size takes a positive whole number of bytes, not '1MB'"),
    ("max_size", 1.5, "max_size takes a positive whole number of bytes, not 1.5"),
    ("migrations", [identity], "migrations takes a mapping from version to function, as in {1: function}, or None"),
    ("migrations", identity, "migrations takes a mapping from version to function"),
    ("lock_timeout", "5", "lock_timeout takes a positive number of seconds, or None to wait for ever, not '5'"),
    ("lock_timeout", timedelta(1), "lock_timeout takes a positive number of seconds"),
    ("lock_lease", None, "lock_lease takes a positive number of seconds, not None"),
    ("deduplicate", "yes", "deduplicate takes the number of updates to remember, or 0, not 'yes'"),
    ("deduplicate", None, "deduplicate takes the number of updates to remember, or 0, not None"),
    ("compression", "zstd", "compression takes the number of bytes above which sessions are compressed, or None"),
    ("prefix", None, "prefix takes a string, not None"),
    ("name", 1, "name takes a string"),
    ("get_session_key", "user", "get_session_key takes a function"),
    ("concurrency", None, "concurrency takes one of 'exclusive', 'optimistic' and 'last-write-wins', not None"),
    ("allow_unencrypted", "no", "allow_unencrypted takes True or False, not 'no'"),
    ("codec", "json", "codec takes an object with the methods encode and decode, or None"),
    ("merge", 1, "merge takes a function"),
    ("observe", "log", "observe takes a function of a SessionEvent, or None"),
]

SENSELESS = [
    ("ttl", 0),
    ("ttl", float("nan")),
    ("ttl", float("inf")),
    ("ttl", timedelta(0)),
    ("ttl", 10**400),
    ("lock_lease", 10**400),
    ("lock_timeout", -1),
    ("lock_timeout", float("inf")),
    ("lock_lease", float("nan")),
    ("max_size", 0),
    ("compression", -1),
    ("deduplicate", -1),
    ("expiry", "never"),
    ("on_decode_error", ""),
    ("name", "two words"),
    ("name", "class"),
]


@pytest.mark.parametrize(("option", "value", "message"), WRONG_TYPES)
def test_a_wrong_type_is_told_with_what_the_option_takes(option: str, value: Any, message: str) -> None:
    with pytest.raises(TypeError) as caught:
        SessionManager(int, **{"storage": "memory:", option: value})
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(("option", "value"), SENSELESS, ids=lambda part: f"{part!r:.20}")
def test_a_senseless_value_is_told_with_what_it_should_be(option: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"^{option} takes .*, not "):
        SessionManager(int, **{"storage": "memory:", option: value})


@pytest.mark.parametrize(("option", "value"), [("lock_timeout", None), ("ttl", timedelta(days=1)), ("lock_lease", 3)])
def test_what_an_option_takes_is_taken(option: str, value: Any) -> None:
    assert getattr(SessionOptions[int](**{option: value}), option) == value


def test_versions_of_migrations_are_numbers() -> None:
    for version in (float("nan"), float("inf"), 10**400, True, "1"):
        with pytest.raises(ValueError, match="versions of migrations are numbers"):
            SessionManager(int, storage="memory:", migrations={version: identity})  # type: ignore[dict-item]


def test_encryption_keys_that_are_no_list_are_refused_without_being_shown() -> None:
    for keys in ("secret", b"secret", 1, "", b"", False):
        with pytest.raises(ValueError, match=r"^encryption_keys is a list of keys, the newest first$"):
            SessionManager(int, storage="memory:", encryption_keys=keys)  # type: ignore[arg-type]


counters = SessionManager(int, storage="memory:")


@pytest.mark.parametrize("block", [counters, counters.open(1), counters.open_many([1])], ids=["all", "one", "many"])
def test_with_instead_of_async_with_is_told(block: Any) -> None:
    with pytest.raises(TypeError, match="takes `async with` and not `with`"), block:
        raise AssertionError


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: open_storage(Path("bot.db")), "url takes a string, .* not a PosixPath"),  # type: ignore[arg-type]
        (lambda: multi_session(cart=list), "cart takes a SessionOptions or a SessionManager, not <class 'list'>"),  # type: ignore[arg-type]
        (lambda: enhance_storage({}), "storage takes a StorageAdapter; dict lacks read, write, delete"),  # type: ignore[arg-type]
        (lambda: enhance_storage(Adapter(), milliseconds_to_live="5"), "milliseconds_to_live takes a number"),  # type: ignore[arg-type]
    ],
)
def test_other_arguments_are_named_too(call: Callable[[], object], says: str) -> None:
    with pytest.raises(TypeError, match=says):
        call()


async def test_update_without_a_function() -> None:
    with pytest.raises(TypeError, match=r"update takes a function of the data, not a int"):
        await counters.update(1, 5)  # type: ignore[arg-type]


def test_a_key_of_more_digits_than_python_converts() -> None:
    with pytest.raises(SessionKeyError, match="too many digits"):
        counters.open(10**5000)


def test_every_option_is_described_for_editors() -> None:
    (tree,) = (
        node
        for node in ast.parse(inspect.getsource(options)).body
        if isinstance(node, ast.ClassDef) and node.name == "SessionOptions"
    )
    described = {
        before.target.id
        for before, after in zip(tree.body, tree.body[1:], strict=False)
        if isinstance(before, ast.AnnAssign)
        and isinstance(before.target, ast.Name)
        and isinstance(after, ast.Expr)
        and isinstance(after.value, ast.Constant)
    }
    names = {field.name for field in fields(SessionOptions)}
    assert described == names
    assert all(f"    {name}: " in (SessionOptions.__doc__ or "") for name in names)


def test_each_option_is_described_alike_wherever_it_is_taken() -> None:
    described = [_described(each) for each in (SessionOptions, SessionManager, session)]
    assert described[0] == described[1] == described[2]


def _described(function: Callable[..., object]) -> str:
    arguments = (function.__doc__ or "").partition("    Args:\n")[2]
    return arguments.partition("\n\n")[0]
