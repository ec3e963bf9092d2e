"""What the fuzzing tests share: how often, bytes that are nearly right, and how much memory something takes.

The examples are the same each time, so that a run that was green stays green; `FUZZ_EXAMPLES=10000` makes many more,
and others each time.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

_MANY = int(os.environ.get("FUZZ_EXAMPLES", "0"))


def fuzzed(*strategies: st.SearchStrategy[Any], examples: int = 100) -> Callable[[Any], Any]:
    """Run a test with many values."""

    def decorate(test: Any) -> Any:
        chosen = settings(
            max_examples=_MANY or examples,
            derandomize=not _MANY,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        return chosen(given(*strategies)(test))

    return decorate


numbers = (
    st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from([10**300, -(10**400), 1e300])
)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)
json_bytes = json_values.map(msgspec.json.encode)

envelopes = st.fixed_dictionaries(
    {"__d": json_values},
    optional={
        "v": json_values | numbers,
        "e": json_values | numbers,
        "u": json_values | st.lists(numbers | texts, max_size=3),
        "m": json_values | texts,
        "f": json_values | texts,
        "x": json_values,
    },
).map(msgspec.json.encode)


@st.composite
def damaged(draw: st.DrawFn, good: st.SearchStrategy[bytes]) -> bytes:
    """Bytes of which a few are changed, taken out, repeated or put in."""
    data = bytearray(draw(good))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(data)))
        match draw(st.integers(0, 4)):
            case 0:
                data[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
            case 1:
                del data[at : at + draw(st.integers(1, 5))]
            case 2:
                data[at:at] = draw(st.binary(max_size=8))
            case 3:
                data[at:at] = data[at : at + 8]
            case _:
                del data[at:]
    return bytes(data)


def peak_megabytes(code: str, *arguments: str) -> int:
    """Run code in a process of its own, and return how much memory it had at most."""
    # Not getrusage(), which counts what the process had from which this one was forked.
    tail = "\nprint(next(line for line in open('/proc/self/status') if line.startswith('VmHWM')))"
    done = subprocess.run([sys.executable, "-c", code + tail, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return int(done.stdout.split()[-2]) // 1024
