"""The documentation as a reader sees it: built, searched, copied from, and looked at by axe."""

from __future__ import annotations

import importlib
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, Page, expect

from browsers import chromium
from built_once import built_once

ROOT = Path(__file__).parents[1]
SEARCHED = {
    "logging": "logging/",
    "docker": "deployment/",
    "troubleshooting": "troubleshooting/",
    "lock timeout": "troubleshooting/",
    "systemd": "deployment/",
    "sqlalchemy": "recipes/",
    "options": "options/",
}
"""What readers look for, and the page that must be among the first answers."""


def build(folder: Path) -> None:
    """Build the site of this checkout in a folder of its own, with warnings as errors."""
    shutil.copytree(ROOT / "docs", folder / "docs")
    shutil.copy(ROOT / "mkdocs.yml", folder)
    (folder / "src").symlink_to(ROOT / "src")
    (folder / "playground").symlink_to(ROOT / "playground")
    done = subprocess.run(
        [sys.executable, "-m", "zensical", "build", "--strict"],
        cwd=folder,
        env=os.environ | {"REPOSITORY_URL": "https://git.example/chatsession"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """The built site; built once for all workers."""
    folder = built_once(tmp_path_factory, worker_id, "built-site", build, "site")
    return folder / "site"


PUBLIC = ["chatsession", "chatsession.sync", "chatsession.web"]


@pytest.mark.parametrize("module", PUBLIC)
def test_the_reference_has_every_public_name(module: str, site: Path) -> None:
    shown = "".join(page.read_text() for page in (site / "reference").rglob("*.html"))
    for name in importlib.import_module(module).__all__:
        assert re.search(rf'id="chatsession\.[\w.]*{name}"', shown), name


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Requests are not logged."""


@pytest.fixture
def address(site: Path) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as browser:
        yield browser


async def visit(browser: Browser, address: str, scheme: str = "light", width: int = 1280) -> tuple[Page, list[str]]:
    """A page, and what it asks of other hosts or complains about."""
    context = await browser.new_context(
        color_scheme=scheme,  # type: ignore[arg-type]
        viewport={"width": width, "height": 900},
        permissions=["clipboard-read", "clipboard-write"],
    )
    context.set_default_timeout(120_000)
    page = await context.new_page()
    wrong: list[str] = []
    page.on("request", lambda request: wrong.append(request.url) if "//127.0.0.1:" not in request.url else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("response", lambda response: wrong.append(response.url) if response.status >= 400 else None)
    await page.goto(address)
    return page, wrong


AMONG_THE_FIRST = """expected => [...document.querySelectorAll("*")]
    .flatMap(each => each.shadowRoot ? [...each.shadowRoot.querySelectorAll('a[href*="?h="]')] : [])
    .slice(0, 3)
    .some(answer => answer.href.includes(`/${expected}?h=`))"""
"""Whether a page is among the first three answers; they change while one types."""


async def test_the_search_finds_what_readers_look_for(browser: Browser, address: str) -> None:
    for words, expected in SEARCHED.items():
        page, wrong = await visit(browser, address)
        await page.locator(".md-search__button").click()
        box = page.get_by_role("combobox")
        await expect(box).to_be_focused()  # a busy browser opens it late, and empties it as it opens
        await box.fill(words)
        await page.wait_for_function(AMONG_THE_FIRST, arg=expected)
        assert wrong == []
        await page.context.close()


async def test_the_copy_button_takes_commands_without_prompt_and_output(browser: Browser, address: str) -> None:
    page, _ = await visit(browser, f"{address}command-line/")
    block = page.locator("div.highlight", has_text="chatsession count").first
    await block.hover()
    await block.locator("button").first.click()
    await page.wait_for_function("async () => await navigator.clipboard.readText()")
    copied = await page.evaluate("navigator.clipboard.readText()")
    assert copied.splitlines() == [
        "export CHATSESSION_URL=sqlite:///bot.db",
        "chatsession ls --json",
        "chatsession count",
    ]


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
async def test_axe_finds_nothing(scheme: str, width: int, browser: Browser, address: str) -> None:
    for path in ("", "tutorial/"):
        page, wrong = await visit(browser, address + path, scheme, width)
        results = await Axe().run(page)
        assert results.response["violations"] == [], f"{path}: {results.generate_report()}"
        assert wrong == []
        wide = await page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0, f"{path} scrolls sideways"


async def test_a_reader_finds_the_way_on_and_the_repository(browser: Browser, address: str) -> None:
    page, _ = await visit(browser, f"{address}tutorial/")
    assert await page.locator("a.md-footer__link--prev").count() == 1
    assert await page.locator("a.md-footer__link--next").count() == 1
    assert await page.locator('a[href="https://git.example/chatsession"]').count() >= 1
    assert await page.locator('link[rel="icon"][href$="favicon.svg"]').count() == 1
    before = await page.evaluate("getComputedStyle(document.body).backgroundColor")
    await page.locator('label[title="Switch to dark mode"]').click()
    await page.wait_for_function("before => getComputedStyle(document.body).backgroundColor !== before", arg=before)
