"""Bots written with grammY, in a Node.js process of their own."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chatsession.storages import Storage, open_storage

HERE = Path(__file__).parent


class GrammyFailedError(Exception):
    """A handler or a storage of grammY's raised something."""


class GrammyBots:
    """A Node.js process with all grammY bots of one storage.

    Args:
        place: what `bots.mjs` wants to know of the storage.
    """

    def __init__(self, place: dict[str, str]) -> None:
        node = shutil.which("node")
        assert node, "Node.js is needed to test with grammY"
        self._process = subprocess.Popen(
            [node, str(HERE / "bots.mjs"), json.dumps(place)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        assert self._process.stdout
        assert self._process.stdout.readline() == "{}\n", "the process did not start"

    def close(self) -> None:
        self._process.communicate(timeout=60)
        assert self._process.returncode == 0

    async def handle(self, request: dict[str, object]) -> Any:
        """Let a bot handle an update, or the same one many times; returns the session as its handler left it."""
        return await asyncio.to_thread(self._ask, request)

    def _ask(self, request: dict[str, object]) -> Any:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(request) + "\n")
        answer = json.loads(self._process.stdout.readline() or '{"error": "the process has ended"}')
        if "error" in answer:
            raise GrammyFailedError(answer["error"])
        return answer["seen"]


@dataclass
class Grammy:
    """A bot written with grammY.

    Args:
        bots: the process.
        options: of its sessions, see `make` in `bots.mjs`.
    """

    bots: GrammyBots
    options: dict[str, object]

    async def __call__(self, order: str, chat: int, argument: object = None, **more: object) -> Any:
        """Handle an update: `look`, `count`, `note`, `merge`, `assign`, `delete` or `ignore`."""
        request = {"options": self.options, "order": order, "chat": chat, "argument": argument}
        return await self.bots.handle(request | more)


@dataclass(frozen=True)
class Place:
    """One storage, shared by both kinds of bots."""

    kind: str
    url: str
    bots: GrammyBots

    def storage(self) -> Storage:
        return open_storage(self.url)

    def grammy(self, **options: object) -> Grammy:
        return Grammy(self.bots, options)
