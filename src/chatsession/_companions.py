"""One object for each object of another kind, such as the coordinator of a storage."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Generic, TypeVar
from weakref import WeakValueDictionary

Owner = TypeVar("Owner")
Companion = TypeVar("Companion")


class Companions(Generic[Owner, Companion]):
    """Makes the companion of an object when it is first asked for, and then returns the same one in all threads.

    Args:
        make: returns a new companion. It must keep the object alive, so that its `id` is not reused meanwhile.
    """

    def __init__(self, make: Callable[[Owner], Companion]) -> None:
        self._make = make
        self._made: WeakValueDictionary[int, Companion] = WeakValueDictionary()
        lock = self._lock = threading.RLock()  # reentrant, since a `__del__` may run at any time
        if hasattr(os, "register_at_fork"):  # a child must not inherit it from a thread that the child does not have
            os.register_at_fork(before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release)

    def of(self, owner: Owner) -> Companion:
        """The companion of this object."""
        with self._lock:
            companion = self._made.get(id(owner))
            if companion is None:
                companion = self._made[id(owner)] = self._make(owner)
            return companion
