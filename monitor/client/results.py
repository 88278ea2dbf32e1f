"""The answers of a set of queries, kept up to date from what each frame of a stream says has changed.

A query whose id ends in ``_h`` is a range: it answers with histories. Every other is instant.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from monitor.client.errors import ClientError
from monitor.client.format import clean
from monitor.client.snapshot import History
from monitor.client.wire import Frame, Result

_LEAST_MS = 60_000
"""A graph shows so much at least."""

Labels = dict[str, str]
Row = tuple[Labels, float, float]
"""Labels, time in milliseconds, value."""


@dataclass(frozen=True, slots=True)
class Answers:
    """What a screen's own queries say at ``now_ms`` of the node's clock. Labels are cleaned."""

    now_ms: int
    instants: Mapping[str, Sequence[Row]] = field(default_factory=dict)
    """Of each instant query its series: labels, time in epoch milliseconds, value. NaN is left out."""
    histories: Mapping[str, Sequence[tuple[Labels, History]]] = field(default_factory=dict)
    """Of each range query its series."""
    problems: Mapping[str, str] = field(default_factory=dict)
    """Queries that failed, with the reason."""

    def rows(self, id: str, **labels: str) -> list[Row]:
        """The series of an instant query that have these labels."""
        wanted = labels.items()
        return [row for row in self.instants.get(id, ()) if wanted <= row[0].items()]

    def value(self, id: str, **labels: str) -> float | None:
        """The value of the first such series, or None."""
        wanted = labels.items()
        return next((value for known, _, value in self.instants.get(id, ()) if wanted <= known.items()), None)

    def history(self, id: str, **labels: str) -> History | None:
        """The past of the first series of a range query that has these labels, or None."""
        for known, history in self.histories.get(id, ()):
            if labels.items() <= known.items():
                return history
        return None


@dataclass(frozen=True, slots=True)
class Lens:
    """What a screen's queries are made for. A daemon polls each second, a Prometheus scrapes every 15 to 60 s.

    Where one node of several is looked at, every selector has to have ``node`` behind its own matchers:
    ``f'{{mode="idle"{lens.node}}}'``. It begins with a comma, and is "" for the one node of a daemon; for a name
    without matchers of its own there is ``queries.selector(name, matchers, lens.node)``. A query that names the
    instance itself needs no more.
    """

    window: str = "30s"
    """What rates look back over."""
    latency_window: str = "1m"
    """What means and quantiles do: a quantile of few requests jumps."""
    range_seconds: int = 600
    step_seconds: int = 2
    daemon: bool = True
    node: str = ""
    """The matchers of the node that is looked at, ``,instance=~"…"``, or ""."""


class Instant:
    """The last result of an instant query."""

    def __init__(self) -> None:
        self._labels: tuple[Labels, ...] = ()
        self.rows: list[Row] = []

    def apply(self, result: Result) -> None:
        if result.labels is not None:
            self._labels = tuple({clean(k): clean(v) for k, v in one.items()} for one in result.labels)
        if not len(self._labels) == len(result.values) == len(result.times):
            raise ValueError("an instant result whose labels, times and values are not of one length")
        self.rows = [
            (labels, at, value)
            for labels, at, value in zip(self._labels, result.times, result.values, strict=True)
            if isinstance(value, int | float) and value == value
        ]


class Window:
    """The window of a range query, grown by each frame. Every apply makes new arrays: those given out never change."""

    _epochs = 0

    def __init__(self, range_ms: int, *, whole: bool = False, oldest_ms: int | None = None) -> None:
        self._range_ms = range_ms
        self._whole = whole
        self._oldest_ms = oldest_ms
        self._times = array("q")
        self._values: list[array[float]] = []
        self._epoch = 0
        self.labels: tuple[Labels, ...] = ()

    def apply(self, result: Result) -> None:
        times = array("q", (int(at) for at in result.times))
        rows = []
        for row in result.values:
            if not isinstance(row, list) or len(row) != len(times):
                raise ValueError("a range result whose times and values are not of one length")
            rows.append(array("d", (math.nan if value is None else value for value in row)))
        if result.reset or result.labels is not None:
            self.labels = tuple({clean(k): clean(v) for k, v in one.items()} for one in result.labels or ())
            self._times, self._values = times, rows
            Window._epochs += 1
            self._epoch = Window._epochs
        elif times:
            if len(rows) != len(self._values):
                raise ValueError("a range result with another number of series than the one before")
            joined = self._times + times
            old = joined[-1] - self._range_ms
            drop = 0
            while joined[drop] < old:
                drop += 1
            self._times = joined[drop:]
            self._values = [(kept + new)[drop:] for kept, new in zip(self._values, rows, strict=True)]
        if len(self.labels) != len(self._values):
            raise ValueError("a range result with another number of labels than of series")

    def histories(self) -> Iterable[tuple[Labels, History]]:
        span_ms = self._span_ms()
        for labels, values in zip(self.labels, self._values, strict=True):
            yield labels, History(self._times, values, self._epoch, span_ms)

    def _span_ms(self) -> int | None:
        """What a graph shows of it: the whole range, but nothing from before there was anything."""
        if not self._whole:
            return None
        if self._oldest_ms is None or not self._times:
            return self._range_ms
        return min(self._range_ms, max(_LEAST_MS, self._times[-1] - self._oldest_ms))


class Results:
    """The last answers of all queries of a stream. ``target`` is named in errors."""

    def __init__(self, target: str, range_ms: int, *, whole: bool = False, oldest_ms: int | None = None) -> None:
        """With ``whole`` every graph shows the whole range, or all since ``oldest_ms``, where that is less."""
        self._target = target
        self._range_ms = range_ms
        self._whole = whole
        self._oldest_ms = oldest_ms
        self.instants: dict[str, Instant] = {}
        self.windows: dict[str, Window] = {}
        self.problems: dict[str, str] = {}

    def apply(self, frame: Frame) -> bool:
        """Take what a frame says has changed; whether any history did. Raises ``ClientError`` for a frame that does not
        fit those before it: then only a new connection helps."""
        changed = False
        for id, result in frame.results.items():
            if result.error is not None:
                self.problems[id] = clean(result.error)
                self.instants.pop(id, None)
                changed |= self.windows.pop(id, None) is not None
                continue
            self.problems.pop(id, None)
            try:
                if id.endswith("_h"):
                    self.windows.setdefault(id, self._window()).apply(result)
                    changed = True
                else:
                    self.instants.setdefault(id, Instant()).apply(result)
            except (ValueError, OverflowError) as error:  # the latter of a time that no clock has
                raise ClientError(f'frame {frame.seq}, query "{id}": {error}', self._target) from None
        return changed

    def _window(self) -> Window:
        return Window(self._range_ms, whole=self._whole, oldest_ms=self._oldest_ms)

    def rows(self, id: str) -> Sequence[Row]:
        """What an instant query says."""
        instant = self.instants.get(id)
        return instant.rows if instant is not None else ()

    def answers(self, now_ms: int) -> Answers:
        """All of it, at a moment."""
        return Answers(
            now_ms,
            {id: tuple(one.rows) for id, one in self.instants.items()},
            {id: tuple(one.histories()) for id, one in self.windows.items()},
            dict(self.problems),
        )
