"""The commands that stand in the documentation: where each is, and what is to be typed.

A command stands in a block of ```sh, or in a block that is indented by four blanks and begins with a program of
``PROGRAMS``. A remark follows after `` # `` or two blanks. What stands in brackets may be left out, and is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

TOP = Path(__file__).parent.parent.parent
_PROGRAMS = """
    gpumon .venv/bin/gpumon make uv pipx pip python python3 git sudo install useradd usermod cp ln mkdir chmod chgrp
    sed source man systemctl systemd-analyze journalctl amtool promtool prometheus vmalert curl jq openssl sqlite3
    kubectl helm docker podman buildah nvidia-smi dcgmi dmesg lspci vllm py-spy nsys ls cat grep df du free ps kill ssh
    nc head tail ip ss lsblk uptime top mpstat iostat cd export echo tar apt apt-get node npm
    victoria-metrics"""
PROGRAMS = frozenset(_PROGRAMS.split())
_PLACES = ("README.md", "CONTRIBUTING.md", "docs/**/*.md", "systemd/*.md", "examples/**/*.md", "grafana/**/*.md")
_SHELL = ("sh", "bash", "shell", "console")


@dataclass(frozen=True)
class Command:
    """A command of the documentation."""

    place: str
    """``docs/probes.md:12``."""
    text: str
    """What is typed, without the remark, on one line."""

    @property
    def words(self) -> str:
        """It without what stands before the program: ``sudo``, variables."""
        return re.sub(r"^(?:sudo(?: -\S+)* |[A-Z_]+=\S+ )*", "", self.text)

    @property
    def program(self) -> str:
        """The program, ``gpumon`` for that of an environment too."""
        first = self.words.split(maxsplit=1)[0]
        return "gpumon" if first == ".venv/bin/gpumon" else first


def pages() -> list[Path]:
    """Every page of the documentation."""
    return sorted({path for place in _PLACES for path in TOP.glob(place)})


def commands() -> list[Command]:
    """All commands of all pages, in their order."""
    return [one for path in pages() for one in of_page(path.read_text(), path.relative_to(TOP).as_posix())]


def of_page(text: str, name: str) -> Iterator[Command]:
    """The commands of one page. Raises ``ValueError`` for a line of a shell's block that begins with no program."""
    fence = ""
    begun, number = "", 0
    for at, line in enumerate(text.splitlines(), 1):
        if match := re.match(r"^ {0,3}```\s*(\w*)", line):
            fence = "" if fence else (match[1] or "text")
            continue
        typed = fence in _SHELL if fence else line.startswith("    ")
        said = line.strip() if typed else ""
        if begun:
            begun = f"{begun} {said}"
        elif not said or said.startswith("#"):
            continue
        elif (first := re.sub(r"^(?:[A-Z_]+=\S* )*", "", said).split(maxsplit=1)[:1]) and first[0] in PROGRAMS:
            begun, number = said, at
        elif fence:
            raise ValueError(f"{name}:{at}: {said!r} begins with no program that is known")
        else:
            continue
        if begun.endswith("\\"):
            begun = begun[:-1].rstrip()
            continue
        for part in _parts(without_remark(begun)):
            yield Command(f"{name}:{number}", part)
        begun = ""


def inline(text: str) -> list[str]:
    """What stands in backticks in running text, and begins with ``gpumon``."""
    prose = re.sub(r"^ {0,3}```.*?^ {0,3}```", "", text, flags=re.S | re.M)
    prose = "\n".join(line for line in prose.splitlines() if not line.startswith("    "))
    return [re.sub(r"\s+", " ", one) for one in re.findall(r"`(gpumon [^`]+)`", prose)]


def without_remark(line: str) -> str:
    """A line up to its remark, or up to two blanks, where these stand in no quotes."""
    return _before(line, ("  ", " #"))


def first_part(line: str) -> str:
    """A command line up to a pipe or a redirection."""
    return _before(line, (" | ", " > ", " < ", " >> ", " 2>"))


def _before(line: str, ends: tuple[str, ...]) -> str:
    quote = ""
    for at, sign in enumerate(line):
        if quote:
            quote = "" if sign == quote else quote
        elif sign in "'\"":
            quote = sign
        elif line.startswith(ends, at):
            return line[:at]
    return line


def _parts(line: str) -> list[str]:
    """The commands that ``&&`` joins."""
    return [part.strip() for part in line.split(" && ")]


def required(text: str) -> str:
    """A command without what it says may be left out."""
    while (shorter := re.sub(r" \[[^][]*\]", "", text)) != text:
        text = shorter
    return text
