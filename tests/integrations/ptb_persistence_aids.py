"""What the tests of python-telegram-bot's persistence share: applications with it, and a look at what is stored."""

from __future__ import annotations

from typing import Any

import msgspec
from ptb_aids import App, builder

from chatsession.integrations.telegram_ext import setup_persistence
from chatsession.storages import Storage


def persistent(storage: Storage | str, *, made: Any = None, **options: Any) -> App:
    """An application whose data is kept in a storage."""
    application = (made or builder(None)).build()
    setup_persistence(application, storage, **options)
    return application


async def kept(storage: Storage, key: object) -> Any:
    """What is stored under an id, as JSON; `None`: nothing."""
    (record,) = await storage.read_many([f"ptb:id:{key}"])
    assert not isinstance(record, Exception)
    return None if record is None else msgspec.json.decode(record.value)
