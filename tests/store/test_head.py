"""The store: identity, selection, ends of series, the hour."""

import gc
import math
import random
import struct
import weakref
from array import array
from collections.abc import Iterable, Sequence

import pytest
from msgspec.structs import replace

from monitor.samples import STALE, Family, Scrape, Shape, is_stale, label, make_labels
from monitor.selector import Matcher
from monitor.store.chunk import Chunk, ChunkError, seal
from monitor.store.head import MAX_VALUE_BYTES, Head
from monitor.store.reaching import reach_back, stretches
from monitor.store.series import WINDOW_MS, FrozenSeries, HeadSeries

T0 = 1_700_000_000_000 // WINDOW_MS * WINDOW_MS
UTIL = Family("util", "gauge", "Utilization.")


def shape(*gpus: str) -> Shape:
    return Shape([make_labels("util", gpu=gpu) for gpu in gpus], {"util": UTIL})


def values_of(head: Head, **labels: str) -> list[float]:
    (series,) = head.select([Matcher("__name__", "=", "util"), *(Matcher(k, "=", v) for k, v in labels.items())])
    return list(series.window(-1, 10**15)[1])


def test_identity_is_added_and_a_sources_own_is_kept_under_another_name() -> None:
    head = Head("gpumon", "n1:9519")
    odd = Shape([make_labels("x", job="theirs", instance="i")], {})
    head.ingest("s", Scrape(1000, odd, [1.0]))
    (series,) = head.all_series()
    assert dict(series.labels) == {
        "__name__": "x",
        "job": "gpumon",
        "instance": "n1:9519",
        "exported_job": "theirs",
        "exported_instance": "i",
    }
    assert series.original == odd.series[0]


def test_matchers() -> None:
    head = Head("gpumon", "n1")
    head.ingest("s", Scrape(1000, shape("0", "1", "10"), [0.0, 1.0, 2.0]))

    def gpus(*matchers: Matcher) -> list[str]:
        return [label(s.labels, "gpu") for s in head.select(matchers)]

    assert gpus(Matcher("__name__", "=", "util")) == ["0", "1", "10"]
    assert gpus(Matcher("gpu", "=~", "1.*"), Matcher("__name__", "=", "util")) == ["1", "10"]
    assert gpus(Matcher("gpu", "=~", "1")) == ["1"]
    assert gpus(Matcher("gpu", "!~", "1.*"), Matcher("absent", "=", "")) == ["0"]
    assert gpus(Matcher("gpu", "!=", "0"), Matcher("gpu", "!=", "10")) == ["1"]
    assert gpus(Matcher("__name__", "=", "other")) == []


def test_matchers_of_the_name() -> None:
    head = Head("gpumon", "n1")
    head.ingest("s", Scrape(1000, Shape([make_labels(name) for name in ("load1", "load5", "memory")], {}), [1.0] * 3))

    def names(*matchers: Matcher) -> list[str]:
        return [label(s.labels, "__name__") for s in head.select(matchers)]

    assert names(Matcher("__name__", "=~", "load.*")) == ["load1", "load5"]
    assert names(Matcher("__name__", "=~", "load.*"), Matcher("__name__", "!=", "load5")) == ["load1"]
    assert names(Matcher("__name__", "!~", "load.*"), Matcher("absent", "=", "")) == ["memory"]
    assert names(Matcher("__name__", "=", "load1"), Matcher("__name__", "=~", "m.*")) == []
    assert names(Matcher("__name__", "=", "load1"), Matcher("__name__", "=", "memory")) == []
    assert names(Matcher("__name__", "=", "")) == []


def test_a_regular_expression_looks_at_each_name_once(monkeypatch: pytest.MonkeyPatch) -> None:
    head = Head("gpumon", "n1")
    head.ingest("s", Scrape(1000, shape(*map(str, range(50))), [0.0] * 50))
    looked: list[str] = []
    matches = Matcher.matches

    def look(self: Matcher, value: str) -> bool:
        looked.append(value)
        return matches(self, value)

    monkeypatch.setattr(Matcher, "matches", look)
    assert len(head.select([Matcher("__name__", "=~", "u.*")])) == 50
    assert looked == ["util"]


