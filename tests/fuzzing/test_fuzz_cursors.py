"""A cursor comes back from outside, by the inspector's page or `--resume-after`: any text is a page or an error."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from chatsession import StorageError, open_storage
from chatsession.storages import Action, Change

CURSORS = [
    *(
        "x",
        " ",
        "-",
        "1-",
        "-1",
        "1-x",
        "1-2-3",
        ":",
        "0:x:0",
        "0::x",
        "99999::0",
        "a:b:c:d",
        "0::" + "9" * 30,
        "9" * 5000,
    ),
    *(
        "/",
        "..",
        "../../etc",
        "a/../b",
        "\0",
        "a\0b",
        "\udc80",
        "☕",
        "%00",
        "'",
        '"; DROP TABLE sessions',
        "\x01",
        "\uffff",
    ),
]
URLS = ["memory:", "sqlite", "file", "redis", "postgres", "nats", "mongo"]


@pytest.mark.parametrize("kind", URLS)
async def test_any_cursor_gives_a_page_or_an_error_of_the_contract(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    places = {"memory:": "memory:", "sqlite": f"sqlite:///{tmp_path}/bot.db", "file": f"file://{tmp_path}/sessions"}
    url = places.get(kind) or request.getfixturevalue(f"{kind}_server").url
    async with open_storage(url) as storage:
        await storage.commit_many([Change("cursors:42", Action.PUT, b"1")])
        for cursor in CURSORS:
            for limit in (1, 100):
                with contextlib.suppress(StorageError):
                    page = await storage.scan("cursors:", cursor, limit)
                    assert [key for key, _ in page.entries] in ([], ["cursors:42"])
                with contextlib.suppress(StorageError):
                    keys, _ = await storage.scan_keys("cursors:", cursor, limit)
                    assert list(keys) in ([], ["cursors:42"])
        for prefix in ("\udc80", "cursors:\udc80", "\0", "cursors:42\0"):
            with contextlib.suppress(StorageError):
                assert list((await storage.scan(prefix, None, 100)).entries) == []
            with contextlib.suppress(StorageError):
                assert list((await storage.scan_keys(prefix, None, 100))[0]) == []
        (found,) = await storage.read_many(["cursors:42"])
        assert found is not None
