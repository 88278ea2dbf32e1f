"""What goes wrong with a probe.

ProbeError
├── BadOptions    what was asked for is not possible as it stands
├── CannotStart   the server cannot be asked this; nothing was sent
│   └── Busy      it has other work, and nobody said to load it all the same
└── CannotGoOn    the server is gone, or answers nothing but errors
"""

from __future__ import annotations


class ProbeError(Exception):
    """A sentence for a person: what, and what to do."""


class BadOptions(ProbeError):
    """An option that is unknown, out of its range, or does not fit another."""


class CannotStart(ProbeError):
    """The server cannot be asked this: it does not answer, serves no model, has no priority scheduling, … ``why`` is
    what a connection failed of, alone."""

    def __init__(self, words: str, why: str = "") -> None:
        super().__init__(words)
        self.why = why


class Busy(CannotStart):
    """It has other work."""


class CannotGoOn(ProbeError):
    """What was measured until then is kept."""
