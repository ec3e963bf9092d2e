"""`python -m playground`, in a checkout: makes a virtual environment with what the demo needs, and starts the demo.

It needs nothing but Python itself, and does what `make demo` does on systems that have no `make`. Behind it may stand
another bot's script: `python -m playground examples/shop_bot.py`.
"""

import subprocess
import sys
import sysconfig
import tomllib
import venv
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENT = ROOT / ".venv"
READY = ENVIRONMENT / ".playground"
PYTHON = ENVIRONMENT / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
PROJECTS = [ROOT / "pyproject.toml", ROOT / "playground/pyproject.toml"]
EXTRAS = ("aiogram", "cli")
"""The example's framework, and the command that looks at its sessions."""


def main() -> int:
    """Set up what is missing, and run the demo; gives its exit code."""
    if not PYTHON.exists():
        print(f"→ making the virtual environment {ENVIRONMENT.name}", flush=True)
        venv.create(ENVIRONMENT, with_pip=True)
    if not READY.exists() or any(project.stat().st_mtime > READY.stat().st_mtime for project in PROJECTS):
        print(f"→ installing into {ENVIRONMENT.name} what the demo needs", flush=True)
        command = [PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *_requirements()]
        if subprocess.call(command):
            return 1
        _make_importable(*(project.parent / "src" for project in PROJECTS))
        READY.touch()
    script = sys.argv[1:] or [str(ROOT / "examples/pizza_bot.py")]
    try:
        return subprocess.call([PYTHON, "-m", "chatsession_playground", *script])
    except KeyboardInterrupt:
        return 130


def _requirements() -> list[str]:
    """What both packages depend on. The packages themselves run from the checkout, without being built."""
    library, playground = (_project(path) for path in PROJECTS)
    found = [*library["dependencies"], *playground["dependencies"]]
    for extra in EXTRAS:
        found += library["optional-dependencies"][extra]
    return [requirement for requirement in found if requirement != library["name"]]


def _project(path: Path) -> dict[str, Any]:
    return tomllib.loads(path.read_text(encoding="utf-8"))["project"]


def _make_importable(*folders: Path) -> None:
    """By a path configuration file: https://docs.python.org/3/library/site.html"""
    packages = Path(sysconfig.get_path("purelib", "venv", vars={"base": str(ENVIRONMENT)}))
    (packages / "playground.pth").write_text("".join(f"{folder}\n" for folder in folders), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
