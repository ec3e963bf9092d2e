"""The inspector's page in a browser."""

from __future__ import annotations

from playwright.async_api import Browser, Page, expect

from browsers import new_page


async def visit(browser: Browser, address: str) -> tuple[Page, list[str]]:
    """A page of a browser of its own, and what goes wrong on it from now on."""
    page = await new_page(browser)
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("dialog", lambda dialog: wrong.append(dialog.message))
    page.on(
        "console", lambda said: wrong.append(said.text) if said.type == "error" and "409" not in said.text else None
    )
    page.on("request", lambda request: wrong.append(request.url) if "http://127.0.0.1:" not in request.url else None)
    await page.goto(address)
    await expect(page.locator("#found:not(:empty), h1:has-text('does not open')")).to_be_visible()
    return page, wrong


async def choose(page: Page, text: str) -> None:
    await page.fill("#text", text)
    await page.press("#text", "Enter")
    await expect(page.locator("#found")).not_to_have_text("Searching…")
    await page.locator("#keys button").first.click()
    await expect(page.locator("#session")).to_be_visible()
