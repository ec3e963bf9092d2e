"""A disk that can be filled: a small tmpfs, where the process may mount one."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

_STEP = 1024 * 1024


class Disk:
    """A tmpfs of its own on a folder; a context manager.

    Where none may be mounted, the folder is used as it is, and cannot be filled (`small` says so).

    Args:
        folder: where; made when missing.
        megabytes: how large it is.
    """

    def __init__(self, folder: Path, megabytes: int) -> None:
        self.folder = folder
        self._megabytes = megabytes
        self.small = False

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        options = f"size={self._megabytes}m,mode=755"
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "torture", str(self.folder)], capture_output=True, check=False
        )
        self.small = mounted.returncode == 0
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.small:
            subprocess.run(["umount", "-l", str(self.folder)], capture_output=True, check=False)

    def fill(self) -> None:
        """Leave no room."""
        assert self.small, "this would fill the machine's disk"
        with (self.folder / "ballast").open("wb") as ballast:
            step = _STEP
            while step >= 4096:
                try:
                    os.posix_fallocate(ballast.fileno(), os.fstat(ballast.fileno()).st_size, step)
                except OSError:
                    step //= 2

    def empty(self) -> None:
        """Make room again."""
        (self.folder / "ballast").unlink(missing_ok=True)
