"""Rules 10 and 11: every kind of type comes back as it went, and what does not fit is told and left alone."""

# ruff: noqa: SIM118 - small blocks read best where they stand

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import enum
import functools
import pickle
import types
import typing
import uuid
from decimal import Decimal
from typing import Any, Literal, NamedTuple, TypedDict

import attrs
import msgspec
import pydantic
import pytest
from core_aids import Access, Pizza, Way, by_open, look, put, value_of
from hypothesis import given, settings
from hypothesis import strategies as st

from chatsession import (
    JsonCodec,
    SessionDecodeError,
    SessionEncodeError,
    SessionManager,
    SessionOptions,
    SessionTooLargeError,
)
from chatsession.serialization.codec import CodecError


class Size(enum.Enum):
    SMALL = "s"
    LARGE = "l"


class Level(enum.IntEnum):
    ONE = 1


class Step(msgspec.Struct, tag=True):
    name: str = "start"


class Pause(msgspec.Struct, tag=True):
    minutes: int = 5


class Flow(msgspec.Struct):
    stack: list[Step | Pause] = []
    at: dt.datetime | None = None


class Packed(msgspec.Struct, array_like=True):
    a: int = 1
    b: str = "x"


class Form(TypedDict, total=False):
    name: str
    age: int


@attrs.define
class Order:
    pizza: Pizza = attrs.field(factory=Pizza)
    paid: bool = False


class Point(NamedTuple):
    x: int = 0
    y: float = 0.5


class Profile(pydantic.BaseModel):
    name: str = ""
    born: dt.date | None = None
    tags: set[str] = set()


class Aliased(pydantic.BaseModel):
    count: int = pydantic.Field(0, alias="c")


class Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(strict=True)
    when: dt.datetime | None = None
    ids: tuple[int, ...] = ()
    size: Size = Size.SMALL


@dataclasses.dataclass
class Everything:
    number: int = -(2**63)
    real: float = 1e300
    text: str = "🍕\0\n\u2028"
    flag: bool = True
    raw: bytes = b"\x00\xff"
    size: Size = Size.LARGE
    level: Level = Level.ONE
    when: dt.datetime = dt.datetime(2026, 2, 28, 23, 59, 59, 999999, dt.UTC)
    day: dt.date = dt.date(2026, 2, 28)
    time: dt.time = dt.time(12, 30)
    wait: dt.timedelta = dt.timedelta(days=1, microseconds=1)
    id: uuid.UUID = dataclasses.field(default_factory=lambda: uuid.UUID(int=7))
    price: Decimal = Decimal("9.90")
    pair: tuple[int, str] = (1, "a")
    many: tuple[int, ...] = (1, 2, 3)
    tags: set[str] = dataclasses.field(default_factory=lambda: {"a", "b"})
    frozen: frozenset[int] = frozenset({1, 2})
    by_id: dict[int, list[Pizza]] = dataclasses.field(default_factory=lambda: {7: [Pizza(1)]})
    choice: Literal["a", "b"] = "b"
    maybe: Pizza | None = None
    profile: Profile = dataclasses.field(default_factory=lambda: Profile(name="x", tags={"t"}))
    order: Order = dataclasses.field(default_factory=Order)
    form: Form = dataclasses.field(default_factory=lambda: Form(name="x"))
    point: Point = dataclasses.field(default_factory=lambda: Point(1, 2.5))
    flow: Flow = dataclasses.field(default_factory=lambda: Flow([Step(), Pause(3)], dt.datetime(2026, 1, 1)))


