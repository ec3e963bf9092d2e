"""The check of histories in which sessions are deleted, expire, and are only looked at."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tools.histories.history import HistoryFile, find_faults, read_history
from tools.histories.lives import Expiry
from tools.histories.updates import Effect, Fate, State, Update

EMPTY = State()


def made(
    name: str,
    read: State,
    begin: float,
    end: float | None,
    effect: Effect = Effect.COUNT,
    fate: Fate = Fate.COMMITTED,
) -> Update:
    """An update that read in the middle of its time."""
    middle = begin + 0.5 if end is None else (begin + end) / 2
    return Update(name, "chat", begin, read, None if fate is Fate.UNKNOWN else end, fate, None, effect, middle)


def deleted(name: str, read: State, begin: float, end: float | None, fate: Fate = Fate.COMMITTED) -> Update:
    return made(name, read, begin, end, Effect.DELETE, fate)


def looked(name: str, read: State, begin: float, end: float) -> Update:
    return made(name, read, begin, end, Effect.NOTHING)


def faults(*updates: Update, stored: State = EMPTY, expiry: Expiry | None = None) -> list[str]:
    shuffled = random.Random(len(updates)).sample(updates, len(updates))
    return find_faults(shuffled, {} if stored == EMPTY else {"chat": stored}, lambda _: expiry)


TWO_LIVES = [
    made("a", EMPTY, 0, 1),
    made("b", State(1, "a"), 1, 2),
    deleted("d", State(2, "b"), 2, 3),
    made("c", EMPTY, 3, 4),
]


def test_deleted_and_created_again() -> None:
    assert faults(*TWO_LIVES, stored=State(1, "c")) == []
    assert faults(*TWO_LIVES, deleted("e", State(1, "c"), 4, 5)) == []
    assert faults(deleted("nothing", EMPTY, 0, 1)) == []


def test_a_state_read_before_a_rerun_does_not_date_the_session() -> None:
    again = made("one:x", State(1, "one:c"), 11, 14)
    given = made("one:r", State(2, "one:x"), -6, -4, fate=Fate.REFUSED)
    lives = [made("a", EMPTY, 0, 1), deleted("d", State(1, "a"), 8, 10), made("one:c", EMPTY, 10, 12), again]
    again.before.append(State(1, "long ago"))
    assert (
        faults(*lives, given, deleted("e", State(2, "one:x"), 14, 15), made("f", EMPTY, 15, 16), stored=State(1, "f"))
        == []
    )


def test_what_is_handed_on_within_a_process_does_not_date_the_session() -> None:
    """The second life is read before it is stored, while others still see the first."""
    first, second = State(1, "one:a"), State(1, "one:b")

    def update(name: str, read: State, started: float, read_at: float, ended: float, effect: Effect) -> Update:
        return Update(f"one:{name}", "chat", started, read, ended, Fate.COMMITTED, None, effect, read_at)

    lives = [
        update("a", EMPTY, 0, 1, 2, Effect.COUNT),
        update("d", first, 2.1, 2.1, 10, Effect.DELETE),
        update("b", EMPTY, 2.2, 2.2, 11, Effect.COUNT),
        update("e", second, 2.3, 2.3, 12, Effect.DELETE),
        update("look", first, 9, 9, 9, Effect.NOTHING),
    ]
    assert faults(*lives) == []


def test_many_lives_that_overlap_in_time() -> None:
    lives: list[Update] = []
    for n in range(50):
        lives.append(made(f"a{n}", EMPTY, 2 * n - 10, 2 * n + 1))
        lives.append(deleted(f"d{n}", State(1, f"a{n}"), 2 * n - 10, 2 * n + 2))
    assert faults(*lives) == []


def test_a_deleted_session_that_comes_back() -> None:
    back = made("back", State(2, "b"), 5, 6)
    assert faults(*TWO_LIVES, back, stored=State(3, "back")) != []
    only_seen = looked("seen", State(2, "b"), 5, 6)
    assert faults(*TWO_LIVES, only_seen, stored=State(1, "c")) == [
        "chat: seen read 2 by b, which had been replaced before it began"
    ]


def test_a_deletion_that_was_lost() -> None:
    found = faults(made("a", EMPTY, 0, 1), deleted("d", State(1, "a"), 1, 2), stored=State(1, "a"))
    assert any("0" in fault or "d " in fault for fault in found)
    assert found != []


def test_a_deletion_and_an_update_of_the_same_state() -> None:
    found = faults(
        made("a", EMPTY, 0, 1), deleted("d", State(1, "a"), 1, 2), made("b", State(1, "a"), 1, 2), stored=State(2, "b")
    )
    assert "chat: d and b all read 1 by a, and each took effect" in found or (
        "chat: b and d all read 1 by a, and each took effect" in found
    )


def test_a_session_created_twice_behind_one_deletion() -> None:
    found = faults(*TWO_LIVES, made("twice", EMPTY, 3, 4), stored=State(1, "c"))
    assert any("all read 0, and each took effect" in fault for fault in found)
    assert any("twice is lost" in fault for fault in found)


def test_a_session_that_is_gone_without_a_deletion() -> None:
    assert faults(made("a", EMPTY, 0, 1), made("b", EMPTY, 2, 3), stored=State(1, "b")) != []
    assert faults(made("a", EMPTY, 0, 1), looked("b", EMPTY, 2, 3), stored=State(1, "a")) == [
        "chat: b read 0, which had been replaced before it began"
    ]


@pytest.mark.parametrize("applied", [True, False])
def test_a_deletion_of_unknown_fate_took_effect_or_not(applied: bool) -> None:
    first, unknown = made("a", EMPTY, 0, 1), deleted("d", State(1, "a"), 1, None, Fate.UNKNOWN)
    if applied:
        assert faults(first, unknown) == []
        assert faults(first, unknown, made("b", EMPTY, 3, 4), stored=State(1, "b")) == []
    else:
        assert faults(first, unknown, stored=State(1, "a")) == []
        assert faults(first, unknown, made("b", State(1, "a"), 3, 4), stored=State(2, "b")) == []


def test_a_refused_deletion_that_took_effect() -> None:
    refused = deleted("d", State(1, "a"), 1, 2, Fate.REFUSED)
    assert faults(made("a", EMPTY, 0, 1), refused) != []
    assert faults(made("a", EMPTY, 0, 1), refused, made("b", EMPTY, 3, 4), stored=State(1, "b")) != []


def test_reads_change_nothing() -> None:
    a, b = made("a", EMPTY, 0, 1), made("b", State(1, "a"), 5, 6)
    assert faults(a, looked("x", State(1, "a"), 2, 3), b, looked("y", State(2, "b"), 7, 8), stored=State(2, "b")) == []
    assert faults(a, looked("early", State(1, "a"), 0, 0.6), stored=State(1, "a")) == [
        "chat: early read 1 by a at a time when something else was stored"
    ]
    assert faults(a, b, looked("stale", State(1, "a"), 7, 8), stored=State(2, "b")) == [
        "chat: stale read 1 by a, which had been replaced before it began"
    ]


def test_a_refused_write_that_others_see_is_found() -> None:
    refused = made("r", State(1, "a"), 1, 2, fate=Fate.REFUSED)
    found = faults(made("a", EMPTY, 0, 1), refused, looked("dirty", State(2, "r"), 1, 3), stored=State(1, "a"))
    assert found == ["chat: dirty read 2 by r, which no update that took effect wrote"]


def test_a_session_that_expired() -> None:
    a, again = made("a", EMPTY, 0, 1), made("b", EMPTY, 20, 21)
    assert faults(a, expiry=Expiry(10)) == []
    assert faults(a, again, stored=State(1, "b"), expiry=Expiry(10)) == []
    assert faults(a, looked("x", EMPTY, 15, 16), again, stored=State(1, "b"), expiry=Expiry(10)) == []
    assert faults(a, again, stored=State(1, "b")) != [], "where nothing expires, that is a lost update"


def test_a_session_that_expired_too_early() -> None:
    a = made("a", EMPTY, 0, 1)
    early = made("b", EMPTY, 4, 6)
    assert faults(a, early, stored=State(1, "b"), expiry=Expiry(10)) == [
        "chat: b found nothing 5.500 s before the session could expire"
    ]
    assert faults(a, early, stored=State(1, "b"), expiry=Expiry(10, leeway=6)) == []
    assert faults(a, looked("x", EMPTY, 4, 6), expiry=Expiry(10)) == [
        "chat: x read 0 at a time when something else was stored"
    ]


def test_a_change_puts_off_the_expiry() -> None:
    a, b = made("a", EMPTY, 0, 1), made("b", State(1, "a"), 8, 9)
    assert faults(a, b, looked("x", EMPTY, 12, 13), expiry=Expiry(10)) != []
    assert faults(a, b, looked("x", EMPTY, 19, 20), expiry=Expiry(10)) == []


def test_histories_can_be_read_in_parts(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    with HistoryFile(path) as history:
        for key in ("a", "b"):
            history.started(f"1{key}", key)
            history.read(f"1{key}", EMPTY)
            history.committed(f"1{key}")
            history.started(f"2{key}", key, Effect.DELETE)
            history.read(f"2{key}", State(1, f"1{key}"))
            history.committed(f"2{key}")
    parts = [read_history([path], lambda key, wanted=wanted: key == wanted) for wanted in ("a", "b")]
    assert [[update.id for update in part] for part in parts] == [["1a", "2a"], ["1b", "2b"]]
    assert [update.effect for update in parts[0]] == [Effect.COUNT, Effect.DELETE]
    assert [find_faults(part, {}) for part in parts] == [[], []]


def test_a_failover_may_undo_unacknowledged_updates() -> None:
    first, unknown = made("a", EMPTY, 0, 1), made("u", State(1, "a"), 2, None, fate=Fate.UNKNOWN)
    seen, refused = looked("x", State(2, "u"), 2, 4), made("r", State(2, "u"), 2, 4, fate=Fate.REFUSED)
    went_on = made("b", State(1, "a"), 5, 6)

    def undone(*updates: Update, stored: State) -> list[str]:
        return find_faults(updates, {"chat": stored}, undone=True)

    assert undone(first, unknown, seen, refused, went_on, stored=State(2, "b")) == []
    assert faults(first, unknown, seen, refused, went_on, stored=State(2, "b")) != []
    built_upon = made("c", State(2, "u"), 2, 4)
    assert undone(first, unknown, built_upon, stored=State(3, "c")) == []
    assert undone(first, unknown, built_upon, went_on, stored=State(2, "b")) != []
    assert undone(first, made("k", State(1, "a"), 2, 3), went_on, stored=State(2, "b")) != []


def test_by_a_clock_that_is_ahead_a_session_is_gone_earlier() -> None:
    a, b = made("a", EMPTY, 0, 1), made("b", State(1, "a"), 20, 21)
    assert faults(a, looked("x", EMPTY, 8, 9), b, expiry=Expiry(10, leeway=3)) == []
    assert faults(a, looked("x", EMPTY, 5, 6), b, expiry=Expiry(10, leeway=3)) != []


def test_a_stale_read_is_excused_while_a_clock_is_wrong() -> None:
    a, b = made("a", EMPTY, 0, 1), made("b", State(1, "a"), 2, 3)
    stale = looked("x", State(1, "a"), 5, 6)
    asked: list[str] = []

    def excused(update: Update) -> bool:
        asked.append(update.id)
        return True

    assert find_faults([a, b, stale], {"chat": State(2, "b")}, excused=excused) == []
    assert asked == ["x"]
    undone = made("c", State(1, "a"), 5, 6)
    assert find_faults([a, b, undone], {"chat": State(2, "c")}, excused=excused) != []


class Story:
    """A key to which things happen one after another, told by those who did them."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.updates: list[Update] = []
        self.state = EMPTY
        self.now = 0.0

    def happen(self, times: int) -> None:
        for number in range(times):
            self._one(f"u{number}")

    def _one(self, name: str) -> None:
        draw = self.random
        effect = draw.choices(list(Effect), [6, 2, 2])[0]
        fate = draw.choices(list(Fate), [8, 1, 2])[0]
        asked = self.now - draw.uniform(0, 20)
        self.now += draw.uniform(0, 1)
        update = Update(name, "chat", asked, self.state, None, fate, None, effect, self.now)
        self.now += draw.uniform(0, 1)
        if update.writes is not None and (fate is Fate.COMMITTED or (fate is Fate.UNKNOWN and draw.random() < 0.5)):
            self.state = update.writes
        self.now += draw.uniform(0, 1)
        update.ended = None if fate is Fate.UNKNOWN else self.now + draw.uniform(0, 5)
        self.updates.append(update)


@pytest.mark.parametrize("seed", range(100))
def test_a_sequential_history_is_explained(seed: int) -> None:
    story = Story(seed)
    story.happen(60)
    assert faults(*story.updates, stored=story.state) == []


@pytest.mark.parametrize("seed", range(100))
def test_an_update_that_is_undone_is_found(seed: int) -> None:
    """Somebody acknowledged reads the state before the last change, and changes it as well."""
    story = Story(seed)
    story.happen(40)
    undone = max(
        (update for update in story.updates if update.fate is Fate.COMMITTED and update.writes is not None),
        key=lambda update: update.read_at or 0.0,
    )
    assert undone.read is not None
    story.state = undone.read
    story.now += 100
    story.updates.append(made("again", undone.read, story.now, story.now + 1))
    assert faults(*story.updates, stored=State(undone.read.count + 1, "again")) != []
