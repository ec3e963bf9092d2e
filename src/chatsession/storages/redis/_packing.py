"""Commands as bytes, by hiredis where it is installed: redis-py's own asyncio connections pack ten times slower."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import cast

from chatsession.storages.redis._servers import Wire, Word

try:
    import hiredis
except ImportError:
    hiredis = None


def packed(wire: Wire, commands: Sequence[Sequence[Word]]) -> Iterable[bytes]:
    """The bytes of these commands, one after the other."""
    if hiredis is None:
        return wire.pack_commands(commands)
    return [cast("bytes", hiredis.pack_command(tuple(command))) for command in commands]
