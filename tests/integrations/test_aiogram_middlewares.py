"""The session is locked as the last step before the handler, so that no middleware waits with its chat locked."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiogram import Dispatcher, Router
from aiogram.filters import Command
from aiogram.fsm.scene import Scene, SceneRegistry, on
from aiogram.types import Message, TelegramObject
from aiogram_aids import BOT, CountingStorage, Pizza, group, message

from chatsession import SessionError, SessionManager
from chatsession.integrations.aiogram import SessionContext, setup_sessions

Next = Callable[[TelegramObject, dict[str, Any]], Awaitable[Any]]
Register = Callable[[Dispatcher, Router, Next], None]
PHOTOS = 10


class Albums:
    """Collects the photos of an album, each of which is an update of its own; the first one goes on with all."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.photos: list[Message] = []
        self.complete = asyncio.Event()

    async def __call__(self, handler: Next, event: TelegramObject, data: dict[str, Any]) -> Any:
        assert isinstance(event, Message)
        self.photos.append(event)
        if len(self.photos) == self.size:
            self.complete.set()
        if len(self.photos) > 1:
            return None
        await self.complete.wait()
        return await handler(event, data | {"album": self.photos})


PLACES: dict[str, Register] = {
    "outer middleware": lambda dp, router, album: dp.message.outer_middleware.register(album) and None,
    "inner middleware": lambda dp, router, album: dp.message.middleware.register(album) and None,
    "outer middleware of a router": lambda dp, router, album: router.message.outer_middleware.register(album) and None,
    "inner middleware of a router": lambda dp, router, album: router.message.middleware.register(album) and None,
}


@pytest.mark.parametrize("registered", ["before", "after"])
@pytest.mark.parametrize("place", PLACES)
async def test_ten_photos_of_an_album_arrive_at_once(
    sessions: SessionManager[Pizza], storage: CountingStorage, place: str, registered: str
) -> None:
    dp, router, albums = Dispatcher(), Router(), Albums(PHOTOS)
    dp.include_router(router)
    if registered == "before":
        PLACES[place](dp, router, albums)
    setup_sessions(dp, sessions)

    @router.message()
    async def on_album(message: Message, album: list[Message], session: Pizza) -> None:
        session.toppings.extend(sorted(photo.caption or "" for photo in album))

    if registered == "after":
        PLACES[place](dp, router, albums)
    photos = [message("", caption=str(n), media_group_id="7", photo=[photo(n)]) for n in range(PHOTOS)]
    async with asyncio.timeout(120):
        await asyncio.gather(*[dp.feed_raw_update(BOT, photo) for photo in photos])
    assert await sessions.get(1) == Pizza(0, [str(n) for n in range(PHOTOS)])
    assert storage.calls["lock"] == 1


def photo(number: int) -> dict[str, Any]:
    return {"file_id": f"p{number}", "file_unique_id": f"p{number}", "width": 1, "height": 1}


@pytest.mark.parametrize("registered", ["before", "after"])
@pytest.mark.parametrize("place", PLACES)
async def test_a_handler_runs_in_a_task_older_than_its_update(
    sessions: SessionManager[Pizza], place: str, registered: str
) -> None:
    dp, router = Dispatcher(), Router()
    dp.include_router(router)
    calls: asyncio.Queue[Callable[[], Awaitable[None]]] = asyncio.Queue()
    workers: list[asyncio.Task[None]] = []

    async def call_in_turn() -> None:
        while True:
            await (await calls.get())()

    async def in_turn(handler: Next, event: TelegramObject, data: dict[str, Any]) -> Any:
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        async def call() -> None:
            try:
                done.set_result(await handler(event, data))
            except Exception as error:
                done.set_exception(error)

        if not workers:  # in the first update, whose context the task keeps
            workers.append(asyncio.create_task(call_in_turn()))
        calls.put_nowait(call)
        return await done

    if registered == "before":
        PLACES[place](dp, router, in_turn)
    setup_sessions(dp, sessions)

    @router.message()
    async def on_message(message: Message, session: Pizza, ctx: SessionContext[Pizza]) -> None:
        session.count += 1

    if registered == "after":
        PLACES[place](dp, router, in_turn)
    for chat in (-1, -2, -1):
        await dp.feed_raw_update(BOT, message("pizza", chat=group(chat)))
    workers[0].cancel()
    assert await sessions.get(-1) == Pizza(2)
    assert await sessions.get(-2) == Pizza(1)


class Workers:
    """Runs what comes after it in one long-lived task for each chat."""

    def __init__(self) -> None:
        self._queues: dict[int, asyncio.Queue[tuple[asyncio.Future[Any], Callable[[], Awaitable[Any]]]]] = {}
        self._tasks: list[asyncio.Task[None]] = []

    async def __call__(self, handler: Next, event: TelegramObject, data: dict[str, Any]) -> Any:
        chat = data["event_chat"].id
        if chat not in self._queues:
            self._queues[chat] = asyncio.Queue()
            self._tasks.append(asyncio.create_task(self._work(self._queues[chat])))
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._queues[chat].put_nowait((done, lambda: handler(event, data)))
        return await done

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _work(self, queue: asyncio.Queue[tuple[asyncio.Future[Any], Callable[[], Awaitable[Any]]]]) -> None:
        while True:
            done, call = await queue.get()
            try:
                done.set_result(await call())
            except Exception as error:
                done.set_exception(error)


