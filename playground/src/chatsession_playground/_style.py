"""Colours of the terminal, where there is one that wants them."""

import os
from dataclasses import dataclass
from typing import TextIO


@dataclass(frozen=True, slots=True)
class Style:
    """Marks text with plain ANSI codes, or leaves it as it is.

    Args:
        colours: whether to mark it.
    """

    colours: bool

    @classmethod
    def of(cls, stream: TextIO) -> "Style":
        """Colours for a terminal, unless `NO_COLOR` is set (https://no-color.org)."""
        return cls(stream.isatty() and not os.environ.get("NO_COLOR"))

    def bold(self, text: str) -> str:
        return self._marked("1", text)

    def faint(self, text: str) -> str:
        return self._marked("2", text)

    def good(self, text: str) -> str:
        return self._marked("32", text)

    def note(self, text: str) -> str:
        return self._marked("33", text)

    def data(self, text: str) -> str:
        return self._marked("36", text)

    def _marked(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.colours else text
