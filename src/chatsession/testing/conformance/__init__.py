"""The parts of the conformance suite for storages, one idea a file; `chatsession.testing.storages` is all of them."""

try:
    import hypothesis
    import pytest_asyncio
except ImportError as error:
    raise ImportError(
        f"the conformance suite needs {error.name}: pip install 'chatsession[testing]'", name=error.name
    ) from error

del hypothesis, pytest_asyncio
