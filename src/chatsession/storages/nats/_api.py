"""The answers of JetStream, as far as they are needed here."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from chatsession.errors import StorageError

Answer = TypeVar("Answer")


class ApiError(msgspec.Struct):
    """What the server says when it refuses."""

    code: int = 0
    err_code: int = 0
    description: str = ""


class Ack(msgspec.Struct):
    """The answer to a message that was published."""

    seq: int = 0
    duplicate: bool = False
    error: ApiError | None = None


class StreamConfig(msgspec.Struct):
    """How a stream was made."""

    num_replicas: int = 1
    storage: str = "file"
    max_msgs_per_subject: int = -1
    allow_direct: bool = False
    allow_msg_ttl: bool = False
    subjects: list[str] = []


class StreamState(msgspec.Struct):
    """What is in a stream."""

    messages: int = 0
    bytes: int = 0
    num_subjects: int = 0
    subjects: dict[str, int] = {}


class StreamInfo(msgspec.Struct):
    """What the server says about a stream."""

    error: ApiError | None = None
    config: StreamConfig = msgspec.field(default_factory=StreamConfig)
    state: StreamState = msgspec.field(default_factory=StreamState)


class ConsumerInfo(msgspec.Struct):
    """The answer to a consumer that was made."""

    error: ApiError | None = None
    created: str = ""


def decode(payload: bytes, kind: type[Answer]) -> Answer:
    """Read an answer. Raises `StorageError` if it is not understood."""
    try:
        return msgspec.json.decode(payload, type=kind)
    except msgspec.DecodeError:
        raise StorageError("NATS gave an answer that is not understood; is the server too new or too old?") from None
