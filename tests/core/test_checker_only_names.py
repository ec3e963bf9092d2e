"""Annotations that name what only type checkers import; Python 3.14 evaluates them when somebody asks."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from chatsession import SessionManager

NOT_EVALUATED = "" if sys.version_info >= (3, 14) else "from __future__ import annotations\n"


def written_in_a_module(source: str, name: str) -> Any:
    """What a user's module defines, in which nothing is named Hidden when the program runs."""
    module = {"__name__": __name__}
    exec(compile(NOT_EVALUATED + source, __file__, "exec", dont_inherit=True), module)
    return module[name]


async def test_initial_may_name_them_if_the_type_is_given() -> None:
    make = written_in_a_module("def make(unused: Hidden = 1) -> Hidden: return 5", "make")
    async with SessionManager(type=int, initial=make, storage="memory:") as sessions:
        assert await sessions.update("1", lambda count: count + 1) == 6


def test_initial_that_returns_one_needs_the_type() -> None:
    make = written_in_a_module("def make() -> Hidden: return 5", "make")
    with pytest.raises(TypeError, match=r"Hidden.*pass type="):
        SessionManager(initial=make, storage="memory:")


@pytest.mark.parametrize(
    "source",
    [
        "import dataclasses\n@dataclasses.dataclass\nclass Cart:\n    item: Hidden = None",
        "import attrs\n@attrs.define\nclass Cart:\n    item: Hidden = None",
        "import msgspec\nclass Cart(msgspec.Struct):\n    item: Hidden = None",
        "import pydantic\nclass Cart(pydantic.BaseModel):\n    item: Hidden = None",
        "import typing\nclass Cart(typing.TypedDict):\n    item: Hidden",
        "import typing\nclass Cart(typing.NamedTuple):\n    item: Hidden = None",
    ],
    ids=lambda source: source.split()[1],
)
@pytest.mark.parametrize("option", ["type", "initial"])
def test_10_a_class_that_names_one_is_named(source: str, option: str) -> None:
    cart = written_in_a_module(source, "Cart")
    with pytest.raises(TypeError, match=r"Hidden in the annotations of Cart is not defined .*TYPE_CHECKING"):
        SessionManager(storage="memory:", **{option: cart})


def test_a_migration_that_names_one_is_named() -> None:
    function = written_in_a_module("def rename(old: Hidden) -> Hidden: return old", "rename")
    with pytest.raises(TypeError, match=r"annotations of migration 1 .*Hidden"):
        SessionManager(int, storage="memory:", migrations={1: function})


def test_a_storage_of_a_user_may_name_them(tmp_path: Path) -> None:
    kind = written_in_a_module(
        "from chatsession.storages.sqlite import SQLiteStorage\n"
        "class Storage(SQLiteStorage):\n"
        "    def __init__(self, path: Hidden, *, single_process: Hidden = False):\n"
        "        super().__init__(path)\n",
        "Storage",
    )
    with pytest.raises(TypeError, match="it is named 'single_process'"):
        kind(tmp_path / "bot.db", alone=True)
