"""Certificates for tests: an authority, and what it signs, as files in PEM form."""

from __future__ import annotations

import subprocess
from pathlib import Path

_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


class Authority:
    """Signs certificates; ``ca`` is its own. All files lie in ``folder``."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self._folder = folder
        self._name = name
        folder.mkdir(parents=True, exist_ok=True)
        self.ca = folder / f"{name}.pem"
        _openssl(folder, "req", "-x509", *_KEY, "-keyout", f"{name}.key", "-out", self.ca.name, "-subj",
                 f"/CN=authority {name}", "-days", "2")  # fmt: skip

    def sign(self, name: str, *, days: int = 2) -> tuple[Path, Path]:
        """A certificate for ``127.0.0.1`` and ``localhost``, and its key. Negative ``days``: it has ended."""
        folder = self._folder
        _openssl(folder, "req", *_KEY, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        (folder / f"{name}.ext").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
        _openssl(folder, "x509", "-req", "-in", f"{name}.csr", "-CA", self.ca.name, "-CAkey", f"{self._name}.key",
                 "-CAcreateserial", "-out", f"{name}.pem", "-extfile", f"{name}.ext", "-days", str(days))  # fmt: skip
        return folder / f"{name}.pem", folder / f"{name}.key"


def _openssl(folder: Path, *arguments: str) -> None:
    done = subprocess.run(["openssl", *arguments], cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
