"""Fails if what this library, or one of its extras, depends on has a known vulnerability: `make audit`.

Two sources are asked. The list below is of what was found before, and needs no network. `pip-audit` asks an advisory
service for everything else; where that cannot be reached, this says so and counts as passed, unless AUDIT_REQUIRED is
set, as for a release.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

KNOWN = [  # package, the first version without, advisory
    ("aiohttp", "3.12.14", "CVE-2025-53643"),
    ("cryptography", "44.0.1", "CVE-2024-12797"),
    ("cryptography", "48.0.1", "GHSA-537c-gmf6-5ccf"),
    ("starlette", "0.49.1", "CVE-2025-62727"),
]
SERVICES = ("pypi", "osv")
SECONDS = 120


def needed(package: str) -> dict[str, str]:
    """The installed packages that a package and all of its extras need, with their versions."""
    found: dict[str, str] = {}
    extras = distribution(package).metadata.get_all("Provides-Extra") or []
    seen: set[tuple[str, frozenset[str]]] = set()
    left = [(package, frozenset(extras))]
    while left:
        name, wanted = left.pop()
        if (name, wanted) in seen:
            continue
        seen.add((name, wanted))
        try:
            installed = distribution(name)
        except PackageNotFoundError:  # of an extra that is not installed here
            continue
        if name != package:
            found[name] = installed.version
        for text in installed.requires or []:
            requirement = Requirement(text)
            marker = requirement.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in (*wanted, "")):
                left.append((canonicalize_name(requirement.name), frozenset(requirement.extras)))
    return found


def known(packages: dict[str, str]) -> list[str]:
    """What the list above says of them."""
    return [
        f"{name} {packages[name]} has {advisory}; {safe} has not"
        for name, safe, advisory in KNOWN
        if name in packages and Version(packages[name]) < Version(safe)
    ]


def asked(service: str, packages: dict[str, str]) -> list[str] | None:
    """What an advisory service says of them; `None`: it could not be reached, or does not know any of them."""
    with tempfile.TemporaryDirectory() as folder:
        pins = Path(folder, "requirements.txt")
        pins.write_text("".join(f"{name}=={version}\n" for name, version in packages.items()))
        command = [sys.executable, "-m", "pip_audit", "-s", service, "-r", str(pins), "--no-deps", "--disable-pip"]
        try:
            done = subprocess.run(
                [*command, "-f", "json", "--progress-spinner", "off"],
                capture_output=True, text=True, check=False, timeout=SECONDS,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return None
    if "No module named pip_audit" in done.stderr:
        print("pip-audit is not installed: pip install pip-audit")
        return None
    return told(done.stdout)


def told(report: str) -> list[str] | None:
    """What stands in a report of `pip-audit`; `None`: nothing of any use."""
    try:
        entries: list[dict[str, Any]] = json.loads(report)["dependencies"]
    except (ValueError, KeyError, TypeError):  # it ended with a traceback
        return None
    if not any("vulns" in entry for entry in entries):  # of each it only says why it was left out
        return None
    return [
        f"{entry['name']} {entry['version']} has {vulnerability['id']}; fixed in {_any(vulnerability['fix_versions'])}"
        for entry in entries
        for vulnerability in entry.get("vulns", [])
    ]


def _any(versions: Iterable[str]) -> str:
    return ", ".join(versions) or "no version yet"


def main() -> int:
    """The exit code."""
    packages = needed("chatsession")
    answers = (asked(service, packages) for service in SERVICES)
    answer = next((answer for answer in answers if answer is not None), None)
    troubles = known(packages) + (answer or [])
    print(*troubles, sep="\n", end="\n" if troubles else "")
    if troubles:
        return 1
    if answer is not None:
        print(f"{len(packages)} packages, and no vulnerability is known of any")
        return 0
    print(
        f"{len(packages)} packages; no advisory service could be reached, so that only {len(KNOWN)} advisories of old"
    )
    print("were looked for, and not found. Set AUDIT_REQUIRED=1 where that is not enough.")
    return 2 if os.environ.get("AUDIT_REQUIRED") else 0


if __name__ == "__main__":
    sys.exit(main())
