"""What can go wrong with a query, and how much of the daemon a query may take."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import msgspec

Kind = Literal["bad_data", "execution", "timeout"]


class PromQLError(Exception):
    """A query that cannot be parsed or evaluated.

    ``kind`` is the ``errorType`` of Prometheus' API: ``bad_data`` for what can be seen from the text alone,
    ``execution`` and ``timeout`` for what came up while it ran. ``position`` is the offset of a character in the
    text, from 0, or None where none can be given; ``line`` and ``column`` are the same, from 1.
    """

    def __init__(self, message: str, position: int | None = None, *, kind: Kind = "bad_data", text: str = "") -> None:
        self.message = message
        self.position = position
        self.kind: Kind = kind
        self.line: int | None = None
        self.column: int | None = None
        if position is not None:
            before = text[:position]
            self.line = before.count("\n") + 1
            self.column = position - (before.rfind("\n") + 1) + 1
        super().__init__(message)

    def __str__(self) -> str:
        """As Prometheus words it: ``1:9: parse error: unexpected "or"``."""
        if self.kind != "bad_data":
            return self.message
        where = "" if self.line is None else f"{self.line}:{self.column}: "
        return f"{where}parse error: {self.message}"


class Limits(msgspec.Struct, frozen=True):
    """How much one query may take; beyond it, it is refused with a ``PromQLError``."""

    max_samples: int = 5_000_000
    """Samples that a query may read and make, all of its steps together."""
    max_bytes: int = 96 << 20
    """Memory that its values may take at any time, as far as that can be told while it runs."""
    max_points: int = 11_000
    """Steps of a range query, as in Prometheus."""
    expired: Callable[[], bool] | None = None
    """Asked now and then while a query runs: True ends it as timed out."""


DEFAULT_LIMITS = Limits()
