import os
from dataclasses import dataclass

from telegram import Message, Update
from telegram.ext import Application, CommandHandler, ContextTypes, MessageHandler, filters

from chatsession import SessionManager
from chatsession.integrations.telegram_ext import SessionCallbackContext, setup_polling, setup_sessions


@dataclass
class Pizza:
    count: int = 0


class Context(SessionCallbackContext[Pizza]):
    """With it, `context.session` is known to be a `Pizza`."""


async def on_pizza(update: Update, context: Context) -> None:
    context.session.count += 1  # stored when the update is done
    await answer(update, f"Pizza number {context.session.count} for this chat!")


async def on_reset(update: Update, context: Context) -> None:
    context.session = None  # deletes the session
    await answer(update, "Forgotten.")


async def answer(update: Update, text: str) -> None:
    if isinstance(message := update.effective_message, Message):
        await message.reply_text(text)


def main() -> None:
    builder = Application.builder().token(os.environ["BOT_TOKEN"]).context_types(ContextTypes(context=Context))
    application = builder.concurrent_updates(True).build()  # chats beside each other, each in order
    setup_sessions(application, SessionManager(Pizza, storage="sqlite:///bot.db", deduplicate=100))
    setup_polling(application)  # confirms an update to Telegram when it is done
    application.add_handler(MessageHandler(filters.Regex("🍕"), on_pizza))
    application.add_handler(CommandHandler("reset", on_reset))
    application.run_polling()


if __name__ == "__main__":
    main()
