"""What is kurigram's own: its updates and their keys, groups, threads, errors, registration, the login."""

from __future__ import annotations

import runpy
import threading
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from aiogram_aids import CountingStorage, Pizza
from pyrogram import Client, ContinuePropagation, StopPropagation, handlers, raw
from pyrogram_aids import Offline, chat, inline_query, new_message, peer, user, written

from chatsession import SessionError, SessionManager, per_chat, per_topic, per_user, per_user_in_chat
from chatsession.errors import SessionNameError
from chatsession.integrations.pyrogram import SessionContext, setup_sessions

EXAMPLE = Path(__file__).parents[2] / "examples" / "pizza_bot_pyrogram.py"
SUPERGROUP, CHANNEL, DIRECT = -1000000000300, -1000000000200, -1000000000400
PEOPLE = [user(7), user(9), user(42)]
CHATS = [
    chat(-100),
    chat(SUPERGROUP),
    chat(CHANNEL, broadcast=True, megagroup=False),
    chat(DIRECT, monoforum=True, linked_monoforum_id=200),
]


def topic(**ids: int) -> Any:
    return raw.types.MessageReplyHeader(forum_topic=True, **ids)


def boosted(**more: bool) -> Any:
    boost = raw.types.Boost(id="b", date=1, expires=1, user_id=7, **more)
    return raw.types.UpdateBotChatBoost(peer=peer(SUPERGROUP), boost=boost, qts=1)


# What comes in, and its keys per_chat, per_user, per_user_in_chat and per_topic, as in the Bot API.
UPDATES: dict[str, tuple[Any, str | None, str | None, str | None, str | None]] = {
    "private": (new_message(written()), "7", "7", "7:7", "7"),
    "group": (new_message(written(chat_id=-100)), "-100", "7", "-100:7", "-100"),
    "topic": (
        new_message(written(chat_id=SUPERGROUP, reply_to=topic(reply_to_msg_id=9, reply_to_top_id=5))),
        *(str(SUPERGROUP), "7", f"{SUPERGROUP}:7", f"{SUPERGROUP}:5"),
    ),
    "anonymous admin": (
        new_message(written(chat_id=SUPERGROUP, user_id=None)),
        *(str(SUPERGROUP), str(SUPERGROUP), f"{SUPERGROUP}:{SUPERGROUP}", str(SUPERGROUP)),
    ),
    "channel as a member of a group": (
        new_message(raw.types.Message(id=1, peer_id=peer(SUPERGROUP), from_id=peer(CHANNEL), date=1, message="post")),
        *(str(SUPERGROUP), str(CHANNEL), f"{SUPERGROUP}:{CHANNEL}", str(SUPERGROUP)),
    ),
    "post of a channel": (
        new_message(written(chat_id=CHANNEL, user_id=None, post=True)),
        *(str(CHANNEL), None, None, str(CHANNEL)),
    ),
    "inline query": (inline_query(), None, "7", None, None),
    "business": (
        raw.types.UpdateBotNewBusinessMessage(connection_id="shop", message=written(chat_id=9), qts=1),
        *("shop:9", "9", "shop:9:9", "shop:9"),
    ),
    "button in a business's chat": (  # below a message of the business, which another user presses
        raw.types.UpdateBusinessBotCallbackQuery(
            query_id=1, user_id=7, connection_id="shop", message=written(chat_id=9), chat_instance=1, data=b"x"
        ),
        *("shop:9", "7", "shop:9:7", "shop:9"),
    ),
    "business connection": (
        raw.types.UpdateBotBusinessConnect(
            connection=raw.types.BotBusinessConnection(connection_id="shop", user_id=7, dc_id=1, date=1), qts=1
        ),
        *(None, "7", None, None),
    ),
    "direct message to a channel": (
        new_message(written(chat_id=DIRECT, saved_peer_id=peer(7))),
        *(str(DIRECT), "7", f"{DIRECT}:7", f"{DIRECT}:7"),
    ),
    "member": (
        raw.types.UpdateChannelParticipant(
            channel_id=300,
            date=1,
            actor_id=7,
            user_id=9,
            qts=1,
            new_participant=raw.types.ChannelParticipant(user_id=9, date=1),
        ),
        *(str(SUPERGROUP), "7", f"{SUPERGROUP}:7", str(SUPERGROUP)),
    ),
    "reaction": (
        raw.types.UpdateBotMessageReaction(
            peer=peer(-100), msg_id=3, date=1, actor=peer(7), old_reactions=[], new_reactions=[], qts=1
        ),
        *("-100", "7", "-100:7", "-100"),
    ),
    "reaction of an anonymous admin": (
        raw.types.UpdateBotMessageReaction(
            peer=peer(SUPERGROUP), msg_id=3, date=1, actor=peer(SUPERGROUP), old_reactions=[], new_reactions=[], qts=1
        ),
        *(str(SUPERGROUP), None, None, str(SUPERGROUP)),
    ),
    "boost": (boosted(), str(SUPERGROUP), "7", f"{SUPERGROUP}:7", str(SUPERGROUP)),
    "boost as a gift": (boosted(gift=True), str(SUPERGROUP), None, None, str(SUPERGROUP)),
    "answer to a poll": (
        raw.types.UpdateMessagePollVote(poll_id=1, peer=peer(7), options=[b"0"], positions=[0], qts=1),
        *(None, "7", None, None),
    ),
    "status": (
        raw.types.UpdateUserStatus(user_id=7, status=raw.types.UserStatusOnline(expires=1)),
        *(None, "7", None, None),
    ),
}
HANDLERS = {
    "inline query": handlers.InlineQueryHandler,
    "business": handlers.BusinessMessageHandler,
    "button in a business's chat": handlers.CallbackQueryHandler,
    "business connection": handlers.BusinessConnectionHandler,
    "member": handlers.ChatMemberUpdatedHandler,
    "reaction": handlers.MessageReactionHandler,
    "reaction of an anonymous admin": handlers.MessageReactionHandler,
    "boost": handlers.ChatBoostHandler,
    "boost as a gift": handlers.ChatBoostHandler,
    "answer to a poll": handlers.PollHandler,
    "status": handlers.UserStatusHandler,
}


