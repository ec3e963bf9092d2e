"""What the type checker, at its strictest, makes of users' code: what is right passes, and each mistake is refused."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest

import chatsession
import chatsession.sync
from chatsession.integrations import aiogram, pyrogram, telebot, telegram_ext, telethon

HERE = Path(__file__).parent
MODULES = (chatsession, chatsession.sync, aiogram, pyrogram, telebot, telegram_ext, telethon)
ROOT = HERE.parent.parent
USAGE = (HERE / "usage.py", HERE / "usage_sync.py")
MISTAKES = sorted((HERE / "mistakes").glob("*.py"))


def pyright(*arguments: str | Path, **environment: str) -> dict[str, Any]:
    """Run pyright with the project's own settings."""
    done = subprocess.run(
        [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, "--outputjson", *arguments],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode in (0, 1), done.stderr
    return json.loads(done.stdout[done.stdout.index("{") :])


@pytest.fixture(scope="module")
def complaints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[int]]:
    """The lines with errors, by the name of the file."""
    # A copy, because the settings exclude the original, or `pyright` would complain of it whenever it is run.
    folder = tmp_path_factory.mktemp("typing")
    mistakes = [Path(shutil.copy(each, folder)) for each in MISTAKES]
    lines: dict[str, set[int]] = {each.name: set() for each in (*USAGE, *MISTAKES)}
    for complaint in pyright(*USAGE, *mistakes)["generalDiagnostics"]:
        lines[Path(complaint["file"]).name].add(complaint["range"]["start"]["line"] + 1)
    return lines


@pytest.mark.parametrize("usage", USAGE, ids=lambda path: path.stem)
def test_right_code_passes(complaints: dict[str, set[int]], usage: Path) -> None:
    assert complaints[usage.name] == set()


@pytest.mark.parametrize("mistakes", MISTAKES, ids=lambda path: path.stem)
def test_each_mistake_is_refused_and_nothing_else(complaints: dict[str, set[int]], mistakes: Path) -> None:
    lines = mistakes.read_text().splitlines()
    marked = {number for number, line in enumerate(lines, 1) if line.endswith("# error")}
    assert len(marked) > 10
    assert complaints[mistakes.name] == marked


def test_mypy_infers_the_same_types(tmp_path: Path) -> None:
    mypy = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path), str(HERE / "usage_sync.py")]
    done = subprocess.run(mypy, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_every_public_name_has_a_known_type() -> None:
    # The package's own folder, because pyright does not look for packages to verify where an editable install points.
    paths = os.pathsep.join((str(ROOT / "src"), sysconfig.get_path("purelib")))
    symbols = pyright("--verifytypes", "chatsession", "--ignoreexternal", PYTHONPATH=paths)["typeCompleteness"][
        "symbols"
    ]
    public = [f"{module.__name__}.{name}" for module in MODULES for name in module.__all__]
    known = {symbol["name"]: symbol["isTypeKnown"] for symbol in symbols if symbol["name"] in public}
    assert known == dict.fromkeys(public, True)
    assert [symbol["name"] for symbol in symbols if not (symbol["isTypeKnown"] or symbol["isTypeAmbiguous"])] == []
