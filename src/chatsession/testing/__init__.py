"""Aids for tests: what proves a storage, and real servers to prove it against."""
