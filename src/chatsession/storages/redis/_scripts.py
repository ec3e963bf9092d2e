"""The Lua scripts that run in the server."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha1
from importlib.resources import files
from typing import NamedTuple

from chatsession.storages.redis._connection import Word


class Script(NamedTuple):
    """A script and its digest, by which a server knows it once it has run."""

    source: bytes
    digest: str

    def command(self, keys: Sequence[Word], *arguments: Word) -> Sequence[Word]:
        """Return the command that runs it."""
        return ("EVALSHA", self.digest, len(keys), *keys, *arguments)


def _load(*names: str) -> Script:
    source = b"\n".join(files("chatsession.storages.redis").joinpath(f"{name}.lua").read_bytes() for name in names)
    return Script(source, sha1(source, usedforsecurity=False).hexdigest())


READ = _load("expiry", "read")
LOCK = _load("expiry", "locks", "lock")
COMMIT = _load("locks", "commit")
RENEW = _load("locks", "renew")
ABANDON = _load("locks", "abandon")
