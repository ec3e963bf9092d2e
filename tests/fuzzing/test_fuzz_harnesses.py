"""What `make fuzz` searches with runs, and finds nothing near the bytes that it begins with."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from fuzz_aids import damaged, fuzzed
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[2]))

from tools.fuzz.harnesses import HARNESSES
from tools.fuzz.seeds import SEEDS


@pytest.mark.parametrize("name", HARNESSES)
def test_a_harness_finds_nothing_near_its_seeds(name: str) -> None:
    for seed in SEEDS[name]:
        HARNESSES[name](seed)

    @fuzzed(damaged(st.sampled_from(SEEDS[name])) | st.binary(max_size=30), examples=100)
    def check(data: bytes) -> None:
        HARNESSES[name](data)

    check()
