"""Makes changes, one or many by a statement, and finds out what became of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from bson import ObjectId
from msgspec.structs import replace
from pymongo import UpdateMany, UpdateOne
from pymongo.errors import OperationFailure, WriteConcernError

from chatsession.errors import SessionError, StorageError, StorageUnavailableError
from chatsession.storages.base import ANYTHING, CONFLICT, KEEP, LEASE_LOST, PUT, TOUCH, Change, Committed, Outcome
from chatsession.storages.mongo import _statements
from chatsession.storages.mongo._calls import Calls
from chatsession.storages.mongo._errors import DUPLICATE_KEY, TOO_LARGE, passes, refusal
from chatsession.storages.mongo._records import (
    Document,
    Layout,
    date_of,
    is_over,
    seconds_of,
    stored_value,
    too_large,
    version_in,
)

_LARGEST_STATEMENT = 8_000_000
"""Bytes of BSON. A statement has at most 16 MiB, and contains each key three times."""

_FIELDS = {
    "has_value": {"$ne": [{"$type": "$value"}, "missing"]},
    "version": True,
    "expires_at": True,
    "now": "$$NOW",
    "lock": True,
    "commits": True,
}
_MOST_TRIES = 20
"""Of a change that looks possible but is not made. The second succeeds, unless others write all the time."""


async def commit_all(calls: Calls, changes: Sequence[Change]) -> Sequence[Outcome | None]:
    """`Storage.commit_many`."""
    commits = [Commit(change, calls.layout) for change in changes]

    async def call(again: bool) -> None:
        if again:
            await _settle(calls, commits)
        for _ in range(_MOST_TRIES):
            pending = [commit for commit in commits if commit.outcome is None]
            if len(pending) == 1:
                await _make_one(calls, pending[0])
            elif pending:
                await _make(calls, pending)
        for commit in commits:
            commit.outcome = commit.outcome or CONFLICT
        late = [commit.change.lease for commit in commits if commit.leaves_lock and commit.change.lease]
        if late:
            held = [{calls.layout.key: lease.key, **_statements.held(lease)} for lease in late]
            await calls.write([UpdateOne(each, _statements.UNLOCK) for each in held])

    await calls.run(call)
    return [commit.outcome for commit in commits]


class Commit:
    """A change, and what is known of its outcome.

    Args:
        change: what to do.
        layout: the form of the documents.
    """

    __slots__ = ("change", "in_doubt", "is_alone", "layout", "name", "outcome", "size", "value")

    def __init__(self, change: Change, layout: Layout) -> None:
        self.change = change
        self.layout = layout
        self.name = ObjectId()
        """Identifies this commit. A retry looks for it in the document."""
        self.outcome: Outcome | None = None
        """`None`: unknown so far."""
        self.in_doubt = False
        """It may have been made, although no answer said so."""
        self.is_alone = False
        """It needs a statement of its own, because the server refused one with several changes."""
        self.value: object = None
        self.size = 0
        """Of the value in BSON."""
        if change.action is PUT:
            try:
                self.value, self.size = stored_value(change.key, change.value)
            except SessionError as error:
                self.outcome = error

    def filter(self, now: float) -> Mapping[str, Any]:
        """The filter of the document that it may change."""
        condition = _statements.missing if self.may_insert else _statements.expected
        return {self.layout.key: self.change.key, **condition(self.change, date_of(now))}

    def operators(self, now: float) -> Mapping[str, Any]:
        """The update of the document."""
        return _statements.commit(self.change, self.name, self.value, self.layout, now)

    def update(self, now: float) -> UpdateOne:
        """The change as a statement of a bulk write."""
        return UpdateOne(self.filter(now), self.operators(now), upsert=self.may_insert)

    @property
    def may_insert(self) -> bool:
        """Whether it creates a missing document. With a lease it does not: without a document, the lease is lost."""
        change = self.change
        return change.action is PUT and change.lease is None and (change.expect is ANYTHING or change.expect is None)

    @property
    def result_is_known(self) -> bool:
        """Whether its success alone tells which version is stored."""
        return self.change.expect is not ANYTHING or self.change.action not in (KEEP, TOUCH)

    @property
    def fields(self) -> Mapping[str, Any]:
        """The fields of the document that tell what became of it."""
        return _FIELDS if self.layout.has_versions else {**_FIELDS, "value": True}

    def made(self, document: Document | None = None) -> None:
        """Note that it was made. The document tells the version if the change alone does not."""
        change = self.change
        if change.action is PUT:
            self.outcome = Committed(self.layout.version(self.name, change.value))
        elif change.action in (KEEP, TOUCH):
            self.outcome = Committed(change.expect if document is None else self._version_in(document))
        else:
            self.outcome = Committed(None)

    def look(self, document: Document | None, estimate: float) -> None:
        """Find out what became of a try that changed nothing or is in doubt. Without an outcome, it must be repeated.

        Args:
            document: the document as it is now; `None`: there is none.
            estimate: the server's time, if no document tells it.
        """
        change = self.change
        now = estimate if document is None else seconds_of(document["now"]) or estimate
        if document is not None and self.name in _names_in(document):
            self.made(document)
            return
        version = None if document is None else self._version_in(document)
        refusal = self._refusal(document, version, now)
        if refusal is not None:
            self.outcome = refusal
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
        self.outcome = too_large(key, len(self.change.value)) if code in TOO_LARGE else refusal(code, server, key)

    @property
    def leaves_lock(self) -> bool:
        """Whether it was not made, so that its lock has yet to be given back."""
        is_left = self.change.unlock and self.change.lease is not None
        return is_left and self.outcome is not LEASE_LOST and not isinstance(self.outcome, Committed)

    def _refusal(self, document: Document | None, version: object, now: float) -> Outcome | None:
        """Why it cannot be made. `None`: it can."""
        change = self.change
        is_lost = change.lease is not None and not _statements.has_token(change.lease.token, document)
        if not is_lost and change.accepts(version, now):
            return None
        if self.in_doubt and self._is_forgotten(document):
            return StorageUnavailableError(
                "the connection to MongoDB broke in the middle of the change, and others have changed it since; it is "
                "not known whether the change was made",
                key=change.key,
            )
        return LEASE_LOST if is_lost else CONFLICT

    def _is_forgotten(self, document: Document | None) -> bool:
        """Whether its name may be missing because many other commits followed it.

        If the version that it replaces is still remembered, its own name would be as well.
        """
        names = _names_in(document)
        return len(names) >= _statements.COMMITS_REMEMBERED and self.change.expect not in names

    def _version_in(self, document: Document) -> object:
        if not document["has_value"] or is_over(document):
            return None
        try:
            return version_in(self.change.key, document)
        except (KeyError, StorageError):  # another program wrote the value, which was not asked for or cannot be read
            return ObjectId()


def _names_in(document: Document | None) -> Sequence[object]:
    """The names of the last commits. None if another program put something else in this field."""
    names = document.get("commits") if document else None
    return cast("list[object]", names) if isinstance(names, list) else ()


async def _make_one(calls: Calls, commit: Commit) -> None:
    now = calls.now()
    try:
        document = await calls.change(
            commit.filter(now), commit.operators(now), commit.fields, upsert=commit.may_insert
        )
    except OperationFailure as error:
        if passes(error) or isinstance(error, WriteConcernError):
            raise
        commit.fail(error.code, calls.server)
        return
    if document is None:
        await _look(calls, [commit])
    else:
        commit.made(document)


async def _make(calls: Calls, commits: Sequence[Commit]) -> None:
    now = calls.now()
    groups = _grouped(commits, now)
    made, refused = await calls.write([_statement(group, now) for group in groups])
    for place, code in refused.items():
        group = groups[place]
        if len(group) > 1:
            for commit in group:
                commit.is_alone = True
        elif code != DUPLICATE_KEY:
            group[0].fail(code, calls.server)
    if made == len(commits):
        for commit in commits:
            if commit.result_is_known:
                commit.made()
    if made or refused:  # some may have been made; before the look that tells which, others may write
        for commit in commits:
            commit.in_doubt = True
    await _look(calls, commits)


async def _settle(calls: Calls, commits: Sequence[Commit]) -> None:
    """Find out what became of commits that an earlier try may have made.

    A read may miss a write that no majority has yet, and that appears later. So a write to the same documents goes
    first: its acknowledgement means that a majority has all earlier writes too.
    """
    for commit in commits:
        commit.in_doubt = True
    keys = {calls.layout.key: {"$in": [commit.change.key for commit in commits]}}
    await calls.write([UpdateMany(keys, {"$set": {"touched_at": date_of(calls.now())}})])
    await _look(calls, commits)


async def _look(calls: Calls, commits: Sequence[Commit]) -> None:
    """Read the documents of commits without an outcome, and find out what became of them."""
    unknown = [commit for commit in commits if commit.outcome is None]
    if unknown:
        found = await calls.find([commit.change.key for commit in unknown], unknown[0].fields)
        for commit in unknown:
            commit.look(found.get(commit.change.key), calls.now())


def _grouped(commits: Sequence[Commit], now: float) -> list[list[Commit]]:
    """Group the commits that one statement can make."""
    groups: list[list[Commit]] = []
    with_room: dict[object, tuple[list[Commit], int]] = {}
    for commit in commits:
        kind = None if commit.is_alone else _statements.kind_of(commit.change, commit.layout, now)
        size = commit.size + 3 * len(commit.change.key)
        group, room = with_room.get(kind, (list[Commit](), 0))
        if kind is None or size > room:
            group, room = list[Commit](), _LARGEST_STATEMENT
            groups.append(group)
        group.append(commit)
        with_room[kind] = group, room - size
    return groups


def _statement(commits: Sequence[Commit], now: float) -> UpdateOne | UpdateMany:
    if len(commits) == 1:
        return commits[0].update(now)
    return _statements.commit_together(
        [commit.change for commit in commits],
        [commit.name for commit in commits],
        [commit.value for commit in commits],
        commits[0].layout,
        now,
    )