@pytest.fixture
async def offline() -> AsyncIterator[Offline]:
    offline = Offline()
    offline.client.fetch_replies = False  # which asks the network
    yield offline
    if offline.client.is_initialized:
        await offline.stop()


@pytest.mark.parametrize("as_raw", [False, True])
@pytest.mark.parametrize("kind", UPDATES)
async def test_the_key_of(kind: str, as_raw: bool) -> None:
    update, *expected = UPDATES[kind]
    for key_function, key in zip((per_chat, per_user, per_user_in_chat, per_topic), expected, strict=True):
        offline, sessions = Offline(), SessionManager(int, storage="memory:", get_session_key=key_function)
        offline.client.fetch_replies = False
        setup_sessions(offline.client, sessions)
        failed: list[object] = []

        async def on_any(client: Client, update: object, ctx: SessionContext[int]) -> None:
            ctx.session += 1

        async def on_raw(client: Client, update: Any, users: Any, chats: Any, ctx: SessionContext[int]) -> None:
            ctx.session += 1

        async def on_error(client: Client, error: Exception, *_: object, failed: Any = failed) -> None:
            failed.append(error)

        made = handlers.RawUpdateHandler(on_raw) if as_raw else HANDLERS.get(kind, handlers.MessageHandler)(on_any)
        offline.client.add_handler(made)
        offline.client.add_handler(handlers.ErrorHandler(on_error))
        await offline.start()
        await offline.feed(update, PEOPLE, CHATS)
        assert len(failed) == (key is None), failed
        assert [stored async for stored, _ in sessions.entries()] == ([] if key is None else [key])
        await offline.stop()


async def test_each_handler_is_a_unit_of_work(offline: Offline, sessions: SessionManager[Pizza]) -> None:
    setup_sessions(offline.client, sessions)
    app = offline.client

    @app.on_error()
    async def on_error(client: Client, error: Exception, *rest: object, session: Pizza) -> None:
        session.toppings.append(type(error).__name__)

    @app.on_message(group=0)
    async def bad(client: Client, message: Any, session: Pizza) -> None:
        session.count += 10
        raise ZeroDivisionError

    @app.on_message(group=1)
    async def first(client: Client, message: Any, session: Pizza) -> None:
        session.count += 1
        raise ContinuePropagation

    @app.on_message(group=1)
    async def second(client: Client, message: Any, session: Pizza) -> None:
        assert session.count == 1
        session.count += 1
        raise StopPropagation

    @app.on_message(group=2)
    async def never(client: Client, message: Any, session: Pizza) -> None:
        session.count += 100

    await offline.start()
    await offline.feed(new_message(written()), PEOPLE)
    assert await sessions.get(7) == Pizza(2, ["ZeroDivisionError"])


