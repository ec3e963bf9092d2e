"""Pydantic models in sessions: converted to JSON and back by their own methods."""

from __future__ import annotations

import functools
from inspect import signature
from typing import Any, cast

import msgspec


class ModelError(ValueError):
    """Why a pydantic model cannot be encoded or decoded. The message holds no data."""


def to_json(value: object) -> object:
    """Convert an object that msgspec does not know to something that it can encode."""
    if isinstance(value, str):  # a subclass, as the texts of some frameworks are
        return str(value)
    if not hasattr(value, "model_dump_json"):
        raise NotImplementedError(f"objects of type {type(value).__name__} are not supported")
    model = cast("Any", value)
    try:
        # As JSON, for which a model may have other rules; without computed fields, which could not be read back.
        return msgspec.Raw(model.model_dump_json(round_trip=True, by_alias=not _takes_names(model.__class__)).encode())
    except Exception as error:
        raise ModelError(f"its model_dump_json() raised {type(error).__name__}") from None


def from_json(wanted: type, data: object) -> object:
    """Make an object of a class that msgspec does not know."""
    if wanted is object:
        return data
    naming = {"by_name": True, "by_alias": True} if _takes_names(wanted) else {}
    errors = None
    try:
        return cast("Any", wanted).model_validate_json(msgspec.json.encode(data), **naming)
    except ValueError as error:
        errors = getattr(error, "errors", None)
        if errors is None:
            raise
    first = errors(include_url=False, include_input=False, include_context=False)[0]
    path = ".".join(str(part) for part in first["loc"])
    raise ModelError(f"{first['type']} in {wanted.__name__}.{path}")


@functools.cache
def _takes_names(model: type) -> bool:
    """Whether fields can be read back under their own names, whatever their aliases are (pydantic 2.11)."""
    return "by_name" in signature(cast("Any", model).model_validate_json).parameters
