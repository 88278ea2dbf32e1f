"""How samples are asked for: label matchers, and what the language and the rules need of a store.

It stands between the store and the language, so that neither knows the other's insides.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final, Literal, Protocol, TypeAlias

from monitor.linear_regex import Pattern, compiled
from monitor.samples import Labels, escape

MatchOp = Literal["=", "!=", "=~", "!~"]

MINUTE_MS: Final = 60_000

Reset: TypeAlias = tuple[int, float]
"""The time (ms) of a value that is less than the one before it, and the one before it."""

WholeColumn = Literal["count", "first_at", "last_at", "ended"]
NumberColumn = Literal["first", "last", "low", "high"]


@dataclass(frozen=True, slots=True)
class Matcher:
    """``name op "value"``. A label that is absent has the value "". Regular expressions are anchored at both ends.

    Raises ``re.error`` for a regular expression that does not compile.
    """

    name: str
    op: MatchOp
    value: str
    _pattern: Pattern | None = field(init=False, repr=False, compare=False, default=None)

    def __post_init__(self) -> None:
        if self.op in ("=~", "!~"):
            object.__setattr__(self, "_pattern", compiled(self.value))

    def matches(self, value: str) -> bool:
        """Whether a series whose label has this value is selected."""
        if self.op == "=":
            return value == self.value
        if self.op == "!=":
            return value != self.value
        assert self._pattern is not None  # noqa: S101 # set for these two operators, above
        return self._pattern.fits(value) == (self.op == "=~")

    def __str__(self) -> str:
        return f'{self.name}{self.op}"{escape(self.value)}"'


class Minutes(ABC):
    """Roll-ups of one series. Minute ``i`` begins at ``first_ms + i * 60_000`` and has the samples after that moment,
    up to and with the beginning of the next one.

    Staleness markers are no samples here; they are told by ``ended`` alone. All columns are as long as ``length``, and
    each is made when it is first asked for. Where ``count`` is 0, the other columns (but ``ended``) mean nothing.
    """

    def __init__(self, first_ms: int, length: int) -> None:
        self.first_ms = first_ms
        """Where the first minute begins: a multiple of 60,000."""
        self.length = length

    @cached_property
    def count(self) -> Sequence[int]:
        """Samples."""
        return self.wholes("count")

    @cached_property
    def first_at(self) -> Sequence[int]:
        """The first sample's time, epoch milliseconds."""
        return self.wholes("first_at")

    @cached_property
    def last_at(self) -> Sequence[int]:
        """The last sample's time, epoch milliseconds."""
        return self.wholes("last_at")

    @cached_property
    def ended(self) -> Sequence[int]:
        """1 where the newest of all, markers among them, is a staleness marker; else 0."""
        return self.wholes("ended")

    @cached_property
    def first(self) -> Sequence[float]:
        """The first sample's value."""
        return self.numbers("first")

    @cached_property
    def last(self) -> Sequence[float]:
        """The last sample's value."""
        return self.numbers("last")

    @cached_property
    def low(self) -> Sequence[float]:
        """The least value, of equal ones the first; NaN only where all are NaN, and then the last."""
        return self.numbers("low")

    @cached_property
    def high(self) -> Sequence[float]:
        """The greatest value, as ``low``."""
        return self.numbers("high")

    @cached_property
    def total(self) -> Sequence[float] | None:
        """The sum of the values, where all are integers and no sum of theirs is rounded; None where any is not."""
        return self.totals()

    @cached_property
    def resets(self) -> Sequence[Reset] | None:
        """Every value of these minutes that is less than the one before it in them, ascending; None where they are so
        many that they were not kept, as for a gauge."""
        return self.drops()

    @abstractmethod
    def wholes(self, name: WholeColumn) -> Sequence[int]:
        """Make one of the columns of integers."""

    @abstractmethod
    def numbers(self, name: NumberColumn) -> Sequence[float]:
        """Make one of the columns of values."""

    @abstractmethod
    def totals(self) -> Sequence[float] | None:
        """Make ``total``."""

    @abstractmethod
    def drops(self) -> Sequence[Reset] | None:
        """Make ``resets``."""


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

    def minutes(self, start_ms: int, end_ms: int) -> Minutes | None:
        """Roll-ups of the samples with ``start_ms < t <= end_ms``, of exactly these minutes: both are multiples of
        60,000. None where there are none, or where reading the samples costs no more."""
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
