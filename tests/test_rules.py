"""Every numbered rule that the tree refers to is on docs/rules.md, and every test that the page names is there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "rules.md").read_text()
RULES = re.findall(r"^\*\*Rule (\d+[a-z]?)\.\*\*", PAGE, re.MULTILINE)
TESTS = sorted(set(re.findall(r"`(tests/[\w/]+\.py)(?:::([\w*]+))?`", PAGE)))

NUMBER = r"\d+[a-z]?"
MENTION = re.compile(rf"\brules? ({NUMBER}(?:(?:,| and| or| to)+ {NUMBER})*)(?!\w)", re.IGNORECASE)
NUMBERED_TEST = re.compile(r"\bdef test_(\d+[a-z]?)_")
SEARCHED = ("src", "tests", "docs", "tools", "playground", "examples")
TEXTS = {".py", ".md", ".sql", ".lua", ".js", ".mjs", ".html", ".css", ".toml"}


def texts() -> Iterator[Path]:
    yield from (path for path in ROOT.iterdir() if path.is_file() and path.suffix in TEXTS)
    for folder in SEARCHED:
        found = sorted(path for path in (ROOT / folder).rglob("*") if path.suffix in TEXTS)
        yield from (path for path in found if "node_modules" not in path.parts)


def mentioned(text: str) -> Iterator[str]:
    for match in MENTION.finditer(text):
        yield from re.findall(NUMBER, match[1].lower())
    yield from NUMBERED_TEST.findall(text)


def test_every_rule_that_is_mentioned_is_on_the_page() -> None:
    unknown = {
        f"{path.relative_to(ROOT)}: rule {number}"
        for path in texts()
        for number in mentioned(path.read_text())
        if number not in RULES
    }
    assert not unknown


@pytest.mark.parametrize(("path", "name"), TESTS, ids=lambda part: part or "all")
def test_every_test_that_is_named_is_there(path: str, name: str) -> None:
    defined = re.findall(r"^ *(?:async )?def (test_\w+)\(", (ROOT / path).read_text(), re.MULTILINE)
    assert any(fnmatchcase(each, name or "test_*") for each in defined)


def test_every_rule_stands_once_and_names_a_test() -> None:
    assert len(RULES) == len(set(RULES)) >= 30
    for paragraph in PAGE.split("**Rule ")[1:]:
        assert "`tests/" in paragraph or "has no test" in paragraph, paragraph[:40]


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("see rule 12", ["12"]),
        ("Rules 5 and 15a: …", ["5", "15a"]),
        ("rules 1, 2 and 3", ["1", "2", "3"]),
        ("async def test_21a_what_is_empty():", ["21a"]),
        ("each rule is", []),
    ],
)
def test_mentions_are_found(text: str, numbers: list[str]) -> None:
    assert list(mentioned(text)) == numbers
