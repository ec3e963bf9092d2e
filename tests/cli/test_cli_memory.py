"""Commands on all sessions hold a page of them, however many there are."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from cli_aids import Shell

MOST = 100_000
"""kB; the program itself takes less than a half of it, and the sessions 120 MB."""

RUN = """
import re, sys
from chatsession.cli import main
code = main()
print(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1], file=sys.stderr)
sys.exit(code)
"""


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    shell = Shell(f"sqlite:///{tmp_path_factory.mktemp('many')}/bot.db")
    shell.put({f"chat:{number}": b'{"text":"' + b"x" * 20_000 + b'"}' for number in range(6000)})
    return shell


@pytest.mark.parametrize("command", ["ls", "stats", "export", "check", "copy"])
def test_memory_is_flat(many: Shell, command: str, tmp_path: Path) -> None:
    more = {"ls": ["--limit", "0"], "copy": [f"sqlite:///{tmp_path}/copy.db"]}.get(command, [])
    words = [sys.executable, "-c", RUN, command, many.url, *more]
    done = subprocess.run(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 0, done.stderr
    assert 0 < int(done.stderr.split()[-1]) < MOST
