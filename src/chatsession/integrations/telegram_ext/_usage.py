"""What a callback uses of its context, as its source tells.

`context.session` is read without an `await`, so it must be loaded before. python-telegram-bot gives every handler the
context, and does not tell which of them need a session. The source does: it is followed into the functions to which
the callback hands its context on. Where it cannot be followed, the callback counts as one that uses everything.
"""

from __future__ import annotations

import ast
import builtins
import functools
import inspect
import textwrap
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any, NamedTuple, cast

from chatsession.integrations.telegram_ext._bot_data import uses_bot_data
from chatsession.integrations.update_scope import SessionBindings

_FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef
_LOOKS_AT_VARIABLES = frozenset(("eval", "exec", "globals", "locals", "vars"))
_WITHOUT_SESSIONS = ("telegram", "chatsession")
"""Packages whose methods of a context use no session, but by names that the callback itself mentions."""
_NEED_SESSIONS = frozenset(("save_session", "release_session", "after_commit"))
"""The methods of contexts that need an open session."""


class Usage(NamedTuple):
    """What a callback uses, or may use, of its context."""

    attributes: frozenset[str] | None
    """`None`: unknown, perhaps all."""
    bot_data: bool

    def sessions(self, bindings: SessionBindings) -> bool:
        """Whether it uses a session."""
        return self.attributes is None or not self.attributes.isdisjoint(bindings.names | _NEED_SESSIONS)


def usage_of(callback: object, position: int, context_class: type[Any]) -> Usage:
    """What a callback uses of its context.

    Args:
        callback: of a handler or a job.
        position: of the context among its parameters.
        context_class: whose methods and properties the callback may use.
    """
    reader = _Reader(context_class)
    try:
        reader.follow(callback, position)
        attributes = frozenset(reader.names)
    except _UnknownError:
        attributes = None
    return Usage(attributes, uses_bot_data([callback, *reader.functions()], context_class))


class _UnknownError(Exception):
    """The context goes where it cannot be followed."""


class _Reader:
    """Follows a context through the functions that get it.

    Args:
        context_class: of the context.
    """

    def __init__(self, context_class: type[Any]) -> None:
        self.names: set[str] = set()
        self._context_class = context_class
        self._seen: set[tuple[FunctionType, int, int | str]] = set()
        """Functions with the `id` of their owner, since those that a decorator makes share their code."""

    def functions(self) -> set[FunctionType]:
        """Those that get the context."""
        return {function for function, *_ in self._seen}

    def follow(self, callee: object, parameter: int | str) -> None:
        """A function gets the context as a parameter, told by position or name. Raises `_UnknownError`."""
        if isinstance(callee, functools.partial):
            bound = cast("functools.partial[Any]", callee)
            self.follow(bound.func, parameter + len(bound.args) if isinstance(parameter, int) else parameter)
        elif isinstance(callee, MethodType):
            inner = parameter + 1 if isinstance(parameter, int) else parameter
            self._read(callee.__func__, inner, callee.__self__)
        elif isinstance(callee, FunctionType):
            self._read(callee, parameter, None)
        elif isinstance(called := inspect.getattr_static(type(callee), "__call__", None), FunctionType):
            self.follow(MethodType(called, callee), parameter)
        else:
            raise _UnknownError

    def use(self, name: str) -> None:
        """An attribute of the context is used, and with it what the program's own context class does by it."""
        self.names.add(name)
        attribute = inspect.getattr_static(self._context_class, name, None)
        if isinstance(attribute, property):
            attribute = attribute.fget
        elif isinstance(attribute, functools.cached_property):
            attribute = cast("functools.cached_property[Any]", attribute).func
        if isinstance(attribute, FunctionType):
            if attribute.__module__.partition(".")[0] not in _WITHOUT_SESSIONS:
                self.follow(attribute, 0)
        elif _runs_code(attribute, self._context_class):
            raise _UnknownError

    def _read(self, function: object, parameter: int | str, owner: object) -> None:
        if not isinstance(function, FunctionType):
            raise _UnknownError
        place = (function, id(owner), parameter)
        if place not in self._seen:
            self._seen.add(place)
            _Body(function, owner).read(parameter, self)


def _runs_code(attribute: object, context_class: type[Any]) -> bool:
    """Whether a descriptor, such as `partialmethod`, gives the value of an attribute, or `__getattr__` does."""
    if attribute is None:
        return hasattr(context_class, "__getattr__")
    return isinstance(inspect.getattr_static(type(attribute), "__get__", None), FunctionType)


