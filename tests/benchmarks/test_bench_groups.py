"""Every contender of every group does its work; a handful of updates each, which say nothing about speed."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager, suppress
from subprocess import PIPE, Popen

import pytest

from tools.benchmarks import (
    _ptb,
    files,
    hot,
    integrations,
    large,
    matrix,
    middleware,
    mongo,
    nats,
    polling,
    postgres,
    redis,
    sqlite,
    tending,
)
from tools.benchmarks._group import Group
from tools.benchmarks._measure import Contender, measure
from tools.benchmarks._meters import BYTES_IN, CPU, TRIPS, cpu_of, metered
from tools.benchmarks._pizza import SMALL

pytestmark = pytest.mark.usefixtures("quick_collections")

GROUPS = {
    "middleware": middleware.group,
    "integrations": integrations.group,
    "sqlite": sqlite.group,
    "redis": redis.group,
    "postgres": postgres.group,
    "files": files.group,
    "large": large.group,
    "nats": nats.group,
    "mongo": mongo.group,
    "tending": tending.group,
    "polling": polling.group,
}
# Those that poll for their lock take seconds.
PATIENT = {hot.REDIS_POLLED, hot.AIOGRAM_ISOLATED, hot.AIOGRAM, hot.POSTGRES_POOLED}


@contextmanager
def part_of_the_matrix(place: str) -> Generator[Group]:
    with matrix.group(place, matrix.Scale((20,), (10_000,), 20)) as group:
        yield group


def in_short(group: AbstractContextManager[Group], wanted: Callable[[Contender], bool] = lambda _: True) -> Group:
    """The group, with one round of a few updates."""
    with group as opened:
        contenders = [each for each in opened.contenders if wanted(each)]
        measure(contenders, rounds=1, seconds=0)
        return Group(opened.title, contenders, opened.conditions, headings=opened.headings, labels=opened.labels)


def failures(group: Group) -> dict[str, str | None]:
    return {each.name: each.failure for each in group.contenders if each.failure or not each.rounds}


@pytest.mark.parametrize("name", GROUPS)
def test_all_contenders_of_a_group_do_their_work(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tending, "STORED", 500)
    monkeypatch.setattr(large, "CHATS", {10_000: 20, 300_000: 2})
    monkeypatch.setattr(_ptb, "UPDATES_A_FLUSH", 20)
    group = in_short(GROUPS[name]())
    assert failures(group) == {}
    table = group.table()
    assert all(" | ".join(group.labels.get(each.name, [each.name])) in table for each in group.contenders)


def test_a_hot_chat_is_served_by_all_contenders() -> None:
    assert failures(in_short(hot.group(), lambda each: each.name not in PATIENT)) == {}


@pytest.mark.parametrize("place", matrix.PLACES)
def test_every_cell_of_the_matrix_does_its_work(place: str) -> None:
    group = in_short(part_of_the_matrix(place))
    assert failures(group) == {}
    changed = {each.name: each for each in group.contenders}["strict, changed, 10,000 bytes, 20 in flight"]
    (measured,) = changed.rounds
    assert measured.updates >= 20
    assert measured.p50 is not None
    assert measured.p99 is not None
    assert 0 < measured.p50 <= measured.p99
    if place != "memory":
        # A session of 10 KB was written for every update.
        assert measured.server[BYTES_IN] > 5_000 * measured.updates
        assert measured.server[TRIPS] > 0
    if place in ("redis", "postgres", "nats", "mongo"):
        # Of so little work, what reading the meter costs may be as much.
        assert measured.server[CPU] >= 0


def test_polling_that_does_not_end_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    async def poll(bot: polling.PollingBot) -> None:
        for _ in range(2):
            with suppress(asyncio.CancelledError):
                await asyncio.Event().wait()

    async def give_up_polling() -> None:
        async with polling.polled(polling.Aiogram, poll):
            await asyncio.sleep(0)

    monkeypatch.setattr(polling, "_SECONDS_TO_STOP", 0)
    with pytest.raises(TimeoutError, match="polling did not end"):
        asyncio.run(give_up_polling())


def test_what_a_server_computes_is_counted() -> None:
    program = "import sys; input(); sum(range(2_000_000)); print(flush=True); sys.stdin.read()"
    with Popen([sys.executable, "-c", program], stdin=PIPE, stdout=PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        with metered(lambda: cpu_of(process.pid)) as counted:
            process.stdin.write(b"\n")
            process.stdin.flush()
            process.stdout.readline()
    assert counted[CPU] > 0


def test_what_an_open_session_holds_is_at_least_its_value() -> None:
    with matrix.group("memory", matrix.Scale((1,), (SMALL,), 50)) as group:
        assert "With 50 sessions open at the same time" in group.note
        held = float(group.note.partition("each holds ")[2].partition(" bytes")[0].replace(",", ""))
    assert held > SMALL
