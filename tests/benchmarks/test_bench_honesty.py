"""The bench tells the truth: no figure without work, and where a peer is faster, that and why."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tools.benchmarks.__main__ import GROUPS
from tools.benchmarks._group import Goal, Group, no_slower, section
from tools.benchmarks._measure import Contender, Done, Round, Running, in_flight, measure
from tools.benchmarks._meters import metered
from tools.benchmarks._report import write_pages
from tools.benchmarks._results import Result, Run, read, write

Setup = Callable[[], AbstractAsyncContextManager[Running]]


def counting(lost: int = 0, order: list[str] | None = None, name: str = "") -> Setup:
    """Counts updates, and forgets so many of each run."""

    @asynccontextmanager
    async def setup() -> AsyncGenerator[Running]:
        total = 0
        if order is not None:
            order.append(name)

        async def run(updates: int) -> None:
            nonlocal total
            total += updates - lost

        async def counted() -> int:
            return total

        yield Running(run, counted)

    return setup


def measured(name: str, microseconds: float) -> Contender:
    """A contender that has run."""
    contender = Contender(name, counting())
    contender.rounds.append(Round(100, microseconds * 100 / 1e6, 0.0, None, None, {}))
    return contender


def test_work_that_was_not_done_has_no_figure() -> None:
    honest, lossy = Contender("honest", counting()), Contender("lossy", counting(lost=1))
    goal = Goal("speed", "lossy", "honest", at_least=1)
    measure([lossy, honest], rounds=2, seconds=0)
    assert len(honest.rounds) == 2
    assert lossy.rounds == []
    table = Group("Counting", [honest, lossy], "nothing", [goal]).table()
    assert "| lossy | no figure: WorkNotDoneError: 9 of 10 updates were counted" in table
    assert "- unknown: speed: there is no figure of 'lossy'" in table


def test_a_contender_that_fails_does_not_stop_the_others() -> None:
    @asynccontextmanager
    async def failing() -> AsyncGenerator[Running]:
        raise OSError("no such server")
        yield

    broken, fine = Contender("broken", failing), Contender("fine", counting())
    measure([broken, fine], rounds=1, seconds=0)
    assert broken.failure == "OSError: no such server"
    assert len(fine.rounds) == 1


def test_contenders_take_turns() -> None:
    order: list[str] = []
    measure([Contender(name, counting(order=order, name=name)) for name in "ab"], rounds=2, seconds=0)
    assert order == list("ababab")


def test_after_its_time_only_the_first_round_is_measured() -> None:
    contenders = [Contender(name, counting()) for name in "ab"]
    measure(contenders, rounds=3, seconds=0, until=0)
    assert [len(each.rounds) for each in contenders] == [1, 1]


def test_a_faster_peer_is_named_with_the_reason() -> None:
    goal = no_slower("ours", "peer", "it locks nothing")
    told = "- missed: time of ours, against peer: 2.00 (at most 1). Why: it locks nothing"
    assert goal.verdict({"ours": 4.0, "peer": 2.0}) == told
    assert goal.verdict({"ours": 2.0, "peer": 4.0}) == "- reached: time of ours, against peer: 0.50 (at most 1)"


@pytest.mark.parametrize(("whole", "verdict"), [(6.0, "reached"), (6.1, "missed")])
def test_what_is_added_is_compared_without_the_base(whole: float, verdict: str) -> None:
    goal = Goal("cost", ("ours", "base"), "codec", at_most=5)
    assert goal.verdict({"ours": whole, "base": 1.0, "codec": 1.0}).startswith(f"- {verdict}")


def test_cost_that_is_lost_in_the_noise_is_no_verdict() -> None:
    goal = Goal("cost", ("ours", "base"), "codec", at_most=5)
    assert goal.verdict({"ours": 1.0, "base": 1.1, "codec": 1.0}) == "- unknown: cost: lost in the noise"


def test_processor_time_is_told_beside_the_time() -> None:
    goal = Goal("cost", ("ours", "base"), ("peer", "base"), at_most=1)
    processor = {"ours": 2.0, "base": 1.0, "peer": 5.0}
    told = goal.verdict({"ours": 4.0, "base": 1.0, "peer": 4.0}, processor)
    assert told == "- reached: cost: 1.00 (at most 1); in processor time 0.25"
    assert goal.verdict({"ours": 4.0, "base": 1.0, "peer": 4.0}, {"ours": 1.0}) == "- reached: cost: 1.00 (at most 1)"


def test_latencies_are_those_of_each_update() -> None:
    async def handle(number: int) -> None:
        await asyncio.sleep(0)

    done = asyncio.run(in_flight(3, 10, handle))
    assert isinstance(done, Done)
    assert len(done.latencies) == 10
    assert all(each > 0 for each in done.latencies)


def test_what_reading_a_meter_costs_is_not_counted() -> None:
    counter = 0.0

    def meter() -> dict[str, float]:
        nonlocal counter
        counter += 5  # the meter's own question
        return {"bytes_in": counter}

    with metered(meter) as counted:
        counter += 37
    assert counted == {"bytes_in": 37}


RUN = Run("A machine", "2026-11-29", "python -m tools.benchmarks integrations", 1.25)


def kept(folder: Path, name: str, group: Group, run: Run = RUN) -> None:
    write(folder / f"{name}.json", Result(group, group.verdicts(), run))


def test_all_is_written_down(tmp_path: Path) -> None:
    goals = [no_slower("ours", "peer", "it locks nothing")]
    failed = Contender("failed", counting(), failure="OSError: no such server")
    contenders = [measured("ours", 4), measured("peer", 2), failed]
    kept(tmp_path, "integrations", Group("Small things", contenders, "luck", goals, "A note."))
    bare, cell = measured("bare", 1), measured("strict, changed, 300 bytes, 1 in flight", 5)
    labels = {bare.name: ("bare", "", ""), cell.name: ("strict, changed", "300", "1")}
    kept(tmp_path, "matrix-memory", Group("The matrix: memory", [bare, cell], "luck", labels=labels))
    write_pages(tmp_path, ["integrations", "node", "matrix-memory"])
    page = (tmp_path / "README.md").read_text()
    assert "`python -m tools.benchmarks integrations`, 2026-11-29; A machine, with a load of 1.2" in page
    assert "- missed: time of ours, against peer: 2.00 (at most 1). Why: it locks nothing" in page
    assert "| failed | no figure: OSError: no such server" in page
    assert "A note." in page
    assert "| strict, changed | 300 | 1 | 200,000 |" in (tmp_path / "matrix.md").read_text()
    assert "(integrations.png)" in page
    assert "(matrix.png)" in (tmp_path / "matrix.md").read_text()
    assert sorted(path.name for path in tmp_path.glob("*.png")) == ["integrations.png", "matrix.png"]


def test_raw_results_give_the_same_table_again(tmp_path: Path) -> None:
    full = measured("full", 3)
    full.rounds.append(Round(100, 0.0004, 0.0002, 1e-6, 3e-6, {"trips": 5.0, "cpu": 0.0001}))
    full.rounds[0] = Round(100, 0.0003, 0.0003, 2e-6, 4e-6, {"trips": 6.0, "cpu": 0.0002})
    group = Group("Things", [full, measured("bare", 1)], "luck", headings=["who"], labels={"full": ["ours"]})
    kept(tmp_path, "things", group)
    assert section(read(tmp_path / "things.json").group, []) == group.table()


def test_a_group_that_is_measured_again_leaves_the_others_on_the_page(tmp_path: Path) -> None:
    kept(tmp_path, "redis", Group("Redis", [measured("ours", 4)], "luck"), replace(RUN, day="2026-11-01"))
    kept(tmp_path, "hot", Group("A hot chat", [measured("ours", 4)], "luck"), replace(RUN, day="2026-11-02"))
    kept(tmp_path, "redis", Group("Redis", [measured("ours", 5)], "luck"), replace(RUN, day="2026-11-03"))
    write_pages(tmp_path, ["hot", "redis"])
    page = (tmp_path / "README.md").read_text()
    assert "2026-11-01" not in page
    assert page.index("2026-11-02") < page.index("2026-11-03")


def test_the_groups_are_there() -> None:
    assert len(set(GROUPS)) == len(GROUPS) == 20
