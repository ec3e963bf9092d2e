"""Keep what the present version stores, for all later versions to read: `python tests/upgrades/make_upgrades.py 0.1`.

To be done once for each version, just before its release; what was kept is never made anew.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from upgrade_keeping import all_keepers
from upgrade_kinds import KINDS, store

from chatsession import open_storage

DATA = Path(__file__).parent / "data"


async def make(version: str) -> None:
    """Write the files of a version."""
    folder = DATA / version
    folder.mkdir(parents=True)  # raises if it is there
    with all_keepers() as keepers:
        for keeper in keepers:
            async with open_storage(keeper.url) as storage:
                for name in KINDS:
                    await store(storage, name)
            await keeper.keep(folder / keeper.file)


if __name__ == "__main__":
    asyncio.run(make(sys.argv[1]))
