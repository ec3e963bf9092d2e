"""Calls of a function in a forked child."""

from __future__ import annotations

import gc
import os
import traceback
import warnings
from collections.abc import Callable
from typing import Any


def in_a_child(function: Callable[[], Any]) -> str:
    """The `repr` of what a function returns in a forked child, or its error."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            outcome = repr(function())
        except BaseException as error:
            outcome = f"{type(error).__name__}: {error}"
        os.write(write, outcome.encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        outcome = pipe.read()
    os.waitpid(child, 0)
    return outcome


def in_child(work: Callable[[], object]) -> None:
    """Run a function in a forked child, which must succeed, and ends with its finalizers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # this process may have threads
        child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            gc.collect()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
