"""`python -m tools.kills`: every framework, by polling and webhook, on SQLite and Redis, over 1 and over 20 chats."""

from __future__ import annotations

import argparse
import asyncio
import itertools
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace

from tools.kills.bot import FRAMEWORKS
from tools.kills.campaign import Plan, run
from tools.kills.mutants import MUTANTS
from tools.servers.redis import RedisServer


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.kills", description=__doc__)
    parser.add_argument("--messages", type=int, default=1500)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--frameworks", nargs="*", default=list(FRAMEWORKS))
    parser.add_argument("--ways", nargs="*", default=["polling", "webhook"])
    parser.add_argument("--storages", nargs="*", default=["sqlite", "redis"])
    parser.add_argument("--chats", nargs="*", type=int, default=[1, 20])
    parser.add_argument("--no-mutants", action="store_true")
    options = parser.parse_args()
    plans = [
        Plan(framework, way, storage, options.messages, chats, options.kills, options.seed, patience=3600.0)
        for framework, way, storage, chats in itertools.product(
            options.frameworks, options.ways, options.storages, options.chats
        )
    ]
    if not options.no_mutants:
        plans += [Plan("telebot", "polling", "sqlite", 600, 20, 6, mutant=mutant) for mutant in MUTANTS]
    failed = sum(not _judge(plan) for plan in plans)
    return 1 if failed else 0


def _judge(plan: Plan) -> bool:
    began = time.monotonic()
    with _storage(plan.storage) as url:
        verdict = asyncio.run(run(replace(plan, storage=url)))
    good = bool(verdict.faults) == bool(plan.mutant)
    name = f"{plan.framework}, {plan.way}, {plan.storage}, {plan.chats} chats"
    what = f"{plan.messages} messages, {verdict.kills} kills, {verdict.again} answers came again"
    print(
        f"{'ok  ' if good else 'BAD '} {name}{', ' + plan.mutant if plan.mutant else ''}: {what}, "
        f"{len(verdict.faults)} faults, {time.monotonic() - began:.0f} s",
        flush=True,
    )
    for fault in verdict.faults[:5]:
        print(f"       {fault}", flush=True)
    return good


@contextmanager
def _storage(kind: str) -> Generator[str]:
    """The URL of an empty storage."""
    if kind == "redis":
        with RedisServer() as redis:
            yield redis.url
    else:
        with tempfile.TemporaryDirectory() as folder:
            yield f"sqlite:///{folder}/bot.db"


if __name__ == "__main__":
    sys.exit(main())
