"""What is Telethon's own: events and their keys, handlers of one update, removal, disconnecting, the login."""

from __future__ import annotations

import asyncio
import runpy
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any

import pytest
from aiogram_aids import CountingStorage, Pizza
from telethon import TelegramClient, events
from telethon.client.updates import UpdateMethods
from telethon.tl import types
from telethon_aids import Offline, inline_query, new_message, peer, service, written

from chatsession import SessionError, SessionManager, per_chat, per_topic, per_user, per_user_in_chat
from chatsession.errors import SessionNameError
from chatsession.integrations.telethon import SessionContext, setup_sessions

EXAMPLE = Path(__file__).parents[2] / "examples" / "pizza_bot_telethon.py"
GROUP = -100
SUPERGROUP = -1000000000300
IN_TOPIC = types.MessageReplyHeader(forum_topic=True, reply_to_msg_id=9, reply_to_top_id=5)
ROOT_OF_TOPIC = types.MessageReplyHeader(forum_topic=True, reply_to_msg_id=5)


class BurntError(Exception):
    """What a handler of these tests raises."""


@pytest.fixture
def errors() -> list[BaseException]:
    return []


@pytest.fixture
async def offline(sessions: SessionManager[Pizza], errors: list[BaseException]) -> Offline:
    offline = Offline(errors)
    await offline.start()
    setup_sessions(offline.client, sessions)
    return offline


def voted(voter: Any) -> Any:
    positions = {"positions": [0]} if "positions" in signature(types.UpdateMessagePollVote).parameters else {}
    return types.UpdateMessagePollVote(1, voter, [b"0"], qts=1, **positions)  # Telethon 1.40 knows none


def boosted(**more: bool) -> Any:
    return types.UpdateBotChatBoost(peer(SUPERGROUP), types.Boost("b", None, None, user_id=7, **more), 1)


