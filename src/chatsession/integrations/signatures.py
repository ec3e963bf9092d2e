"""The parameters of handlers, including those behind decorators."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial
from types import FunctionType

from chatsession._signatures import signature_of

AnyCallable = Callable[..., object]


def parameters_of(function: AnyCallable) -> list[inspect.Parameter]:
    """The parameters of a function; none if its signature is not available."""
    try:
        return list(signature_of(function).parameters.values())
    except (TypeError, ValueError):
        return []


def takes_keywords(parameters: Collection[inspect.Parameter]) -> bool:
    """Whether `**kwargs` is among the parameters."""
    return any(each.kind is each.VAR_KEYWORD for each in parameters)


def parameters_behind(function: AnyCallable) -> frozenset[str]:
    """The parameters of the functions to which a wrapper without `functools.wraps` passes its `**kwargs`.

    The wrapped function is found where the wrapper keeps it: in its closure, in a `functools.partial`, or in the
    attributes of its object.
    """
    names: set[str] = set()
    wrappers, seen = [function], {id(function)}
    while wrappers:
        for hidden in _kept_by(wrappers.pop()):
            if id(hidden) in seen:
                continue
            seen.add(id(hidden))
            parameters = parameters_of(hidden)
            names.update(each.name for each in parameters)
            if takes_keywords(parameters):
                wrappers.append(hidden)
    return frozenset(names)


def bound_values(function: AnyCallable) -> Mapping[str, object]:
    """The keyword arguments bound by `functools.partial`, also behind decorators that use `functools.wraps`."""
    function = inspect.unwrap(function, stop=lambda each: isinstance(each, partial))
    return function.keywords if isinstance(function, partial) else {}


def _kept_by(function: AnyCallable) -> Iterator[AnyCallable]:
    """The functions that a function, a method, a partial or an object keeps, and could call."""
    if isinstance(function, partial):
        kept: list[object] = [function.func, *function.args]
    elif inspect.ismethod(function):
        kept = [function.__func__, *getattr(function.__self__, "__dict__", {}).values()]
    elif inspect.isfunction(function):
        kept = list(_around(function))
    else:
        kept = list(getattr(function, "__dict__", {}).values())
    for each in kept:
        if callable(each) and not inspect.isclass(each):
            yield each


def _around(function: FunctionType) -> Iterator[object]:
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # nothing was assigned yet
            continue
