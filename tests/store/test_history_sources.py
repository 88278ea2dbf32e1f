"""History of a series that several write: what came in is all there, and only a clock that goes back voids anything."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import struct
from array import array
from bisect import bisect_right
from contextlib import closing
from pathlib import Path

import pytest

import monitor.store.history as history_module
import monitor.store.history_inbox as history_inbox
from monitor.samples import STALE, Labels, Scrape, Shape, make_labels
from monitor.store.chunk import seal
from monitor.store.head import Head
from monitor.store.history import History
from monitor.store.history_file import File
from monitor.store.history_journal import pack_singles
from monitor.store.history_rows import Pieces, read_journal, window_of
from monitor.store.history_schema import LIVE
from monitor.store.history_union import union
from tests.store.histories import HOUR, MINUTE, SECOND, T0, Remembering, Told, bits, kept, live, running

Samples = list[tuple[int, float]]
M = make_labels("m")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "history.sqlite"


class Node:
    """A head that two sources with a common series feed, a second and 15 seconds apart, and a rule that records under
    the same name."""

    def __init__(self) -> None:
        self.head = Head("job", "node:1")
        self.labels: Labels = self.head.identify(M)
        self.often = Shape([M, make_labels("x")], {})
        self.rarely = Shape([M, make_labels("y")], {})
        self.put: Samples = []

    def feed(self, history: History, first_ms: int, seconds: int, every: int) -> None:
        """So many seconds of it, with a commit each ``every`` seconds."""
        self.head.journal = history
        for i in range(seconds):
            at_ms, value = first_ms + i * SECOND, float(len(self.put))
            self.head.ingest("often", Scrape(at_ms, self.often, [value, value]))
            self.put.append((at_ms, value))
            if i % 15 == 7:
                self.head.ingest("rarely", Scrape(at_ms + 300, self.rarely, [value + 0.5, 0.0]))
                self.put.append((at_ms + 300, value + 0.5))
            if i % 15 == 11:
                self.head.append(self.labels, at_ms + 700, -value)
                self.put.append((at_ms + 700, -value))
            if i % every == every - 1:
                assert history.flush()

    def memory(self, start_ms: int, end_ms: int) -> Samples:
        """What the head has."""
        (series,) = [one for one in self.head.all_series() if one.labels == self.labels]
        return list(zip(*series.window(start_ms, end_ms), strict=True))


@pytest.mark.parametrize(("minutes", "every"), [(2, 1), (2, 5), (7, 5), (12, 4), (70, 30)])
def test_two_sources_and_a_rule_write_the_same_series(path: Path, minutes: int, every: int) -> None:
    node = Node()
    with running(path) as history:
        for part in range(2):
            node.feed(history, T0 + part * minutes * 30 * SECOND, minutes * 30, every)
            assert history.flush()
            assert kept(history)[node.labels] == node.put  # while it runs
    now_ms = node.put[-1][0] + 20 * SECOND
    for _ in range(3):
        again = Node()
        again.put = node.put

        def give(history: History, node: Node = again, now_ms: int = now_ms) -> None:
            history.restore(node.head, now_ms, node.head.kept_ms)

        with running(path, before=give) as history:
            since_ms = now_ms - HOUR
            assert again.memory(since_ms, now_ms) == [one for one in again.put if one[0] > since_ms]
            assert kept(history)[node.labels] == again.put
            assert history.status.note == ""
            again.feed(history, now_ms, 40, every)
            assert history.flush()
            assert kept(history)[node.labels] == again.put
        node, now_ms = again, again.put[-1][0] + 20 * SECOND


def after(old: Samples, new: Samples) -> Samples:
    """What is to be read where ``new`` was written after the clock went back: of each five minutes, what is before the
    first of the new samples, or after the last."""
    spans: dict[int, tuple[int, int]] = {}
    for at_ms, _ in new:
        first_ms, _ = spans.get(window_of(at_ms), (at_ms, 0))
        spans[window_of(at_ms)] = (first_ms, at_ms)
    stay = []
    for at_ms, value in old:
        first_ms, last_ms = spans.get(window_of(at_ms), (at_ms + 1, at_ms))
        if not first_ms <= at_ms <= last_ms:
            stay.append((at_ms, value))
    return sorted(stay + new)


@pytest.mark.parametrize("every", [5, 60, 10_000])
def test_a_clock_that_goes_back_voids_what_was_written_before(path: Path, every: int) -> None:
    node = Node()
    back_ms = T0 + 400 * SECOND + 77
    with running(path) as history:
        node.feed(history, T0 + SECOND, 1500, every)
        old, node.put = node.put, []
        node.feed(history, back_ms, 60, every)
        assert history.flush()
        assert node.head.rewinds == 1
        expected = after(old, node.put)
        assert expected != sorted(old + node.put)
        assert kept(history)[node.labels] == expected
        node.feed(history, back_ms + 60 * SECOND, 500, every)
        assert history.flush()
        assert kept(history)[node.labels] == after(old, node.put)
    with running(path) as history:
        assert history.flush()
        assert kept(history)[node.labels] == after(old, node.put)
        node.feed(history, T0 + HOUR, 20 * 60, every)  # the hour is merged
        assert history.flush()
        assert {block.end_ms - block.start_ms for block in live(history)} >= {HOUR}
        assert kept(history)[node.labels] == after(old, node.put)
        assert len(rewinds(path)) == 1
        node.feed(history, T0 + 3 * HOUR, 20, every)
        assert history.flush()
        assert rewinds(path) == []  # the five minutes that were merged are gone, and with them all that it parts
        assert kept(history)[node.labels] == after(old, node.put)


def rewinds(path: Path) -> list[int]:
    with closing(sqlite3.connect(path)) as connection:
        row = connection.execute("SELECT value FROM notes WHERE key = 'rewinds'").fetchone()
    return [int(one) for one in row[0].split()] if row else []


def test_a_start_with_the_clock_behind_voids_what_was_written_before(path: Path) -> None:
    node = Node()
    with running(path) as history:
        node.feed(history, T0, 5400, 120)
    now_ms = node.put[-1][0] - HOUR + 123
    expected = node.put
    for behind in (0, 0, 20 * SECOND):
        now_ms -= behind
        again = Node()

        def give(history: History, head: Head = again.head, now_ms: int = now_ms) -> None:
            history.restore(head, now_ms, head.kept_ms)

        with running(path, before=give) as history:
            assert again.memory(now_ms - HOUR, now_ms) == [one for one in expected if one[0] <= now_ms]
            again.feed(history, now_ms, 60, 5)
            assert history.flush()
            expected = after(expected, again.put)
            assert kept(history)[node.labels] == expected
        assert kept(history)[node.labels] == expected
        now_ms = again.put[-1][0] + SECOND


def test_a_file_that_opens_only_later_is_seen_to_be_ahead(path: Path) -> None:
    one = Told("a")
    with running(path) as history:
        for i in range(20):
            history.scrape([one], T0 + 100 * SECOND + i * SECOND, [1.0])
        assert history.flush()
        now_ms = T0 + 110 * SECOND + 500
        with running(path, before=lambda h: h.restore(Remembering(), now_ms, lambda labels: HOUR)) as second:
            assert "another process" in second.status.problem
            asyncio.run(history.close())
            for i in range(2, 5):
                second.scrape([one], now_ms + i * SECOND, [2.0])
            assert second.flush()
            times = [at_ms for at_ms, _ in kept(second)[one.labels]]
            assert [at_ms - T0 for at_ms in times if now_ms < at_ms <= now_ms + 5 * SECOND] == [
                *(111_000, 112_000),
                *(112_500, 113_500, 114_500),
                115_000,
            ]


def test_a_window_that_is_not_over_is_not_taken_for_the_future(path: Path) -> None:
    one = Told("a")
    for run in range(3):
        now_ms = T0 + (run + 1) * 10 * SECOND
        with running(path, before=lambda h, now=now_ms: h.restore(Remembering(), now, lambda labels: HOUR)) as history:  # type: ignore[misc]
            assert history.status.note == ""
            history.scrape([one], now_ms, [1.0])
            assert history.flush()  # chunks are made of what an earlier run has left
    assert rewinds(path) == []


def test_a_broken_file_leaves_word_of_its_rewinds(path: Path) -> None:
    node = Node()
    with running(path) as history:
        node.feed(history, T0, 700, 60)
        old, node.put = node.put, []
        node.feed(history, T0 + 100 * SECOND + 77, 100, 5)
    assert rewinds(path)
    with path.open("r+b") as file:
        file.write(random.Random(1).randbytes(100))
    with running(path) as history:
        assert "was broken" in history.status.note
        assert history.flush()
        assert rewinds(path)
        assert kept(history)[node.labels] == after(old, node.put)


def test_rewinds_go_with_what_they_part(path: Path) -> None:
    one = Told("a")
    with running(path, retention_ms=2 * HOUR) as history:
        for hour in range(3):
            for back in range(5):
                for i in range(10):
                    history.scrape([one], T0 + hour * HOUR - back * 10 * SECOND + i * SECOND, [float(back)])
                history.rewound(T0 + hour * HOUR - (back + 1) * 10 * SECOND)
                history.rewound(T0 + hour * HOUR - (back + 1) * 10 * SECOND)
            assert history.flush()
        assert 5 <= len(rewinds(path)) <= 15
        for hour in range(3, 9):
            history.scrape([one], T0 + hour * HOUR, [1.0])
            assert history.flush()
        assert rewinds(path) == []


def test_a_rewind_outlives_what_is_given_up(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history_inbox, "MOST_OWED_BYTES", 40_000)
    chance = random.Random(3)
    series = [Told("a", n=str(n)) for n in range(20)]

    def fail() -> None:
        raise OSError(5, "Input/output error")

    with running(path) as history:
        history.scrape(series, T0 + 7, [0.0] * 20)
        history.scrape(series, T0 + 298_007, [1.0] * 20)
        assert history.flush()
        works = history._writer._opened
        monkeypatch.setattr(history._writer, "_opened", fail)
        for i in range(300):
            history.scrape(series, T0 + i * SECOND, [chance.random() for _ in series])
        assert history.flush()
        history.rewound(T0)
        assert history.flush()
        for i in range(300):
            history.scrape(series, T0 + i * SECOND + 500, [chance.random() for _ in series])
            if i % 10 == 0:
                assert history.flush()
        assert history.status.lost_samples >= 300 * 20
        assert "Input/output error" in history.status.problem
        monkeypatch.setattr(history._writer, "_opened", works)
        assert history.flush()
        assert history.status.ok
        found = kept(history)[series[0].labels]
        assert [at_ms for at_ms, _ in found if at_ms % SECOND == 7] == [T0 + 7]
        assert found[-1][0] == T0 + 299_500


def test_a_damaged_word_of_rewinds_is_none(path: Path) -> None:
    one = Told("a")
    with running(path) as history:
        history.scrape([one], T0, [1.0])
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("INSERT INTO notes VALUES ('rewinds', 'x -5 é')")
        connection.commit()
    with running(path) as history:
        history.scrape([one], T0 + 1, [2.0])
        history.rewound(T0)
        assert history.flush()
        assert kept(history)[one.labels] == [(T0, 1.0), (T0 + 1, 2.0)]


def test_union_against_each_sample_by_itself() -> None:
    chance = random.Random(7)
    for _ in range(400):
        pieces: Pieces = []
        back = sorted(chance.sample(range(12), chance.choice((0, 0, 1, 2))))
        for number in range(chance.randrange(9)):
            first = chance.randrange(0, 4 * MINUTE * 2)
            some = sorted(chance.sample(range(first, first + 6 * MINUTE), chance.randrange(12)))
            pieces.append((number, (array("q", some), array("d", [chance.random() for _ in some]))))
        expected: dict[int, float] = {}
        for epoch in range(3):
            mine = [samples for number, samples in pieces if bisect_right(back, number) == epoch and samples[0]]
            spans = [(times[0], times[-1]) for times, _ in mine]
            ends, starts = [last for _, last in spans], [first for first, _ in spans]
            # Pieces of the same five minutes void what is between them, too.
            spans += [(b, c) for b in ends for c in starts if b < c and window_of(b) == window_of(c)]
            expected = {t: v for t, v in expected.items() if not any(a <= t <= b for a, b in spans)}
            for times, values in mine:
                expected.update(zip(times, values, strict=True))
        found = union(pieces, back)
        assert list(zip(*found, strict=True)) == sorted(expected.items())


def test_chunks_of_one_window_that_overlap_are_merged_bit_for_bit(path: Path) -> None:
    """A chunk that comes late, and one of the same time."""
    one = Told("a")
    odd = struct.unpack("<d", struct.pack("<Q", 0x7FF8_0000_DEAD_BEEF))[0]
    expected = bits([(T0 + 10, STALE), (T0 + 20, odd), (T0 + 30, -0.0), (T0 + 40, 4.0)])
    with running(path) as history:
        history.sealed(one, seal(array("q", [T0 + 10, T0 + 30]), array("d", [STALE, 0.0])))
        history.sealed(one, seal(array("q", [T0 + 20, T0 + 30, T0 + 40]), array("d", [odd, -0.0, 4.0])))
        assert history.flush()
        assert bits(kept(history)[one.labels]) == expected
    head = Remembering()
    with running(path, before=lambda h: h.restore(head, T0 + MINUTE, lambda labels: HOUR)) as history:
        assert bits(head.samples(one.labels)) == expected
        history.scrape([one], T0 + 2 * HOUR, [9.0])
        assert history.flush()  # merged
        assert bits(kept(history)[one.labels]) == [*expected, *bits([(T0 + 2 * HOUR, 9.0)])]


def test_what_is_between_two_chunks_that_are_newer_is_void_in_memory_too(path: Path) -> None:
    one = Told("a")
    expected = [(T0 + 100, 1.0), (T0 + 120, 2.0), (T0 + 200, 3.0)]
    with running(path) as history:
        history.sealed(one, seal(array("q", [T0 + 150]), array("d", [0.0])))
        history.rewound(T0 + 90)
        history.sealed(one, seal(array("q", [T0 + 100, T0 + 120]), array("d", [1.0, 2.0])))
        history.sealed(one, seal(array("q", [T0 + 200]), array("d", [3.0])))
        assert history.flush()
        assert kept(history)[one.labels] == expected
    head = Remembering()
    with running(path, before=lambda h: h.restore(head, T0 + MINUTE, lambda labels: HOUR)):
        assert head.samples(one.labels) == expected


def test_rows_of_the_journal_are_joined_but_not_over_a_rewind() -> None:
    rows = [(1, None, 1, pack_singles([7], [T0 + 10], [1.0])), (5, None, 1, pack_singles([7], [T0 + 20], [2.0]))]
    with closing(sqlite3.connect(":memory:")) as connection:
        for back, expected in (([], [1]), ([3], [1, 5]), ([1], [1]), ([6], [1])):
            pieces, damaged = read_journal(connection, rows, back)
            assert ([number for number, _ in pieces[7]], damaged) == (expected, 0)


def test_numbers_go_on_after_a_rewind_though_what_was_numbered_is_gone(path: Path) -> None:
    with closing(File.open(path)) as file, file.transaction():
        file.new_block(T0, T0 + 5 * MINUTE, LIVE)
        for _ in range(10):
            file.number()
        file.rewind()
    with closing(File.open(path)) as file:
        assert list(file.rewinds) == [12]
        assert file.number() == 12


def test_a_queue_that_is_cut_short_keeps_word_of_the_clock(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history_module, "MOST_WAITING", 1_000)
    history = History(path)  # the thread is never started: it takes nothing
    series = [Told("a", n=str(n)) for n in range(100)]
    for i in range(50):
        if i == 3:
            history.rewound(T0)
        history.scrape(series, T0 + i, [0.0] * 100)
    queue = history._writer.inbox.queue
    assert len(queue) <= 11
    assert isinstance(queue[0], history_inbox.Rewound)
