"""The demo in a terminal: write to the bot as one or more users, and watch what it stores."""

import asyncio
import os
import sys
import threading
from contextlib import suppress
from typing import cast

from ._stage import Stage
from ._style import Style
from ._updates import JsonObject
from .chats import PrivateChat

HELP = """\
   🍕 or any text   goes to the bot, from the user in the prompt
   /as ben          you are Ben from now on: everybody has a chat, and a session, of their own
   /kill            kills the bot with SIGKILL and starts it again
   /help, /quit     (or Ctrl-D)"""

FIRST_USER_ID = 1001
SECONDS_TO_STORE = 0.5
CLEAR_LINE = "\r\x1b[2K"


class ChatRoom:
    """A conversation in the terminal.

    Args:
        on: the stage with the bot.
        style: for what is printed.
    """

    def __init__(self, on: Stage, style: Style) -> None:
        self._stage = on
        self._style = style
        self._lines: asyncio.Queue[str | None] = asyncio.Queue()
        self._chats: dict[int, PrivateChat] = {}
        self._stored: dict[int, str | None] = {}
        self._me = self._join("ann")
        self._open = True

    async def open(self) -> None:
        """Talk until the user leaves.

        Raises:
            BotDiedError: the bot ended by itself.
        """
        self._print(HELP)
        await self._stage.start()
        self._print(self._style.good(f"   The bot is up, as process {self._stage.bot.pid}. Order a pizza!"))
        listener = asyncio.create_task(self._listen())
        listener.add_done_callback(lambda _listener: self._lines.put_nowait(None))
        _feed(self._lines)
        try:
            while await self._stage.bot.while_alive(self._talk_until_kill()):
                await self._stage.bot.kill()
                self._print(self._style.bad("   killed with SIGKILL, starting again …"))
                await self._stage.start()
                self._print(self._style.good(f"   The bot is back, as process {self._stage.bot.pid}."))
        finally:
            self._open = False
            listener.cancel()
            await asyncio.wait([listener])
        if not listener.cancelled():
            listener.result()

    def kill(self) -> None:
        """Kill the bot and start it again, as if `/kill` was typed."""
        self._lines.put_nowait("/kill")

    def show_output(self, line: str) -> None:
        """Print a line that the bot's process printed or logged, unless it is its farewell."""
        if self._open:
            self._print(self._style.faint(f"   │ {line}"))

    async def _talk_until_kill(self) -> bool:
        """Do what the user types.

        Returns:
            Whether the bot is to be killed; if not, the user leaves.
        """
        self._prompt()
        while (line := await self._lines.get()) is not None:
            match line.split():
                case ["/quit"]:
                    return False
                case ["/kill"]:
                    return True
                case ["/help"]:
                    self._print(HELP)
                case ["/as", name]:
                    self._me = self._join(name)
                case ["/as", *_]:
                    self._print("   /as needs one name: /as ben")
                case []:
                    pass
                case _:
                    self._me.send(line)
            self._prompt()
        return False

    async def _listen(self) -> None:
        """Print what the bot sends, and what it stores after that."""
        while True:
            call = await self._stage.api.next_call("sendMessage", timeout=None)
            if call.error is not None:
                self._print(self._style.bad(f"   the bot could not send a message: {call.error}"))
                continue
            message = cast("JsonObject", call.result)
            chat = cast("JsonObject", message["chat"])
            chat_id, name = cast("int", chat["id"]), chat.get("first_name") or chat.get("title")
            self._print(f"   {self._style.bold(f'bot → {name}')}  {message['text']}")
            before = self._stored.get(chat_id)
            stored = await self._stage.stored.until(
                chat_id, lambda stored, before=before: stored != before, timeout=SECONDS_TO_STORE
            )
            self._stored[chat_id] = stored
            holds = self._style.data(stored or "nothing")
            self._print(f"   {self._style.faint(f'SQLite, key {chat_id}:')} {holds}")

    def _join(self, name: str) -> PrivateChat:
        for chat in self._chats.values():
            if chat.user.name.lower() == name.lower():
                return chat
        chat = self._stage.api.private_chat(FIRST_USER_ID + len(self._chats), name.capitalize())
        self._chats[chat.id] = chat
        return chat

    def _print(self, text: str) -> None:
        # The prompt waits in the last line: what happens meanwhile goes above it.
        sys.stdout.write(f"{CLEAR_LINE}{text}\n")
        self._prompt()

    def _prompt(self) -> None:
        sys.stdout.write(f"{CLEAR_LINE}{self._style.bold(self._me.user.name.lower() + '>')} ")
        sys.stdout.flush()


def _feed(lines: asyncio.Queue[str | None]) -> None:
    """Put what is typed into a queue, and `None` at its end."""
    loop = asyncio.get_running_loop()

    def read() -> None:
        # A thread of its own, since no event loop can wait for the keyboard on every system. It reads below
        # Python's buffers, whose locks would get in the way when the interpreter ends.
        with suppress(RuntimeError):  # the loop is gone: nobody listens any more
            while typed := os.read(0, 64 * 1024):
                for line in typed.decode(errors="replace").splitlines():
                    loop.call_soon_threadsafe(lines.put_nowait, line)
            loop.call_soon_threadsafe(lines.put_nowait, None)

    threading.Thread(target=read, daemon=True).start()
