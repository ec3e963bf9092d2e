"""`python -m playground`, in a checkout: makes a virtual environment with what the demo needs, and starts the demo.

It needs nothing but Python itself, and does what `make demo` does on systems that have no `make`. Behind it may stand
another bot's script: `python -m playground examples/shop_bot.py`.
"""

import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENT = ROOT / ".venv"
READY = ENVIRONMENT / ".playground"
PYTHON = ENVIRONMENT / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
PROJECTS = [ROOT / "pyproject.toml", ROOT / "playground/pyproject.toml"]
BUILD_TOOLS = ["hatchling>=1.26", "editables"]  # installed once, not once for each of the two packages
PACKAGES = ["--editable", f"{ROOT}[aiogram,cli]", "--editable", str(ROOT / "playground")]


def main() -> int:
    """Set up what is missing, and run the demo; gives its exit code."""
    if sys.version_info < (3, 11):  # noqa: UP036 - said here, where an older Python gets to see it
        print("chatsession needs Python 3.11 or newer.", file=sys.stderr)
        return 1
    if not PYTHON.exists():
        print(f"→ making the virtual environment {ENVIRONMENT.name}", flush=True)
        venv.create(ENVIRONMENT, with_pip=True)
    if not READY.exists() or any(project.stat().st_mtime > READY.stat().st_mtime for project in PROJECTS):
        print(f"→ installing into {ENVIRONMENT.name}: chatsession, aiogram and the playground", flush=True)
        if _pip(*BUILD_TOOLS) or _pip("--no-build-isolation", *PACKAGES):
            return 1
        READY.touch()
    script = sys.argv[1:] or [str(ROOT / "examples/pizza_bot.py")]
    try:
        return subprocess.call([PYTHON, "-m", "chatsession_playground", *script])
    except KeyboardInterrupt:
        return 130


def _pip(*arguments: str) -> int:
    return subprocess.call([PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *arguments])


if __name__ == "__main__":
    sys.exit(main())