def test_a_series_that_leaves_its_source_ends_and_the_others_do_not() -> None:
    head = Head("gpumon", "n1")
    head.ingest("s", Scrape(1000, shape("0", "1"), [1.0, 2.0]))
    head.ingest("s", Scrape(2000, shape("0"), [3.0]))
    head.ingest("s", Scrape(3000, shape("0", "1"), [4.0, 5.0]))
    assert values_of(head, gpu="0") == [1.0, 3.0, 4.0]
    seen = values_of(head, gpu="1")
    assert [seen[0], seen[2]] == [2.0, 5.0]
    assert is_stale(seen[1])


def test_a_source_that_is_down_ends_its_series_once() -> None:
    head = Head("gpumon", "n1")
    head.ingest("a", Scrape(1000, shape("0"), [1.0]))
    head.ingest("b", Scrape(1000, shape("7"), [1.0]))
    head.end("a", 2000)
    head.end("a", 3000)
    assert len(values_of(head, gpu="0")) == 2
    assert values_of(head, gpu="7") == [1.0]
    assert [label(s.labels, "gpu") for s, _, _ in head.live()] == ["7"]


def test_windows_are_open_on_the_left() -> None:
    head = Head("gpumon", "n1")
    kept = shape("0")
    for at in (1000, 2000, 3000):
        head.ingest("s", Scrape(at, kept, [float(at)]))
    (series,) = head.select([Matcher("gpu", "=", "0")])
    assert list(series.window(1000, 3000)[0]) == [2000, 3000]
    assert series.last(1000, 2500) == (2000, 2000.0)
    assert series.last(2000, 2500) is None
    assert series.last(0, 500) is None


def test_a_sample_that_is_not_newer_is_dropped_and_counted() -> None:
    head = Head("gpumon", "n1")
    kept = shape("0")
    for at, value in ((2000, 1.0), (2000, 2.0), (1000, 3.0), (3000, 4.0)):
        head.ingest("s", Scrape(at, kept, [value]))
    assert values_of(head, gpu="0") == [1.0, 4.0]
    assert head.dropped_samples == 2


def test_only_the_last_hour_is_kept_and_what_nobody_feeds_is_forgotten() -> None:
    head = Head("gpumon", "n1")
    kept, gone = shape("0"), shape("1")
    head.ingest("gone", Scrape(0, gone, [1.0]))
    head.end("gone", 1000)
    for minute in range(121):
        head.ingest("s", Scrape(minute * 60_000, kept, [float(minute)]))
    # What is sealed goes by chunks of five minutes.
    kept_values = values_of(head, gpu="0")
    assert kept_values == [float(minute) for minute in range(121 - len(kept_values), 121)]
    assert 61 <= len(kept_values) <= 66
    assert head.oldest_ms == (121 - len(kept_values)) * 60_000
    assert not head.select([Matcher("gpu", "=", "1")])
    # It may come back, through the same shape.
    head.ingest("gone", Scrape(121 * 60_000, gone, [9.0]))
    assert values_of(head, gpu="1") == [9.0]


def test_what_select_gives_follows_the_epoch() -> None:
    head = Head("gpumon", "n1")
    head.ingest("s", Scrape(1000, shape("0"), [1.0]))
    epoch = head.epoch
    assert len(head.select([Matcher("__name__", "=", "util")])) == 1
    head.ingest("s", Scrape(2000, shape("0", "1"), [1.0, 1.0]))
    assert head.epoch != epoch
    assert len(head.select([Matcher("__name__", "=", "util")])) == 2


def test_single_samples_keep_their_own_labels() -> None:
    head = Head("gpumon", "n1")
    labels = make_labels("ALERTS", alertname="X")
    head.append(labels, 1000, 1.0)
    head.append(labels, 2000, STALE)
    (series,) = head.all_series()
    assert (series.labels, series.source, series.ended) == (labels, "", True)


class Model:
    """What a store is: a list of samples for each series, and nothing clever."""

    def __init__(self) -> None:
        self.series: dict[str, list[tuple[int, float]]] = {}
        self.current: dict[str, list[str]] = {}

    def push(self, gpu: str, at_ms: int, value: float) -> None:
        samples = self.series.setdefault(gpu, [])
        if not samples or at_ms > samples[-1][0]:
            samples.append((at_ms, value))

    def end(self, gpus: Iterable[str], at_ms: int) -> None:
        for gpu in gpus:
            if self.series.get(gpu) and not is_stale(self.series[gpu][-1][1]):
                self.push(gpu, at_ms, STALE)

    def ingest(self, source: str, at_ms: int, gpus: list[str], values: list[float]) -> None:
        for gpu, value in zip(gpus, values, strict=True):
            self.push(gpu, at_ms, value)
        self.end(set(self.current.get(source, [])) - set(gpus), at_ms)
        self.current[source] = gpus


