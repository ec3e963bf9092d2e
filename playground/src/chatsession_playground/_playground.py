"""Keeps a bot running, kills it on request, and tells in its chats what that did."""

import asyncio
from collections.abc import Coroutine

from ._queue import Update
from ._room import Room
from ._rooms import Rooms
from ._stage import Stage

PIZZA = "🍕"
ORDERS_IN_A_RUSH = 5
SECONDS_TO_ANSWER = 5.0
SECONDS_TO_CONFIRM = 30.0


class Playground:
    """A bot's process and the chats with it.

    Args:
        on: the stage with the bot.
    """

    def __init__(self, on: Stage) -> None:
        self._stage = on
        self._wanted: asyncio.Queue[Room | None] = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()
        self.rooms = Rooms(on)
        self.status = "starting"

    @property
    def is_running(self) -> bool:
        """Whether the bot is up."""
        return self.status.startswith("running")

    @property
    def command(self) -> str:
        """The command that lists what the bot has stored, to be typed into a shell."""
        return self._stage.stored.command

    async def run(self) -> None:
        """Run the bot, and start it again when it was killed.

        Raises:
            BotDiedError: it ended by itself.
            TimeoutError: it did not call the server.
        """
        await self._start_bot()
        work = [asyncio.create_task(step) for step in (self._obey(), self.rooms.listen(), self.rooms.watch())]
        self._tasks.update(work)
        try:
            done, _ = await asyncio.wait(work, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def kill(self) -> None:
        """Kill the bot at once, and start it again."""
        if self.is_running:
            self._wanted.put_nowait(None)

    def rush(self, room: Room) -> None:
        """Order several pizzas, kill the bot while it handles the first order, and start it again."""
        if self.is_running:
            self._wanted.put_nowait(room)

    def deliver_again(self) -> None:
        """Deliver the last update once more, and tell what the bot made of it."""
        if self.rooms.last is not None:
            self._in_background(self._deliver_again(*self.rooms.last))

    async def _obey(self) -> None:
        """Kill the bot as often as it is asked for."""
        while True:
            room = await self._stage.bot.while_alive(self._wanted.get())
            await (self._restart() if room is None else self._restart_amid_orders(room))

    async def _start_bot(self) -> None:
        await self._stage.start()
        self._set_status(f"running, process {self._stage.bot.pid}")

    async def _restart(self) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        self._set_status("killed, starting again")
        await self._stage.bot.kill()
        await self.rooms.look()
        left = {room: self._unconfirmed(room) for room in self.rooms.all}
        await self._start_bot()
        self.rooms.note(f"Killed; back as process {self._stage.bot.pid} after {loop.time() - began:.1f}\u00a0s.")
        for room, updates in left.items():
            if updates:
                self._in_background(self._report_deliveries(room, updates))

    async def _restart_amid_orders(self, room: Room) -> None:
        answers = room.count("bot")
        # The answer arrives, but the bot is kept from knowing it: its handler waits in the middle.
        with self._stage.api.hold("sendMessage"):
            orders = [self.rooms.say(room, PIZZA) for _ in range(ORDERS_IN_A_RUSH)]
            await self.rooms.until(lambda: room.count("bot") > answers, timeout=SECONDS_TO_ANSWER)
            await self.rooms.look()
            lost = sum(not self.rooms.is_waiting(order) for order in orders)  # none of them is handled yet
            await self._restart()
        if lost:
            self.rooms.note(
                f"{_messages(lost)} confirmed before they were handled, and lost: this bot does not use chatsession's "
                "polling, which confirms what is done.",
                room,
            )

    def _unconfirmed(self, room: Room) -> list[Update]:
        """What is delivered again to the next process."""
        updates = (line.update for line in room.lines)
        return [update for update in updates if update is not None and self.rooms.is_waiting(update)]

    async def _report_deliveries(self, room: Room, updates: list[Update]) -> None:
        """Tell what became of the updates that the killed process had not confirmed."""
        stored = sum(self.rooms.is_remembered(room, update) for update in updates)
        if not await self._confirmed(updates):
            return
        outcomes = [f"{stored} recognised, not counted again"] if stored else []
        if stored < len(updates):
            outcomes.append(f"{len(updates) - stored} handled now")
        self.rooms.note(f"{_messages(len(updates))} delivered after the kill: {', '.join(outcomes)}.", room)

    async def _deliver_again(self, room: Room, update: Update) -> None:
        await self._confirmed([update])
        await self.rooms.look()
        is_remembered, before = self.rooms.is_remembered(room, update), room.stored
        self.rooms.redeliver(update)
        if not await self._confirmed([update]):
            return
        await self.rooms.look()
        recognised = is_remembered and room.stored == before
        outcome = "recognised, not counted" if recognised else "handled again, since its session does not remember it"
        self.rooms.note(f"Update {update.id} was delivered again: {outcome}.", room)

    async def _confirmed(self, updates: list[Update]) -> bool:
        """Wait until the bot has confirmed these updates; gives whether it did."""
        return await self.rooms.until(lambda: not any(map(self.rooms.is_waiting, updates)), timeout=SECONDS_TO_CONFIRM)

    def _set_status(self, status: str) -> None:
        self.status = status
        self.rooms.note_change()

    def _in_background(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _messages(number: int) -> str:
    return "1 message" if number == 1 else f"{number} messages"
