"""The updates that lock, renew, commit and unlock, each of them one atomic step of the server on one document.

They are aggregation pipelines, so that the server's clock (`$$NOW`) decides what has expired.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TypeAlias

from bson import Int64, ObjectId

from chatsession.storages.base import ANYTHING, DELETE, PUT, TOUCH, Change, Lease, LockRequest
from chatsession.storages.mongo._documents import date_of, milliseconds, stored_value
from chatsession.storages.mongo._layouts import Layout

Expression: TypeAlias = Mapping[str, Any]
"""An expression, a stage or a filter in MongoDB's language."""
Pipeline: TypeAlias = list[Expression]

SECONDS_IN_QUEUE = 3.0
"""A waiter that has not repeated its request for this long leaves the queue."""
_MILLISECONDS_AFTER_USE = 600_000
"""A document without value and lock stays for ten minutes, so that tokens rise whatever the servers' clocks say."""
_COMMITS_REMEMBERED = 4

_NEVER = datetime(9999, 12, 31, tzinfo=UTC)
_EXPIRY = {"$ifNull": ["$expires_at", _NEVER]}
_HAS_VALUE = {"$ne": [{"$type": "$value"}, "missing"]}
IS_STORED: Expression = {"$and": [_HAS_VALUE, {"$gt": [_EXPIRY, "$$NOW"]}]}

STORED: Expression = {"value": {"$exists": True}, "$expr": {"$gt": [_EXPIRY, "$$NOW"]}}
"""Filters documents that hold an unexpired session."""
NOT_STORED: Expression = {"$or": [{"value": {"$exists": False}}, {"$expr": {"$lte": [_EXPIRY, "$$NOW"]}}]}

_WITH_REMOVAL: Expression = {
    "$set": {
        "remove_at": {
            "$cond": [
                {"$and": [_HAS_VALUE, {"$eq": [{"$type": "$expires_at"}, "missing"]}]},
                "$$REMOVE",
                {"$add": [{"$max": ["$expires_at", "$lock.until", "$$NOW"]}, _MILLISECONDS_AFTER_USE]},
            ]
        }
    }
}


def lock(request: LockRequest) -> Pipeline:
    """Lock the key for a request, or let the request wait in the queue."""
    waiter = {"$literal": request.waiter}
    # A waiter keeps its place for as long as it asks again.
    others = {"$filter": {"input": "$queue", "cond": {"$ne": ["$$this.waiter", waiter]}}}
    ahead = {"$first": "$queue.waiter"}
    is_free = {"$lte": [{"$ifNull": ["$lock.until", "$$NOW"]}, "$$NOW"]}
    is_granted = {
        "$or": [
            {"$eq": ["$lock.waiter", waiter]},
            {"$and": [is_free, {"$eq": [{"$ifNull": [ahead, waiter]}, waiter]}]},
        ]
    }
    place = {"waiter": waiter, "until": {"$add": ["$$NOW", milliseconds(SECONDS_IN_QUEUE)]}}
    in_queue = {
        "$cond": [
            {"$in": [waiter, "$queue.waiter"]},
            {"$map": {"input": "$queue", "in": {"$cond": [{"$eq": ["$$this.waiter", waiter]}, place, "$$this"]}}},
            {"$concatArrays": ["$queue", [place]]},
        ]
    }
    token = {
        "$max": [{"$add": ["$token", Int64(1)]}, {"$multiply": [{"$toLong": "$$NOW"}, Int64(1000)]}],
    }
    granted = {
        "token": "$token",
        "waiter": waiter,
        "since": "$$NOW",
        "until": {"$add": ["$$NOW", milliseconds(request.seconds)]},
    }
    waiting: Expression = {
        "$filter": {"input": {"$ifNull": ["$queue", []]}, "cond": {"$gt": ["$$this.until", "$$NOW"]}}
    }
    return [
        {"$set": {"queue": waiting}},
        {"$set": {"granted": is_granted}},
        {
            "$set": {
                "token": {"$cond": ["$granted", token, "$token"]},
                "queue": {"$cond": ["$granted", others, in_queue]},
            }
        },
        {"$set": {"lock": {"$cond": ["$granted", granted, "$lock"]}, "granted": "$$REMOVE"}},
        _WITH_REMOVAL,
    ]