def bits(samples: Iterable[tuple[int, float]]) -> list[tuple[int, bytes]]:
    """Comparable also where values are NaN."""
    return [(at_ms, struct.pack("d", value)) for at_ms, value in samples]


@pytest.mark.parametrize("seed", range(12))
def test_whatever_comes_and_goes_the_samples_are_those_of_a_plain_list(seed: int) -> None:
    rng = random.Random(seed)
    head, model = Head("gpumon", "n"), Model()
    shapes = {gpus: shape(*gpus) for gpus in ("0", "01", "12", "012", "2", "0123", "00", "3")}
    last = dict.fromkeys("ab", "")
    now_ms = 1_700_000_000_000
    frozen: list[FrozenSeries] = []
    for _ in range(2000):
        source = rng.choice("ab")
        now_ms += rng.choice((1000, 1000, 1000, 1003, 5000, 40_000, 0))
        act = rng.random()
        if act < 0.03:
            newest = head_newest(head, source)
            head.end(source, now_ms)
            model.end(model.current.pop(source, []), now_ms if newest is None else max(now_ms, newest + 1))
        elif act < 0.05:
            labels = head.identify(make_labels("util", gpu=rng.choice("0123")))
            head.append(labels, now_ms, 7.5)
            model.push(label(labels, "gpu"), now_ms, 7.5)
        else:
            gpus = last[source] if last[source] and rng.random() < 0.95 else rng.choice(list(shapes))
            last[source] = gpus
            values = [rng.choice((1.0, 2.0, math.nan, rng.random())) for _ in gpus]
            newest = max((at for at in [head_newest(head, source)] if at is not None), default=-1)
            head.ingest(source, Scrape(now_ms, shapes[gpus], values))
            if now_ms > newest:  # a source whose time stands still has its whole scrape dropped
                model.ingest(source, now_ms, list(gpus), values)
        if rng.random() < 0.02:
            frozen = head.freeze([[Matcher("__name__", "=", "util")]])
            assert all(bits(zip(*one.window(0, now_ms), strict=True)) for one in frozen)
    for one in head.all_series():
        samples = model.series[label(one.labels, "gpu")]
        (again,) = head.freeze([[Matcher("gpu", "=", label(one.labels, "gpu"))]])
        for _ in range(50):
            start_ms = now_ms - rng.randrange(3_500_000)
            end_ms = start_ms + rng.choice((0, 1, 1000, 60_000, 300_000, 4_000_000))
            expected = bits((at, value) for at, value in samples if start_ms < at <= end_ms)
            for view in (one, again):
                assert bits(zip(*view.window(start_ms, end_ms), strict=True)) == expected
                found = view.last(start_ms, end_ms)
                assert bits([found] if found else []) == expected[-1:]


def head_newest(head: Head, source: str) -> int | None:
    line = head._lines.get(source)
    return line.stamps[-1] if line is not None and line.stamps else None


class Ledger:
    """A journal that remembers what it is told."""

    def __init__(self) -> None:
        self.raw: dict[int, list[tuple[int, float]]] = {}
        self.chunks: dict[int, list[Chunk]] = {}
        self.rewinds: list[int] = []

    def scrape(self, series: Sequence[HeadSeries], at_ms: int, values: Sequence[float]) -> None:
        for one, value in zip(series, values, strict=True):
            self.sample(one, at_ms, value)

    def sample(self, series: HeadSeries, at_ms: int, value: float) -> None:
        self.raw.setdefault(series.uid, []).append((at_ms, value))

    def sealed(self, series: HeadSeries, chunk: Chunk) -> None:
        self.chunks.setdefault(series.uid, []).append(chunk)

    def rewound(self, to_ms: int) -> None:
        self.rewinds.append(to_ms)


