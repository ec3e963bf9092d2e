"""Progress of long work, on stderr of a terminal."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager

from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from chatsession.cli._screen import err


@contextmanager
def progress(what: str, total: int | None = None) -> Generator[Callable[[int], None]]:
    """Show how far something is; gives a function to call with the number done so far.

    Args:
        what: is being done.
        total: of how many; `None`: nobody knows.
    """
    columns = [SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:,}")]
    with Progress(*columns, TimeElapsedColumn(), console=err, transient=True, disable=not err.is_terminal) as bars:
        bar: TaskID = bars.add_task(what, total=total)
        yield lambda done: bars.update(bar, completed=done)
