"""Matches the items of a list before and after a change."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import cast

import msgspec

_MOST_COMPARED = 10_000
"""Pairs of changed items of one list that are compared; those of longer lists are matched by their index."""

_encode_sorted = msgspec.json.Encoder(order="deterministic").encode


def matches(before: list[object], after: list[object]) -> Iterator[tuple[int, int]]:
    """The pairs of indices of items that are the same ones before and after a change."""
    places: defaultdict[bytes, list[int]] = defaultdict(list)
    for number, item in reversed(list(enumerate(before))):
        places[_encode_sorted(item)].append(number)
    changed: list[int] = []
    left = set(range(len(before)))
    for number, item in enumerate(after):
        equal = places.get(_encode_sorted(item))
        if not equal:
            changed.append(number)
            continue
        # Of several equal items, prefer the one at the same index.
        found = equal.pop(equal.index(number)) if number in equal else equal.pop()
        left.discard(found)
        yield found, number
    yield from _alike(before, after, left, changed)


def _alike(before: list[object], after: list[object], left: set[int], changed: list[int]) -> Iterator[tuple[int, int]]:
    if len(left) * len(changed) <= _MOST_COMPARED:
        scores = [(_shared(before[one], after[other]), one, other) for one in left for other in changed]
        for score, one, other in sorted(scores, key=lambda each: (-each[0], abs(each[1] - each[2]), each[1:])):
            if score and one in left and other in changed:
                left.discard(one)
                changed.remove(other)
                yield one, other
    if len(before) == len(after):
        yield from ((number, number) for number in changed if number in left)


def _shared(one: object, other: object) -> int:
    """The number of equal fields of two objects."""
    if not isinstance(one, dict) or not isinstance(other, dict):
        return 0
    fields = cast("dict[str, object]", other)
    return sum(name in fields and fields[name] == value for name, value in cast("dict[str, object]", one).items())
