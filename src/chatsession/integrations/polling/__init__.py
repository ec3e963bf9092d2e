"""Polling that confirms an update to Telegram when it is done, and not when it was fetched; used by every framework."""
