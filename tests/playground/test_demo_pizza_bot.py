"""The demo as a newcomer meets it: the README's bot, in processes of its own, sessions in SQLite."""

import asyncio
import os
import pty
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
DEMO = [sys.executable, "-m", "chatsession_playground"]
PIZZA_BOT = "examples/pizza_bot.py"
COLOURS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")


def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("BOT_TOKEN", "NO_COLOR")}
    # The pseudo-terminal does not tell where its cursor is.
    return kept | {"PROMPT_TOOLKIT_NO_CPR": "1", "TERM": "xterm"}


async def demo_without_terminal(script: str) -> tuple[int | None, str]:
    """Its exit code, and what it prints."""
    demo = await asyncio.create_subprocess_exec(
        *DEMO,
        script,
        cwd=ROOT,
        env=environment(),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output = (await demo.communicate())[0].decode()
    return demo.returncode, output


async def test_without_a_terminal_the_scripted_conversation_is_played() -> None:
    code, output = await demo_without_terminal(PIZZA_BOT)
    assert code == 0, output
    lines = output.splitlines()
    # The answers of the last time around: 3, 2 and 4 pizzas, one more after each kill, and those of the second kill.
    assert [line.split("SQLite: ")[1] for line in lines if "SQLite: " in line][-6:] == [
        '{"count":6}',
        '{"count":5}',
        '{"count":7}',
        "nothing",
        '{"count":5}',
        '{"count":7}',
    ]
    assert lines[-1].startswith("✓ All counts are exact")
    assert "\x1b" not in output


async def test_a_bot_that_dies_is_no_riddle(tmp_path: Path) -> None:
    script = tmp_path / "bot.py"
    script.write_text("import no_such_module")
    code, output = await demo_without_terminal(str(script))
    assert code == 1
    assert "bot.py ended by itself with exit code 1" in output
    assert output.endswith("No module named 'no_such_module'\n")


class Typist:
    """Somebody at a terminal."""

    def __init__(self, terminal: int) -> None:
        self._terminal = terminal
        self._seen = bytearray()
        self._more = asyncio.Event()
        asyncio.get_running_loop().add_reader(terminal, self._read)

    def type(self, text: str) -> None:
        os.write(self._terminal, text.encode())

    async def see(self, words: str) -> None:
        """Wait until the words are on the screen, below what was seen before."""
        try:
            async with asyncio.timeout(120):
                while words not in (screen := COLOURS.sub("", self._seen.decode(errors="ignore"))):
                    self._more.clear()
                    await self._more.wait()
        except TimeoutError:
            raise AssertionError(f"{words!r} is not on the screen:\n{self._seen.decode()}") from None
        self._seen = bytearray(screen.partition(words)[2].encode())

    def leave(self) -> None:
        asyncio.get_running_loop().remove_reader(self._terminal)
        os.close(self._terminal)

    def _read(self) -> None:
        try:
            self._seen += os.read(self._terminal, 64 * 1024)
        except OSError:  # Linux's way of saying that the other side has closed
            asyncio.get_running_loop().remove_reader(self._terminal)
        self._more.set()


@asynccontextmanager
async def demo_in_terminal() -> AsyncIterator[tuple[Typist, asyncio.subprocess.Process]]:
    terminal, its_end = pty.openpty()
    demo = await asyncio.create_subprocess_exec(
        *DEMO, PIZZA_BOT, cwd=ROOT, env=environment(), stdin=its_end, stdout=its_end, stderr=its_end
    )
    os.close(its_end)
    typist = Typist(terminal)
    try:
        yield typist, demo
    finally:
        typist.leave()
        if demo.returncode is None:
            demo.kill()
        await demo.wait()


async def test_in_a_terminal_one_chats_as_several_users_and_kills_the_bot() -> None:
    async with demo_in_terminal() as (typist, demo):
        await typist.see("Order a pizza!")
        typist.type("🍕\n")
        await typist.see("bot → Ann  Pizza number 1 for this chat!")
        await typist.see("Look into its file from another terminal: ")
        await typist.see("sqlite:////")
        await typist.see('SQLite, key 1001: {"count":1}')

        typist.type("/as 日本\n")
        await typist.see("日本>")
        typist.type("🍕 please\n")
        await typist.see("bot → 日本  Pizza number 1 for this chat!")
        await typist.see('SQLite, key 1004: {"count":1}')
        typist.type("/again\n")
        await typist.see("was delivered again: recognised, not counted.")

        typist.type("/kill\n")
        await typist.see("Killed; back as process ")
        typist.type("🍕\n")
        await typist.see("bot → 日本  Pizza number 2 for this chat!")
        await typist.see('SQLite, key 1004: {"count":2}')

        typist.type("/as ANN\n/reset\n")
        await typist.see("bot → Ann  Forgotten.")
        await typist.see("SQLite, key 1001: nothing")

        typist.type("/as\n")
        await typist.see("/as needs a name")
        typist.type("/hepl\x1b[D\x1b[Dlp\x1b[3~\x1b[3~\n")  # with the keys ← and Del
        await typist.see("/quit")
        await typist.see("Ann>")  # what is typed before the prompt is back, the terminal itself takes for its end
        typist.type("\x04")
        await typist.see("Bye!")
        assert await demo.wait() == 0
