"""The check of histories finds what cannot have happened, and lets pass what can."""

from __future__ import annotations

from pathlib import Path

import pytest

from chatsession.errors import SessionConflictError, StorageUnavailableError
from tools.histories.history import Fate, HistoryFile, State, Update, find_faults, read_history
from tools.histories.updates import Effect

EMPTY = State()


def update(
    name: str, read: State | None, fate: Fate = Fate.COMMITTED, *, started: float = 0.0, ended: float | None = 100.0
) -> Update:
    return Update(name, "chat", started, read, None if fate is Fate.UNKNOWN else ended, fate)


def faults(*updates: Update, stored: State) -> list[str]:
    return find_faults(updates, {} if stored == EMPTY else {"chat": stored})


def test_nothing_happened() -> None:
    assert find_faults([], {}) == []


def test_one_after_the_other() -> None:
    chain = [update("a", EMPTY), update("b", State(1, "a")), update("c", State(2, "b"))]
    assert faults(*chain, stored=State(3, "c")) == []
    assert faults(*reversed(chain), stored=State(3, "c")) == []


def test_refused_updates_leave_no_trace() -> None:
    chain = [update("a", EMPTY), update("b", EMPTY, Fate.REFUSED), update("c", None, Fate.REFUSED)]
    assert faults(*chain, stored=State(1, "a")) == []


def test_a_lost_update() -> None:
    fork = [update("a", EMPTY), update("b", EMPTY)]
    assert faults(*fork, stored=State(1, "b")) == [
        "chat: a and b all read 0, and each took effect",
        "chat: a is lost: it was acknowledged, and nothing shows it",
    ] or faults(*fork, stored=State(1, "b"))
    found = faults(update("a", EMPTY), update("b", State(1, "a")), update("c", State(1, "a")), stored=State(2, "c"))
    assert any("b and c all read 1 by a" in fault for fault in found)
    assert any("b is lost" in fault for fault in found)


def test_a_lost_update_behind_which_others_went_on() -> None:
    found = faults(
        update("a", EMPTY),
        update("lost", EMPTY),
        update("b", State(1, "a")),
        update("c", State(2, "b")),
        stored=State(3, "c"),
    )
    assert found == [
        "chat: a and lost all read 0, and each took effect",
        "chat: lost is lost: it was acknowledged, and nothing shows it",
    ]


def test_an_acknowledged_update_that_is_not_stored() -> None:
    assert faults(update("a", EMPTY), stored=EMPTY) == [
        "chat: 0 is stored, but the last update that took effect wrote 1 by a"
    ]


def test_the_last_update_is_gone() -> None:
    found = faults(update("a", EMPTY), update("b", State(1, "a")), stored=State(1, "a"))
    assert found == ["chat: 1 by a is stored, but the last update that took effect wrote 2 by b"]


def test_an_update_applied_twice() -> None:
    found = faults(update("a", EMPTY), stored=State(2, "a"))
    assert found == ["chat: 2 by a is stored, but the last update that took effect wrote 1 by a"]
    found = faults(update("a", EMPTY), update("b", State(2, "a")), stored=State(3, "b"))
    assert any("b read 2 by a, which no update that took effect wrote" in fault for fault in found)


def test_a_refused_update_that_took_effect() -> None:
    refused = update("a", EMPTY, Fate.REFUSED)
    assert faults(refused, stored=State(1, "a")) != []
    assert faults(refused, update("b", State(1, "a")), stored=State(2, "b")) != []


def test_a_stale_read() -> None:
    found = faults(update("a", EMPTY), update("b", State(1, "a")), update("c", EMPTY), stored=State(2, "b"))
    assert any("a and c all read 0" in fault for fault in found)


def test_a_read_of_what_nobody_wrote() -> None:
    found = faults(update("a", EMPTY), update("b", State(7, "x"), Fate.REFUSED), stored=State(1, "a"))
    assert found == ["chat: b read 7 by x, which no update that took effect wrote"]


def test_data_that_started_afresh() -> None:
    """As after a read error that was taken for a missing session."""
    found = faults(update("a", EMPTY), update("b", State(1, "a")), update("c", EMPTY), stored=State(1, "c"))
    assert any("a and c all read 0" in fault for fault in found)
    assert any("is stored, but" in fault for fault in found) or any("lost" in fault for fault in found)


@pytest.mark.parametrize("applied", [True, False])
def test_an_update_of_unknown_fate_took_effect_or_not(applied: bool) -> None:
    unknown = update("u", State(1, "a"), Fate.UNKNOWN)
    if applied:
        assert faults(update("a", EMPTY), unknown, stored=State(2, "u")) == []
        later = update("b", State(2, "u"))
        assert faults(update("a", EMPTY), unknown, later, stored=State(3, "b")) == []
    else:
        assert faults(update("a", EMPTY), unknown, stored=State(1, "a")) == []
        assert faults(update("a", EMPTY), unknown, update("b", State(1, "a")), stored=State(2, "b")) == []


def test_updates_of_unknown_fate_one_after_the_other() -> None:
    first, second = update("u", EMPTY, Fate.UNKNOWN), update("v", State(1, "u"), Fate.UNKNOWN)
    assert faults(first, second, stored=State(2, "v")) == []
    assert faults(first, second, stored=State(1, "u")) == []
    assert faults(first, update("v", None, Fate.UNKNOWN), stored=EMPTY) == []


