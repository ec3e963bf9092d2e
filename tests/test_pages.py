"""Pages of the documentation lead somewhere, list every option, and stay short."""

from __future__ import annotations

import re
import tomllib
from dataclasses import MISSING, fields
from pathlib import Path

import pytest

from chatsession import SessionError, SessionOptions, StorageError, errors, open_storage

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
GENERATED = {DOCS / "benchmarks", DOCS / "torture", DOCS / "soak", DOCS / "reference"}
LINK = re.compile(r"(?<!`)\[[^\]]*\]\(([^)\s]+)\)")
NAMED = re.compile(r"`((?:examples|tests|tools|docs|src|playground)/[\w./-]+\.\w+)`")


def anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title).strip().lower().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", [*sorted(ROOT.glob("*.md")), *PAGES], ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in LINK.findall(re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)):
        path, _, anchor = link.partition("#")
        if link.startswith(("https:", "http:")):
            continue
        target = (page.parent / path).resolve() if path else page
        assert target.is_file(), link
        assert not anchor or anchor in anchors(target), link
        assert DOCS not in page.parents or DOCS in target.parents, f"{link} leads out of the site"
    for path in NAMED.findall(page.read_text()):
        assert (ROOT / path).is_file(), path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_is_in_the_navigation(page: Path) -> None:
    assert f": {page.relative_to(DOCS)}\n" in (ROOT / "mkdocs.yml").read_text()


@pytest.mark.parametrize("page", [page for page in PAGES if GENERATED.isdisjoint(page.parents)], ids=lambda p: p.name)
def test_a_page_has_at_most_1500_words(page: Path) -> None:
    assert len(page.read_text().split()) <= 1_500


def test_all_options_are_listed_with_their_defaults() -> None:
    listed = re.findall(r"^\| `(\w+)` \| `(.+?)` \|", (DOCS / "options.md").read_text(), re.MULTILINE)
    named = {"get_session_key": "per_chat"}
    defaults = {
        each.name: named.get(each.name, repr(each.default))
        for each in fields(SessionOptions)
        if each.default is not MISSING
    }
    assert dict(listed) == defaults


def test_every_error_is_on_the_page_on_troubleshooting() -> None:
    told = (DOCS / "troubleshooting.md").read_text()
    for name, error in vars(errors).items():
        if isinstance(error, type) and error is not SessionError:
            assert f"`{name}`" in told, name


@pytest.mark.parametrize("page", ["troubleshooting.md", "logging.md"])
def test_messages_that_a_page_quotes_are_in_the_code(page: str) -> None:
    code = "".join(path.read_text() for path in (ROOT / "src").rglob("*.py"))
    code = re.sub(r'"\s*\n\s*f?"', "", code)
    for row in re.findall(r"^\| (`[^|]*) \|", (DOCS / page).read_text(), re.MULTILINE):
        if "of another SQLite program" in row or "missing 1 required" in row:
            continue
        for message in re.findall(r"`([^`]* [^`]*)`", row):
            for part in message.split("…"):
                assert part.strip(" :") in code, part


URLS = {
    "Memory": "memory:",
    "SQLite": "sqlite:///bot.db",
    "Files": "file:sessions",
    "Redis and Valkey": "redis://localhost",
    "PostgreSQL": "postgresql://localhost/bot",
    "MongoDB": "mongodb://localhost/bot",
    "NATS": "nats://localhost",
}


@pytest.mark.parametrize("storage", URLS)
def test_all_options_of_a_storage_url_are_listed(storage: str) -> None:
    with pytest.raises(StorageError) as refused:
        open_storage(f"{URLS[storage]}?no_such_option=1")
    known = str(refused.value).partition("known are ")[2].split(", ")
    part = (DOCS / "storage-urls.md").read_text().partition(f"\n## {storage}\n")[2].partition("\n## ")[0]
    listed = set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`.+?) \|", part, re.MULTILINE))))
    listed |= set(re.findall(r"`(\w+)`", part.partition("Options of libpq")[2]))
    assert listed - {"db"} == set(known)


def test_the_lowest_versions_of_frameworks_are_those_of_the_package() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    told = (DOCS / "versions.md").read_text()
    for extra in ("aiogram", "telegram-ext", "telebot", "telethon", "pyrogram"):
        lowest = re.search(r">=([\d.]+)", extras[extra][0])
        assert lowest is not None
        assert re.search(rf"^\| .*\b{re.escape(lowest[1].removesuffix('.0'))}\b", told, re.MULTILINE), extra


def test_the_reference_documents_no_private_module() -> None:
    for page in (DOCS / "reference").glob("*.md"):
        assert not re.search(r"^::: .*\b_\w", page.read_text(), re.MULTILINE)
