"""A report as it goes to a receiver: whole as the HTML of a mail, in few lines for a chat. Data alone: the process that
makes it hands it to the daemon, which sends it."""

from __future__ import annotations

import msgspec

MOST_LINES = 25
"""Of what goes to a chat."""


class Picture(msgspec.Struct, frozen=True):
    """A line that is drawn for a mail: times in milliseconds, and values."""

    title: str
    step_ms: int
    points: tuple[tuple[int, float], ...]


class Letter(msgspec.Struct, frozen=True):
    """One report, ready to send."""

    title: str
    lines: tuple[str, ...]
    """Plain text, at most ``MOST_LINES``."""
    html: str = ""
    """For a mail; comments ``<!--graph 0-->`` stand where the pictures go."""
    pictures: tuple[Picture, ...] = ()
    has_data: bool = True
    severity: str = "info"
    """``warning`` where the period had an incident, or no readings."""


class Wanted(msgspec.Struct, frozen=True):
    """What the process that makes a letter is asked for, on its standard input."""

    target: str
    """The daemon's own socket."""
    start_ms: int
    end_ms: int
    name: str = ""
    zone: str = "UTC"
    prices: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
