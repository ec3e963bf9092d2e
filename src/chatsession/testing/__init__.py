"""Aids for tests: what proves a storage, and real servers to prove it against."""

try:
    import pytest
except ImportError as error:
    raise ImportError(
        "chatsession.testing needs pytest: pip install 'chatsession[testing]'", name=error.name
    ) from error

del pytest