def test_a_journal_is_told_of_every_sample_and_of_every_chunk_that_is_made_of_them() -> None:
    head, ledger = Head("gpumon", "n"), Ledger()
    head.journal = ledger
    two, one = shape("0", "1"), shape("0")
    for second in range(3000):
        kept = two if second < 1500 else one
        head.ingest("s", Scrape(1000 * second + second % 7, kept, [second / 3] * len(kept)))
        if second % 15 == 0:
            head.append(make_labels("rule"), 1000 * second, 1.0)
    assert len(ledger.raw) == 3
    for each in head.all_series():
        told = ledger.raw[each.uid]
        assert bits(told) == bits(zip(*each.window(-1, 10**13), strict=True))
        sealed = [pair for chunk in ledger.chunks[each.uid] for pair in zip(*chunk.decode(), strict=True)]
        assert len(sealed) > len(told) / 2
        assert bits(sealed) == bits(told[: len(sealed)])
        for chunk in ledger.chunks[each.uid]:
            assert (chunk.start_ms - 1) // WINDOW_MS == (chunk.end_ms - 1) // WINDOW_MS
            assert chunk.end_ms <= 2999_000 - 300_000
    # The series of a scrape share their chunks' times.
    of_both = [ledger.chunks[uid][1].times for uid in sorted(ledger.raw)[:2]]
    assert of_both[0] is of_both[1]


def test_what_an_earlier_run_had_is_taken_back_and_goes_on() -> None:
    before, after, ledger = Head("gpumon", "n"), Head("gpumon", "n"), Ledger()
    before.journal = ledger
    kept = shape("0")
    for second in range(1, 1201):
        before.ingest("s", Scrape(1000 * second, kept, [float(second)]))
    (series,) = before.all_series()
    sealed_until = ledger.chunks[series.uid][-1].end_ms
    raw = [pair for pair in ledger.raw[series.uid] if pair[0] > sealed_until]
    after.restore(series.labels, ledger.chunks[series.uid], [at for at, _ in raw], [value for _, value in raw])
    assert next(iter(after.live()))[0].source == ""  # nobody gave it yet: it is not re-exported
    for second in range(1230, 2000):
        after.ingest("s", Scrape(1000 * second, kept, [float(second)]))
    (again,) = after.all_series()
    assert (again.source, again.original) == ("s", kept.series[0])
    assert list(again.window(0, 10**9)[1]) == [float(s) for s in (*range(1, 1201), *range(1230, 2000))]
    assert after.dropped_samples == 0


def test_after_a_clock_that_went_back_memory_begins_anew() -> None:
    head, ledger = Head("gpumon", "n"), Ledger()
    head.journal = ledger
    kept = shape("0", "1")
    for second in range(9000):
        head.ingest("s", Scrape(1000 * second, kept, [float(second)] * 2))
        head.append(make_labels("rule"), 1000 * second, 1.0)
    head.ingest("other", Scrape(8_999_000, shape("9"), [9.0]))
    head.ingest("s", Scrape(8_995_000, kept, [0.0, 0.0]))  # a few seconds are waited for
    assert (head.rewinds, head.dropped_samples) == (0, 2)
    head.ingest("s", Scrape(7_000_500, kept, [-1.0, -1.0]))
    assert (head.rewinds, head.since_ms, ledger.rewinds) == (1, 7_000_500, [7_000_500])
    for gpu in "01":
        assert values_of(head, gpu=gpu)[-1] == -1.0
        assert all(value <= 3400 for value in values_of(head, gpu=gpu))
    assert not values_of(head, gpu="9")
    head.append(make_labels("rule"), 7_000_700, 2.0)
    for second in range(7001, 7900):
        head.ingest("s", Scrape(1000 * second, kept, [float(second)] * 2))
        head.ingest("other", Scrape(1000 * second, shape("9"), [9.0]))
    assert (head.rewinds, head.dropped_samples) == (1, 2)
    assert values_of(head, gpu="0")[-900:] == [-1.0, *map(float, range(7001, 7900))]


def test_series_that_rules_need_for_longer_stay() -> None:
    head = Head("gpumon", "n")
    kept = shape("0", "1")
    head.ingest("s", Scrape(0, kept, [1.0, 1.0]))
    head.keep([((Matcher("gpu", "=", "1"),), 3 * 3_600_000), ((Matcher("gpu", "=", "0"),), 1000)])
    for minute in range(1, 241):
        head.ingest("s", Scrape(60_000 * minute, kept, [float(minute)] * 2))
    assert 61 <= len(values_of(head, gpu="0")) <= 66
    assert 181 <= len(values_of(head, gpu="1")) <= 186
    head.keep([])
    for minute in range(241, 244):
        head.ingest("s", Scrape(60_000 * minute, kept, [float(minute)] * 2))
    assert len(values_of(head, gpu="1")) <= 66