async def test_a_sync_handler_runs_in_its_thread(offline: Offline, sessions: SessionManager[Pizza]) -> None:
    setup_sessions(offline.client, sessions)

    @offline.client.on_message()
    def on_any(client: Client, message: Any, session: Pizza) -> None:
        assert threading.current_thread() is not threading.main_thread()
        session.count += 1

    await offline.start()
    await offline.feed(new_message(written()), PEOPLE)
    assert await sessions.get(7) == Pizza(1)


async def test_clients_that_share_a_handler_have_sessions_of_their_own() -> None:
    """As plugins do that several clients load."""
    clients = [Offline(client=Client(name, in_memory=True, workers=1, skip_updates=True)) for name in "abc"]
    managers = [SessionManager(Pizza, storage="memory:") for _ in "ab"]
    sent: list[tuple[str, str]] = []

    async def on_any(client: Client, message: Any, ctx: SessionContext[Pizza] | None = None) -> None:
        if ctx is not None:
            ctx.session.count += 1
            ctx.after_commit("send_message", 7, client.name)

    shared = handlers.MessageHandler(on_any)
    for offline, sessions in zip(clients, managers, strict=False):
        setup_sessions(offline.client, sessions)
    for number, offline in enumerate(clients):

        async def send_message(chat: int, text: str, name: str = offline.client.name) -> None:
            sent.append((name, text))

        offline.client.send_message = send_message  # type: ignore[method-assign, assignment]
        offline.client.fetch_replies = False
        offline.client.add_handler(shared)
        await offline.start()
        for _ in range(number + 1):
            await offline.feed(new_message(written()), PEOPLE)
    assert [await sessions.get(7) for sessions in managers] == [Pizza(1), Pizza(2)]
    assert sent == [("a", "a"), ("b", "b"), ("b", "b")]
    for offline in clients:
        await offline.stop()


async def test_set_up_while_the_client_runs(offline: Offline, storage: CountingStorage) -> None:
    """Also a handler that was registered just before, which the client has not taken in yet."""
    await offline.start()
    sessions = SessionManager(Pizza, storage=storage)

    @offline.client.on_message()
    async def on_any(client: Client, message: Any, session: Pizza, cart: list[str]) -> None:
        session.count += 1
        cart.append("salami")

    setup_sessions(offline.client, sessions)
    carts = SessionManager(list[str], storage=storage, name="cart", prefix="cart:")
    setup_sessions(offline.client, carts)
    await offline.client._chatsession._wrapping  # type: ignore[attr-defined] # nothing else tells that all are in
    await offline.feed(new_message(written()), PEOPLE)
    assert (await sessions.get(7), await carts.get(7)) == (Pizza(1), ["salami"])


async def test_a_refused_handler_does_not_stop_a_running_client(offline: Offline) -> None:
    async def on_bound(client: Client, message: Any, session: Any) -> None: ...

    await offline.start()
    sessions = SessionManager(Pizza, storage="memory:")
    offline.client.add_handler(handlers.MessageHandler(partial(on_bound, session=object())), 1)
    setup_sessions(offline.client, sessions)
    with pytest.raises(SessionNameError, match=r"object bound by functools\.partial"):
        await offline.client._chatsession._wrapping  # type: ignore[attr-defined] # nothing else tells that all are in

    @offline.client.on_message()
    async def on_any(client: Client, message: Any, session: Pizza) -> None:
        session.count += 1

    await offline.feed(new_message(written()), PEOPLE)
    assert await sessions.get(7) == Pizza(1)


async def test_others_cost_nothing(offline: Offline, sessions: SessionManager[Pizza], storage: CountingStorage) -> None:
    setup_sessions(offline.client, sessions)
    seen: list[str] = []

    @offline.client.on_message()
    async def on_any(client: Client, ctx: Any) -> None:
        seen.append(str(ctx.text))

    await offline.start()
    await offline.feed(new_message(written()), PEOPLE)
    assert seen == ["🍕"]
    assert storage.calls == {}


