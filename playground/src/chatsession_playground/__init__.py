"""A Bot API server on 127.0.0.1, and a terminal to chat with a bot that thinks it talks to Telegram.

* `chatsession_playground.bot_api` has `BotApiServer`, for tests and demos of any Bot API framework.
* `python -m chatsession_playground examples/pizza_bot.py` runs a bot's script against it.

Nothing is imported here, so that the bot's own process pays only for what it uses.
"""
