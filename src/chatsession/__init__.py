"""Typed, durable, race-free sessions for chat bots."""
