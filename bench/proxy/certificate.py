"""A certificate made on the spot, for TLS on this machine: by the program openssl, for it comes with what needs it."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from servers.user_errors import UserError

LOCAL_NAMES = "IP:127.0.0.1,IP:0:0:0:0:0:0:0:1,DNS:localhost"
_DAYS = 2


@dataclass(frozen=True)
class Certificate:
    """A self-made certificate and its key, as PEM files; the certificate is its own authority (`cafile`)."""

    cert: Path
    key: Path


class CertificateError(UserError):
    """None can be made; the message says what to do."""


def find_openssl() -> str:
    """The program's path. Raises CertificateError."""
    openssl = shutil.which("openssl")
    if openssl is None:
        raise CertificateError(
            "openssl is not installed, which makes the certificate; on Debian: apt-get install openssl"
        )
    return openssl


def make_certificate(folder: Path, names: str = LOCAL_NAMES) -> Certificate:
    """Make `cert.pem` and `key.pem` in `folder` for `names`, as openssl's subjectAltName takes them.

    Nobody else can read the key, and it lasts for two days. Raises CertificateError.
    """
    openssl = find_openssl()
    made = Certificate(folder / "cert.pem", folder / "key.pem")
    command = [
        *(openssl, "req", "-x509", "-newkey", "ec", "-nodes", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
        *("-days", str(_DAYS), "-subj", "/CN=tokenderby", "-addext", f"subjectAltName={names}"),
        *("-out", str(made.cert), "-keyout", str(made.key)),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, umask=0o077, timeout=60)
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()
        raise CertificateError(f"openssl makes no certificate: {said[-1] if said else 'it says nothing'}")
    return made