def renew(seconds: float) -> Pipeline:
    """Extend a lock that is held."""
    return [{"$set": {"lock.until": {"$add": ["$$NOW", milliseconds(seconds)]}}}, _WITH_REMOVAL]


def held(lease: Lease) -> Expression:
    """Filters the document whose lock is this lease."""
    return {"lock.token": Int64(lease.token), "$expr": {"$gt": ["$lock.until", "$$NOW"]}}


def abandon(waiter: str) -> Pipeline:
    """Take a request out of the queue, and its lock away."""
    named = {"$literal": waiter}
    rest: Expression = {"$filter": {"input": {"$ifNull": ["$queue", []]}, "cond": {"$ne": ["$$this.waiter", named]}}}
    return [
        {"$set": {"queue": rest}},
        {"$set": {"wake": {"$first": "$queue.waiter"}}},
        {"$set": {"lock": {"$cond": [{"$eq": ["$lock.waiter", named]}, "$$REMOVE", "$lock"]}}},
        _WITH_REMOVAL,
    ]


def waiting_or_granted(waiter: str) -> Expression:
    """Filters the document where a request waits, or was granted."""
    return {"$or": [{"queue.waiter": waiter}, {"lock.waiter": waiter}]}


def unlock() -> Pipeline:
    """Give a lock back, and name the waiter whose turn it is."""
    return [_UNLOCKED, _WITH_REMOVAL]


def commit(change: Change, name: ObjectId, value: object, layout: Layout) -> Pipeline:
    """Make a change.

    Args:
        change: what to do.
        name: the name of this commit.
        value: what a `PUT` stores.
        layout: whether a version is stored with it.
    """
    fields: dict[str, Any] = {}
    if change.action is PUT:
        version = name if layout.has_versions else "$$REMOVE"
        fields = {"value": {"$literal": value}, "version": version, "expires_at": _expiry_in(change.ttl)}
    elif change.action is DELETE:
        fields = dict.fromkeys(("value", "version", "expires_at"), "$$REMOVE")
    elif change.action is TOUCH:
        fields = {"expires_at": {"$cond": [IS_STORED, _expiry_in(change.ttl), "$expires_at"]}}
    earlier: Expression = {"$slice": [{"$ifNull": ["$commits", []]}, _COMMITS_REMEMBERED - 1]}
    fields["commits"] = {"$concatArrays": [[name], earlier]}
    return [{"$set": fields}, *([_UNLOCKED] if change.unlock else []), _WITH_REMOVAL]


def new(change: Change) -> Expression:
    """Filters nothing but a document without value, for a change that makes a missing one; `$expr` is not allowed."""
    return {"value": {"$exists": False}} if change.expect is None else {}


def expected(change: Change) -> Expression:
    """Filters the document to which a change may be made."""
    conditions: list[Expression] = []
    if change.lease is not None:
        conditions.append(held(change.lease))
    if change.expect is None:
        conditions.append(NOT_STORED)
    elif change.expect is not ANYTHING:
        conditions.append(_is_version(change))
    return {"$and": conditions} if conditions else {}


def _is_version(change: Change) -> Expression:
    if isinstance(change.expect, bytes):  # of a document that another program wrote
        same: Expression = {"version": {"$exists": False}, "value": {"$eq": stored_value(change.key, change.expect)}}
    else:  # what is no version of MongoDB's is none that it stores
        same = {"version": change.expect if isinstance(change.expect, ObjectId) else ObjectId()}
    if change.expect_until is None:
        return {"$and": [same, STORED]}
    over = {"$expr": {"$lte": [date_of(change.expect_until), "$$NOW"]}}
    return {"$or": [same, {"$and": [NOT_STORED, over]}]}


def _expiry_in(ttl: float | None) -> object:
    return "$$REMOVE" if ttl is None else {"$add": ["$$NOW", milliseconds(ttl)]}


_UNLOCKED: Expression = {"$set": {"lock": "$$REMOVE", "wake": {"$first": "$queue.waiter"}}}
