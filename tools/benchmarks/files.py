"""Files, each commit synced to disk (that of TMPDIR): sessions beside a file replaced by hand."""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from chatsession.storages.file import FileStorage
from tools.benchmarks._chats import IN_FLIGHT, counted_up, key_of, sessions_in, total
from tools.benchmarks._group import Group, no_slower, versions
from tools.benchmarks._measure import Contender, Running, in_flight
from tools.benchmarks._meters import file_meter

OURS, OURS_ALONE = "chatsession, 200 in flight", "chatsession, 1 in flight"
BY_HAND = "json + atomic replace, one after another"


@contextmanager
def group() -> Generator[Group]:
    yield Group(
        "Files, 300 bytes, 1,000 chats, file and folder synced, every commit awaited",
        [
            Contender(BY_HAND, by_hand, "floor", warm=200),
            Contender(OURS_ALONE, lambda: ours(1), "ours", warm=200),
            Contender(OURS, lambda: ours(IN_FLIGHT), "ours", warm=200),
        ],
        versions("msgspec"),
        [
            no_slower(OURS, BY_HAND, "each commit waits for the same disk, and sessions lock and check theirs"),
            no_slower(
                OURS_ALONE,
                BY_HAND,
                "by hand nothing is locked, no version is checked, and the event loop stands still while the disk "
                "works; sessions do that in a thread",
            ),
        ],
    )


@asynccontextmanager
async def ours(flight: int) -> AsyncGenerator[Running]:
    with _folder() as folder:
        async with sessions_in(FileStorage(folder), flight, file_meter) as running:
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

        async def handle(number: int) -> None:
            path = folder / f"{key_of(number)}.json"
            replace(path, counted_up(path.read_bytes() if path.exists() else None))

        async def counted() -> int:
            return total(path.read_bytes() for path in folder.glob("*.json"))

        yield Running(lambda updates: in_flight(1, updates, handle), counted, file_meter)
        os.close(root)


@contextmanager
def _folder() -> Generator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)
