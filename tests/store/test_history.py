"""History: what goes in comes out bit for bit, over restarts, merging, and a clock that goes back."""

from __future__ import annotations

import random
import struct
import weakref
from array import array
from pathlib import Path

import pytest

from monitor.samples import STALE, Event, Family, Scrape, Shape, label, make_labels
from monitor.selector import Matcher
from monitor.store.chunk import seal
from monitor.store.head import Head
from monitor.store.history import History
from monitor.store.history_inbox import Inbox, TakenSample, TakenScrape
from monitor.store.history_reader import HistoryReader
from monitor.store.minutes import minutes_of
from tests.store.histories import (
    DAY,
    EVERYTHING,
    HOUR,
    MINUTE,
    SECOND,
    T0,
    Remembering,
    Told,
    bits,
    kept,
    live,
    running,
    standing,
)

ODD_NAN = struct.unpack("<d", struct.pack("<Q", 0x7FF8_0000_DEAD_BEEF))[0]
ODD = [0.1, -0.0, float("inf"), float("-inf"), STALE, ODD_NAN, 5e-324, 1e300]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "history.sqlite"


def feed(
    history: History, series: list[Told], first_ms: int, seconds: int, start: int = 0
) -> list[tuple[int, list[float]]]:
    """A scrape each second, each value a different one: what was put in."""
    put = []
    for i in range(seconds):
        at_ms = first_ms + (i + 1) * SECOND
        values = [float(1000 * n + start + i) for n in range(len(series))]
        history.scrape(series, at_ms, values)
        put.append((at_ms, values))
    return put


def column(put: list[tuple[int, list[float]]], n: int) -> list[tuple[int, float]]:
    return [(at_ms, values[n]) for at_ms, values in put]


def seal_all(history: History, series: list[Told], put: list[tuple[int, list[float]]]) -> None:
    """Chunks of five minutes, as the head makes them."""
    windows: dict[int, list[tuple[int, list[float]]]] = {}
    for at_ms, values in put:
        windows.setdefault((at_ms - 1) // (5 * MINUTE), []).append((at_ms, values))
    for some in windows.values():
        for n, one in enumerate(series):
            history.sealed(one, seal(array("q", [at for at, _ in some]), array("d", [v[n] for _, v in some])))


def test_what_goes_in_comes_out_bit_for_bit(path: Path) -> None:
    a, b = Told("a", gpu="0"), Told("b", text='q"\\\né')
    with running(path) as history:
        series = [a, b]
        put = [(T0 + 1 + 997 * i, [ODD[i % 8], ODD[(i * 3) % 8]]) for i in range(900)]  # over several windows
        for at_ms, values in put:
            history.scrape(series, at_ms, values)
        history.sample(a, T0 + 1_000_000, STALE)
        assert history.flush()
        found = kept(history)
        assert bits(found[a.labels]) == bits([*column(put, 0), (T0 + 1_000_000, STALE)])
        assert bits(found[b.labels]) == bits(column(put, 1))
        seal_all(history, series, put)
        assert history.flush()
        assert bits(kept(history)[b.labels]) == bits(column(put, 1))


def test_a_journal_lives_until_all_its_series_have_their_chunk(path: Path) -> None:
    series = [Told("a"), Told("b")]
    with running(path) as history:
        put = feed(history, series, T0, 300)
        assert history.flush()
        history.sealed(series[0], seal(array("q", [t for t, _ in put]), array("d", [v[0] for _, v in put])))
        assert history.flush()
        assert rows(history, "journal") > 0
        history.sealed(series[1], seal(array("q", [t for t, _ in put]), array("d", [v[1] for _, v in put])))
        assert history.flush()
        assert rows(history, "journal") == 0
        assert rows(history, "times") == 1  # shared by both
        assert kept(history) == {one.labels: column(put, n) for n, one in enumerate(series)}


def test_a_window_that_is_sealed_before_its_neighbours_hides_nothing(path: Path) -> None:
    one = Told("a")
    with running(path) as history:
        put = feed(history, [one], T0, 900)
        assert history.flush()
        seal_all(history, [one], put[300:600])
        assert history.flush()
        assert kept(history) == {one.labels: column(put, 0)}
        head = Remembering()
        history.restore(head, put[-1][0], lambda labels: HOUR)
        assert head.samples(one.labels) == column(put, 0)
        assert history.flush()


def rows(history: History, table: str) -> int:
    with standing(history) as file:
        return int(file.connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])  # noqa: S608


