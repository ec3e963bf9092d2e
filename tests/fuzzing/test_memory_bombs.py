"""Few bytes that stand for many, and many that stand for nothing: reading them needs no more memory than they have."""

from __future__ import annotations

from pathlib import Path

import pytest
from fuzz_aids import peak_megabytes

PLAN = """
from chatsession import SessionDecodeError, SessionError, SessionManager
import sys
def read(data, **options):
    plan = SessionManager(type=dict, storage="memory:", **options).runtime
    try:
        opened = plan.serializer.unpack("chat", data)
        plan.serializer.loads("chat", data if opened is None else opened.data)
    except SessionDecodeError as error:
        assert len(str(error)) < 1000
    else:
        raise AssertionError("it was read")
    assert plan.serializer.pipeline is None or plan.serializer.pipeline.is_empty("chat", data) in (True, False)
"""
MEGABYTE = 1_000_000
BASE = 120
"""Megabytes that Python and the library need."""


@pytest.mark.parametrize(
    "data",
    [
        "b'[' * 10_000_000",
        "b'{\"a\":' * 2_000_000",
        "b'[' * 900 + b'1,' * 100 + b'1' + b']' * 900",
        "b' ' * 10_000_000",
        "b'9' * 10_000_000",
        "b'-' + b'9' * 10_000_000",
        "b'1e' + b'9' * 10_000_000",
        "b'0.' + b'0' * 10_000_000",
        "b'\"' + b'\\\\u0041' * 1_600_000",
        "b'{\"__d\":' * 1_400_000",
        "b'{\"__d\":{},\"u\":[' + b'1,' * 5_000_000",
        "b'\\x01h\\xff\\xff\\xff\\xff' + b'{' * 10_000_000",
        "b'\\x01e' + b'a' * 10_000_000",
        "b'\\x01z' + b'a' * 10_000_000",
    ],
    ids=lambda code: code[:24],
)
def test_ten_megabytes_of_nothing_need_a_few_times_that(data: str) -> None:
    code = (
        f"{PLAN}\ndata = {data}\nread(data); read(data, migrations={{1: lambda old: old}}); read(data, deduplicate=2)"
    )
    assert peak_megabytes(code) < BASE + 8 * 10


@pytest.mark.parametrize(("known", "window"), [(True, 20), (False, 20), (False, 27)])
def test_a_bomb_of_zstandard_ends_at_the_limit(known: bool, window: int, tmp_path: Path) -> None:
    make = f"""
import zstandard
options = zstandard.ZstdCompressionParameters(window_log={window}, write_content_size={known}, compression_level=1)
def bomb():
    maker = zstandard.ZstdCompressor(compression_params=options).compressobj(size=1 << 28 if {known} else -1)
    parts = [maker.compress(bytes(1 << 20)) for _ in range(256)]
    return b"".join([*parts, maker.flush()])
data = b"\\x01z" + bomb()
open(sys.argv[1], "wb").write(data)
"""
    path = tmp_path / "bomb"
    peak_megabytes(f"import sys\n{make}", str(path))
    assert path.stat().st_size < 100_000
    code = f"{PLAN}\ndata = open(sys.argv[1], 'rb').read()\nread(data); read(data, compression=10)"
    assert peak_megabytes(code, str(path)) < BASE + 200


def test_many_megabytes_of_blanks_are_read_in_place() -> None:
    code = f"{PLAN}\ndata = b' ' * (200 << 20)\nread(data); read(data, deduplicate=2)"
    assert peak_megabytes(code) < BASE + 200 + 100


def test_an_entry_that_names_one_text_again_and_again_is_not_written_out(tmp_path: Path) -> None:
    text = b"\x80\x04\x8c\xff" + b"a" * 255  # a short text, and then one of 10 MB that is named 100,000 times
    large = b"\x8e" + (10 * MEGABYTE).to_bytes(8, "little") + b"b" * (10 * MEGABYTE) + b"\x94"
    path = tmp_path / "bot.pickle"
    key = b"\x8c\x09chat_data"
    path.write_bytes(text + b"0" + b"}" + key + b"}K\x01}\x8c\x01a(" + large + b"h\x00" * 100_000 + b"lsss.")
    code = """
import asyncio, sys
from typing import Any
from chatsession import SessionManager
from chatsession.importers import import_into, ptb
async def bring():
    sessions = SessionManager(type=dict[str, Any], storage="memory:")
    report = await import_into(sessions, ptb.entries(sys.argv[1], "chat_data"))
    assert (report.seen, report.failed) == (1, 1), report
    assert "texts of more than" in report.failures[0][1], report.failures
asyncio.run(bring())
"""
    assert peak_megabytes(code, str(path)) < BASE + 200
