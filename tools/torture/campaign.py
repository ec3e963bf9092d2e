"""One campaign: a storage, workers on it, and the nemesis, until enough has happened; then the check."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import time
from collections.abc import Generator
from contextlib import AsyncExitStack, contextmanager
from datetime import date
from pathlib import Path

import msgspec

from tools.torture.crew import Crew, Member, WorkerFailedError
from tools.torture.disk import Disk
from tools.torture.messages import Dump, Dumped, Finish, Finished, Keys, WorkerOptions
from tools.torture.nemesis import LARGEST_SHIFT, Nemesis
from tools.torture.places import PLACES, Place
from tools.torture.proxy import Proxy
from tools.torture.verdict import Terms, Verdict, check

_HANG = 60.0
"""Seconds after which what makes no progress hangs."""
_LOCK_TIMEOUT = 15.0
_LEISURE = 5.0
"""Seconds between events when there were enough of them."""
_TTL = 12.0


class Aims(msgspec.Struct, kw_only=True):
    """When a campaign has done enough: at all of `updates` and `events`, or after `seconds`.

    On a slow machine it goes on until there was an update, and an event if it is to have any.
    """

    updates: int
    events: int
    seconds: float
    workers: int = 4
    in_flight: int = 50
    tail: int = 2000
    pause: float = 0.5
    """Seconds between events on average."""
    mutation: str | None = None
    without: frozenset[str] = frozenset()
    """Names of events that do not happen."""
    only: str | None = None
    """The name of the only event that happens."""


class Result(msgspec.Struct, kw_only=True):
    """What came out."""

    storage: str
    promise: str
    day: str
    seed: int
    seconds: float
    verdict: Verdict
    hangs: list[str]
    failures: list[str]
    lease: float
    workers: int
    disk_filled: bool

    @property
    def good(self) -> bool:
        """Were all promises kept?"""
        return not (self.verdict.faults or self.hangs or self.failures)


async def run(storage: str, folder: Path, aims: Aims, seed: int) -> Result:
    """Torture one storage.

    Args:
        storage: its name in `PLACES`.
        folder: where histories and logs go; it must be empty.
        aims: how much is enough.
        seed: of all that is drawn.
    """
    kind = PLACES[storage]
    with _small_disk(kind.megabytes) as disk:
        place = await asyncio.to_thread(kind(disk.folder).__enter__)
        try:
            campaign = _Campaign(storage, place, disk, folder, aims, seed)
            began = time.monotonic()
            await campaign.run()
            seconds = time.monotonic() - began
        finally:
            _keep_logs(disk.folder, folder)
            await asyncio.to_thread(place.__exit__, None, None, None)
    verdict = await asyncio.to_thread(check, folder)
    return Result(
        storage=storage,
        promise=kind.promise,
        day=date.today().isoformat(),
        seed=seed,
        seconds=seconds,
        verdict=verdict,
        hangs=campaign.hangs,
        failures=campaign.failures,
        lease=kind.lease,
        workers=campaign.workers,
        disk_filled=disk.small and kind.fills_disk,
    )


class _Campaign:
    def __init__(self, storage: str, place: Place, disk: Disk, folder: Path, aims: Aims, seed: int) -> None:
        self._place = place
        self._disk = disk
        self._folder = folder
        self._aims = aims
        self._seed = seed
        self.workers = aims.workers if place.shared else 1
        self.hangs: list[str] = []
        self.failures: list[str] = []
        leeway = 2 * LARGEST_SHIFT * place.lease if place.own_clock else 0.1
        folder.mkdir(parents=True, exist_ok=True)
        terms = Terms(
            storage=storage,
            seed=seed,
            workers=self.workers,
            lease=place.lease,
            ttl=_TTL,
            leeway=leeway,
            own_clock=place.own_clock,
            undone=place.fails_over,
        )
        (folder / "terms.json").write_bytes(msgspec.json.encode(terms))

    async def run(self) -> None:
        async with AsyncExitStack() as stack:
            proxies = [await stack.enter_async_context(Proxy(port)) for port in self._place.ports]
            routes = {port: proxy.port for port, proxy in zip(self._place.ports, proxies, strict=True)}
            crew = await stack.enter_async_context(
                Crew(self.workers, lambda number: self._options(number, routes), self._folder)
            )
            nemesis = Nemesis(
                self._place,
                crew,
                proxies,
                self._disk,
                self._folder / "events.jsonl",
                seed=self._seed,
                pause=self._aims.pause,
                without=self._aims.without,
                only=self._aims.only,
            )
            tormenting = asyncio.create_task(nemesis.run())
            try:
                await self._watch(crew, nemesis, tormenting)
            finally:
                tormenting.cancel()
                await asyncio.wait([tormenting])
            await nemesis.settle()
            self.failures += nemesis.failures
            if proxies and not any(proxy.accepted for proxy in proxies):
                self.failures.append("no connection led through a proxy, so none was ever cut")
            await self._end(crew)

    def _options(self, number: int, routes: dict[int, int]) -> WorkerOptions:
        return WorkerOptions(
            name=f"w{number}",
            storage=self._place.url,
            folder=str(self._folder),
            routes=routes,
            keys=Keys.of(self._aims.tail),
            in_flight=self._aims.in_flight,
            seed=1000 * self._seed + number,
            lease=self._place.lease,
            lock_timeout=_LOCK_TIMEOUT,
            ttl=_TTL,
            mutation=self._aims.mutation,
        )

    async def _watch(self, crew: Crew, nemesis: Nemesis, tormenting: asyncio.Task[None]) -> None:
        """Until enough has happened, or something is wrong."""
        end = time.monotonic() + self._aims.seconds
        shown = time.monotonic()
        while not self.hangs and (time.monotonic() < end or not self._has_begun(crew, nemesis)):
            if nemesis.happened >= self._aims.events and crew.changed >= self._aims.updates:
                return
            if nemesis.happened >= self._aims.events:
                nemesis.pause = max(nemesis.pause, _LEISURE)  # what is missing are updates
            if tormenting.done():
                tormenting.result()
            await asyncio.sleep(0.25)
            await self._look_at(crew)
            if time.monotonic() - shown > 30:
                shown = time.monotonic()
                print(f"  {crew.changed:,} updates, {nemesis.happened:,} events", flush=True)

    def _has_begun(self, crew: Crew, nemesis: Nemesis) -> bool:
        return crew.changed > 0 and (nemesis.happened > 0 or not self._aims.events)

    async def _look_at(self, crew: Crew) -> None:
        now = time.monotonic()
        for member in list(crew.members):
            if member.exit_code is not None and not member.expected_end:
                self.failures.append(f"{member.name} ended with code {member.exit_code}: {member.log()}")
                await crew.replace(member)
            elif not member.stopped and not member.expected_end and now - member.moved > _HANG:
                self._hang(member, f"made no progress for {_HANG:g} s")
            elif member.progress.oldest > _HANG + 2 * _LOCK_TIMEOUT:
                self._hang(member, f"has an operation that began {member.progress.oldest:.0f} s ago")

    def _hang(self, member: Member, how: str) -> None:
        member.dump_stack()
        self.hangs.append(f"{member.name} {how}")

    async def _end(self, crew: Crew) -> None:
        """All is well again: whatever is under way must come to its end, and then show what is stored."""
        for member in crew.members:
            await member.began.wait()
        await asyncio.gather(*map(self._finish, crew.members))
        for member in crew.members:
            if member.running:
                try:
                    await member.ask(Dump(), Dumped, 120)
                except WorkerFailedError as error:
                    self.failures.append(str(error))
                else:
                    return
        raise RuntimeError(f"nobody is left who could tell what is stored: {self.failures}")

    async def _finish(self, member: Member) -> None:
        try:
            hung = (await member.ask(Finish(_HANG), Finished, _HANG + 30)).hung
        except WorkerFailedError as error:
            self.failures.append(str(error))
            await member.kill()  # or it might go on while others look at what is stored
            return
        if hung:
            self.hangs.append(f"{member.name}: {hung} operations did not end: {member.log()}")


def _keep_logs(source: Path, folder: Path) -> None:
    """What the servers wrote goes with their disk."""
    for log in source.rglob("*.log"):
        shutil.copy(log, folder / f"{'-'.join(log.parent.relative_to(source).parts)}.log")


@contextmanager
def _small_disk(megabytes: int) -> Generator[Disk]:
    """Where the storage lies: apart from the histories, which must be written also when it is full."""
    before = tempfile.tempdir
    with tempfile.TemporaryDirectory(prefix="torture-") as home:
        os.chmod(home, 0o755)  # a server may have to run as another user
        with Disk(Path(home, "disk"), megabytes) as disk:
            tempfile.tempdir = os.fspath(disk.folder)
            try:
                yield disk
            finally:
                tempfile.tempdir = before
