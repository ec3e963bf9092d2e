"""From data of an older version of a bot to that of today, step by step."""

from __future__ import annotations

import inspect
import reprlib
import sys
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, cast, get_type_hints

import msgspec
from msgspec import Struct

from chatsession._signatures import signature_of
from chatsession.errors import SessionMigrationError
from chatsession.serialization.codec import CodecError, JsonCodec
from chatsession.serialization.comparison import step_to
from chatsession.serialization.models import to_json
from chatsession.serialization.reads import NotedDict

Migration: TypeAlias = Callable[[Any], object]
"""From the data of one version to that of the next; its annotations, if it has any, say which types these are."""


class _Step(Struct, frozen=True):
    version: float
    function: Migration
    takes: object
    gives: object
    codec: JsonCodec[Any]


class Migrations:
    """All steps of one kind of session, in order.

    A function without annotations takes and returns plain JSON data (dicts, lists, strings, numbers). If it names the
    type of its argument, it gets a value of that type, checked; the type that it returns must fit the next step.
    Stored fields that a type does not know are kept: those of the object itself, and at every depth if a step takes
    and returns the same type.

    Args:
        steps: functions by version, which may be any number: `{1: f, 2: g, 10.1: h}`. Data without a version is
            older than the lowest.

    Raises:
        TypeError: a step is not a function of one argument, is async, or does not take what the one before returns.
        ValueError: there is no step, or a version is not a number.
    """

    def __init__(self, steps: Mapping[float, Migration]) -> None:
        if not isinstance(cast("object", steps), Mapping):
            raise TypeError(
                "migrations takes a mapping from version to function, as in migrations={1: function}, not a "
                f"{type(steps).__name__}"
            )
        if not steps:
            raise ValueError("migrations must name at least one step, as in migrations={1: function}")
        for version in steps:
            if type(version) not in (int, float) or not abs(version) <= sys.float_info.max:  # also NaN
                raise ValueError(f"versions of migrations are numbers, not {reprlib.repr(version)}")
        self._steps = [_step(version, steps[version]) for version in sorted(steps)]
        for one, two in zip(self._steps, self._steps[1:], strict=False):
            if Any not in (one.gives, two.takes) and one.gives != two.takes:
                raise TypeError(
                    f"migration {one.version:g} gives {one.gives!r}, but migration {two.version:g} takes {two.takes!r}"
                )
        self.latest: float = self._steps[-1].version

    def run(self, key: str, data: bytes, version: float | None) -> bytes:
        """Migrate JSON data to the latest version.

        Raises:
            CodecError: it is not JSON.
            SessionMigrationError: a step failed, or the data is newer than all steps; what is stored stays.
        """
        if version is not None and version > self.latest:
            raise SessionMigrationError(
                f"its data has version {_told(version)}, but the newest migration known here is {self.latest:g}; it is "
                "left as it is (was an older version of the program started?)",
                key=key,
            )
        for step in self._steps:
            if version is None or step.version > version:
                data = _run(step, key, data)
        return data

    def would_drop(self, key: str, data: bytes, version: float | None) -> str | None:
        """Find a field that a step would drop without having read it.

        Returns:
            The path of the first such field; `None` if there is none.

        Raises:
            CodecError: it is not JSON.
            SessionMigrationError: a step failed, or the data is newer than all steps.
        """
        for step in self._steps:
            if version is None or step.version > version:
                found = _dropped(step, key, data)
                if found is not None:
                    return found
                data = _run(step, key, data)
        return None


def _told(version: float) -> str:
    return f"{version:g}" if abs(version) < 1e300 else "a number of hundreds of digits"


def _run(step: _Step, key: str, data: bytes) -> bytes:
    try:
        given = step.codec.decode(data)
    except CodecError as error:
        if step.takes is Any:  # it is not JSON at all
            raise
        raise _failed(step, key, f"takes data that does not fit: {error}") from None
    try:
        result = step.function(given)
    except Exception as error:
        raise _failed(step, key, f"raised {type(error).__name__}") from error
    if result is None:
        raise _failed(step, key, "returned None; it must return the new data")
    try:
        encoded = msgspec.json.encode(result, enc_hook=to_json)
    except Exception as error:
        raise _failed(step, key, f"returned something that is not JSON ({type(error).__name__})") from None
    if step.takes == step.gives:
        return step.codec.carry_over(data, encoded)
    return step.codec.carry_past(data, encoded)


def _dropped(step: _Step, key: str, data: bytes) -> str | None:
    try:
        given = step.codec.decode(data)
        if not isinstance(given, dict):
            return step.codec.would_lose(data)
    except CodecError as error:
        raise _failed(step, key, f"takes data that does not fit: {error}") from None
    noted = NotedDict(cast("dict[str, Any]", given))
    try:
        name = noted.dropped(step.function(noted))
    except Exception as error:
        raise _failed(step, key, f"raised {type(error).__name__}") from error
    return None if name is None else "$" + step_to(name)


def _failed(step: _Step, key: str, what: str) -> SessionMigrationError:
    return SessionMigrationError(f"migration {step.version:g} {what}; what is stored is left as it is", key=key)


def _step(version: float, function: Migration) -> _Step:
    if not callable(function) or inspect.iscoroutinefunction(function):
        raise TypeError(f"migration {version:g} must be a plain function of one argument, not {function!r}")
    takes, gives = _types(version, function)
    return _Step(version, function, takes, gives, cast("JsonCodec[Any]", JsonCodec(takes)))


def _types(version: float, function: Migration) -> tuple[object, object]:
    """The types that a step takes and returns, as far as they are annotated."""
    try:
        signature = signature_of(function)
        signature.bind(None)
    except TypeError as error:
        raise TypeError(f"migration {version:g} is called with the old data alone: {error}") from None
    except ValueError:  # some built-in functions have no signature to look at
        return Any, Any
    call = function if inspect.isroutine(function) or isinstance(function, type) else function.__call__
    if isinstance(call, type):
        return Any, call
    try:
        hints = get_type_hints(call)
    except NameError as error:
        raise TypeError(f"the annotations of migration {version:g} cannot be resolved: {error}") from None
    first = next(iter(signature.parameters), "")
    takes, gives = (hints.get(name, Any) for name in (first, "return"))
    return Any if takes is object else takes, Any if gives is object else gives