def test_a_source_that_explodes_is_limited_and_the_others_are_not() -> None:
    head = Head("gpumon", "n", max_series=5)
    for second in range(10):
        many = shape("0", "1", f"new-{second}")
        head.ingest("bad", Scrape(1000 * second, many, [float(second)] * 3))
        head.ingest("good", Scrape(1000 * second, shape("7", "8"), [float(second)] * 2))
    assert len(head) == 7
    assert head.refused == {"bad": 7}
    assert values_of(head, gpu="1") == [float(second) for second in range(10)]
    # In an hour those that came and went are forgotten, and there is room again.
    for minute in range(1, 70):
        head.ingest("bad", Scrape(60_000 * minute, shape("0", "1"), [0.0, 0.0]))
    head.ingest("bad", Scrape(60_000 * 70, shape("0", "1", "later"), [0.0, 0.0, 5.0]))
    assert values_of(head, gpu="later") == [5.0]
    assert head.refused == {"bad": 7}


def named(*names: str) -> Shape:
    """Families with a counter each."""
    return Shape([make_labels(name) for name in names], {name: Family(name, "counter", "Help.") for name in names})


def test_names_that_come_and_go_are_forgotten_with_what_was_said_of_them() -> None:
    head = Head("gpumon", "n", max_series=3000)
    histogram = Shape(
        [make_labels("seconds_bucket", le="1"), make_labels("seconds_sum"), make_labels("seconds_count")],
        {"seconds": Family("seconds", "histogram", "Help.")},
    )
    for minute in range(70):
        head.ingest("good", Scrape(60_000 * minute, histogram, [1.0] * 3))
    for turn in range(5):
        for minute in (70 * turn, 70 * turn + 61):
            at_ms = 60_000 * (70 + minute)
            head.ingest("good", Scrape(at_ms, histogram, [1.0] * 3))
            head.ingest("bad", Scrape(at_ms, named(*(f"turn{minute}_{i}" for i in range(600))), [1.0] * 600))
    assert len(head.families) < 2500
    assert "seconds" in head.metadata()
    assert len(head) == len(list(head.all_series())) < 2500


def test_of_series_that_are_refused_no_type_is_kept() -> None:
    head = Head("gpumon", "n", max_series=3)
    head.ingest("bad", Scrape(1000, named("a", "b", "c", "d", "e"), [1.0] * 5))
    assert list(head.metadata()) == ["a", "b", "c"]


def test_a_label_that_is_too_long_is_refused() -> None:
    head = Head("gpumon", "n")
    head.ingest("s", Scrape(1000, shape("0", "x" * (MAX_VALUE_BYTES + 1)), [1.0, 2.0]))
    assert len(head) == 1
    assert head.refused == {"s": 1}


def test_every_series_is_sealed_in_its_turn_though_there_are_too_many_for_five_minutes() -> None:
    head = Head("gpumon", "n1")
    many = Shape([make_labels("many", i=str(i)) for i in range(2000)], {})
    for at_ms in range(0, 3_300_001, 30_000):  # ten scrapes in five minutes: 400 series
        head.ingest("a", Scrape(T0 + at_ms, many, [1.0] * 2000))
    assert all(series.oldest_ms == T0 for series in head.all_series())
    unsealed = [series for series in head.all_series() if series.raw_ms == T0]
    assert not unsealed


def test_series_that_were_refused_are_taken_once_there_is_room() -> None:
    head = Head("gpumon", "n1", max_series=3)
    head.ingest("s", Scrape(T0, Shape([make_labels("old", i=str(i)) for i in range(3)], {}), [1.0] * 3))
    new = shape("0", "1")
    for at_ms in range(30_000, 3_600_001, 30_000):
        head.ingest("s", Scrape(T0 + at_ms, new, [1.0, 2.0]))
    assert head.refused == {"s": 2}
    assert head.select([Matcher("__name__", "=", "util")]) == []
    for at_ms in range(3_630_000, 3_900_001, 30_000):
        head.ingest("s", Scrape(T0 + at_ms, new, [1.0, 2.0]))
    assert values_of(head, gpu="1")[-1] == 2.0
    head.ingest("s", Scrape(T0 + 3_930_000, shape("0"), [1.0]))
    assert is_stale(values_of(head, gpu="1")[-1])


