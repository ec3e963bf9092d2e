"""The updates that lock, renew, commit and unlock. Each changes a document in one atomic step.

Plain operators lock a free key and make a change; they cost the server a fifth of what an aggregation pipeline costs.
If a key is held, or others wait for it, a pipeline decides whose turn it is.

Planning a statement costs the server more than changing a document. So one statement locks many free keys, and one
makes many changes of the same kind: a pipeline that finds the entry of each document in a list.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeAlias

from bson import Int64, ObjectId
from pymongo import UpdateMany

from chatsession.storages.base import ANYTHING, DELETE, PUT, TOUCH, Change, Lease, LockRequest
from chatsession.storages.mongo._records import Document, Layout, date_of, lock_in, stored_value

Expression: TypeAlias = Mapping[str, Any]
"""A filter, an update, or a part of one in MongoDB's language."""

COMMITS_REMEMBERED = 4
"""How many of its last commits a document names. They tell whether a call succeeded whose answer was lost."""
_ENTRY = "chatsession_entry"
"""A field that holds the entry of a document while a statement changes many documents."""
_IN_QUEUE = timedelta(seconds=3)
"""A waiter that has not repeated its request for this long leaves the queue."""


STORED: Expression = {
    "value": {"$exists": True},
    "$or": [{"expires_at": {"$exists": False}}, {"$expr": {"$gt": ["$expires_at", "$$NOW"]}}],
}
"""Filters documents that hold an unexpired session."""

_NOT_STORED: Expression = {
    "$or": [
        {"value": {"$exists": False}},
        {"$and": [{"expires_at": {"$exists": True}}, {"$expr": {"$lte": ["$expires_at", "$$NOW"]}}]},
    ]
}


def held(lease: Lease) -> Expression:
    """Filters the document whose lock is this lease. An expired lease counts until another request has the key."""
    return {"lock.token": Int64(lease.token)}


def has_token(token: int, document: Document | None) -> bool:
    """Whether the lock in a document has this token. An expired lock counts until another request has the key."""
    return lock_in(document).get("token") == token


def holds(token: int, document: Document | None) -> bool:
    """Whether the lock in a document has this token and has not expired."""
    return bool(document and has_token(token, document) and document["lock"]["until"] > document["now"])


FREE: Expression = {"lock": {"$exists": False}, "queue.0": {"$exists": False}}
"""Filters documents without a lock and without a queue."""


def lock(request: LockRequest, now: float) -> Expression:
    """Lock a free key. The lock is invalid if `token` is above its token afterwards, because a clock was ahead."""
    token = _token_at(now)
    return {
        "$max": {"token": token},
        "$set": {"touched_at": date_of(now), "lock": _lock(request, token, now)},
        "$setOnInsert": {"idle": True},
    }


def lock_together(requests: Sequence[LockRequest], layout: Layout, now: float) -> UpdateMany:
    """Lock the keys that are free and have a document."""
    keys = [request.key for request in requests]
    wanted = [{"waiter": request.waiter, "until": date_of(now + request.seconds)} for request in requests]
    date = date_of(now)
    lock = {"token": "$token", "waiter": f"${_ENTRY}.waiter", "since": date, "until": f"${_ENTRY}.until"}
    return UpdateMany(
        {layout.key: {"$in": keys}, **FREE},
        [
            {"$set": {_ENTRY: _entry(layout, keys, wanted), "token": _next_token(now), "touched_at": date}},
            {"$set": {"lock": lock}},
            {"$unset": [_ENTRY]},
        ],
    )


