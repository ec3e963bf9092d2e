"""What the page about the command line shows is what happens."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "command-line.md"


def test_the_sessions_on_the_page_happen(tmp_path: Path) -> None:
    script = f'set -e\nchatsession() {{ "{sys.executable}" -m chatsession "$@"; }}\n'
    expected: list[str] = []
    for block in re.findall(r"^```console\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL):
        for line in block.splitlines():
            if line.startswith("$ "):
                script += line[2:] + "\n"
            else:
                expected.append(line)
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        env=os.environ | {"COLUMNS": "200"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    said = iter(done.stdout.splitlines())
    assert all(line in said for line in expected), done.stdout
    assert len(expected) >= 15
