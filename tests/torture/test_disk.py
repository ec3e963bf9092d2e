"""The disk that is filled."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.torture.disk import Disk


def test_a_disk_is_full_until_it_is_emptied(tmp_path: Path) -> None:
    """Where no tmpfs may be mounted it is none that could be filled, and says so."""
    with Disk(tmp_path / "disk", 4) as disk:
        (disk.folder / "before").write_bytes(b"1")
        if disk.small:
            disk.fill()
            with pytest.raises(OSError, match="No space left"):
                (disk.folder / "after").write_bytes(bytes(100_000))
            disk.empty()
            (disk.folder / "after").write_bytes(bytes(100_000))
        else:
            with pytest.raises(AssertionError, match="machine's disk"):
                disk.fill()
        assert (disk.folder / "before").read_bytes() == b"1"
    assert not disk.small or not any(disk.folder.iterdir())