# What comes in, and its keys per_chat, per_user, per_user_in_chat and per_topic, as in the Bot API.
UPDATES: dict[str, tuple[Any, str | None, str | None, str | None, str | None]] = {
    "private": (new_message(written()), "7", "7", "7:7", "7"),
    "group": (new_message(written(chat_id=GROUP)), "-100", "7", "-100:7", "-100"),
    "supergroup": (
        new_message(written(chat_id=SUPERGROUP)),
        *(str(SUPERGROUP), "7", f"{SUPERGROUP}:7", str(SUPERGROUP)),
    ),
    "topic": (
        new_message(written(chat_id=SUPERGROUP, reply_to=IN_TOPIC)),
        *(str(SUPERGROUP), "7", f"{SUPERGROUP}:7", f"{SUPERGROUP}:5"),
    ),
    "first of a topic": (
        new_message(written(chat_id=SUPERGROUP, reply_to=ROOT_OF_TOPIC)),
        *(str(SUPERGROUP), "7", f"{SUPERGROUP}:7", f"{SUPERGROUP}:5"),
    ),
    "channel": (
        new_message(written(chat_id=SUPERGROUP, user_id=None, post=True)),
        *(str(SUPERGROUP), None, None, str(SUPERGROUP)),
    ),
    "anonymous admin": (
        new_message(written(chat_id=SUPERGROUP, user_id=None)),
        *(str(SUPERGROUP), str(SUPERGROUP), f"{SUPERGROUP}:{SUPERGROUP}", str(SUPERGROUP)),
    ),
    "channel as a member of a group": (
        new_message(types.Message(1, peer(SUPERGROUP), from_id=types.PeerChannel(200), message="as a channel")),
        *(str(SUPERGROUP), "-1000000000200", f"{SUPERGROUP}:-1000000000200", str(SUPERGROUP)),
    ),
    "edited": (types.UpdateEditMessage(written(chat_id=GROUP), 1, 1), "-100", "7", "-100:7", "-100"),
    "inline query": (inline_query(), None, "7", None, None),
    "button": (
        types.UpdateBotCallbackQuery(1, 7, peer(GROUP), 3, 1, data=b"x"),
        *("-100", "7", "-100:7", "-100"),
    ),
    "inline button": (
        types.UpdateInlineBotCallbackQuery(1, 7, types.InputBotInlineMessageID(2, 3, 4), 1, data=b"x"),
        *(None, "7", None, None),
    ),
    "action": (
        new_message(service(types.MessageActionChatEditTitle("New"), chat_id=GROUP)),
        *("-100", "7", "-100:7", "-100"),
    ),
    "business": (
        types.UpdateBotNewBusinessMessage("shop", written(chat_id=9), 1),
        *("shop:9", "9", "shop:9:9", "shop:9"),
    ),
    "reaction": (
        types.UpdateBotMessageReaction(peer(GROUP), 3, None, types.PeerUser(7), [], [], 1),
        *("-100", "7", "-100:7", "-100"),
    ),
    "stopped": (types.UpdateBotStopped(7, None, True, 1), "7", "7", "7:7", "7"),
    "button in a business's chat": (  # below a message of the business, which another user presses
        types.UpdateBusinessBotCallbackQuery(1, 7, "shop", written(chat_id=9), 1, data=b"x"),
        *("shop:9", "7", "shop:9:7", "shop:9"),
    ),
    "business connection": (
        types.UpdateBotBusinessConnect(types.BotBusinessConnection("shop", 7, 1, None), 1),
        *(None, "7", None, None),
    ),
    "direct message to a channel": (
        new_message(written(chat_id=SUPERGROUP, saved_peer_id=peer(7))),
        *(str(SUPERGROUP), "7", f"{SUPERGROUP}:7", f"{SUPERGROUP}:7"),
    ),
    "member": (
        types.UpdateChannelParticipant(300, None, 7, 9, 1),
        *(str(SUPERGROUP), "7", f"{SUPERGROUP}:7", str(SUPERGROUP)),
    ),
    "boost": (boosted(), str(SUPERGROUP), "7", f"{SUPERGROUP}:7", str(SUPERGROUP)),
    "boost as a gift": (boosted(gift=True), str(SUPERGROUP), None, None, str(SUPERGROUP)),
    "answer to a poll": (
        voted(peer(7)),
        *(None, "7", None, None),
    ),
    "answer of a channel to a poll": (
        voted(types.PeerChannel(300)),
        *(str(SUPERGROUP), None, None, str(SUPERGROUP)),
    ),
    "typing in private": (types.UpdateUserTyping(7, types.SendMessageTypingAction()), "7", "7", "7:7", "7"),
    "typing in a topic": (
        types.UpdateChannelUserTyping(300, peer(7), types.SendMessageTypingAction(), top_msg_id=5),
        *(str(SUPERGROUP), "7", f"{SUPERGROUP}:7", f"{SUPERGROUP}:5"),
    ),
    "message in short": (types.UpdateShortMessage(1, 7, "🍕", 1, 1, None), "7", "7", "7:7", "7"),
    "message in short in a group": (
        types.UpdateShortChatMessage(1, 7, 100, "🍕", 1, 1, None),
        *("-100", "7", "-100:7", "-100"),
    ),
    "own message": (new_message(written(chat_id=9, out=True)), "9", "42", "9:42", "9"),
    "settings of all chats": (
        types.UpdateNotifySettings(types.NotifyUsers(), types.PeerNotifySettings()),
        *(None, None, None, None),
    ),
    "settings of a chat": (
        types.UpdateNotifySettings(types.NotifyPeer(peer(GROUP)), types.PeerNotifySettings()),
        *("-100", None, None, "-100"),
    ),
}
EVENTS = {
    "edited": events.MessageEdited,
    "inline query": events.InlineQuery,
    "button": events.CallbackQuery,
    "inline button": events.CallbackQuery,
    "action": events.ChatAction,
    "typing in private": events.UserUpdate,
    "typing in a topic": events.UserUpdate,
}
_NEW = (types.UpdateNewMessage, types.UpdateNewChannelMessage, types.UpdateShortMessage, types.UpdateShortChatMessage)


