"""The sliding store: what is loaded, seen, let go, and where series are taken to have ended."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from monitor.samples import STALE, Labels, is_stale, make_labels
from monitor.selector import Matcher
from monitor.store.sliding import Matchers, Piece, Sliding, Wanted, broadest, selects

A, B = make_labels("x", a="1"), make_labels("x", a="2")


def named(name: str, *more: Matcher) -> Matchers:
    return (Matcher("__name__", "=", name), *more)


class Samples:
    """A feed of what a test says; remembers what it was asked for."""

    def __init__(self, series: dict[Labels, dict[int, float]], *, marks_ends: bool = True) -> None:
        self.marks_ends = marks_ends
        self.asked: list[tuple[Matchers, int, int]] = []
        self._series = series

    def read(self, wanted: Sequence[Wanted], end_ms: int) -> Iterator[Iterable[Piece]]:
        for matchers, start_ms in wanted:
            self.asked.append((matchers, start_ms, end_ms))
            yield self._found(matchers, start_ms, end_ms)

    def _found(self, matchers: Matchers, start_ms: int, end_ms: int) -> Iterator[Piece]:
        for labels, samples in self._series.items():
            times = [at for at in samples if start_ms < at <= end_ms]
            if times and selects(matchers, labels):
                yield labels, times, [samples[at] for at in times]


def never(labels: Labels) -> bool:
    return False


EVERY_X = named("x")


def times(store: Sliding, matchers: Matchers = EVERY_X) -> dict[Labels, list[int]]:
    """When each series has samples, as far as is seen; markers are negative."""
    found = {}
    for one in store.select(matchers):
        at, values = one.window(-(10**9), 10**9)
        found[one.labels] = [-t if is_stale(value) else t for t, value in zip(at, values, strict=True)]
    return found


def test_it_has_what_selectors_reach_and_lets_the_rest_go() -> None:
    feed = Samples({A: {t: float(t) for t in range(0, 10_000, 100)}, make_labels("z"): {500: 1.0}})
    store = Sliding(feed, {named("x"): 1000}, never)
    store.load(3000, 5000)
    store.move(3000)
    assert times(store)[A] == list(range(2100, 3001, 100))
    assert len(store) == 1
    store.load(4500, 6000)
    store.move(5200)
    assert times(store)[A] == list(range(3500, 5201, 100))
    assert feed.asked == [(named("x"), 2000, 5000), (named("x"), 5000, 6000)]
    assert (store.samples, store.series_seen) == (40, 1)


def test_a_series_without_samples_is_forgotten_and_may_come_back() -> None:
    store = Sliding(Samples({A: {100: 1.0, 9000: 2.0}, B: {9500: 1.0}}), {named("x"): 1000}, never)
    store.load(500, 3000)
    before = store.epoch
    assert list(times(store)) == [A]
    store.load(2500, 5000)
    assert list(times(store)) == []
    assert store.epoch != before
    store.load(8500, 10_000)
    store.move(9000)
    assert times(store) == {A: [9000], B: []}


def test_what_is_appended_is_kept_apart_from_what_was_stored() -> None:
    made = make_labels("made")
    feed = Samples({A: {100: 1.0}, made: {100: 5.0, 300: 6.0}})
    wanted = {named("x"): 1000, (Matcher("__name__", "=~", "made|x"),): 1000, named("made"): 500}
    store = Sliding(feed, wanted, lambda labels: labels == made, [named("made")])
    store.load(0, 1000)
    store.move(200)
    store.append(made, 200, 7.0)
    store.append(made, 200, 8.0)
    store.append(made, 150, 9.0)
    (series,) = store.select(named("made"))
    assert [list(part) for part in series.window(0, 1000)] == [[200], [7.0]]
    assert named("made") not in [matchers for matchers, _, _ in feed.asked]
    assert series.last(0, 1000) == (200, 7.0)
    assert series.last(200, 1000) is None


def test_a_selector_that_nobody_named_is_loaded_when_it_is_asked_for() -> None:
    feed = Samples({A: {t: float(t) for t in range(0, 10_000, 100)}, B: {4000: 1.0}})
    store = Sliding(feed, {}, never)
    store.load(3000, 5000)
    store.move(3000)
    only = named("x", Matcher("a", "=", "1"))
    assert times(store, only) == {A: list(range(0, 3001, 100))}
    store.load(4900, 6000)
    store.move(6000)
    assert times(store, only)[A][-1] == 6000
    assert store.matched == {only}


def test_only_the_broadest_selectors_are_read() -> None:
    one, other = Matcher("a", "=", "1"), Matcher("b", "=", "2")
    wanted = {
        named("x", one): 5000,
        named("x"): 1000,
        named("y", one, other): 10,
        named("y", other): 20,
        named("z", one): 7,
    }
    assert broadest(wanted) == [(named("x"), 5000), (named("y", other), 20), (named("z", one), 7)]


def test_an_end_is_inferred_from_a_long_gap_and_from_no_short_one() -> None:
    every = range(0, 100_001, 5000)
    feed = Samples(
        {
            A: {t: 1.0 for t in every if not 30_000 < t < 60_000},
            B: {t: 1.0 for t in every if t not in (30_000, 35_000)} | {100_000: STALE},
        },
        marks_ends=False,
    )
    store = Sliding(feed, {named("x"): 10**6}, never)
    store.load(0, 100_000)
    store.move(100_000)
    found = times(store)
    assert found[A] == [*range(0, 30_001, 5000), -35_000, *range(60_000, 100_001, 5000)]
    assert found[B] == [t for t in every if t not in (30_000, 35_000, 100_000)] + [-100_000]


def test_an_end_is_seen_when_the_next_stretch_is_loaded() -> None:
    feed = Samples({A: dict.fromkeys(range(0, 50_001, 5000), 1.0), B: {0: 1.0, 60_000: 1.0}}, marks_ends=False)
    store = Sliding(feed, {named("x"): 10**6}, never)
    store.load(0, 60_000)
    store.move(10**6)
    assert times(store)[A][-2:] == [45_000, 50_000]
    store.load(0, 120_000)
    assert times(store)[A][-2:] == [50_000, -55_000]
    # What has no pace has no end.
    assert times(store)[B] == [0, 60_000]
    store.load(0, 180_000)
    assert times(store)[A][-2:] == [50_000, -55_000]
