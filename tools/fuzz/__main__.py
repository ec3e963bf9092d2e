"""Every harness for FUZZ_SECONDS (60); or one, by libFuzzer: `python -m tools.fuzz form -max_total_time=600`."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NoReturn

import atheris


def main() -> int:
    """The exit code: 0 if nothing was found."""
    if len(sys.argv) > 1:
        _search(*sys.argv[1:])
    from tools.fuzz.harnesses import HARNESSES

    seconds = int(os.environ.get("FUZZ_SECONDS", "60"))
    return max([_run(name, seconds) for name in HARNESSES])


def _search(name: str, *options: str) -> NoReturn:
    with atheris.instrument_imports(include=["chatsession"]):
        from tools.fuzz.harnesses import HARNESSES
    atheris.Setup([sys.argv[0], *options], HARNESSES[name])
    atheris.Fuzz()
    sys.exit()


def _run(name: str, seconds: int) -> int:
    """Run one harness in a process of its own; what broke it stays in a folder that is named."""
    from tools.fuzz.seeds import SEEDS

    folder = Path(tempfile.mkdtemp(prefix=f"chatsession-fuzz-{name}-"))
    corpus = folder / "corpus"
    corpus.mkdir()
    for number, seed in enumerate(SEEDS[name]):
        (corpus / str(number)).write_bytes(seed)
    options = [f"-max_total_time={seconds}", f"-artifact_prefix={folder}/", "-timeout=20", "-rss_limit_mb=1024"]
    command = [sys.executable, "-m", "tools.fuzz", name, *options, "-max_len=4096", str(corpus)]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, errors="replace", check=False)
    runs = re.findall(r"Done (\d+) runs", done.stderr)
    if done.returncode == 0 and runs:
        print(f"{name:12} {int(runs[-1]):>12,} executions, nothing found", flush=True)
        return 0
    print(*re.findall(r"=== Uncaught.*?(?=\n\n|\n#|\Z)|^SUMMARY.*?$", done.stderr, re.DOTALL | re.MULTILINE), sep="\n")
    print(f"{name:12} broke; what broke it lies in {folder}", flush=True)
    return 1


if __name__ == "__main__":
    sys.exit(main())