ROUND_TRIPS: list[tuple[Any, Any]] = [
    (Pizza, Pizza(3, ["olives"])),
    (Everything, Everything()),
    (Flow, Flow([Step("x"), Pause()])),
    (Step | Pause, Pause(2)),
    (Packed, Packed(2, "y")),
    (Form, {"name": "x", "age": 3}),
    (Order, Order(Pizza(2), True)),
    (Point, Point(3, 4.5)),
    (Profile, Profile(name="x", born=dt.date(2000, 1, 1), tags={"a"})),
    (Aliased, Aliased(c=3)),
    (Strict, Strict(when=dt.datetime(2026, 1, 1), ids=(1, 2), size=Size.LARGE)),
    (list[Profile], [Profile(name="a")]),
    (Size, Size.LARGE),
    (dt.datetime, dt.datetime(2026, 1, 1, 12, 0, 0, 1)),
    (int, 5),
    (int, 2**64 - 1),
    (float, 0.1),
    (bool, False),
    (str, "🍕"),
    (bytes, b"\x00\x01"),
    (list, [1, "a", None, [2.5]]),
    (dict, {"a": {"b": [1]}}),
    (dict[str, int], {"a": 1}),
    (dict[int, str], {1: "a", -2: "b"}),
    (dict[str, Any], {"a": [1, {"b": None}]}),
    (set[int], {1, 2}),
    (tuple[int, str], (1, "a")),
    (list[Pizza | None], [Pizza(1), None]),
    (uuid.UUID, uuid.UUID(int=1)),
    (Decimal, Decimal("1.10")),
]


@pytest.mark.parametrize(("type_", "value"), ROUND_TRIPS, ids=lambda given: str(given)[:30])
async def test_10_every_kind_of_type_round_trips_to_the_same_type(storage: Any, type_: Any, value: Any) -> None:
    sessions: SessionManager[Any] = SessionManager(type=type_, storage=storage)
    async with sessions.open("chat") as s:
        s.data = value
    found = await sessions.get("chat")
    assert found == value
    assert type(found) is type(value)
    await by_open(sessions, "chat", look)
    assert len(storage.writes) == 1


def annotated() -> Pizza:
    return Pizza(7)


def named() -> Pizza:
    return Pizza()


class Kitchen:
    def pizza(self) -> Pizza:
        return Pizza(9)

    @staticmethod
    def static() -> Pizza:
        return Pizza(8)

    @classmethod
    def of_class(cls) -> Pizza:
        return Pizza(6)

    def __call__(self) -> Pizza:
        return Pizza(5)


@pytest.mark.parametrize(
    ("initial", "type_"),
    [
        (Pizza, Pizza),
        (annotated, Pizza),
        (functools.partial(Pizza, count=3), Pizza),
        (functools.partial(annotated), Pizza),
        (functools.partial(functools.partial(Pizza, count=3), toppings=[]), Pizza),
        (Kitchen().pizza, Pizza),
        (Kitchen.static, Pizza),
        (Kitchen.of_class, Pizza),
        (Kitchen(), Pizza),
        (dict[str, int], dict[str, int]),
        (list[Pizza], list[Pizza]),
        (int, int),
        (dict, dict),
        (Form, Form),
        (Profile, Profile),
        (Order, Order),
        (Point, Point),
        (lambda: 0, Any),
        (lambda: {"a": 1}, Any),
        (None, Any),
    ],
)
async def test_10_type_is_inferred_from_initial(initial: Any, type_: Any, storage: Any) -> None:
    options: SessionOptions[Any] = SessionOptions(initial=initial, storage=storage)
    assert options.value_type == type_
    sessions = SessionManager.from_options(options)
    made = None if initial is None else initial()
    async with sessions.open("chat") as s:
        assert s.data == made
        assert type(s.data) is type(made)
    assert await sessions.get("chat") == made


async def test_10_a_type_that_is_given_goes_before_the_inferred(storage: Any) -> None:
    sessions: SessionManager[Any] = SessionManager(lambda: 0, type=float, storage=storage)
    async with sessions.open("chat") as s:
        s.data = 2.5
    assert await sessions.get("chat") == 2.5


