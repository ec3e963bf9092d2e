"""Fields that a class does not know are kept at every depth, for as long as the object that holds them is there."""

from __future__ import annotations

import inspect
import sys
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

import attrs
import msgspec
import pydantic
import pytest
from typing_extensions import TypeAliasType, TypedDict

from chatsession.serialization.codec import CodecError, JsonCodec


@dataclass
class Item:
    id: int = 0
    count: int = 1
    more: Item | None = None


@dataclass(frozen=True)
class Label:
    text: str


class Pos(NamedTuple):
    x: int
    item: Item


class Card(msgspec.Struct, tag="card"):
    number: str = ""


class Cash(msgspec.Struct, tag="cash"):
    coins: int = 0


class Packed(msgspec.Struct, array_like=True):
    x: int = 0
    item: Item | None = None


class Address(TypedDict, total=False):
    street: str


@attrs.define
class Account:
    owner: Item | None = None


@dataclass
class Cart:
    items: list[Item] = field(default_factory=list[Item])
    by_id: dict[int, Item] = field(default_factory=dict[int, Item])
    first: Item | None = None
    payment: Card | Cash | None = None
    address: Address | None = None
    account: Account | None = None
    pos: Pos | None = None
    pair: tuple[int, Item] | None = None
    packed: Packed | None = None
    labels: set[Label] = field(default_factory=set[Label])
    nested: dict[str, list[Item | None]] = field(default_factory=dict[str, list[Item | None]])
    noted: Annotated[Item, msgspec.Meta(description="as in a JSON schema")] | None = None
    paid: Annotated[Card | Cash, msgspec.Meta(title="Payment")] | list[Item] | None = None


class Cat(pydantic.BaseModel):
    kind: Literal["cat"] = "cat"
    lives: int = 9


class Dog(pydantic.BaseModel):
    kind: Literal["dog"] = "dog"
    toys: list[str] = []


class Owner(pydantic.BaseModel):
    name: str = pydantic.Field("", alias="n")
    pet: Annotated[Cat | Dog, pydantic.Field(discriminator="kind")] | None = None
    pets: list[Cat | Dog] = []
    homes: dict[str, Address] = {}
    friend: Owner | None = None


class Open(pydantic.BaseModel, extra="allow"):
    cat: Cat | None = None


T = TypeVar("T")
Optional = TypeAliasType("Optional", T | None, type_params=(T,))


class Leaf(pydantic.BaseModel):
    size: int


class Aliased(pydantic.BaseModel):
    cat: Optional[Cat] = None
    mixed: Leaf | dict[str, Leaf] | None = None
    json_value: pydantic.JsonValue = None


class Legacy(pydantic.BaseModel):
    count: int = 0

    @pydantic.model_validator(mode="before")
    @classmethod
    def rename(cls, data: Any) -> Any:
        return {"count": data["n"]} if "n" in data else data


@dataclass
class Holder:
    owner: Owner | None = None


def change(kind: Any, stored: Any, function: Any) -> Any:
    codec: JsonCodec[Any] = JsonCodec(kind)
    data = msgspec.json.encode(stored)
    value = codec.decode(data)
    value = function(value) or value
    return msgspec.json.decode(codec.carry_over(data, codec.encode(value)))


def set_count(item: Item) -> None:
    item.count = 7


NEW = {"new": {"x": [1]}}

