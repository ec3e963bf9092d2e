"""Every Python snippet of README.md and docs runs, and so does every example of a docstring."""

from __future__ import annotations

import doctest
import importlib
import json
import os
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import chatsession

ROOT = Path(__file__).parents[1]
PAGES = [page for page in (ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))) if "```python" in page.read_text()]
SNIPPET = re.compile(r"^(?P<indent> *)```python[^\n]*\n(?P<code>.*?)^(?P=indent)```", re.MULTILINE | re.DOTALL)

PYROGRAM = "ignore:There is no current event loop:DeprecationWarning:pyrogram.utils"
"""Pyrogram when it is imported, in Python 3.12 and 3.13."""

# Snippets of one page share their names, as a reader's session would; `await` may stand outside of functions. The
# name of the module is not "__main__", so that bots are made but not started.
RUN = r"""
import ast, asyncio, inspect, json, sys, types
page = types.ModuleType("page")
sys.modules["page"] = sys.modules["bot"] = page  # as a reader's bot.py
for line, code in json.load(sys.stdin):
    compiled = compile("\n" * line + code, sys.argv[1], "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    if compiled.co_flags & inspect.CO_COROUTINE:
        asyncio.run(eval(compiled, vars(page)))
    else:
        exec(compiled, vars(page))
"""


def snippets(page: Path) -> list[tuple[int, str]]:
    """The line before which each one stands, and its code."""
    text = page.read_text()
    found: list[tuple[int, str]] = []
    for match in SNIPPET.finditer(text):
        indent = len(match["indent"])
        code = "".join(line[indent:] or "\n" for line in match["code"].splitlines(keepends=True))
        found.append((text.count("\n", 0, match.start("code")), code))
    return found


def modules() -> list[str]:
    found = pkgutil.walk_packages(chatsession.__path__, "chatsession.")
    return ["chatsession", *(module.name for module in found if not module.name.endswith("__main__"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_snippets_of_a_page_run_in_their_order(page: Path, tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-W", PYROGRAM, "-c", RUN, page],
        input=json.dumps(snippets(page)),
        cwd=tmp_path,
        env=os.environ | {"BOT_TOKEN": "42:TOKEN", "API_ID": "42", "API_HASH": "hash"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr


def test_the_readme_has_snippets() -> None:
    assert snippets(ROOT / "README.md")


@pytest.mark.parametrize("name", modules())
def test_the_examples_of_a_module_give_what_they_say(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(name)
    told: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    for test in doctest.DocTestFinder(exclude_empty=True).find(module, name):
        runner.run(test, out=told.append)
    assert not runner.failures, "".join(told)
