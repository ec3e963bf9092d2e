"""Servers that answer something else than the protocol of the URL: the error names the server, and no credentials."""

from __future__ import annotations

import asyncio
from contextlib import closing, suppress

import pytest

from chatsession.errors import StorageError
from chatsession.storages import open_storage

HTTP = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"
TLS_ALERT = b"\x15\x03\x01\x00\x02\x02\x46"
POSTGRESQL = b"E\x00\x00\x00\x14SFATAL\0C0A000\0\0"
NATS = b'INFO {"server_id":"x","headers":true,"proto":1,"version":"%b","max_payload":%b,"connect_urls":%b}\r\nPONG\r\n'

REDIS = {
    "http": HTTP,
    "closed": b"",
    "tls alert": TLS_ALERT,
    "postgresql": POSTGRESQL,
    "more replies than asked": b"+OK\r\n" * 50,
    "a redirection without a place": b"-MOVED x\r\n",
    "a redirection without a port": b"-MOVED 1 nowhere\r\n",
    "slots that are none": b"+OK\r\n",
    "slots without servers": b"*1\r\n*3\r\n:0\r\n:5\r\n+x\r\n",
    "slots that do not exist": b"*1\r\n*3\r\n:0\r\n:99999\r\n*2\r\n$1\r\na\r\n:1\r\n",
    "a host that is no text": b"*1\r\n*3\r\n:0\r\n:5\r\n*2\r\n$1\r\n\xff\r\n:1\r\n",
}
ANSWERS = [
    *((scheme, what, answer) for scheme in ("redis", "redis+cluster") for what, answer in REDIS.items()),
    ("nats", "http", HTTP),
    ("nats", "closed", b""),
    ("nats", "tls alert", TLS_ALERT),
    ("nats", "a list", b"INFO []\r\n"),
    ("nats", "a wrong version", NATS % (b"abc", b"1048576", b"[]")),
    ("nats", "a wrong size", NATS % (b"2.10.0", b'"x"', b"[]")),
    ("nats", "wrong addresses", NATS % (b"2.10.0", b"1048576", b"7")),
]


@pytest.mark.parametrize(("scheme", "answer"), [pytest.param(s, a, id=f"{s}: {w}") for s, w, a in ANSWERS])
@pytest.mark.parametrize("login", ["", "user:s3cr3t@"])
async def test_an_answer_of_another_protocol_is_told(scheme: str, answer: bytes, login: str) -> None:
    serving: list[asyncio.Task[None] | None] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.append(asyncio.current_task())
        with closing(writer), suppress(OSError):
            if scheme == "nats":
                writer.write(answer)
            while answer and await reader.read(65536):
                writer.write(answer)

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        storage = open_storage(f"{scheme}://{login}127.0.0.1:{port}?retry_for=0.3")
        with pytest.raises(StorageError) as caught:
            await storage.open()
        await storage.close()
        await asyncio.gather(*filter(None, serving))
    assert f"127.0.0.1:{port}" in str(caught.value)
    assert "s3cr3t" not in repr(caught.value)
