"""One change on its way, and what became of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bson import ObjectId
from msgspec.structs import replace
from pymongo import UpdateOne

from chatsession.errors import SessionError
from chatsession.storages.base import ANYTHING, CONFLICT, KEEP, LEASE_LOST, PUT, TOUCH, Change, Committed, Outcome
from chatsession.storages.mongo._errors import TOO_LARGE, refusal
from chatsession.storages.mongo._layouts import Layout
from chatsession.storages.mongo._records import (
    Document,
    date_of,
    is_over,
    seconds_of,
    stored_value,
    too_large,
    value_of,
)
from chatsession.storages.mongo._statements import commit, expected, missing


class Commit:
    """A change that is to be made, or was.

    Args:
        change: what to do.
        layout: the form of the documents.
    """

    __slots__ = ("change", "layout", "leaves_lock", "name", "outcome", "value")

    def __init__(self, change: Change, layout: Layout) -> None:
        self.change = change
        self.layout = layout
        self.name = ObjectId()
        """Names this commit among all others; a retry finds it in the document."""
        self.outcome: Outcome | None = None
        """`None`: not known yet."""
        self.leaves_lock = False
        """It was refused, and its lock is still to be given back."""
        self.value: object = None
        if change.action is PUT:
            try:
                self.value = stored_value(change.key, change.value)
            except SessionError as error:
                self._refuse(error)

    def filter(self, now: float) -> Mapping[str, Any]:
        """Which document it may change."""
        condition = missing if self.may_insert else expected
        return {self.layout.key: self.change.key, **condition(self.change, date_of(now))}

    def operators(self, now: float) -> Mapping[str, Any]:
        """How it changes the document."""
        return commit(self.change, self.name, self.value, self.layout, now)

    def update(self, now: float) -> UpdateOne:
        """The statement of a bulk write."""
        return UpdateOne(self.filter(now), self.operators(now), upsert=self.may_insert)

    @property
    def may_insert(self) -> bool:
        """Whether a missing document is made; where a lease is given there is one, or the lease is lost."""
        change = self.change
        return change.action is PUT and change.lease is None and (change.expect is ANYTHING or change.expect is None)

    @property
    def result_is_known(self) -> bool:
        """Whether success alone tells which version is stored then."""
        return self.change.expect is not ANYTHING or self.change.action not in (KEEP, TOUCH)

    @property
    def fields(self) -> Mapping[str, Any]:
        """What must be read of the document to know what became of it."""
        fields: dict[str, Any] = {
            "has_value": _HAS_VALUE,
            "version": True,
            "expires_at": True,
            "now": "$$NOW",
            "lock": True,
            "commits": True,
        }
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

    def look(self, document: Document | None, estimate: float) -> None:
        """Decide what became of it, or that it must be tried again, after a try that changed nothing or is in doubt.

        Args:
            document: what is there; `None`: nothing.
            estimate: the server's time, for the case that there is nothing to tell it.
        """
        change = self.change
        now = estimate if document is None else seconds_of(document["now"]) or estimate
        if document is not None and self.name in document.get("commits", ()):
            self.made(document)
            return
        if change.lease is not None and not holds(change.lease.token, document):
            self.outcome = LEASE_LOST
            return
        version = None if document is None else self._version_in(document)
        if not change.accepts(version, now):
            self._refuse(CONFLICT)
        elif version is not None:
            return
        elif change.action is PUT:
            self.change = change if change.expect is ANYTHING else replace(change, expect=None)
        elif change.lease is not None and change.unlock:
            self.change = replace(change, action=KEEP, expect=ANYTHING)
        else:
            self.outcome = Committed(None)

    def fail(self, code: object, server: str) -> None:
        """Note the server's refusal of this change alone."""
        key = self.change.key
        self._refuse(too_large(key, len(self.change.value)) if code in TOO_LARGE else refusal(code, server, key))

    def _refuse(self, outcome: Outcome) -> None:
        self.outcome = outcome
        self.leaves_lock = self.change.unlock and self.change.lease is not None

    def _version_in(self, document: Document) -> object:
        if not document["has_value"] or is_over(document):
            return None
        if "version" in document:
            return document["version"]
        return value_of(self.change.key, document["value"]) if "value" in document else ObjectId()


def holds(token: int, document: Document | None) -> bool:
    """Whether the lock in a document has this token and is not over."""
    lock = None if document is None else document.get("lock")
    return document is not None and lock is not None and lock["token"] == token and lock["until"] > document["now"]


_HAS_VALUE = {"$ne": [{"$type": "$value"}, "missing"]}
