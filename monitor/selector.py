"""How samples are asked for: label matchers, and what the language and the rules need of a store.

It stands between the store and the language, so that neither knows the other's insides.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from monitor.samples import Labels, escape

MatchOp = Literal["=", "!=", "=~", "!~"]


@dataclass(frozen=True, slots=True)
class Matcher:
    """``name op "value"``. A label that is absent has the value "". Regular expressions are anchored at both ends.

    Raises ``re.error`` for a regular expression that does not compile.
    """

    name: str
    op: MatchOp
    value: str
    _pattern: re.Pattern[str] | None = field(init=False, repr=False, compare=False, default=None)

    def __post_init__(self) -> None:
        if self.op in ("=~", "!~"):
            object.__setattr__(self, "_pattern", re.compile(f"(?:{self.value})", re.DOTALL))

    def matches(self, value: str) -> bool:
        """Whether a series whose label has this value is selected."""
        if self.op == "=":
            return value == self.value
        if self.op == "!=":
            return value != self.value
        assert self._pattern is not None  # noqa: S101 # set for these two operators, above
        return (self._pattern.fullmatch(value) is not None) == (self.op == "=~")

    def __str__(self) -> str:
        return f'{self.name}{self.op}"{escape(self.value)}"'


class Series(Protocol):
    """One series of a store, as it is now. Its samples are in the order of time; no two have the same time."""

    @property
    def labels(self) -> Labels: ...

    def window(self, start_ms: int, end_ms: int) -> tuple[Sequence[int], Sequence[float]]:
        """Times and values with ``start_ms < t <= end_ms``, staleness markers among them."""
        ...

    def last(self, start_ms: int, end_ms: int) -> tuple[int, float] | None:
        """The newest sample with ``start_ms < t <= end_ms``, or None. May be a staleness marker."""
        ...


class Storage(Protocol):
    """What the language asks of a store."""

    @property
    def epoch(self) -> int:
        """A number that changes whenever a series is born or forgotten: as long as it stays, so does what ``select``
        gives."""
        ...

    def select(self, matchers: Sequence[Matcher]) -> Sequence[Series]:
        """Every series that all matchers match, in the order of their labels."""
        ...


class Appendable(Storage, Protocol):
    """A store that takes single samples too: results of recording rules, ``ALERTS``."""

    def append(self, labels: Labels, at_ms: int, value: float) -> None:
        """Add a sample. One that is not newer than its series' newest is dropped and counted. ``STALE`` ends it."""
        ...
