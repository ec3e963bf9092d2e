"""The servers that a URL names, one of which is the primary."""

from __future__ import annotations

from urllib.parse import urlsplit

from chatsession.storages.postgres._driver import Connection, connect
from chatsession.storages.postgres._errors import is_transient


class Hosts:
    """Connects to the first server that answers. A server that does not answer is tried last from then on.

    asyncpg has one time limit for all servers of a URL, so that a first server that silently drops packets would use
    it up.

    Args:
        url: as asyncpg takes it.
        timeout: seconds for one connection, with all attempts.
    """

    def __init__(self, url: str, timeout: float) -> None:
        self._urls = _url_of_each(url)
        self._timeout = timeout

    async def connect(self, *, statements: int) -> Connection:
        """Open a connection; `statements`: how many prepared statements it keeps."""
        *others, last = list(self._urls)
        for url in others:
            try:
                return await connect(url, statements=statements, timeout=self._timeout / len(self._urls))
            except Exception as error:
                if not is_transient(error):
                    raise
                self._urls.remove(url)
                self._urls.append(url)
        return await connect(last, statements=statements, timeout=self._timeout / len(self._urls))


def _url_of_each(url: str) -> list[str]:
    try:
        parts = urlsplit(url)
    except ValueError:  # asyncpg will say what is wrong with it
        return [url]
    user, at, hosts = parts.netloc.rpartition("@")
    if "," not in hosts:
        return [url]
    return [parts._replace(netloc=f"{user}{at}{host}").geturl() for host in hosts.split(",")]
