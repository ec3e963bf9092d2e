"""The chats with one bot, and what it stores for them; the terminal and the page show, and write into, the same."""

import asyncio
import re
from collections.abc import Callable
from typing import Protocol, cast

from ._account import Call
from ._queue import Update
from ._room import Button, Line, Room
from ._stage import Stage
from ._stored import StoredSession
from ._updates import JsonObject, User
from .chats import Group

PEOPLE = (User(1001, "Ann"), User(1002, "Ben"), User(1003, "Cem"))
SECONDS_BETWEEN_LOOKS = 0.1


class View(Protocol):
    """Is called when something happens."""

    def said(self, room: Room | None, line: Line) -> None:
        """Something was said in a room; or it is a note that concerns all rooms."""
        ...

    def stored(self, key: str, text: str | None) -> None:
        """The bot has stored a session, or deleted it."""
        ...


class Rooms:
    """The chats with the bot.

    Args:
        on: the stage with the bot.
    """

    def __init__(self, on: Stage) -> None:
        self._stage = on
        self._group: Group = on.api.group(title="Pizza lovers", user=PEOPLE[0])
        self._people = list(PEOPLE)
        self._stored: dict[str, StoredSession] = {}
        self._waiting: set[int] = set()
        self._pressed: dict[str, Room] = {}
        """Where the button of each callback query is."""
        self._changed = asyncio.Event()
        self.views: list[View] = []
        self.last: tuple[Room, Update] | None = None
        """What somebody wrote last."""
        self.all = [
            *map(self._private_room, PEOPLE),
            Room("Pizza lovers", self._group, PEOPLE[:2], [self._group.id]),
        ]

    @property
    def group(self) -> Room | None:
        """The group, unless it has become a supergroup."""
        return next((room for room in self.all if room.chat is self._group), None)

    def is_waiting(self, update: Update | None) -> bool:
        """Whether the bot has yet to confirm this update."""
        return update is not None and update.id in self._waiting

    def is_remembered(self, room: Room, update: Update) -> bool:
        """Whether a session of a room remembers this update."""
        return any(str(update.id) in self._stored[key].updates for key in self._keys_of(room))

    def join(self, name: str) -> Room:
        """The private chat of a person, who is new unless somebody has that name."""
        for room in self.all:
            if len(room.people) == 1 and room.name.casefold() == name.casefold():
                return room
        user = User(self._people[-1].id + 1, name[0].upper() + name[1:])
        self._people.append(user)
        room = self._private_room(user)
        self.all.insert(len(self.all) - 1, room)
        self.note_change()
        return room

    def say(self, room: Room, text: str, who: str = "") -> Update:
        """Write to the bot.

        Args:
            room: where.
            text: what.
            who: the name of somebody in the room; by default the first one.

        Returns:
            The update that brings it to the bot.
        """
        user = _person(room, who)
        return self._did(room, user, text, room.chat.send(text, user=user))

    def press(self, room: Room, line: Line, button: Button, who: str = "") -> Update:
        """Press a button under a line of the bot; arguments and result otherwise as of `say`."""
        user = _person(room, who)
        update = room.chat.press(button.data, message=line.message_id, user=user)
        self._pressed[str(update.payload["id"])] = room
        return self._did(room, user, f"[{button.text}]", update)

    def redeliver(self, update: Update) -> None:
        """Deliver an update once more, as Telegram does when it is not sure that the bot has it."""
        self._stage.api.redeliver(update)
        self._waiting.add(update.id)
        self.note_change()

    def upgrade(self) -> None:
        """Turn the group into a supergroup, unless it is one."""
        room = self.group
        if room is not None:
            old = room.chat.id
            room.chat = self._group.migrate()
            room.ids = [*room.ids, room.chat.id]
            room.forget_messages()
            self._add(room, Line("note", "", f"The group is a supergroup now: chat {old} has become {room.chat.id}."))

    def note(self, text: str, room: Room | None = None) -> None:
        """Tell something in a room, or in all of them."""
        note = Line("note", "", text)
        for concerned in self.all if room is None else [room]:
            concerned.add(note)
        self._tell(room, note)

    def note_change(self) -> None:
        """Wake everything that waits in `changed`."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def changed(self) -> None:
        """Wait until there is something new to see."""
        await self._changed.wait()

    async def until(self, holds: Callable[[], bool], *, timeout: float) -> bool:
        """Wait until something holds that changes what is to be seen.

        Args:
            holds: tells whether it does.
            timeout: seconds.

        Returns:
            Whether it holds at the end.
        """
        try:
            async with asyncio.timeout(timeout):
                while not holds():
                    await self.changed()
        except TimeoutError:
            return False
        return True

    async def listen(self) -> None:
        """Show what the bot says, until cancelled."""
        while True:
            call = await self._stage.api.next_call(timeout=None)
            if call.method == "answerCallbackQuery":
                room, text = self._pressed.pop(str(call.params.get("callback_query_id")), None), call.params.get("text")
                if room is not None and text:
                    self.note(f"The bot shows: {text}", room)
            elif room := self._room_of_chat(call.params.get("chat_id")):
                self._show_message(room, call)

    def _show_message(self, room: Room, call: Call) -> None:
        match call:
            case Call("sendMessage", error=None):
                self._add(room, _line("bot", call.result))
            case Call("sendMessage"):
                self._add(room, Line("bot", "bot", f"(not sent: {call.error})"))
            case Call("editMessageText" | "editMessageReplyMarkup", error=None):
                edited = _line("bot, edited", call.result)
                room.edit(edited)
                self._tell(room, edited)
            case Call("deleteMessage", error=None):
                room.delete(cast("int", call.params["message_id"]))
                self.note_change()
            case _:
                pass

    async def watch(self) -> None:
        """Show what the bot has stored and confirmed, until cancelled."""
        while True:
            await self.look()
            # There is no event to wait for: who stores the sessions is another process.
            await asyncio.sleep(SECONDS_BETWEEN_LOOKS)

    async def look(self) -> None:
        """Show what the bot has stored and confirmed by now."""
        stored = await self._stage.stored.all()
        waiting = {update.id for update in self._stage.api.pending}
        if stored == self._stored and waiting == self._waiting:
            return
        before, self._stored, self._waiting = self._stored, stored, waiting
        for room in self.all:
            texts = {key: stored[key].text for key in self._keys_of(room)}
            room.stored = {key: text for key, text in texts.items() if text is not None}
        for key in sorted(before.keys() | stored.keys()):
            if (text := _text(stored.get(key))) != _text(before.get(key)):
                for view in self.views:
                    view.stored(key, text)
        self.note_change()

    def _room_of_chat(self, chat_id: object) -> Room | None:
        return next((room for room in self.all if chat_id in room.ids), None)

    def _keys_of(self, room: Room) -> list[str]:
        return [key for key in self._stored if self._room_of_key(key) is room]

    def _room_of_key(self, key: str) -> Room | None:
        """The room whose id is in a key. Where a user's id stands beside that of a group, it is the group."""
        numbers = {int(number) for number in re.findall(r"-?\d+", key)}
        rooms = [room for room in self.all if numbers.intersection(room.ids)]
        return min(rooms, key=lambda room: room.chat.id, default=None)

    def _private_room(self, user: User) -> Room:
        return Room(user.name, self._stage.api.private_chat(user.id, user.name), [user], [user.id])

    def _did(self, room: Room, user: User, text: str, update: Update) -> Update:
        self.last = room, update
        self._waiting.add(update.id)
        self._add(room, Line("own", user.name, text, update))
        return update

    def _add(self, room: Room, line: Line) -> None:
        room.add(line)
        self._tell(room, line)

    def _tell(self, room: Room | None, line: Line) -> None:
        for view in self.views:
            view.said(room, line)
        self.note_change()


def _person(room: Room, name: str) -> User:
    return next((user for user in room.people if user.name == name), room.people[0])


def _line(who: str, message: object) -> Line:
    sent = cast("JsonObject", message)
    markup = cast("dict[str, list[list[dict[str, str]]]]", sent.get("reply_markup", {}))
    buttons = [button for row in markup.get("inline_keyboard", []) for button in row if "callback_data" in button]
    return Line(
        "bot",
        who,
        str(sent["text"]),
        message_id=cast("int", sent["message_id"]),
        buttons=tuple(Button(button["text"], button["callback_data"]) for button in buttons),
    )


def _text(session: StoredSession | None) -> str | None:
    return None if session is None else session.text
