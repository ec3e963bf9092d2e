"""Several processes that update the same chats: each is `python -m tools.benchmarks._growth_workers URL SECONDS`."""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
from collections.abc import Sequence

import msgspec

from chatsession import SessionError, SessionManager, open_storage
from tools.benchmarks._growth_chats import Chat, Figure, key_of, some_of
from tools.benchmarks._measure import WorkNotDoneError

CHATS = 1_000
FLIGHT = 100


async def together(url: str, processes: int, seconds: float) -> Figure:
    """Update with so many processes at a time.

    Raises:
        WorkNotDoneError: what is stored afterwards is not what all of them counted.
    """
    before = await _total(url)
    command = [sys.executable, "-m", "tools.benchmarks._growth_workers", url, str(seconds)]
    workers = [_started(command) for _ in range(processes)]
    try:
        for worker in workers:
            assert worker.stdout is not None
            await asyncio.to_thread(worker.stdout.readline)  # it is ready
        for worker in workers:
            assert worker.stdin is not None
            worker.stdin.write("go\n")
            worker.stdin.flush()
        told = [await asyncio.to_thread(worker.communicate) for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    results = [json.loads(output) for output, _ in told]
    done = sum(len(each["latencies"]) for each in results)
    if (counted := await _total(url) - before) != done:
        raise WorkNotDoneError(f"{counted} of {done} updates were counted")
    latencies = sorted(latency for each in results for latency in each["latencies"])
    return Figure(done, statistics.median(each["seconds"] for each in results), latencies)


def _started(command: Sequence[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


async def _total(url: str) -> int:
    decode = msgspec.json.Decoder(Chat).decode
    total = 0
    async with open_storage(url) as storage:
        for begin in range(0, CHATS, 500):
            for record in await storage.read_many([key_of(number) for number in range(begin, begin + 500)]):
                if isinstance(record, SessionError):
                    raise record
                total += 0 if record is None else decode(record.value).count
    return total


async def _work(url: str, seconds: float) -> None:
    next_key = some_of(CHATS)
    async with open_storage(url) as storage, SessionManager(Chat, storage=storage) as sessions:
        await sessions.get(next_key())
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        latencies: list[float] = []
        loop = asyncio.get_running_loop()
        begin = loop.time()

        async def worker() -> None:
            now = loop.time()
            while True:
                start = now
                async with sessions.open(next_key()) as session:
                    session.data.count += 1
                now = loop.time()
                latencies.append(round(now - start, 6))
                if now >= begin + seconds:
                    return

        await asyncio.gather(*(worker() for _ in range(FLIGHT)))
        took = loop.time() - begin
    print(json.dumps({"seconds": took, "latencies": latencies}))


if __name__ == "__main__":
    asyncio.run(_work(sys.argv[1], float(sys.argv[2])))