async def test_a_worker_of_a_chat_that_runs_whole_updates(sessions: SessionManager[Pizza]) -> None:
    dp, workers = Dispatcher(), Workers()
    dp.update.outer_middleware(workers)
    setup_sessions(dp, sessions)

    @dp.message()
    async def on_message(message: Message, session: Pizza) -> None:
        session.count += 1
        if message.text == "again":
            async with sessions.open(1):
                pass

    async def refused() -> None:
        with pytest.raises(SessionError, match="this task or thread has it open already"):
            await dp.feed_raw_update(BOT, message("again"))

    async with asyncio.timeout(60):
        fed = [dp.feed_raw_update(BOT, message()) for _ in range(3)]
        await asyncio.gather(*fed[:2], refused(), fed[2])
    await workers.stop()
    assert await sessions.get(1) == Pizza(3)


@pytest.mark.parametrize("place", PLACES)
async def test_a_worker_that_does_not_commit_is_told_what_to_do(
    dp: Dispatcher, sessions: SessionManager[Pizza], place: str
) -> None:
    router, workers = Router(), Workers()
    dp.include_router(router)
    PLACES[place](dp, router, workers)

    @router.message()
    async def on_message(message: Message, session: Pizza, ctx: SessionContext[Pizza]) -> None:
        session.count += 1
        if message.text == "release":
            await ctx.release_session()

    async with asyncio.timeout(60):
        fed = [dp.feed_raw_update(BOT, message()) for _ in range(2)]
        first, second = await asyncio.gather(*fed, return_exceptions=True)
        assert await sessions.get(1) == Pizza(1)
        await asyncio.gather(*[dp.feed_raw_update(BOT, message("release")) for _ in range(2)])
    await workers.stop()
    assert first is None
    assert isinstance(second, SessionError)
    assert "calls release_session() at the end of each handler" in str(second)
    assert await sessions.get(1) == Pizza(3)


async def test_a_middleware_waits_while_another_update_of_its_chat_runs(
    dp: Dispatcher, sessions: SessionManager[Pizza]
) -> None:
    """As one that throttles does: what it waits for happens in the same chat."""
    served = asyncio.Event()

    @dp.message.middleware()
    async def throttle(handler: Next, event: TelegramObject, data: dict[str, Any]) -> Any:
        if isinstance(event, Message) and event.text == "slow":
            await served.wait()
        return await handler(event, data)

    @dp.message()
    async def on_pizza(message: Message, session: Pizza) -> None:
        session.toppings.append(message.text or "")
        served.set()

    async with asyncio.timeout(120):
        await asyncio.gather(*[dp.feed_raw_update(BOT, message(text)) for text in ("slow", "fast")])
    assert await sessions.get(1) == Pizza(0, ["fast", "slow"])


async def test_handlers_of_scenes_are_locked_last_too(dp: Dispatcher, sessions: SessionManager[Pizza]) -> None:
    class Menu(Scene, state="menu"):
        @on.message()
        async def take(self, message: Message, session: Pizza) -> None:
            session.count += 1

    SceneRegistry(dp).add(Menu)
    dp.message.register(Menu.as_handler(), Command("menu"))
    await dp.feed_raw_update(BOT, message("/menu"))

    @dp.message.middleware()
    async def inside(handler: Next, event: TelegramObject, data: dict[str, Any]) -> Any:
        async with sessions.open(1) as s:
            s.data.toppings.append("middleware")
        return await handler(event, data)

    async with asyncio.timeout(120):
        await dp.feed_raw_update(BOT, message())
    assert await sessions.get(1) == Pizza(1, ["middleware"])


async def test_a_middleware_may_load_it_before_the_handler(dp: Dispatcher, sessions: SessionManager[Pizza]) -> None:
    @dp.message.middleware()
    async def count(handler: Next, event: TelegramObject, data: dict[str, Any]) -> Any:
        ctx: SessionContext[Pizza] = data["ctx"]
        (await ctx.load_session()).count += 1
        return await handler(event, data)

    @dp.message()
    async def on_pizza(message: Message, session: Pizza) -> int:
        return session.count

    assert await dp.feed_raw_update(BOT, message()) == 1


async def test_a_router_that_two_dispatchers_had_in_turn(storage: CountingStorage) -> None:
    """A handler is bound to no dispatcher: without sessions, it is called as it is."""
    got: list[object] = []

    async def on_pizza(message: Message, session: object = None) -> None:
        got.append(session)

    with_sessions, without = Dispatcher(), Dispatcher()
    setup_sessions(with_sessions, SessionManager(Pizza, storage=storage))
    with_sessions.message.register(on_pizza)
    without.message.handlers = with_sessions.message.handlers
    for dp in (with_sessions, without):
        await dp.feed_raw_update(BOT, message())
    assert got == [Pizza(), None]


async def test_a_handler_that_is_registered_while_the_bot_runs(dp: Dispatcher, sessions: SessionManager[Pizza]) -> None:
    await dp.emit_startup(bot=BOT)
    for number in range(2):

        @dp.message(lambda message, text=str(number): message.text == text)
        async def on_pizza(message: Message, session: Pizza) -> None:
            session.count += 1

        await dp.feed_raw_update(BOT, message(str(number)))
    assert await sessions.get(1) == Pizza(2)
    await dp.emit_shutdown(bot=BOT)
