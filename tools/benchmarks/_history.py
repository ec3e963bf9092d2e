"""The session of a bot that talks with a language model: a history, to which every update adds a question."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

_ANSWER = (
    'Yes, that can be "done" so: first the dough, dann die Soße, et puis le fromage; about 12 minutes at 250 °C.\n'
)
_LENGTH = 600
"""Characters of a message."""
_PER_MESSAGE = 680
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
    """Makes histories of about so many bytes."""
    text = (_ANSWER * (_LENGTH // len(_ANSWER) + 1))[:_LENGTH]

    def make() -> History:
        roles = ["assistant" if number % 2 else "user" for number in range(max(1, size // _PER_MESSAGE))]
        return History(messages=[Message(role, text) for role in roles])

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
