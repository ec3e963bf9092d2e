"""The demo in the browser, in Chromium, with a real bot in a process of its own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from playwright.async_api import expect

from browsers import chromium, new_page
from chatsession_playground._stage import Stage, stage
from chatsession_playground.page import PlaygroundPage

BOT = Path(__file__).parents[2] / "examples/pizza_bot.py"


@pytest.fixture
async def on() -> AsyncIterator[Stage]:
    """The pizza bot."""
    async with stage(BOT) as on:
        await on.start()
        yield on


async def test_people_see_what_the_library_does_for_them(on: Stage) -> None:
    kill_wanted = asyncio.Event()
    async with PlaygroundPage(on, kill_wanted.set) as demo, chromium() as browser:
        page = await new_page(browser)
        wrong: list[str] = []
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
        await page.goto(demo.url)
        sessions, messages = page.locator("#sessions"), page.locator("#messages")
        await expect(sessions).to_contain_text("nothing is stored")

        await page.click("#pizza")
        await expect(messages).to_contain_text("Pizza number 1 for this chat!")
        await expect(sessions).to_contain_text('"count": 1')

        await page.click("#again")
        await expect(messages).to_contain_text("was delivered again")
        await page.click("#kill")
        await expect(page.locator("#bot")).to_contain_text("killed")
        assert kill_wanted.is_set()
        await on.bot.kill()
        await on.start()
        await expect(page.locator("#bot")).to_contain_text(f"running, process {on.bot.pid}")
        await page.click("#pizza")
        await expect(messages).to_contain_text("Pizza number 2 for this chat!")
        await expect(sessions).to_contain_text('"count": 2')

        await page.fill("#text", "<img src=x onerror=alert(1)>")
        await page.press("#text", "Enter")
        await expect(messages).to_contain_text("<img src=x onerror=alert(1)>")

        await page.click("#rooms button:has-text('Pizza lovers')")
        await page.select_option("#who", "Ben")
        await page.click("#pizza")
        await expect(messages).to_contain_text("Pizza number 1 for this chat!")
        await expect(sessions).to_contain_text('"count": 1')
        await page.click("#upgrade")
        await expect(sessions.locator("figure")).to_have_count(2)
        await expect(sessions.locator("figure").nth(1)).to_contain_text('"count": 1')
        await page.click("#pizza")
        await expect(messages).to_contain_text("Pizza number 2 for this chat!")
        await expect(sessions.locator("figure").nth(1)).to_contain_text('"count": 2')
        # By now the update that came twice was handled, or passed over.
        assert json.loads(await on.stored.of(1001) or "null") == {"count": 2}
        assert wrong == []


async def test_only_the_page_itself_may_ask(on: Stage) -> None:
    asked: list[None] = []
    async with PlaygroundPage(on, lambda: asked.append(None)) as demo, aiohttp.ClientSession() as client:
        kill = json.dumps({"do": "kill"})
        for headers in ({}, {"Origin": "http://evil.example"}, {"Origin": demo.url, "Host": "evil.example"}):
            async with client.post(f"{demo.url}/do", data=kill, headers=headers) as answer:
                assert answer.status == 403
        async with client.get(demo.url, headers={"Host": "evil.example"}) as answer:
            assert answer.status == 403
        for wrong in ("", "[]", '{"do": "send", "room": 99, "who": "Ann", "text": "a"}', '{"do": "again"}'):
            async with client.post(f"{demo.url}/do", data=wrong, headers={"Origin": demo.url}) as answer:
                assert answer.status == 400
        assert asked == []
        async with client.post(f"{demo.url}/do", data=kill, headers={"Origin": demo.url}) as answer:
            assert answer.status == 204
        assert asked == [None]
