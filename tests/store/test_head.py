"""The store: identity, selection, ends of series, the hour."""

from monitor.samples import STALE, Family, Scrape, Shape, is_stale, label, make_labels
from monitor.selector import Matcher
from monitor.store.head import HOUR_MS, Head

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
    assert len(values_of(head, gpu="0")) == 61
    assert head.oldest_ms == 120 * 60_000 - HOUR_MS
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
