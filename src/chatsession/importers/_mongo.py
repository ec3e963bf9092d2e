"""A client of MongoDB, and its errors as those of chatsession."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from typing import Any, TypeAlias

try:
    from pymongo import AsyncMongoClient
    from pymongo.errors import ConfigurationError, PyMongoError
except ImportError as error:
    raise ImportError("reading from MongoDB needs pymongo: pip install 'chatsession[mongo]'") from error

from chatsession.errors import SessionError, StorageUnavailableError

Source: TypeAlias = "str | AsyncMongoClient[Any]"


@contextlib.asynccontextmanager
async def client_of(source: Source) -> AsyncGenerator[Any, None]:
    """The client to read with, closed again if it was made here."""
    try:
        if isinstance(source, str):
            async with AsyncMongoClient[Any](source) as client:
                yield client
        else:
            yield source
    except ConfigurationError:
        raise SessionError("the URL is wrong, or names no database; write mongodb://host/DATABASE") from None
    except PyMongoError as error:
        raise StorageUnavailableError(f"MongoDB did not answer ({type(error).__name__})") from None
