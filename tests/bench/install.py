"""Installs a peer from the package index into an environment of its own, once: ``.cache/bench``."""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

from tests.live.cache import InstallError, is_complete, locked, python_id, recipe_id, say, stamp

VLLMSTAT = "vllmstat==0.9.1"
NVITOP = "nvitop==1.7.2"


def cache_root() -> Path:
    """The folder of what is measured beside gpumon."""
    return Path(__file__).resolve().parents[2] / ".cache" / "bench"


def vllmstat() -> Path:
    """The command, installed if it is not. Raises ``InstallError``."""
    return _install(VLLMSTAT) / "bin" / "vllmstat"


def nvitop() -> Path:
    """The command, installed if it is not. Raises ``InstallError``."""
    return _install(NVITOP) / "bin" / "nvitop"


def _install(requirement: str) -> Path:
    root = cache_root()
    folder = root / requirement.replace("==", "-")
    recipe = recipe_id(requirement, python_id())
    with locked(root):
        if not is_complete(folder, recipe):
            say(f"installing {requirement} into {folder}")
            venv.create(folder, with_pip=True, clear=True)
            command = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", requirement]
            done = subprocess.run(
                [*command, "--disable-pip-version-check"], capture_output=True, text=True, timeout=300
            )
            if done.returncode:
                raise InstallError(f"pip could not install {requirement}:\n{done.stderr.strip()}")
            stamp(folder, recipe)
    return folder


if __name__ == "__main__":
    sys.exit(0 if vllmstat().exists() else 1)
