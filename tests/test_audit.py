"""The audit of dependencies finds what is known, and tells an answer from none."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[1] / "tools" / "audit.py"


@pytest.fixture(scope="module")
def audit() -> Any:
    spec = importlib.util.spec_from_file_location("audit_of_dependencies", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_what_this_library_needs_is_found_with_all_that_it_needs(audit: Any) -> None:
    packages = audit.needed("chatsession")
    assert {"msgspec", "aiogram", "aiohttp", "yarl", "starlette", "cryptography", "hiredis", "rich"} <= packages.keys()
    assert not {"chatsession", "ruff", "setuptools", "mkdocs"} & packages.keys()


def test_what_is_installed_has_no_vulnerability_that_was_known_when_this_was_released(audit: Any) -> None:
    assert audit.known(audit.needed("chatsession")) == []


def test_a_version_with_a_known_vulnerability_is_told(audit: Any) -> None:
    (told,) = audit.known({"starlette": "0.49.0", "cryptography": "99.0", "msgspec": "0.1"})
    assert told == "starlette 0.49.0 has CVE-2025-62727; 0.49.1 has not"
    assert audit.known({"starlette": "0.49.1"}) == []


def test_reports_of_pip_audit_are_understood(audit: Any) -> None:
    bad = {"name": "jinja2", "version": "2.11.0", "vulns": [{"id": "PYSEC-2021-66", "fix_versions": ["2.11.3"]}]}
    good = {"name": "msgspec", "version": "0.19.0", "vulns": []}
    left_out = {"name": "msgspec", "skip_reason": "Dependency not found and could not be audited: msgspec (0.19.0)"}
    assert audit.told(json.dumps({"dependencies": [good, bad, left_out]})) == [
        "jinja2 2.11.0 has PYSEC-2021-66; fixed in 2.11.3"
    ]
    assert audit.told(json.dumps({"dependencies": [good]})) == []
    assert audit.told(json.dumps({"dependencies": [left_out]})) is None
    assert audit.told("Traceback (most recent call last):") is None
    assert audit.told("") is None


@pytest.mark.parametrize(("required", "code"), [("", 0), ("1", 2)])
def test_a_service_that_cannot_be_reached_is_said_so(required: str, code: int) -> None:
    nowhere = "http://127.0.0.1:1"  # a proxy that is not there
    environment = {
        **os.environ,
        "AUDIT_REQUIRED": required,
        "HTTPS_PROXY": nowhere,
        "https_proxy": nowhere,
        "NO_PROXY": "",
    }
    done = subprocess.run([sys.executable, SCRIPT], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    assert "no advisory service could be reached" in done.stdout
