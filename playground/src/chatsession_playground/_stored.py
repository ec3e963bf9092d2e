"""A look at what a bot's SQLite file holds, from outside of the bot."""

import asyncio
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from msgspec import UNSET

from chatsession.contents import view
from chatsession.maintenance import Scope, pages
from chatsession.storages import Storage, open_storage

SECONDS_BETWEEN_LOOKS = 0.02


@dataclass(frozen=True, slots=True)
class StoredSession:
    """One session, as it is stored.

    Args:
        text: its data, mostly JSON; `None` if only the memory of its updates is left.
        updates: ids of the updates that it remembers, if its sessions have `deduplicate`; without the bot's id.
    """

    text: str | None
    updates: frozenset[str] = frozenset()


class StoredSessions:
    """The sessions in the SQLite file of a folder. Used by `async with`.

    Args:
        folder: the working folder of the bot.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._storage: Storage | None = None

    @property
    def file(self) -> Path | None:
        """The SQLite file; `None` until the bot has made one."""
        return next(iter(sorted(self._folder.glob("*.db"))), None)

    @property
    def command(self) -> str:
        """The command that lists these sessions, to be typed into a shell; empty until there is a file."""
        if (file := self.file) is None:
            return ""
        return f"{_program()} ls {_url(file)}"

    async def all(self) -> dict[str, StoredSession]:
        """All sessions by their keys."""
        if self._storage is None:
            if (file := self.file) is None:
                return {}
            self._storage = open_storage(_url(file))
        await self._storage.open()  # every time: another look may be opening it just now
        return {
            key: _session(key, record.value)
            async for entries, _ in pages(self._storage, Scope())
            for key, record in entries
        }

    async def of(self, chat_id: int) -> str | None:
        """What is stored for a chat.

        Args:
            chat_id: of a chat whose session has the chat id as its key.

        Returns:
            The JSON of its data, without what is remembered beside it; `None` if there is none.
        """
        session = (await self.all()).get(str(chat_id))
        return None if session is None else session.text

    async def until(self, chat_id: int, satisfied: Callable[[str | None], bool], *, timeout: float) -> str | None:
        """Look until what is stored satisfies, or the time is over.

        A bot answers from inside its handler and stores when the handler returns: what it wrote to the chat is a
        moment ahead of the file, and a file that another process writes can only be looked at again and again.

        Args:
            chat_id: as for `of`.
            satisfied: whether what is stored will do.
            timeout: seconds.

        Returns:
            What is stored at the last look, which may not satisfy.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + timeout
        # There is no event to wait for: the one who would set it is another process.
        while not satisfied(stored := await self.of(chat_id)) and loop.time() < end:  # noqa: ASYNC110
            await asyncio.sleep(SECONDS_BETWEEN_LOOKS)
        return stored

    async def __aenter__(self) -> "StoredSessions":
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._storage is not None:
            await self._storage.close()


def _program() -> str:
    if shutil.which("chatsession"):
        return "chatsession"
    python, here = Path(sys.executable), Path.cwd()
    return f"{python.relative_to(here) if python.is_relative_to(here) else python} -m chatsession"


def _url(file: Path) -> str:
    return f"sqlite:///{file.as_posix()}"


def _session(key: str, stored: bytes) -> StoredSession:
    seen = view(key, stored, None)
    updates = UNSET if seen.envelope is None else seen.envelope.updates
    remembered = [] if updates is UNSET else [str(update).rpartition(":")[2] for update in updates]
    text = seen.problem if seen.data is None or seen.kind == "hex" else seen.data.decode()
    return StoredSession(text or None, frozenset(remembered))
