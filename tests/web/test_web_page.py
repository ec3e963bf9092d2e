"""The page in Chromium: what a person sees and does."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import pytest
from page_aids import choose, visit
from playwright.async_api import Browser, expect
from web_aids import put, stored

from chatsession import SessionManager
from chatsession.storages import Storage
from chatsession.storages.sqlite import SQLiteStorage
from chatsession.web import Inspector, inspecting

HOSTILE = "</script><img src=x onerror=alert(1)><script>alert(2)</script>"


async def test_what_strangers_wrote_is_text_and_changes_are_seen_live(
    bot: Storage, browser: Browser, inspector: Inspector
) -> None:
    key = f"{HOSTILE}\n\0"
    await put(bot, {key: json.dumps({HOSTILE: HOSTILE, "__proto__": 12345678901234567890}).encode()})
    page, wrong = await visit(browser, inspector.invite())
    await choose(page, json.dumps(key))
    await expect(page.locator("#key")).to_have_text(f"{HOSTILE}␊␀")
    await expect(page.locator("#tree")).to_contain_text(f"{HOSTILE}: “{HOSTILE}”")
    await expect(page.locator("#tree")).to_contain_text("__proto__: 12345678901234567890")
    async with SessionManager(dict[str, int], storage=bot) as bots, bots.open("42") as session:
        session.data["pizzas"] = 1
    await choose(page, "42")
    async with SessionManager(dict[str, int], storage=bot) as bots, bots.open("42") as session:
        session.data["pizzas"] = 2
    await expect(page.locator("#tree .changed")).to_have_text("pizzas: 2")
    assert await page.locator("img:not([src='/static/icon.svg'])").count() == 0
    assert wrong == []


async def test_two_people_edit_at_once_and_nothing_is_lost(
    bot: Storage, browser: Browser, inspector: Inspector
) -> None:
    await put(bot, {"42": b'{"pizzas":1}'})
    first, first_wrong = await visit(browser, inspector.invite())
    await first.click("#invite")
    await expect(first.locator("#toast-text")).to_contain_text("http://")
    told = await first.locator("#toast-text").inner_text()
    second, second_wrong = await visit(browser, told[told.index("http") :])
    for page, pizzas in ((first, 10), (second, 20)):
        await choose(page, "42")
        await page.click("#edit")
        await page.fill("#draft", json.dumps({"pizzas": pizzas}))
    await first.click("#save")
    await expect(first.locator("#toast-text")).to_have_text("Saved.")
    await expect(second.locator("#newer")).to_be_visible()
    await second.click("#save")
    await expect(second.locator("#theirs")).to_contain_text('"pizzas": 10')
    await expect(second.locator("#mine")).to_have_text('{"pizzas": 20}')
    assert await stored(bot, "42") == b'{"pizzas":10}'
    await second.click("#keep-mine")
    await expect(second.locator("#editor")).to_be_hidden()
    assert await stored(bot, "42") == b'{"pizzas":20}'
    await expect(first.locator("#tree")).to_contain_text("pizzas: 20")
    assert first_wrong + second_wrong == []


async def test_by_keyboard_alone_delete_undo_and_mend(bot: Storage, browser: Browser, inspector: Inspector) -> None:
    await put(bot, {"42": b'{"pizzas": 1', "raw": b"\xff\x00"})
    page, wrong = await visit(browser, inspector.invite())
    await expect(page.locator("#keys button")).to_have_count(2)
    await page.keyboard.press("/")
    await page.keyboard.type("42")
    await page.keyboard.press("Enter")
    await expect(page.locator("#keys button")).to_have_count(1)
    await page.keyboard.press("Tab")
    await page.keyboard.press("Tab")
    await page.keyboard.press("Enter")
    await expect(page.locator("#tree pre")).to_have_text('{"pizzas": 1')
    await page.locator("#edit").focus()
    await page.keyboard.press("Tab")
    await page.keyboard.press("Enter")
    await expect(page.locator("#tree")).to_have_text("Nothing is stored under this key.")
    assert await stored(bot, "42") is None
    await expect(page.locator("#toast-undo")).to_be_visible()
    await page.locator("#toast-undo").focus()
    await page.keyboard.press("Enter")
    await expect(page.locator("#tree pre")).to_have_text('{"pizzas": 1')
    await page.locator("#edit").focus()
    await page.keyboard.press("Enter")
    await page.select_option("#kind", "json")
    await page.locator("#draft").focus()
    await page.keyboard.press("Control+End")
    await page.keyboard.press("Control+S")
    await expect(page.locator("#refused")).to_contain_text("ends too early")
    await page.keyboard.type("}")
    await page.keyboard.press("Control+S")
    await expect(page.locator("#toast-text")).to_have_text("Saved.")
    await expect(page.locator("#tree")).to_contain_text("pizzas: 1")
    assert await stored(bot, "42") == b'{"pizzas":1}'
    await choose(page, "raw")
    await expect(page.locator("#tree pre")).to_have_text("ff 00")
    assert [what for what in wrong if "422" not in what] == []


async def test_ten_megabytes_and_figures(bot: Storage, browser: Browser, inspector: Inspector) -> None:
    large = json.dumps([{"id": number, "text": "x" * 480} for number in range(20_000)], separators=(",", ":"))
    await put(bot, {"large": large.encode(), "small": b"{}"})
    page, wrong = await visit(browser, inspector.invite())
    await choose(page, "large")
    await expect(page.locator("#tree pre")).to_contain_text('[{"id":0,')
    await page.click("#load")
    await expect(page.locator("#tree > details > summary")).to_have_text("[20000]")
    await page.locator("#tree summary").nth(1).click()
    await expect(page.locator("#tree")).to_contain_text("id: 0")
    await page.click("#tree > details > button.more")
    await expect(page.locator("#tree > details > details")).to_have_count(400)
    await page.click("#show-statistics")
    await expect(page.locator("#figures")).to_contain_text("Sessions2")
    for plot in ("counts", "histogram", "latencies"):
        await expect(page.locator(f"#{plot} svg")).to_have_attribute("aria-label", re.compile(r"\d"))
    await page.click("#largest button")
    await expect(page.locator("#key")).to_have_text("large")
    assert wrong == []


async def test_looking_only_and_a_wrong_address(bot: Storage, browser: Browser, file: Path) -> None:
    await put(bot, {"42": b"1"})
    async with inspecting(SQLiteStorage(file), read_only=True) as inspector:
        page, wrong = await visit(browser, inspector.invite())
        await expect(page.locator("#read-only")).to_be_visible()
        await choose(page, "42")
        for tool in ("edit", "delete"):
            await expect(page.locator(f"#{tool}")).to_be_hidden()
        assert wrong == []
        stranger, _ = await visit(browser, f"http://127.0.0.1:{inspector.port}/enter?token=wrong")
        await expect(stranger.locator("h1")).to_have_text("This address does not open the inspector")
        await stranger.goto(f"http://127.0.0.1:{inspector.port}/")
        await expect(stranger.locator("h1")).to_have_text("This address does not open the inspector")
        await asyncio.gather(page.close(), stranger.close())


PAIRS = [
    *((front, back) for front in ("text", "faint", "accent", "danger") for back in ("card", "ground")),
    *((front, "card") for front in ("string", "number", "word", "name")),
    *((front, "flash") for front in ("text", "string", "number", "word", "name")),
    ("on-accent", "accent"),
    ("on-warm", "warm"),
    ("text", "soft"),
    ("ground", "danger"),
]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_enough(scheme: str) -> None:
    """WCAG 2.2, 1.4.3: a contrast of 4.5 at least."""
    style = (Path(__file__).parents[2] / "src/chatsession/web/static/style.css").read_text()
    light, dark = re.findall(r":root \{(.*?)\}", style, re.DOTALL)[:2]
    colours = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]+)", light))
    if scheme == "dark":
        colours |= dict(re.findall(r"--([a-z-]+): (#[0-9a-f]+)", dark))
    weak = {pair: round(contrast(*(colours[name] for name in pair)), 2) for pair in PAIRS}
    assert {pair: value for pair, value in weak.items() if value < 4.5} == {}


def contrast(front: str, back: str) -> float:
    brighter, darker = sorted((luminance(front), luminance(back)), reverse=True)
    return (brighter + 0.05) / (darker + 0.05)


def luminance(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
