"""Translates errors of MongoDB, pymongo and the network into errors of this library.

The server's own messages are left out, because they quote documents, and some of them name users.
"""

from __future__ import annotations

from bson.errors import BSONError
from pymongo import errors as driver

from chatsession.errors import StorageError, StorageUnavailableError

DUPLICATE_KEY = 11000
TOO_LARGE = (17419, 17420, 10334, 16493)

_HINTS = {
    2: "it does not take a setting of the URL; w asks for a replica set",
    13: "the user lacks a right on the collection; grant it readWrite on the database",
    18: "the name or the password is wrong (a user of another database needs ?authSource=…)",
    26: "the collection is missing",
    59: "it does not know a command; is it older than MongoDB 6.0?",
    73: "the name of the database or of the collection is not allowed",
    79: "the replica set does not know the write concern; set w in the URL to another one",
    85: "an index of another kind has the name of one that sessions need; drop it",
    86: "an index of another kind has the name of one that sessions need; drop it",
    100: "the write concern asks for more servers than there are; set w in the URL to majority",
    121: "the collection has a validator, and the session's document does not meet it; change one of them",
    8000: "the name or the password is wrong",
    11000: "two documents of the collection have the same key; remove one of them",
}

_WRONG_TYPE = {2, 14, 28, 16554}
"""A document's field is not of the type that the update needs."""

# Transient: the server is shutting down, stepping down or full, or another operation was faster.
_PASSING = {6, 7, 50, 64, 89, 91, 112, 133, 134, 189, 262, 9001, 10058, 10107, 11600, 11602, 13388, 13435, 13436}


def passes(error: Exception) -> bool:
    """Whether the same call may succeed soon."""
    if isinstance(error, driver.BulkWriteError):
        return all(each.get("code") in _PASSING for each in _write_concern_errors(error))
    if isinstance(error, driver.OperationFailure):
        return error.code in _PASSING
    if isinstance(error, driver.ConfigurationError | driver.InvalidURI):
        return False
    return isinstance(error, driver.ConnectionFailure | OSError)


def is_unacknowledged(error: driver.BulkWriteError) -> bool:
    """Whether too few servers have confirmed a batch, so that it may be lost."""
    return bool(_write_concern_errors(error))


def as_storage_error(error: Exception, server: str) -> StorageError:
    """The error that the caller sees.

    Args:
        error: of pymongo or the network.
        server: the server's name in messages.
    """
    if isinstance(error, StorageError):
        return error
    if isinstance(error, driver.BulkWriteError | driver.OperationFailure):
        return _from_server(error, server)
    if isinstance(error, driver.ServerSelectionTimeoutError):
        return StorageUnavailableError(
            f"{server} cannot be reached, or no server of it is the primary; do the servers run, and is the URL right?"
        )
    if isinstance(error, driver.InvalidURI):
        return StorageError(
            "pymongo cannot read the URL; in a name or password, write %40 for @, %3A for :, %2F for / and %25 for %"
        )
    if isinstance(error, driver.ConfigurationError) and _is_of_dns(error):
        return StorageUnavailableError(f"{server} cannot be found by DNS; is the URL right?")
    if isinstance(error, driver.ConfigurationError | driver.InvalidName | ValueError):
        return StorageError(
            f"pymongo refused the settings ({type(error).__name__}); are the URL and its options right, and the names "
            "of the database and the collection?"
        )
    if isinstance(error, driver.InvalidOperation | RuntimeError):
        return StorageError(
            "pymongo's client is closed, or belongs to another event loop; make it in the event loop that uses it, or "
            "give the URL instead"
        )
    if isinstance(error, driver.ConnectionFailure | OSError):
        return StorageUnavailableError(f"the connection to {server} failed ({type(error).__name__})")
    if isinstance(error, BSONError):
        return StorageError(f"{server} gave an answer that pymongo could not read ({type(error).__name__})")
    return StorageError(f"pymongo refused a call ({type(error).__name__})")


def _is_of_dns(error: BaseException) -> bool:
    return type(error.__cause__ or error.__context__).__module__.startswith("dns.")


def refusal(code: object, server: str, key: str) -> StorageError:
    """The error for one document that the server refused to change."""
    hint = "a field of its document has a wrong type; delete what was added by hand"
    return StorageError(f"{server} refused: {hint if code in _WRONG_TYPE else _hint(code)}", key=key)


def _from_server(error: driver.OperationFailure, server: str) -> StorageError:
    if isinstance(error, driver.BulkWriteError):
        code: object = next((each.get("code") for each in _write_concern_errors(error)), None)
    else:
        code = error.code
    if code in _PASSING:
        return StorageUnavailableError(f"{server} did not serve in time: {_hint(code)}. Try again later")
    if isinstance(error, driver.BulkWriteError | driver.WriteConcernError):
        return StorageUnavailableError(f"{server} did not confirm that what it has written lasts: {_hint(code)}")
    return StorageError(f"{server} refused: {_hint(code)}")


def _hint(code: object) -> str:
    return _HINTS.get(code, f"error {code}") if isinstance(code, int) else "for an unknown reason"


def _write_concern_errors(error: driver.BulkWriteError) -> list[dict[str, object]]:
    return (error.details or {}).get("writeConcernErrors", [])
