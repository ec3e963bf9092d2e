"""Pydantic models as parts of a session: to JSON and back by their own methods."""

from __future__ import annotations

import functools
from inspect import signature
from typing import Any, cast

import msgspec


class ModelError(ValueError):
    """Why a pydantic model cannot be encoded or decoded; the message holds none of its data."""


def to_json(value: object) -> object:
    """Give what msgspec encodes in place of an object that it does not know."""
    if isinstance(value, str):  # of a class of its own, as the texts of some frameworks are
        return str(value)
    if not hasattr(value, "model_dump_json"):
        raise NotImplementedError(f"objects of type {type(value).__name__} are not supported")
    model = cast("Any", value)
    try:
        # As JSON, because a model may have other rules for it; without what is computed and could not be read back.
        return msgspec.Raw(model.model_dump_json(round_trip=True, by_alias=not _takes_names(model.__class__)).encode())
    except Exception as error:
        raise ModelError(f"its model_dump_json() raised {type(error).__name__}") from None


def from_json(wanted: type, data: object) -> object:
    """Give an object of a class that msgspec does not know."""
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
    """Can fields be read back under their own names, whatever their aliases are? (pydantic 2.11)"""
    return "by_name" in signature(cast("Any", model).model_validate_json).parameters
