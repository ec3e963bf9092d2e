"""The parameters of handlers, including those behind decorators."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from functools import partial
from itertools import chain

from chatsession._signatures import signature_of

AnyCallable = Callable[..., object]

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def parameters_of(function: AnyCallable) -> list[inspect.Parameter]:
    """The parameters of a function; none if its signature is not available."""
    try:
        return list(signature_of(function).parameters.values())
    except (TypeError, ValueError):
        return []


def first_parameters(function: AnyCallable, given: int) -> frozenset[str]:
    """The names of those parameters that a framework fills by position.

    Args:
        function: a handler.
        given: how many there are.
    """
    positional = [each.name for each in parameters_of(function) if each.kind in _POSITIONAL]
    return frozenset(positional[:given])


def takes_keywords(parameters: Collection[inspect.Parameter]) -> bool:
    """Whether `**kwargs` is among the parameters."""
    return any(each.kind is each.VAR_KEYWORD for each in parameters)


def parameters_behind(function: AnyCallable, given: int) -> frozenset[str]:
    """The parameters of the functions to which a wrapper without `functools.wraps` passes its `**kwargs`.

    Those that a framework fills by position, `given` of them, do not count.

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
            names.update({each.name for each in parameters} - first_parameters(hidden, given))
            if takes_keywords(parameters):
                wrappers.append(hidden)
    return frozenset(names)


def mentioned_by(function: AnyCallable) -> frozenset[str]:
    """The strings in the code of a function with `**kwargs`, or of a class, such as the key in `kwargs["session"]`.

    The functions behind a wrapper count, and so do strings and functions that the code refers to as globals.
    """
    found: set[str] = set()
    left, seen = [function], {id(function)}
    while left:
        each = left.pop()
        found.update(value for value in _referred_to(each) if isinstance(value, str))
        for kept in _kept_by(each):
            if id(kept) not in seen and takes_keywords(parameters_of(kept)):
                seen.add(id(kept))
                left.append(kept)
    return frozenset(found)


def bound_values(function: AnyCallable) -> Mapping[str, object]:
    """The keyword arguments bound by `functools.partial`, also behind decorators that use `functools.wraps`."""
    function = inspect.unwrap(function, stop=lambda each: isinstance(each, partial))
    return function.keywords if isinstance(function, partial) else {}


def _kept_by(function: AnyCallable) -> Iterator[AnyCallable]:
    """The functions that a function, a method, a partial or an object keeps or refers to, and could call."""
    if isinstance(function, partial):
        kept: list[object] = [function.func, *function.args]
    elif inspect.ismethod(function):
        kept = [function.__func__, *_attributes_of(function.__self__)]
    elif inspect.isfunction(function):
        kept = list(_referred_to(function))
    else:
        kept = list(_attributes_of(function))
    for each in kept:
        if callable(each) and not inspect.isclass(each):
            yield each


def _attributes_of(owner: object) -> Iterator[object]:
    yield from getattr(owner, "__dict__", {}).values()
    for slot in chain.from_iterable(vars(cls).values() for cls in type(owner).__mro__):
        if inspect.ismemberdescriptor(slot):
            with suppress(AttributeError):  # nothing was assigned yet
                yield slot.__get__(owner)


def _referred_to(function: AnyCallable) -> Iterator[object]:
    """The constants, globals and variables of outer functions in the code of a function, a method or a class."""
    if inspect.isclass(function):
        for value in chain.from_iterable(vars(each).values() for each in function.__mro__):
            for method in (value, *(getattr(value, name, None) for name in ("fget", "func", "__func__"))):
                if inspect.isfunction(method):
                    yield from _referred_to(method)
    elif inspect.ismethod(function):
        yield from _referred_to(function.__func__)
    elif inspect.isfunction(function):
        for cell in function.__closure__ or ():
            with suppress(ValueError):  # nothing was assigned yet
                yield cell.cell_contents
        codes = [function.__code__]
        for code in codes:
            codes += [constant for constant in code.co_consts if inspect.iscode(constant)]
            yield from code.co_consts
            yield from [function.__globals__[name] for name in code.co_names if name in function.__globals__]
