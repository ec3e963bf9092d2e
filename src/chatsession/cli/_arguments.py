"""How the words of a command line are read: negative ids of groups, and the URL from `CHATSESSION_URL`."""

from __future__ import annotations

import os
import re
from typing import Any, cast

import typer
from typer.core import TyperCommand

from chatsession.storages.urls import names_storage

VARIABLE = "CHATSESSION_URL"

_MARK = "\0"
"""No argument of a process has it."""


class SessionCommand(TyperCommand):
    """A command on sessions.

    A word such as -1001000000006, the id of a group, is an argument and not an option. A URL that is not given is
    that in `CHATSESSION_URL`.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # some versions of typer have a click of their own
        try:
            rest = super().parse_args(ctx, self._with_url(self._marked(args)))
        except Exception as error:
            if isinstance(message := getattr(error, "message", None), str):  # a usage error, which may escape the mark
                cast("Any", error).message = message.replace(_MARK, "").replace(repr(_MARK)[1:-1], "")
            raise
        ctx.params = {name: _without_mark(value) for name, value in ctx.params.items()}
        return [word.removeprefix(_MARK) for word in rest]

    def _marked(self, words: list[str]) -> list[str]:
        """The words, with the mark before those that are negative numbers and not the value of an option."""
        with_value = self._options_with_value()
        return [
            _MARK + word if re.match(r"-\d", word) and before not in with_value else word
            for before, word in zip(["", *words], words, strict=False)
        ]

    def _with_url(self, words: list[str]) -> list[str]:
        url = os.environ.get(VARIABLE)
        arguments = [param for param in self.params if param.param_type_name == "argument"]
        if not url or not arguments or arguments[0].name != "url" or {"-h", "--help"} & set(words):
            return words
        given = self._arguments_among(words)
        if len(given) < sum(param.required for param in arguments) or not given or not names_storage(given[0]):
            return [url, *words]
        return words

    def _arguments_among(self, words: list[str]) -> list[str]:
        with_value = self._options_with_value()
        if "--" in words:
            end = words.index("--")
            return self._arguments_among(words[:end]) + words[end + 1 :]
        return [
            word
            for before, word in zip(["", *words], words, strict=False)
            if before not in with_value and (word == "-" or not word.startswith("-"))
        ]

    def _options_with_value(self) -> set[str]:
        return {name for option in self.params if not getattr(option, "is_flag", True) for name in option.opts}


def _without_mark(value: Any) -> Any:
    if isinstance(value, str):
        if not value.isascii():
            _refuse_what_is_not_unicode(value)
        return value.removeprefix(_MARK)
    if isinstance(value, list):
        return [_without_mark(item) for item in cast("list[Any]", value)]
    return value


def _refuse_what_is_not_unicode(word: str) -> None:
    try:
        word.encode()
    except UnicodeEncodeError:
        raise typer.BadParameter(f"{word!a} is not valid Unicode (UTF-8)") from None
