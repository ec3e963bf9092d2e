"""What is written comes back equal and of the same classes, or is refused with the path of the part that would not."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import functools
import threading
import typing
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypedDict
from uuid import UUID
from zoneinfo import ZoneInfo

import attrs
import msgspec
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chatsession import MemoryStorage, SessionEncodeError, SessionManager
from chatsession.serialization import serializer
from chatsession.serialization.codec import CodecError, JsonCodec
from chatsession.serialization.comparison import difference


@dataclasses.dataclass
class Item:
    name: str = ""
    count: int = 0


@dataclasses.dataclass
class Gift(Item):
    note: str = ""


@dataclasses.dataclass(eq=False)
class Cart:
    items: list[Item] = dataclasses.field(default_factory=list[Item])
    first: Item | None = None
    by_name: dict[str, Item] = dataclasses.field(default_factory=dict[str, Item])


@attrs.define
class Account:
    name: str = ""
    _token: str = attrs.field(default="", alias="token")


@attrs.define
class Savings(Account):
    rate: float = 0.0


@attrs.define
class Bank:
    accounts: list[Account] = attrs.field(factory=list[Account])


class Shape(msgspec.Struct):
    side: int = 1


class Named(Shape):
    name: str = ""


class Shapes(msgspec.Struct):
    all: list[Shape] = []


class Base(pydantic.BaseModel):
    x: int = 0


class Child(Base):
    y: int = 0


class Model(pydantic.BaseModel):
    password: pydantic.SecretStr = pydantic.SecretStr("")
    hidden: int = pydantic.Field(0, exclude=True)
    anything: Any = None
    ratio: float | None = None
    base: Base | None = None
    bases: list[Base] = []
    untyped: dict[Any, Any] = {}
    _memo: int = pydantic.PrivateAttr(0)


class Zoned(pydantic.BaseModel):
    at: dt.time | None = None
    path: Path = Path()
    raw: bytes = b""
    inner: list[Zoned] = []


class Order(TypedDict, total=False):
    total: int


class Branch(TypedDict, total=False):
    item: Item
    branches: list[Branch]


class Twig(NamedTuple):
    item: Item
    twigs: tuple[Twig, ...] = ()


class Point(NamedTuple):
    x: float = 0
    rest: Any = None


class Color(enum.StrEnum):
    RED = "red"


class Level(enum.IntEnum):
    LOW = 1


class Size(enum.Enum):
    SMALL = "small"


@dataclasses.dataclass
class Everything:
    text: str = ""
    number: int = 0
    real: float = 0.0
    maybe: float | None = None
    by_id: dict[int | str, int] = dataclasses.field(default_factory=dict[int | str, int])
    when: dt.datetime | None = None
    texts: dict[str, str] = dataclasses.field(default_factory=dict[str, str])
    numbers: list[int] = dataclasses.field(default_factory=list[int])
    names: set[str] = dataclasses.field(default_factory=set[str])
    order: Order = dataclasses.field(default_factory=Order)
    point: Point = dataclasses.field(default_factory=Point)
    price: Decimal = Decimal(0)
    made: int = dataclasses.field(default=0, init=False)
    model: Model = dataclasses.field(default_factory=Model)


def with_attribute(value: Any, name: str, content: object) -> Any:
    object.__setattr__(value, name, content)
    return value


def made(number: int) -> Everything:
    value = Everything()
    value.made = number
    return value


def memo(number: int) -> Model:
    value = Model()
    value._memo = number
    return value


SECONDS = dt.timezone(dt.timedelta(hours=1, minutes=2, seconds=3))

REFUSED: list[tuple[Any, Any, str]] = [
    (Cart, Cart([Item(), Gift()]), "Gift at `$.items[1]`"),
    (Cart, Cart(first=Gift()), "Gift at `$.first`"),
    (Cart, Cart(by_name={"a_b": Gift()}), '`$.by_name["a_b"]`'),
    (Item, Gift(), "Gift at `$`"),
    (Bank, Bank([Savings()]), "Savings at `$.accounts[0]`"),
    (Account, Account(token="t"), "`$._token`"),
    (Shapes, Shapes([Named()]), "Named at `$.all[0]`"),
    (Base, Child(), "Child at `$`"),
    (Model, Model(base=Child()), "Child at `$.base`"),
    (Model, Model(bases=[Base(), Child()]), "Child at `$.bases[1]`"),
    (Model, Model(password=pydantic.SecretStr("p")), "SecretStr at `$.password`"),
    (Model, Model(hidden=1), "`$.hidden`"),
    (Model, memo(1), "`$._memo`"),
    (Model, Model(ratio=float("inf")), "`$.ratio`"),
    (Model, Model(anything=dt.date(2026, 1, 1)), "date at `$.anything`"),
    (Model, Model(anything=(1, 2)), "tuple at `$.anything`"),
    (Model, Model(anything={1, 2}), "set at `$.anything`"),
    (Model, Model(anything=float("nan")), "`$.anything`"),
    (Model, Model(anything=[{"a": Item()}]), 'Item at `$.anything[0]["a"]`'),
    (Model, Model(untyped={1: 2}), "`$.untyped[1]`"),
    (Everything, Everything(model=Model(hidden=1)), "`$.model.hidden`"),
    (Everything, Everything(maybe=float("inf")), "`$.maybe`"),
    (Everything, Everything(by_id={1: 1, "1": 2}), "`$.by_id`"),
    (Everything, Everything(by_id={1: 2}), "`$.by_id[1]`"),
    (Everything, Everything(order={"total": 1, "tip": 2}), "`$.order`"),  # type: ignore[typeddict-unknown-key]
    (Everything, with_attribute(Everything(), "undeclared", 1), "`$.undeclared`"),
    (Everything, Everything(text=b"raw"), "bytes at `$.text`"),  # type: ignore[arg-type]
    (Everything, Everything(text=dt.date(2026, 1, 1)), "date at `$.text`"),  # type: ignore[arg-type]
    (Everything, Everything(text=Size.SMALL), "Size at `$.text`"),  # type: ignore[arg-type]
    (Everything, Everything(point=Point(rest={Level.LOW: 1})), "at `$.point.rest"),
    (Everything, Everything(texts=defaultdict(str)), "defaultdict at `$.texts`"),
    (Everything, Everything(texts=OrderedDict(a="b")), "OrderedDict at `$.texts`"),
    (Everything, Everything(numbers=(1, 2)), "tuple at `$.numbers`"),  # type: ignore[arg-type]
    (Everything, Everything(names=frozenset("a")), "frozenset at `$.names`"),  # type: ignore[arg-type]
    (Everything, Everything(when=dt.datetime(2026, 1, 1, tzinfo=SECONDS)), "`$.when`"),
    (Everything, Everything(point=Point(rest=(1,))), "tuple at `$.point.rest`"),
    (Everything, Everything(real=2**53 + 1), "`$.real`"),
    (list[Item], [Item(), with_attribute(Item(), "x", 1)], "`$[1].x`"),
    (dict[str, Cart], {"a": Cart([Gift()])}, '`$["a"].items[0]`'),
    (Order, {"total": 1, "x": 2}, "a key that its TypedDict does not have"),
    (list[dt.time | None], [dt.time(9, tzinfo=ZoneInfo("Europe/Berlin"))], "time at `$[0]`"),
    (Branch, {"branches": [{"item": Gift()}]}, 'Gift at `$["branches"][0]["item"]`'),
    (Twig, Twig(Item(), (Twig(Gift()),)), "Gift at `$.twigs[0].item`"),
    (Zoned, Zoned(at=dt.time(9, tzinfo=ZoneInfo("Europe/Berlin"))), "time at `$.at`"),
    (dict[str, list[Any]], {"cart": [(1,)]}, '`$["cart"][0]`'),
]


@pytest.mark.parametrize(("kind", "value", "path"), REFUSED, ids=lambda given: given if isinstance(given, str) else "")
def test_10a_what_would_not_come_back_equal_is_refused_with_its_path(kind: Any, value: Any, path: str) -> None:
    with pytest.raises(CodecError) as caught:
        JsonCodec[Any](kind).encode(value)
    assert path in str(caught.value)


@dataclasses.dataclass
class Derived:
    name: str = "a"

    def __post_init__(self) -> None:
        self.length = len(self.name)
        self.lock = threading.Lock()

    @functools.cached_property
    def upper(self) -> str:
        return self.name.upper()


class Priced(pydantic.BaseModel):
    price: Decimal = Decimal(0)

    @functools.cached_property
    def doubled(self) -> Decimal:
        return self.price * 2


class Text(str):
    __slots__ = ("entities",)


def derived(name: str) -> Derived:
    value = Derived(name)
    assert value.upper
    return value


def priced() -> Priced:
    value = Priced(price=Decimal("1.10"))
    assert value.doubled
    return value


BERLIN = ZoneInfo("Europe/Berlin")

KEPT: list[tuple[Any, Any]] = [
    (Derived, derived("bob")),
    (Priced, priced()),
    (Cart, Cart([Item("a", 1)], Item(), {"x": Item()})),
    (Everything, Everything(real=3, price=5)),  # type: ignore[arg-type]
    (Everything, Everything(texts={"a": Text("b")}, text=Text("x"))),
    (Everything, Everything(text=Color.RED, texts={"a": Color.RED, Color.RED: "b"}, numbers=[Level.LOW])),
    (Everything, Everything(point=Point(rest=[Color.RED, Level.LOW]))),
    (list[Color], ["red"]),
    (Everything, Everything(when=dt.datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=BERLIN))),
    (Everything, Everything(when=dt.datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN))),
    (Decimal, Decimal("NaN")),
    (list[Decimal], [Decimal("1.10"), Decimal("-Infinity")]),
    (Model, Model(anything={"a": [1, None, 2.5, True]}, untyped={"a": 1}, bases=[Base(x=1)])),
    (Account, Account("x")),
    (dict[int | str, int], {"1": 1, "a": 2}),
    (Everything, made(3)),
    (set[tuple[int, str]], {(1, "a"), (2, "b")}),
    (Branch, {"item": Item(), "branches": [{"branches": []}]}),
    (Twig, Twig(Item(), (Twig(Item("b")),))),
]


@pytest.mark.parametrize(("kind", "value"), KEPT, ids=lambda given: type(given).__name__)
def test_10a_all_else_comes_back(kind: Any, value: Any) -> None:
    JsonCodec[Any](kind).encode(value)


@pytest.mark.parametrize(
    ("kind", "plain", "hiding"),
    [
        (Item, Item(), with_attribute(Item(), "x", 1)),
        (Account, Account(), Account(token="t")),
        (Model, Model(), Model(hidden=1)),
        (Cart, Cart(), Cart(first=with_attribute(Item(), "x", 1))),
    ],
)
def test_10a_a_change_that_bytes_do_not_show_is_noticed(kind: Any, plain: Any, hiding: Any) -> None:
    codec: JsonCodec[Any] = JsonCodec(kind)
    assert codec.raw_encode(plain) == codec.raw_encode(hiding) or kind is Cart
    assert codec.may_hide is not None
    assert codec.may_hide(hiding)


def test_10a_only_those_types_are_looked_at_whose_bytes_may_not_show_all() -> None:
    for kind in (Shapes, int, dict[str, Any], Order, list[Point]):
        assert JsonCodec[Any](kind).may_hide is None
    assert not JsonCodec[Any](Item).may_hide(Item("a", 3))  # type: ignore[misc]


@pytest.mark.parametrize(
    ("kind", "stored", "path"),
    [
        (
            dict[str, dict[str, list[int]]],
            b'{"a":{"items":[1]},"cart":{"x":[],"items":[1,"x"]}}',
            '["cart"]["items"][1]',
        ),
        (dict[str, Item], b'{"a":{},"b":{"count":"x"},"c":{"count":"x"}}', '$["b"].count'),
        (dict[int, list[dict[str, int]]], b'{"1":[],"7":[{"a":1},{"b":1,"c":null}]}', '$[...][1]["c"]'),
        (dict[str, dict[int, int]], b'{"a":{"1":1},"b":{"x":1}}', '`key` in `$["b"]`'),
    ],
)
def test_10_paths_name_the_keys_of_dictionaries(kind: Any, stored: bytes, path: str) -> None:
    with pytest.raises(CodecError) as caught:
        JsonCodec[Any](kind).decode(stored)
    assert path in str(caught.value)


def test_11_keys_that_may_be_data_are_not_named() -> None:
    for key in ("Ann Smith", "ann@example.org", "SECRET", "a" * 41, "\x1b", 10**19):
        with pytest.raises(CodecError) as caught:
            JsonCodec[Any](dict[str | int, Any]).encode({key: (1,)})
        assert "`$[...]`" in str(caught.value)


def test_11_a_part_that_cannot_be_encoded_is_named_by_its_keys() -> None:
    with pytest.raises(CodecError, match=r'object at `\$\["cart"\]\["items"\]\[0\]`'):
        JsonCodec[Any](dict).encode({"cart": {"items": [object()]}})


def test_11_a_part_of_a_model_that_cannot_be_encoded_is_named() -> None:
    with pytest.raises(CodecError, match=r"bytes at `\$\.inner\[0\]\.raw`"):
        JsonCodec[Any](Zoned).encode(Zoned(inner=[Zoned(raw=b"\xff")]))


if typing.TYPE_CHECKING:
    from collections.abc import Sized as OnlyForCheckers


@dataclasses.dataclass
class Unresolved:
    parts: OnlyForCheckers


@dataclasses.dataclass
class Outer:
    inner: list[Unresolved]


class UnresolvedModel(pydantic.BaseModel):
    parts: OnlyForCheckers


@pytest.mark.parametrize(
    ("kind", "cls"),
    [
        (Unresolved, "Unresolved"),
        (Outer, "Unresolved"),
        (dict[str, Outer | None], "Unresolved"),
        (UnresolvedModel, "UnresolvedModel"),
    ],
)
def test_10_a_type_imported_for_checkers_only_is_named_with_its_class(kind: Any, cls: str) -> None:
    with pytest.raises(TypeError, match=rf"OnlyForCheckers in the annotations of {cls} is not defined .*TYPE_CHECKING"):
        JsonCodec[Any](kind)


def test_10_a_union_of_dataclasses_says_how_to_tag_its_members() -> None:
    for kind in (Item | Cart, list[Item | Cart], Account | Bank, Base | Model):
        with pytest.raises(TypeError, match="tag=True"):
            JsonCodec[Any](kind)


def test_10_keys_that_json_does_not_have_are_refused_with_the_type() -> None:
    for kind in (dict[tuple[int, int], str], dict[str, dict[frozenset[int], int]], dict[bool, int], dict[Item, int]):
        with pytest.raises(TypeError, match="keys of dictionaries"):
            JsonCodec[Any](kind)


# Values of all kinds of classes, nested in each other, some of them with what their class does not say.

ANY = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats()
    | st.text(max_size=3)
    | st.sampled_from(
        [dt.date(2026, 1, 1), b"x", Item("a"), Gift(), Point(1), Color.RED, Decimal("1.5"), Base(), Named()]
    ),
    lambda inside: (
        st.lists(inside, max_size=3)
        | st.lists(inside, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=2) | st.integers(0, 9), inside, max_size=3)
    ),
    max_leaves=5,
)
ITEMS = st.builds(Item, st.text(max_size=3) | st.just(Color.RED), st.integers(0, 9)) | st.builds(Gift)
ITEMS |= ITEMS.map(lambda item: with_attribute(dataclasses.replace(item), "more", 1))
CARTS = st.builds(
    Cart, st.lists(ITEMS, max_size=3), st.none() | ITEMS, st.dictionaries(st.text(max_size=2), ITEMS, max_size=2)
)
BANKS = st.builds(
    Bank, st.lists(st.builds(Account, st.text(max_size=2), st.sampled_from(["", "t"])) | st.builds(Savings), max_size=2)
)
SHAPES = st.builds(Shapes, st.lists(st.builds(Shape, st.integers(0, 9)) | st.builds(Named), max_size=2))
MODELS = st.builds(
    Model,
    password=st.sampled_from(["", "x"]).map(pydantic.SecretStr),
    hidden=st.integers(0, 1),
    anything=ANY,
    ratio=st.none() | st.floats(),
    base=st.none() | st.builds(Base) | st.builds(Child),
    untyped=st.dictionaries(st.text(max_size=2) | st.integers(0, 9), ANY, max_size=2),
)
ZONES = st.sampled_from([None, dt.UTC, SECONDS, BERLIN])
EVERYTHING = st.builds(
    Everything,
    text=st.text(max_size=3) | st.binary(max_size=2),
    real=st.floats() | st.integers(),
    maybe=st.none() | st.floats(),
    by_id=st.dictionaries(st.integers(0, 9) | st.sampled_from(["1", "2", "a"]), st.integers(0, 9), max_size=3),
    when=st.none() | st.datetimes(timezones=ZONES),
    point=st.builds(Point, st.floats(), ANY),
    price=st.decimals(),
    order=st.dictionaries(st.sampled_from(["total", "tip"]), st.integers(0, 9)),
    model=MODELS,
)
KINDS: dict[Any, st.SearchStrategy[Any]] = {
    Cart: CARTS,
    Bank: BANKS,
    Shapes: SHAPES,
    Model: MODELS,
    Everything: EVERYTHING,
    Point: st.builds(Point, st.floats(), ANY),
    Order: st.dictionaries(st.sampled_from(["total", "tip"]), st.integers(0, 9)),
    Any: ANY,
}


codec_of: Callable[[Any], JsonCodec[Any]] = functools.cache(JsonCodec)
"""The codec of a type, made once for all examples."""


def same(one: Any, other: Any) -> bool:
    """Equal, of the same classes and with the same attributes all the way down, where no number equals itself."""
    if isinstance(one, (int, float, Decimal)) and isinstance(other, (float, Decimal)) and type(one) is not bool:
        return one == other or (one != one and other != other)
    if isinstance(one, str):
        return one == other
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        keys = all(isinstance(a, str) or type(a) is type(b) for a, b in zip(one, other, strict=False))
        return keys and list(one) == list(other) and all(same(one[name], other[name]) for name in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, pydantic.BaseModel):
        return same(vars(one), vars(other)) and same(one.__pydantic_private__, other.__pydantic_private__)
    if isinstance(one, msgspec.Struct):
        return same(msgspec.structs.astuple(one), msgspec.structs.astuple(other))
    if attrs.has(type(one)):
        return same(attrs.astuple(one, recurse=False), attrs.astuple(other, recurse=False))
    if dataclasses.is_dataclass(one):
        return same(vars(one), vars(other))
    if isinstance(one, dt.datetime) and one.tzinfo is not None:
        return one.astimezone(dt.UTC) == other.astimezone(dt.UTC)
    return bool(one == other)


@pytest.mark.parametrize("kind", list(KINDS), ids=lambda kind: getattr(kind, "__name__", "Any"))
@settings(deadline=None)
@given(st.data())
def test_10a_anything_comes_back_the_same_or_is_refused(kind: Any, data: st.DataObject) -> None:
    for wrapped, wrap in ((kind, lambda x: x), (dict[str, list[kind]], lambda x: {"a": [x]})):
        value, codec = wrap(data.draw(KINDS[kind])), codec_of(wrapped)
        try:
            encoded = codec.encode(value)
        except CodecError:
            continue
        assert same(value, codec.decode(encoded))


@pytest.mark.parametrize("kind", list(KINDS), ids=lambda kind: getattr(kind, "__name__", "Any"))
@settings(deadline=None)
@given(st.data())
def test_10a_the_quick_test_accepts_only_what_is_the_same(kind: Any, data: st.DataObject) -> None:
    for wrapped, wrap in ((kind, lambda x: x), (dict[str, list[kind] | None], lambda x: {"a": [x]})):
        codec = codec_of(wrapped)
        value, other = wrap(data.draw(KINDS[kind])), wrap(data.draw(KINDS[kind]))
        for encoded in (value, other):
            try:
                back = codec.raw_decode(codec.raw_encode(encoded))
            except Exception:
                continue
            assert not codec.same(value, back) or difference(value, back) is None


class Slotted(msgspec.Struct):
    items: list[Item] = []
    pair: tuple[int, str] = (1, "a")
    by_id: dict[int, list[str] | None] = {}


QUICK: list[tuple[Any, Any]] = [
    (Item, Item("a", 1)),
    (Cart, Cart([Item("a", 1)], Item(), {"x": Item()})),
    (Account, Account("a")),
    (Shapes, Shapes([Shape(), Shape(2)])),
    (Slotted, Slotted([Item()], by_id={1: ["a"], 2: None})),
    (Order, {"total": 1}),
    (Point, Point(1.5, {"a": [1, {"b": None}]})),
    (dict[str, Any], {"a": [1, 2.5, {"b": [True]}]}),
    (set[str] | dict[str, int] | int, {"a", "b"}),
    (list[dt.datetime | None], [dt.datetime(2026, 1, 1, tzinfo=dt.UTC), None]),
    (dict[str, UUID], {"a": UUID(int=1)}),
]


@pytest.mark.parametrize(("kind", "value"), QUICK, ids=lambda given: getattr(given, "__name__", ""))
def test_10a_the_quick_test_knows_usual_values(kind: Any, value: Any) -> None:
    codec: JsonCodec[Any] = JsonCodec(kind)
    assert codec.same(value, codec.raw_decode(codec.raw_encode(value)))


@pytest.mark.parametrize("kind", list(KINDS), ids=lambda kind: getattr(kind, "__name__", "Any"))
@settings(deadline=None)
@given(st.data())
def test_10a_only_what_comes_back_the_same_is_proven(kind: Any, data: st.DataObject) -> None:
    for wrapped, wrap in ((kind, lambda x: x), (dict[str, list[kind] | None], lambda x: {"a": [x], "b": None})):
        value, codec = wrap(data.draw(KINDS[kind])), codec_of(wrapped)
        try:
            encoded = codec.raw_encode(value)
            proven = codec.proves is not None and codec.proves((value,))
        except Exception:
            continue
        assert not proven or same(value, codec.decode(encoded))


class Talk(msgspec.Struct):
    items: list[Item] = []
    by_id: dict[int, list[str] | None] = {}


PROVEN: list[Any] = [
    (list[Item], [Item("a", 1), Item()]),
    (dict[str, list[Item] | Item | None], {"a": [Item()], "b": Item(), "c": None}),
    (Talk, Talk([Item()], by_id={1: ["a"], 2: None})),
    (dict[str, Any], {"a": [1, 2.5, {"b": [True, None, "x", []]}], "b": {}}),
    (set[str] | dict[str, int] | int, {"a", "b"}),
    (list[dt.datetime | None], [dt.datetime(2026, 1, 1, tzinfo=dt.UTC), None]),
    pytest.param(
        tuple[Literal["user", 1], ...],
        ("user", 1),
        marks=pytest.mark.skipif(
            not hasattr(msgspec.inspect, "_sort_literal_args"), reason="msgspec below 0.22 refuses such a Literal"
        ),
    ),
    (dict[str, UUID | float], {"a": UUID(int=1), "b": 0.5}),
]


@pytest.mark.parametrize(("kind", "value"), PROVEN, ids=lambda given: getattr(given, "__name__", ""))
def test_10a_usual_values_are_proven_to_come_back(kind: Any, value: Any) -> None:
    codec: JsonCodec[Any] = JsonCodec(kind)
    assert codec.proves is not None
    assert codec.proves((value,))


@pytest.mark.parametrize(("kind", "value", "path"), REFUSED, ids=lambda given: given if isinstance(given, str) else "")
def test_10a_a_large_value_is_refused_as_well(
    kind: Any, value: Any, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serializer, "_LARGE", 0)
    values: SessionManager[Any] = SessionManager(type=kind, storage=MemoryStorage())
    with pytest.raises(SessionEncodeError) as refused:
        values.runtime.serializer.dumps("chat", value, None)
    assert path in str(refused.value)


@pytest.mark.parametrize(("kind", "value", "path"), REFUSED, ids=lambda given: given if isinstance(given, str) else "")
async def test_10a_nothing_is_written_of_what_is_refused(storage: Any, kind: Any, value: Any, path: str) -> None:
    sessions: SessionManager[Any] = SessionManager(type=kind, storage=storage)
    with pytest.raises(SessionEncodeError) as caught:
        async with sessions.open("chat") as s:
            s.data = value
    assert path in str(caught.value)
    assert "nothing was written" in str(caught.value)
    assert storage.writes == []


@pytest.mark.parametrize(
    ("initial", "change"),
    [
        (Item, lambda item: with_attribute(item, "x", 1)),
        (Account, lambda account: setattr(account, "_token", "t")),
        (Model, lambda model: setattr(model, "hidden", 1)),
        (lambda: Cart([Item()]), lambda cart: with_attribute(cart.items[0], "x", 1)),
    ],
)
async def test_10a_a_change_that_would_not_be_stored_is_refused(storage: Any, initial: Any, change: Any) -> None:
    sessions: SessionManager[Any] = SessionManager(initial, type=type(initial()), storage=storage)
    await sessions.update("chat", lambda value: None)
    await sessions.update("chat", lambda value: value)
    writes = len(storage.writes)
    with pytest.raises(SessionEncodeError, match=r"not stored|not all of it"):
        await sessions.update("chat", lambda value: change(value) and None)
    assert len(storage.writes) == writes


async def test_10a_an_initial_value_is_compared_too(storage: Any) -> None:
    sessions: SessionManager[Any] = SessionManager(lambda: Account(token="t"), type=Account, storage=storage)
    with pytest.raises(SessionEncodeError, match=r"initial\(\).*_token"):
        async with sessions.open("chat") as s:
            assert s.data
