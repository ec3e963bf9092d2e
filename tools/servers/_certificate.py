"""A certificate for a server on 127.0.0.1, made for the occasion."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import NamedTuple

from tools.servers._process import program


class Certificate(NamedTuple):
    """Two files in PEM format."""

    certificate: Path
    """By which a client may know the server."""
    key: Path


def certificate_in(folder: Path) -> Certificate:
    """Make a certificate that is its own authority, unless one lies in the folder already."""
    made = Certificate(folder / "certificate.pem", folder / "key.pem")
    if made.certificate.exists():
        return made
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        [
            *(program("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
            *("-nodes", "-days", "2", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", made.key.name, "-out", made.certificate.name),
        ],
        cwd=folder,
        check=True,
        capture_output=True,
    )
    return made
