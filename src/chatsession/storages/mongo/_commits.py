"""One change on its way, and what became of it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from bson import ObjectId
from msgspec.structs import replace
from pymongo import UpdateOne

from chatsession.errors import SessionError
from chatsession.storages.base import ANYTHING, CONFLICT, KEEP, LEASE_LOST, PUT, TOUCH, Change, Committed, Outcome
from chatsession.storages.mongo._documents import Document, seconds_of, stored_value, too_large, value_of
from chatsession.storages.mongo._errors import TOO_LARGE, refusal
from chatsession.storages.mongo._layouts import Layout
from chatsession.storages.mongo._statements import IS_STORED, commit, expected, new


class Commit:
    """A change that is to be made, or was.

    Args:
        change: what to do.
        layout: the form of the documents.
    """

    __slots__ = ("change", "is_there", "layout", "leaves_lock", "name", "outcome", "value")

    def __init__(self, change: Change, layout: Layout) -> None:
        self.change = change
        self.layout = layout
        self.name = ObjectId()
        """Names this commit among all others; a retry finds it in the document."""
        self.outcome: Outcome | None = None
        """`None`: not known yet."""
        self.leaves_lock = False
        """It was refused, and its lock is still to be given back."""
        self.is_there = False
        """Whether there is a document with this key, as far as it is known."""
        self.value: object = None
        if change.action is PUT:
            try:
                self.value = stored_value(change.key, change.value)
            except SessionError as error:
                self._refuse(error)

    @property
    def filter(self) -> Mapping[str, Any]:
        """Which document it may change."""
        condition = new(self.change) if self.may_insert else expected(self.change)
        return {self.layout.key: self.change.key, **condition}

    @property
    def pipeline(self) -> list[Mapping[str, Any]]:
        """How it changes the document."""
        return commit(self.change, self.name, self.value, self.layout)

    @property
    def may_insert(self) -> bool:
        """Whether a missing document is made; where a lease is given there is one, or the lease is lost."""
        if self.is_there or self.change.action is not PUT or self.change.lease is not None:
            return False
        return self.change.expect is ANYTHING or self.change.expect is None

    @property
    def update(self) -> UpdateOne:
        """The statement of a bulk write."""
        return UpdateOne(self.filter, self.pipeline, upsert=self.may_insert)

    @property
    def result_is_known(self) -> bool:
        """Whether success alone tells which version is stored then."""
        return self.change.expect is not ANYTHING or self.change.action not in (KEEP, TOUCH)

    @property
    def fields(self) -> Mapping[str, Any]:
        """What must be read of the document to know what became of it."""
        fields: dict[str, Any] = {"stored": IS_STORED, "now": "$$NOW", "version": True, "lock": True, "commits": True}
        return fields if self.layout.has_versions else {**fields, "value": True}

    def made(self, document: Document | None = None) -> None:
        """Note that it was made; the document tells the version where the change alone does not."""
        change = self.change
        if change.action is PUT:
            self.outcome = Committed(self.layout.version(self.name, change.value))
        elif change.action in (KEEP, TOUCH):
            self.outcome = Committed(change.expect if document is None else self._version_in(document))
        else:
            self.outcome = Committed(None)

    def look(self, document: Document | None) -> None:
        """Decide what became of it, or that it must be tried again, after a try that changed nothing or is in doubt.

        Args:
            document: what is there now; `None`: nothing.
        """
        change = self.change
        self.is_there = document is not None
        if document is not None and self.name in document.get("commits", ()):
            self.made(document)
            return
        now = seconds_of(document["now"]) if document is not None else None
        if change.lease is not None and not holds(change.lease.token, document):
            self.outcome = LEASE_LOST
            return
        stored = None if document is None else self._version_in(document)
        if not change.accepts(stored, change.expect_until or 0.0 if now is None else now):
            self._refuse(CONFLICT)
        elif stored is None and change.action is not PUT:
            self.outcome = Committed(None)
        elif stored is None and change.expect is not ANYTHING:
            self.change = replace(change, expect=None)

    def fail(self, code: object, server: str) -> None:
        """Note the server's refusal of this change alone."""
        key = self.change.key
        self._refuse(too_large(key, len(self.change.value)) if code in TOO_LARGE else refusal(code, server, key))

    def _refuse(self, outcome: Outcome) -> None:
        self.outcome = outcome
        self.leaves_lock = self.change.unlock and self.change.lease is not None

    def _version_in(self, document: Document) -> object:
        if not document["stored"]:
            return None
        if "version" in document:
            return document["version"]
        return value_of(self.change.key, document["value"]) if "value" in document else ObjectId()


def holds(token: int, document: Document | None) -> bool:
    """Whether the lock in a document has this token and is not over; the document tells the server's time."""
    lock = None if document is None else document.get("lock")
    if document is None or lock is None:
        return False
    until, now = lock["until"], document["now"]
    return lock["token"] == token and isinstance(until, datetime) and until > now
