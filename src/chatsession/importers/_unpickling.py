"""Read pickles into records of what they ask to create, call and assign.

This uses the unpickler of the standard library that is written in Python. The one in C allocates a table as large as
the pickle says, which may be gigabytes. Dicts and sets become records, too: a key may be nested tuples that take hours
to hash, or that are so deep that hashing them crashes the process.
"""

from __future__ import annotations

import os
import pickle
import struct
import sys
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, ClassVar

from chatsession.errors import SessionError, shown

_MOST_CLASSES = 10_000
"""In one pickle."""

DICTS = {"builtins.dict", "collections.OrderedDict", "collections.defaultdict", "collections.Counter"}

_RENAMED = {"__builtin__": "builtins", "copy_reg": "copyreg"}
"""What Python 2 called modules, as older pickle protocols still do."""


class PickleError(ValueError):
    """Why a pickle, or a part of it, is not read; the same words for all parts with the same reason."""


class StandIn:
    """Stands for an object of any class: what a pickle asks to do with it."""

    __slots__ = ("args", "members", "pairs", "state")

    named: ClassVar[str]
    """The class's or function's module and name."""

    args: tuple[Any, ...]
    state: Any
    pairs: list[tuple[Any, Any]]
    members: list[Any]

    def __new__(cls, *args: Any, **named: Any) -> StandIn:
        made = object.__new__(cls)
        made.args = args
        made.state = None
        made.pairs = list(named.items())
        made.members = []
        return made

    def __call__(self, *args: Any) -> StandIn:
        return Call(self, *args)

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, name: Any, value: Any) -> None:
        self.pairs.append((name, value))

    def append(self, value: Any) -> None:
        self.members.append(value)

    def extend(self, values: Iterable[Any]) -> None:
        self.members.extend(values)

    add = append


class Call(StandIn):
    """Stands for the result of a call, such as of a method that `getattr` returned."""

    __slots__ = ()

    named = "a call"


class _Bounded:
    """A file from which no more is read than it has: space is not reserved for what a length in it only claims."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._left = os.fstat(file.fileno()).st_size

    def read(self, size: int) -> bytes:
        return self._counted(self._file.read(min(size, self._left)))

    def readline(self) -> bytes:
        return self._counted(self._file.readline())

    def _counted(self, data: bytes) -> bytes:
        self._left = max(self._left - len(data), 0)
        return data


_Reader: Any = pickle._Unpickler  # pyright: ignore[reportAttributeAccessIssue] # whose types leave most of it out


class _Unpickler(_Reader):
    """Looks nothing up, imports nothing, calls nothing, and compares nothing."""

    def __init__(self, file: _Bounded) -> None:
        super().__init__(file)  # pyright: ignore[reportUnknownMemberType] # see _Reader
        self._classes: dict[tuple[str, str], type[StandIn]] = {}

    def find_class(self, module_name: str, global_name: str, /) -> type[StandIn]:
        found = self._classes.get((module_name, global_name))
        if found is None:
            if len(self._classes) == _MOST_CLASSES:
                raise pickle.UnpicklingError("too many classes")
            named = f"{_RENAMED.get(module_name, module_name)}.{global_name}"
            found = type("StandIn", (StandIn,), {"__slots__": (), "named": named})
            self._classes[module_name, global_name] = found
        return found

    def get_extension(self, code: int) -> None:
        """Refuse: only this process knows what a number of `copyreg` means, and it would be the real class."""
        raise pickle.UnpicklingError("a number of copyreg's")

    def _put_in_place(self, named: str, *args: Any, pairs: Sequence[Any] = ()) -> None:
        made = self.find_class("builtins", named)(*args)
        made.pairs += zip(pairs[::2], pairs[1::2], strict=True)
        self.append(made)

    def _empty_dict(self) -> None:
        self._put_in_place("dict")

    def _dict(self) -> None:
        self._put_in_place("dict", pairs=self.pop_mark())

    def _empty_set(self) -> None:
        self._put_in_place("set")

    def _frozenset(self) -> None:
        self._put_in_place("frozenset", self.pop_mark())

    def _object_with_names(self) -> None:
        names, args, cls = (self.stack.pop() for _ in range(3))
        made = cls.__new__(cls, *args)
        made.pairs += pairs_of(names) or []
        self.append(made)

    def _bytearray(self) -> None:
        """Without first making a `bytearray` as large as the pickle says."""
        (size,) = struct.unpack("<Q", self.read(8))
        if size > sys.maxsize:
            raise pickle.UnpicklingError("a size that no object has")
        data = self.read(size)
        if len(data) < size:
            raise EOFError
        self.append(bytearray(data))

    def _long(self) -> None:
        digits = self.readline()[:-1].removesuffix(b"L")
        try:
            self.append(int(digits, 0))
        except ValueError:
            if not digits.removeprefix(b"-").isdigit():
                raise
            self._put_in_place("int")  # of more digits than Python reads; only the entry that has it is refused

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = _Reader.dispatch | {
        pickle.BYTEARRAY8[0]: _bytearray,
        pickle.LONG[0]: _long,
        pickle.EMPTY_DICT[0]: _empty_dict,
        pickle.DICT[0]: _dict,
        pickle.EMPTY_SET[0]: _empty_set,
        pickle.FROZENSET[0]: _frozenset,
        pickle.NEWOBJ_EX[0]: _object_with_names,
    }

    def persistent_load(self, pid: Any, /) -> None:
        """The bot, which python-telegram-bot restores itself and which is not data."""
        return


def load(path: Path) -> object:
    """Read a file. Look at the result with `pairs_of` and `Plain`.

    Raises:
        OSError: it cannot be read.
        PickleError: it is not a pickle, or not a whole one.
    """
    with path.open("rb") as file:
        try:
            return _Unpickler(_Bounded(file)).load()
        except OSError:
            raise
        except Exception as error:
            raise PickleError(f"is not a whole pickle ({type(error).__name__})") from None


@contextmanager
def reading(path: Path) -> Generator[None]:
    """Raise `SessionError`, which names the file, if the block cannot read a pickle."""
    try:
        yield
    except OSError as error:
        name = error.filename or path.name
        raise SessionError(f"the pickle {shown(str(name))} cannot be read: {error.strerror}") from None
    except PickleError as error:
        why = f"the file of {shown(path.name)} {error}; is the bot still running, which writes it in place?"
        raise SessionError(why) from None


def pairs_of(value: object) -> list[tuple[Any, Any]] | None:
    """The items of a dict of any kind; `None` if it is not a dict."""
    return value.pairs if isinstance(value, StandIn) and value.named in DICTS else None
