"""Several processes that update the same chats: `python -m benchmarks._growth_workers URL CHATS FLIGHT SECONDS SEED`."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections import Counter

import msgspec

from benchmarks._growth_chats import Chat, Figure, key_of, median, some_of
from benchmarks._measure import WorkNotDoneError
from chatsession import SessionManager, open_storage

CHATS = 1_000
FLIGHT = 100


async def together(url: str, processes: int, seconds: float) -> Figure:
    """Update with so many processes at a time.

    Raises:
        WorkNotDoneError: what is stored afterwards is not what all of them counted.
    """
    before = await _total(url)
    command = [sys.executable, "-m", "benchmarks._growth_workers", url, str(CHATS), str(FLIGHT), str(seconds)]
    workers = [
        subprocess.Popen([*command, str(seed)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for seed in range(processes)
    ]
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
    return Figure(done, median(each["seconds"] for each in results), latencies)


async def _total(url: str) -> int:
    decode = msgspec.json.Decoder(Chat).decode
    async with open_storage(url) as storage:
        records = [
            record
            for begin in range(0, CHATS, 500)
            for record in await storage.read_many([key_of(number) for number in range(begin, begin + 500)])
        ]
    return sum(decode(record.value).count for record in records if record is not None)  # type: ignore[union-attr] - an error has no value, and shall fail here


async def _work(url: str, chats: int, flight: int, seconds: float, seed: int) -> None:
    next_key, tally = some_of(chats, seed), Counter[str]()
    async with open_storage(url) as storage, SessionManager(Chat, storage=storage) as sessions:
        await sessions.get(next_key())
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        latencies: list[float] = []
        loop = asyncio.get_running_loop()
        begin = loop.time()

        async def worker() -> None:
            while (start := loop.time()) < begin + seconds:
                async with sessions.open(next_key()) as session:
                    session.data.count += 1
                latencies.append(round(loop.time() - start, 6))

        await asyncio.gather(*(worker() for _ in range(flight)))
        took = loop.time() - begin
    print(json.dumps({"seconds": took, "latencies": latencies}))


if __name__ == "__main__":
    url, chats, flight, seconds, seed = sys.argv[1:]
    asyncio.run(_work(url, int(chats), int(flight), float(seconds), int(seed)))
