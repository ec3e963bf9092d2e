"""The demo: a bot's script, unchanged, against a Bot API server on 127.0.0.1.

`python -m chatsession_playground examples/pizza_bot.py`
"""

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from ._extra import require
from ._loopback import run_as_main
from ._style import Style


def main(arguments: Sequence[str] | None = None, *, program: str = "python -m chatsession_playground") -> int:
    """Run the demo.

    In a terminal, one chats with the bot. Without one, a scripted conversation is played and checked. With
    `BOT_TOKEN` set, the script runs on Telegram itself.

    Args:
        arguments: of the command line; by default those of this process.
        program: what the user typed before them.

    Returns:
        The exit code: 0, or 1 if a count was wrong or the bot died.
    """
    parser = argparse.ArgumentParser(
        prog=program,
        description="Runs a bot's script against a Bot API server on 127.0.0.1; with BOT_TOKEN set, on Telegram.",
    )
    parser.add_argument("script", type=Path, help="such as examples/pizza_bot.py")
    script: Path = parser.parse_args(arguments).script
    if not script.is_file():
        parser.error(f"there is no file {script}")
    try:
        require("aiohttp", "prompt_toolkit")
    except ImportError as missing:
        return _fail(str(missing))
    style = Style.of(sys.stdout)
    in_terminal = sys.stdin.isatty() and sys.stdout.isatty()
    try:
        if os.environ.get("BOT_TOKEN"):
            _say(f"BOT_TOKEN is set: {style.bold(script.name)} runs on Telegram itself. Ctrl-C ends it.")
            run_as_main(script.resolve())
            return 0
        return asyncio.run(_chat(script, style) if in_terminal else _play(script, style))
    except KeyboardInterrupt:
        return 130


async def _chat(script: Path, style: Style) -> int:
    from ._bot_process import BotDiedError
    from ._chat_room import ChatRoom
    from ._playground import Playground
    from ._stage import stage
    from .page import PlaygroundPage

    async with stage(script, on_output=lambda line: room.show_output(line)) as on:
        playground = Playground(on)
        room = ChatRoom(playground, style)
        async with PlaygroundPage(playground) as page:
            _introduce(script, on.api.url, style)
            _say(f"   Chat here, or in the browser at {style.bold(page.url)}")
            tasks = [asyncio.create_task(playground.run()), asyncio.create_task(room.talk())]
            try:
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
            except (BotDiedError, TimeoutError) as error:
                return _fail(f"\n{error}")
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)
    _say("\nBye! The bot is gone, and its sessions with it.")
    return 0


async def _play(script: Path, style: Style) -> int:
    from ._bot_process import BotDiedError
    from ._conversation import Conversation, WrongCountError
    from ._stage import stage

    async with stage(script) as on:
        _introduce(script, on.api.url, style)
        try:
            await Conversation(on, style, _say).play()
        except (BotDiedError, TimeoutError) as error:
            return _fail(str(error))
        except WrongCountError as error:
            return _fail(f"✗ {error}", *on.bot.last_lines)
    return 0


def _introduce(script: Path, url: str, style: Style) -> None:
    _say(f"🍕 {style.bold(script.name)}, unchanged, takes {url} for Telegram, and stores its sessions in SQLite.")


def _say(text: str) -> None:
    print(text, flush=True)


def _fail(*lines: str) -> int:
    print(*lines, sep="\n", file=sys.stderr, flush=True)
    return 1
