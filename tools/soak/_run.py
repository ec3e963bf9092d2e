"""One run: servers started, a process for each storage, servers asked now and then."""

from __future__ import annotations

import gzip
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from tools.soak._storages import STORAGES, Soaked

_ASK_EVERY = 30.0


def run(names: Sequence[str], out: Path, *, minutes: float, rate: float, every: float, note: str = "") -> None:
    """Soak storages at the same time.

    Args:
        names: of the storages.
        out: where the records are written.
        minutes: how long.
        rate: updates per second on each.
        every: seconds from one sample to the next.
        note: on the conditions, for who reads the report.
    """
    out.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chatsession-soak-")))
        soaked: dict[str, Soaked] = {}
        for name in names:
            (root / name).mkdir()
            soaked[name] = stack.enter_context(STORAGES[name](root / name))
        given = [str(number) for number in (minutes, rate, every)]
        workers = {
            name: subprocess.Popen(
                [sys.executable, "-m", "tools.soak._worker", each.url, str(out / f"{name}.csv"), *given],
                stdout=subprocess.PIPE,
                text=True,
            )
            for name, each in soaked.items()
        }
        begin = time.time()
        try:
            _ask(soaked, workers, out)
        finally:
            for worker in workers.values():
                worker.kill()
        said = {name: worker.communicate()[0].strip() for name, worker in workers.items()}
    conditions = {
        "begin": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(begin)),
        "minutes": minutes,
        "rate": rate,
        "every": every,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "note": note,
        "verdicts": said,
    }
    (out / "run.json").write_text(json.dumps(conditions, indent=2) + "\n")
    for name in said:
        _pack(out / f"{name}.csv")
    for name, text in said.items():
        print(f"{name}: {text or 'ended early'}")


def _pack(record: Path) -> None:
    """Records are kept in git: pack one, without a time, so that the same record gives the same file."""
    record.with_suffix(".csv.gz").write_bytes(gzip.compress(record.read_bytes(), mtime=0))
    record.unlink()


def _ask(soaked: Mapping[str, Soaked], workers: Mapping[str, subprocess.Popen[str]], out: Path) -> None:
    """Ask the servers until all processes have ended."""
    begin = time.monotonic()
    records = {name: (out / f"{name}.server.csv").open("w") for name in soaked}
    try:
        for record in records.values():
            record.write("seconds,connections,size\n")
        while any(worker.poll() is None for worker in workers.values()):
            for name, each in soaked.items():
                if workers[name].poll() is None:
                    told = each.ask()
                    records[name].write(f"{time.monotonic() - begin:.1f},{told.connections},{told.size}\n")
                    records[name].flush()
            _wait(workers, _ASK_EVERY)
    finally:
        for record in records.values():
            record.close()


def _wait(workers: Mapping[str, subprocess.Popen[str]], seconds: float) -> None:
    end = time.monotonic() + seconds
    for worker in workers.values():
        try:
            worker.wait(max(end - time.monotonic(), 0))
        except subprocess.TimeoutExpired:
            return
