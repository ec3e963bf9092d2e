"""python-telegram-bot's own tests of conversations, on our persistence.

Its tests of persistence itself count the calls that a flush makes (`update_user_data` and the like), of which there
are none here. What they say about behaviour is in `tests/integrations/test_ptb_persistence.py` and its neighbours:
dropping, migrating, refreshing, `store_data`, conversations that are nested, time out, end or run in the background.
"""

from __future__ import annotations

from pathlib import Path

from sdist import passed, unpacked

WITH_OURS = """
from itertools import count

from chatsession import MemoryStorage
from chatsession.integrations.telegram_ext import setup_persistence
from chatsession.integrations.telegram_ext._ids import ids_of_update
from chatsession.integrations.telegram_ext._scope import Scope, running
from telegram.ext import ApplicationBuilder, ConversationHandler

build, made, check = ApplicationBuilder.build, ConversationHandler.__init__, ConversationHandler.check_update
numbers, latest = count(), []


def build_persistent(self):
    application = build(self)
    setup_persistence(application, MemoryStorage())
    latest[:] = [application]
    return application


def make_persistent(self, *given, **options):
    if options.get("name") is None:
        options["name"] = f"conversation {next(numbers)}"
    made(self, *given, **options | {"persistent": True})


def check_in_update(self, update):
    # The tests ask for a state between updates; memory answers without waiting.
    if running.get() is not None or not hasattr(self._conversations, "put_into"):
        return check(self, update)

    async def asked():
        async with Scope(latest[0].served, ids_of_update(update, 1)) as work:
            await work.load_data()
            return check(self, update)

    try:
        asked().send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("memory has waited")


ApplicationBuilder.build = build_persistent
ConversationHandler.__init__ = make_persistent
ConversationHandler.check_update = check_in_update
"""

WITHOUT_PYTZ = """
import sys, types, zoneinfo

pytz = types.ModuleType("pytz")
pytz.timezone = zoneinfo.ZoneInfo
sys.modules.setdefault("pytz", pytz)
"""

NOT_RUN = {
    # What this harness changes.
    "test_init",
    "test_init_persistent_no_name",
    # They look for the folder in which python-telegram-bot lies, or for Telegram's server.
    "test_handlers_generate_warning",
    "test_unknown_state_warning",
    "test_no_running_job_queue_warning",
    "test_schedule_job_exception",
    # Different on purpose: nothing of a failed update is left, and the next update waits.
    "test_non_blocking_exception_or_none",
    "test_non_blocking_entry_point_exception",
    "test_waiting_state",
}


def test_python_telegram_bots_tests_of_conversations(tmp_path: Path) -> None:
    root = unpacked("python-telegram-bot", tmp_path, "tests")
    conftest = WITHOUT_PYTZ + (root / "tests/conftest.py").read_text() + WITH_OURS
    left_out = " and ".join(f"not {name}" for name in sorted(NOT_RUN))
    options = ["-o", "asyncio_default_fixture_loop_scope=session", "-o", "asyncio_default_test_loop_scope=session"]
    options += ["-o", "markers=flaky", "-k", f"{left_out} and not timeout"]  # those sleep for a minute in all
    assert passed(root, conftest, *options, str(root / "tests/ext/test_conversationhandler.py")) > 60
