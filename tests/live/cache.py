"""Where the live tier keeps what it installs, and how a thing there is known to be whole.

A thing is made under a name that ends in ``.partial`` and gets its real name only when it is complete, with a stamp in
it that says from which recipe it was made. So an interrupted installation is never taken for a finished one, and a
changed recipe is made anew.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

STAMP = ".gpumon-stamp"


class InstallError(Exception):
    """Something the live tier needs cannot be had. Its text says what, why, and what to do."""


def cache_root() -> Path:
    """The folder of the live tier: ``$GPUMON_LIVE_CACHE``, else ``.cache/live`` at the top of the project."""
    named = os.environ.get("GPUMON_LIVE_CACHE")
    return Path(named).resolve() if named else Path(__file__).resolve().parents[2] / ".cache" / "live"


def say(text: str) -> None:
    """One line of progress, at once, also when the output is a pipe."""
    print(f"live: {text}", flush=True)


def recipe_id(*parts: str) -> str:
    """A short name for a recipe: the same parts give the same name."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def is_complete(folder: Path, recipe: str) -> bool:
    """Whether ``folder`` was made, whole, from this recipe."""
    try:
        stamp = json.loads((folder / STAMP).read_text())
    except FileNotFoundError:
        return False
    except ValueError:
        return False  # cut off while it was written: make the thing again
    return bool(stamp.get("recipe") == recipe)


def stamp(folder: Path, recipe: str) -> None:
    """Say that ``folder`` is whole. Comes last, when everything else in it is on the disk."""
    (folder / STAMP).write_text(json.dumps({"recipe": recipe}) + "\n")


@contextmanager
def locked(root: Path) -> Iterator[None]:
    """One installation at a time for a cache; another one waits for it."""
    root.mkdir(parents=True, exist_ok=True)
    with (root / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another installation is at work here: waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def python_id() -> str:
    """Interpreter and machine, as far as compiled packages care."""
    return f"{sys.implementation.cache_tag}-{os.uname().machine}"
