"""Frames: what every vector expression evaluates to, and the work on labels that all operators share.

A frame has the series once and a row of values for each step. That way an operator looks at labels once: it derives
what it needs from the tuple of label sets and keeps it for as long as it is handed the very same tuple, which for a
selector is until a series is born or forgotten. A rule that is evaluated every few seconds does no work on labels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

from monitor.promql.errors import DEFAULT_LIMITS, Limits, PromQLError
from monitor.samples import NAME, Labels
from monitor.selector import Storage

Row: TypeAlias = Sequence[float | None]
"""The values of all series of a frame at one step; None where a series has none. Never changed once made."""

SeriesLabels: TypeAlias = tuple[Labels, ...]

_DROPPED = frozenset((NAME, "__type__", "__unit__"))
"""What an operation that makes another metric of a series takes from it: its name, type and unit."""

DUPLICATE = "vector cannot contain metrics with the same labelset"


@dataclass(frozen=True, slots=True)
class Frame:
    """Series and their values: ``rows[step][i]`` belongs to ``labels[i]``. No label set is there twice."""

    labels: SeriesLabels
    rows: Sequence[Row]


class Budget:
    """Counts what a query reads and makes, and stops it."""

    __slots__ = ("_limits", "_used")

    def __init__(self, limits: Limits = DEFAULT_LIMITS) -> None:
        self._limits = limits
        self._used = 0

    def take(self, samples: int) -> None:
        """Count so many samples. Raises ``PromQLError`` beyond the limit, or when the query's time is over."""
        self._used += samples
        if self._used > self._limits.max_samples:
            raise PromQLError(
                f"query processing would load too many samples into memory (over {self._limits.max_samples}): "
                "ask for a shorter range, a longer step or fewer series",
                kind="execution",
            )
        if self._limits.expired is not None and self._limits.expired():
            raise PromQLError("query timed out in expression evaluation", kind="timeout")


@dataclass(frozen=True, slots=True)
class Context:
    """For what steps an expression is evaluated, and over what."""

    storage: Storage
    steps: Sequence[int]
    """Epoch milliseconds, ascending, at least one except inside of a subquery."""
    start_ms: int
    """``start()`` of the whole query, also inside of its subqueries."""
    end_ms: int
    budget: Budget

    def at(self, steps: Sequence[int]) -> Context:
        """The same query at other steps."""
        return Context(self.storage, steps, self.start_ms, self.end_ms, self.budget)


K = TypeVar("K")
T = TypeVar("T")


class Derived(Generic[T]):
    """Something made from label sets, kept for as long as they are the same objects."""

    __slots__ = ("_build", "_keys", "_value")

    def __init__(self, build: Callable[..., T]) -> None:
        self._build = build
        self._keys: tuple[SeriesLabels, ...] | None = None
        self._value: T | None = None

    def __call__(self, *keys: SeriesLabels) -> T:
        kept = self._keys
        if kept is None or any(a is not b for a, b in zip(kept, keys, strict=True)):
            self._value = self._build(*keys)
            self._keys = keys
        assert self._value is not None  # noqa: S101 # made above
        return self._value


@dataclass(frozen=True, slots=True)
class Relabelled:
    """New label sets for the series of a frame. Where some of them fall together, ``target`` says where each series
    goes; it is None where none do."""

    labels: SeriesLabels
    target: Sequence[int] | None


def relabel(labels: Sequence[Labels]) -> Relabelled:
    """Find the label sets that fall together."""
    place: dict[Labels, int] = {}
    target = [place.setdefault(one, len(place)) for one in labels]
    if len(place) == len(labels):
        return Relabelled(tuple(labels), None)
    return Relabelled(tuple(place), target)


def fold(new: Relabelled, rows: Sequence[Row], *, over_steps: bool = False) -> Frame:
    """Bring rows under their new labels. Two values for one label set at one step are an error.

    With ``over_steps`` they are one at any two steps, too: Prometheus is that strict for functions of ranges, unary
    minus and ``label_replace``.
    """
    if new.target is None:
        return Frame(new.labels, rows)
    owner: list[int | None] = [None] * len(new.labels)
    folded: list[Row] = []
    for row in rows:
        if not over_steps:
            owner = [None] * len(new.labels)
        out: list[float | None] = [None] * len(new.labels)
        for i, value in enumerate(row):
            if value is None:
                continue
            to = new.target[i]
            if owner[to] is not None and owner[to] != i:
                raise PromQLError(DUPLICATE, kind="execution")
            owner[to] = i
            out[to] = value
        folded.append(out)
    return Frame(new.labels, folded)


def drop_name(labels: Labels) -> Labels:
    """The labels without the metric's name (and type and unit)."""
    return tuple(pair for pair in labels if pair[0] not in _DROPPED)


def nameless(labels: SeriesLabels) -> Relabelled:
    """All series without their names."""
    return relabel([drop_name(one) for one in labels])


def transpose(columns: Sequence[Sequence[float | None]], steps: int) -> list[Row]:
    """Series by series into step by step."""
    return list(zip(*columns, strict=True)) if columns else [()] * steps
