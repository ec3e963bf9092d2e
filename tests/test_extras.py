"""The wheel holds the library only, and each extra brings all that its part of the library imports."""

from __future__ import annotations

import json
import os
import re
import runpy
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import chatsession
from built_once import built_once

ROOT = Path(__file__).parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS: dict[str, list[str]] = PROJECT["project"]["optional-dependencies"]

# The checkout must not be importable in the environments under test.
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}

COUNTER = """
import asyncio, sys
from chatsession import SessionManager

async def count(**options):
    async with SessionManager(int, storage=sys.argv[1], **options) as sessions:
        await sessions.update("42", lambda count: count + 1)
        return await sessions.update("42", lambda count: count + 1)
"""
COUNT = f"{COUNTER}\nassert asyncio.run(count()) == 2"
SETUP = """
import asyncio
from chatsession import SessionManager
sessions = SessionManager(int, storage="memory:")
"""

INSPECT = """
import asyncio, sys
from urllib.request import urlopen
from chatsession import open_storage
from chatsession.web import inspecting

async def main():
    async with inspecting(open_storage(sys.argv[1])) as inspector:
        with await asyncio.to_thread(urlopen, inspector.invite()) as page:
            assert b"<html" in page.read()

asyncio.run(main())
"""

USES = {
    "aiogram": f"""{SETUP}
from aiogram import Dispatcher
from chatsession.integrations.aiogram import setup_sessions
setup_sessions(Dispatcher(), sessions)
""",
    "telegram-ext": f"""{SETUP}
from telegram.ext import Application
from chatsession.integrations.telegram_ext import setup_sessions
setup_sessions(Application.builder().token("42:TOKEN").build(), sessions)
""",
    "telebot": f"""{SETUP}
from telebot.async_telebot import AsyncTeleBot
from chatsession.integrations.telebot import setup_sessions
setup_sessions(AsyncTeleBot("42:TOKEN"), sessions)
""",
    "telethon": f"""{SETUP}
from telethon import TelegramClient
from telethon.sessions import MemorySession
from chatsession.integrations.telethon import setup_sessions

async def main():
    setup_sessions(TelegramClient(MemorySession(), 1, "hash"), sessions)

asyncio.run(main())
""",
    "pyrogram": f"""{SETUP}
async def main():
    from pyrogram import Client
    from chatsession.integrations.pyrogram import setup_sessions
    setup_sessions(Client("bot", 1, "hash", in_memory=True), sessions)

asyncio.run(main())
""",
    "redis": f"{COUNT}\nimport chatsession.importers.aiogram_fsm",
    "postgres": COUNT,
    "nats": f"{COUNT}\nimport nkeys",
    "mongo": f"{COUNT}\nimport chatsession.importers.aiogram_mongo",
    "encryption": f"""{COUNTER}
from chatsession import generate_encryption_key
assert asyncio.run(count(encryption_keys=[generate_encryption_key()])) == 2
""",
    "compression": f"{COUNTER}\nassert asyncio.run(count(compression=0)) == 2",
    "otel": f"""{COUNTER}
from chatsession.telemetry import OpenTelemetry
assert asyncio.run(count(observe=OpenTelemetry())) == 2
""",
    "testing": """
import chatsession.testing.bots
from chatsession.testing.integrations import IntegrationConformance
from chatsession.testing.storages import StorageConformance
""",
}
"""A program for each extra; its argument is the URL of a storage. `cli` and `web` have tests of their own."""

NEEDED = {
    "chatsession.integrations.aiogram": "aiogram",
    "chatsession.integrations.pyrogram": "pyrogram",
    "chatsession.integrations.telebot": "telebot",
    "chatsession.integrations.telegram_ext": "telegram-ext",
    "chatsession.integrations.telethon": "telethon",
    "chatsession.storages.mongo": "mongo",
    "chatsession.storages.nats": "nats",
    "chatsession.storages.postgres": "postgres",
    "chatsession.storages.redis": "redis",
    "chatsession.importers.aiogram_fsm": "redis",
    "chatsession.importers.aiogram_mongo": "mongo",
    "chatsession.importers.ptb_persistence": "telegram-ext",
    "chatsession.telemetry": "otel",
    "chatsession.testing.bots": "testing",
    "chatsession.testing.integrations": "testing",
    "chatsession.testing.storages": "testing",
    "chatsession.web": "web",
}
"""Which extra a module asks for."""

