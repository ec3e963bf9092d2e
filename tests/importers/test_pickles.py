"""Pickles are read, and never run."""

from __future__ import annotations

import builtins
import collections
import contextlib
import copyreg
import datetime
import enum
import os
import pickle
import subprocess
import sys
import uuid
import zoneinfo
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from chatsession.importers import _pickles
from chatsession.importers._pickles import Plain
from chatsession.importers._unpickling import PickleError, load

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)
NOW = datetime.datetime(2026, 5, 4, 3, 2, 1, tzinfo=datetime.UTC)


class Size(enum.Enum):
    SMALL = "small"


class Point(NamedTuple):
    x: int
    y: int


@dataclass
class Order:
    name: str
    size: Size
    at: Point


@dataclass(slots=True, frozen=True)
class Slotted:
    name: str


class Half:
    __slots__ = ("name",)

    name: str


class Own(Half):
    """With a dict and a slot."""

    other: int


class Bomb:
    """Unpickled as usual, it would do what it is made with."""

    def __init__(self, function: Any, *args: Any) -> None:
        self._reduced = function, args

    def __reduce__(self) -> Any:
        return self._reduced


def read(path: Path, value: object, *, allow: tuple[str, ...] = (), protocol: int = pickle.HIGHEST_PROTOCOL) -> object:
    path.write_bytes(pickle.dumps(value, protocol=protocol))
    return Plain(allow)(load(path))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "bot.pickle"


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    "value",
    [
        {"a": [1, 2.5, True, None, "ü", b"bytes", 1 << 80], 7: ("x",), (1, 2): {3, 4}},
        frozenset({1, 2}),
        NOW,
        {NOW.date(): NOW.time(), NOW: [datetime.timedelta(hours=1)]},
        datetime.datetime(2026, 5, 4, tzinfo=datetime.timezone(datetime.timedelta(hours=2), "there")),
        datetime.datetime(2026, 5, 4, tzinfo=zoneinfo.ZoneInfo("Europe/Vienna")),
        Decimal("1.50"),
        uuid.UUID(int=12345),
    ],
    ids=lambda value: type(value).__name__,
)
def test_plain_data_comes_back_as_it_was(path: Path, protocol: int, value: object) -> None:
    read_again = read(path, value, protocol=protocol)
    assert read_again == value
    assert type(read_again) is type(value)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_containers_of_collections_become_plain(path: Path, protocol: int) -> None:
    counts = collections.defaultdict(int, {"a": 1})
    value = [counts, collections.OrderedDict(b=2), collections.Counter("cc"), collections.deque([1, 2], maxlen=2)]
    assert read(path, value, protocol=protocol) == [{"a": 1}, {"b": 2}, {"c": 2}, [1, 2]]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_allowed_objects_become_dicts_of_their_attributes(path: Path, protocol: int) -> None:
    value = [Order("pizza", Size.SMALL, Point(1, 2))]
    allow = (f"{__name__}.Order", f"{__name__}.Size", f"{__name__}.Poi*")
    at = [1, 2] if protocol > 1 else (1, 2)
    assert read(path, value, allow=allow, protocol=protocol) == [{"name": "pizza", "size": "small", "at": at}]


def test_objects_with_slots_become_dicts(path: Path) -> None:
    own = Own()
    own.name, own.other = "a", 1
    assert read(path, own, allow=(f"{__name__}.*",)) == {"name": "a", "other": 1}
    made = read(path, Slotted("a"), allow=(f"{__name__}.*",))
    assert made == ["a"]  # all that a dataclass with slots says


