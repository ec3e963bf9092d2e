"""Bots on Node.js: their packages, fetched once into `benchmarks/node`, and one process for each that is measured."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tools.benchmarks._chats import CHATS
from tools.benchmarks._measure import Done, Running
from tools.benchmarks._meters import Meter
from tools.servers._process import ServerFailedError, program

HERE = Path(__file__).with_name("node")
_LONGEST_LINE = 1 << 20


def install_packages() -> None:
    """Fetch what `package-lock.json` names, unless that was done before.

    Raises:
        ServerNotFoundError: npm is not installed.
        ServerFailedError: npm could not fetch them.
    """
    lock, installed = HERE / "package-lock.json", HERE / ".installed.json"
    if installed.exists() and installed.read_text() == lock.read_text() and (HERE / "node_modules").exists():
        return
    print("fetching grammY and Telegraf into benchmarks/node/node_modules", flush=True)
    done = subprocess.run(
        [program("npm"), "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
        cwd=HERE, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    if done.returncode:
        raise ServerFailedError(f"npm could not fetch grammY and Telegraf:\n{done.stderr[-2000:]}")
    installed.write_text(lock.read_text())


def versions(*names: str) -> str:
    """Of Node.js, and of the packages that are installed."""
    node = subprocess.run([program("node"), "--version"], capture_output=True, text=True, check=True).stdout.strip()
    found = [json.loads((HERE / "node_modules" / name / "package.json").read_text())["version"] for name in names]
    return ", ".join([f"Node.js {node[1:]}", *map(" ".join, zip(names, found, strict=True))])


@asynccontextmanager
async def bot(
    framework: str, storage: str, place: str, flight: int, meter: Meter | None = None
) -> AsyncGenerator[Running]:
    """A bot in a process of its own.

    Args:
        framework: `grammy` or `telegraf`.
        storage: `none`, `memory`, `file`, `redis`, `postgres` or `mongodb`.
        place: the folder, or the server's URL.
        flight: updates at the same time.
        meter: reads what the storage counts.
    """
    details = {"framework": framework, "storage": storage, "place": place, "flight": flight, "chats": CHATS}
    process = await asyncio.create_subprocess_exec(
        *(program("node"), str(HERE / "bench.mjs"), json.dumps(details)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=_LONGEST_LINE,
    )
    assert process.stdin
    assert process.stdout
    orders, answers = process.stdin, process.stdout

    async def ask(**order: object) -> dict[str, Any]:
        orders.write(json.dumps(order).encode() + b"\n")
        await orders.drain()
        if not (line := await answers.readline()):
            raise ServerFailedError(f"{framework} on {storage} ended")
        return json.loads(line)

    async def run(updates: int) -> Done:
        answer = await ask(run=updates)
        return Done(answer["latencies"], answer["seconds"], answer["cpu"])

    async def counted() -> int:
        return (await ask(count=True))["count"]

    try:
        yield Running(run, counted, meter)
    finally:
        orders.close()
        try:
            await asyncio.wait_for(process.wait(), 10)
        except TimeoutError:
            process.kill()
            await process.wait()
