"""Chromium for the tests of pages."""

from __future__ import annotations

import shutil
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from playwright.async_api import Browser, Page, async_playwright, expect

_FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",  # a container's may be too small
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
_PATIENCE = 120_000
"""Milliseconds; a busy machine is no failure."""

expect.set_options(timeout=_PATIENCE)


@asynccontextmanager
async def chromium() -> AsyncGenerator[Browser]:
    """A browser of its own."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert path is not None, "this test needs Chromium: run tools/install-servers"
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=_FLAGS, timeout=_PATIENCE)
        yield browser
        await browser.close()


async def new_page(browser: Browser) -> Page:
    """A page in a context of its own."""
    context = await browser.new_context()
    context.set_default_timeout(_PATIENCE)
    return await context.new_page()
