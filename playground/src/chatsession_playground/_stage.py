"""What both kinds of the demo need: the server, the bot's process, and its SQLite file."""

import asyncio
import tempfile
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from ._bot_process import BotProcess
from ._stored import StoredSessions
from .bot_api import BotApiServer

SECONDS_TO_START = 60


@dataclass(frozen=True, slots=True)
class Stage:
    """A bot's process, the server that it takes for Telegram, and where its sessions are stored."""

    api: BotApiServer
    bot: BotProcess
    stored: StoredSessions

    async def start(self) -> None:
        """Start the bot, for the first time or again, and wait until it calls the server.

        Raises:
            BotDiedError: it ended instead.
            TimeoutError: it did not call.
        """
        contact = asyncio.create_task(self.api.contact(timeout=SECONDS_TO_START))
        try:
            await self.bot.start()
            await self.bot.while_alive(contact)
        finally:
            contact.cancel()


@asynccontextmanager
async def stage(script: Path, on_output: Callable[[str], None] | None = None) -> AsyncGenerator[Stage]:
    """Make everything ready to run a bot's script in a folder that is gone afterwards.

    Args:
        script: the file.
        on_output: called with every line that the script prints or logs.
    """
    with tempfile.TemporaryDirectory(prefix="chatsession-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        async with (
            BotApiServer() as api,
            StoredSessions(folder) as stored,
            BotProcess(script, url=api.url, token=api.token, folder=folder, on_output=on_output) as bot,
        ):
            yield Stage(api, bot, stored)