def test_an_update_of_unknown_fate_that_took_effect_and_was_lost() -> None:
    unknown = update("one:u", EMPTY, Fate.UNKNOWN)
    for seen in (update("two:b", State(1, "one:u"), Fate.REFUSED), looked("one:b", State(1, "one:u"))):
        found = faults(unknown, seen, update("a", EMPTY), stored=State(1, "a"))
        assert any("one:u and a all read 0" in fault for fault in found)


def looked(name: str, read: State) -> Update:
    return Update(name, "chat", 0.0, read, 100.0, Fate.COMMITTED, effect=Effect.NOTHING)


def test_within_a_process_an_update_may_be_given_what_is_never_stored_if_it_fails_as_well() -> None:
    stored = update("a", EMPTY)
    for fate in (Fate.UNKNOWN, Fate.REFUSED):
        never = update("one:u", EMPTY, fate)
        never.error = "SessionConflictError"
        given = State(1, "one:u")
        for failed in (Fate.UNKNOWN, Fate.REFUSED):
            assert faults(never, update("one:b", given, failed), stored, stored=State(1, "a")) == []
        assert faults(never, update("one:b", given), stored, stored=State(1, "a")) != []
        assert faults(never, looked("one:b", given), stored, stored=State(1, "a")) != []
        assert faults(never, update("two:b", given, Fate.REFUSED), stored, stored=State(1, "a")) != []


def test_what_an_update_made_that_ran_again_may_have_been_given_to_one_that_failed() -> None:
    again = update("one:u", State(1, "a"))
    again.before.append(EMPTY)
    given = update("one:b", State(1, "one:u"), Fate.REFUSED)
    assert faults(update("a", EMPTY), again, given, stored=State(2, "one:u")) == []
    assert faults(update("a", EMPTY), again, update("one:b", State(1, "one:u")), stored=State(2, "one:u")) != []


def test_what_a_handler_made_that_failed_is_given_to_nobody() -> None:
    failed = update("one:f", EMPTY, Fate.REFUSED)
    failed.error = "HandlerFailedError"
    found = faults(failed, update("one:b", State(1, "one:f"), Fate.REFUSED), stored=EMPTY)
    assert found == ["chat: one:b read 1 by one:f, which no update that took effect wrote"]


def test_a_deletion_of_unknown_fate_behind_an_update_of_unknown_fate() -> None:
    deletion = Update("d", "chat", 0.0, State(2, "u"), None, Fate.UNKNOWN, effect=Effect.DELETE)
    chain = [update("a", EMPTY), update("u", State(1, "a"), Fate.UNKNOWN), deletion, update("b", EMPTY)]
    for undone in (False, True):
        assert find_faults(chain, {"chat": State(1, "b")}, undone=undone) == []
    assert find_faults([*chain[:2], chain[3]], {"chat": State(1, "b")}) != []


def test_an_update_of_unknown_fate_that_took_effect_twice() -> None:
    unknown = update("u", EMPTY, Fate.UNKNOWN)
    found = faults(unknown, update("b", State(1, "u")), stored=State(2, "u"))
    assert found != []


def test_an_order_that_time_forbids() -> None:
    found = faults(
        update("late", EMPTY, started=50.0, ended=60.0),
        update("early", State(1, "late"), started=0.0, ended=10.0),
        stored=State(2, "early"),
    )
    assert found == ["chat: early was acknowledged before late began, and yet built upon it"]


def test_every_key_is_looked_at() -> None:
    good, bad = update("a", EMPTY), Update("b", "other", 0.0, EMPTY, 1.0, Fate.COMMITTED)
    assert find_faults([good, bad], {"chat": State(1, "a"), "stray": State(1, "x")}) == [
        "other: 0 is stored, but the last update that took effect wrote 1 by b",
        "stray: 1 by x is stored, but the last update that took effect wrote 0",
    ]


def test_a_commit_without_a_read() -> None:
    assert "chat: a was committed without having read" in faults(update("a", None), stored=EMPTY)


def test_what_is_written_down_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    with HistoryFile(path) as history:
        history.started("a", "chat")
        history.read("a", State(3, "x"))
        history.committed("a")
        history.started("b", "chat")
        history.failed("b", SessionConflictError("lost"), Fate.REFUSED)
        history.started("c", "chat")
        history.failed("c", StorageUnavailableError("gone"), Fate.UNKNOWN)
        history.started("d", "chat")
    with path.open("ab") as file:
        file.write(b'{"id":"d","at":1')  # as a kill leaves it
    updates = {each.id: each for each in read_history([path])}
    assert [(each.id, each.fate, each.read, each.error) for each in updates.values()] == [
        ("a", Fate.COMMITTED, State(3, "x"), None),
        ("b", Fate.REFUSED, None, "SessionConflictError"),
        ("c", Fate.UNKNOWN, None, "StorageUnavailableError"),
        ("d", Fate.UNKNOWN, None, None),
    ]
    assert updates["a"].ended is not None
    assert updates["a"].started <= updates["a"].ended
    assert updates["d"].ended is None


def test_histories_that_contradict_themselves(tmp_path: Path) -> None:
    first, second = tmp_path / "1.jsonl", tmp_path / "2.jsonl"
    with HistoryFile(first) as history:
        history.started("a", "chat")
        history.committed("a")
    with HistoryFile(second) as history:
        history.started("a", "chat")
    with pytest.raises(ValueError, match="two updates"):
        read_history([first, second])
    with HistoryFile(first) as history:
        history.committed("a")
    with pytest.raises(ValueError, match="ended twice"):
        read_history([first])
