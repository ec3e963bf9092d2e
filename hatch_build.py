"""Where the project lives, for everything that has to name it: the wheel's metadata, its README, and the site.

The addresses are two strings in `pyproject.toml`, under `[tool.hatch.metadata.hooks.custom]`. A package index cannot
follow the README's relative links: they become absolute, or plain text as long as there is no address.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path
from typing import Any

RELATIVE_LINK = re.compile(r"(?<!!)\[([^\]]*)\]\((?!https?:|mailto:|#)([^)\s]+)\)")
RELATIVE_IMAGE = re.compile(r"!\[([^\]]*)\]\((?!https?:)([^)\s]+)\)\n*")


def readme_for_an_index(text: str, repository: str) -> str:
    """Make the README's relative links and images absolute, or leave them out."""
    if not repository:
        return RELATIVE_LINK.sub(r"\1", RELATIVE_IMAGE.sub("", text))
    text = RELATIVE_IMAGE.sub(rf"![\1]({repository}/raw/main/\2)\n\n", text)
    return RELATIVE_LINK.sub(rf"[\1]({repository}/blob/main/\2)", text)


def urls(repository: str, documentation: str) -> dict[str, str]:
    """What `[project.urls]` would say."""
    found = {"Documentation": documentation} if documentation else {}
    if repository:
        found |= {
            "Repository": repository,
            "Changelog": f"{repository}/blob/main/CHANGELOG.md",
            "Issues": f"{repository}/issues",
        }
    return found


def addresses(root: Path) -> tuple[str, str]:
    """The repository's and the documentation's, each empty if it is not known."""
    with (root / "pyproject.toml").open("rb") as file:
        options = tomllib.load(file)["tool"]["hatch"]["metadata"]["hooks"]["custom"]
    return options["repository"].rstrip("/"), options["documentation"]


if __name__ == "__main__":
    repository, documentation = addresses(Path(__file__).parent)
    sys.stdout.write(f"REPOSITORY_URL={repository} DOCUMENTATION_URL={documentation}\n")
else:
    from hatchling.metadata.plugin.interface import MetadataHookInterface

    class Addresses(MetadataHookInterface):
        """Fills in `readme` and `urls`."""

        def update(self, metadata: dict[str, Any]) -> None:
            repository, documentation = addresses(Path(self.root))
            text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
            metadata["readme"] = {
                "content-type": "text/markdown",
                "text": readme_for_an_index(text, repository),
            }
            metadata["urls"] = urls(repository, documentation)
