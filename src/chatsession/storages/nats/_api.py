"""The parts of JetStream's answers that are needed here."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from chatsession.errors import StorageError

Answer = TypeVar("Answer")


class ApiError(msgspec.Struct):
    """Why the server refuses a request."""

    code: int = 0
    err_code: int = 0
    description: str = ""


class Ack(msgspec.Struct):
    """The answer to a published message."""

    seq: int = 0
    duplicate: bool = False
    error: ApiError | None = None


class StreamConfig(msgspec.Struct):
    """The configuration of a stream."""

    num_replicas: int = 1
    storage: str = "file"
    max_msgs_per_subject: int = -1
    allow_direct: bool = False
    allow_msg_ttl: bool = False
    subjects: list[str] = []


class StreamState(msgspec.Struct):
    """The contents of a stream."""

    messages: int = 0
    bytes: int = 0
    num_subjects: int = 0
    subjects: dict[str, int] = {}


class StreamInfo(msgspec.Struct):
    """The answer to a question about a stream."""

    error: ApiError | None = None
    config: StreamConfig = msgspec.field(default_factory=StreamConfig)
    state: StreamState = msgspec.field(default_factory=StreamState)


class ConsumerInfo(msgspec.Struct):
    """The answer to the creation of a consumer."""

    error: ApiError | None = None
    created: str = ""


def decode(payload: bytes, kind: type[Answer]) -> Answer:
    """Decode an answer. Raises `StorageError` if it has another form."""
    try:
        return msgspec.json.decode(payload, type=kind)
    except msgspec.DecodeError:
        raise StorageError("NATS gave an answer of an unknown form; is the server too new or too old?") from None