@pytest.mark.parametrize(
    ("initial", "message"),
    [
        (5, "must be a class or a function"),
        (lambda needed: needed, "called without arguments"),
        (Size, "called without arguments"),
    ],
)
def test_an_initial_that_cannot_be_called_is_refused_at_once(initial: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        SessionOptions(initial=initial)


def test_an_async_initial_is_refused_at_once() -> None:
    async def initial() -> int:
        return 1

    with pytest.raises(TypeError, match="must not be async"):
        SessionOptions(initial=initial)


def test_a_return_annotation_that_cannot_be_resolved_asks_for_type() -> None:
    def initial() -> "Missing":  # type: ignore[name-defined]  # noqa: F821, UP037
        return 0

    with pytest.raises(TypeError, match="pass type="):
        SessionManager(initial, storage="memory:")
    SessionManager(initial, type=int, storage="memory:")


@pytest.mark.parametrize("type_", [complex, Kitchen, dict[Any, complex]])
def test_types_that_cannot_be_stored_are_refused_when_the_manager_is_made(type_: Any) -> None:
    with pytest.raises(TypeError, match="cannot be stored"):
        SessionManager(type=type_, storage="memory:")


@pytest.mark.parametrize(
    ("type_", "stored", "path"),
    [
        (Pizza, b'{"count":"SECRET"}', "count"),
        (Everything, b'{"by_id":{"7":[{"count":"SECRET"}]}}', "by_id"),
        (Everything, b'{"size":"SECRET"}', "size"),
        (Everything, b'{"id":"SECRET"}', "id"),
        (Everything, b'{"when":"SECRET"}', "when"),
        (Everything, b'{"profile":{"born":"SECRET"}}', "born"),
        (Everything, b'{"choice":"SECRET"}', "choice"),
        (Flow, b'{"stack":[{"type":"SECRET"}]}', "stack"),
        (Form, b'{"age":"SECRET"}', "age"),
        (list[int], b'[1,"SECRET"]', r"\[1\]"),
        (int, b'"SECRET"', "int"),
        (int, b"SECRET", "JSON"),
        (int, b"", "JSON"),
        (int, b"\xff\xfeSECRET", "JSON"),
        (int, b"1 SECRET", "JSON"),
        (str, b'"\xffSECRET"', "JSON"),
        (Pizza, b"[" * 100_000, "array"),
        (dict[str, Any], b'{"SECRET":' * 100_000, "deep|JSON"),
        (Pizza, b"null", "object"),
    ],
)
async def test_10_stored_data_that_does_not_fit_is_an_error_with_the_path_and_stays(
    way: Way, storage: Any, type_: Any, stored: bytes, path: str
) -> None:
    await put(storage, "chat", stored)
    storage.writes.clear()
    sessions: SessionManager[Any] = SessionManager(type=type_, storage=storage)
    for use in (lambda: way(sessions, "chat", look), lambda: sessions.get("chat"), lambda: _all(sessions)):
        with pytest.raises(SessionDecodeError, match=path) as caught:
            await use()
        assert caught.value.key == "chat"
        assert "'chat'" in str(caught.value)
        _assert_tells_no_secret(caught.value)
    assert storage.writes == []
    assert await value_of(storage, "chat") == stored


@dataclasses.dataclass
class Checked:
    count: int = 0

    def __post_init__(self) -> None:
        if self.count > 9:
            raise ValueError(f"SECRET {self.count}")


class CheckedModel(pydantic.BaseModel):
    count: int = 0

    @pydantic.field_validator("count")
    @classmethod
    def small(cls, count: int) -> int:
        if count > 9:
            raise ValueError(f"SECRET {count}")
        return count


@pytest.mark.parametrize("type_", [Checked, list[Checked], CheckedModel, list[CheckedModel]])
async def test_10_what_a_class_of_the_users_says_of_bad_data_is_not_repeated(storage: Any, type_: Any) -> None:
    await put(storage, "chat", b'[{"count":77}]' if type_ not in (Checked, CheckedModel) else b'{"count":77}')
    with pytest.raises(SessionDecodeError) as caught:
        await SessionManager(type=type_, storage=storage).get("chat")
    _assert_tells_no_secret(caught.value)
    assert "77" not in str(caught.value)


@pytest.mark.parametrize("on_decode_error", ["quarantine", "reset"])
async def test_10_on_decode_error_starts_afresh(way: Way, storage: Any, on_decode_error: Any, caplog: Any) -> None:
    await put(storage, "bot:chat", b'"SECRET"')
    counters = SessionManager(int, storage=storage, prefix="bot:", on_decode_error=on_decode_error)

    async def handler(access: Access) -> None:
        assert await access.get() == 0
        access.set(1)

    await way(counters, "chat", handler)
    assert await counters.get("chat") == 1
    assert [key async for key in counters.keys()] == ["chat"]
    assert [entry async for entry in counters.entries()] == [("chat", 1)]
    assert [key async for key in SessionManager(storage=storage).keys()] == [], "they are not its own"
    assert "SECRET" not in caplog.text
    assert "'bot:chat'" in caplog.text
    keys, _ = await storage.scan_keys("!quarantine:", None, 10)
    aside = [await value_of(storage, key) for key in keys]
    assert aside == ([b'"SECRET"'] if on_decode_error == "quarantine" else [])


@pytest.mark.parametrize("on_decode_error", ["quarantine", "reset"])
async def test_10_on_decode_error_and_a_handler_that_fails_lose_nothing(
    way: Way, storage: Any, on_decode_error: Any
) -> None:
    await put(storage, "chat", b'"old"')

    async def fail(access: Access) -> None:
        await access.get()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await way(SessionManager(int, storage=storage, on_decode_error=on_decode_error), "chat", fail)
    assert await value_of(storage, "chat") == b'"old"'


class Opaque:
    def __repr__(self) -> str:
        return "SECRET"


UNENCODABLE: list[tuple[Any, Any, str]] = [
    (dict[str, Any], {"a": [1, Opaque()]}, r"\[1\]"),
    (Pizza, Pizza(toppings=[Opaque()]), r"toppings\[0\]"),  # type: ignore[list-item]
    (Flow, Flow(stack=[Opaque()]), r"stack\[0\]"),  # type: ignore[list-item]
    (dict, {"a": "\ud800SECRET"}, "Unicode"),
    (dict, {("SECRET",): 1}, "dict"),
    (dict, {"a": lambda: 0}, "function"),
    (int, "SECRET", "int"),
    (Pizza, Pizza(count="SECRET"), "count"),  # type: ignore[arg-type]
    (Profile, Profile.model_construct(born=Opaque()), "model_dump_json"),
    (float, float("nan"), "float"),
]


@pytest.mark.parametrize(("type_", "value", "path"), UNENCODABLE, ids=lambda given: type(given).__name__)
async def test_11_what_cannot_be_encoded_is_an_error_naming_the_field_and_nothing_is_written(
    way: Way, storage: Any, type_: Any, value: Any, path: str
) -> None:
    async def handler(access: Access) -> None:
        access.set(value)

    sessions: SessionManager[Any] = SessionManager(type=type_, storage=storage)
    with pytest.raises(SessionEncodeError, match=path) as caught:
        await way(sessions, "chat", handler)
    assert caught.value.key == "chat"
    assert "nothing was written" in str(caught.value)
    _assert_tells_no_secret(caught.value)
    assert storage.writes == []


async def test_11_a_value_that_contains_itself(way: Way, storage: Any) -> None:
    async def handler(access: Access) -> None:
        value = await access.get()
        value["self"] = value

    with pytest.raises(SessionEncodeError, match="contains itself"):
        await way(SessionManager(dict[str, Any], storage=storage), "chat", handler)
    assert storage.writes == []


@pytest.mark.parametrize("value", [(1, 2), {1, 2}, Pizza(), dt.date(2026, 1, 1), b"x"])
async def test_11_without_a_type_what_would_come_back_as_something_else_is_refused(storage: Any, value: Any) -> None:
    sessions = SessionManager(storage=storage)
    with pytest.raises(SessionEncodeError, match="pass type="):
        async with sessions.open("chat") as s:
            s.data = value
    assert storage.writes == []


@pytest.mark.parametrize(
    "value",
    [{1: 2}, {"a": (1, 2)}, {"a": {1: 2}}, {"a": [dt.date(2026, 1, 1)]}, {"a": Pizza()}, {"a": float("inf")}],
)
@pytest.mark.parametrize("type_", [dict, dict[str, Any], None])
async def test_11_inside_an_untyped_dict_too(storage: Any, type_: Any, value: Any) -> None:
    sessions: SessionManager[Any] = SessionManager(type=type_, storage=storage)
    with pytest.raises(SessionEncodeError):
        async with sessions.open("chat") as s:
            s.data = value
    assert storage.writes == []


@dataclasses.dataclass
class Loose:
    rest: dict[str, Any] = dataclasses.field(default_factory=dict)
    real: float | None = None


@pytest.mark.parametrize("value", [Loose(rest={"a": {1: 2}}), Loose(rest={"a": (1,)}), Loose(real=float("nan"))])
async def test_11_inside_a_typed_object_too(storage: Any, value: Loose) -> None:
    sessions = SessionManager(Loose, storage=storage)
    with pytest.raises(SessionEncodeError):
        async with sessions.open("chat") as s:
            s.data = value


@pytest.mark.parametrize("type_", [dict[str, Any], Loose])
@pytest.mark.parametrize("depth", [300, 940, 980, 5000])
async def test_11_what_is_nested_deeply_is_stored_or_refused(storage: Any, type_: Any, depth: int) -> None:
    value: dict[str, Any] = {}
    for _ in range(depth):
        value = {"a": value}
    sessions: SessionManager[Any] = SessionManager(type=type_, storage=storage)
    refused = None
    try:
        async with sessions.open("chat") as s:
            s.data = value if type_ is not Loose else Loose(rest=value)
    except SessionEncodeError as error:
        refused = str(error)
    assert (refused is None) == (storage.writes != [])
    assert refused is None or "nested too deeply" in refused


async def test_11_nothing_stored_is_executed(storage: Any) -> None:
    class Bomb:
        def __reduce__(self) -> Any:
            return pytest.fail, ("executed",)

    await put(storage, "chat", pickle.dumps(Bomb()))
    with pytest.raises(SessionDecodeError):
        await SessionManager(storage=storage).get("chat")


async def test_max_size(way: Way, storage: Any) -> None:
    async def handler(access: Access) -> None:
        access.set({"name": "x", "SECRET": "SECRET" * 30})

    sessions = SessionManager(dict[str, str], storage=storage, max_size=100)
    with pytest.raises(SessionTooLargeError, match=r"max_size \(100\)") as caught:
        await way(sessions, "chat", handler)
    assert "SECRETSECRET" not in str(caught.value)
    assert storage.writes == []


async def test_a_codec_of_ones_own(way: Way, storage: Any) -> None:
    class Reversed:
        def encode(self, value: str) -> bytes:
            return value.encode()[::-1]

        def decode(self, data: bytes) -> str:
            return data[::-1].decode()

    texts = SessionManager(str, storage=storage, codec=Reversed())

    async def handler(access: Access) -> None:
        access.set(await access.get() + "ab\0")

    await way(texts, "chat", handler)
    await way(texts, "chat", look)
    assert await value_of(storage, "chat") == b"\0ba"
    assert len(storage.writes) == 1


@pytest.mark.parametrize("method", ["encode", "decode"])
async def test_a_codec_of_ones_own_that_fails_is_named_without_its_words(storage: Any, method: str) -> None:
    class Broken:
        def encode(self, value: int) -> bytes:
            if method == "encode":
                raise KeyError("SECRET")
            return b"1"

        def decode(self, data: bytes) -> int:
            raise KeyError("SECRET")

    with pytest.raises(SessionEncodeError, match="KeyError") as caught:
        async with SessionManager(type=int, storage=storage, codec=Broken()).open("chat") as s:
            s.data = 1
    _assert_tells_no_secret(caught.value)
    assert storage.writes == []


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=4)
    ),
    max_leaves=20,
)


