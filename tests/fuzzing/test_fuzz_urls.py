"""Any text is a storage or an error of the contract, and what is secret in it is shown nowhere."""

from __future__ import annotations

import traceback
from urllib.parse import quote, urlsplit, urlunsplit

import pytest
from fuzz_aids import fuzzed
from hypothesis import strategies as st

from chatsession import StorageError, open_storage
from chatsession.storages.urls import _MODULES

SECRET = "hunter2"
OPTIONS = [
    "retry_for",
    "connections",
    "create",
    "credentials",
    "database",
    "fsync",
    "host",
    "layout",
    "options",
    "retry_for",
    "pooler",
    "port",
    "replicas",
    "retry_for",
    "schema",
    "sentinel_password",
    "ssl_ca_certs",
    "ssl_cert_reqs",
    "sslmode",
    "sweep_interval",
    "synchronous",
    "table",
    "time_to_live",
    "timeout",
    "tls",
    "wait_replicas",
]
VALUES = ["", "nan", "inf", "-1", "1e300", "0", "true", "\0", "\udc80", "1" * 5000, "٣", "grammy", "/etc", "a b", "☕"]

odd = st.text(max_size=8) | st.sampled_from(
    ["%00", "%zz", "[", "]", "[::1]", "[::1", ":", "@", "\udc80", "\0", "١", "a" * 300]
)
ports = st.sampled_from(["", ":", ":0", ":1", ":99999", ":x", ":" + "1" * 5000, ":٣", ":1:1"])
queries = st.lists(
    st.tuples(st.sampled_from(OPTIONS) | odd, st.sampled_from(VALUES) | odd).map(lambda pair: f"{pair[0]}={pair[1]}"),
    max_size=3,
).map("&".join)


@st.composite
def urls(draw: st.DrawFn) -> str:
    scheme = draw(st.sampled_from([*_MODULES, "REDIS", "env", ""]) | odd)
    slashes = draw(st.sampled_from(["//", "///", "/", "", "////"]))
    host = draw(st.sampled_from(["", "127.0.0.1", "h", "a,b", "[::1]"]) | odd)
    path = draw(st.sampled_from(["", "/", "/0", "/main/1", "/x/y/z", "/" + "1" * 5000, "/%00"]) | odd)
    query = draw(st.just("") | queries.map(lambda query: f"?{query}"))
    return f"{scheme}:{slashes}{host}{draw(ports)}{path}{query}"


@fuzzed(urls() | st.text(), examples=400)
def test_any_text_is_a_storage_or_an_error_of_the_contract(url: str) -> None:
    try:
        repr(open_storage(url))
    except StorageError as error:
        str(error).encode(errors="surrogatepass")


@fuzzed(
    st.sampled_from(["redis", "rediss", "redis+sentinel", "redis+cluster", "postgresql", "nats", "mongodb"]),
    st.sampled_from(
        ["", "user:", ":", "user:x", "x?", "?", "x?y=", "x&y", "x?a&b=", "/", "%2F", "#", "[", "x@", ":@:"]
    ),
    st.sampled_from(["", "%3F", "@", "x@", "&"]),
    st.sampled_from(["h", "127.0.0.1:1", "h:x", "h:99999", "[::1", "", "h:" + "1" * 5000]),
    st.sampled_from(["", "/0", "/main", "/x/y/z", "/0?nonsense=1", "?retry_for=nan", "?schema=%00", "?connections=x"]),
    examples=400,
)
def test_a_password_is_never_shown(scheme: str, before: str, after: str, host: str, rest: str) -> None:
    url = f"{scheme}://{before}{SECRET}{after}@{host}{rest}"
    try:
        storage = open_storage(url)
    except StorageError as error:
        shown = "".join(traceback.format_exception(error))
    else:
        shown = repr(storage) + str(storage)
    assert SECRET not in shown


@pytest.mark.parametrize(
    ("url", "says"),
    [
        (f"redis://:p?{SECRET}@h", "write %3F for"),
        (f"redis://:p?a&{SECRET}=c@h", "write %3F for"),
        (f"redis+sentinel:///{SECRET}@h", "write %2F for"),
        (f"postgresql://u:p#{SECRET}@h/x", "%23 for #"),
        ("redis://h?wait_replicas=nan", "wait_replicas is a number"),
        ("redis://h?time_to_live=inf", "time_to_live is a number"),
        ("postgresql://h/x?options=\udc80", "is malformed"),
        ("redis://h:" + "1" * 5000, "is malformed"),
        ("sqlite:///%00", "NUL"),
        ("file:///%00", "NUL"),
        ("sqlite:///a.db?retry_for=nan", "must be positive"),
        ("file:///a?sweep_interval=nan", "must be positive"),
        ("nats://h?retry_for=nan", "must be a positive number"),
        ("mongodb://h/bot?retry_for=nan", "must be a positive number"),
        ("mongodb://h", "names no database"),
        ("mongodb://h/bot?w=-1", "w in the URL has a value that pymongo does not take"),
        (f"mongodb://u:{SECRET}/@h/bot", "write %2F for"),
    ],
)
def test_what_was_found_once_is_told(url: str, says: str) -> None:
    with pytest.raises(StorageError, match=says) as caught:
        open_storage(url)
    assert SECRET not in str(caught.value)


def test_a_url_that_changes_when_it_is_put_together_has_a_repr() -> None:
    url = "postgresql:////:2]x"
    changes = urlunsplit(urlsplit(url)) != url  # not from Python 3.13 on
    assert ("at the URL given" if changes else "at //:2]x") in repr(open_storage(url))


@pytest.mark.parametrize("seconds", ["1e300", "inf"])
async def test_a_pause_may_be_longer_than_clocks_can_tell(seconds: str, tmp_path: object) -> None:
    where = quote(str(tmp_path))
    async with open_storage(f"sqlite:///{where}/bot.db?sweep_interval={seconds}&retry_for={seconds}") as storage:
        assert list(await storage.read_many(["a"])) == [None]
    async with open_storage(f"file://{where}/sessions?sweep_interval={seconds}") as storage:
        assert list(await storage.read_many(["a"])) == [None]


async def test_a_credentials_file_says_what_it_needs() -> None:
    try:
        import nkeys  # noqa: F401 - is it there?
    except ImportError:
        with pytest.raises(ImportError, match=r"nats-py\[nkeys\]"):
            await open_storage("nats://127.0.0.1:1?credentials=/nowhere&retry_for=0.1").open()
    else:
        with pytest.raises(StorageError):
            await open_storage("nats://127.0.0.1:1?credentials=/nowhere&retry_for=0.1").open()
