"""A session as the page gets it."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET

from chatsession.contents import View, view
from chatsession.serialization.encryption import Keyring
from chatsession.storages import Record
from chatsession.web._sessions import mark_of

MOST_UNASKED = 512 * 1024
"""Bytes. Larger sessions are not sent whole until the page asks for it; it gets their beginning instead."""
BEGINNING = 4096


def described(
    key: str, record: Record | None, keyring: Keyring | None, *, whole: bool = False, undo: str | None = None
) -> bytes:
    """Describe a session as JSON, for the page.

    Args:
        key: the session key.
        record: what is stored; `None`: nothing.
        keyring: reads encrypted sessions.
        whole: give also a large session in full.
        undo: the name of the change that was just made.
    """
    about: dict[str, object] = {"key": key, "mark": mark_of(record), "stored": record is not None}
    if undo is not None:
        about["undo"] = undo
    if record is not None:
        about |= {"size": len(record.value), "expires_at": record.expires_at}
        about |= _seen(view(key, record.value, keyring), whole)
    return msgspec.json.encode(about)


def _seen(seen: View, whole: bool) -> dict[str, object]:
    steps = [name for name, taken in (("encrypted", seen.encrypted), ("compressed", seen.compressed)) if taken]
    about: dict[str, object] = {
        "kind": seen.kind,
        "steps": steps,
        "hidden": seen.hidden,
        "problem": seen.problem,
        "vacant": seen.data is None and not seen.hidden,
        "beside": _beside(seen),
    }
    data = seen.data or b""
    if len(data) <= MOST_UNASKED or whole:
        return about | {"text": seen.text}
    beginning = data[:BEGINNING]
    readable = beginning.hex(" ") if seen.kind == "hex" else beginning.decode(errors="ignore")
    return about | {"text": None, "beginning": readable}


def _beside(seen: View) -> dict[str, Any]:
    """What the envelope holds beside the data."""
    envelope = seen.envelope
    if envelope is None:
        return {}
    found = {
        "version": envelope.version,
        "expires": envelope.expires,
        "updates": envelope.updates,
        "moved_to": envelope.moved_to,
        "moving_from": envelope.moving_from,
    }
    return {name: value for name, value in found.items() if value is not UNSET and value is not None}