@settings(deadline=None)
@given(PLAIN)
def test_codec_round_trips_any_plain_value(value: Any) -> None:
    codec = JsonCodec[Any](Any)
    assert codec.decode(codec.encode(value)) == value


TYPES = st.recursive(
    st.sampled_from([int, float, str, bool, bytes, Size, dt.date, dt.timedelta, uuid.UUID, Decimal]),
    lambda inner: st.one_of(
        inner.map(lambda t: list[t]),  # type: ignore[valid-type]
        inner.map(lambda t: dict[str, t]),  # type: ignore[valid-type]
        inner.map(lambda t: tuple[t, ...]),
        inner.map(lambda t: t | None),
        st.tuples(inner, inner).map(lambda pair: tuple[pair[0], pair[1]]),  # type: ignore[valid-type]
    ),
    max_leaves=4,
)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_codec_round_trips_random_values_of_random_types(data: st.DataObject) -> None:
    type_ = data.draw(TYPES)
    with_limits = {
        int: st.integers(-(2**63), 2**63 - 1),
        float: st.floats(allow_nan=False, allow_infinity=False),
        str: st.text(st.characters(codec="utf-8")),
        Decimal: st.decimals(allow_nan=False, allow_infinity=False),
        dt.timedelta: st.timedeltas(dt.timedelta(-1000), dt.timedelta(1000)),
    }
    value = data.draw(_values(type_, with_limits))
    codec = JsonCodec[Any](type_)
    found = codec.decode(codec.encode(value))
    assert found == value
    assert type(found) is type(value)
    assert codec.encode(found) == codec.encode(value) or not codec.exact


