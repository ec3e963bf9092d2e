"""Which handlers use `bot_data`: only these wait for its lock, so that it holds nobody else up.

`context.bot_data` is read without an `await`, so its lock must be there before. python-telegram-bot does not tell
whether a handler will read it; the handler's code does. What is looked at is the callback and the functions of the
program that it may call, by name. That finds too many rather than too few.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Iterable, Iterator, Mapping
from types import CodeType, FunctionType, ModuleType
from typing import Any, cast

_NAME = "bot_data"
_FOREIGN = sys.stdlib_module_names | {"telegram", "chatsession", "apscheduler", "msgspec"}
_MOST = 2_000
"""Functions to look at; a program that has more reachable ones is taken to use `bot_data`."""


def uses_bot_data(callbacks: Iterable[object], context_class: type[object]) -> bool:
    """Whether one of several callbacks may use `bot_data`.

    Args:
        callbacks: of a handler or a job, and what is known to be called by it.
        context_class: whose attributes it may use.
    """
    waiting, seen = [function for callback in callbacks for function in _functions(callback)], set[FunctionType]()
    while waiting:
        function = waiting.pop()
        if function in seen:
            continue
        seen.add(function)
        names = _names(function.__code__)
        if _NAME in names or len(seen) > _MOST:
            return True
        waiting += _reached(function, names, context_class)
    return False


def _functions(value: object) -> Iterator[FunctionType]:
    """The functions behind something that can be called."""
    if isinstance(value, functools.partial):
        yield from _functions(cast("functools.partial[Any]", value).func)
    elif isinstance(value, property):
        yield from _functions(value.fget)
    elif isinstance(value, (classmethod, staticmethod)):
        yield from _functions(cast("Any", value).__func__)
    elif inspect.ismethod(value):
        yield from _functions(value.__func__)
    elif isinstance(value, FunctionType):
        yield value
    elif isinstance(value, type):
        if not _is_foreign(value):
            for member in vars(value).values():
                if not isinstance(member, type):
                    yield from _functions(member)
    elif callable(value) and not _is_foreign(type(value)):
        yield from _functions(type(value))


@functools.cache
def _names(code: CodeType) -> set[str]:
    """All names that some code mentions, and those of functions inside of it."""
    names = {*code.co_names, *code.co_freevars}
    for const in code.co_consts:
        if isinstance(const, CodeType):
            names |= _names(const)
        elif const == _NAME:  # getattr(context, "bot_data")
            names.add(const)
    return names


def _reached(function: FunctionType, names: set[str], context_class: type[object]) -> Iterator[FunctionType]:
    """The functions of the program that some code may call, by the names that it mentions."""
    for cell in function.__closure__ or ():
        yield from _functions(_content(cell))
    scope = function.__globals__
    holders: list[object] = [value for value in scope.values() if isinstance(value, type)]  # for methods of any object
    holders += context_class.__mro__
    for name in names.intersection(scope):
        holders += [scope[name]] if isinstance(scope[name], ModuleType) else type(scope[name]).__mro__
    spaces: list[Mapping[str, object]] = [scope, *[vars(holder) for holder in holders if not _is_foreign(holder)]]
    for space in spaces:
        for name in names.intersection(space):
            if not _is_foreign(space[name]):
                yield from _functions(space[name])


def _content(cell: Any) -> object:
    try:
        return cell.cell_contents
    except ValueError:  # not filled yet
        return None


def _is_foreign(value: object) -> bool:
    """Whether it belongs to a library that cannot use the `bot_data` of a program."""
    name = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
    return isinstance(name, str) and name.partition(".")[0] in _FOREIGN
