"""The contract of a source: open, poll, close. Everything that reads something implements it.

Errors:

    SourceDown           this poll gave nothing; the text is the reason, for a person
    └── SourceAbsent     what it reads is not on this machine (no driver, say); asked again seldom
"""

from __future__ import annotations

from typing import Protocol

from monitor.samples import Scrape


class SourceDown(Exception):
    """A poll that gave no readings. Its text says why, in a few words, for a screen:
    ``connection refused``, ``HTTP 500``, ``no answer in 2 s``."""


class SourceAbsent(SourceDown):
    """What this source reads does not exist here. Not a fault: the node is watched without it, and says so."""


class Source(Protocol):
    """One thing that is read on a cadence of its own. The daemon runs each in a task of its own, calls ``poll`` no
    oftener than every ``interval`` seconds and never twice at once, and gives it up after ``deadline`` seconds."""

    @property
    def name(self) -> str:
        """What kind of source it is, ``nvml``, ``host`` or ``vllm``: the label ``source``."""
        ...

    @property
    def server(self) -> str:
        """The label ``server`` where a node has several of the kind, else ""."""
        ...

    @property
    def interval(self) -> float:
        """Seconds between polls."""
        ...

    @property
    def deadline(self) -> float:
        """Seconds after which a poll is given up."""
        ...

    async def open(self) -> None:
        """Get ready to poll. Called once; raises ``SourceDown`` only for what a later poll could not mend either."""
        ...

    async def poll(self, now_ms: int) -> Scrape:
        """Read once. Raises ``SourceDown``; its samples then end, and are neither frozen nor 0."""
        ...

    async def close(self) -> None:
        """Let go of everything: sockets, children. Called once, also after a poll that was given up."""
        ...