DEEP: list[tuple[Any, dict[str, Any], Any, str]] = [
    (Cart, {"first": NEW}, lambda cart: set_count(cart.first), "first"),
    (Cart, {"first": {"more": {"more": NEW}}}, lambda cart: set_count(cart.first), "first.more.more"),
    (Cart, {"items": [{"id": 1}, {"id": 2, **NEW}]}, lambda cart: set_count(cart.items[1]), "items.1"),
    (Cart, {"by_id": {"7": NEW}}, lambda cart: set_count(cart.by_id[7]), "by_id.7"),
    (Cart, {"payment": {"type": "cash", **NEW}}, lambda cart: setattr(cart.payment, "coins", 2), "payment"),
    (Cart, {"address": NEW}, lambda cart: cart.address.update(street="x"), "address"),
    (Cart, {"account": {"owner": NEW}}, lambda cart: set_count(cart.account.owner), "account.owner"),
    (Cart, {"pos": [1, NEW]}, lambda cart: set_count(cart.pos.item), "pos.1"),
    (Cart, {"pair": [1, NEW]}, lambda cart: set_count(cart.pair[1]), "pair.1"),
    (Cart, {"packed": [1, NEW]}, lambda cart: set_count(cart.packed.item), "packed.1"),
    (Cart, {"labels": [{"text": "a", **NEW}]}, lambda cart: cart.items.append(Item()), "labels.0"),
    (Cart, {"nested": {"a": [None, NEW]}}, lambda cart: set_count(cart.nested["a"][1]), "nested.a.1"),
    (Cart, {"paid": {"type": "cash", **NEW}}, lambda cart: setattr(cart.paid, "coins", 2), "paid"),
    (Cart, {"noted": NEW}, lambda cart: set_count(cart.noted), "noted"),
    (list[Item], [NEW], lambda items: set_count(items[0]), "0"),
    (list[Annotated[Item, msgspec.Meta(title="An item")]], [NEW], lambda items: set_count(items[0]), "0"),
    (dict[str, Item], {"a": NEW}, lambda items: set_count(items["a"]), "a"),
    (Item | None, {"more": NEW}, set_count, "more"),  # type: ignore[dict-item]
    (Owner, NEW, lambda owner: setattr(owner, "name", "x"), ""),
    (Owner, {"pet": {"kind": "dog", **NEW}}, lambda owner: owner.pet.toys.append("x"), "pet"),
    (
        Owner,
        {"pets": [{"kind": "cat"}, {"kind": "dog", **NEW}]},
        lambda owner: owner.pets[1].toys.append("x"),
        "pets.1",
    ),
    (Owner, {"homes": {"a": NEW}}, lambda owner: owner.homes["a"].update(street="x"), "homes.a"),
    (Owner, {"friend": {"friend": NEW}}, lambda owner: setattr(owner, "name", "x"), "friend.friend"),
    (Open, {"cat": NEW}, lambda model: setattr(model.cat, "lives", 2), "cat"),
    (Aliased, {"cat": NEW}, lambda model: setattr(model.cat, "lives", 2), "cat"),
    (Aliased, {"mixed": {"a": {"size": 1, **NEW}}}, lambda model: setattr(model.mixed["a"], "size", 2), "mixed.a"),
    (Holder, {"owner": {"friend": NEW}}, lambda holder: setattr(holder.owner, "name", "x"), "owner.friend"),
]


@pytest.mark.parametrize(
    ("kind", "stored", "function", "path"), DEEP, ids=lambda given: given if isinstance(given, str) else ""
)
def test_10a_unknown_fields_are_kept_at_every_depth(kind: Any, stored: Any, function: Any, path: str) -> None:
    found = change(kind, stored, function)
    for step in path.split(".") if path else ():
        found = found[int(step) if isinstance(found, list) else step]
    assert found["new"] == {"x": [1]}


RECURSIVE = """
class Leaf(pydantic.BaseModel):
    size: int = 0
type Tree = Leaf | list[Tree] | dict[str, Tree]
type Plain = dict[str, int | list[Plain]]
class Trees(pydantic.BaseModel):
    tree: Tree = Leaf()
"""


@pytest.mark.skipif(sys.version_info < (3, 12), reason="the type statement came with Python 3.12")
def test_10a_in_types_that_contain_themselves() -> None:
    scope: dict[str, Any] = {"pydantic": pydantic}
    exec(compile(RECURSIVE, "recursive.py", "exec", dont_inherit=True), scope)  # with annotations that are evaluated
    stored = {"tree": [{"size": 1}, {"a": [{"size": 2, **NEW}]}]}
    found = change(scope["Trees"], stored, lambda model: setattr(model.tree[0], "size", 3))
    assert found == {"tree": [{"size": 3}, {"a": [{"size": 2, **NEW}]}]}
    with pytest.raises(TypeError, match="it contains itself"):
        JsonCodec[Any](scope["Plain"])


ITEMS = {"items": [{"id": 1, "new": "a"}, {"id": 2}, {"id": 3, "new": "c"}]}


