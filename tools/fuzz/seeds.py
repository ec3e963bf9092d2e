"""Where each search begins: bytes that are right."""

from __future__ import annotations

import pickle

import zstandard

from chatsession.serialization.compression import COMPRESSED
from chatsession.serialization.encryption import Keyring
from tools.fuzz.harnesses import KEY

_JSON = [b'{"name":"Ann","coins":7,"parts":{"a":[1.5]},"since":"2026-05-04T03:02:01Z","inner":{}}', b'["a",1,null]']
_ENVELOPES = [
    b'{"__d":{"name":"Ann"},"v":1,"e":4000000000000,"u":[1,"2"],"m":"a","f":"b"}',
    b'{"__d":null,"m":"-100"}',
    b'\x01h\x00\x00\x00\x13{"__d":null,"v":2.5}{}',
]
_STORED = [
    *_JSON,
    *_ENVELOPES,
    *(COMPRESSED + zstandard.compress(data * 9) for data in _JSON),
    *(Keyring([KEY]).seal("chat", data) for data in _ENVELOPES),
]
_PICKLED = {"user_data": {1: {"a": [1, "x", (2.5, None)], "b": {3}}}, "conversations": {"c": {(1, 2): 3}}}

SEEDS: dict[str, list[bytes]] = {
    "codec": _JSON,
    "envelope": _ENVELOPES,
    "form": _STORED,
    "encryption": [Keyring([KEY]).seal("another chat", b"hunter2")],
    "compression": [zstandard.compress(b"a" * size) for size in (0, 10, 100_000)],
    "pickles": [pickle.dumps(_PICKLED, protocol) for protocol in range(6)],
    "lines": [
        b'{"chatsession":1,"prefix":""}',
        b'{"key":"42","value":{"a":1},"expires_at":4e9}',
        b'{"key":"4","base64":"AWUB"}',
    ],
    "names": [b"42", b"a/b", b"..", "Üb ☕".encode(), b"%2F", b"=20", b"other/a", b"a" * 250],
    "beside": [b'{"missing":true,"queue":[["a","b",1.0]],"lease":2.0,"until":3.0}', b"2026-05-04T03:02:01+00:00 123"],
    "urls": [
        b"//user:secret@h:1/0?retry_for=1",
        b"//h1:1,h2:2/main/1",
        b"///bot.db?retry_for=1",
        b"//[::1]:5/x?schema=a",
    ],
    "views": _STORED,
}
