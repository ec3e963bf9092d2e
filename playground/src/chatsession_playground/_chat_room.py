"""The playground in a terminal: write to the bot as one or more users, and watch what it stores."""

import sys

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import WordCompleter
from prompt_toolkit.formatted_text import ANSI
from prompt_toolkit.patch_stdout import patch_stdout

from ._playground import Playground
from ._room import Line, Room
from ._style import Style

HELP = """\
   🍕 or any text   goes to the bot, from the user in the prompt
   /press 2         presses the second button under the bot's last message with buttons
   /as ben          you are Ben from now on: everybody has a chat, and a session, of their own
   /kill            kills the bot and starts it again
   /rush            orders five pizzas, and kills the bot while it handles the first one
   /again           delivers the last update once more
   /help, /quit     (or Ctrl-D)"""
COMMANDS = ["/press", "/as", "/kill", "/rush", "/again", "/help", "/quit"]


class ChatRoom:
    """A conversation in the terminal, of which the page shows the same.

    Args:
        playground: the bot, and the chats with it.
        style: for what is printed.
    """

    def __init__(self, playground: Playground, style: Style) -> None:
        self._playground = playground
        self._style = style
        self._me = playground.rooms.all[0]
        self._is_typed = False
        self._is_open = True
        self._told_where = False

    async def talk(self) -> None:
        """Do what the user types, until they leave."""
        session = PromptSession[str](completer=WordCompleter(COMMANDS, sentence=True), complete_while_typing=False)
        self._playground.rooms.views.append(self)
        print(HELP, flush=True)
        await self._playground.rooms.until(lambda: self._playground.is_running, timeout=float("inf"))
        with patch_stdout(raw=True):
            self._print(self._style.good(f"   The bot is {self._playground.status}. Order a pizza!"))
            while True:
                try:
                    line = await session.prompt_async(self._prompt)
                except (EOFError, KeyboardInterrupt):
                    break
                if line.split() == ["/quit"]:
                    break
                self.do(line)
            self._is_open = False

    def said(self, room: Room | None, line: Line) -> None:
        """Print what was said, unless it was typed here."""
        if line.kind == "note":
            where = f"{room.name}: " if room is not None and room is not self._me else ""
            self._print(self._style.note(f"   {where}{line.text}"))
        elif not self._is_typed and room is not None:
            way = f"{line.who} → {room.name if line.kind == 'bot' else _to(room)}"
            self._print(f"   {self._style.bold(way)}  {line.text}")
            if line.buttons:
                buttons = "  ".join(f"[{number}] {button.text}" for number, button in enumerate(line.buttons, 1))
                self._print(f"   {self._style.faint(f'/press  {buttons}')}")

    def stored(self, key: str, text: str | None) -> None:
        """Print what the bot has stored, and the first time where."""
        if not self._told_where:
            self._told_where = True
            self._print(self._style.note(f"   Look into its file from another terminal: {self._playground.command}"))
        self._print(f"   {self._style.faint(f'SQLite, key {key}:')} {self._style.data(text or 'nothing')}")

    def show_output(self, line: str) -> None:
        """Print a line that the bot's process printed or logged, unless the conversation has ended."""
        self._print(self._style.faint(f"   │ {line}"))

    def do(self, line: str) -> None:
        """Do what a line of the user asks for."""
        self._is_typed = True
        self._do(line)
        self._is_typed = False

    def _do(self, line: str) -> None:
        match line.split():
            case ["/kill"]:
                self._playground.kill()
            case ["/rush"]:
                self._playground.rush(self._me)
            case ["/again"]:
                self._playground.deliver_again()
            case ["/help"]:
                self._print(HELP)
            case ["/press", *words]:
                self._press(words)
            case ["/as", *names] if names:
                self._me = self._playground.rooms.join(" ".join(names))
            case ["/as"]:
                self._print("   /as needs a name: /as ben")
            case []:
                pass
            case _:
                self._playground.rooms.say(self._me, line)

    def _press(self, words: list[str]) -> None:
        match words, self._me.last_buttons:
            case [str(number)], Line() as line if number.isdecimal() and 0 < int(number) <= len(line.buttons):
                self._playground.rooms.press(self._me, line, line.buttons[int(number) - 1])
            case _, None:
                self._print("   The bot has sent no buttons here.")
            case _, line:
                self._print(f"   /press needs a number from 1 to {len(line.buttons)}.")

    def _print(self, text: str) -> None:
        # The prompt waits in the last line: what is printed meanwhile goes above it.
        if self._is_open:
            sys.stdout.write(f"{text}\n")

    def _prompt(self) -> ANSI:
        return ANSI(self._style.bold(f"{self._me.name}> "))


def _to(room: Room) -> str:
    return "bot" if len(room.people) == 1 else room.name