def test_a_restart_gives_the_head_its_hour_back(path: Path) -> None:
    series = [Told("a"), Told("b")]
    with running(path) as history:
        put = feed(history, series, T0, 3 * 3600 + 400)
        seal_all(history, series, put[: 3 * 3600])
        assert history.flush(120)
        assert {b.end_ms - b.start_ms for b in live(history)} == {HOUR, 5 * MINUTE}

    now_ms = put[-1][0]
    for _ in range(3):  # restarts that follow each other lose nothing either
        head = Remembering()

        def give(history: History, head: Remembering = head) -> None:
            history.restore(head, now_ms, lambda labels: HOUR if label(labels, "__name__") == "a" else 2 * HOUR)

        with running(path, before=give) as history:
            assert history.flush()
        for n, (one, wanted) in enumerate(zip(series, (HOUR, 2 * HOUR), strict=True)):
            expected = [each for each in column(put, n) if each[0] > now_ms - wanted]
            assert head.samples(one.labels)[-len(expected) :] == expected
            assert head.samples(one.labels)[0][0] > now_ms - wanted - 5 * MINUTE
            assert all(chunk.end_ms - chunk.start_ms < 5 * MINUTE for chunk in head.chunks[one.labels])
        with running(path) as history:
            assert kept(history) == {one.labels: column(put, n) for n, one in enumerate(series)}


def test_a_series_of_which_nothing_is_wanted_is_not_given(path: Path) -> None:
    with running(path) as history:
        feed(history, [Told("a"), Told("b")], T0, 10)
    head = Remembering()
    with running(path, before=lambda h: h.restore(head, T0 + 10 * SECOND, lambda labels: 0)):
        assert head.chunks == {}


