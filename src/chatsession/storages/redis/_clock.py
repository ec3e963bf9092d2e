"""The server's time, as Redis tells it."""

from __future__ import annotations

import time
from typing import cast


def time_of(answer: object) -> float:
    """Read the reply to `TIME`, in Unix seconds; after an error reply, this machine's time is used."""
    if not isinstance(answer, list):
        return time.time()
    seconds, micros = cast("list[bytes]", answer)
    return int(seconds) + int(micros) / 1_000_000