def lock_or_queue(request: LockRequest, now: float) -> list[Expression]:
    """Lock a key if it is this request's turn; otherwise put the request into the queue. A pipeline."""
    date = date_of(now)
    waiter = {"$literal": request.waiter}
    waiting: Expression = {
        "$filter": {"input": {"$ifNull": ["$queue", []]}, "cond": {"$gt": ["$$this.until", date]}},
    }
    is_free = {"$lte": [{"$ifNull": ["$lock.until", date]}, date]}
    is_first = {"$eq": [{"$ifNull": [{"$first": "$queue.waiter"}, waiter]}, waiter]}
    is_granted = {"$or": [{"$eq": ["$lock.waiter", waiter]}, {"$and": [is_free, is_first]}]}
    others = {"$filter": {"input": "$queue", "cond": {"$ne": ["$$this.waiter", waiter]}}}
    place = {"waiter": waiter, "until": date + _IN_QUEUE}
    in_queue = {
        "$cond": [
            {"$in": [waiter, "$queue.waiter"]},  # a waiter keeps its place for as long as it asks again
            {"$map": {"input": "$queue", "in": {"$cond": [{"$eq": ["$$this.waiter", waiter]}, place, "$$this"]}}},
            {"$concatArrays": ["$queue", [place]]},
        ]
    }
    token = _next_token(now)
    return [
        {"$set": {"queue": waiting}},
        {"$set": {"granted": is_granted}},
        {
            "$set": {
                "token": {"$cond": ["$granted", token, "$token"]},
                "queue": {"$cond": ["$granted", others, in_queue]},
                "touched_at": date,
            }
        },
        {
            "$set": {
                "lock": {"$cond": ["$granted", _lock(request, "$token", now, waiter), "$lock"]},
                "waited": {"$cond": [{"$eq": ["$queue", []]}, "$$REMOVE", True]},
                "idle": {"$cond": [{"$eq": [{"$type": "$value"}, "missing"]}, True, "$$REMOVE"]},
                "granted": "$$REMOVE",
            }
        },
    ]


def renew(seconds: float, now: float) -> Expression:
    """Extend a lock that is held."""
    return {"$set": {"lock.until": date_of(now + seconds)}}


UNLOCK: Expression = {"$unset": {"lock": "", "waited": ""}}
"""Give a lock back. If others wait for the key, this removes `waited`, which wakes them."""


def leave_queue(waiter: str) -> Expression:
    """Remove a request from the queue, and wake the others."""
    return {"$pull": {"queue": {"waiter": waiter}}, "$unset": {"waited": ""}}


def commit(change: Change, name: object, value: object, layout: Layout, now: float) -> Expression:
    """Make a change.

    Args:
        change: what to do.
        name: the name of this commit.
        value: what a `PUT` stores.
        layout: whether a version is stored with it.
        now: the server's time.
    """
    setting: dict[str, Any] = {}
    unsetting = dict(UNLOCK["$unset"]) if change.unlock else {}
    if change.action is PUT:
        setting["value"] = value
        unsetting["idle"] = ""
        if layout.has_versions:
            setting["version"] = name
    elif change.action is DELETE:
        setting["idle"], setting["touched_at"] = True, date_of(now)
        unsetting |= dict.fromkeys(("value", "version", "expires_at"), "")
    if change.action is PUT or change.action is TOUCH:
        if change.ttl is None:
            unsetting["expires_at"] = ""
        else:
            setting["expires_at"] = date_of(now + max(change.ttl, 0.001))
    remembered = {"commits": {"$each": [name], "$position": 0, "$slice": COMMITS_REMEMBERED}}
    update: dict[str, Any] = {"$push": remembered}
    if setting:
        update["$set"] = setting
    if unsetting:
        update["$unset"] = unsetting
    return update


def commit_together(
    changes: Sequence[Change], names: Sequence[ObjectId], values: Sequence[object], layout: Layout, now: float
) -> UpdateMany:
    """Make changes of one kind (see `kind_of`). The other arguments are those of `commit`."""
    keys = [change.key for change in changes]
    what = [{"name": name, "value": value} for name, value in zip(names, values, strict=True)]
    operators = commit(changes[0], f"${_ENTRY}.name", f"${_ENTRY}.value", layout, now)
    commits: Expression = {"$concatArrays": [[f"${_ENTRY}.name"], {"$ifNull": ["$commits", []]}]}
    setting: Expression = {**operators.get("$set", {}), "commits": {"$slice": [commits, COMMITS_REMEMBERED]}}
    return UpdateMany(
        _expected_together(changes, keys, layout, now),
        [
            {"$set": {_ENTRY: _entry(layout, keys, what)}},
            {"$set": setting},
            {"$unset": [_ENTRY, *operators.get("$unset", ())]},
        ],
    )


