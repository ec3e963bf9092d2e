"""Reads `postgresql://…`: the options of this storage, and those of asyncpg."""

from __future__ import annotations

from typing import cast
from urllib.parse import SplitResult, parse_qsl, urlencode

from chatsession.errors import StorageError
from chatsession.storages.postgres._storage import Layout, PostgresStorage
from chatsession.storages.urls import check_files, flag, options, positive

_OURS = {
    "single_process", "connections", "create", "layout", "pooler", "schema", "sweep_interval", "table", "time_to_live",
    "retry_for",
}  # fmt: skip
_THEIRS = {
    "application_name", "database", "dbname", "gsslib", "host", "krbsrvname", "options", "passfile", "password", "port",
    "service", "servicefile", "sslcert", "sslcrl", "sslkey", "sslmode", "sslnegotiation", "sslpassword", "sslrootcert",
    "target_session_attrs", "user",
}  # fmt: skip

_VALUES = {
    "sslmode": ("disable", "allow", "prefer", "require", "verify-ca", "verify-full"),
    "sslnegotiation": ("postgres", "direct"),
    "target_session_attrs": ("any", "primary", "standby", "read-write", "read-only", "prefer-standby"),
}


def from_url(parts: SplitResult) -> PostgresStorage:
    """`postgresql://user:password@host:port/database?…`, with the options of libpq and those of `PostgresStorage`."""
    given = options(parts, _OURS | _THEIRS)
    _check_theirs(parts, given)
    query = urlencode([(name, value) for name, value in parse_qsl(parts.query, True) if name in _THEIRS])
    return PostgresStorage(
        parts._replace(scheme="postgresql", query=query).geturl(),
        layout=cast("Layout", given.get("layout", "chatsession")),  # PostgresStorage checks it
        schema=given.get("schema", "public"),
        table=given.get("table"),
        create=flag(given, "create", default=True),
        connections=_connections(given) or 4,
        retry_for=positive(given, "retry_for") or 10.0,
        sweep_interval=positive(given, "sweep_interval") or 60.0,
        pooler=flag(given, "pooler") if "pooler" in given else None,
        time_to_live=positive(given, "time_to_live"),
        single_process=flag(given, "single_process"),
    )


def _check_theirs(parts: SplitResult, given: dict[str, str]) -> None:
    """Raises `StorageError` for values that asyncpg would refuse when it connects, with a message that quotes them."""
    for name, values in _VALUES.items():
        if name in given and given[name] not in values:
            raise StorageError(f"{name} in the URL must be one of {', '.join(values)}")
    check_files(given, ("sslcert", "sslcrl", "sslkey", "sslrootcert"))
    hosts = parts.netloc.rpartition("@")[2].split(",")
    ports = [host.rpartition(":")[2] for host in hosts if ":" in host.rpartition("]")[2]]
    ports += given.get("port", "").split(",") if given.get("port") else []
    if any(port and not (port.isdecimal() and 0 < int(port) < 65536) for port in ports):
        raise StorageError(
            "the port in the URL must be a number from 1 to 65535; in a password, write %3A for :, %2F for / and "
            "%40 for @"
        )


def _connections(given: dict[str, str]) -> int | None:
    number = positive(given, "connections")
    if number is not None and number != int(number):
        raise StorageError(f"connections in the URL must be a positive number, not {given['connections']!r}")
    return None if number is None else int(number)
