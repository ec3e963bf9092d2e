"""What the places where sessions are kept have counted: CPU, bytes, round trips; read before and after a run."""

from __future__ import annotations

import json
import os
import resource
import socket
import struct
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeAlias
from urllib.request import urlopen

from tools.servers.mongo import MongoServer
from tools.servers.postgres import PostgresServer
from tools.servers.redis import RedisServer

CPU, BYTES_IN, BYTES_OUT, TRIPS = "cpu", "bytes_in", "bytes_out", "trips"
"""Seconds that the server computed; bytes that it received (or that were written to files), and sent; round trips."""

Meter: TypeAlias = Callable[[], Mapping[str, float]]
"""Reads counters that only grow."""

_PROC = Path("/proc")
_TICKS = os.sysconf("SC_CLK_TCK")


@contextmanager
def metered(meter: Meter | None) -> Generator[dict[str, float]]:
    """Count what happens in the block, less what reading the meter costs by itself; filled in at its end."""
    counted: dict[str, float] = {}
    if meter is None:
        yield counted
        return
    first, before = meter(), meter()
    yield counted
    after = meter()
    for name, value in after.items():
        own = before[name] - first[name]
        counted[name] = max(0.0, value - before[name] - own)


def redis_meter(server: RedisServer) -> Meter:
    """The server's own statistics; its read events are the round trips (a value above 16 KB takes several)."""

    def read() -> Mapping[str, float]:
        lines = server.ask("INFO", "stats").splitlines()
        fields = dict(line.split(":", 1) for line in lines if ":" in line)
        return {
            BYTES_IN: float(fields["total_net_input_bytes"]),
            BYTES_OUT: float(fields["total_net_output_bytes"]),
            TRIPS: float(fields["total_reads_processed"]),
            **cpu_of(server.process.pid),
        }

    return read


def postgres_meter(server: PostgresServer, *, wired: bool = True) -> Meter:
    """Statements by `pg_stat_statements`, each of which is a round trip.

    Args:
        server: with the extension.
        wired: also the bytes on the connections of this process, as the kernel counted them.
    """
    main = int(Path(server.psql("SHOW data_directory").strip(), "postmaster.pid").read_text().split()[0])

    def read() -> Mapping[str, float]:
        calls = server.psql("SELECT coalesce(sum(calls), 0) FROM pg_stat_statements")
        return {TRIPS: float(calls), **(_wire(server.port) if wired else {}), **cpu_of(main)}

    return read


POSTGRES_SETTINGS = {
    "fsync": "on",
    "synchronous_commit": "on",
    "shared_preload_libraries": "'pg_stat_statements'",
    "pg_stat_statements.save": "off",
}


def nats_meter(pid: int, monitor: int) -> Meter:
    """The server's own statistics: messages from its clients are the round trips."""

    def read() -> Mapping[str, float]:
        with urlopen(f"http://127.0.0.1:{monitor}/varz", timeout=10) as answer:
            fields = json.load(answer)
        return {
            TRIPS: fields["in_msgs"],
            BYTES_IN: fields["in_bytes"],
            BYTES_OUT: fields["out_bytes"],
            **cpu_of(pid),
        }

    return read


def mongo_meter(server: MongoServer) -> Meter:
    """The server's own statistics; it counts its requests, each of which is a round trip."""

    def read() -> Mapping[str, float]:
        network = server.command({"serverStatus": 1})["network"]
        return {
            TRIPS: float(network["numRequests"]),
            BYTES_IN: float(network["bytesIn"]),
            BYTES_OUT: float(network["bytesOut"]),
            **cpu_of(server.process.pid),
        }

    return read


def sqlite_meter(database: Path) -> Meter:
    """Transactions by the index of the write-ahead log (its `iChange`), bytes as the kernel saw them written."""

    def read() -> Mapping[str, float]:
        index = database.with_name(f"{database.name}-shm")
        with suppress(FileNotFoundError):
            return {TRIPS: float(struct.unpack_from("=I", index.read_bytes()[:12], 8)[0]), **_written("wchar")}
        return {TRIPS: 0.0, **_written("wchar")}

    return read


def file_meter() -> Mapping[str, float]:
    """Calls that write, and bytes as the kernel saw them written, of this process."""
    return {TRIPS: _written("syscw")[BYTES_IN], **_written("wchar")}


def _written(field: str) -> dict[str, float]:
    path = _PROC / "self" / "io"
    if not path.exists():
        return {BYTES_IN: 0.0}
    fields = dict(line.split(": ") for line in path.read_text().splitlines())
    return {BYTES_IN: float(fields[field])}


def cpu_of(pid: int) -> dict[str, float]:
    """Of a process and its children: to the nanosecond while they live, in ticks of the clock once they have ended."""
    if not (_PROC / str(pid) / "schedstat").exists():
        return {}
    family = [pid]
    for each in _PROC.glob("[0-9]*"):
        with suppress(OSError):
            if _fields(each)[1] == pid:
                family.append(int(each.name))
    ended = sum(_fields(_PROC / str(pid))[13:15]) / _TICKS
    return {CPU: ended + sum(map(_computed, family))}


def _computed(pid: int) -> float:
    nanoseconds = 0
    for thread in (_PROC / str(pid) / "task").glob("*/schedstat"):
        with suppress(OSError):
            nanoseconds += int(thread.read_text().split()[0])
    return nanoseconds / 1e9


def _fields(process: Path) -> list[int]:
    """From the state on: parent at 1, user and system time of ended children at 13 and 14."""
    words = (process / "stat").read_text().rpartition(")")[2].split()
    return [int(word) if word.lstrip("-").isdigit() else 0 for word in words]


def cpu_of_children() -> float:
    """Seconds that programs which this process started, and which have ended, computed."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _wire(port: int) -> dict[str, float]:
    """Bytes that this process sent to a port of 127.0.0.1 and received from there, of connections that are open."""
    sent = received = 0
    for entry in os.listdir("/proc/self/fd") if _PROC.exists() else ():
        with suppress(OSError):
            if not os.readlink(f"/proc/self/fd/{entry}").startswith("socket:"):
                continue
            with socket.socket(fileno=os.dup(int(entry))) as connection:
                if connection.family == socket.AF_INET and connection.getpeername()[1] == port:
                    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
                    acknowledged, got = struct.unpack_from("=QQ", info, 120)
                    sent, received = sent + acknowledged, received + got
    return {BYTES_IN: float(sent), BYTES_OUT: float(received)}
