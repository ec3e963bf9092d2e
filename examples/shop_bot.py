"""A shop: a cart for each user, which follows them from chat to chat, and for each chat the number of its orders."""

import asyncio
import os
from dataclasses import dataclass, field

from aiogram import Bot, Dispatcher, F
from aiogram.filters import Command
from aiogram.types import CallbackQuery, InlineKeyboardButton, InlineKeyboardMarkup, Message

from chatsession import SessionManager, open_storage, per_user
from chatsession.integrations.aiogram import LazySessionContext, SessionContext, setup_sessions, start_polling

PRICES = {"Margherita": 8, "Diavola": 10, "Tiramisù": 5}


@dataclass
class Cart:
    items: dict[str, int] = field(default_factory=dict[str, int])

    def __str__(self) -> str:
        lines = [f"{count} × {name}: {count * PRICES[name]} €" for name, count in self.items.items()]
        return "\n".join([*lines, f"Together {self.total} €"])

    @property
    def total(self) -> int:
        return sum(count * PRICES[name] for name, count in self.items.items())


storage = open_storage("sqlite:///shop.db")
carts = SessionManager(Cart, storage=storage, name="cart", prefix="cart:", get_session_key=per_user, deduplicate=100)
orders = SessionManager(int, storage=storage, name="orders", prefix="orders:", deduplicate=100)

dp = Dispatcher()
setup_sessions(dp, carts)
setup_sessions(dp, orders, lazy=True)  # only /pay and /orders need it

MENU = InlineKeyboardMarkup(
    inline_keyboard=[
        [InlineKeyboardButton(text=f"{name} {price} €", callback_data=f"add:{name}")] for name, price in PRICES.items()
    ]
)


@dp.message(Command("start", "menu"))
async def on_menu(message: Message) -> None:
    await message.answer("What would you like?", reply_markup=MENU)


@dp.callback_query(F.data.startswith("add:"))
async def on_add(query: CallbackQuery, cart: Cart) -> None:
    """Who presses two buttons in one second gets both: updates of one key run one after the other."""
    name = (query.data or "").removeprefix("add:")
    if name not in PRICES:  # a button of last year's menu
        await query.answer("We don't have this any more.")
        return
    cart.items[name] = cart.items.get(name, 0) + 1
    await query.answer(f"{name} is in your cart: {cart.total} €")


@dp.message(Command("cart"))
async def on_cart(message: Message, cart: Cart) -> None:
    await message.answer(str(cart) if cart.items else "Your cart is empty.")


@dp.message(Command("pay"))
async def on_pay(
    message: Message, cart: Cart, cart_ctx: SessionContext[Cart], orders_ctx: LazySessionContext[int]
) -> None:
    if not cart.items:
        await message.answer("Your cart is empty.")
        return
    number = await orders_ctx.session + 1
    orders_ctx.session = number  # stored together with the cart's end, if the bill can be sent
    cart_ctx.session = None
    await message.answer(f"{cart}\nThis is order number {number} of this chat. Enjoy!")


@dp.message(Command("orders"))
async def on_orders(message: Message, orders_ctx: LazySessionContext[int]) -> None:
    await message.answer(f"This chat has ordered {await orders_ctx.session} times.")


if __name__ == "__main__":
    asyncio.run(start_polling(dp, Bot(os.environ["BOT_TOKEN"])))
