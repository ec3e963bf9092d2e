"""Signatures of users' functions, whatever their annotations name."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from typing import Any

_OPTIONS: dict[str, Any] = {}
if sys.version_info >= (3, 14):  # evaluates annotations, and fails where one names what only type checkers import
    import annotationlib

    _OPTIONS["annotation_format"] = annotationlib.Format.FORWARDREF


def signature_of(function: Callable[..., object]) -> inspect.Signature:
    """The signature of a function or class.

    Raises:
        TypeError: it cannot have one.
        ValueError: it has none, like some built-in functions, or it is a Struct whose annotations cannot be resolved.
    """
    try:
        return inspect.signature(function, **_OPTIONS)
    except NameError as error:
        raise ValueError(f"{function!r} has no signature: {error}") from None
