"""Installs what fuzzes, from the package index into folders of its own, once: ``.cache/fuzz``.

atheris is put beside this interpreter's packages, since it has to look into the code that it drives; schemathesis gets
an environment of its own. Neither is a dependency of anything here.
"""

from __future__ import annotations

import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path

from tests.live.cache import InstallError, is_complete, locked, python_id, recipe_id, say, stamp

ATHERIS = "atheris==3.0.0"
SCHEMATHESIS = "schemathesis==4.32.5"


def cache_root() -> Path:
    """The folder of the fuzzers, their corpora and what they counted."""
    return Path(__file__).resolve().parents[2] / ".cache" / "fuzz"


def atheris() -> Path:
    """The folder that has to be on the path. Raises ``InstallError``: there are wheels for Linux and some Pythons."""
    folder = _folder(ATHERIS)
    options = ["--no-deps", "--only-binary", ":all:", "--target", str(folder)]
    return _install(ATHERIS, folder, lambda: sys.executable, options)


def schemathesis() -> Path:
    """The command, installed if it is not. Raises ``InstallError``."""
    folder = _folder(SCHEMATHESIS)

    def python() -> str:
        venv.create(folder, with_pip=True, clear=True)
        return str(folder / "bin" / "python")

    return _install(SCHEMATHESIS, folder, python, []) / "bin" / "schemathesis"


def _folder(requirement: str) -> Path:
    return cache_root() / requirement.replace("==", "-")


def _install(requirement: str, folder: Path, python: Callable[[], str], options: list[str]) -> Path:
    recipe = recipe_id(requirement, python_id())
    with locked(cache_root()):
        if not is_complete(folder, recipe):
            say(f"installing {requirement} into {folder}")
            folder.mkdir(parents=True, exist_ok=True)
            command = [
                python(),
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                *options,
                requirement,
            ]
            try:
                done = subprocess.run(command, capture_output=True, text=True, timeout=600)
            except subprocess.TimeoutExpired as error:
                raise InstallError(f"pip did not install {requirement} within {error.timeout:g} s") from None
            if done.returncode:
                raise InstallError(f"pip could not install {requirement}:\n{done.stderr.strip()}")
            stamp(folder, recipe)
    return folder