def kind_of(change: Change, layout: Layout, now: float) -> object:
    """What the changes of one statement have in common. `None`: this change needs a statement of its own."""
    if change.lease is None or not layout.has_versions or _may_be_over(change, date_of(now)):
        return None
    if change.expect is not None and not isinstance(change.expect, ObjectId):
        return None
    return change.action, change.ttl, change.unlock, change.expect is None


def _expected_together(changes: Sequence[Change], keys: Sequence[str], layout: Layout, now: float) -> Expression:
    """As `expected`, for changes of one kind."""
    wanted = [{"token": Int64(change.lease.token), "version": change.expect} for change in changes if change.lease]
    met: list[Expression] = [{"$eq": ["$lock.token", "$$wanted.token"]}]
    rest: Expression = _NOT_STORED
    if changes[0].expect is not None:
        met.append({"$eq": ["$version", "$$wanted.version"]})
        rest = _not_over(date_of(now))
    found = {"$let": {"vars": {"wanted": _entry(layout, keys, wanted)}, "in": {"$and": met}}}
    return {layout.key: {"$in": keys}, "$expr": found, **rest}


def expected(change: Change, now: datetime) -> Expression:
    """Filters the document that a change expects. A flat filter costs the server half of a nested one."""
    if isinstance(change.expect, ObjectId) and not _may_be_over(change, now):
        return {"version": change.expect, **_not_over(now), **(held(change.lease) if change.lease else {})}
    conditions: list[Expression] = []
    if change.lease is not None:
        conditions.append(held(change.lease))
    if change.expect is None:
        conditions.append(_NOT_STORED)
    elif change.expect is not ANYTHING:
        conditions.append(_is_version(change, now))
    elif change.action is TOUCH:
        conditions.append(STORED)
    return {"$and": conditions} if conditions else {}


def missing(change: Change, now: datetime) -> Expression:
    """As `expected`, for a change that creates a missing document, where the server does not allow `$expr`."""
    if change.expect is ANYTHING:
        return {}
    return {"$or": [{"value": {"$exists": False}}, {"expires_at": {"$lte": now}}]}


def _is_version(change: Change, now: datetime) -> Expression:
    if isinstance(change.expect, bytes):  # of a document that another program wrote
        no_version = {"$not": {"$type": "objectId"}}
        same: Expression = {"version": no_version, "value": {"$eq": stored_value(change.key, change.expect)[0]}}
    else:  # a version of another storage matches nothing
        same = {"version": change.expect if isinstance(change.expect, ObjectId) else ObjectId()}
    if _may_be_over(change, now):
        return {"$or": [same, _NOT_STORED]}
    return {"$and": [same, STORED]}


def _may_be_over(change: Change, now: datetime) -> bool:
    """Whether the expected session may have expired meanwhile, which the change accepts."""
    return change.action is PUT and change.expect_until is not None and date_of(change.expect_until) <= now


def _not_over(now: datetime) -> Expression:
    return {"expires_at": {"$not": {"$lte": now}}}


def _lock(request: LockRequest, token: object, now: float, waiter: object = None) -> Expression:
    return {
        "token": token,
        "waiter": waiter or request.waiter,
        "since": date_of(now),
        "until": date_of(now + request.seconds),
    }


def _entry(layout: Layout, keys: Sequence[str], entries: Sequence[Expression]) -> Expression:
    """The entry of the current document, from entries in the order of the keys."""
    place = {"$indexOfArray": [{"$literal": keys}, f"${layout.key}"]}
    return {"$arrayElemAt": [{"$literal": entries}, place]}


def _next_token(now: float) -> Expression:
    return {"$max": [{"$add": ["$token", Int64(1)]}, _token_at(now)]}


def _token_at(now: float) -> Int64:
    """Tokens are microseconds, so that they grow even after a document was removed and created again."""
    return Int64(now * 1_000_000)
