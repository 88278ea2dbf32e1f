"""A start without Python's garbage collector: what it loads stays for the life of the process, and looking through all
of it for cycles, again and again while it grows, was a sixth of the daemon's start.

``begin`` is called before all else is loaded, ``over`` by what goes on for hours, once it is there.
"""

from __future__ import annotations

import gc

_MANY = 150_000
"""New objects until the next look: more than a start makes. A command of seconds never comes to it."""
_before: list[tuple[int, int, int]] = []


def begin() -> None:
    """Look for garbage seldom. Does nothing a second time."""
    if not _before:
        _before.append(gc.get_threshold())
        gc.set_threshold(_MANY)


def over() -> None:
    """Look as often as Python does by itself, at what was made since: what a start made is not gone through again.
    Does nothing in a process that did not ``begin``, nor a second time."""
    if _before:
        gc.freeze()
        gc.set_threshold(*_before.pop())