def test_a_source_that_is_lost_while_the_clock_is_a_little_back_ends_all_the_same() -> None:
    head = Head("gpumon", "n1")
    head.ingest("s", Scrape(T0, shape("0", "1"), [1.0, 2.0]))
    head.end("s", T0 - 5000)
    assert not list(head.live())
    head.ingest("s", Scrape(T0 + 1000, shape("0", "1"), [1.0, 2.0]))
    head.end("s", T0 + 1000)
    assert not list(head.live())


def test_what_was_selected_once_holds_no_series_that_are_gone() -> None:
    head = Head("gpumon", "n1")
    for i in range(3):
        head.ingest("s", Scrape(T0 + i * 1000, shape(str(i)), [1.0]))
        head.select([Matcher("gpu", "=", str(i))])
        head.select([Matcher("gpu", "!=", str(i))])
    gone = weakref.ref(next(iter(head.all_series())))
    for i in range(130):
        head.ingest("s", Scrape(T0 + i * 60_000 + 5000, shape("9"), [1.0]))
    head.select([Matcher("gpu", "=", "9")])
    gc.collect()
    assert gone() is None


def test_a_damaged_chunk_of_an_earlier_run_is_a_gap() -> None:
    head, chunks = Head("gpumon", "n1"), []
    for k in range(4):
        times = array("q", range(T0 + k * WINDOW_MS + 1000, T0 + (k + 1) * WINDOW_MS + 1, 1000))
        chunks.append(seal(times, array("d", [float(k)]) * len(times)))
    chunks[1] = replace(chunks[1], values=chunks[1].values[:-1] + b"?")
    chunks[2] = replace(chunks[2], end_ms=chunks[2].end_ms + 1)
    head.restore(head.identify(make_labels("util")), chunks, [], [])
    assert sorted(set(values_of(head))) == [0.0, 3.0]
    chunks[3].check()
    with pytest.raises(ChunkError):
        replace(chunks[3], times=b"").check()


@pytest.mark.parametrize(
    ("times", "kept"),
    [
        ([11, 12, 13], [11, 12, 13]),
        ([9, 10, 11, 12], [11, 12]),
        ([11, 13, 12, 13, 14], [11, 13, 14]),
        ([11, 11], [11]),
        ([], []),
    ],
)
def test_of_what_is_restored_only_what_is_newer_than_the_newest_is_taken(times: list[int], kept: list[int]) -> None:
    head = Head("gpumon", "n:9519")
    labels = head.identify(make_labels("util"))
    head.restore(labels, [seal(array("q", [5, 10]), array("d", [0.5, 1.0]))], times, [at / 10 for at in times])
    (series,) = head.all_series()
    found, values = series.window(0, 100)
    assert list(found) == [5, 10, *kept]
    assert list(values) == [0.5, 1.0, *(at / 10 for at in kept)]


def test_rules_that_come_later_get_the_past_that_they_need() -> None:
    long, short = Head("gpumon", "n", retention_ms=10 * 3_600_000), Head("gpumon", "n")
    kept = shape("0", "1")
    for minute in range(300):
        for head in (long, short):
            head.ingest("s", Scrape(60_000 * minute, kept, [float(minute)] * 2))
    needs = [((Matcher("gpu", "=", "1"),), 3 * 3_600_000), ((Matcher("gpu", "=", "1"),), 2 * 3_600_000)]
    short.keep(needs)
    found = stretches(long, needs, 300 * 60_000)
    assert reach_back(short, found) == 1
    assert reach_back(short, found) == 0, "once"
    assert values_of(short, gpu="1") == [float(minute) for minute in range(121, 300)]
    assert len(values_of(short, gpu="0")) < 70
    short.ingest("s", Scrape(60_000 * 301, kept, [301.0] * 2))
    assert values_of(short, gpu="1")[-2:] == [299.0, 301.0]


def test_a_series_has_the_pairs_of_its_source_and_no_copies_of_them() -> None:
    original = make_labels("up", gpu="0", server="a")
    labels = Head("job", "here").identify(original)
    assert labels == make_labels("up", gpu="0", server="a", job="job", instance="here")
    assert all(any(pair is one for one in labels) for pair in original)
