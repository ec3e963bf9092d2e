"""`updates`: the updates that polling has set aside, because they took the bot down."""

from __future__ import annotations

import json

from chatsession.cli._options import AsJson, Url
from chatsession.cli._running import FOUND, command
from chatsession.cli._screen import counted, emit, note, safe_json, say
from chatsession.cli._storage import opened
from chatsession.cli._values import kind_of, plain
from chatsession.maintenance import updates_set_aside


@command
async def updates(url: Url, as_json: AsJson = False) -> int | None:
    """List the updates that have taken the bot down too often, and were set aside. Remove one by rm KEY."""
    found = 0
    async with opened(url) as storage:
        async for key, value in updates_set_aside(storage):
            found += 1
            kind = kind_of(value)
            update = json.loads(plain(value)) if kind == "json" else None
            if as_json:
                emit({"key": key, "update": update})
            else:
                shown = f"({kind})" if update is None else safe_json(json.dumps(update))
                say(f"{key}  {shown}")
    note(f"{counted(found, 'update')} set aside")
    return FOUND if found else None