MESSAGES = """
import json, sys
from importlib import import_module
from chatsession import SessionManager, generate_encryption_key

def message(use):
    try:
        use()
    except ImportError as error:
        return str(error)

messages = {name: message(lambda: import_module(name)) for name in sys.argv[1:]}
messages["encryption"] = message(
    lambda: SessionManager(int, storage="memory:", encryption_keys=[generate_encryption_key()])
)
messages["compression"] = message(lambda: SessionManager(int, storage="memory:", compression=0))
print(json.dumps(messages))
"""


class Built(NamedTuple):
    wheel: Path
    sdist: Path


class Installed(NamedTuple):
    """A virtual environment that holds the wheel and what it depends on."""

    folder: Path

    def run(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a program of this environment in an empty folder."""
        home = self.folder.parent / "home"
        home.mkdir(exist_ok=True)
        command = [str(self.folder / "bin" / program), *arguments]
        return subprocess.run(command, cwd=home, env=ENVIRONMENT, capture_output=True, text=True, check=False)

    def python(self, script: str, *arguments: str) -> str:
        """Run a script; returns what it printed."""
        done = self.run("python", "-c", script, *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout


Install = Callable[[str], Installed]


def environment_with(folder: Path, *requirements: str) -> Installed:
    """Make a virtual environment; the pip of this one fills it, which is faster than to install another pip."""
    venv.create(folder, with_pip=False, symlinks=True)
    pip = [sys.executable, "-m", "pip", "--python", str(folder), "install", "--quiet", "--no-compile"]
    done = subprocess.run([*pip, *requirements], env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return Installed(folder)


def build(folder: Path) -> None:
    """Build the wheel and the sdist as pyproject.toml says."""
    builder = environment_with(folder / "builder", *PROJECT["build-system"]["requires"])
    command = [str(builder.folder / "bin" / "python"), "-m", "hatchling", "build", "--directory", str(folder / "dist")]
    done = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Built:
    """What `pip` and packagers get, built once for all workers."""
    folder = built_once(tmp_path_factory, worker_id, "built", build, "dist")
    (wheel,) = (folder / "dist").glob("*.whl")
    (sdist,) = (folder / "dist").glob("*.tar.gz")
    return Built(wheel, sdist)


@pytest.fixture
def install(built: Built, tmp_path: Path) -> Install:
    """Installs the wheel with one extra, or with none, and nothing else."""

    def installed(extra: str) -> Installed:
        requirement = f"chatsession[{extra}] @ {built.wheel.as_uri()}" if extra else str(built.wheel)
        return environment_with(tmp_path / "venv", requirement)

    return installed


@pytest.fixture
def url_for(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], str]:
    """The URL of a storage that an extra is tried with: a server's for the extra of its driver."""

    def url(extra: str) -> str:
        if extra in ("redis", "postgres", "nats", "mongo"):
            return request.getfixturevalue(f"{extra}_server").url
        return f"sqlite:///{tmp_path}/bot.db"

    return url


def test_the_wheel_holds_only_the_library(built: Built) -> None:
    with zipfile.ZipFile(built.wheel) as wheel:
        names = [Path(name) for name in wheel.namelist()]
    assert {name.parts[0].partition("-")[0] for name in names} == {"chatsession"}
    assert {"__init__.py", "py.typed"} <= {name.name for name in names if len(name.parts) == 2}
    unwanted = {"playground", "servers", "histories", "tools", "torture", "soak", "fuzz", "benchmarks", "tests"}
    assert [name for name in names if unwanted & {part.removesuffix(".py") for part in name.parts}] == []


def test_the_sdist_can_be_tested_and_stays_below_1_mb(built: Built) -> None:
    assert built.sdist.stat().st_size < 1_000_000
    with tarfile.open(built.sdist) as sdist:
        top = {name.split("/")[1] for name in sdist.getnames()}
    assert {"pyproject.toml", "src", "tests", "tools", "playground"} <= top


def test_a_package_index_shows_the_readme_without_dead_links(built: Built) -> None:
    with zipfile.ZipFile(built.wheel) as wheel:
        (name,) = (name for name in wheel.namelist() if name.endswith("/METADATA"))
        shown = wheel.read(name).decode()
    assert "Sessions for Telegram bots" in shown
    assert re.findall(r"\]\((?!https?:|#)[^)]*\)", shown) == []


def test_one_address_gives_all_links_of_a_package() -> None:
    given = runpy.run_path(str(ROOT / "hatch_build.py"), run_name="__main__")
    repository = "https://git.example/chatsession"
    readme = given["readme_for_an_index"]("See [keys](docs/keys.md#a), [it](https://x.example).", repository)
    assert readme == f"See [keys]({repository}/blob/main/docs/keys.md#a), [it](https://x.example)."
    assert given["urls"](repository, "https://docs.example") == {
        "Documentation": "https://docs.example",
        "Repository": repository,
        "Changelog": f"{repository}/blob/main/CHANGELOG.md",
        "Issues": f"{repository}/issues",
    }
    assert given["urls"]("", "") == {}


def test_every_extra_is_tried() -> None:
    assert {*USES, "cli", "web"} == EXTRAS.keys()


@pytest.mark.parametrize("extra", USES)
def test_an_extra_alone_is_enough(extra: str, install: Install, url_for: Callable[[str], str]) -> None:
    url = url_for(extra)
    install(extra).python(USES[extra], url)


def test_without_extras_sqlite_works_and_others_are_named(install: Install, url_for: Callable[[str], str]) -> None:
    installed = install("")
    installed.python(COUNT, url_for(""))

    messages = json.loads(installed.python(MESSAGES, *NEEDED))
    expected = NEEDED | {"encryption": "encryption", "compression": "compression"}
    for name, extra in expected.items():
        assert f"pip install 'chatsession[{extra}]'" in (messages[name] or ""), (name, messages[name])

    done = installed.run("chatsession", "--help")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "the command line needs typer and rich: pip install 'chatsession[cli]'\n"


def test_the_command_line_needs_only_its_own_extra(install: Install, url_for: Callable[[str], str]) -> None:
    installed = install("cli")
    url = url_for("cli")

    def output(*arguments: str) -> str:
        done = installed.run("chatsession", *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "doctor" in output("--help")
    assert output("--version").strip() == chatsession.__version__
    output("set", url, "42", '{"count":1}')
    assert "42" in output("ls", url)
    assert json.loads(output("get", url, "42")) == {"count": 1}
    for command in ("stats", "check", "doctor", "export"):
        output(command, url)

    asked = {
        "web": ["web", url],
        "redis": ["ls", "redis://127.0.0.1"],
        "postgres": ["ls", "postgresql://127.0.0.1/bot"],
        "nats": ["ls", "nats://127.0.0.1"],
        "mongo": ["ls", "mongodb://127.0.0.1/bot"],
    }
    for extra, arguments in asked.items():
        done = installed.run("chatsession", *arguments)
        assert done.returncode == 2, done.stderr
        assert f"pip install 'chatsession[{extra}]'" in done.stderr
        assert "Traceback" not in done.stderr


def test_the_inspector_brings_the_command_line(install: Install, url_for: Callable[[str], str]) -> None:
    installed = install("web")
    installed.python(INSPECT, url_for("web"))
    done = installed.run("chatsession", "web", "--help")
    assert done.returncode == 0, done.stderr
    assert "--read-only" in done.stdout
