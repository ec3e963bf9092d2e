"""What is made of the histories of a campaign."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from chatsession.errors import SessionConflictError, StorageError, StorageUnavailableError
from tools.histories.counting import Counter
from tools.histories.history import HistoryFile, read_history
from tools.histories.updates import Effect, Fate
from tools.torture import verdict
from tools.torture.attempts import Attempts, HandlerFailedError, Names
from tools.torture.nemesis import Event
from tools.torture.verdict import Terms, check


class Campaign:
    """A folder with histories, as a campaign leaves it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        terms = Terms(storage="sqlite", seed=1, workers=2, lease=2, ttl=10, leeway=0)
        (folder / "terms.json").write_bytes(msgspec.json.encode(terms))
        self.store({})

    def store(self, stored: dict[str, Counter]) -> None:
        (self.folder / "stored.json").write_bytes(msgspec.json.encode(stored))

    def worker(self, name: str) -> HistoryFile:
        return HistoryFile(self.folder / f"{name}.jsonl")

    def happened(self, *events: Event) -> None:
        lines = [msgspec.json.encode(event) + b"\n" for event in events]
        (self.folder / "events.jsonl").write_bytes(b"".join(lines))


@pytest.fixture
def campaign(tmp_path: Path) -> Campaign:
    return Campaign(tmp_path)


def count(history: HistoryFile, attempts: Attempts, key: str, found: Counter) -> Counter:
    attempt = attempts.begin(key)
    counted = attempt.read(found)
    attempts.leave()
    attempts.commit()
    return counted


def test_all_is_well(campaign: Campaign) -> None:
    with campaign.worker("w0") as history:
        attempts = Attempts(history, Names("w0"))
        first = count(history, attempts, "lasting:a", Counter())
        second = count(history, attempts, "lasting:a", first)
        other = count(history, attempts, "expiring:b", Counter())
        assert attempts.changed == 3
    campaign.store({"lasting:a": second, "expiring:b": other})
    found = check(campaign.folder)
    assert (found.faults, found.updates, found.attempts, found.keys) == ([], 3, 3, 2)
    assert found.outcomes == {"committed": 3}


@pytest.mark.parametrize("part", [10, 1_000_000])
def test_a_lost_update_is_found_in_histories_checked_in_parts(
    campaign: Campaign, monkeypatch: pytest.MonkeyPatch, part: int
) -> None:
    monkeypatch.setattr(verdict, "_PART", part)
    keys = [f"lasting:{number}" for number in range(20)]
    with campaign.worker("w0") as history:
        attempts = Attempts(history, Names("w0"))
        for key in keys:
            count(history, attempts, key, Counter())
    found = check(campaign.folder)
    assert len(found.faults) == 20
    assert all("0 is stored, but the last update that took effect wrote 1" in fault for fault in found.faults)
    assert (found.updates, found.keys) == (20, 20)


def test_sessions_may_be_gone_only_where_they_expire(campaign: Campaign) -> None:
    with campaign.worker("w0") as history:
        attempts = Attempts(history, Names("w0"))
        count(history, attempts, "lasting:a", Counter())
        count(history, attempts, "expiring:a", Counter())
    assert [fault.partition(":")[0] for fault in check(campaign.folder).faults] == ["lasting"]


def test_errors_that_the_contract_does_not_know(campaign: Campaign) -> None:
    with campaign.worker("w0") as history:
        attempts = Attempts(history, Names("w0"))
        attempts.begin("lasting:a")
        attempts.fail(ConnectionResetError())
        attempts.begin("lasting:a")
        attempts.fail(StorageError("full"))
    assert check(campaign.folder).faults == [
        "callers saw ConnectionResetError, which is no error of the contract",
    ]


def test_how_long_a_key_was_blocked_by_a_holder_that_was_killed(campaign: Campaign) -> None:
    for name, events in {
        "w0": [("a", 0.0, 1.0, None)],
        "w1": [("b", 5.0, 5.1, 5.2), ("c", 2.0, 4.5, 4.6)],
    }.items():
        lines: list[bytes] = []
        for number, (_, started, read, ended) in enumerate(events):
            one = {"id": f"{name}:{number}", "at": started, "key": "lasting:a"}
            two = {"id": f"{name}:{number}", "at": read, "read": [0, ""]}
            lines += [msgspec.json.encode(one), msgspec.json.encode(two)]
            if ended is not None:
                lines.append(msgspec.json.encode({"id": f"{name}:{number}", "at": ended, "fate": "refused"}))
        (campaign.folder / f"{name}.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    kill = Event(number=0, name="worker killed (SIGKILL)", began=1.5, ended=1.6, target="w0")
    campaign.happened(kill)
    blocked = check(campaign.folder).blocked
    assert blocked.after_kills == blocked.quiet_kills == 1
    assert blocked.longest_after_kill == blocked.longest_after_quiet_kill == pytest.approx(2.5)
    assert (blocked.longest, blocked.key) == (pytest.approx(2.5), "lasting:a")

    campaign.happened(kill, Event(number=1, name="server killed", began=2, ended=3))
    blocked = check(campaign.folder).blocked
    assert (blocked.after_kills, blocked.quiet_kills) == (1, 0)


@pytest.mark.parametrize(
    ("error", "leaving", "fate"),
    [
        (HandlerFailedError(), False, Fate.REFUSED),
        (asyncio.CancelledError(), False, Fate.REFUSED),
        (StorageUnavailableError("gone"), False, Fate.REFUSED),
        (asyncio.CancelledError(), True, Fate.UNKNOWN),
        (StorageUnavailableError("gone"), True, Fate.UNKNOWN),
        (StorageError("full"), True, Fate.REFUSED),
        (SessionConflictError("lost", key="lasting:a"), True, Fate.REFUSED),
    ],
)
def test_what_an_error_promises(campaign: Campaign, error: BaseException, leaving: bool, fate: Fate) -> None:
    with campaign.worker("w0") as history:
        attempts = Attempts(history, Names("w0"))
        attempts.begin("lasting:a", Effect.DELETE)
        if leaving:
            attempts.leave()
        attempts.fail(error)
    (update,) = read_history([campaign.folder / "w0.jsonl"])
    assert (update.fate, update.effect, update.error) == (fate, Effect.DELETE, type(error).__name__)


def test_of_several_that_end_together_the_error_is_about_one(campaign: Campaign) -> None:
    with campaign.worker("w0") as history:
        attempts = Attempts(history, Names("w0"))
        for key in ("lasting:a", "lasting:b"):
            attempts.begin(key)
        attempts.leave()
        attempts.fail(SessionConflictError("lost", key="lasting:b"))
    updates = read_history([campaign.folder / "w0.jsonl"])
    assert [update.fate for update in updates] == [Fate.UNKNOWN, Fate.REFUSED]


def test_a_change_after_a_save_does_not_ask_again(campaign: Campaign) -> None:
    with campaign.worker("w0") as history:
        attempts = Attempts(history, Names("w0"))
        first = attempts.begin("lasting:a")
        attempts.leave()
        attempts.commit()
        attempts.begin("lasting:a", behind=first)
        attempts.commit()
    first_read, second_read = read_history([campaign.folder / "w0.jsonl"])
    assert first_read.started == second_read.started
