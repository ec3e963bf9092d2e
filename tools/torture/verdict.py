"""What a campaign's histories say: can it have happened, how long was a key blocked, what did the callers see."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from zlib import crc32

import msgspec

from chatsession import errors
from tools.histories.history import find_faults, read_history
from tools.histories.lives import Expiry
from tools.histories.updates import Effect, Fate, State, Update
from tools.torture.messages import EXPIRING
from tools.torture.nemesis import Event

_PART = 400 * 1024 * 1024
"""Bytes of history that are checked at a time."""
_AFTERMATH = 1.0
"""Seconds for which an event that has ended may still be felt."""
_EXPECTED = {
    *(name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, errors.SessionError)),
    "CancelledError",
    "HandlerFailedError",
}


class Terms(msgspec.Struct, kw_only=True):
    """Under which a history came about; kept beside it."""

    storage: str
    seed: int
    workers: int
    lease: float
    ttl: float
    leeway: float
    """Seconds by which the clocks that decide about expiry may be off."""
    own_clock: bool = False
    """The workers' clocks decide what has run out."""
    undone: bool = False
    """What was not acknowledged may be seen and yet be undone, by a failover to a server that did not have it."""


class Blocked(msgspec.Struct):
    """For how long keys were blocked, in seconds."""

    longest: float = 0.0
    """That somebody waited for a key that nobody got meanwhile, whatever was going on."""
    key: str = ""
    median: float = 0.0
    """Of the longest of each key."""
    most: float = 0.0
    """99 % of the keys were never blocked for longer."""
    after_kills: int = 0
    """Keys of holders that were killed, for which somebody waited or came later."""
    longest_after_kill: float = 0.0
    quiet_kills: int = 0
    """Of these, those during which nothing else went wrong."""
    longest_after_quiet_kill: float = 0.0


class Verdict(msgspec.Struct):
    """All that is found."""

    updates: int = 0
    """Changes that were acknowledged."""
    attempts: int = 0
    keys: int = 0
    faults: list[str] = []
    stale_by_clocks: int = 0
    """Handlers that were given what had been replaced while a worker's clock was off, and that changed nothing."""
    outcomes: dict[str, int] = {}
    blocked: Blocked = msgspec.field(default_factory=Blocked)
    events: dict[str, int] = {}


def check(folder: Path) -> Verdict:
    """Check the histories of a campaign, in parts that fit into memory."""
    terms = msgspec.json.decode((folder / "terms.json").read_bytes(), type=Terms)
    stored = msgspec.json.decode((folder / "stored.json").read_bytes(), type=dict[str, dict[str, int | str]])
    states = {key: State(int(each["count"]), str(each["by"])) for key, each in stored.items()}
    events = read_events(folder)
    paths = sorted(folder.glob("w*.jsonl"))
    expiry = Expiry(terms.ttl, terms.leeway)
    excuses = _Excuses(events if terms.own_clock else [], terms.lease)
    parts = 1 + sum(path.stat().st_size for path in paths) // _PART
    verdict = Verdict(events=dict(Counter(event.name for event in events).most_common()))
    outcomes: Counter[str] = Counter()
    faults: list[str] = []
    longest: dict[str, float] = {}
    for part in range(parts):

        def belongs(key: str, part: int = part) -> bool:
            return crc32(key.encode()) % parts == part

        updates = read_history(paths, belongs)
        here = {key: state for key, state in states.items() if belongs(key)}
        faults += find_faults(
            updates,
            here,
            lambda key: expiry if key.startswith(EXPIRING) else None,
            undone=terms.undone,
            excused=excuses,
        )
        outcomes.update(f"{update.fate.value}{f': {update.error}' if update.error else ''}" for update in updates)
        verdict.updates += sum(update.fate is Fate.COMMITTED and update.writes is not None for update in updates)
        verdict.attempts += len(updates)
        verdict.keys += len({update.key for update in updates})
        longest |= _measure(updates, events, verdict.blocked)
    _sum_up(longest, verdict.blocked)
    verdict.stale_by_clocks = excuses.given
    faults += [
        f"callers saw {outcome.partition(': ')[2]}, which is no error of the contract"
        for outcome in outcomes
        if ": " in outcome and outcome.partition(": ")[2] not in _EXPECTED
    ]
    verdict.faults = faults
    verdict.outcomes = dict(outcomes.most_common())
    return verdict


