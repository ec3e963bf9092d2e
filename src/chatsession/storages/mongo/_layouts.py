"""The forms of documents: which field holds the key, and what the version is."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

from bson import ObjectId
from msgspec import Struct

from chatsession.errors import StorageError

Name: TypeAlias = Literal["chatsession", "grammy"]


class Layout(Struct, frozen=True):
    """A form of the documents."""

    key: str
    """The field with the session's key; it has a unique index."""
    has_versions: bool
    """Whether commits write a version. When grammY writes a value, it would leave a version as it is."""

    def version(self, commit: ObjectId, value: bytes) -> object:
        """The version of the value that a commit has stored."""
        return commit if self.has_versions else value


_LAYOUTS = {
    "chatsession": Layout("_id", has_versions=True),
    "grammy": Layout("key", has_versions=False),
}


def layout_named(name: str) -> Layout:
    """The layout with a name. Raises `StorageError` if there is none."""
    layout = _LAYOUTS.get(name)
    if layout is None:
        raise StorageError(f"the layout of a collection is one of {', '.join(get_args(Name))}")
    return layout
