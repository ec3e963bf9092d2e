"""Files, each commit synced to disk (that of TMPDIR): sessions beside a file replaced by hand."""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from benchmarks._chats import IN_FLIGHT, counted_up, key_of, sessions_in, total
from benchmarks._group import Group, versions
from benchmarks._measure import Contender, Running
from chatsession.storages.file import FileStorage


@contextmanager
def group() -> Iterator[Group]:
    yield Group(
        "Files, 300 bytes, 1,000 chats, file and folder synced, every commit awaited",
        [
            Contender("json + atomic replace, one after another", 1_000, by_hand),
            Contender("chatsession, 1 in flight", 500, lambda: ours(1)),
            Contender("chatsession, 200 in flight", 1_000, lambda: ours(IN_FLIGHT)),
        ],
        versions("msgspec"),
    )


@asynccontextmanager
async def ours(flight: int) -> AsyncGenerator[Running]:
    with _folder() as folder:
        async with sessions_in(FileStorage(folder), flight) as running:
            yield running


@asynccontextmanager
async def by_hand() -> AsyncGenerator[Running]:
    """What one would write by hand: the new file synced, moved over the old one, the folder synced; no locks."""
    with _folder() as folder:
        root = os.open(folder, os.O_RDONLY)

        def replace(path: Path, value: bytes) -> None:
            fresh = path.with_suffix(".new")
            with fresh.open("wb") as file:
                file.write(value)
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(path)
            os.fsync(root)

        async def run(updates: int) -> None:
            for number in range(updates):
                path = folder / f"{key_of(number)}.json"
                replace(path, counted_up(path.read_bytes() if path.exists() else None))

        async def counted() -> int:
            return total(path.read_bytes() for path in folder.glob("*.json"))

        yield Running(run, counted)
        os.close(root)


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)
