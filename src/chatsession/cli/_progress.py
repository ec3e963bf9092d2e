"""Progress of long work, on stderr of a terminal."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Protocol

from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.table import Column
from rich.text import Text

from chatsession.cli._screen import duration, err, note, quoted
from chatsession.maintenance import Scope, count
from chatsession.storages import Storage


class _Figures(ProgressColumn):
    """`12,000 of 50,000, 8,000/s, 5 s left`."""

    def render(self, task: Task) -> Text:
        figures = [f"{task.completed:,.0f}" if task.total is None else f"{task.completed:,.0f} of {task.total:,.0f}"]
        if task.speed:
            figures.append(f"{task.speed:,.0f}/s")
        if task.time_remaining is not None:
            figures.append(f"{duration(task.time_remaining)} left")
        return Text(", ".join(figures))


@contextmanager
def progress(what: str, total: int | None = None) -> Generator[Callable[[int], None]]:
    """Show how far something is; gives a function to call with the number done so far.

    Args:
        what: is being done.
        total: of how many; `None`: unknown.
    """
    columns = [TextColumn("{task.description}"), BarColumn(20), _Figures(Column(no_wrap=True))]
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bars:
        bar = bars.add_task(what, total=total)
        yield lambda done: bars.update(bar, completed=done)


class Report(Protocol):
    """What long work that can be continued tells of itself."""

    @property
    def seen(self) -> int: ...
    @property
    def cursor(self) -> str | None: ...


@contextmanager
def resumable(what: str, cursor: str | None, total: int | None = None) -> Generator[Callable[[Report], None]]:
    """As `progress`, given by reports; if the work stops, print how to continue it.

    Args:
        what: is being done.
        cursor: where it begins.
        total: of how many; `None`: unknown.
    """
    try:
        with progress(what, total) as show:

            def report_so_far(report: Report) -> None:
                nonlocal cursor
                cursor = report.cursor
                show(report.seen)

            yield report_so_far
    except BaseException:
        if cursor is not None:
            note(f"to continue where it stopped: --resume-after {quoted(cursor)}", "yellow")
        raise


async def total_of(storage: Storage, scope: Scope) -> int | None:
    """How many sessions there are, if there is a terminal to show it on."""
    return await count(storage, scope) if err.is_terminal else None
