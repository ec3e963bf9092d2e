"""`after_commit`: sent when the session is committed, in order, and never when it is not."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest
from core_aids import RecordingMemory, steps, value_of

from chatsession import (
    LazySessionFlavor,
    SessionActionError,
    SessionClosedError,
    SessionConflictError,
    SessionFlavor,
    SessionKeyError,
    SessionManager,
    SessionOptions,
    SessionUnsentError,
    StorageUnavailableError,
    generate_encryption_key,
    multi_session,
)
from chatsession.actions import Arguments, RefusedError, RetryLaterError, UnknownActionError, UnreachableError
from chatsession.storages import Change, Storage
from chatsession.unit_of_work import outbox


class Bot:
    """Methods as a framework has them: notes what is called, and fails as it is told."""

    def __init__(self, *failures: Exception) -> None:
        self.sent: list[str] = []
        self.failures = list(failures)
        self.held: asyncio.Event | None = None
        self.called = asyncio.Event()

    def encode(self, action: object, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
        return str(action), list(args), kwargs

    def describe(self, action: object) -> str:
        return str(action)

    async def call(self, action: object, args: Any, kwargs: Any) -> None:
        if action == "gone":
            raise UnknownActionError("there is no such method")
        self.called.set()
        if self.held is not None:
            await self.held.wait()
        if self.failures:
            raise self.failures.pop(0)
        self.sent.append(" ".join([str(action), *map(str, args), *map(str, kwargs.values())]))

    def translate(self, error: Exception, /) -> Exception:
        return error


class Update(SessionFlavor[Any]):
    def __init__(self, update_id: int | None, bot: Bot | None = None, chat_id: int | None = 1) -> None:
        self.update_id = update_id
        self.bot_methods = bot
        self.chat_id = chat_id


class LazyUpdate(LazySessionFlavor[Any]):
    def __init__(self, update_id: int | None, bot: Bot | None = None, chat_id: int | None = 1) -> None:
        self.update_id = update_id
        self.bot_methods = bot
        self.chat_id = chat_id


Handler = Callable[[Any], Awaitable[None]]
Deliver = Callable[[SessionManager[int], Any, Handler], Awaitable[None]]


async def deliver(sessions: SessionManager[int], ctx: Update, handler: Handler) -> None:
    await sessions.middleware()(ctx, lambda: handler(ctx))


async def answer(ctx: Update) -> None:
    ctx.session += 1
    ctx.after_commit("send", ctx.session)
    ctx.after_commit("send", text="more")


@pytest.fixture
def sessions(storage: Storage) -> SessionManager[int]:
    return SessionManager(int, storage=storage, deduplicate=3)


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "PAUSES", [0, 0])


async def test_actions_are_sent_in_order_after_the_commit(sessions: SessionManager[int], storage: Storage) -> None:
    seen: list[Any] = []

    class Looking(Bot):
        async def call(self, action: object, args: Any, kwargs: Any) -> None:
            seen.append(await sessions.get(1))
            await super().call(action, args, kwargs)

    async with sessions:
        bot = Looking()
        await deliver(sessions, Update(1, bot), answer)
        assert bot.sent == ["send 1", "send more"]
        assert seen == [1, 1]


@pytest.mark.parametrize("failure", [ZeroDivisionError(), asyncio.CancelledError()])
async def test_nothing_is_sent_when_the_handler_fails(sessions: SessionManager[int], failure: BaseException) -> None:
    async def fail(ctx: Update) -> None:
        await answer(ctx)
        raise failure

    async with sessions:
        bot = Bot()
        with pytest.raises(type(failure)):
            await deliver(sessions, Update(1, bot), fail)
        assert bot.sent == []
        await deliver(sessions, Update(1, bot), answer)
        assert bot.sent == ["send 1", "send more"]


async def test_nothing_is_sent_when_the_commit_fails() -> None:
    class Full(RecordingMemory):
        def commit(self, change: Change) -> Any:
            raise StorageUnavailableError("the disk is full")

    bot = Bot()
    async with SessionManager(int, storage=Full(), deduplicate=3) as sessions:
        with pytest.raises(StorageUnavailableError):
            await deliver(sessions, Update(1, bot), answer)
    assert bot.sent == []


async def test_nothing_is_sent_for_the_loser_of_a_conflict(storage: Storage) -> None:
    bots = [Bot(), Bot()]
    async with SessionManager(int, storage=storage, deduplicate=3, concurrency="optimistic") as sessions:

        async def slow(ctx: Update) -> None:
            await answer(ctx)
            await deliver(sessions, Update(2, bots[1]), answer)

        with pytest.raises(SessionConflictError):
            await deliver(sessions, Update(1, bots[0]), slow)
    assert [bot.sent for bot in bots] == [[], ["send 1", "send more"]]


async def test_actions_are_stored_beside_the_update_in_one_write(sessions: SessionManager[int], storage: Any) -> None:
    async with sessions:
        await deliver(sessions, Update(7, Bot()), answer)
        assert len(storage.writes) == 1
        assert json.loads(await value_of(storage, "1") or b"") == {
            "__d": 1,
            "u": [7],
            "a": [[7, [["method", "send", [1], {}], ["method", "send", [], {"text": "more"}]]]],
        }


async def test_the_next_commit_takes_out_what_was_sent(sessions: SessionManager[int], storage: Storage) -> None:
    async def quiet(ctx: Update) -> None:
        ctx.session += 1

    async with sessions:
        await deliver(sessions, Update(7, Bot()), answer)
        await deliver(sessions, Update(8, Bot()), quiet)
        assert json.loads(await value_of(storage, "1") or b"") == {"__d": 2, "u": [7, 8]}


async def test_a_redelivery_sends_what_a_crash_left_unsent(storage: Storage) -> None:
    async with SessionManager(int, storage=storage, deduplicate=3) as sessions:
        dying = Bot(*[UnreachableError()] * 9)
        with pytest.raises(SessionUnsentError, match=r"session '1': send could not be sent"):
            await deliver(sessions, Update(7, dying), answer)
    ran = 0

    async def count(ctx: Update) -> None:
        nonlocal ran
        ran += 1

    async with SessionManager(int, storage=storage, deduplicate=3) as sessions:
        bot = Bot()
        await deliver(sessions, Update(7, bot), count)
        assert (bot.sent, ran) == (["send 1", "send more"], 0)
        assert await sessions.get(1) == 1
        await deliver(sessions, Update(7, bot), count)
        assert bot.sent == ["send 1", "send more"], "it is known as sent"


async def test_a_redelivery_to_the_same_process_sends_only_the_rest(sessions: SessionManager[int]) -> None:
    async with sessions:
        bot = Bot()

        async def two(ctx: Update) -> None:
            ctx.after_commit("first")
            ctx.after_commit("second")

        class Stuck(Bot):
            async def call(self, action: object, args: Any, kwargs: Any) -> None:
                if action == "second":
                    raise UnreachableError
                await super().call(action, args, kwargs)

        stuck = Stuck()
        with pytest.raises(SessionUnsentError):
            await deliver(sessions, Update(7, stuck), two)
        stuck.call = bot.call  # type: ignore[method-assign] # Telegram is back
        await deliver(sessions, Update(7, stuck), two)
        assert (stuck.sent, bot.sent) == (["first"], ["second"])


async def test_two_deliveries_at_once_send_once(sessions: SessionManager[int]) -> None:
    async with sessions:
        bot = Bot()
        bot.held = asyncio.Event()
        both = [asyncio.create_task(deliver(sessions, Update(7, bot), answer)) for _ in range(2)]
        await bot.called.wait()
        await steps(20)
        bot.held.set()
        await asyncio.gather(*both)
        assert bot.sent == ["send 1", "send more"]


async def test_the_next_update_runs_while_actions_are_sent(sessions: SessionManager[int]) -> None:
    async with sessions:
        bot = Bot()
        bot.held = asyncio.Event()
        ran = asyncio.Event()

        async def next_one(ctx: Update) -> None:
            await answer(ctx)
            ran.set()

        first = asyncio.create_task(deliver(sessions, Update(7, bot), answer))
        await bot.called.wait()
        second = asyncio.create_task(deliver(sessions, Update(8, bot), next_one))
        await ran.wait()
        assert await sessions.get(1) is not None
        assert bot.sent == []
        bot.held.set()
        await asyncio.gather(first, second)
        assert bot.sent == ["send 1", "send more", "send 2", "send more"], "in the order of the commits"


async def test_what_is_not_sent_yet_stays_stored_beside_the_next(storage: Storage) -> None:
    async with SessionManager(int, storage=storage, deduplicate=3) as sessions:
        with pytest.raises(SessionUnsentError):
            await deliver(sessions, Update(7, Bot(*[UnreachableError()] * 9)), answer)
        await deliver(sessions, Update(8, Bot()), answer)
    async with SessionManager(int, storage=storage, deduplicate=3) as sessions:
        bot = Bot()
        await deliver(sessions, Update(7, bot), answer)
        assert bot.sent == ["send 1", "send more"]


async def test_a_lazy_session_hands_over_and_sends_again(storage: Storage) -> None:
    async with SessionManager(int, storage=storage, deduplicate=3) as sessions:

        async def handler(ctx: LazyUpdate) -> None:
            ctx.after_commit("early")
            ctx.session = await ctx.session + 1
            ctx.after_commit("late")

        for bot in (Bot(*[UnreachableError()] * 9), Bot()):
            ctx = LazyUpdate(7, bot)
            try:
                await sessions.lazy_middleware()(ctx, lambda ctx=ctx: handler(ctx))  # type: ignore[misc]
            except SessionUnsentError:
                continue
            assert bot.sent == ["early", "late"]
        assert await sessions.get(1) == 1


async def test_a_lazy_session_that_nobody_reads_sends_after_its_commit(storage: Storage) -> None:
    async with SessionManager(int, storage=storage) as sessions:
        bot = Bot()
        ctx = LazyUpdate(None, bot)

        async def handler() -> None:
            ctx.after_commit("hello")

        await sessions.lazy_middleware()(ctx, handler)
        assert bot.sent == ["hello"]


async def test_save_and_release_send_what_they_commit(sessions: SessionManager[int]) -> None:
    async with sessions:
        bot = Bot()

        async def handler(ctx: Update) -> None:
            ctx.after_commit("one")
            assert bot.sent == []
            await ctx.save_session()
            assert bot.sent == ["one"]
            ctx.after_commit("two")
            await ctx.release_session()
            assert bot.sent == ["one", "two"]
            with pytest.raises(SessionClosedError):
                ctx.after_commit("three")

        await deliver(sessions, Update(1, bot), handler)
        assert bot.sent == ["one", "two"]


async def test_what_save_committed_was_sent_and_the_rest_is_not(sessions: SessionManager[int]) -> None:
    async with sessions:
        bot = Bot()

        async def handler(ctx: Update) -> None:
            ctx.after_commit("one")
            await ctx.save_session()
            ctx.after_commit("two")
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await deliver(sessions, Update(1, bot), handler)
        assert bot.sent == ["one"]


@pytest.mark.parametrize("lazy", [False, True])
async def test_of_several_sessions_actions_follow_all_commits(storage: Storage, lazy: bool) -> None:
    options: Any = {"initial": int, "storage": storage, "deduplicate": 2}
    both = multi_session(lazy=lazy, a=SessionOptions(prefix="a:", **options), b=SessionOptions(prefix="b:", **options))
    seen: list[Any] = []

    class Looking(Bot):
        async def call(self, action: object, args: Any, kwargs: Any) -> None:
            seen.extend([await cast("Any", each).get(1) for each in both.fragments.values()])
            await super().call(action, args, kwargs)

    async with both:
        bot = Looking()
        ctx = (LazyUpdate if lazy else Update)(1, bot)

        async def handler() -> None:
            session: Any = ctx.session
            session.a = 1
            session.b = 1
            ctx.after_commit("done")

        await both(ctx, handler)
        assert (bot.sent, seen) == (["done"], [1, 1])


async def test_a_deleted_session_says_goodbye_also_after_a_crash(storage: Storage) -> None:
    async def goodbye(ctx: Update) -> None:
        ctx.session = None
        ctx.after_commit("goodbye")

    async with SessionManager(int, storage=storage, deduplicate=3) as sessions:
        with pytest.raises(SessionUnsentError):
            await deliver(sessions, Update(7, Bot(*[UnreachableError()] * 9)), goodbye)
    async with SessionManager(int, storage=storage, deduplicate=3) as sessions:
        bot = Bot()
        await deliver(sessions, Update(7, bot), goodbye)
        assert bot.sent == ["goodbye"]
        assert [key async for key in sessions.keys()] == []  # noqa: SIM118 - it is no dict


async def test_actions_move_with_the_session_of_a_group(storage: Storage) -> None:
    async with SessionManager(int, storage=storage, deduplicate=3) as sessions:
        with pytest.raises(SessionUnsentError):
            await deliver(sessions, Update(7, Bot(*[UnreachableError()] * 9)), answer)
        await sessions.move(1, 2)
    async with SessionManager(int, storage=storage, deduplicate=3) as sessions:
        bot = Bot()
        await deliver(sessions, Update(7, bot), answer)
        assert bot.sent == ["send 1", "send more"]
        assert b"send" not in (await value_of(storage, "1") or b"")


async def test_actions_are_encrypted_with_the_data(storage: Storage) -> None:
    keys = [generate_encryption_key()]
    async with SessionManager(int, storage=storage, deduplicate=3, encryption_keys=keys) as sessions:
        with pytest.raises(SessionUnsentError):
            await deliver(sessions, Update(7, Bot(*[UnreachableError()] * 9)), answer)
        assert b"send" not in (await value_of(storage, "1") or b"")
    async with SessionManager(int, storage=storage, deduplicate=3, encryption_keys=keys) as sessions:
        bot = Bot()
        await deliver(sessions, Update(7, bot), answer)
        assert bot.sent == ["send 1", "send more"]


class TestWithoutAPlaceToStore:
    """Without `deduplicate`, an id of the update, or bytes: sent after the commit, and one line says so."""

    @pytest.mark.parametrize(
        ("options", "update_id", "why"), [({}, 1, "deduplicate is off"), ({"deduplicate": 3}, None, "has no id")]
    )
    async def test_it_is_sent_after_the_commit_and_not_stored(
        self,
        storage: Storage,
        caplog: pytest.LogCaptureFixture,
        options: dict[str, Any],
        update_id: int | None,
        why: str,
    ) -> None:
        async with SessionManager(int, storage=storage, **options) as sessions:
            bot = Bot()
            for _ in range(2):
                await deliver(sessions, Update(update_id, bot), answer)
            assert bot.sent == ["send 1", "send more", "send 2", "send more"]
            assert b"send" not in (await value_of(storage, "1") or b"")
        (told,) = [record.getMessage() for record in caplog.records if "after_commit" in record.getMessage()]
        assert "not stored" in told
        assert why in told

    async def test_a_storage_adapter_has_no_place_for_it(self, caplog: pytest.LogCaptureFixture) -> None:
        class Adapter:
            def __init__(self) -> None:
                self.values: dict[str, int] = {}

            def read(self, key: str) -> int | None:
                return self.values.get(key)

            def write(self, key: str, value: int) -> None:
                self.values[key] = value

            def delete(self, key: str) -> None:
                self.values.pop(key, None)

        bot, adapter = Bot(), Adapter()
        async with SessionManager(int, storage=adapter) as sessions:
            await deliver(sessions, Update(1, bot), answer)
        assert (adapter.values, bot.sent) == ({"1": 1}, ["send 1", "send more"])
        assert "a StorageAdapter has no place for it" in caplog.text

    async def test_what_cannot_be_sent_is_logged_and_the_rest_goes_on(
        self, storage: Storage, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with SessionManager(int, storage=storage) as sessions:
            bot = Bot(*[UnreachableError("Bad Gateway")] * 3)
            await deliver(sessions, Update(1, bot), answer)
        assert bot.sent == ["send more"]
        assert "session '1': send of after_commit is lost: Bad Gateway" in caplog.text


class TestRefusals:
    """What Telegram says to a message that it does not take."""

    async def test_a_refused_message_is_dropped_and_the_rest_goes_on(
        self, sessions: SessionManager[int], caplog: pytest.LogCaptureFixture
    ) -> None:
        async with sessions:
            bot = Bot(RefusedError("Forbidden: bot was blocked by the user"))
            await deliver(sessions, Update(1, bot), answer)
        assert bot.sent == ["send more"]
        assert "session '1': send of after_commit is dropped: Forbidden: bot was blocked by the user" in caplog.text

    async def test_a_wait_is_waited_for_as_told(
        self, sessions: SessionManager[int], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        waited: list[float] = []

        async def sleep(seconds: float) -> None:
            waited.append(seconds)

        async with sessions:
            bot = Bot(*[RetryLaterError(17)] * 5)
            with monkeypatch.context() as patch:
                patch.setattr(asyncio, "sleep", sleep)
                await deliver(sessions, Update(1, bot), answer)
        assert bot.sent == ["send 1", "send more"]
        assert waited == [17] * 5

    async def test_a_failure_of_telegram_is_tried_again(self, sessions: SessionManager[int]) -> None:
        async with sessions:
            bot = Bot(*[UnreachableError()] * 2)
            await deliver(sessions, Update(1, bot), answer)
        assert bot.sent == ["send 1", "send more"]

    async def test_a_name_that_the_new_version_has_not_is_dropped(
        self, sessions: SessionManager[int], caplog: pytest.LogCaptureFixture
    ) -> None:
        async def handler(ctx: Update) -> None:
            ctx.after_commit("gone")
            ctx.after_commit("send")

        async with sessions:
            bot = Bot()
            await deliver(sessions, Update(1, bot), handler)
        assert bot.sent == ["send"]
        assert "session '1': gone of after_commit is dropped" in caplog.text

    async def test_a_bug_in_an_action_is_logged_and_the_rest_goes_on(
        self, sessions: SessionManager[int], caplog: pytest.LogCaptureFixture
    ) -> None:
        async with sessions:
            bot = Bot(ZeroDivisionError())
            await deliver(sessions, Update(1, bot), answer)
        assert bot.sent == ["send more"]
        assert "ZeroDivisionError" in caplog.text


class TestFunctions:
    """Async functions, registered by name, with JSON arguments."""

    async def test_a_registered_function_is_called_also_after_a_restart(self, storage: Storage) -> None:
        calls: list[Any] = []

        def manager(*failures: Exception) -> SessionManager[int]:
            sessions = SessionManager(int, storage=storage, deduplicate=3)

            @sessions.action
            async def tell_the_kitchen(order: int, *, toppings: list[str]) -> None:
                if failures:
                    raise failures[0]
                calls.append((order, toppings))

            return sessions

        async def by_name(ctx: Update) -> None:
            ctx.after_commit("tell_the_kitchen", 7, toppings=["olives"])

        async with manager(ConnectionError()) as sessions:
            with pytest.raises(SessionUnsentError):
                await deliver(sessions, Update(1), by_name)
        async with manager() as sessions:
            await deliver(sessions, Update(1), by_name)
        assert calls == [(7, ["olives"])]

    async def test_the_function_itself_may_be_handed_over(self, sessions: SessionManager[int]) -> None:
        calls: list[int] = []

        @sessions.action(name="kitchen")
        async def tell_the_kitchen(order: int) -> None:
            calls.append(order)

        async def handler(ctx: Update) -> None:
            ctx.after_commit(tell_the_kitchen, 7)
            ctx.after_commit("kitchen", order=8)

        async with sessions:
            await deliver(sessions, Update(1), handler)
        assert calls == [7, 8]

    async def test_a_function_that_the_new_version_has_not_is_dropped(
        self, storage: Storage, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with SessionManager(int, storage=storage, deduplicate=3) as sessions:

            @sessions.action
            async def old() -> None:
                raise ConnectionError

            async def handler(ctx: Update) -> None:
                ctx.after_commit(old)
                ctx.after_commit("send")

            with pytest.raises(SessionUnsentError):
                await deliver(sessions, Update(1, Bot()), handler)
        async with SessionManager(int, storage=storage, deduplicate=3) as sessions:
            bot = Bot()
            await deliver(sessions, Update(1, bot), handler)
        assert bot.sent == ["send"]
        assert "session '1': old of after_commit is dropped" in caplog.text

    @pytest.mark.parametrize("argument", [object(), {1, 2}, (1, 2), {1: 2}, b"bytes", float("nan")])
    async def test_arguments_that_are_not_json_are_refused(
        self, sessions: SessionManager[int], argument: object
    ) -> None:
        @sessions.action
        async def act(argument: object) -> None: ...

        async def handler(ctx: Update) -> None:
            ctx.session += 1
            ctx.after_commit(act, [argument])

        async with sessions:
            with pytest.raises(SessionActionError, match="the arguments of the action 'act' are not JSON"):
                await deliver(sessions, Update(1), handler)
            assert await sessions.get(1) is None

    def test_a_function_is_async_and_its_name_its_own(self, sessions: SessionManager[int]) -> None:
        @sessions.action
        async def act() -> None: ...

        with pytest.raises(TypeError, match="must be an async function"):
            sessions.action(lambda: None)  # type: ignore[type-var]
        with pytest.raises(ValueError, match="another action is registered as 'act'"):
            sessions.action(name="act")(test_two_deliveries_at_once_send_once)
        assert sessions.action(act) is act


class TestMisuse:
    """What is refused at once, with what to do instead."""

    async def test_outside_an_update(self, sessions: SessionManager[int]) -> None:
        async with sessions:
            async with sessions.open(1) as session:
                with pytest.raises(SessionActionError, match="inside an update only"):
                    session.after_commit("send")  # type: ignore[attr-defined] # that is the point
            with pytest.raises(Exception, match="outside of its middleware"):
                Update(1).after_commit("send")

    async def test_after_its_end(self, sessions: SessionManager[int]) -> None:
        async with sessions:
            ctx = Update(1, Bot())
            await deliver(sessions, ctx, answer)
            with pytest.raises(SessionClosedError):
                ctx.after_commit("send")

    async def test_while_its_actions_are_sent(self, sessions: SessionManager[int]) -> None:
        async with sessions:
            bot = Bot()
            bot.held = asyncio.Event()
            ctx = Update(1, bot)
            sending = asyncio.create_task(deliver(sessions, ctx, answer))
            await bot.called.wait()
            with pytest.raises(SessionClosedError):
                ctx.session = 7
            bot.held.set()
            await sending

    async def test_without_a_session(self, sessions: SessionManager[int]) -> None:
        async with sessions:

            async def handler(ctx: Update) -> None:
                ctx.after_commit("send")

            with pytest.raises(SessionKeyError):
                await deliver(sessions, Update(1, Bot(), chat_id=None), handler)

    async def test_what_is_no_action(self, sessions: SessionManager[int]) -> None:
        async def unregistered() -> None: ...

        async def handler(ctx: Update) -> None:
            with pytest.raises(SessionActionError, match="unregistered is not registered"):
                ctx.after_commit(unregistered)
            with pytest.raises(SessionActionError, match="was called already"):
                ctx.after_commit(unregistered())
            with pytest.raises(SessionActionError, match="knows no bot"):
                ctx.after_commit("send")

        async with sessions:
            await deliver(sessions, Update(1), handler)

    async def test_the_managers_end_waits_for_what_is_sent(self, sessions: SessionManager[int]) -> None:
        async with sessions:
            bot = Bot()
            bot.held = asyncio.Event()
            sending = asyncio.create_task(deliver(sessions, Update(1, bot), answer))
            await bot.called.wait()
            closing = asyncio.create_task(sessions.aclose())
            await steps(20)
            assert not closing.done()
            bot.held.set()
            await asyncio.gather(sending, closing)
        assert bot.sent == ["send 1", "send more"]


def test_messages_of_errors_hold_no_data(caplog: pytest.LogCaptureFixture) -> None:
    """What users wrote is in the arguments."""
    caplog.set_level(logging.DEBUG)

    async def main() -> None:
        async with SessionManager(int, storage="memory:", deduplicate=3) as sessions:

            async def handler(ctx: Update) -> None:
                ctx.after_commit("send", text="my secret")

            for failure in (RefusedError("no"), UnreachableError("Bad Gateway"), ZeroDivisionError()):
                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr(outbox, "PAUSES", [])
                    try:
                        await deliver(sessions, Update(id(failure), Bot(failure)), handler)
                    except SessionUnsentError as error:
                        messages.append(str(error))

    messages: list[str] = []
    asyncio.run(main())
    assert len(messages) == 1
    assert "my secret" not in messages[0]
    assert "my secret" not in caplog.text
