"""The test suites of peers, from their source distributions; none of them is kept here."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from importlib.metadata import version
from pathlib import Path

import pytest

_SECONDS_TO_DOWNLOAD = 300
_OPTIONS = """
[pytest]
asyncio_mode = auto
asyncio_default_fixture_loop_scope = function
markers = repeat
"""


def unpacked(package: str, into: Path, *parts: str) -> Path:
    """Parts of the source distribution of the version that is installed, such as its folder `tests`.

    Skips the test where the package registry cannot be reached, unless PEERS_REQUIRED is set, as for a release.
    """
    wanted = f"{package}=={version(package)}"
    # `pip download` builds the package's metadata, for which it may need the registry once more.
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", package, wanted]
    done = subprocess.run(command, cwd=into, capture_output=True, text=True, timeout=_SECONDS_TO_DOWNLOAD, check=False)
    if done.returncode != 0:
        told = f"no source distribution of {wanted}: {done.stderr.strip()[-500:]}"
        if os.environ.get("PEERS_REQUIRED"):
            pytest.fail(told)
        pytest.skip(told)
    (archive,) = into.glob("*.tar.gz")
    with tarfile.open(archive) as source:
        (root,) = {member.name.split("/")[0] for member in source}
        wanted_parts = tuple(f"{root}/{part}" for part in parts)
        source.extractall(into, [member for member in source if member.name.startswith(wanted_parts)], filter="data")
    return into / root


def passed(root: Path, conftest: str, *tests: str, **environment: str) -> int:
    """Run tests of a peer with a `conftest.py` of ours, and return how many passed. Fails if one does not."""
    (root / "tests" / "conftest.py").write_text(conftest)
    (root / "pytest.ini").write_text(
        "[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\nmarkers = repeat\n"
    )
    paths = os.pathsep.join([str(root), *sys.path])
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", "pytest.ini", "-rp", *tests]
    done = subprocess.run(
        command,
        cwd=root,
        env={**os.environ, "PYTHONPATH": paths, **environment},
        capture_output=True,
        text=True,
        timeout=_SECONDS_TO_DOWNLOAD,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    return sum(line.startswith("PASSED") for line in done.stdout.splitlines())
