"""Threads of several processes lose no update, also when one of the processes is killed."""

from __future__ import annotations

import subprocess
import sys
import uuid
from pathlib import Path

import msgspec
import pytest

from chatsession.sync import SessionManager
from tests.concurrency.places import KINDS
from tools.histories.counting import Counter
from tools.histories.history import Fate, State, find_faults, read_history
from tools.histories.threads import ThreadOptions

PROCESSES, THREADS, UPDATES = 4, 8, 4_000
SHARED = ("sqlite", "redis", "postgresql")


@pytest.fixture(params=SHARED)
def options(request: pytest.FixtureRequest, tmp_path: Path) -> ThreadOptions:
    return ThreadOptions(
        name="process",
        storage=KINDS[request.param].url(request),
        history=str(tmp_path / "history"),
        prefix=f"{uuid.uuid4().hex}:",
        threads=THREADS,
        updates=UPDATES // PROCESSES // THREADS,
        lock_lease=KINDS[request.param].lease,
    )


def start(options: ThreadOptions, number: int = 0) -> subprocess.Popen[bytes]:
    own = msgspec.structs.replace(options, name=f"process-{number}", history=f"{options.history}-{number}")
    command = [sys.executable, "-m", "tools.histories.threads", msgspec.json.encode(own).decode()]
    return subprocess.Popen(command, stdout=subprocess.PIPE)


def check(options: ThreadOptions, *, undone: bool = False) -> tuple[int, int]:
    """How many updates were acknowledged, and the sum of all counters; no update is lost or made twice.

    Args:
        options: of the processes.
        undone: what a killed thread handed to the next one of its process may never have been stored.
    """
    updates = read_history(Path(options.history).parent.glob("history-*"))
    with SessionManager(Counter, storage=options.storage, prefix=options.prefix) as sessions:
        counters = dict(sessions.entries())
    stored = {key: State(counter.count, counter.by) for key, counter in counters.items()}
    assert find_faults(updates, stored, undone=undone) == []
    acknowledged = sum(update.fate is Fate.COMMITTED for update in updates)
    return acknowledged, sum(counter.count for counter in counters.values())


def test_12_the_sum_of_8_threads_in_4_processes_is_exact(options: ThreadOptions) -> None:
    processes = [start(options, number) for number in range(PROCESSES)]
    assert [process.communicate(timeout=300) and process.returncode for process in processes] == [0] * PROCESSES
    assert check(options) == (UPDATES, UPDATES)


def test_12_the_sum_of_forked_processes_is_exact(options: ThreadOptions) -> None:
    """As under gunicorn's `--preload`: the parent has used the manager before it forks."""
    parent = start(msgspec.structs.replace(options, processes=PROCESSES))
    parent.communicate(timeout=300)  # until the last has closed its output
    assert check(options) == (UPDATES, UPDATES)


def test_12_a_process_that_is_killed_takes_no_acknowledged_update_with_it(options: ThreadOptions) -> None:
    victim, *others = [start(options, number) for number in range(PROCESSES)]
    assert victim.stdout is not None
    for _ in range(100):
        victim.stdout.readline()
    victim.kill()
    victim.wait()
    victim.stdout.close()
    assert [process.communicate(timeout=300) and process.returncode for process in others] == [0] * 3
    acknowledged, total = check(options, undone=True)
    assert UPDATES * 3 // 4 + 100 <= acknowledged <= total <= UPDATES