@pytest.mark.parametrize("as_raw", [False, True])
@pytest.mark.parametrize("kind", UPDATES)
async def test_the_key_of(kind: str, as_raw: bool, errors: list[BaseException]) -> None:
    update, *expected = UPDATES[kind]
    event = EVENTS.get(kind, events.NewMessage if isinstance(update, _NEW) else events.Raw)
    for key_function, key in zip((per_chat, per_user, per_user_in_chat, per_topic), expected, strict=True):
        offline, sessions = Offline(errors), SessionManager(int, storage="memory:", get_session_key=key_function)
        await offline.start()
        setup_sessions(offline.client, sessions)

        @offline.client.on(events.Raw if as_raw else event)
        async def on_anything(event: Any, ctx: SessionContext[int]) -> None:
            ctx.session += 1

        await offline.feed(update)
        assert len(errors) == (key is None)
        errors.clear()
        assert [stored async for stored, _ in sessions.entries()] == ([] if key is None else [key])
        await offline.stop()


async def test_each_handler_is_a_unit_of_work(
    offline: Offline, sessions: SessionManager[Pizza], errors: list[BaseException], storage: CountingStorage
) -> None:
    @offline.client.on(events.NewMessage)
    async def bad(event: Any, session: Pizza) -> None:
        session.count += 10
        raise BurntError

    @offline.client.on(events.NewMessage)
    async def good(event: Any, session: Pizza, ctx: SessionContext[Pizza]) -> None:
        assert ctx.session is session
        session.count += 1
        raise events.StopPropagation

    @offline.client.on(events.NewMessage)
    async def never(event: Any, session: Pizza) -> None:
        session.count += 100

    await offline.feed(new_message(written()))
    assert [type(error) for error in errors] == [BurntError]
    assert await sessions.get(7) == Pizza(1)


async def test_a_handler_whose_event_is_called_ctx_costs_nothing(offline: Offline, storage: CountingStorage) -> None:
    seen: list[str] = []

    @offline.client.on(events.NewMessage)
    async def on_any(ctx: Any) -> None:
        seen.append(ctx.text)

    await offline.feed(new_message(written()))
    assert seen == ["🍕"]
    assert storage.calls == {}


async def test_handlers_registered_without_a_client_and_handlers_that_are_removed(
    offline: Offline, sessions: SessionManager[Pizza]
) -> None:
    @events.register(events.NewMessage)
    async def on_any(event: Any, session: Pizza) -> None:
        session.count += 1

    offline.client.add_event_handler(on_any)
    await offline.feed(new_message(written()))
    assert await sessions.get(7) == Pizza(1)
    assert on_any in [callback for callback, _ in offline.client.list_event_handlers()]
    assert offline.client.remove_event_handler(on_any) == 1
    await offline.feed(new_message(written()))
    assert await sessions.get(7) == Pizza(1)


async def test_a_second_manager_that_is_set_up_after_the_handlers(
    offline: Offline, sessions: SessionManager[Pizza], storage: CountingStorage, errors: list[BaseException]
) -> None:
    @offline.client.on(events.NewMessage)
    async def on_any(event: Any, session: Pizza, cart: list[str]) -> None:
        session.count += 1
        cart.append(event.text)

    carts = SessionManager(list[str], storage=storage, name="cart", prefix="cart:")
    setup_sessions(offline.client, carts)
    await offline.feed(new_message(written()))
    assert errors == []
    assert (await sessions.get(7), await carts.get(7)) == (Pizza(1), ["🍕"])


