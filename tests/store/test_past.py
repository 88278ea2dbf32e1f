"""Memory and disk as one store: every query gives what it gives over a store that has it all in memory."""

from __future__ import annotations

import random
import struct
from array import array
from bisect import bisect_right
from collections.abc import Sequence

import pytest

from monitor.promql.evaluate import range_query
from monitor.promql.plan import plan
from monitor.samples import Labels, Scrape, Shape, label, make_labels
from monitor.selector import Matcher, Minutes, Storage
from monitor.store.head import Head
from monitor.store.minutes import minutes_of
from monitor.store.past import Past
from monitor.store.series import FrozenSeries

T0 = 1_700_000_000_000 // 3_600_000 * 3_600_000
DAY_MS = 86_400_000


class Plain:
    """A series as two arrays. Implements ``monitor.selector.Series``."""

    def __init__(self, labels: Labels, rolled_up: bool) -> None:
        self.labels = labels
        self.times, self.values = array("q"), array("d")
        self.rolled_up = rolled_up
        self.asked = 0

    def window(self, start_ms: int, end_ms: int) -> tuple[Sequence[int], Sequence[float]]:
        first, last = bisect_right(self.times, start_ms), bisect_right(self.times, end_ms)
        return self.times[first:last], self.values[first:last]

    def last(self, start_ms: int, end_ms: int) -> tuple[int, float] | None:
        times, values = self.window(start_ms, end_ms)
        return (times[-1], values[-1]) if times else None

    def minutes(self, start_ms: int, end_ms: int) -> Minutes | None:
        self.asked += 1
        return minutes_of(self.times, self.values, start_ms, end_ms) if self.rolled_up else None


class Disk:
    """What was on disk before memory began, and a while after."""

    def __init__(self, series: Sequence[Plain]) -> None:
        self.series = series

    def select(self, matchers: Sequence[Matcher], start_ms: int, end_ms: int) -> Sequence[Plain]:
        return [
            one
            for one in self.series
            if all(m.matches(label(one.labels, m.name)) for m in matchers) and one.last(start_ms, end_ms) is not None
        ]


def frozen(head: Head) -> list[FrozenSeries]:
    return head.freeze([[Matcher("__name__", "=~", ".+")]])


@pytest.mark.parametrize("rolled_up", [True, False])
@pytest.mark.parametrize("began_ms", [0, 3_723_000, 6 * 3_600_000, 60_000])
def test_a_query_does_not_see_where_memory_begins(began_ms: int, rolled_up: bool) -> None:
    rng = random.Random(began_ms)
    # One counter ends before memory begins, one begins in the middle; a gauge goes through.
    shapes = {
        "early": Shape([make_labels("c_total", n="1")], {}),
        "late": Shape([make_labels("c_total", n="2")], {}),
        "all": Shape([make_labels("g", n="3")], {}),
    }
    memory, whole = Head("j", "i"), Head("j", "i", retention_ms=DAY_MS)
    disk = {name: Plain(whole.identify(shape.series[0]), rolled_up) for name, shape in shapes.items()}
    value = 0.0
    for at_ms in range(T0, T0 + 8 * 3_600_000, 7_000):
        value = rng.choice((0.0, value + 1, value + 1, value + 5))
        for name, shape in shapes.items():
            if (name == "early" and at_ms > T0 + 3_000_000) or (name == "late" and at_ms < T0 + 5_000_000):
                continue
            scrape = Scrape(at_ms, shape, [value])
            whole.ingest(name, scrape)
            if at_ms >= T0 + began_ms:
                memory.ingest(name, scrape)
            disk[name].times.append(at_ms)
            disk[name].values.append(value)
    start_ms, end_ms = T0 - 600_000, T0 + 9 * 3_600_000
    past = Past(frozen(memory), Disk(list(disk.values())), start_ms, end_ms)
    for text in ("c_total", "g", "rate(c_total[5m])", "increase(g[3m])", "max_over_time(g[10m])", "sum(c_total)"):
        for first_ms, step_ms in ((T0, 60_000), (T0 + 300_000, 300_000), (T0 + 1234, 77_000)):
            asked = (first_ms, T0 + 8 * 3_600_000, step_ms)
            assert answers(text, past, *asked) == answers(text, whole, *asked), (text, asked)
    assert not began_ms or all(one.asked for one in disk.values())


def answers(text: str, storage: Storage, start_ms: int, end_ms: int, step_ms: int) -> list[object]:
    rows = range_query(plan(text), storage, start_ms, end_ms, step_ms)
    return [(labels, [(at_ms, struct.pack("d", value)) for at_ms, value in points]) for labels, points in rows]


def test_without_a_disk_there_is_what_memory_has() -> None:
    head = Head("j", "i")
    head.ingest("s", Scrape(T0, Shape([make_labels("g", n="3")], {}), [1.0]))
    past = Past(frozen(head), None, 0, T0)
    assert [one.labels for one in past.select([Matcher("__name__", "=", "g")])] == [
        head.identify(make_labels("g", n="3"))
    ]
    assert past.select([Matcher("__name__", "=", "x")]) == []
