"""One command from its arguments to its exit code."""

from __future__ import annotations

import asyncio
import functools
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager
from typing import Any, ParamSpec

import typer

from chatsession.cli._screen import is_terminal, note, safe
from chatsession.errors import SessionConflictError, SessionError, SessionLockTimeoutError, StorageError

P = ParamSpec("P")

FOUND = 1
"""`check` and `doctor` found something; a bulk command left something undone."""
USAGE = 2
FAILED = 3
"""The storage failed, or cannot be reached."""
MISSING = 4
"""There is no such session."""
CONFLICT = 5
"""The session has changed meanwhile; nothing was overwritten."""
INTERRUPTED = 130


class CommandError(Exception):
    """Ends a command with a message and an exit code."""

    def __init__(self, code: int, message: str = "") -> None:
        super().__init__(message)
        self.code = code


def command(function: Callable[P, Coroutine[Any, Any, int | None] | int | None]) -> Callable[P, None]:
    """Make a typer command of a function, mostly an async one, that may return an exit code."""

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            result = function(*args, **kwargs)
            code = asyncio.run(result) if isinstance(result, Coroutine) else result
        except CommandError as end:
            if str(end):
                note(str(end), "red" if end.code else "")
            code = end.code
        except (KeyboardInterrupt, asyncio.CancelledError):
            note("interrupted; everything that was written is complete", "yellow")
            code = INTERRUPTED
        except BrokenPipeError:  # such as by `| head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            code = 128 + signal.SIGPIPE
        except (SessionConflictError, SessionLockTimeoutError) as error:
            note(str(error), "red")
            code = CONFLICT
        except SessionError as error:
            note(str(error), "red")
            code = FAILED if isinstance(error, StorageError) else FOUND
        except OSError as error:  # such as a full disk
            note(f"{error.filename or 'a file'}: {error.strerror}; what was written before is complete", "red")
            code = FAILED
        except ImportError as error:  # of a storage's driver; it says what to install
            note(str(error), "red")
            code = USAGE
        raise typer.Exit(code or 0)

    return run


@contextmanager
def interruptible() -> Generator[None]:
    """Let Ctrl-C end a block that waits for the user: asyncio would only note it, and the block would wait on."""
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)


def confirm(question: str, without_terminal: str) -> None:
    """Ask the user; ends the command if the answer is no, or if nobody can answer.

    Args:
        question: answered by yes or no.
        without_terminal: what would happen, to be said where there is no terminal.
    """
    if not is_terminal():
        raise CommandError(USAGE, f"{without_terminal}; pass --yes if that is meant")
    with interruptible():
        typer.confirm(safe(question), abort=True, err=True)