def news(found: Any) -> list[tuple[int, str | None]]:
    return [(item["id"], item.get("new")) for item in found["items"]]


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda items: items.reverse(), [(3, "c"), (2, None), (1, "a")]),
        (lambda items: items.pop(0), [(2, None), (3, "c")]),
        (lambda items: items.insert(0, Item(9)), [(9, None), (1, "a"), (2, None), (3, "c")]),
        (lambda items: set_count(items[2]), [(1, "a"), (2, None), (3, "c")]),
        (lambda items: (set_count(items[0]), items.append(Item(4, 5))), [(1, "a"), (2, None), (3, "c"), (4, None)]),
        (lambda items: (items.pop(0), set_count(items[0]), set_count(items[1])), [(2, None), (3, "c")]),
        (lambda items: (items.reverse(), set_count(items[0])), [(3, "c"), (2, None), (1, "a")]),
        (lambda items: items.clear(), []),
    ],
)
def test_10a_items_of_lists_keep_theirs_wherever_they_move(function: Any, expected: Any) -> None:
    assert news(change(Cart, ITEMS, lambda cart: function(cart.items) and None)) == expected


def test_10a_with_the_object_its_unknown_fields_go() -> None:
    assert "first" in change(Cart, {"first": NEW}, lambda cart: setattr(cart, "first", None))
    assert change(Cart, {"first": NEW}, lambda cart: setattr(cart, "first", None))["first"] is None
    assert change(Cart, {"by_id": {"7": NEW}}, lambda cart: cart.by_id.clear())["by_id"] == {}
    cash = change(Cart, {"payment": {"type": "card", **NEW}}, lambda cart: setattr(cart, "payment", Cash()))["payment"]
    assert cash == {"type": "cash", "coins": 0}


def test_10a_what_a_model_takes_itself_is_not_unknown() -> None:
    assert change(Open, {"x": 1, "y": 2}, lambda model: delattr(model, "x")) == {"cat": None, "y": 2}
    by_name = "by_name" in inspect.signature(Owner.model_validate_json).parameters
    name = "name" if by_name else "n"  # as pydantic has it below 2.11
    assert change(Owner, {"n": "a"}, lambda owner: setattr(owner, "name", "b")).items() >= {name: "b"}.items()
    assert ("n" in change(Owner, {"n": "a"}, lambda owner: setattr(owner, "name", "b"))) != by_name
    assert change(Legacy, {"n": 3}, lambda legacy: setattr(legacy, "count", 4)) == {"count": 4}


def test_10a_what_is_kept_is_kept_to_the_byte() -> None:
    codec: JsonCodec[Cart] = JsonCodec(Cart)
    stored = b'{"first":{"new":1.50,"big":123456789012345678901234567890}}'
    carried = codec.carry_over(stored, codec.encode(Cart(first=Item(3))))
    assert b'"new":1.50' in carried
    assert b"123456789012345678901234567890" in carried


def test_10a_a_field_whose_name_is_not_utf8_is_an_error_not_a_loss() -> None:
    codec: JsonCodec[Cart] = JsonCodec(Cart)
    with pytest.raises(CodecError, match="not UTF-8"):
        codec.carry_over(b'{"first":{"\xf4":1}}', codec.encode(Cart()))


class Excluding(pydantic.BaseModel):
    name: str = ""
    secret: str = pydantic.Field("", exclude=True)


@pytest.mark.parametrize(
    ("kind", "stored", "lost"),
    [
        (Cart, {"items": [{"id": 1, "new": 1}], "by_id": {"7": {"new": 2}}, "new": 1, "pos": [1, {"new": 1}]}, None),
        (Owner, {"n": "a", "pets": [{"kind": "dog", "new": 1}], "new": 1}, None),
        (Cart, {"packed": [1, None, 3]}, None),
        (dict[str, Any], {"a": {"b": [1, {}]}}, None),
        (Excluding, {"name": "a", "secret": "b"}, "$.secret"),
        (list[Excluding], [{"secret": "b"}], "$[0].secret"),
        (Legacy, {"n": 3, "note": 1}, None),
        (set[int], [1, 1], "$[1]"),
    ],
)
def test_what_a_rewrite_would_lose_is_told_by_its_path(kind: Any, stored: Any, lost: str | None) -> None:
    assert JsonCodec[Any](kind).would_lose(msgspec.json.encode(stored)) == lost
