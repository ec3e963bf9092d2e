"""The demo without a terminal: three people order pizzas, the bot is killed twice, and every count is checked."""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from ._stage import Stage
from ._style import Style
from ._updates import JsonObject
from .chats import PrivateChat

PIZZA = "🍕"
SECONDS_TO_ANSWER = 60
SECONDS_TO_STORE = 10


class WrongCountError(AssertionError):
    """The bot did not count what was ordered."""


@dataclass(slots=True, eq=False)
class Guest:
    """Somebody who orders pizzas.

    Args:
        chat: the private chat with the bot.
        count: how many the bot must have counted.
    """

    chat: PrivateChat
    count: int = 0

    @property
    def name(self) -> str:
        return self.chat.user.name


class Conversation:
    """The scripted conversation with `examples/pizza_bot.py`.

    Args:
        on: the stage with the bot.
        style: for what is printed.
        say: prints a line.
    """

    def __init__(self, on: Stage, style: Style, say: Callable[[str], None] = print) -> None:
        self._stage = on
        self._style = style
        self._say = say
        people = [(1001, "Ann"), (1002, "Ben"), (1003, "Cem")]
        self._guests = [Guest(on.api.private_chat(user_id, name)) for user_id, name in people]

    async def play(self) -> None:
        """Play it.

        Raises:
            WrongCountError: a count is not exact.
            BotDiedError: the bot ended by itself.
            TimeoutError: the bot did not answer.
        """
        ann, ben, cem = self._guests
        await self._stage.start()
        self._title("1. Ann, Ben and Cem order, all at once")
        await self._order({ann: 3, ben: 2, cem: 4})

        self._title("2. kill -9 between two orders; started again, the bot counts on")
        await self._stage.bot.kill()
        await self._stage.start()
        await self._order({ann: 1, ben: 1, cem: 1})

        self._title("3. kill -9 while the bot answers: nothing is stored, and Telegram delivers these orders again")
        await self._kill_amid_orders()
        # Only Linux can tell for certain that the process which holds a lock is dead.
        patience = "" if sys.platform == "linux" else ", when the locks of the dead bot have run out (20 s)"
        self._say(self._style.faint(f"   started again, it counts on from what is stored{patience}"))
        await self._stage.start()
        await self._order(dict.fromkeys(self._guests, 1), delivered_again=self._unconfirmed_orders())

        self._title("4. Ann resets her session, the others keep theirs")
        await self._reset(ann)
        for guest in (ben, cem):
            await self._show(guest, "", "")

        verdict = "✓ All counts are exact: what a handler stored before it returned outlives every kill -9."
        self._say(f"\n{self._style.good(verdict)}")

    async def _order(self, pizzas: dict[Guest, int], delivered_again: list[int] | None = None) -> None:
        """Order concurrently, and check each number that is heard, and what is stored then."""
        for guest, number in pizzas.items():
            for _ in range(number):
                guest.chat.send(PIZZA)
        for guest, number in pizzas.items():
            for _ in range(number + (delivered_again or []).count(guest.chat.id)):
                guest.count += 1
                await self._hear(guest, _answer(guest.count))
            await self._show(guest, PIZZA * number, _answer(guest.count))

    async def _kill_amid_orders(self) -> None:
        with self._stage.api.hold("sendMessage"):
            for guest in self._guests:
                guest.chat.send(PIZZA)
            # The answers arrive, but the bot is kept from knowing it: each handler waits in its last line.
            for guest in self._guests:
                await self._hear(guest, _answer(guest.count + 1))
            await self._stage.bot.kill()
        for guest in self._guests:
            await self._show(guest, PIZZA, f"{_answer(guest.count + 1)[:-1]}… killed")

    def _unconfirmed_orders(self) -> list[int]:
        """Chats of orders that come again, since the killed bot had not told Telegram that they are done.

        `start_polling` of chatsession says so when they are. aiogram's own says so with its next `getUpdates`, mostly
        before its handlers are through; then the orders in their hands are gone, and the guests have to order again.
        """
        return [cast("int", cast("JsonObject", order.payload["chat"])["id"]) for order in self._stage.api.pending]

    async def _reset(self, guest: Guest) -> None:
        guest.chat.send("/reset")
        await self._hear(guest, "Forgotten.")
        guest.count = 0
        await self._show(guest, "/reset", "Forgotten.")

    async def _hear(self, guest: Guest, expected: str) -> None:
        heard = await self._stage.bot.while_alive(guest.chat.receive(timeout=SECONDS_TO_ANSWER))
        if heard.text != expected:
            raise WrongCountError(f"{guest.name} should hear “{expected}”, and hears “{heard.text}”.")

    async def _show(self, guest: Guest, sent: str, heard: str) -> None:
        """Print a line about a guest, once SQLite holds the right count."""
        stored = await self._stage.stored.until(
            guest.chat.id, lambda stored: _count(stored) == guest.count, timeout=SECONDS_TO_STORE
        )
        if _count(stored) != guest.count:
            raise WrongCountError(
                f"SQLite should hold a count of {guest.count} for {guest.name}, and holds {stored or 'nothing'}."
            )
        # A pizza takes two columns.
        sent += " " * (9 - len(sent) - sent.count(PIZZA))
        holds = self._style.data(stored or "nothing")
        self._say(f"   {self._style.bold(guest.name)}  {sent} {heard:36} {self._style.faint('SQLite:')} {holds}")

    def _title(self, text: str) -> None:
        self._say(f"\n{self._style.bold(text)}")


def _answer(count: int) -> str:
    return f"Pizza number {count} for this chat!"


def _count(stored: str | None) -> int:
    return 0 if stored is None else int(json.loads(stored)["count"])