class _Excuses:
    """A lease lasts for as long as clocks agree about it: while one is off, what was locked may be changed by others.

    What a handler then writes is refused, and only the others are excused.
    """

    def __init__(self, events: Sequence[Event], lease: float) -> None:
        self._shifts = [event for event in events if event.name == "clock shifted"]
        self._lease = lease
        self.given = 0

    def __call__(self, update: Update) -> bool:
        until = update.started if update.read_at is None else update.read_at
        excused = any(
            shift.began < until and update.started < (shift.ended or until) + 2 * self._lease for shift in self._shifts
        )
        self.given += excused
        return excused


def read_events(folder: Path) -> list[Event]:
    """What went wrong, in order."""
    path = folder / "events.jsonl"
    lines = path.read_bytes().splitlines() if path.exists() else []
    return sorted((msgspec.json.decode(line, type=Event) for line in lines), key=lambda event: event.began)


def _measure(updates: Iterable[Update], events: Sequence[Event], blocked: Blocked) -> dict[str, float]:
    """Measure the kills, and give for each key how long it was blocked at most."""
    kills = {event.target: event for event in events if event.name.startswith("worker killed") and event.target}
    by_key: defaultdict[str, list[Update]] = defaultdict(list)
    for update in updates:
        # Only who waits for the key is blocked; `get`, which does not wait, is seldom slow.
        if update.read_at is not None:
            by_key[update.key].append(update)
    for grants in by_key.values():
        grants.sort(key=_granted)
        _measure_kills(grants, kills, events, blocked)
    return {key: _longest_wait(grants) for key, grants in by_key.items()}


def _sum_up(longest: Mapping[str, float], blocked: Blocked) -> None:
    ordered = sorted(longest.values())
    if not ordered:
        return
    blocked.longest = ordered[-1]
    blocked.key = max(longest, key=longest.__getitem__)
    blocked.median = ordered[len(ordered) // 2]
    blocked.most = ordered[len(ordered) * 99 // 100]


def _longest_wait(grants: Sequence[Update]) -> float:
    free = longest = 0.0
    for grant in grants:
        at = _granted(grant)
        longest = max(longest, at - max(free, grant.started))
        free = max(free, at if grant.ended is None else grant.ended)
    return longest


def _measure_kills(
    grants: Sequence[Update], kills: dict[str, Event], events: Sequence[Event], blocked: Blocked
) -> None:
    for place, held in enumerate(grants):
        kill = kills.get(held.id.partition(":")[0])
        if kill is None or held.ended is not None or held.effect is Effect.NOTHING:
            continue
        following = next((grant for grant in grants[place + 1 :] if _granted(grant) > kill.began), None)
        if following is None:
            continue
        at = _granted(following)
        seconds = at - max(kill.began, following.started)
        blocked.after_kills += 1
        blocked.longest_after_kill = max(blocked.longest_after_kill, seconds)
        if not _disturbed(kill, at, events):
            blocked.quiet_kills += 1
            blocked.longest_after_quiet_kill = max(blocked.longest_after_quiet_kill, seconds)


def _disturbed(kill: Event, until: float, events: Sequence[Event]) -> bool:
    """Did anything else go wrong between a kill and that moment?"""
    return any(
        event is not kill
        and event.name != "handlers cancelled"
        and event.began < until
        and (event.ended or until) + _AFTERMATH > kill.began
        for event in events
    )


def _granted(update: Update) -> float:
    assert update.read_at is not None
    return update.read_at