@pytest.mark.parametrize("value", [Order("a", Size.SMALL, Point(1, 2)), Size.SMALL, {Size.SMALL: 1}, [Point(1, 2)]])
def test_objects_that_are_not_allowed_are_refused_by_name(path: Path, value: object) -> None:
    with pytest.raises(PickleError, match=rf"has an object of '{__name__}.(Order|Size|Point)', which is not in allow"):
        read(path, value, allow=("elsewhere.*",))


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("allow", [(), ("*",)], ids=["nothing allowed", "all allowed"])
@pytest.mark.parametrize("how", ["system", "exec", "eval", "popen", "import"])
def test_a_malicious_reduce_does_not_run(path: Path, tmp_path: Path, protocol: int, allow: Any, how: str) -> None:
    ran = tmp_path / "ran"
    code = f"open({str(ran)!r}, 'w')"
    bomb = {
        "system": Bomb(os.system, f"touch {ran}"),
        "exec": Bomb(builtins.exec, code),
        "eval": Bomb(builtins.eval, code),
        "popen": Bomb(subprocess.Popen, ["touch", str(ran)]),
        "import": Bomb(__import__, "antigravity"),
    }[how]
    path.write_bytes(pickle.dumps({"user_data": {1: {"a": bomb}}}, protocol=protocol))
    whole = load(path)
    with contextlib.nullcontext() if allow else pytest.raises(PickleError, match="is not in allow"):
        Plain(allow)(whole)
    assert not ran.exists()
    assert "antigravity" not in sys.modules


def test_the_same_bomb_goes_off_in_an_ordinary_unpickler(path: Path, tmp_path: Path) -> None:
    """Or the test above would prove nothing."""
    ran = tmp_path / "ran"
    pickle.loads(pickle.dumps(Bomb(os.system, f"touch {ran}")))
    assert ran.exists()


@pytest.mark.parametrize(
    "stored",
    [
        b"cos\nsystem\n(S'true'\ntR.",  # GLOBAL, REDUCE
        b"(S'true'\nios\nsystem\n.",  # INST
        b"(cos\nsystem\nS'true'\no.",  # OBJ
        b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85\x81.",  # NEWOBJ
        b"\x80\x04cos\nsystem\nX\x04\x00\x00\x00true\x85}\x92.",  # NEWOBJ_EX
        b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R.",  # STACK_GLOBAL
        b"cuuid\nUUID\n(N(dS'__str__'\ncos\nsystem\nsttb.",  # BUILD on the class itself
        b"cbuiltins\nobject\n(N(dS'__class__'\ncos\nsystem\nsttb.",
        b"\x80\x02\x82\x01.",  # a number of copyreg's
        b"Phello\n.",  # PERSID
    ],
)
def test_every_way_to_ask_for_a_call_is_harmless(path: Path, monkeypatch: pytest.MonkeyPatch, stored: bytes) -> None:
    calls: list[object] = []
    monkeypatch.setattr(os, "system", calls.append)
    path.write_bytes(stored)
    before = uuid.UUID.__str__
    with contextlib.suppress(PickleError):
        Plain(("*",))(load(path))
    assert calls == []
    assert uuid.UUID.__str__ is before


def test_what_is_cut_is_told(path: Path) -> None:
    whole = pickle.dumps({"user_data": {1: {"a": "b" * 100}}})
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        with pytest.raises(PickleError, match="is not a whole pickle"):
            load(path)


def test_small_pickles_of_endless_data_are_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_pickles, "_MOST_PARTS", 10_000)
    many: list[Any] = []
    for _ in range(60):
        many = [many, many]
    with pytest.raises(PickleError, match="more than 10,000 parts"):
        read(path, many)
    circle: list[Any] = []
    circle.append(circle)
    with pytest.raises(PickleError, match="contains itself"):
        read(path, circle)


@pytest.mark.parametrize("value", [Bomb(datetime.date, 1), Bomb(Decimal, "x"), Bomb(set, 1), os.system, dict])
def test_broken_and_strange_parts_are_told(path: Path, value: object) -> None:
    path.write_bytes(_dumped(value))
    with pytest.raises(PickleError):
        Plain(("*",))(load(path))


def _dumped(value: object) -> bytes:
    return pickle.dumps(value)


