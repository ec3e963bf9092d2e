"""The shop of `shop_bot.py` for the synchronous TeleBot: its users find their carts in either."""

import os
from dataclasses import dataclass, field

from telebot import TeleBot
from telebot.types import CallbackQuery, InlineKeyboardButton, InlineKeyboardMarkup, Message

from chatsession import open_storage, per_user
from chatsession.integrations.telebot import SyncSessionContext, setup_sessions, start_polling
from chatsession.sync import SessionManager

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

bot = TeleBot(os.environ["BOT_TOKEN"], num_threads=16)
setup_sessions(bot, carts)
setup_sessions(bot, orders, lazy=True)  # only /pay and /orders need it

MENU = InlineKeyboardMarkup()
for name, price in PRICES.items():
    MENU.add(InlineKeyboardButton(text=f"{name} {price} €", callback_data=f"add:{name}"))


@bot.message_handler(commands=["start", "menu"])
def on_menu(message: Message) -> None:
    bot.send_message(message.chat.id, "What would you like?", reply_markup=MENU)


def chooses(query: CallbackQuery) -> bool:
    return (query.data or "").startswith("add:")


@bot.callback_query_handler(func=chooses)
def on_add(query: CallbackQuery, cart: Cart) -> None:
    """Who presses two buttons in one second gets both: updates of one key run one after the other."""
    name = (query.data or "").removeprefix("add:")
    if name not in PRICES:  # a button of last year's menu
        bot.answer_callback_query(query.id, "We don't have this any more.")
        return
    cart.items[name] = cart.items.get(name, 0) + 1
    bot.answer_callback_query(query.id, f"{name} is in your cart: {cart.total} €")


@bot.message_handler(commands=["cart"])
def on_cart(message: Message, cart: Cart) -> None:
    bot.send_message(message.chat.id, str(cart) if cart.items else "Your cart is empty.")


@bot.message_handler(commands=["pay"])
def on_pay(
    message: Message, cart: Cart, cart_ctx: SyncSessionContext[Cart], orders_ctx: SyncSessionContext[int]
) -> None:
    if not cart.items:
        bot.send_message(message.chat.id, "Your cart is empty.")
        return
    orders_ctx.session += 1  # stored together with the cart's end, if the bill can be sent
    cart_ctx.session = None
    bot.send_message(message.chat.id, f"{cart}\nThis is order number {orders_ctx.session} of this chat. Enjoy!")


@bot.message_handler(commands=["orders"])
def on_orders(message: Message, orders_ctx: SyncSessionContext[int]) -> None:
    bot.send_message(message.chat.id, f"This chat has ordered {orders_ctx.session} times.")


if __name__ == "__main__":
    start_polling(bot)