@settings(deadline=None)
@given(st.binary())
def test_codec_answers_any_bytes_with_a_value_or_a_codec_error(data: bytes) -> None:
    for type_ in (Pizza, dict[str, int], Any):
        with contextlib.suppress(CodecError):
            JsonCodec[Any](type_).decode(data)


def _values(type_: Any, known: dict[Any, st.SearchStrategy[Any]]) -> st.SearchStrategy[Any]:
    origin, args = typing.get_origin(type_), typing.get_args(type_)
    if origin is list:
        return st.lists(_values(args[0], known), max_size=3)
    if origin is dict:
        return st.dictionaries(known[str], _values(args[1], known), max_size=3)
    if origin is tuple and args[-1] is Ellipsis:
        return st.lists(_values(args[0], known), max_size=3).map(tuple)
    if origin is tuple:
        return st.tuples(*(_values(arg, known) for arg in args))
    if isinstance(type_, types.UnionType) or origin is typing.Union:
        return st.one_of(*(_values(arg, known) for arg in args))
    return st.none() if type_ is type(None) else known[type_] if type_ in known else st.from_type(type_)


async def _all(sessions: SessionManager[Any]) -> list[Any]:
    return [entry async for entry in sessions.entries()]


def _assert_tells_no_secret(error: BaseException) -> None:
    """Neither it nor what a traceback would print beside it repeats the data."""
    seen: BaseException | None = error
    while seen is not None:
        assert "SECRET" not in f"{seen} {seen!r}"
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)


class FrameworkText(str):
    """As `message.text` is in some frameworks."""

    __slots__ = ("entities",)


@pytest.mark.parametrize("value_type", [dict, dict[str, str], list[str], list])
async def test_10_texts_of_a_frameworks_own_class_are_texts(value_type: Any) -> None:
    value: Any = [FrameworkText("pizza")] if value_type in (list, list[str]) else {"text": FrameworkText("pizza")}
    async with SessionManager(value_type, storage="memory:") as sessions:
        await sessions.update(1, lambda _: value)
        assert await sessions.get(1) == value
