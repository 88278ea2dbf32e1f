"""Frames: what every vector expression evaluates to, and the work on labels that all operators share.

A frame has the series once and a row of values for each step. That way an operator looks at labels once: it derives
what it needs from the tuple of label sets and keeps it for as long as it is handed the very same tuple, which for a
selector is until a series is born or forgotten. A rule that is evaluated every few seconds does no work on labels.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from operator import is_
from typing import Generic, TypeAlias, TypeVar

import msgspec

from monitor.promql.errors import DEFAULT_LIMITS, Limits, PromQLError
from monitor.samples import NAME, Labels
from monitor.selector import Storage

Row: TypeAlias = Sequence[float | None]
"""The values of all series of a frame at one step; None where a series has none. Never changed once made."""

SeriesLabels: TypeAlias = tuple[Labels, ...]

_DROPPED = frozenset((NAME, "__type__", "__unit__"))
"""What an operation that makes another metric of a series takes from it: its name, type and unit."""

DUPLICATE = "vector cannot contain metrics with the same labelset"


@dataclass(slots=True)
class Frame:
    """Series and their values: ``rows[step][i]`` belongs to ``labels[i]``. No label set is there twice. Never changed
    once made; a frozen one takes three times as long to make."""

    labels: SeriesLabels
    rows: Sequence[Row]
    held: Held | None = field(default=None, compare=False, repr=False)
    """Keeps its memory counted."""


CELL_BYTES = 40
"""A value of a frame: a float of its own, and its place in the row and in what the row is made of."""
POINT_BYTES = 64
"""A point of a range query's result, beside its value: a pair, and its place in a list."""
SAMPLE_BYTES = 120
"""A sample of a range as a result: a pair of numbers of their own."""


class Held:
    """So much memory of a budget, until it is let go."""

    __slots__ = ("_budget", "_bytes")

    def __init__(self, budget: Budget, size: int) -> None:
        budget.hold(size)
        self._budget, self._bytes = budget, size

    def __del__(self) -> None:
        # Where the budget had no room, there is nothing to let go.
        if hasattr(self, "_bytes"):
            self._budget.let_go(self._bytes)


class Budget:
    """Counts what a query reads and makes, and stops it."""

    __slots__ = ("_held", "_limits", "_used")

    def __init__(self, limits: Limits = DEFAULT_LIMITS) -> None:
        self._limits = limits
        self._used = 0
        self._held = 0

    def cells(self, series: int, steps: int) -> None:
        """As ``take``, before so many values are made of a frame. Raises ``PromQLError``."""
        self.take(series * steps)
        if steps > 1:
            self.room(series * steps * CELL_BYTES)

    def room(self, size: int) -> None:
        """See whether there is room for so many bytes. Raises ``PromQLError``."""
        if self._held + size > self._limits.max_bytes:
            raise PromQLError(
                f"the query needs more than {self._limits.max_bytes >> 20} MiB of memory: "
                "ask for a shorter range, a longer step or fewer series",
                kind="execution",
            )

    def hold(self, size: int) -> None:
        """Count so many bytes as taken. Raises ``PromQLError``."""
        self.room(size)
        self._held += size

    def let_go(self, size: int) -> None:
        """Count them no longer."""
        self._held -= size

    def held(self, frame: Frame) -> Frame:
        """The frame, its memory counted for as long as it is kept. Raises ``PromQLError``."""
        rows = frame.rows
        # What is the same at every step is one row.
        size = (1 if rows and rows[0] is rows[-1] else len(rows)) * len(frame.labels) * CELL_BYTES
        # Whoever asked for it makes another like it before it is let go.
        self.room(2 * size)
        return Frame(frame.labels, rows, Held(self, size))

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


class Shared:
    """What expressions that are evaluated together have in common, by the name of the metric: three quantiles of one
    histogram need its rates once. Whoever gives a metric new samples meanwhile says so with ``forget``."""

    __slots__ = ("_frames",)

    def __init__(self) -> None:
        self._frames: dict[str, dict[Hashable, Frame]] = {}

    def of(self, name: str) -> dict[Hashable, Frame]:
        """What is known of a metric."""
        return self._frames.setdefault(name, {})

    def forget(self, name: str) -> None:
        """The metric has other samples now."""
        self._frames.pop(name, None)


class Context(msgspec.Struct, frozen=True):
    """For what steps an expression is evaluated, and over what."""

    storage: Storage
    steps: Sequence[int]
    """Epoch milliseconds, ascending, at least one except inside of a subquery."""
    start_ms: int
    """``start()`` of the whole query, also inside of its subqueries."""
    end_ms: int
    budget: Budget
    shared: Shared | None = None

    def at(self, steps: Sequence[int]) -> Context:
        """The same query at other steps."""
        return Context(self.storage, steps, self.start_ms, self.end_ms, self.budget, self.shared)

    def once(self, metric: str, key: tuple[Hashable, ...], evaluated: Callable[[Context], Frame]) -> Frame:
        """What ``evaluated`` gives here: of one step, once for all that are evaluated together and have the same
        ``key``. Only ``metric``'s samples decide it; "" for what cannot be shared."""
        if self.shared is None or not metric or len(self.steps) != 1:
            return evaluated(self)
        known = self.shared.of(metric)
        here = (*key, self.steps[0])
        found = known.get(here)
        if found is None:
            found = known[here] = evaluated(self)
        return found


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
        if kept is None or not all(map(is_, kept, keys)):
            self._value = self._build(*keys)
            self._keys = keys
        assert self._value is not None  # noqa: S101 # made above
        return self._value


class Relabelled(msgspec.Struct, frozen=True):
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