async def test_who_disconnects_within_a_handler_does_not_wait_for_himself(
    offline: Offline, sessions: SessionManager[Pizza]
) -> None:
    @offline.client.on(events.NewMessage)
    async def on_any(event: Any, session: Pizza) -> None:
        session.count += 1
        await offline.client.disconnect()

    async with asyncio.timeout(120):
        task = offline.begin(new_message(written()))
        with pytest.raises(asyncio.CancelledError):
            await task
    async with sessions:
        assert await sessions.get(7) is None


async def test_the_file_of_the_login_is_refused_as_a_storage(tmp_path: Path) -> None:
    client = TelegramClient(str(tmp_path / "bot"), 1, "hash")
    client.session.save()
    client.session.close()
    before = (tmp_path / "bot.session").read_bytes()
    with pytest.raises(SessionError, match=r"bot\.session"):
        await SessionManager(Pizza, storage=f"sqlite:///{tmp_path}/bot.session").start()
    assert (tmp_path / "bot.session").read_bytes() == before


async def test_what_is_refused_at_set_up(monkeypatch: pytest.MonkeyPatch) -> None:
    sessions = SessionManager(Pizza, storage="memory:")
    with pytest.raises(TypeError, match="needs a TelegramClient, not a str"):
        setup_sessions("client", sessions)  # type: ignore[arg-type]
    monkeypatch.delattr(UpdateMethods, "_dispatch_update")
    with pytest.raises(SessionError, match=r"need Telethon 1\.40 or newer"):
        setup_sessions(Offline([]).client, sessions)


@pytest.mark.parametrize("before", [True, False], ids=["registered before", "registered after"])
async def test_a_handler_whose_partial_binds_the_name_is_refused(before: bool) -> None:
    async def on_pizza(event: Any, session: Any) -> None: ...

    client, sessions = Offline([]).client, SessionManager(Pizza, storage="memory:")
    bound = partial(on_pizza, session=object())
    if before:
        client.add_event_handler(bound, events.NewMessage())
        with pytest.raises(SessionNameError, match=r"object bound by functools\.partial"):
            setup_sessions(client, sessions)
    else:
        setup_sessions(client, sessions)
        with pytest.raises(SessionNameError, match=r"object bound by functools\.partial"):
            client.add_event_handler(bound, events.NewMessage())
    assert [callback for callback, _ in client.list_event_handlers() if callback is bound] == [bound] * before


async def test_per_bot_needs_the_id_of_the_bot(errors: list[BaseException]) -> None:
    offline, sessions = Offline(errors), SessionManager(int, storage="memory:")
    setup_sessions(offline.client, sessions, per_bot=True)

    @offline.client.on(events.NewMessage())
    async def on_pizza(event: Any, ctx: SessionContext[int]) -> None:
        ctx.session += 1

    await offline.start()
    cache = offline.client._mb_entity_cache
    cache.self_id = None
    await offline.feed(new_message(written()))
    assert [type(error) for error in errors] == [SessionError]
    assert "per_bot=True puts the bot's id before its keys" in str(errors[0])
    cache.self_id = 42
    await offline.feed(new_message(written()))
    assert [stored async for stored in sessions.entries()] == [("42:7", 1)]
    await offline.stop()


async def test_the_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, errors: list[BaseException]) -> None:
    monkeypatch.chdir(tmp_path)
    offline, answers = Offline(errors), list[str]()
    runpy.run_path(str(EXAMPLE))["add_handlers"](offline.client)

    async def answer(sender: object, request: Any, **_: object) -> Any:
        answers.append(request.message)
        return types.UpdateShortSentMessage(id=1, pts=1, pts_count=1, date=None)

    offline.client._call = answer
    offline.client._mb_entity_cache.extend([types.User(7, access_hash=1, first_name="Ann")], [])
    await offline.start()
    for text in ("🍕", "🍕", "/reset", "🍕"):
        await offline.feed(new_message(written(text)))
    await offline.stop()
    assert errors == []
    assert answers == [
        "Pizza number 1 for this chat!",
        "Pizza number 2 for this chat!",
        "Forgotten.",
        "Pizza number 1 for this chat!",
    ]
