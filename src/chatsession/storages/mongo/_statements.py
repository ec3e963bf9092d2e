"""The updates that lock, renew, commit and unlock, each of them one atomic step of the server on one document.

A free key is locked, and a change is made, by plain operators, which cost the server a fifth of an aggregation
pipeline. Only a key that is held, or that others wait for, takes a pipeline, which decides whose turn it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, TypeAlias

from bson import Int64, ObjectId

from chatsession.storages.base import ANYTHING, DELETE, PUT, TOUCH, Change, Lease, LockRequest
from chatsession.storages.mongo._layouts import Layout
from chatsession.storages.mongo._records import date_of, stored_value

Expression: TypeAlias = Mapping[str, Any]
"""A filter, an update, or a part of one in MongoDB's language."""

_COMMITS_REMEMBERED = 4
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
    """Filters the document whose lock is this lease; it may have run out, if nobody has taken the key since."""
    return {"lock.token": Int64(lease.token)}


FREE: Expression = {"lock": {"$exists": False}, "queue.0": {"$exists": False}}
"""Filters a document that is not locked, and which nobody waits for."""


def lock(request: LockRequest, now: float) -> Expression:
    """Lock a key that is free; not valid if `token` then stands above that of the lock, because a clock was ahead."""
    token = _token_at(now)
    return {
        "$max": {"token": token},
        "$set": {"touched_at": date_of(now), "lock": _lock(request, token, now)},
        "$setOnInsert": {"idle": True},
    }


def lock_or_queue(request: LockRequest, now: float) -> list[Expression]:
    """Lock a key if it is this request's turn, or let the request wait; a pipeline."""
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
    token = {"$max": [{"$add": ["$token", Int64(1)]}, _token_at(now)]}
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
                "granted": "$$REMOVE",
            }
        },
    ]


def renew(seconds: float, now: float) -> Expression:
    """Extend a lock that is held."""
    return {"$set": {"lock.until": date_of(now + seconds)}}


UNLOCK: Expression = {"$unset": {"lock": "", "waited": ""}}
"""Give a lock back. Where the key is waited for, `waited` goes away, which is what wakes the waiters."""


def leave_queue(waiter: str) -> Expression:
    """Take a request out of the queue, and let the others look."""
    return {"$pull": {"queue": {"waiter": waiter}}, "$unset": {"waited": ""}}


def commit(change: Change, name: ObjectId, value: object, layout: Layout, now: float) -> Expression:
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
    remembered = {"commits": {"$each": [name], "$position": 0, "$slice": _COMMITS_REMEMBERED}}
    update: dict[str, Any] = {"$push": remembered}
    if setting:
        update["$set"] = setting
    if unsetting:
        update["$unset"] = unsetting
    return update


def expected(change: Change, now: datetime) -> Expression:
    """Filters the document to which a change may be made; a flat filter costs the server half of a nested one."""
    if isinstance(change.expect, ObjectId) and change.expect_until is None:
        alive = {"version": change.expect, "expires_at": {"$not": {"$lte": now}}}
        return {**alive, **(held(change.lease) if change.lease else {})}
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
    """As `expected`, for a change that makes a missing document: there the server does not allow `$expr`."""
    if change.expect is ANYTHING:
        return {}
    return {"$or": [{"value": {"$exists": False}}, {"expires_at": {"$lte": now}}]}


def _is_version(change: Change, now: datetime) -> Expression:
    if isinstance(change.expect, bytes):  # of a document that another program wrote
        same: Expression = {"version": {"$exists": False}, "value": {"$eq": stored_value(change.key, change.expect)}}
    else:  # what is no version of MongoDB's is none that it stores
        same = {"version": change.expect if isinstance(change.expect, ObjectId) else ObjectId()}
    if change.action is PUT and change.expect_until is not None and date_of(change.expect_until) <= now:
        return {"$or": [same, _NOT_STORED]}
    return {"$and": [same, STORED]}


def _lock(request: LockRequest, token: object, now: float, waiter: object = None) -> Expression:
    return {
        "token": token,
        "waiter": waiter or request.waiter,
        "since": date_of(now),
        "until": date_of(now + request.seconds),
    }


def _token_at(now: float) -> Int64:
    """Tokens are microseconds, so that they rise although a document was removed and made anew."""
    return Int64(now * 1_000_000)
