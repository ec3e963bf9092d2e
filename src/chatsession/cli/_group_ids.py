"""Arguments such as -1001000000006: the ids of groups are negative, and are keys, not options."""

from __future__ import annotations

import re
from typing import Any, cast

from typer.core import TyperCommand

_MARK = "\0"
"""No argument of a process has it."""


class CommandWithKeys(TyperCommand):
    """A command that takes a word which begins with a minus and a digit as an argument."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # some versions of typer have a click of their own
        with_value = {name for option in self.params if not getattr(option, "is_flag", True) for name in option.opts}
        marked = [
            _MARK + word if re.match(r"-\d", word) and before not in with_value else word
            for before, word in zip(["", *args], args, strict=False)
        ]
        rest = super().parse_args(ctx, marked)
        ctx.params = {name: _without_mark(value) for name, value in ctx.params.items()}
        return [word.removeprefix(_MARK) for word in rest]


def _without_mark(value: Any) -> Any:
    if isinstance(value, str):
        return value.removeprefix(_MARK)
    if isinstance(value, list):
        return [_without_mark(item) for item in cast("list[Any]", value)]
    return value