def test_hours_are_merged_and_days_rolled_up_and_nothing_changes(path: Path) -> None:
    """Thirty hours with gaps, ends, resets: every window, every last sample, every minute as from the samples."""
    chance = random.Random(4)
    series = [Told("counter"), Told("gauge"), Told("rare")]
    put: dict[str, list[tuple[int, float]]] = {"counter": [], "gauge": [], "rare": []}
    total = 0.0
    with running(path) as history:
        at_ms = T0 + 137
        while at_ms < T0 + 30 * HOUR:
            window = at_ms // (5 * MINUTE)
            stretch: dict[str, list[tuple[int, float]]] = {name: [] for name in put}
            while at_ms // (5 * MINUTE) == window:
                total = 0.0 if chance.random() < 0.001 else total + chance.randrange(5)
                stretch["counter"].append((at_ms, total))
                stretch["gauge"].append((at_ms, STALE if chance.random() < 0.01 else chance.gauss(50, 20)))
                if chance.random() < 0.003:
                    stretch["rare"].append((at_ms, 1.0))
                at_ms += 20_000 if chance.random() < 0.99 else 400_000
            for told in series:
                name = told.labels[0][1]
                some = stretch[name]
                put[name] += some
                for t, v in some:
                    history.sample(told, t, v)
                for part in {(t - 1) // (5 * MINUTE) for t, _ in some}:
                    mine = [each for each in some if (each[0] - 1) // (5 * MINUTE) == part]
                    history.sealed(told, seal(array("q", [t for t, _ in mine]), array("d", [v for _, v in mine])))
            history.scrape([], at_ms, [])
            if chance.random() < 0.1:
                assert history.flush(120)
        assert history.flush(120)
        assert {b.end_ms - b.start_ms for b in live(history)} == {DAY, HOUR, 5 * MINUTE}
        assert rows(history, "minutes") < 3 + 3 * 8  # one for the day, and for each hour since

        reader = history.reader()
        for told in series:
            name = told.labels[0][1]
            (stored,) = reader.select([Matcher("__name__", "=", name)], *EVERYTHING)
            assert bits(list(zip(*stored.window(*EVERYTHING), strict=True))) == bits(put[name])
            for _ in range(60):
                start, end = sorted(chance.randrange(T0 - HOUR, T0 + 31 * HOUR) for _ in range(2))
                expected = [each for each in put[name] if start < each[0] <= end]
                assert bits(list(zip(*stored.window(start, end), strict=True))) == bits(expected)
                newest = stored.last(start, end)
                assert bits([newest] if newest else []) == bits(expected[-1:])
            for _ in range(20):
                start, end = sorted(chance.sample(range(T0 - HOUR, T0 + 31 * HOUR, MINUTE), 2))
                found = stored.minutes(start, end)
                if found is not None:
                    times, values = (
                        array(kind, column) for kind, column in zip("qd", zip(*put[name], strict=True), strict=True)
                    )
                    assert_same(found, minutes_of(times, values, start, end))
            assert stored.minutes(T0, T0 + DAY) is not None
        reader.close()


def assert_same(found, expected) -> None:  # type: ignore[no-untyped-def]
    assert (found.first_ms, found.length) == (expected.first_ms, expected.length)
    assert list(found.count) == list(expected.count)
    assert list(found.ended) == list(expected.ended)
    there = [i for i, count in enumerate(expected.count) if count]
    for name in ("first_at", "last_at", "first", "last", "low", "high"):
        mine, theirs = getattr(found, name), getattr(expected, name)
        assert [mine[i] for i in there] == [theirs[i] for i in there], name
    if found.total is not None and expected.total is not None:
        assert [found.total[i] for i in there] == [expected.total[i] for i in there]
    if found.resets is not None and expected.resets is not None:
        assert list(found.resets) == list(expected.resets)


def test_a_clock_that_goes_back_while_it_runs(path: Path) -> None:
    one = Told("a")
    series = [one]
    with running(path) as history:
        first = feed(history, series, T0, 900)
        seal_all(history, series, first[:300])
        history.rewound(T0 + 200 * SECOND)
        again = feed(history, series, T0 + 200 * SECOND, 60, start=5000)
        assert history.flush()
        # Where the new samples are, they are right; what is after them is kept until there is something newer.
        expected = column(first, 0)[:200] + column(again, 0) + column(first, 0)[260:]
        assert kept(history)[one.labels] == expected
        seal_all(history, series, [*first[:200], *again])
        assert history.flush()
        assert kept(history)[one.labels] == expected
        more = feed(history, series, T0 + 260 * SECOND, 4000, start=6000)
        seal_all(history, series, more)
        history.scrape(series, T0 + 3 * HOUR, [1.0])
        assert history.flush()
        expected = [*column(first, 0)[:200], *column(again, 0), *column(more, 0), (T0 + 3 * HOUR, 1.0)]
        assert kept(history)[one.labels] == expected


def test_a_restart_with_the_clock_an_hour_behind(path: Path) -> None:
    one = Told("a")
    with running(path) as history:
        first = feed(history, [one], T0, 7200)
        seal_all(history, [one], first[:6900])
    head = Remembering()
    now_ms = T0 + HOUR
    with running(path, before=lambda h: h.restore(head, now_ms, lambda labels: HOUR)) as history:
        assert head.samples(one.labels) == column(first, 0)[:3600]
        assert "3600 s ahead" in history.status.note
        assert history.status.ok
        again = Told("a")
        second = feed(history, [again], now_ms, 100, start=90_000)
        assert history.flush()
        assert kept(history)[one.labels] == column(first, 0)[:3600] + column(second, 0) + column(first, 0)[3700:]


def test_the_head_itself_over_a_restart(path: Path) -> None:
    shape = Shape([make_labels("util", gpu=str(n)) for n in range(5)], {"util": Family("util", "gauge", "U.")})
    head = Head("gpumon", "n:1")
    with running(path) as history:
        head.journal = history
        for i in range(1000):
            head.ingest("s", Scrape(T0 + i * SECOND, shape, [float(i + n) for n in range(5)]))
            head.append(make_labels("made", job="r"), T0 + i * SECOND, i / 3)
            if i % 100 == 0:
                assert history.flush()
        head.end("s", T0 + 1000 * SECOND)
    expected = {s.labels: bits(list(zip(*s.window(*EVERYTHING), strict=True))) for s in head.all_series()}
    assert len(expected) == 6

    again = Head("gpumon", "n:1")
    with running(path, before=lambda h: h.restore(again, T0 + 1000 * SECOND, lambda labels: HOUR)) as history:
        assert {s.labels: bits(list(zip(*s.window(*EVERYTHING), strict=True))) for s in again.all_series()} == expected
        assert {labels: bits(some) for labels, some in kept(history).items()} == expected


def test_what_is_too_old_goes(path: Path) -> None:
    one = Told("a")
    with running(path, retention_ms=2 * HOUR) as history:
        for hour in range(5):
            put = feed(history, [one], T0 + hour * HOUR, 3600)
            seal_all(history, [one], put)
            assert history.flush()
        (samples,) = kept(history).values()
        assert T0 + 2 * HOUR < samples[0][0] < T0 + 3 * HOUR + 10 * SECOND
        assert samples[-1][0] == T0 + 5 * HOUR
        assert history.status.oldest_ms == samples[0][0]


def test_the_oldest_is_a_sample_not_the_hour_that_its_block_begins_at(path: Path) -> None:
    one = Told("a")
    with running(path) as history:
        put = feed(history, [one], T0 + 37 * MINUTE, 1200)
        seal_all(history, [one], put)
        assert history.flush()
        (samples,) = kept(history).values()
        assert samples[0][0] % HOUR > 37 * MINUTE
        assert history.status.oldest_ms == samples[0][0]


def test_a_clock_that_leaps_deletes_nothing_at_once(path: Path) -> None:
    one = Told("a")
    with running(path) as history:
        put = feed(history, [one], T0, 600)
        seal_all(history, [one], put)
        assert history.flush()
        history.scrape([one], T0 + 3650 * DAY, [1.0])
        assert history.flush()
        history.rewound(T0 + 600 * SECOND)
        history.scrape([one], T0 + 601 * SECOND, [2.0])
        assert history.flush()
        (samples,) = kept(history).values()
        assert samples == [*column(put, 0), (T0 + 601 * SECOND, 2.0), (T0 + 3650 * DAY, 1.0)]


def test_the_file_keeps_below_its_size(path: Path) -> None:
    chance = random.Random(1)
    series = [Told("a", n=str(n)) for n in range(10)]
    with running(path, max_bytes=2_000_000) as history:
        for window in range(110):
            put = [(T0 + window * 5 * MINUTE + (i + 1) * SECOND, [chance.random() for _ in series]) for i in range(300)]
            for at_ms, values in put:
                history.scrape(series, at_ms, values)
            seal_all(history, series, put)
            assert history.flush()
            assert history.status.bytes <= 2_000_000
        found = kept(history)
        assert len(found) == 10
        for n, one in enumerate(series):
            assert found[one.labels][-300:] == column(put, n)
            assert found[one.labels][0][0] > T0 + HOUR


def test_series_that_nothing_is_left_of_are_forgotten(path: Path) -> None:
    with running(path, retention_ms=2 * HOUR) as history:
        put = feed(history, [Told("gone")], T0, 10)
        assert history.flush()
    with running(path, retention_ms=2 * HOUR) as history:
        stays = Told("stays")
        for hour in range(1, 7):
            put = feed(history, [stays], T0 + hour * HOUR, 10)
            seal_all(history, [stays], put)
            assert history.flush()
        assert rows(history, "series") == 1
        assert rows(history, "layouts") <= 1


def test_families_that_come_and_go_do_not_pile_up(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("monitor.store.history_writer._MOST_FAMILIES", 10)
    with running(path) as history:
        for turn in range(6):
            history.families([Family("stays", "gauge", "S."), *(Family(f"t{turn}_{i}", "gauge", "") for i in range(4))])
            assert history.flush()
        assert rows(history, "families") <= 10
    reader = HistoryReader(path)
    assert {"stays", "t5_0", "t5_1", "t5_2", "t5_3"} <= set(reader.families())
    reader.close()


def test_families_of_earlier_runs_do_not_pile_up(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("monitor.store.history_writer._MOST_FAMILIES", 10)
    for turn in range(6):
        with running(path) as history:
            history.families([Family(f"t{turn}_{i}", "gauge", "") for i in range(4)])
            assert history.flush()
            assert 4 <= rows(history, "families") <= 10


def test_events_and_families(path: Path) -> None:
    event = Event(T0, "xid", "critical", "XID 79 \ud800", {"gpu": "3"}, "Fell off the bus.")
    with running(path) as history:
        history.event(event)
        history.event(Event(T0 + 1, "restart", "info", "again"))
        history.families([Family("util", "gauge", "U."), Family("x", "counter", "X.")])
        history.families([Family("util", "gauge", "Better.")])
        assert history.flush()
    reader = HistoryReader(path)
    first, second = reader.events(T0, T0 + 1, 10)
    assert (first.title, first.labels, first.detail) == ("XID 79 ?", {"gpu": "3"}, "Fell off the bus.")
    assert [each.title for each in reader.events(0, T0 + 5, 1)] == ["again"]
    assert reader.events(T0 + 2, T0 + 5, 10) == []
    assert second.kind == "restart"
    assert reader.families()["util"].help == "Better."
    reader.close()


def test_select(path: Path) -> None:
    series = [Told("util", gpu=str(n)) for n in (0, 1, 10)] + [Told("power", gpu="0")]
    with running(path) as history:
        put = feed(history, series, T0, 600)
        seal_all(history, series[:3], [(at, values[:3]) for at, values in put])
        assert history.flush()
        reader = history.reader()

        def gpus(*matchers: Matcher, start: int = 0, end: int = 1 << 60) -> list[str]:
            return [label(s.labels, "gpu") for s in reader.select(matchers, start, end)]

        name = Matcher("__name__", "=", "util")
        assert gpus(name) == ["0", "1", "10"]
        assert gpus(name, Matcher("gpu", "=~", "1.*")) == ["1", "10"]
        assert gpus(name, Matcher("gpu", "!=", "0"), Matcher("absent", "=", "")) == ["1", "10"]
        assert gpus(Matcher("gpu", "=", "0")) == ["0", "0"]
        assert gpus(Matcher("__name__", "=~", "p.*r")) == ["0"]  # it is in the journal alone
        assert gpus(name, end=T0) == []
        assert gpus(name, start=T0 + 600 * SECOND) == []
        assert gpus(Matcher("__name__", "=", "nothing")) == []
        assert reader.labels(T0, T0 + MINUTE, [name]) == [one.labels for one in series[:3]]
        late = Told("util", gpu="2")
        history.scrape([late], T0 + 601 * SECOND, [1.0])
        assert history.flush()
        assert gpus(name) == ["0", "1", "10", "2"]
        reader.close()


def test_a_snapshot_does_not_change(path: Path) -> None:
    series = [Told("a")]
    with running(path) as history:
        put = feed(history, series, T0, 300)
        assert history.flush()
        reader = history.reader()
        with reader.snapshot():
            (stored,) = reader.select((), *EVERYTHING)
            before = stored.window(*EVERYTHING)
            put += feed(history, series, T0 + 300 * SECOND, 3600)
            seal_all(history, series, put)
            history.scrape(series, T0 + 2 * HOUR, [0.0])
            assert history.flush()  # the hour is merged, its journal is gone
            assert stored.window(*EVERYTHING) == before
            assert len(before[0]) == 300
        assert len(stored.window(*EVERYTHING)[0]) == 3901
        reader.close()


def test_what_nobody_tells_of_any_more_is_forgotten() -> None:
    inbox = Inbox()
    stays, alone = [Told("stays", n=str(number)) for number in range(10)], Told("alone")
    told = weakref.WeakSet[Told]()
    for minute in range(10 * 60):
        now_ms = T0 + minute * MINUTE
        comes_and_goes = [Told("goes", minute=str(minute))] * 10
        told.add(comes_and_goes[0])
        for series in (stays, comes_and_goes):
            inbox.queue.append(TakenScrape(series, now_ms, array("d", [1.0] * 10)))
        inbox.queue.append(TakenSample(alone, now_ms, 1.0))
        inbox.collect()
        inbox.written()
        if minute == 0:
            first = {id(one) for one in inbox.known() if one.labels[0] != ("__name__", "goes")}
    assert first <= {id(one) for one in inbox.known()}  # what is told of is known all the time
    assert len({id(one) for one in inbox.known()}) <= 11 + 30
    assert len(told) <= 30


def test_long_labels_that_come_and_go_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("monitor.store.history_inbox._MOST_KNOWN_BYTES", 100_000)
    inbox = Inbox()
    for _ in range(10):
        inbox.queue.extend(TakenSample(Told("x", long="v" * 4000), T0, 1.0) for _ in range(20))
        inbox.collect()
        inbox.written()
    assert 1 < len({id(one) for one in inbox.known()}) < 30
