"""A script in a process of its own: started, killed, started again, and found dead."""

import asyncio
import sys
from pathlib import Path

import pytest

from chatsession_playground._bot_process import BotDiedError, BotProcess
from chatsession_playground.bot_api import BotApiServer

EXAMPLES = Path(__file__).parents[2] / "examples"

BOT = """
import asyncio, os, sys
from pathlib import Path

import answers
from aiogram import Bot, Dispatcher
from aiogram.types import Message

dispatcher = Dispatcher()


@dispatcher.message()
async def on_message(message: Message):
    if message.text == "leave":
        print("I have had enough")
        os._exit(3)
    Path("memory.txt").open("a").write(message.text)
    await message.answer(answers.answer(Path("memory.txt").read_text()))


if __name__ == "__main__":
    print("arguments:", sys.argv)
    asyncio.run(dispatcher.start_polling(Bot(os.environ["BOT_TOKEN"])))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "work").mkdir()
    return tmp_path / "work"


async def test_a_script_runs_unchanged_until_it_is_killed(api: BotApiServer, tmp_path: Path, folder: Path) -> None:
    script = tmp_path / "bot.py"
    script.write_text(BOT)
    (tmp_path / "answers.py").write_text("answer = 'all: {}'.format")
    printed: list[str] = []
    ann = api.private_chat(1)

    process = BotProcess(script, url=api.url, token=api.token, folder=folder, on_output=printed.append)
    async with process as bot:
        with pytest.raises(RuntimeError, match="was not started"):
            _ = bot.pid
        await bot.start()
        first = bot.pid
        ann.send("a")
        assert (await bot.while_alive(ann.receive(timeout=120))).text == "all: a"
        assert printed == bot.last_lines == [f"arguments: ['{script}']"]

        await bot.kill()
        ann.send("b")  # while nobody is there
        await bot.start()
        assert bot.pid != first
        assert (await bot.while_alive(ann.receive(timeout=120))).text == "all: ab"

        ann.send("leave")
        with pytest.raises(BotDiedError, match=r"(?s)bot.py ended by itself with exit code 3:.*had enough"):
            await bot.while_alive(ann.receive(timeout=120))
    assert (folder / "memory.txt").read_text() == "ab"


async def test_the_bot_leaves_with_whoever_started_it(api: BotApiServer, tmp_path: Path) -> None:
    """Also when they are killed: then nothing but their end of the pipe tells."""
    script = tmp_path / "bot.py"
    script.write_text("import time\nprint('here', flush=True)\ntime.sleep(600)")
    process = await asyncio.create_subprocess_exec(
        *[sys.executable, "-m", "chatsession_playground._loopback", api.url, str(script)],
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b"\n")
    assert await process.stdout.readline() == b"here\n"
    process.stdin.close()
    assert await process.wait() == 1


@pytest.mark.parametrize(
    "script", ["pizza_bot_ptb.py", "pizza_bot_telebot.py", "pizza_bot_telebot_threads.py", "webhook_bot.py"]
)
async def test_bots_of_every_framework_are_redirected(api: BotApiServer, folder: Path, script: str) -> None:
    ann = api.private_chat(1)
    async with BotProcess(EXAMPLES / script, url=api.url, token=api.token, folder=folder) as bot:
        await bot.start()
        for number in (1, 2):
            ann.send("🍕")
            answer = await bot.while_alive(ann.receive(timeout=120))
            assert answer.text == f"Pizza number {number} for this chat!"


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("import telethon", "Telethon speaks MTProto"),
        ("import pyrogram", "Pyrogram speaks MTProto"),
        (
            "from urllib.request import urlopen\nurlopen('https://api.telegram.org/bot1:a/getMe')",
            "lets no bot contact api.telegram.org",
        ),
        (
            "import asyncio, os, aiogram\n"
            "bot = aiogram.Bot(os.environ['BOT_TOKEN'])\n"
            "asyncio.run(bot.set_webhook('https://bots.example/a'))",
            "delivers to this machine only",
        ),
    ],
)
async def test_what_cannot_be_redirected_is_refused_by_name(
    api: BotApiServer, tmp_path: Path, folder: Path, script: str, words: str
) -> None:
    (tmp_path / "bot.py").write_text(script)
    async with BotProcess(tmp_path / "bot.py", url=api.url, token=api.token, folder=folder) as bot:
        await bot.start()
        with pytest.raises(BotDiedError, match=words):
            await bot.while_alive(asyncio.Event().wait())
