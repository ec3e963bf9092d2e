"""The demo in the browser, in Chromium, with a real bot in a process of its own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Page, expect

from browsers import chromium, new_page
from chatsession_playground._chat_room import ChatRoom
from chatsession_playground._playground import Playground
from chatsession_playground._stage import stage
from chatsession_playground._style import Style
from chatsession_playground.page import PlaygroundPage

BOT = Path(__file__).parents[2] / "examples/pizza_bot.py"


@pytest.fixture
async def playground() -> AsyncIterator[Playground]:
    """With the pizza bot."""
    async with running(BOT) as playground:
        yield playground


@asynccontextmanager
async def running(script: Path) -> AsyncIterator[Playground]:
    async with stage(script) as on:
        playground = Playground(on)
        running = asyncio.create_task(playground.run())
        assert await playground.rooms.until(lambda: playground.is_running or running.done(), timeout=120)
        yield playground
        running.cancel()
        await asyncio.wait([running])
        assert running.cancelled() or running.result() is None


@asynccontextmanager
async def opened(playground: Playground) -> AsyncIterator[Page]:
    """The page, in Chromium, without an error."""
    async with PlaygroundPage(playground) as demo, chromium() as browser:
        page = await new_page(browser)
        wrong: list[str] = []
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
        await page.goto(demo.url)
        yield page
        assert wrong == []


async def test_people_see_what_the_library_does_for_them(playground: Playground) -> None:
    async with opened(playground) as page:
        sessions, lines = page.locator("#sessions"), page.locator("#lines")
        await expect(sessions).to_contain_text("nothing")
        await page.click("#pizza")
        await expect(lines).to_contain_text("Pizza number 1 for this chat!")
        await expect(sessions).to_contain_text('"count": 1')
        await expect(page.locator("#command")).to_contain_text("ls sqlite:////")

        await page.click("#again")
        await expect(lines).to_contain_text("was delivered again: recognised, not counted.")
        await page.click("#kill")
        await expect(lines).to_contain_text("Killed; back as process ")
        await page.click("#pizza")
        await expect(lines).to_contain_text("Pizza number 2 for this chat!")
        await expect(sessions).to_contain_text('"count": 2')

        await page.fill("#text", "<img src=x onerror=alert(1)>")
        await page.press("#text", "Enter")
        await expect(lines).to_contain_text("<img src=x onerror=alert(1)>")

        await page.click("#rooms button:has-text('Pizza lovers')")
        await page.select_option("#who", "Ben")
        await page.click("#pizza")
        await expect(lines).to_contain_text("Pizza number 1 for this chat!")
        await expect(sessions).to_contain_text('"count": 1')
        await page.click("#upgrade")
        await expect(sessions.locator("figure")).to_have_count(1)
        await expect(sessions).to_contain_text("Key -100")
        await page.click("#pizza")
        await expect(lines).to_contain_text("Pizza number 2 for this chat!")
        await expect(sessions).to_contain_text('"count": 2')


async def test_what_is_sent_around_a_kill_counts_once(playground: Playground) -> None:
    """Five orders of which the first is under way when the bot is killed, and three while it is dead."""
    rooms = playground.rooms
    ann = rooms.all[0]
    async with opened(playground) as page:
        killed = asyncio.create_task(rooms.until(lambda: not playground.is_running, timeout=120))
        await page.click("#rush")
        assert await killed
        for _ in range(3):
            rooms.say(ann, "🍕")  # as if it was typed in the terminal
        await expect(page.locator("#lines")).to_contain_text("delivered after the kill: ")
        await expect(page.locator("#sessions")).to_contain_text('"count": 8')
        await expect(page.locator("#lines")).to_contain_text("Pizza number 8 for this chat!")
        await expect(page.locator("#lines .own")).to_have_count(8)
        await expect(page.locator("#lines .own [aria-label=confirmed]")).to_have_count(8)
        answers = [line.text for line in ann.lines if line.kind == "bot"]
        assert [text for n, text in enumerate(answers) if text not in answers[:n]] == [
            f"Pizza number {number} for this chat!" for number in range(1, 9)
        ]


async def test_buttons_are_pressed_on_the_page_and_in_the_terminal() -> None:
    async with running(BOT.with_name("shop_bot.py")) as playground, opened(playground) as page:
        lines, sessions = page.locator("#lines"), page.locator("#sessions")
        await page.fill("#text", "/menu")
        await page.press("#text", "Enter")
        await page.click(".buttons button:has-text('Diavola')")
        await expect(lines).to_contain_text("The bot shows: Diavola is in your cart: 10 €")
        await expect(lines.locator(".own").last).to_contain_text("[Diavola 10 €]")
        await expect(sessions).to_contain_text('"Diavola": 1')

        terminal = ChatRoom(playground, Style(False))
        terminal.do("/press 3")
        await expect(sessions).to_contain_text('"Tiramisù": 1')
        await page.click("#again")
        await expect(lines).to_contain_text("was delivered again: recognised, not counted.")
        assert (await Axe().run(page)).response["violations"] == []


async def test_a_kill_tells_what_other_polling_loses(tmp_path: Path) -> None:
    script = tmp_path / "bot.py"
    confirming = BOT.with_name("pizza_bot_ptb.py").read_text(encoding="utf-8")
    script.write_text(confirming.replace("    setup_polling(application)", "    #"), encoding="utf-8")
    async with running(script) as playground:
        ann = playground.rooms.all[0]
        playground.rush(ann)
        assert await playground.rooms.until(lambda: any("and lost" in line.text for line in ann.lines), timeout=120)


async def test_axe_finds_nothing_on_a_phone_or_a_desktop(playground: Playground) -> None:
    async with opened(playground) as page:
        await page.click("#pizza")
        await expect(page.locator("#lines")).to_contain_text("Pizza number 1")
        await page.click("#rooms button:has-text('Pizza lovers')")
        await expect(page.locator("#upgrade")).to_be_visible()
        for width in (390, 1200):
            await page.set_viewport_size({"width": width, "height": 800})
            assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
            for scheme in ("light", "dark"):
                await page.emulate_media(color_scheme=scheme)
                assert (await Axe().run(page)).response["violations"] == [], (width, scheme)


async def test_only_the_page_itself_may_ask(playground: Playground) -> None:
    async with PlaygroundPage(playground) as demo, aiohttp.ClientSession() as client:
        kill = json.dumps({"do": "kill"})
        for headers in ({}, {"Origin": "http://evil.example"}, {"Origin": demo.url, "Host": "evil.example"}):
            async with client.post(f"{demo.url}/do", data=kill, headers=headers) as answer:
                assert answer.status == 403
        async with client.get(demo.url, headers={"Host": "evil.example"}) as answer:
            assert answer.status == 403
        for wrong in ("", "[]", '{"do": "send", "room": 99, "who": "Ann", "text": "a"}', '{"do": "again"}'):
            async with client.post(f"{demo.url}/do", data=wrong, headers={"Origin": demo.url}) as answer:
                assert answer.status == 400
        assert playground.is_running
        killed = asyncio.create_task(playground.rooms.until(lambda: not playground.is_running, timeout=120))
        async with client.post(f"{demo.url}/do", data=kill, headers={"Origin": demo.url}) as answer:
            assert answer.status == 204
        assert await killed