@pytest.mark.parametrize(
    "stored",
    [
        b"\x80\x02Nr\xff\xff\xff\x7f.",
        b"Np2147483647\n.",
        b"\x80\x04\x8e" + (1 << 40).to_bytes(8, "little") + b".",
        b"\x80\x04\x95" + (1 << 40).to_bytes(8, "little") + b".",
        b"\x80\x05\x96" + (1 << 40).to_bytes(8, "little") + b".",
        b"\x8b\xff\xff\xff\x7f.",
        b"cbuiltins\nbytearray\n(I4000000000\ntR.",
        b"\x80\x04\x8e" + (9_000_000).to_bytes(8, "little") + bytes(9_000_000) + b"\x94(" + b"h\x00" * 1000 + b"t.",
        b"\x80\x04\x8b"
        + (9_000_000).to_bytes(4, "little")
        + bytes([1]) * 9_000_000
        + b"\x94("
        + b"h\x00" * 1000
        + b"t.",
    ],
    ids=[
        "memo",
        "memo by text",
        "bytes",
        "frame",
        "bytearray",
        "int",
        "bytearray by a call",
        "bytes again",
        "int again",
    ],
)
def test_a_small_pickle_does_not_fill_the_memory(path: Path, stored: bytes) -> None:
    path.write_bytes(stored)
    code = (
        "from pathlib import Path; from chatsession.importers import _pickles, _unpickling\n"
        "try: _pickles.Plain()(_unpickling.load(Path('bot.pickle')))\n"
        "except _unpickling.PickleError: pass\n"
        "print(next(line for line in open('/proc/self/status') if line.startswith('VmHWM')))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=path.parent, capture_output=True, text=True, check=True)
    assert int(done.stdout.split()[1]) < 200_000  # KiB


@pytest.mark.parametrize("end", [b"s.", b"u."], ids=["in a dict", "in a dict of several"])
@pytest.mark.parametrize(
    "tuples", [b"\x85" * 1_000_000, b"\x94h\x00\x86" * 2 + b"2\x86" * 60], ids=["deep", "of two, of two, of two, …"]
)
def test_tuples_that_cannot_be_hashed_are_refused(path: Path, tuples: bytes, end: bytes) -> None:
    start = b"\x80\x04}" if end == b"s." else b"\x80\x04}("
    path.write_bytes(start + b")" + tuples + b"N" + end)
    with pytest.raises(PickleError, match=r"nested too deeply|more than 1,000,000 parts"):
        Plain()(load(path))
    path.write_bytes(b"\x80\x04\x8f(N" + tuples + b"\x90.")
    with pytest.raises(PickleError, match=r"nested too deeply|more than 1,000,000 parts"):
        Plain()(load(path))


def test_what_stands_in_the_registry_of_copyreg_is_not_used(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[object] = []
    copyreg.add_extension("builtins", "print", 77)
    monkeypatch.setitem(copyreg._extension_cache, 77, calls.append)  # type: ignore[attr-defined] # as after its first use
    try:
        path.write_bytes(b"\x80\x02\x82\x4dN\x85R.")
        with pytest.raises(PickleError, match="is not a whole pickle"):
            load(path)
    finally:
        copyreg.remove_extension("builtins", "print", 77)
    assert calls == []


@pytest.mark.parametrize("opcode", [b"\x96", b"\x8e", b"\x8d", b"\x95"], ids=["bytearray", "bytes", "text", "frame"])
def test_no_memory_is_reserved_for_what_a_length_claims(path: Path, opcode: bytes) -> None:
    path.write_bytes(b"\x80\x05" + opcode + (3 << 29).to_bytes(8, "little") + b"x")
    code = (
        "import resource, sys; from pathlib import Path\n"
        "from chatsession.importers._unpickling import PickleError, load\n"
        "status = lambda: int(next(l for l in open('/proc/self/status') if l.startswith('VmPeak')).split()[1])\n"
        "before = status()\n"
        f"try: load(Path({str(path)!r}))\n"
        "except PickleError: print(status() - before)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=path.parent, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 50_000  # KiB


def test_a_bytearray_is_read(path: Path) -> None:
    path.write_bytes(pickle.dumps([bytearray(b"abc"), bytearray(100_000), 5**30], protocol=5))
    assert Plain()(load(path)) == [b"abc", bytes(100_000), 5**30]
