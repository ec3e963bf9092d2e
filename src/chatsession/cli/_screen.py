"""Output to the terminal. No key and no session can move the cursor, change colours, or hide text."""

from __future__ import annotations

import json
import os
import re
import sys
import textwrap
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.table import Table
from rich.text import Text

_JOINER = "\u200d"  # holds families of emoji together, and does nothing else
_TIMES = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


class _Screen(Console):
    """A console that raises `BrokenPipeError` instead of ending the process."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


out = _Screen(highlight=False, markup=False, emoji=False, soft_wrap=True)
"""For results."""
err = _Screen(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)
"""For everything else: progress, warnings, errors."""


def safe(text: str, keep: str = "") -> str:
    r"""Text with every character that is not plainly visible as its escape (`\x1b`), but for those in `keep`."""
    if text.isprintable():
        return text
    return "".join(ch if ch.isprintable() or ch == _JOINER or ch in keep else _escaped(ch) for ch in text)


def safe_json(text: str) -> str:
    """JSON that means the same, with what is not plainly visible as `\\u….`; for text that is JSON already."""
    return re.sub(r"[^\x20-\x7e\n]", lambda found: _escape_json(found[0]), text)


def say(text: str = "", style: str = "") -> None:
    """A line of output."""
    if style:
        out.print(Text(text, style=style))
    else:
        sys.stdout.write(text + "\n")  # a hundred times as fast as rich, and there may be a million lines


def note(text: str, style: str = "") -> None:
    """A line on stderr, which is not part of the results; text that is not plainly visible is escaped."""
    with suppress(BrokenPipeError):  # nothing reads it any more
        err.print(Text(safe(text), style=style))


def emit(value: Any) -> None:
    """A line of JSON for scripts."""
    sys.stdout.write(json.dumps(value, ensure_ascii=True, separators=(",", ":")) + "\n")


def tell(as_json: bool, value: Any, text: str) -> None:
    """What a command has done: a line of JSON for scripts, else a note."""
    if as_json:
        emit(value)
    else:
        note(text)


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], right: Sequence[str] = ()) -> None:
    """A table; the columns in `right` hold numbers."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        made.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        made.add_row(*(Text(cell) for cell in row))
    out.print(made, soft_wrap=False)


def counted(number: int, word: str, plural: str = "") -> str:
    """A number with its word: `1 session`, `2,000 sessions`."""
    return f"{number:,} {word if number == 1 else plural or word + 's'}"


def duration(seconds: float) -> str:
    """Seconds for people: `2 d`, `3 h`, `12 s`."""
    for length, unit in _TIMES:
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(seconds, 0) * 1000:.0f} ms"


def remaining(expires_at: float | None, now: float) -> str:
    """When something ends, from now; both are Unix times by the storage's clock."""
    if expires_at is None:
        return "never"
    return f"in {duration(expires_at - now)}"


def moment(at: float | None) -> str:
    """A Unix time in this machine's zone."""
    return "not known" if at is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


def is_terminal() -> bool:
    """Whether the output is a terminal."""
    return out.is_terminal and os.environ.get("TERM") != "dumb"


def fitting(text: str, taken: int) -> str:
    """Text that does not wrap in a terminal, whose line has `taken` characters already."""
    width = max(out.width - taken, 10)
    return set_cell_size(text, width - 1).rstrip() + "…" if is_terminal() and cell_len(text) > width else text


def wrapped(text: str, indent: int) -> str:
    """Text that a terminal does not break within a word; further lines begin with `indent` spaces."""
    return textwrap.fill(text, out.width, subsequent_indent=" " * indent) if is_terminal() else text


def quoted(word: str) -> str:
    """A word for a shell, whatever characters it has."""
    if word.isprintable() and word.isascii():
        return "'" + word.replace("'", "'\\''") + "'"
    return "$'" + "".join(_quoted_character(character) for character in word) + "'"


def _quoted_character(character: str) -> str:
    """As bash and zsh read it between $' and '. JSON would write an emoji as two surrogates, which they do not join."""
    if character in "\\'":
        return "\\" + character
    if character.isascii() and character.isprintable():
        return character
    return f"\\U{ord(character):08x}" if ord(character) > 0x7F else f"\\x{ord(character):02x}"


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()


def _escape_json(character: str) -> str:
    if character.isprintable() or character == _JOINER:
        return character
    return json.dumps(character)[1:-1] if character not in "\t\r" else character.replace("\r", "")
