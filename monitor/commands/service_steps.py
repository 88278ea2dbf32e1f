"""The steps that installing and removing the service are made of: each says what it does, and does it."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol


class StepFailed(Exception):
    """A step could not be done; the text says which, and why. What came before it is done; installing again goes on.
    ``code`` is the exit status of a program that failed."""

    def __init__(self, text: str, code: int | None = None) -> None:
        super().__init__(text)
        self.code = code


def _run(command: Sequence[str]) -> None:
    try:
        subprocess.run(list(command), stdin=subprocess.DEVNULL, check=True, umask=0o022)
    except FileNotFoundError:
        raise StepFailed(f"{command[0]} is not installed") from None
    except subprocess.CalledProcessError as error:
        cure = ""
        if "venv" in command:
            cure = " (on Debian and Ubuntu: apt-get install python3-venv)"
        text = f"`{shlex.join(command)}` failed with exit status {error.returncode}{cure}"
        raise StepFailed(text, error.returncode) from None


def _own(path: Path, user: str, group: str) -> None:
    shutil.chown(path, user or "root", group)


@dataclass(frozen=True)
class Doer:
    """What carries steps out. ``root`` stands before every path; tests give another, and record what is run."""

    root: Path = Path("/")
    run: Callable[[Sequence[str]], None] = _run
    own: Callable[[Path, str, str], None] = _own

    def at(self, path: Path) -> Path:
        """Where a path of the system is."""
        return self.root / path.relative_to("/")


class Step(Protocol):
    """One thing to do."""

    def describe(self) -> str:
        """A line for a person, which is the command itself where there is one."""
        ...

    def do(self, doer: Doer) -> None:
        """Do it. Raises ``StepFailed``."""
        ...


@dataclass(frozen=True)
class Command:
    """A program to run."""

    argv: tuple[str, ...]
    why: str
    fine: tuple[int, ...] = ()
    """Exit statuses that are no failure."""

    def describe(self) -> str:
        return f"run    {shlex.join(self.argv)}" + (f"   # {self.why}" if self.why else "")

    def do(self, doer: Doer) -> None:
        try:
            doer.run(self.argv)
        except StepFailed as error:
            if error.code not in self.fine:
                raise


@dataclass(frozen=True)
class MakeDirectory:
    """A directory, with its mode and owners; one that is there gets them, too."""

    path: Path
    mode: int
    group: str
    user: str = field(default="")

    def describe(self) -> str:
        return f"make   {self.path}/   mode {self.mode:04o}, {self.user or 'root'}:{self.group}"

    def do(self, doer: Doer) -> None:
        place = doer.at(self.path)
        try:
            place.mkdir(parents=True, exist_ok=True)
            place.chmod(self.mode)
            doer.own(place, self.user, self.group)
        except (OSError, LookupError) as error:
            raise StepFailed(f"{self.path}: {error}") from None


@dataclass(frozen=True)
class WriteFile:
    """A file, whole or not at all; one that has this text already stays as it is."""

    path: Path
    text: str
    mode: int

    def describe(self) -> str:
        lines = "".join(f"\n       | {line}" for line in self.text.splitlines())
        return f"write  {self.path}   mode {self.mode:04o}{lines}"

    def do(self, doer: Doer) -> None:
        place = doer.at(self.path)
        new = place.with_name(f".{place.name}.new")
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            new.write_text(self.text, encoding="utf-8")
            new.chmod(self.mode)
            os.replace(new, place)
        except OSError as error:
            raise StepFailed(f"{self.path}: {error.strerror or error}") from None


@dataclass(frozen=True)
class Own:
    """Mode and group of a file that a command made."""

    path: Path
    mode: int
    group: str

    def describe(self) -> str:
        return f"own    {self.path}   mode {self.mode:04o}, group {self.group}"

    def do(self, doer: Doer) -> None:
        try:
            doer.at(self.path).chmod(self.mode)
            doer.own(doer.at(self.path), "", self.group)
        except (OSError, LookupError) as error:
            raise StepFailed(f"{self.path}: {error}") from None


@dataclass(frozen=True)
class Link:
    """A symbolic link; one that is there is replaced."""

    path: Path
    target: Path

    def describe(self) -> str:
        return f"link   {self.path} -> {self.target}"

    def do(self, doer: Doer) -> None:
        place = doer.at(self.path)
        new = place.with_name(f".{place.name}.new")
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            new.unlink(missing_ok=True)
            new.symlink_to(self.target)
            os.replace(new, place)
        except OSError as error:
            raise StepFailed(f"{self.path}: {error.strerror or error}") from None


@dataclass(frozen=True)
class Remove:
    """A file, or with ``tree`` a directory with all that is in it."""

    path: Path
    tree: bool = False

    def describe(self) -> str:
        return f"remove {self.path}" + ("/ and all in it" if self.tree else "")

    def do(self, doer: Doer) -> None:
        place = doer.at(self.path)
        try:
            if self.tree and not place.is_symlink():
                shutil.rmtree(place)
            else:
                place.unlink(missing_ok=True)
        except OSError as error:
            raise StepFailed(f"{self.path}: {error.strerror or error}") from None
