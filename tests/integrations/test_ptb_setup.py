"""How sessions are set up: what is refused at once, what may come before or after, and what goes along with it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import telegram
from aiogram_aids import CountingStorage, Pizza, message
from ptb_aids import (
    App,
    BurntError,
    Context,
    LazyContext,
    build,
    builder,
    count_up,
    errors_of,
    feed,
    on_text,
    refused,
    serving,
)
from telegram import Update
from telegram.ext import (
    Application,
    CallbackContext,
    ContextTypes,
    ExtBot,
    PersistenceInput,
    PicklePersistence,
)

from chatsession import SessionAttribute, SessionError, SessionFlavor, SessionManager, per_user
from chatsession.integrations.telegram_ext import SessionMethods, setup_sessions


async def test_handlers_may_be_added_before_and_after(sessions: SessionManager[Pizza]) -> None:
    application = build()
    on_text(application, count_up)
    setup_sessions(application, sessions)
    on_text(application, count_up, group=1)
    async with serving(application):
        await feed(application, message())
        assert await sessions.get(1) == Pizza(2)


async def test_an_application_that_runs_already(sessions: SessionManager[Pizza]) -> None:
    application = build()
    on_text(application, count_up)
    errors = errors_of(application)
    async with serving(application):
        await feed(application, message())
        assert isinstance(errors.pop(), SessionError)
        setup_sessions(application, sessions)
        await feed(application, message())
        assert await sessions.get(1) == Pizza(1)
    assert errors == []
    assert not sessions.storage.is_open


def test_set_up_twice(sessions: SessionManager[Pizza]) -> None:
    application = build()
    setup_sessions(application, sessions)
    with pytest.raises(ValueError, match="'session' are set up already"):
        setup_sessions(application, sessions)


@pytest.mark.parametrize("storage", [CountingStorage(), "sqlite:///bot.db"])
def test_two_managers_with_the_same_keys_in_one_storage(storage: Any) -> None:
    application = build()
    setup_sessions(application, SessionManager(Pizza, storage=storage))
    with pytest.raises(ValueError, match="prefix='cart:'"):
        setup_sessions(application, SessionManager(int, storage=storage, name="cart", get_session_key=per_user))
    setup_sessions(application, SessionManager(int, storage=storage, name="cart", prefix="cart:"))


@pytest.mark.parametrize("name", ["chat_data", "args", "job", "save_session", "update"])
def test_a_name_that_contexts_have_already(name: str) -> None:
    with pytest.raises(ValueError, match=f"something else as '{name}'"):
        setup_sessions(build(), SessionManager(Pizza, storage="memory:", name=name))


async def test_a_context_whose_constructor_has_another_session(
    sessions: SessionManager[Pizza], storage: CountingStorage, caplog: pytest.LogCaptureFixture
) -> None:
    class WithDatabase(CallbackContext[Any, Any, Any, Any]):
        def __init__(self, application: Any, chat_id: int | None = None, user_id: int | None = None) -> None:
            super().__init__(application, chat_id, user_id)
            self.session = object()

    application = build(WithDatabase)
    setup_sessions(application, sessions)
    on_text(application, count_up)
    async with serving(application):
        await feed(application, message())
    assert "WithDatabase has something else under the name of a session" in caplog.text
    assert "name='state_'" in caplog.text
    assert storage.calls == {}


@pytest.mark.parametrize("lazy", [True, False])
def test_a_context_class_for_the_other_way(lazy: bool) -> None:
    with pytest.raises(ValueError, match=f"lazy={lazy}"):
        setup_sessions(build(Context if lazy else LazyContext), SessionManager(Pizza, storage="memory:"), lazy=lazy)


def test_something_that_is_no_application(sessions: SessionManager[Pizza]) -> None:
    with pytest.raises(TypeError, match="build it"):
        setup_sessions(builder(), sessions)  # type: ignore[arg-type]


def test_a_version_that_is_too_old(sessions: SessionManager[Pizza], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telegram, "__version_info__", (21, 11, 1, "final", 0))
    monkeypatch.setattr(telegram, "__version__", "21.11.1")
    with pytest.raises(RuntimeError, match=r"python-telegram-bot 22 or newer, and this is 21\.11\.1"):
        setup_sessions(build(), sessions)


def test_without_python_telegram_bot() -> None:
    script = "import sys; sys.modules['telegram'] = None; import chatsession.integrations.telegram_ext"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert "pip install 'chatsession[telegram-ext]'" in done.stderr


async def test_without_a_context_class_of_ones_own(sessions: SessionManager[Pizza]) -> None:
    application = build(context=None)
    setup_sessions(application, sessions)
    on_text(application, count_up)
    async with serving(application):
        await feed(application, message())
        assert await sessions.get(1) == Pizza(1)
    assert not hasattr(CallbackContext, "session"), "python-telegram-bot's own class is left alone"


async def test_a_context_class_and_an_application_class_of_ones_own(sessions: SessionManager[Pizza]) -> None:
    class Own(SessionMethods, SessionFlavor[Pizza], CallbackContext[ExtBot[None], dict[str, int], Any, Any]):
        fresh = 0

        async def refresh_data(self) -> None:
            self.fresh += 1
            await super().refresh_data()

    class OwnApplication(Application[Any, Own, Any, Any, Any, Any]):
        def __init__(self, *, processed: list[object], **given: Any) -> None:
            super().__init__(**given)
            self.processed = processed

        async def process_update(self, update: object) -> None:
            self.processed.append(update)
            await super().process_update(update)

    processed: list[object] = []
    made = (
        builder(None)
        .context_types(ContextTypes(context=Own))
        .application_class(OwnApplication, {"processed": processed})
    )
    application = made.build()
    setup_sessions(application, sessions)

    async def on_pizza(update: Update, context: Own) -> None:
        assert isinstance(context, Own)
        assert isinstance(context.application, OwnApplication)
        assert context.fresh == 1
        context.session.count += 1
        await context.save_session()

    on_text(application, on_pizza)
    errors = errors_of(application)
    async with serving(application):
        await feed(application, message())
        assert await sessions.get(1) == Pizza(1)
    assert (errors, len(processed)) == ([], 1)
    assert not hasattr(Own, "cart")


async def test_two_applications_of_one_context_class_do_not_share_sessions() -> None:
    one, two = SessionManager(Pizza, storage="memory:"), SessionManager(Pizza, storage="memory:")
    applications = [build(), build()]
    for application, sessions in zip(applications, (one, two), strict=True):
        setup_sessions(application, sessions)
        on_text(application, count_up)
    async with serving(applications[0]), serving(applications[1]):
        await feed(applications[0], message())
        assert (await one.get(1), await two.get(1)) == (Pizza(1), None)


async def test_a_context_that_belongs_to_no_update_has_no_session(sessions: SessionManager[Pizza]) -> None:
    application = build()
    setup_sessions(application, sessions)
    context = application.context_types.context(application)
    with pytest.raises(SessionError):
        _ = context.session
    with pytest.raises(SessionError, match=r"setup_sessions\(\)"):
        await context.save_session()


async def test_beside_a_persistence_of_python_telegram_bot(tmp_path: Path, sessions: SessionManager[Pizza]) -> None:
    """`chat_data` is kept as ever; what is refreshed by the persistence is there when the session is."""

    class Own(PicklePersistence[Any, Any, Any]):
        async def refresh_chat_data(self, chat_id: int, chat_data: dict[str, int]) -> None:
            chat_data["refreshed"] = chat_id

    def with_persistence() -> App:
        keeps = Own(tmp_path / "bot.pickle", store_data=PersistenceInput(bot_data=False))
        application = builder().persistence(keeps).build()
        on_text(application, on_pizza)
        return application

    async def on_pizza(update: Update, context: Context) -> None:
        assert context.chat_data is not None
        assert context.chat_data["refreshed"] == 1
        context.chat_data["count"] = context.chat_data.get("count", 0) + 1
        context.session.count += 1
        if context.session.count == 2:
            raise BurntError

    seen: list[dict[Any, Any]] = []
    for _ in range(2):
        application = with_persistence()
        setup_sessions(application, sessions)
        errors = errors_of(application)
        async with serving(application):
            await feed(application, message())
            seen.append(dict(application.chat_data[1]))
    assert [type(error) for error in errors] == [BurntError]
    assert [data["count"] for data in seen] == [1, 2], "which keeps what a failed handler did"
    async with sessions:
        assert await sessions.get(1) == Pizza(1)


async def test_a_persistence_that_fails_to_refresh_lets_later_groups_have_their_session(
    tmp_path: Path, sessions: SessionManager[Pizza]
) -> None:
    class Broken(PicklePersistence[Any, Any, Any]):
        async def refresh_chat_data(self, chat_id: int, chat_data: dict[str, int]) -> None:
            raise BurntError

    application = builder().persistence(Broken(tmp_path / "bot.pickle")).build()
    setup_sessions(application, sessions)
    on_text(application, count_up)
    on_text(application, count_up, group=1)
    errors = errors_of(application)
    async with serving(application):
        await feed(application, message())
        assert await sessions.get(1) == Pizza(1)
    assert [type(error) for error in errors] == [BurntError]


async def test_an_attribute_may_be_declared_or_not() -> None:
    class Declared(Context):
        cart = SessionAttribute[list[str]]()

    for context in (Context, Declared):
        application = build(context)
        carts = SessionManager(list[str], storage="memory:", name="cart")
        setup_sessions(application, carts)

        async def on_pizza(update: Update, context: Any) -> None:
            context.cart.append("margherita")
            with refused(SessionError):
                _ = context.session

        on_text(application, on_pizza)
        errors = errors_of(application)
        async with serving(application):
            await feed(application, message())
            assert await carts.get(1) == ["margherita"]
        assert errors == []
