"""The shop: carts follow users, orders belong to chats, and quick fingers lose nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from examples_aids import PATIENCE, answer, answers, running

from chatsession_playground.bot_api import BotApiServer, User

MENU = "What would you like?"


@pytest.fixture(params=["shop_bot.py", "shop_bot_telebot.py"])
def shop(request: pytest.FixtureRequest) -> str:
    """With asyncio, and without."""
    return request.param


async def test_a_cart_follows_its_user_and_orders_belong_to_the_chat(
    api: BotApiServer, tmp_path: Path, shop: str
) -> None:
    ann = api.private_chat(1)
    group = api.group(user=ann.user)
    async with running(api, shop, tmp_path):
        assert await answers(ann, "/cart", "/pay", "/menu") == ["Your cart is empty."] * 2 + [MENU]
        for name, together in (("Margherita", 8), ("Diavola", 18), ("Margherita", 26)):
            ann.press(f"add:{name}")
            told = await api.next_call("answerCallbackQuery", timeout=PATIENCE)
            assert told.params["text"] == f"{name} is in your cart: {together} €"
        assert await answers(group, "/cart") == ["2 × Margherita: 16 €\n1 × Diavola: 10 €\nTogether 26 €"]

    async with running(api, shop, tmp_path):  # after a restart
        assert (await answers(group, "/pay"))[0].endswith("This is order number 1 of this chat. Enjoy!")
        assert await answers(group, "/orders", "/cart") == ["This chat has ordered 1 times.", "Your cart is empty."]
        assert await answers(ann, "/orders") == ["This chat has ordered 0 times."]

        group.send("/menu", user=User(2, "Ben"))
        assert await answer(group) == MENU
        group.press("add:Pineapple", user=User(2, "Ben"))
        call = await api.next_call("answerCallbackQuery", timeout=PATIENCE)
        assert call.params["text"] == "We don't have this any more."


async def test_many_presses_at_once_are_all_in_the_cart(api: BotApiServer, tmp_path: Path, shop: str) -> None:
    ann = api.private_chat(1)
    async with running(api, shop, tmp_path):
        await answers(ann, "/menu")
        for _ in range(40):
            ann.press("add:Tiramisù")
        for _ in range(40):
            await api.next_call("answerCallbackQuery", timeout=PATIENCE)
        assert await answers(ann, "/cart") == ["40 × Tiramisù: 200 €\nTogether 200 €"]


async def test_a_bill_that_cannot_be_sent_leaves_the_cart_as_it_was(
    api: BotApiServer, tmp_path: Path, shop: str
) -> None:
    ann = api.private_chat(1)
    async with running(api, shop, tmp_path):
        await answers(ann, "/menu")
        ann.press("add:Diavola")
        await api.next_call("answerCallbackQuery", timeout=PATIENCE)
        ann.set_bot_status("kicked")
        ann.send("/pay")
        while (await api.next_call("sendMessage", timeout=PATIENCE)).error is None:
            pass
        ann.set_bot_status("member")
        assert await answers(ann, "/cart", "/orders") == [
            "1 × Diavola: 10 €\nTogether 10 €",
            "This chat has ordered 0 times.",
        ]
