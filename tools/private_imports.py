"""Fails if something private is imported from outside of its package: part of `make lint`.

A module whose name begins with an underscore belongs to the package that holds it. Only modules of that package, and of
the packages in it, import it. The same holds for a name that begins with an underscore and the package of its module.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOTS = (Path("src"), Path("playground/src"))


class Import(NamedTuple):
    """A module, or a name in it, that is imported on a line."""

    line: int
    path: str


def findings(root: Path) -> list[str]:
    """The imports below a folder that reach into something private.

    Args:
        root: the folder that holds the top-level packages.

    Returns:
        A line for each, with the file, the line number and what is imported.
    """
    return [
        f"{file}:{found.line}: {found.path} is private to {owner}"
        for file in sorted(root.rglob("*.py"))
        for found in _imports(file, root)
        if (owner := _owner(found.path, root)) and not f"{_package(file, root)}.".startswith(f"{owner}.")
    ]


def _imports(file: Path, root: Path) -> Iterator[Import]:
    package = _package(file, root).split(".")
    for node in ast.walk(ast.parse(file.read_bytes(), str(file))):
        if isinstance(node, ast.Import):
            yield from (Import(node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            yield from (Import(node.lineno, f"{module}.{alias.name}") for alias in node.names)


def _package(file: Path, root: Path) -> str:
    return ".".join(file.relative_to(root).parent.parts)


def _owner(path: str, root: Path) -> str | None:
    """The package that a private module or name belongs to; `None` if no part of the path is private."""
    parts = path.split(".")
    private = next((number for number, part in enumerate(parts) if _is_private(part)), None)
    if private is None:
        return None
    while private and not root.joinpath(*parts[:private]).is_dir():  # a private name in a module
        private -= 1
    return ".".join(parts[:private])


def _is_private(name: str) -> bool:
    return name.startswith("_") and not (name.startswith("__") and name.endswith("__"))


def main() -> int:
    """Print what is wrong; returns the exit code."""
    found = [line for root in ROOTS for line in findings(root)]
    for line in found:
        print(line)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
