"""What the judge of a soak calls flat, and what it does not."""

from __future__ import annotations

import pytest

from tools.soak._verdict import Columns, Verdict, judge

_SAMPLES = 400
_MB = 2**20


def record(**changed: list[float]) -> Columns:
    """A process that is at rest, with all that is told of it."""
    flat: Columns = {name: [10.0] * _SAMPLES for name in ("fds", "sockets", "threads", "tasks", "p50", "p99", "stored")}
    flat |= {"seconds": [5.0 * n for n in range(_SAMPLES)], "rss": [40.0 * _MB] * _SAMPLES}
    return flat | {"updates": [200.0] * _SAMPLES, "errors": [0.0] * _SAMPLES} | changed


def judged(connections: list[float] | None = None, **changed: list[float]) -> Verdict:
    """The verdict on a process with something changed."""
    server = {"seconds": [30.0 * n for n in range(60)], "connections": connections or [4.0] * 60, "size": [1e6] * 60}
    return judge(record(**changed), server)


def rising(by: float, start: float = 10.0) -> list[float]:
    """Steps up, evenly over the run."""
    return [start + int(by * n / _SAMPLES) for n in range(_SAMPLES)]


def test_what_does_not_move_is_flat() -> None:
    verdict = judged()
    assert verdict.is_flat
    assert verdict.slope == 0
    assert verdict.updates == 200 * _SAMPLES


@pytest.mark.parametrize("kind", ["fds", "sockets", "threads", "tasks"])
def test_one_more_now_and_then_is_not_flat(kind: str) -> None:
    verdict = judged(**{kind: rising(4)})
    assert verdict.grew == [kind]
    assert not verdict.is_flat


def test_a_pool_may_fill_up_and_no_more() -> None:
    server = {"seconds": [30.0 * n for n in range(60)], "connections": [-1.0] * 60, "size": [-1.0] * 60}
    assert judge(record(threads=rising(4, 5.0)), server, {"threads": 9}).is_flat
    assert judge(record(threads=rising(8, 5.0)), server, {"threads": 9}).grew == ["threads"]


def test_what_fills_up_at_first_is_flat() -> None:
    assert judged(fds=[5.0] * 90 + [12.0] * (_SAMPLES - 90), rss=[1.0 * _MB] * 90 + [40.0 * _MB] * 310).is_flat


def test_what_comes_and_goes_is_flat() -> None:
    assert judged(tasks=[float(10 + n % 7) for n in range(_SAMPLES)]).is_flat


def test_memory_that_climbs_is_not_flat() -> None:
    hours = 5 * _SAMPLES / 3600
    verdict = judged(rss=rising(3 * hours * _MB, 40.0 * _MB))
    assert verdict.slope == pytest.approx(3, rel=0.01)
    assert verdict.grew == ["memory"]


def test_more_and_more_sessions_are_not_flat() -> None:
    assert judged(stored=rising(200, 100.0)).grew == ["stored"]


def test_more_and_more_connections_are_not_flat() -> None:
    assert judged([float(4 + n // 10) for n in range(60)]).grew == ["connections"]


def test_an_update_that_failed_is_not_well() -> None:
    assert not judged(errors=[0.0] * (_SAMPLES - 1) + [1.0]).is_flat