class _Body:
    """The source of a function.

    Args:
        function: whose source it is.
        owner: of which it is a method; `None`: it is none.
    """

    def __init__(self, function: FunctionType, owner: object) -> None:
        node = _source_of(function.__code__)
        if node is None:
            raise _UnknownError
        self._function = function
        self._owner = owner
        self._node = node
        self._positional = [each.arg for each in (*node.args.posonlyargs, *node.args.args)]
        self._parents = {child: parent for parent in ast.walk(node) for child in ast.iter_child_nodes(parent)}

    def read(self, parameter: int | str, reader: _Reader) -> None:
        """Let the reader know what becomes of a parameter."""
        name, offset = self._name_of(parameter)
        for node in self._parents:
            if not isinstance(node, ast.Name):
                continue
            if node.id in _LOOKS_AT_VARIABLES:
                raise _UnknownError
            if node.id == name:
                self._use(node, offset, reader)

    def _name_of(self, parameter: int | str) -> tuple[str, int | None]:
        """The variable in which the context is, and where in it if it is a tuple of arguments."""
        arguments = self._node.args
        if isinstance(parameter, str):
            if parameter in self._positional or parameter in [each.arg for each in arguments.kwonlyargs]:
                return parameter, None
        elif parameter < len(self._positional):
            return self._positional[parameter], None
        elif arguments.vararg is not None:
            return arguments.vararg.arg, parameter - len(self._positional)
        raise _UnknownError

    def _use(self, node: ast.Name, offset: int | None, reader: _Reader) -> None:
        parent = self._parents[node]
        if offset is None and isinstance(parent, ast.Attribute):
            reader.use(parent.attr)
        elif offset is None and isinstance(parent, ast.Call) and node in parent.args:
            reader.follow(self._value_of(parent.func), _position(parent, node))
        elif offset is None and isinstance(parent, ast.keyword) and parent.arg is not None:
            reader.follow(self._value_of(cast("ast.Call", self._parents[parent]).func), parent.arg)
        elif offset is not None and isinstance(parent, ast.Starred):
            call = self._parents[parent]
            if not isinstance(call, ast.Call):
                raise _UnknownError
            reader.follow(self._value_of(call.func), _position(call, parent) + offset)
        else:
            raise _UnknownError

    def _value_of(self, node: ast.expr) -> object:
        """What is called."""
        if isinstance(node, ast.Name):
            return self._variable(node.id)
        if not isinstance(node, ast.Attribute):
            raise _UnknownError
        holder = self._value_of(node.value)
        if isinstance(holder, ModuleType):
            return getattr(holder, node.attr, None)
        kind: type[Any] = holder if isinstance(holder, type) else type(holder)
        own = getattr(holder, "__dict__", {})
        if kind is not holder and node.attr in own:  # it comes before a method of the class
            return own[node.attr]
        found = inspect.getattr_static(kind, node.attr, None)
        if isinstance(found, staticmethod):
            return cast("Any", found).__func__
        if isinstance(found, FunctionType):
            return found if kind is holder else MethodType(found, holder)
        return own.get(node.attr)

    def _variable(self, name: str) -> object:
        code = self._function.__code__
        if name in code.co_freevars:
            cell = (self._function.__closure__ or ())[code.co_freevars.index(name)]
            try:
                return cell.cell_contents
            except ValueError:  # nothing was assigned yet
                raise _UnknownError from None
        if self._owner is not None and self._positional[:1] == [name]:
            return self._owner
        if name in code.co_varnames or name in code.co_cellvars:
            raise _UnknownError
        return self._function.__globals__.get(name, getattr(builtins, name, None))


def _position(call: ast.Call, argument: ast.expr) -> int:
    before = call.args[: call.args.index(argument)]
    if any(isinstance(each, ast.Starred) for each in before):
        raise _UnknownError
    return len(before)


@functools.lru_cache(maxsize=4096)
def _source_of(code: CodeType) -> _FunctionNode | None:
    """The source, unless there is none, or the file has changed since it was imported."""
    try:
        node = ast.parse(textwrap.dedent(inspect.getsource(code))).body[0]
    except (OSError, TypeError, SyntaxError, ValueError, IndexError):
        return None
    if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) or node.name != code.co_name:
        return None
    arguments = [each.arg for each in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
    return node if tuple(arguments) == code.co_varnames[: len(arguments)] else None
