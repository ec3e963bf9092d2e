"""Keys and names, both ways: no two keys have one name, and none leads out of the folder."""

from __future__ import annotations

import os
from pathlib import PurePosixPath
from types import ModuleType
from typing import TypeAlias

import pytest
from fuzz_aids import fuzzed
from hypothesis import strategies as st

from chatsession import SessionKeyError
from chatsession.storages.file._grammy_names import GrammyNames
from chatsession.storages.file._names import Names
from chatsession.storages.nats import _names as _nats_names
from chatsession.storages.redis import _names as _redis_names

_odd = ["/", "..", ".", "\0", "%", "%2F", "=", "=20", "a", "A", "é", "e\u0301", "K", "\u212a", "ß", "{", "}", "\\", ":"]
keys = (
    st.text(max_size=12)
    | st.lists(st.sampled_from(_odd), min_size=1, max_size=8).map("".join)
    | st.text(min_size=1, max_size=3).map(lambda text: text * 90)
    | st.sampled_from(
        ["con", "CON", "nul", "com1", "other", "other/a", ".chatsession", "-", "\ud800", "a" * 250, "😀" * 62]
    )
)
Naming: TypeAlias = Names | ModuleType

NAMINGS: dict[str, Naming] = {"file": Names(), "grammy": GrammyNames(), "nats": _nats_names}


def name_of(naming: Naming, key: str) -> str | None:
    try:
        return naming.name_of(key)
    except SessionKeyError:
        return None


@pytest.mark.parametrize("naming", NAMINGS.values(), ids=NAMINGS)
class TestNames:
    def test_names_lead_back_to_their_keys(self, naming: Naming) -> None:
        @fuzzed(keys, examples=200)
        def check(key: str) -> None:
            name = name_of(naming, key)
            if name is None:
                return
            is_digest = isinstance(naming, Names) and naming.is_digest(name)
            assert naming.key_of(name) == (None if is_digest else key)

        check()

    def test_no_two_keys_have_one_name(self, naming: Naming) -> None:
        @fuzzed(keys, keys, examples=200)
        def check(one: str, other: str) -> None:
            names = [name_of(naming, key) for key in (one, other)]
            if names[0] is not None and one != other:
                assert names[0] != names[1]
                if type(naming) is Names:  # also where the file system folds case or normalises
                    assert names[0].lower() == names[0] or "%" in names[0]
                    assert names[0].casefold() != (names[1] or "").casefold()

        check()

    def test_what_is_the_name_of_no_key_is_taken_for_none(self, naming: Naming) -> None:
        @fuzzed(keys | st.text("abAB012%=._-/", max_size=10), examples=200)
        def check(name: str) -> None:
            key = naming.key_of(name)
            assert key is None or naming.name_of(key) == name

        check()


@pytest.mark.parametrize("naming", [Names(), GrammyNames()], ids=["own", "grammy"])
def test_no_key_leads_out_of_the_folder(naming: Names) -> None:
    @fuzzed(keys, examples=200)
    def check(key: str) -> None:
        name = name_of(naming, key)
        if name is None:
            return
        folder, file = naming.folder_of(name), name.rpartition("/")[2] + ".json"
        place = os.path.normpath(f"/root/{folder}/{file}")
        assert PurePosixPath(place).parent == PurePosixPath("/root", folder)
        assert PurePosixPath("/root", folder).parent == PurePosixPath("/root")
        assert naming.is_folder(folder)
        assert folder not in ("", ".", "..", ".chatsession")
        assert "\0" not in place
        assert len(file.encode()) <= 255
        assert naming.name_at(folder, name.rpartition("/")[2]) == name

    check()


@fuzzed(keys, keys, examples=200)
def test_the_lock_of_a_redis_key_is_that_of_no_other_and_in_its_slot(one: str, other: str) -> None:
    names = [_redis_names.name_of(key) for key in (one, other)]
    if not all(isinstance(name, bytes) for name in names):
        return
    locks = [_redis_names.lock_of(name) for name in names]  # type: ignore[arg-type] # they are bytes
    assert (locks[0] == locks[1]) == (one == other)
    assert _redis_names.slot_of(locks[0]) == _redis_names.slot_of(names[0])  # type: ignore[arg-type] # it is bytes
    assert locks[0] not in names
