"""Maps redis-py's exceptions to ours. The text of a server is not passed on: it may quote what was sent."""

from __future__ import annotations

import re
import ssl

from redis import exceptions as driver

from chatsession.errors import SessionError, SessionKeyError, SessionTooLargeError, StorageError

_CODE = re.compile(r"-?([A-Z]{2,})\b")


class ReplyError(Exception):
    """A server's error reply; its text begins with a code."""

    @property
    def code(self) -> str:
        """The kind of error, such as `WRONGTYPE`."""
        found = _CODE.match(str(self))
        return found[1] if found else "ERR"

    @property
    def is_missing_script(self) -> bool:
        """The server does not know the digest of the script, or does not support calls by digest."""
        text = str(self).lower()
        return self.code == "NOSCRIPT" or ("evalsha" in text and self.code != "NOPERM" and "not allowed" not in text)

    @property
    def ends_connection(self) -> bool:
        """The server reads no further, at a string that is too long: it will answer no later command."""
        return str(self).startswith("ERR Protocol error")


# While it connects, redis-py turns the code into a class.
_CODES: tuple[tuple[type[Exception], str], ...] = (
    (driver.AuthenticationError, "WRONGPASS"),
    (driver.AuthorizationError, "NOPERM"),
    (driver.NoPermissionError, "NOPERM"),
    (driver.ReadOnlyError, "READONLY"),
    (driver.BusyLoadingError, "LOADING"),
    (driver.MasterDownError, "MASTERDOWN"),
    (driver.ClusterDownError, "CLUSTERDOWN"),
)

_TRANSIENT = {
    "READONLY": "it is a replica that takes no writes",
    "LOADING": "it is still loading its data",
    "MASTERDOWN": "it is a replica that has lost its primary",
    "CLUSTERDOWN": "the cluster is down",
    "TRYAGAIN": "the cluster is moving data",
    "ASK": "the cluster is moving data",
    "MOVED": "the cluster has moved data",
    "NOREPLICAS": "it has fewer replicas than min-replicas-to-write asks for",
    "NOSCRIPT": "it runs no scripts",
    "BUSY": "it is running another client's script",
    "UNBLOCKED": "it became a replica",
    "REPLICAS": "fewer replicas than wait_replicas asks for have the change; its primary has it",
}

_FATAL = {
    "WRONGPASS": "it refused the user name or password",
    "NOAUTH": "it requires a password",
    "NOPERM": (
        "its access rules (ACL) forbid this user a command, a key or a channel; for sessions whose keys begin with "
        "PREFIX the user needs ~PREFIX* ~!prefix:PREFIX* ~!chatsession:* &!chatsession:* +@read +@write +@scripting "
        "+@pubsub +@connection +info +time"
    ),
    "OOM": "its memory is full (maxmemory); give it more, or let sessions expire (ttl)",
    "MISCONF": "it cannot save to its disk and takes no writes until that is mended",
    "WRONGTYPE": "what is stored there is not a string but some other kind of value; it is left as it is",
    "CROSSSLOT": "it is part of a cluster; use a redis+cluster: URL",
}

_TEXTS = {
    "cluster support disabled": "it is not part of a cluster; use a redis: URL",
    "DB index is out of range": "it has no database of that number",
    "SELECT is not allowed": "a cluster has only database 0",
    "max number of clients": "it has reached its maxclients",
    "invalid expire time": "the ttl is longer than it can count",
    "without any password configured": "it has no password, but one was given",
    "unknown command": "it does not know a command that is needed; Redis 6.0 or newer is needed",
    "invalid bulk length": "a string is longer than its proto-max-bulk-len",
    "string exceeds maximum allowed size": "the value is longer than its proto-max-bulk-len",
}


def is_transient(error: Exception) -> bool:
    """Whether a retry may succeed, perhaps on another server."""
    error = _answer_behind(error)
    if isinstance(error, driver.AuthenticationError | driver.AuthorizationError) or _tls_reason(error):
        return False
    if isinstance(error, driver.ConnectionError | driver.TimeoutError | OSError):
        return True
    return _code(error) in _TRANSIENT


def reason(error: Exception) -> str:
    """Describe an error without quoting data or credentials."""
    error = _answer_behind(error)
    if (tls := _tls_reason(error)) is not None:
        return tls
    if isinstance(error, StorageError):
        return str(error)
    code = _code(error)
    if code in _TRANSIENT:
        return _TRANSIENT[code]
    if code in _FATAL:
        return _FATAL[code]
    text = str(error)
    for part, meaning in _TEXTS.items():
        if part in text:
            return meaning
    if isinstance(error, driver.TimeoutError | TimeoutError):
        return "it did not answer in time"
    if isinstance(error, driver.InvalidResponse):
        return "its answer is not Redis's; is the host and port in the URL right?"
    if type(error).__name__ == "MasterNotFoundError":
        return "the sentinels know of no primary for this service, or cannot be reached"
    if isinstance(error, driver.ConnectionError | OSError):
        return "the connection failed"
    return f"it answered with an error of the kind {code or type(error).__name__}"


def of_key(error: Exception, key: str) -> StorageError:
    """Return the error of one key."""
    return StorageError(f"Redis refused: {reason(error)}", key=key)


def too_long(key: str, name: bytes, value: bytes) -> SessionError:
    """Return the error of the session whose key or value is longer than the server takes."""
    if len(name) > len(value):
        return SessionKeyError("it is longer than the server takes (proto-max-bulk-len); use a shorter one", key=key)
    return SessionTooLargeError(
        f"{len(value):,} bytes are more than the Redis server takes; nothing was written; make it smaller, set "
        "max_size, use compression, or raise the server's proto-max-bulk-len",
        key=key,
    )


def _answer_behind(error: Exception) -> Exception:
    """The server's answer, where redis-py calls it a failed connection: at the start of one on a Unix socket."""
    cause = error.__cause__
    return cause if type(error) is driver.ConnectionError and isinstance(cause, driver.RedisError) else error


def _code(error: Exception) -> str | None:
    if isinstance(error, ReplyError):
        return error.code
    for kind, code in _CODES:
        if isinstance(error, kind):
            return code
    found = _CODE.match(str(error))
    return found[1] if found else None


def _tls_reason(error: Exception) -> str | None:
    """Describe a failed TLS handshake, which would fail again; `None`: it was another error."""
    cause = error
    while cause is not None and not isinstance(cause, ssl.SSLError):
        cause = cause.__cause__ or cause.__context__
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"its TLS certificate is not trusted ({cause.verify_message or 'verification failed'})"
    if isinstance(cause, ssl.SSLError) and not isinstance(cause, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return f"TLS failed ({cause.reason or 'no reason given'}); does this port speak TLS?"
    return None
