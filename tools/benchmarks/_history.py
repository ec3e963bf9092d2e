"""The session of a bot that talks with a language model: a history, to which every update adds a question."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

import msgspec

_SYLLABLES = (
    "ba",
    "de",
    "fi",
    "go",
    "hu",
    "ka",
    "le",
    "mi",
    "no",
    "pu",
    "ra",
    "se",
    "ti",
    "vo",
    "wü",
    "xa",
    "ye",
    "ñ",
    "ß",
)
_WORDS = 60
"""Of a message."""
_PER_MESSAGE = 400
"""Bytes of a message, with its role."""


@dataclass
class Message:
    role: str
    content: str


@dataclass
class History:
    count: int = 0
    messages: list[Message] = field(default_factory=list)


def history_of(size: int) -> Callable[[], History]:
    """Makes histories of about so many bytes, which compress about as well as texts in a natural language."""
    chance = Random(size)
    words = ["".join(chance.choices(_SYLLABLES, k=chance.randint(1, 4))) for _ in range(3_000)]
    common = [1 / rank for rank in range(1, len(words) + 1)]
    texts = [" ".join(chance.choices(words, common, k=_WORDS)) for _ in range(max(1, size // _PER_MESSAGE))]

    def make() -> History:
        roles = ("user", "assistant")
        return History(messages=[Message(roles[number % 2], text) for number, text in enumerate(texts)])

    return make


def ask(history: History) -> None:
    """What an update does."""
    history.count += 1
    history.messages.append(Message("user", f"And what about pizza number {history.count}?"))


decode = msgspec.json.Decoder(History).decode
encode = msgspec.json.Encoder().encode


def asked(stored: bytes | str) -> bytes:
    """What is to be stored after an update."""
    history = decode(stored)
    ask(history)
    return encode(history)
