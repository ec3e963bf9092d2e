"""What a `PicklePersistence` has becomes what `setup_persistence` keeps: by its own pickles, made by an application."""

from __future__ import annotations

import pickle
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from telegram.ext import Application, CommandHandler, ConversationHandler, PicklePersistence

from chatsession import MemoryStorage
from chatsession.errors import SessionError
from chatsession.importers.ptb_persistence import import_pickle
from chatsession.integrations.telegram_ext import setup_persistence

CALLBACK_DATA = ([("u" * 32, 1.5, {"b" * 32: {"pizza": 1}})], {"query": "u" * 32})


async def pickled(path: Path, *, single_file: bool = True) -> None:
    """What a bot has stored when it stopped."""
    persistence = PicklePersistence(path, single_file=single_file)
    await persistence.update_user_data(1, {"name": "Ann"})
    await persistence.update_user_data(2, {})
    await persistence.update_chat_data(1, {"count": 3})
    await persistence.update_chat_data(-100, {"count": 4})
    await persistence.update_bot_data({"orders": 7})
    for key, state in (((1, 1), 0), ((-100, 1), "age"), ((-100, 2), 1)):
        await persistence.update_conversation("interview", key, state)
    await persistence.update_conversation("group", (-100,), 5)
    await persistence.update_conversation("gone", (1, 1), 1)
    await persistence.update_callback_data(CALLBACK_DATA)
    await persistence.flush()


def bot(storage: MemoryStorage, **options: Any) -> Any:
    application = Application.builder().token("42:x").updater(None).build()
    setup_persistence(application, storage, **options)
    entry = CommandHandler("start", print)  # type: ignore[arg-type]
    application.add_handler(ConversationHandler([entry], {}, [], name="interview", persistent=True))
    application.add_handler(ConversationHandler([entry], {}, [], name="group", persistent=True, per_user=False))
    return application


async def stored(storage: MemoryStorage) -> dict[str, Any]:
    page = await storage.scan("ptb:", None, 1000)
    return {key.removeprefix("ptb:"): msgspec.json.decode(record.value) for key, record in page.entries}


@pytest.mark.parametrize("single_file", [True, False])
async def test_all_that_was_kept_comes_along(tmp_path: Path, single_file: bool) -> None:
    await pickled(tmp_path / "bot", single_file=single_file)
    storage = MemoryStorage()
    application = bot(storage)
    tried = await import_pickle(application, tmp_path / "bot", dry_run=True)
    assert await stored(storage) == {}
    report = await import_pickle(application, tmp_path / "bot")
    assert tried == report
    assert (report.seen, report.imported, report.failures) == (5, 5, [])
    assert dict(report.left_behind) == {"states of the conversation 'gone', which the application does not have": 1}
    assert await stored(storage) == {
        "id:1": {
            "user_data": {"name": "Ann"},
            "chat_data": {"count": 3},
            "conversations": {"interview": {"[1,1]": 0, "[-100,1]": "age"}},
        },
        "id:2": {"conversations": {"interview": {"[-100,2]": 1}}},
        "id:-100": {"chat_data": {"count": 4}, "conversations": {"group": {"[-100]": 5}}},
        "bot:data": {"orders": 7},
        "keyboard:" + "u" * 32: {"sent_at": 1.5, "buttons": {"b" * 32: {"pizza": 1}}},
    }


async def test_what_is_there_already_is_kept(tmp_path: Path) -> None:
    await pickled(tmp_path / "bot")
    storage = MemoryStorage()
    application = bot(storage)
    async with application.persistence as persistence:
        await persistence.update_user_data(1, {"name": "Anna"})
        await import_pickle(application, tmp_path / "bot")
        report = await import_pickle(application, tmp_path / "bot")
        assert (report.imported, report.existing) == (0, 5)
        assert (await persistence.get_user_data())[1] == {"name": "Anna"}
        await import_pickle(application, tmp_path / "bot", on_existing="replace")
        assert (await persistence.get_user_data())[1] == {"name": "Ann"}


async def test_what_json_cannot_hold_is_named(tmp_path: Path) -> None:
    data = {1: {"when": datetime(2026, 1, 1)}, 2: {5: "x"}, 3: {"fine": 1}, "4": {"x": 1}}
    conversations = {"interview": {(3, 3): (1, 2)}}
    file = tmp_path / "bot"
    file.write_bytes(pickle.dumps({"user_data": data, "conversations": conversations}))
    storage = MemoryStorage()
    report = await import_pickle(bot(storage), file)
    assert list(await stored(storage)) == ["id:3"]
    assert [origin for origin, _ in report.failures] == ["id 1", "id 2", "id 4"]
    assert "user_data: a int as a key of the dict at `$`" in dict(report.failures)["id 2"]
    assert list(report.left_behind) == ["states of the conversation 'interview' that are neither str nor int"]


async def test_a_file_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "bot").write_bytes(b"\x80\x04cut")
    with pytest.raises(SessionError, match="is the bot still running"):
        await import_pickle(bot(MemoryStorage()), tmp_path / "bot")
    with pytest.raises(SessionError, match="cannot be read"):
        await import_pickle(bot(MemoryStorage()), tmp_path / "nothing")


async def test_an_application_without_persistence(tmp_path: Path) -> None:
    application: Any = Application.builder().token("42:x").updater(None).build()
    with pytest.raises(ValueError, match="setup_persistence"):
        await import_pickle(application, tmp_path / "bot")


async def test_several_bots_in_one_storage(tmp_path: Path) -> None:
    await pickled(tmp_path / "bot")
    storage = MemoryStorage()
    await import_pickle(bot(storage, per_bot=True), tmp_path / "bot")
    assert set(await stored(storage)) >= {"id:42:1", "id:42:-100", "bot:42:data"}
