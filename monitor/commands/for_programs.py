"""Formats for programs (JSON, CSV, OpenMetrics), written where a person's terminal may show them.

What a server puts into a label is data there, and must not be a command to the terminal. JSON says the same with its
own escapes, always. The others have none: a file or a pipe gets them exactly, a terminal ``·`` for what it would obey.
"""

from __future__ import annotations

import io
import re
import sys
from typing import TextIO, cast

import msgspec

_SUSPECT = re.compile(r"[^\n\t -~]")
"""Not only ASCII that shows."""


def json_text(value: object, *, indent: int = 0) -> str:
    """``value`` (bytes are JSON already) as JSON, without a newline at its end; on one line unless there is an
    ``indent``. No character of it is a control code, turns the direction of writing or shows nothing."""
    body = value if isinstance(value, bytes) else msgspec.json.encode(value)
    text = (msgspec.json.format(body, indent=indent) if indent else body).decode()
    return _SUSPECT.sub(_escaped, text)


def plain(text: str) -> str:
    """``text`` with ``·`` for all that shows nothing or commands a terminal, but for line breaks and tabs."""
    return _SUSPECT.sub(lambda found: found.group() if found.group().isprintable() else "·", text)


def shown(text: str) -> str:
    """``text`` as standard output may have it: ``plain`` on a terminal, exactly where there is none."""
    return plain(text) if sys.stdout.isatty() else text


def output(out: TextIO) -> TextIO:
    """What writes ``plain`` text where ``out`` is a terminal, and ``out`` itself where it is none."""
    return cast("TextIO", _Plain(out)) if out.isatty() else out


class _Plain(io.TextIOBase):
    def __init__(self, out: TextIO) -> None:
        self._out = out

    def write(self, text: str) -> int:
        self._out.write(plain(text))
        return len(text)

    def flush(self) -> None:
        self._out.flush()


def _escaped(found: re.Match[str]) -> str:
    letter = found.group()
    if letter.isprintable():
        return letter
    units = letter.encode("utf-16-be")  # beyond U+FFFF, two of them
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))
