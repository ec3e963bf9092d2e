"""Makes storages from URLs. Only the back end that a URL names is imported."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from importlib import import_module
from urllib.parse import SplitResult, parse_qsl, urlsplit

from chatsession.errors import StorageError
from chatsession.storages.base import RENAMED_OPTIONS, Storage

_SCHEMES = {
    "memory": "memory",
    "sqlite": "sqlite",
    "file": "file",
    "redis": "redis rediss redis+sentinel redis+cluster redis+unix redis+socket unix valkey valkeys",
    "postgres": "postgresql postgres postgresql+asyncpg",
    "nats": "nats",
    "mongo": "mongodb mongodb+srv",
}
_MODULES = {scheme: f"{__package__}.{name}" for name, schemes in _SCHEMES.items() for scheme in schemes.split()}
"""Scheme -> the module that offers `from_url(SplitResult) -> Storage`."""

_FLAGS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}

_LOCAL = ("memory", "sqlite", "file")
"""Schemes whose URLs have no credentials."""


def open_storage(url: str, *, create: bool = True) -> Storage:
    """Make the storage that a URL names. It connects when it is first used, or in `async with`.

    Args:
        url: `memory:`, `sqlite:///relative.db` or `sqlite:////absolute.db`, `file:///absolute/folder`, `redis://…`,
            `rediss://…`, `redis+sentinel://…`, `redis+cluster://…`, `redis+unix:///path`, `valkey://…`, `valkeys://…`,
            `postgresql://…`, `nats://…`, `mongodb://…` or `mongodb+srv://…`. Options follow a `?`; they are the
            arguments of that storage (`chatsession.storages.sqlite.SQLiteStorage`, …).
        create: whether an SQLite file or a folder of sessions may be created. If not, one that is missing, or that has
            other contents, is refused and left as it is, and one that is not writable can still be read.

    Returns:
        A storage that the caller closes.

    Raises:
        StorageError: the scheme is unknown, or the rest of the URL is not valid for that storage.
        ImportError: the storage needs an extra that is not installed; the message says which.

    Examples:
        >>> from chatsession import open_storage
        >>> open_storage("memory:")
        <MemoryStorage: 0 sessions>
    """
    if not isinstance(url, str):  # pyright: ignore[reportUnnecessaryIsInstance] # people pass paths, or None
        raise TypeError(f"url takes a string, as in open_storage('sqlite:///bot.db'), not a {type(url).__name__}")
    scheme = url.partition(":")[0].lower() if ":" in url else ""
    module = _MODULES.get(scheme)
    if module is None:
        # The rest of the URL stays out of the message: it may hold a password.
        named = f"URLs that start with {scheme + ':'!r}" if scheme else "a URL without a scheme"
        known = ", ".join(f"{scheme}:" for scheme in _MODULES)
        raise StorageError(f"no storage is known for {named}; use one of {known} (as in sqlite:///bot.db)")
    from_url: Callable[[SplitResult], Storage] = import_module(module).from_url
    try:
        parts = urlsplit(url)
        if scheme not in _LOCAL and "@" in parts.path + parts.fragment:
            raise StorageError(
                f"the {scheme}: URL has an @ behind a / or a #; in a password, write %2F for /, %23 for # and %40 for @"
            )
        if scheme == "sqlite" and parts.path.startswith("/") and not url.partition(":")[2].startswith("//"):
            parts = parts._replace(path="/" + parts.path)  # sqlite:/absolute.db
        if not create and scheme in ("sqlite", "file"):
            parts = parts._replace(query=f"{parts.query}&create=false" if parts.query else "create=false")
        return from_url(parts)
    except (ValueError, OverflowError):  # whose message may quote a part of the URL
        raise StorageError(f"the {scheme}: URL of the storage is malformed") from None


def names_storage(text: str) -> bool:
    """Whether a text begins with the scheme of a storage, or is `env:NAME`, which stands for such a URL."""
    scheme, colon, _ = text.partition(":")
    return bool(colon) and (scheme.lower() in _MODULES or scheme == "env")


def flag(given: Mapping[str, str], name: str, default: bool = False) -> bool:
    """Read an option that is true or false; raises `StorageError` for any other value."""
    text = given.get(name)
    if text is None:
        return default
    if text.lower() not in _FLAGS:
        raise StorageError(f"{name} in the URL must be true or false")
    return _FLAGS[text.lower()]


def positive(given: Mapping[str, str], name: str) -> float | None:
    """Read an option that is a positive number; `None`: it is not given. Raises `StorageError` for any other value."""
    if name not in given:
        return None
    try:
        number = float(given[name])
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise StorageError(f"{name} in the URL must be a positive number, not {given[name]!r}")
    return number


def check_files(given: Mapping[str, str], names: Collection[str]) -> None:
    """Raise `StorageError` for an option that names a file which cannot be read."""
    for name in sorted(given.keys() & set(names)):
        try:
            open(given[name], "rb").close()
        except (OSError, ValueError):
            raise StorageError(f"{name} in the URL names a file that is missing or cannot be read") from None


def options(parts: SplitResult, known: Collection[str]) -> dict[str, str]:
    """Read the options behind the `?` of a URL.

    Raises:
        StorageError: an option is unknown, was renamed, or is given twice, or the URL has a fragment.
    """
    if parts.fragment:
        raise StorageError(f"the {parts.scheme}: URL has a #; write %23 for it")
    names = [name for name, _ in parse_qsl(parts.query, keep_blank_values=True)]
    given = dict(parse_qsl(parts.query, keep_blank_values=True))
    wrong = set(names) - set(known) or {name for name in names if names.count(name) > 1}
    if wrong and "@" in parts.query:  # the names may be the end of a password
        raise StorageError(
            f"the {parts.scheme}: URL has unknown options, and an @ behind a ?; in a password, write %3F for ? and "
            "%40 for @"
        )
    for name in sorted(wrong):
        if RENAMED_OPTIONS.get(name) in known:
            raise StorageError(f"the {parts.scheme}: URL has an option {name!r}; it is named {RENAMED_OPTIONS[name]!r}")
    if wrong:
        raise StorageError(
            f"the {parts.scheme}: URL has options that are unknown or given twice: {', '.join(sorted(wrong))}; "
            f"known are {', '.join(sorted(known)) or 'none'}"
        )
    return given
