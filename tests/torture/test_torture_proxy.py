"""The proxy of the campaigns does to connections what it says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import ClassVar

import pytest

from tools.torture.proxy import Direction, Proxy


class Echo(asyncio.Protocol):
    """Sends back what it gets, and hangs up when there is no more."""

    open: ClassVar[set[asyncio.Transport]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self.open.add(transport)

    def data_received(self, data: bytes) -> None:
        self._transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.open.discard(self._transport)


@pytest.fixture
async def proxy() -> AsyncIterator[Proxy]:
    server = await asyncio.get_running_loop().create_server(Echo, "127.0.0.1", 0)
    async with server:
        async with Proxy(server.sockets[0].getsockname()[1]) as proxy:
            yield proxy
        for transport in Echo.open:
            transport.abort()
        await asyncio.sleep(0)


async def connected(proxy: Proxy) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    writer.write(b"hello")
    assert await reader.readexactly(5) == b"hello"
    return reader, writer


async def hang_up(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()
    await asyncio.sleep(0)


async def is_over(reader: asyncio.StreamReader) -> bool:
    try:
        return await reader.read(1) == b""
    except ConnectionError:
        return True


async def test_bytes_pass_both_ways(proxy: Proxy) -> None:
    reader, writer = await connected(proxy)
    large = bytes(range(256)) * 4000
    writer.write(large)
    assert await reader.readexactly(len(large)) == large
    await hang_up(writer)


async def test_cut(proxy: Proxy) -> None:
    first, second = await connected(proxy), await connected(proxy)
    assert len(proxy.links()) == 2
    proxy.cut()
    for reader, writer in (first, second):
        assert await is_over(reader)
        await hang_up(writer)
    assert proxy.links() == []
    await hang_up((await connected(proxy))[1])


@pytest.mark.parametrize("direction", Direction)
async def test_stalled_bytes_come_later_and_in_order(proxy: Proxy, direction: Direction) -> None:
    reader, writer = await connected(proxy)
    proxy.stall(direction)
    writer.write(b"1")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await reader.read(1)
    writer.write(b"2")
    proxy.resume()
    writer.write(b"3")
    assert await reader.readexactly(3) == b"123"
    await hang_up(writer)


async def test_a_connection_made_during_a_stall_works_afterwards(proxy: Proxy) -> None:
    proxy.stall(*Direction)
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    writer.write(b"hello")
    proxy.resume()
    assert await reader.readexactly(5) == b"hello"
    await hang_up(writer)


async def test_delayed_bytes_keep_their_order_when_the_delay_ends(proxy: Proxy) -> None:
    reader, writer = await connected(proxy)
    proxy.delay = dict.fromkeys(Direction, 0.2)
    writer.write(b"1")
    while not any(link.client._last_due for link in proxy.links()):  # noqa: ASYNC110 - it has come as far as the proxy
        await asyncio.sleep(0)
    proxy.delay = {}
    writer.write(b"2")
    assert await reader.readexactly(2) == b"12"
    await hang_up(writer)


async def test_half_closed_to_the_server(proxy: Proxy) -> None:
    """Which takes it for the end, and hangs up."""
    reader, writer = await connected(proxy)
    (link,) = proxy.links()
    link.half_close(Direction.TO_SERVER)
    assert await is_over(reader)
    await hang_up(writer)


async def test_half_closed_to_the_client(proxy: Proxy) -> None:
    """Which hears the end, while the server is still there."""
    reader, writer = await connected(proxy)
    (link,) = proxy.links()
    link.half_close(Direction.TO_CLIENT)
    assert await reader.read(1) == b""
    assert proxy.links() == [link]
    await hang_up(writer)


async def test_refused(proxy: Proxy) -> None:
    proxy.refusing = True
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    assert await is_over(reader)
    await hang_up(writer)
    proxy.refusing = False
    await hang_up((await connected(proxy))[1])


async def test_a_server_that_is_not_there() -> None:
    async with Proxy(1) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        assert await is_over(reader)
        await hang_up(writer)
