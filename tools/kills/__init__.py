"""Bots of every framework that are killed at random moments: every count is exact, every message is answered."""
