"""Parses Redis URLs."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from urllib.parse import SplitResult, unquote

from chatsession.errors import StorageError
from chatsession.storages.urls import check_files, flag, options

_PORTS = {
    **dict.fromkeys(("redis", "rediss", "valkey", "valkeys", "redis+cluster"), 6379),
    "redis+sentinel": 26379,
}
_SOCKETS = ("unix", "redis+unix", "redis+socket")
_ENCRYPTED = ("rediss", "valkeys")

_TLS_FILES = {"ssl_ca_certs", "ssl_certfile", "ssl_keyfile"}
_TLS_OPTIONS = {*_TLS_FILES, "ssl_cert_reqs", "ssl_check_hostname"}
_OPTIONS = {
    "tls",
    "sentinel_username",
    "sentinel_password",
    "wait_replicas",
    "retry_for",
    "time_to_live",
    "single_process",
}


@dataclass(frozen=True)
class Target:
    """The addresses and credentials of the servers. Its `str` has no credentials."""

    scheme: str
    socket: str
    """The path of a Unix socket; empty: the server has an address."""
    hosts: tuple[tuple[str, int], ...]
    username: str | None = field(repr=False)
    password: str | None = field(repr=False)
    database: int
    service: str
    """The name of the primary at the sentinels."""
    tls: dict[str, str | bool] | None
    """Options of TLS; `None`: the connection is not encrypted."""
    sentinel_username: str | None = field(repr=False)
    sentinel_password: str | None = field(repr=False)
    options: dict[str, float]
    """Options of the storage that are given: `wait_replicas`, `retry_for`, `time_to_live`, `single_process`."""

    def __str__(self) -> str:
        if self.socket:
            return f"{self.scheme}://{self.socket}" + (f"?db={self.database}" if self.database else "")
        hosts = ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.hosts)
        service = f"/{self.service}" if self.service else ""
        database = f"/{self.database}" if self.database else ""
        return f"{self.scheme}://{hosts}{service}{database}"


def parse(parts: SplitResult) -> Target:
    """Parse a URL of one of the schemes. Raises `StorageError` if it is invalid."""
    scheme = parts.scheme.lower()
    if scheme not in _PORTS and scheme not in _SOCKETS:
        known = ", ".join(f"{known}:" for known in (*_PORTS, *_SOCKETS))
        raise StorageError(f"sessions in Redis need a URL that begins with one of {known}")
    by_socket = scheme in _SOCKETS
    given = options(parts, {"db"} | _OPTIONS - {"tls"} if by_socket else _TLS_OPTIONS | _OPTIONS)
    credentials, _, addresses = parts.netloc.rpartition("@")
    username, _, password = credentials.partition(":")
    if by_socket:
        service, hosts, tls = "", (), False
        socket, database = _socket(parts, addresses, given)
    else:
        socket, hosts = "", _hosts(addresses, scheme)
        service, database = _path(parts.path, scheme)
        tls = flag(given, "tls") or scheme in _ENCRYPTED
    if not tls and not _TLS_OPTIONS.isdisjoint(given):
        raise StorageError(
            f"the {scheme}: URL has options of TLS, but asks for no TLS; write rediss: (or valkeys:), or add tls=true"
        )
    return Target(
        scheme,
        socket,
        hosts,
        unquote(username) or None,
        unquote(password) or None,
        database,
        service,
        _tls(given) if tls else None,
        given.get("sentinel_username"),
        given.get("sentinel_password"),
        _options(given),
    )


def _options(given: dict[str, str]) -> dict[str, float]:
    numbers = ("wait_replicas", "retry_for", "time_to_live")
    chosen = {name: _number(name, given[name]) for name in numbers if name in given}
    if not chosen.get("wait_replicas", 0.0).is_integer():
        raise StorageError("wait_replicas is a whole number")
    if "single_process" in given:
        chosen["single_process"] = flag(given, "single_process")
    return chosen


def _hosts(addresses: str, scheme: str) -> tuple[tuple[str, int], ...]:
    hosts = tuple(_address(text, scheme) for text in (addresses or "localhost").split(","))
    if len(hosts) > 1 and scheme not in ("redis+sentinel", "redis+cluster"):
        raise StorageError(f"a {scheme}: URL names one server; use redis+sentinel: or redis+cluster: for more")
    return hosts


def _socket(parts: SplitResult, addresses: str, given: dict[str, str]) -> tuple[str, int]:
    if addresses or not parts.path.strip("/"):
        raise StorageError(f"a {parts.scheme}: URL has three slashes and a path: {parts.scheme}:///run/redis.sock?db=0")
    database = given.get("db", "0")
    if not (database.isascii() and database.isdecimal()):
        raise StorageError("db is the number of the database")
    return unquote(parts.path), int(database)


def _address(text: str, scheme: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or "]" in port:
        host, port = text, ""
    host = unquote(host.removeprefix("[").removesuffix("]"))
    if not host or (port and not (port.isdecimal() and 0 < int(port) < 65536)):
        raise StorageError(f"a host in the {scheme}: URL is not of the form host or host:port")
    if ":" in host and not text.startswith("["):
        raise StorageError(f"an IPv6 address in the {scheme}: URL stands in brackets, as in [::1]")
    return host, int(port) if port else _PORTS[scheme]


def _path(path: str, scheme: str) -> tuple[str, int]:
    pieces = [unquote(piece) for piece in path.strip("/").split("/")] if path.strip("/") else []
    service = ""
    if scheme == "redis+sentinel":
        if not pieces:
            raise StorageError("a redis+sentinel: URL names the service: redis+sentinel://host:26379/SERVICE")
        service = pieces.pop(0)
    if len(pieces) > 1 or (pieces and not pieces[0].isdecimal()):
        raise StorageError(f"the path of a {scheme}: URL ends with the number of the database, or with nothing")
    database = int(pieces[0]) if pieces else 0
    if database and scheme == "redis+cluster":
        raise StorageError("a Redis cluster has only database 0")
    return service, database


def _tls(given: dict[str, str]) -> dict[str, str | bool]:
    check_files(given, _TLS_FILES)
    chosen: dict[str, str | bool] = {name: given[name] for name in _TLS_OPTIONS & given.keys()}
    chosen["ssl_check_hostname"] = flag(given, "ssl_check_hostname", default=True)
    if chosen.setdefault("ssl_cert_reqs", "required") not in ("required", "optional", "none"):
        raise StorageError("ssl_cert_reqs is one of required, optional, none")
    if chosen["ssl_cert_reqs"] == "none":
        chosen["ssl_check_hostname"] = False
    return chosen


def _number(name: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise StorageError(f"{name} is a number")
    return number
