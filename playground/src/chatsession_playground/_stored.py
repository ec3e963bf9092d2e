"""A look at what a bot's SQLite file holds, from outside of the bot."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from chatsession.errors import SessionError
from chatsession.serialization.envelope import unwrap
from chatsession.storages import Storage, open_storage

SECONDS_BETWEEN_LOOKS = 0.02


class StoredSessions:
    """The sessions in the SQLite file of a folder. Used by `async with`.

    Args:
        folder: the working folder of the bot.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._storage: Storage | None = None

    async def of(self, chat_id: int) -> str | None:
        """What is stored for a chat.

        Args:
            chat_id: of a chat whose session has the chat id as its key.

        Returns:
            The JSON of its data, without what is remembered beside it; `None` if there is none.
        """
        if self._storage is None:
            file = next(iter(sorted(self._folder.glob("*.db"))), None)
            if file is None:
                return None
            self._storage = open_storage(f"sqlite:///{file}")
            await self._storage.open()
        (record,) = await self._storage.read_many([str(chat_id)])
        if isinstance(record, SessionError):
            raise record
        if record is None:
            return None
        found = unwrap(record.value, json=True)
        data = record.value if found is None else found[1]
        return None if data is None else data.decode()

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

    async def __aexit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        if self._storage is not None:
            await self._storage.close()
