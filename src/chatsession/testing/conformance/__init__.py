"""The parts of the conformance suite for storages, one idea a file; `chatsession.testing.storages` is all of them."""

import pytest

PARTS = (
    "expiry",
    "fencing",
    "forms",
    "keys",
    "life",
    "locks",
    "managers",
    "model",
    "scans",
    "single",
    "suite",
    "values",
    "versions",
)

pytest.register_assert_rewrite(*(f"{__name__}.{part}" for part in PARTS))
