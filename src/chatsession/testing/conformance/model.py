"""Random programs of calls, compared step by step with a model that is too simple to be wrong.

Hypothesis writes the programs and shortens those that fail; each runs under keys of its own, so that one storage
serves them all, in the one event loop of its test.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import TypeAlias

import msgspec
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from chatsession.errors import SessionError
from chatsession.storages import Action, Change, Committed, Expect, Lease, Locked, Outcome, Record, Refused, Storage
from chatsession.testing.conformance.single import request, scan_all
from chatsession.testing.conformance.suite import StorageSuite, Time


class Edit(msgspec.Struct, frozen=True):
    """A change whose version and lease are named by their age: 0 is the newest seen of that key."""

    key: int
    action: Action
    value: int
    expect: int | Expect | None
    lease: int | None
    unlock: bool
    lives: int | None
    """Ticks."""


class Lock(msgspec.Struct, frozen=True):
    """A try to lock keys, each once."""

    keys: frozenset[int]
    lasts: int


class Renew(msgspec.Struct, frozen=True):
    """A renewal of the key's lease of that age."""

    key: int
    lease: int
    lasts: int


class Pass(msgspec.Struct, frozen=True):
    """Time goes by."""

    ticks: int


class Sweep(msgspec.Struct, frozen=True):
    """Expired records may go."""


Step: TypeAlias = "list[Edit] | Lock | Renew | Pass | Sweep"

# What is common is named more often, so that most steps do something.
_KEYS = st.sampled_from([0, 0, 0, 1, 2])
_AGES = st.sampled_from([0, 0, 0, 0, 1, 3])
_EDITS = st.builds(
    Edit,
    key=_KEYS,
    action=st.sampled_from([Action.PUT, Action.PUT, Action.TOUCH, Action.DELETE, Action.KEEP]),
    value=st.integers(0, 9),
    expect=st.sampled_from([Expect.ANYTHING, Expect.ANYTHING, None, 0, 0, 0, 1, 3]),
    lease=st.sampled_from([None, None, 0, 0, 1, 3]),
    unlock=st.booleans(),
    lives=st.sampled_from([None, 1, 2, 4]),
)
_STEPS: st.SearchStrategy[Step] = st.one_of(
    st.lists(_EDITS, min_size=1, max_size=3, unique_by=lambda edit: edit.key),
    st.builds(Lock, keys=st.frozensets(_KEYS, min_size=1), lasts=st.integers(1, 4)),
    st.builds(Renew, key=_KEYS, lease=_AGES, lasts=st.integers(1, 4)),
    st.builds(Pass, ticks=st.integers(1, 3)),
    st.builds(Sweep),
)
PROGRAMS: st.SearchStrategy[list[Step]] = st.integers(1, 40).flatmap(
    lambda steps: st.lists(_STEPS, min_size=steps, max_size=steps)
)
_numbers = count(1)


