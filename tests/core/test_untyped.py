"""Rule 11 in the untyped parts of typed objects: what would come back as something else is refused."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Generic, NamedTuple, TypedDict, TypeVar

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chatsession.serialization.codec import CodecError, JsonCodec

T = TypeVar("T")


class Order(TypedDict, total=False):
    notes: dict[str, Any]
    total: float | None


class Point(NamedTuple):
    x: float | None
    label: object


class Tagged(msgspec.Struct, tag=True):
    rest: list[Any]


class Plain(msgspec.Struct, tag=True):
    count: int = 0


class Box(msgspec.Struct, Generic[T]):
    content: T


@dataclass
class Node:
    children: list[Node] = field(default_factory=list["Node"])
    rest: object = None
    orders: dict[int, Order] = field(default_factory=dict[int, Order])
    pair: tuple[int, Any] = (0, None)
    many: tuple[dict[str, Any], ...] = ()
    either: Tagged | Plain | list[Any] | None = None
    point: Point = field(default_factory=lambda: Point(None, None))
    some: set[Any] = field(default_factory=set[Any])
    any_key: dict[Any, int] = field(default_factory=dict[Any, int])
    any_key_of: dict[Any, Plain] = field(default_factory=dict[Any, Plain])


DAY = dt.date(2026, 1, 1)

REFUSED: list[tuple[Any, Any, str]] = [
    (Node, Node(rest=DAY), "a date at `$.rest`"),
    (Node, Node(rest=float("inf")), "number at `$.rest`"),
    (Node, Node([Node([Node(rest=(1,))])]), "a tuple at `$.children[0].children[0].rest`"),
    (Node, Node(orders={7: {"notes": {"a": DAY}}}), 'a date at `$.orders[7].notes["a"]`'),
    (Node, Node(orders={7: {"total": float("nan")}}), "number at `$.orders[7].total`"),
    (Node, Node(pair=(1, {2})), "a set at `$.pair[1]`"),
    (Node, Node(many=({}, {"a": [b"x"]})), 'a bytes at `$.many[1]["a"][0]`'),
    (Node, Node(either=Tagged([0, DAY])), "a date at `$.either.rest[1]`"),
    (Node, Node(either=[DAY]), "a date at `$.either[0]`"),
    (Node, Node(point=Point(float("nan"), 1)), "number at `$.point.x`"),
    (Node, Node(point=Point(1, Plain())), "a Plain at `$.point.label`"),
    (Node, Node(some={(1,)}), "a tuple at `$.some[0]`"),
    (Node, Node(any_key={1: 1}), "a int as a key of the dict at `$.any_key`"),
    (Node, Node(any_key_of={1: Plain()}), "a int as a key of the dict at `$.any_key_of`"),
    (Box[list[Any]], Box([DAY]), "a date at `$.content[0]`"),
    (Box[Annotated[Any, msgspec.Meta(title="Content")]], Box(DAY), "a date at `$.content`"),
    (Box[Any], Box(Box(1)), "a Box at `$.content`"),
    (dict[str, Any] | None, {"a": DAY}, 'a date at `$["a"]`'),
    (Sequence[object], [DAY], "a date at `$[0]`"),
    (dict[str, object], {"a": {"b": (1,)}}, 'a tuple at `$["a"]["b"]`'),
    (int | Any, DAY, "a date at `$`"),
    (object, DAY, "a date at `$`"),
    (dict[str, float | None], {"a": float("-inf")}, 'number at `$["a"]`'),
    (list[dict[int, Any]], [{1: {2: 3}}], "a int as a key of the dict at `$[0][1]`"),
]


@pytest.mark.parametrize(("kind", "value", "what"), REFUSED, ids=lambda given: given if isinstance(given, str) else "")
def test_11_what_would_come_back_as_something_else_is_refused(kind: Any, value: Any, what: str) -> None:
    codec: JsonCodec[Any] = JsonCodec(kind)
    with pytest.raises(CodecError) as caught:
        codec.encode(value)
    assert f"{what} would come back as something else" in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Node, Node()),
        (Node, Node([Node(rest={"a": [1, None, {"b": 2.5}]})], rest="x", pair=(1, [2]), many=({}, {"a": 1}))),
        (Node, Node(either=Plain(3), point=Point(1.5, True), some={1, "a"}, any_key={"a": 1})),
        (Node, Node(either=Tagged([1]), orders={1: {"notes": {"a": []}, "total": None}, 2: {}})),
        (Box[Any], Box({"a": 1})),
        (dict[str, Any] | None, None),
        (dict[str, object], {"a": [1, "b", {}]}),
        (dict[int, Any], {1: {"a": 1}}),
        (object, 7),
        (Sequence[Any], [1]),
        (float | int | None, 1.5),
    ],
)
def test_all_else_comes_back(kind: Any, value: Any) -> None:
    codec: JsonCodec[Any] = JsonCodec(kind)
    assert codec.decode(codec.encode(value)) == value


odd = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats()
    | st.text(max_size=3)
    | st.sampled_from([DAY, b"x", Plain(), Point(None, 1), 1j]),
    lambda inside: (
        st.lists(inside, max_size=3)
        | st.lists(inside, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=2) | st.integers(0, 9) | st.booleans(), inside, max_size=3)
    ),
    max_leaves=6,
)


def same(one: Any, other: Any) -> bool:
    """Equal, and of the same classes all the way down."""
    if type(one) is not type(other):
        return False
    if isinstance(one, Box):
        return same(one.content, other.content)
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[name], other[name]) for name in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


@pytest.mark.parametrize(
    ("kind", "wrap"),
    [(object, lambda x: x), (dict[str, list[Any]] | None, lambda x: {"a": [x]}), (Box[Any], Box)],
    ids=["bare", "dict", "object"],
)
@settings(deadline=None)
@given(value=odd)
def test_11_anything_is_refused_or_comes_back_the_same(kind: Any, wrap: Any, value: Any) -> None:
    codec: JsonCodec[Any] = JsonCodec(kind)
    wrapped = wrap(value)
    try:
        encoded = codec.encode(wrapped)
    except CodecError:
        return
    assert same(codec.decode(encoded), wrapped)
