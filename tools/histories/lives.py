"""The lives of one key: chains of updates, each from the creation of a session to its deletion or expiry.

Every state but "nothing is stored" is written by one update only, which makes the chains plain to see. In which order
a key's lives followed each other is not: they are ordered by the times at which their updates were made, and then
every update, also one that only looked, must have seen what was stored while it ran.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple

from tools.histories.updates import Effect, Fate, State, Update

EMPTY = State()


class Expiry(NamedTuple):
    """When the sessions of a key may be gone although nobody deleted them."""

    seconds: float
    """After the last change at the earliest."""
    leeway: float = 0.0
    """By so much the clocks of those who decide about it may differ."""


class _Life:
    """A chain of updates that took effect.

    Attributes:
        chain: from the one that created the session.
        over: the last of them deleted it.
        begun: by then it had begun.
        going: then it had not ended yet.
    """

    def __init__(self, chain: list[Update], readers: Mapping[State, Sequence[Update]]) -> None:
        self.chain = chain
        self.over = chain[-1].effect is Effect.DELETE
        self.end = EMPTY if self.over else _written(chain[-1])
        seen = [
            (update, reader)
            for update in chain
            if update.writes != EMPTY
            for reader in readers.get(_written(update), ())
            if _was_stored(reader, update)
        ]
        self.begun = min(min(map(_end, chain)), min((_seen_by(*pair) for pair in seen), default=math.inf))
        self.going = max(max(map(_asked, chain)), max((reader.started for _, reader in seen), default=-math.inf))


def faults_of_key(
    updates: Sequence[Update],
    stored: State,
    expiry: Expiry | None = None,
    *,
    undone: bool = False,
    excused: Callable[[Update], bool] = lambda _: False,
) -> Iterator[str]:
    """Say what cannot have happened to one key.

    Args:
        updates: all of its updates.
        stored: what is stored in the end.
        expiry: of its sessions; `None`: they are there until they are deleted.
        undone: an update of unknown fate may have been seen, and yet be undone, as by a failover to a server that did
            not have it. What was acknowledged may not, nor what that built upon.
        excused: asked about an update that read what had been replaced, and that changed nothing: may it have?
    """
    for update in updates:
        if update.read is None and update.fate is Fate.COMMITTED:
            yield f"{update.id} was committed without having read"

    # Those who read the history of a broken storage want to see all of it, but not what follows from what was told.
    lives, forks = _Lives(updates, stored, undone).found()
    yield from forks
    known = {_written(update) for life in lives for update in life.chain} | {EMPTY}
    if undone:
        known |= {written for update in updates if update.fate is Fate.UNKNOWN and (written := update.writes)}
    given = {(update.process, state) for update in updates for state in update.given}
    lives, rivals = _told_apart(lives, stored, expiry)
    if rivals:
        yield _fork([life.chain[0] for life in rivals], EMPTY)
    last = lives[-1].end if lives else EMPTY
    if stored != last and not (stored == EMPTY and expiry is not None):
        yield f"{_shown(stored)} is stored, but the last update that took effect wrote {_shown(last)}"

    linked = {update.id for life in lives for update in life.chain}
    for update in updates:
        if update.fate is Fate.COMMITTED and update.writes is not None and update.id not in linked:
            yield f"{update.id} is lost: it was acknowledged, and nothing shows it"
    yield from _against_time([update for life in lives for update in life.chain])
    seen = _Seen(lives, expiry)
    for update in updates:
        if update.read is None:
            continue
        if update.fate is not Fate.COMMITTED and (update.process, update.read) in given:
            continue  # it was given what the one before it could not store, and failed with it
        if update.read not in known:
            yield f"{update.id} read {_shown(update.read)}, which no update that took effect wrote"
        elif update.id not in linked and not rivals and not forks:
            yield from seen.faults(update, excused)
    yield from seen.too_early()


class _Lives:
    def __init__(self, updates: Sequence[Update], stored: State, undone: bool) -> None:
        self._stored = stored
        self._undone = undone
        self._readers: defaultdict[State, list[Update]] = defaultdict(list)
        for update in updates:
            if update.read is not None:
                self._readers[update.read].append(update)

    def found(self) -> tuple[list[_Life], list[str]]:
        """All lives, and where more than one update would have to be the next of a session."""
        forks: list[str] = []
        lives = [_Life(self._follow(first, forks), self._readers) for first in self._following(EMPTY)]
        return lives, forks

    def _follow(self, first: Update, forks: list[str]) -> list[Update]:
        chain = [first]
        while chain[-1].effect is not Effect.DELETE:
            state = _written(chain[-1])
            following = self._following(state)
            if not following:
                break
            if len(following) > 1:
                forks.append(_fork(following, state))
            # Behind a fork, go on where others went on.
            chain.append(next(filter(self._is_seen, following), following[0]))
        return chain

    def _following(self, state: State) -> list[Update]:
        """Those that read this state and took effect."""
        readers = self._readers.get(state, ())
        following = [update for update in readers if self._took_effect(update)]
        if not following and state not in (EMPTY, self._stored):
            # The session came to an end, and nobody knows of an update that ended it but this one.
            following = [update for update in readers if self._may_have_ended(update)][:1]
        return following

    def _may_have_ended(self, update: Update) -> bool:
        """Did it delete the session, or an update that built upon it? Nobody was told."""
        if update.fate is not Fate.UNKNOWN or update.writes is None:
            return False
        return update.effect is Effect.DELETE or any(map(self._may_have_ended, self._readers.get(update.writes, ())))

    def _took_effect(self, update: Update) -> bool:
        if update.writes is None or update.fate is Fate.REFUSED:
            return False
        return update.fate is Fate.COMMITTED or (update.effect is Effect.COUNT and self._is_seen(update))

    def _is_seen(self, update: Update) -> bool:
        written = _written(update)
        if written == self._stored:
            return True
        return any(self._shows(reader, update) for reader in self._readers.get(written, ()))

    def _shows(self, reader: Update, update: Update) -> bool:
        """Is it certain that what this one read was stored?"""
        if self._took_effect(reader):
            return True
        if self._undone:
            return False
        return _was_stored(reader, update)


def _was_stored(reader: Update, writer: Update) -> bool:
    """Did this one read what was stored, and not what the writer was about to store?

    Within a process, an update is given what the one before it is about to store, and fails if that fails.
    """
    return reader.fate is Fate.COMMITTED or reader.process != writer.process


def _told_apart(lives: Sequence[_Life], stored: State, expiry: Expiry | None) -> tuple[list[_Life], list[_Life]]:
    """The lives in their order, and those of which only one can have been: nothing ended any of them."""
    going_on = [life for life in lives if not life.over]
    last = next((life for life in going_on if life.end == stored and stored != EMPTY), None)
    if last is None and going_on and expiry is None:
        last = max(going_on, key=lambda life: len(life.chain))
    rivals = going_on if expiry is None and len(going_on) > 1 else []
    # Whatever the pairs of lives that time forces into an order, this sum puts them into it.
    ordered = sorted(
        (life for life in lives if life is not last and life not in rivals),
        key=lambda life: life.begun + life.going,
    )
    return [*ordered, *([last] if last else [])], rivals


class _Seen:
    """What was stored when.

    Place 0 is before all updates that took effect, place n behind the n-th of them.
    """

    def __init__(self, lives: Sequence[_Life], expiry: Expiry | None) -> None:
        self._expiry = expiry
        chain: list[Update | None] = []
        states = [EMPTY]
        since = [-math.inf]
        for life in lives:
            for update in life.chain:
                chain.append(update)
                states.append(update.writes or EMPTY)
                since.append(_asked(update))
            if not life.over and expiry is not None:
                chain.append(None)
                states.append(EMPTY)
                since.append(_asked(life.chain[-1]) + expiry.seconds - expiry.leeway)
        self._chain = chain
        self._since = list(accumulate(since, max))
        ends = [math.inf if update is None else _end(update) for update in chain]
        self._until = [*accumulate(reversed([*ends, math.inf]), min)][::-1]
        self._places: defaultdict[State, list[int]] = defaultdict(list)
        for place, state in enumerate(states):
            self._places[state].append(place)

    def faults(self, update: Update, excused: Callable[[Update], bool]) -> Iterator[str]:
        """Of an update that did not take effect: was there a moment at which it could see what it saw?"""
        assert update.read is not None
        if update.read == EMPTY and self._looked_expired(update):
            return
        places = self._places.get(update.read, [])
        if not places:
            return
        nearest = bisect_left(places, update.started, key=self._until.__getitem__)
        if nearest == len(places):
            if not excused(update):
                yield f"{update.id} read {_shown(update.read)}, which had been replaced before it began"
        elif update.read_at is not None and self._since[places[nearest]] > update.read_at:
            yield f"{update.id} read {_shown(update.read)} at a time when something else was stored"

    def _looked_expired(self, update: Update) -> bool:
        """Where clocks differ, one may take for expired what others go on to use."""
        if self._expiry is None or update.read_at is None:
            return False
        first = bisect_left(self._until, update.started)  # of those that it may have seen the one that is oldest
        return self._since[first] + self._expiry.seconds - self._expiry.leeway <= update.read_at

    def too_early(self) -> Iterator[str]:
        """What expired before its time: the one who created the session anew found nothing."""
        if self._expiry is None:
            return
        for place, (gone, following) in enumerate(pairwise(self._chain), 1):
            if gone is None and following is not None and following.read_at is not None:
                early = self._since[place] - following.read_at
                if early > 0:
                    yield f"{following.id} found nothing {early:.3f} s before the session could expire"


def _against_time(chain: Sequence[Update]) -> Iterator[str]:
    """An update that ended before another one began cannot stand behind it."""
    latest: Update | None = None
    for update in chain:
        if latest is not None and update.ended is not None and update.ended < latest.started:
            yield f"{update.id} was acknowledged before {latest.id} began, and yet built upon it"
        if latest is None or update.started > latest.started:
            latest = update


def _written(update: Update) -> State:
    written = update.writes
    assert written is not None
    return written


def _end(update: Update) -> float:
    """By then it had taken effect."""
    return update.ended if update.ended is not None and update.fate is Fate.COMMITTED else math.inf


def _seen_by(writer: Update, reader: Update) -> float:
    """By then, what the writer wrote was stored: within a process, it is read before it is."""
    if reader.process == writer.process or reader.read_at is None:
        return _end(reader)
    return reader.read_at


def _asked(update: Update) -> float:
    """Before that it cannot have taken effect."""
    return update.started if update.read_at is None else update.read_at


def _fork(updates: Sequence[Update], state: State) -> str:
    return f"{' and '.join(update.id for update in updates)} all read {_shown(state)}, and each took effect"


def _shown(state: State) -> str:
    return f"{state.count} by {state.by}" if state.by else f"{state.count}"