class _Key:
    """What the model knows of one key. Times are in ticks, with the half of one between any two events."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.value: bytes | None = None
        self.ends: float | None = None
        self.versions: list[object] = []
        self.leases: list[Lease] = []
        self.held_until: float | None = None

    def live(self, now: float) -> bool:
        return self.value is not None and (self.ends is None or self.ends > now)

    def version(self, age: int) -> object:
        """The version of that age; one that never was, if there are not so many."""
        return self.versions[-1 - age] if age < len(self.versions) else b"no such version"

    def lease(self, age: int) -> Lease:
        return self.leases[-1 - age] if age < len(self.leases) else Lease(self.name, 0)


class _Model:
    def __init__(self, names: Sequence[str]) -> None:
        self.keys = [_Key(name) for name in names]
        self.now = 0.0

    def refusal(self, edit: Edit) -> Refused | None:
        """How the edit must be refused, and what it unlocks nevertheless."""
        key = self.keys[edit.key]
        if edit.lease is not None:
            newest = edit.lease == 0 and bool(key.leases)
            if not newest or key.held_until is None:
                return Refused.LEASE_LOST
            if edit.unlock:
                key.held_until = None
        if isinstance(edit.expect, Expect):
            return None
        live = key.live(self.now)
        holds = not live if edit.expect is None else live and key.version(edit.expect) == key.versions[-1]
        return None if holds else Refused.CONFLICT

    def make(self, edit: Edit, committed: Committed) -> None:
        """Take over what the edit did."""
        key = self.keys[edit.key]
        live = key.live(self.now)
        ends = None if edit.lives is None else self.now + edit.lives
        if edit.action is Action.PUT:
            key.value, key.ends = str(edit.value).encode(), ends
            assert committed.version is not None
        elif edit.action is Action.DELETE:
            key.value = None
        elif edit.action is Action.TOUCH and live:
            key.ends = ends
        if not key.live(self.now):
            assert committed.version is None
        elif not key.versions or committed.version != key.versions[-1]:
            assert edit.action in (Action.PUT, Action.TOUCH)
            key.versions.append(committed.version)


class ModelTests(StorageSuite):
    """What one storage object is told, another one sees."""

    @settings(
        max_examples=80,
        deadline=None,
        database=None,
        report_multiple_bugs=False,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=[
            HealthCheck.function_scoped_fixture,  # each program has keys of its own
            HealthCheck.differing_executors,  # each storage's test class runs them
            HealthCheck.too_slow,
        ],
    )
    @given(program=PROGRAMS)
    async def test_any_program_of_calls_does_what_the_model_does(
        self, storage: Storage, other: Storage, time: Time, program: list[Step]
    ) -> None:
        await run_program(program, (storage, other), time)


async def run_program(program: list[Step], storages: tuple[Storage, Storage], time: Time) -> None:
    """Take each step in one of the storages and in the model; raises `AssertionError` where they differ."""
    prefix = f"program-{next(_numbers)}:"
    model = _Model([f"{prefix}{name}" for name in ("a", "A", "a/b")])
    run = _Run(model, storages, time)
    for step in program:
        await run.step(step)
    await run.compare(prefix)
    await storages[0].commit_many([Change(key.name, Action.DELETE) for key in model.keys])


class _Run:
    """One program on its way."""

    def __init__(self, model: _Model, storages: tuple[Storage, Storage], time: Time) -> None:
        self._model = model
        self._storages = storages
        self._time = time
        self._timed = time.clock is not None
        """Without a clock that can be moved, nothing ends while a program runs."""
        self._turn = 0

    @property
    def _storage(self) -> Storage:
        return self._storages[self._turn % 2]

    async def step(self, step: Step) -> None:
        self._turn += 1
        if isinstance(step, Lock):
            await self._lock(step)
        elif isinstance(step, Renew):
            await self._renew(step)
        elif isinstance(step, Pass):
            await self._pass(step.ticks)
        elif isinstance(step, Sweep):
            await self._storage.sweep()
        else:
            await self._edit(step)
        await self._compare_reads()

    async def _edit(self, edits: list[Edit]) -> None:
        outcomes = await self._storage.commit_many([self._change(edit) for edit in edits])
        for edit, outcome in zip(edits, outcomes, strict=True):
            self._compare_outcome(edit, outcome)

    def _compare_outcome(self, edit: Edit, outcome: Outcome) -> None:
        key = self._model.keys[edit.key]
        if outcome is Refused.LEASE_LOST and key.held_until is not None and key.held_until <= self._model.now:
            key.held_until = None  # nobody took the lease over: a storage may hold it for lost, or not
        expected = self._model.refusal(edit)
        if expected is not None:
            assert outcome is expected
            return
        assert isinstance(outcome, Committed)
        self._model.make(edit, outcome)

    async def _lock(self, step: Lock) -> None:
        keys = [self._model.keys[n] for n in sorted(step.keys)]
        requests = [request(key.name, self._seconds(step.lasts) or 600.0) for key in keys]
        found = await self._storage.lock_many(requests)
        await self._storage.abandon_many([each for each, locked in zip(requests, found, strict=True) if locked is None])
        for key, locked in zip(keys, found, strict=True):
            assert not isinstance(locked, SessionError)
            if key.held_until is not None and key.held_until > self._model.now:
                assert locked is None
                continue
            assert isinstance(locked, Locked)
            assert all(locked.lease.token > lease.token for lease in key.leases)
            self._compare_record(key, locked.record)
            key.leases.append(locked.lease)
            key.held_until = self._model.now + step.lasts

    async def _renew(self, step: Renew) -> None:
        key = self._model.keys[step.key]
        (held,) = await self._storage.renew_many([key.lease(step.lease)], self._seconds(step.lasts) or 600.0)
        if step.lease > 0 or not key.leases or key.held_until is None:
            assert not held
        elif held:
            key.held_until = self._model.now + step.lasts
        else:
            assert key.held_until <= self._model.now
            key.held_until = None

    async def _pass(self, ticks: int) -> None:
        if self._timed:
            await self._time.passes(ticks)
            self._model.now += ticks

    async def _compare_reads(self) -> None:
        keys = self._model.keys
        for storage in self._storages:
            found = await storage.read_many([key.name for key in keys])
            for key, record in zip(keys, found, strict=True):
                assert not isinstance(record, SessionError)
                self._compare_record(key, record)

    def _compare_record(self, key: _Key, record: Record | None) -> None:
        if not key.live(self._model.now):
            assert record is None
            return
        assert record is not None
        assert (record.value, record.version) == (key.value, key.versions[-1])

    async def compare(self, prefix: str) -> None:
        """Compare what is enumerated at the end."""
        entries = {key: record.value for key, record in await scan_all(self._storage, prefix, 2)}
        assert entries == {key.name: key.value for key in self._model.keys if key.live(self._model.now)}

    def _seconds(self, ticks: int | None) -> float | None:
        return self._time.seconds(ticks) if ticks is not None and self._timed else None

    def _change(self, edit: Edit) -> Change:
        key = self._model.keys[edit.key]
        return Change(
            key.name,
            edit.action,
            str(edit.value).encode(),
            key.version(edit.expect) if isinstance(edit.expect, int) else edit.expect,
            self._seconds(edit.lives) if self._storage.expiring else None,
            None if edit.lease is None else key.lease(edit.lease),
            edit.unlock and edit.lease is not None,
        )
