"""The process that soaks one storage: `python -m tools.soak._worker URL RECORD MINUTES RATE EVERY`."""

from __future__ import annotations

import asyncio
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TextIO

from chatsession import open_storage
from tools.soak._load import Load
from tools.soak._samples import Lag, Sample, held, quantile

_COUNT_STORED_EVERY = 6
"""Samples; counting reads all keys."""


async def soak(url: str, record: TextIO, minutes: float, rate: float, every: float) -> str:
    """Load a storage, write samples down, and say whether the counts add up."""
    async with open_storage(url) as storage:
        load = Load(storage)
        lag = Lag()
        watching = [asyncio.create_task(lag.run()), asyncio.create_task(_sampling(load, lag, record, every))]
        loading = asyncio.create_task(load.run(rate, minutes * 60))
        await asyncio.wait([loading, *watching], return_when=asyncio.FIRST_COMPLETED)
        for task in watching:
            task.cancel()
        failed = [each for each in await asyncio.gather(loading, *watching, return_exceptions=True) if _is_bad(each)]
        verdict = await load.check()
        await load.close()
        return f"{verdict}; {load.tally.errors} errors {load.tally.last_error} {failed or ''}".rstrip()


async def _sampling(load: Load, lag: Lag, record: TextIO, every: float) -> None:
    record.write(Sample.heading() + "\n")
    begin = time.monotonic()
    number = 0
    updates, cpu, then = 0, time.process_time(), begin
    while True:
        number += 1
        await asyncio.sleep(begin + number * every - time.monotonic())
        late = lag.take()
        await load.rest()
        stored = await load.stored() if number % _COUNT_STORED_EVERY == 1 else -1
        tally, now, used = load.tally, time.monotonic(), time.process_time()
        sample = Sample(
            seconds=now - begin,
            **asdict(held()),
            updates=tally.updates - updates,
            p50=quantile(tally.latencies, 0.5) * 1000,
            p99=quantile(tally.latencies, 0.99) * 1000,
            lag=late * 1000,
            cpu=(used - cpu) / (now - then),
            errors=tally.errors,
            stored=stored,
        )
        tally.latencies.clear()
        load.go()
        updates, cpu, then = tally.updates, used, now
        record.write(sample.line() + "\n")
        record.flush()


def _is_bad(result: object) -> bool:
    return isinstance(result, BaseException) and not isinstance(result, asyncio.CancelledError)


def main() -> None:
    """As the module's docstring says."""
    url, record, minutes, rate, every = sys.argv[1:]
    with Path(record).open("w") as file:
        print(asyncio.run(soak(url, file, float(minutes), float(rate), float(every))), flush=True)


if __name__ == "__main__":
    main()