def test_what_is_refused_at_set_up(monkeypatch: pytest.MonkeyPatch) -> None:
    sessions = SessionManager(Pizza, storage="memory:")
    with pytest.raises(TypeError, match=r"needs a pyrogram\.Client, not a str"):
        setup_sessions("client", sessions)  # type: ignore[arg-type]

    monkeypatch.delattr(handlers, "ErrorHandler")
    with pytest.raises(SessionError, match=r"need kurigram 2\.2\.25 or newer"):
        setup_sessions(Client("bot", in_memory=True), sessions)


@pytest.mark.parametrize("before", [True, False], ids=["registered before", "registered after"])
def test_a_handler_whose_partial_binds_the_name_is_refused(before: bool) -> None:
    async def on_pizza(client: Client, message: Any, session: Any) -> None: ...

    app, sessions = Client("bot", in_memory=True), SessionManager(Pizza, storage="memory:")
    bound = handlers.MessageHandler(partial(on_pizza, session=object()))
    if before:
        app.dispatcher.groups[0] = [bound]
        with pytest.raises(SessionNameError, match=r"object bound by functools\.partial"):
            setup_sessions(app, sessions)
    else:
        setup_sessions(app, sessions)
        with pytest.raises(SessionNameError, match=r"object bound by functools\.partial"):
            app.add_handler(bound)
    assert getattr(bound.callback, "keywords", None), "it is left as it was"


async def test_per_bot_needs_the_id_of_the_bot() -> None:
    offline, sessions = Offline(), SessionManager(int, storage="memory:")
    setup_sessions(offline.client, sessions, per_bot=True)
    failed: list[BaseException] = []

    async def on_pizza(client: Client, message: Any, ctx: SessionContext[int]) -> None:
        ctx.session += 1

    async def on_error(client: Client, error: Exception, *_: object) -> None:
        failed.append(error)

    offline.client.add_handler(handlers.MessageHandler(on_pizza))
    offline.client.add_handler(handlers.ErrorHandler(on_error))
    await offline.start()
    offline.client.fetch_replies = False
    me, offline.client.me = offline.client.me, None
    await offline.feed(new_message(written()), PEOPLE)
    assert [type(error) for error in failed] == [SessionError]
    assert "per_bot=True puts the bot's id before its keys" in str(failed[0])
    offline.client.me = me
    await offline.feed(new_message(written()), PEOPLE)
    assert [stored async for stored in sessions.entries()] == [("42:7", 1)]
    await offline.stop()


async def test_the_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in (("API_ID", "1"), ("API_HASH", "hash"), ("BOT_TOKEN", "42:token")):
        monkeypatch.setenv(name, value)
    answers: list[str] = []
    app: Any = runpy.run_path(str(EXAMPLE))["app"]

    async def answer(query: Any, **_: object) -> Any:
        answers.append(query.message)
        return raw.types.UpdateShortSentMessage(id=1, pts=1, pts_count=1, date=1)

    app.invoke, app.skip_updates = answer, True
    app.storage.database = tmp_path / "pizza_bot.session"  # Pyrogram's place for it is beside the program that runs
    offline = Offline(client=app)
    await offline.start()
    for text in ("🍕", "🍕", "/reset", "🍕"):
        await offline.feed(new_message(written(text)), PEOPLE)
    await offline.stop()
    assert answers == [
        "Pizza number 1 for this chat!",
        "Pizza number 2 for this chat!",
        "Forgotten.",
        "Pizza number 1 for this chat!",
    ]


class Listening(handlers.MessageHandler):
    """A handler as pyromod 3 makes it: its own method comes before the user's function."""

    def __init__(self, callback: Any, filters: Any = None) -> None:
        self.original_callback = callback
        super().__init__(self.resolve_future_or_callback, filters)

    async def resolve_future_or_callback(self, client: Client, message: Any, *args: Any) -> None:
        await self.original_callback(client, message, *args)


@pytest.mark.parametrize("registered", ["before", "after"])
async def test_a_handler_that_pyromod_wraps(offline: Offline, registered: str) -> None:
    sessions = SessionManager(Pizza, storage="memory:")

    async def on_pizza(client: Client, message: Any, session: Pizza) -> None:
        session.count += 1

    if registered == "after":
        setup_sessions(offline.client, sessions)
    offline.client.add_handler(Listening(on_pizza))
    if registered == "before":
        setup_sessions(offline.client, sessions)
    await offline.start()
    await offline.feed(new_message(written()), PEOPLE, CHATS)
    assert await sessions.get(7) == Pizza(1)
