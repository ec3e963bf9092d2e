"""The names beside a session's key, and what URLs say."""

from __future__ import annotations

import subprocess
import sys
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.crc import key_slot

from chatsession import open_storage
from chatsession.errors import SessionKeyError, StorageError
from chatsession.storages.redis import RedisStorage
from chatsession.storages.redis._names import RESERVED, _text_in_slot, lock_of, memory_of, name_of, slot_of
from chatsession.storages.redis._url import parse

braces = st.text(st.sampled_from("{}ab:"), min_size=1, max_size=8)
keys = (braces | st.text(min_size=1)).filter(lambda key: isinstance(name_of(key), bytes))


@given(keys)
def test_all_names_of_a_session_are_in_its_slot(key: str) -> None:
    name = key.encode()
    assert slot_of(name) == key_slot(name)
    assert key_slot(lock_of(name)) == key_slot(memory_of(name, "1")) == key_slot(name)


@given(keys, keys)
def test_two_sessions_never_share_a_name(one: str, other: str) -> None:
    names = {(name, kind) for key in (one, other) for kind, name in enumerate(_names(key))}
    assert len({name for name, _ in names}) == 3 * len({one, other})


def _names(key: str) -> tuple[bytes, bytes, bytes]:
    name = key.encode()
    return name, lock_of(name), memory_of(name, "1")


def test_every_slot_has_a_text_without_a_closing_brace() -> None:
    for slot in range(16384):
        text = _text_in_slot(slot)
        assert b"}" not in text
        assert key_slot(b"{%b}" % text) == slot


@pytest.mark.parametrize("key", ["\ud800", RESERVED.decode(), "!chatsession:lock:{a}"])
def test_keys_that_are_refused(key: str) -> None:
    assert isinstance(name_of(key), SessionKeyError)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://localhost", "redis://localhost:6379"),
        ("redis://", "redis://localhost:6379"),
        ("redis://h:1/2", "redis://h:1/2"),
        ("REDIS://h", "redis://h:6379"),
        ("redis://user:p%40ss@h", "redis://h:6379"),
        ("redis://[::1]:7000/3", "redis://[::1]:7000/3"),
        ("redis://[::1]", "redis://[::1]:6379"),
        ("valkey://user:secret@h/2", "valkey://h:6379/2"),
        ("valkeys://h:7000", "valkeys://h:7000"),
        ("unix:///run/redis.sock", "unix:///run/redis.sock"),
        ("redis+unix://:secret@/run/a%20b.sock?db=3", "redis+unix:///run/a b.sock?db=3"),
        ("redis+socket:///run/redis.sock?db=0", "redis+socket:///run/redis.sock"),
        ("rediss://h?ssl_cert_reqs=none", "rediss://h:6379"),
        ("redis+sentinel://u:secret@a:1,b/svc/2", "redis+sentinel://a:1,b:26379/svc/2"),
        ("redis+cluster://:secret@a:1,b:2?tls=true&wait_replicas=1", "redis+cluster://a:1,b:2"),
    ],
)
def test_urls(url: str, shown: str) -> None:
    assert str(parse(urlsplit(url))) == shown
    assert repr(open_storage(url)) == f"<RedisStorage: {shown}>"
    assert "secret" not in repr(parse(urlsplit(url)))


def test_credentials_and_options_of_urls() -> None:
    target = parse(urlsplit("redis+sentinel://us%3Aer:p%40%2Fss@a/svc?sentinel_password=s&retry_for=2&tls=1"))
    assert (target.username, target.password, target.sentinel_password) == ("us:er", "p@/ss", "s")
    assert target.options == {"retry_for": 2.0}
    assert target.tls == {"ssl_cert_reqs": "required", "ssl_check_hostname": True}
    assert RedisStorage("redis://h?time_to_live=60").time_to_live == 60


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("redis://a,b", "one server"),
        ("redis://h:port", "host:port"),
        ("redis://h:0", "host:port"),
        ("redis://h/x", "number of the database"),
        ("redis://h/1/2", "number of the database"),
        ("redis+sentinel://h", "names the service"),
        ("redis+cluster://h/1", "only database 0"),
        ("redis://h?nonsense=1", "unknown"),
        ("redis://h?tls=perhaps", "true or false"),
        ("redis://h?retry_for=soon", "is a number"),
        ("redis://h?retry_for=0", "positive"),
        ("redis://h?wait_replicas=-1", "positive"),
        ("redis://h?time_to_live=0", "positive"),
        ("rediss://h?ssl_cert_reqs=never", "required, optional, none"),
        ("redis://h?ssl_cert_reqs=required", "options of TLS"),
        ("redis+cluster://h?ssl_ca_certs=/etc/hostname&tls=no", "options of TLS"),
        ("rediss://h?tls=perhaps", "true or false"),
        ("rediss://h?ssl_ca_certs=/no/such/file", "cannot be read"),
        ("redis://h?wait_replicas=1.5", "whole number"),
        ("redis://::1", "in brackets"),
        ("redis://h#x", "has a #"),
        ("unix://run/redis.sock", "three slashes"),
        ("redis+unix:///", "three slashes"),
        ("unix:///run/redis.sock?db=x", "number of the database"),
        ("unix:///run/redis.sock?tls=1", "unknown"),
        ("valkey://a,b", "one server"),
        ("http://h", "begins with one of redis:"),
    ],
)
def test_urls_that_make_no_sense(url: str, says: str) -> None:
    with pytest.raises(StorageError, match=says) as caught:
        RedisStorage(url.replace("://", "://user:secret@"))
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("missing", ["redis", "hiredis"])
def test_a_missing_driver_is_told_with_the_way_to_get_it(missing: str) -> None:
    program = f"import sys; sys.modules[{missing!r}] = None; import chatsession.storages.redis"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "pip install 'chatsession[redis]'" in ended.stderr.splitlines()[-1]
