"""History and its faults: a file that is not ours, locked, gone, full or broken; what is said, kept and lost."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import sqlite3
import threading
from array import array
from contextlib import closing
from pathlib import Path

import pytest

import monitor.store.history as history_module
import monitor.store.history_chores as history_chores
import monitor.store.history_inbox as history_inbox
from monitor.samples import Family, Labels
from monitor.store.chunk import seal
from monitor.store.history import History, HistoryError
from monitor.store.history_reader import HistoryReader
from monitor.store.history_schema import connect, open_file
from tests.store.histories import EVERYTHING, HOUR, MINUTE, SECOND, T0, Remembering, Told, kept, running, standing

Samples = list[tuple[int, float]]
PAGE = 4096


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "history.sqlite"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[Labels, Samples]]:
    """A closed file with samples, made once, and what was put in."""
    path = tmp_path_factory.mktemp("original") / "history.sqlite"
    with running(path) as history:
        return path, fill(history)


@pytest.fixture
def put(path: Path, original: tuple[Path, dict[Labels, Samples]]) -> dict[Labels, Samples]:
    """What is in the file at ``path``."""
    path.parent.mkdir()
    shutil.copy(original[0], path)
    return original[1]


def fill(history: History, hours: int = 3, width: int = 40, seconds: int = 100) -> dict[Labels, Samples]:
    """Hours of samples that do not compress, of many series, with what is in no chunk yet: what was put in."""
    chance = random.Random(5)
    series = [Told("filled", n=str(n), more="x" * 40) for n in range(width)]
    put: dict[Labels, Samples] = {one.labels: [] for one in series}
    for window in range(hours * 12):
        rows = [(T0 + window * 5 * MINUTE + (i + 1) * 5 * SECOND, [chance.random() for _ in series]) for i in range(60)]
        for at_ms, values in rows:
            history.scrape(series, at_ms, values)
        for n, one in enumerate(series):
            column = [(at_ms, values[n]) for at_ms, values in rows]
            put[one.labels] += column
            history.sealed(one, seal(array("q", [at for at, _ in column]), array("d", [v for _, v in column])))
        assert history.flush()
    for i in range(seconds):
        at_ms = T0 + hours * HOUR + (i + 1) * SECOND
        values = [chance.random() for _ in series]
        history.scrape(series, at_ms, values)
        for one, value in zip(series, values, strict=True):
            put[one.labels].append((at_ms, value))
    history.families([Family("filled", "gauge", "F.")])
    assert history.flush()
    return put


def share(found: dict[Labels, Samples], put: dict[Labels, Samples]) -> float:
    """How much of what was put in is there. What is there must be what was put in."""
    for labels, samples in found.items():
        assert set(samples) <= set(put[labels])
        assert samples == sorted(samples)
    return sum(map(len, found.values())) / sum(map(len, put.values()))


def readable(path: Path) -> dict[Labels, Samples]:
    """What a reader gives, damaged stretches left out."""
    with closing(HistoryReader(path)) as reader:
        return {s.labels: list(zip(*s.window(*EVERYTHING), strict=True)) for s in reader.select((), *EVERYTHING)}


def pages_of(path: Path, table: str) -> list[int]:
    """Where each page of a table is in the file."""
    with closing(connect(path, read_only=True)) as connection:
        try:
            rows = connection.execute("SELECT pageno FROM dbstat WHERE name = ? ORDER BY pageno", (table,)).fetchall()
        except sqlite3.OperationalError:
            pytest.skip("this SQLite cannot tell its pages")
    return [(row[0] - 1) * PAGE for row in rows]


def overwrite(path: Path, at: int, size: int = PAGE) -> None:
    """Random bytes over a part of the file."""
    with path.open("r+b") as file:
        file.seek(at)
        file.write(random.Random(at).randbytes(size))


def test_another_programs_database_is_not_touched(path: Path) -> None:
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE theirs (x)")
    before = path.read_bytes()
    with running(path) as history:
        history.scrape([Told("a")], T0, [1.0])
        assert history.flush()
        assert not history.status.ok
        assert "another program's database" in history.status.problem
        assert history.status.queued > 0
        with pytest.raises(HistoryError, match="another program's database"):
            history.reader().select((), *EVERYTHING)
        assert path.read_bytes() == before
        path.unlink()  # its owner takes it away: from then on all is well
        assert history.flush()
        assert history.status.ok
        assert len(kept(history)) == 1


def test_a_newer_schema_is_not_touched(path: Path, put: dict[Labels, Samples]) -> None:
    with closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA user_version = 99")
    with running(path) as history:
        assert "written by a newer gpumon (schema 99" in history.status.problem
    with closing(sqlite3.connect(path)) as other:
        assert other.execute("SELECT count(*) FROM series").fetchone()[0] == 40


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    path = tmp_path / "state" / "history.sqlite"
    (tmp_path / "state").write_text("a file where the folder should be")
    one = Told("a")
    with running(path) as history:
        history.scrape([one], T0, [1.0])
        assert history.flush()
        assert not history.status.ok
        assert str(tmp_path / "state") in history.status.problem
        with pytest.raises(HistoryError):
            history.reader().select((), *EVERYTHING)
        (tmp_path / "state").unlink()
        assert history.flush()
        assert history.status.ok
        assert kept(history) == {one.labels: [(T0, 1.0)]}
        assert history.status.lost_samples == 0


def test_a_file_that_is_locked_is_waited_for(path: Path) -> None:
    one = Told("a")
    with running(path) as history:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            history.scrape([one], T0, [1.0])
            assert history.flush()
            assert "locked" in history.status.problem
            other.execute("ROLLBACK")
        history.scrape([one], T0 + 1, [2.0])
        assert history.flush()
        assert history.status.ok
        assert kept(history) == {one.labels: [(T0, 1.0), (T0 + 1, 2.0)]}


def test_a_second_daemon_is_told_so(path: Path) -> None:
    one = Told("a")
    with running(path) as history:
        history.scrape([one], T0, [1.0])
        assert history.flush()
        with running(path) as second:
            second.scrape([one], T0 + 1, [2.0])
            assert second.flush()
            assert f"by another process ({os.getpid()})" in second.status.problem
            assert kept(second) == {one.labels: [(T0, 1.0)]}  # it can read
            asyncio.run(history.close())
            assert second.flush()
            assert second.status.ok
        assert kept(second) == {one.labels: [(T0, 1.0), (T0 + 1, 2.0)]}


def test_a_file_that_is_removed_while_in_use(path: Path) -> None:
    one = Told("a")
    with running(path) as history:
        history.scrape([one], T0, [1.0])
        assert history.flush()
        path.unlink()
        history.scrape([one], T0 + 1, [2.0])
        assert history.flush()
        assert "removed or replaced" in history.status.note
        assert kept(history) == {one.labels: [(T0 + 1, 2.0)]}


def test_a_full_disk_is_waited_for(path: Path) -> None:
    series = [Told("a", n=str(n)) for n in range(100)]
    chance = random.Random(2)
    with running(path) as history:
        with standing(history) as file:
            file.connection.execute("PRAGMA max_page_count = 40")
        put = []
        for i in range(40):
            put.append((T0 + i, [chance.random() for _ in series]))
            history.scrape(series, *put[-1])
            if i % 10 == 9:
                assert history.flush()
        # The writer opens the file again with each attempt, so that it is full only once; but that once it said so.
        assert history.status.ok
        assert history.status.lost_samples == 0
        assert kept(history)[series[7].labels] == [(at_ms, values[7]) for at_ms, values in put]


def test_memory_is_bounded_while_nothing_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history_inbox, "MOST_OWED_BYTES", 200_000)
    (tmp_path / "state").write_text("")
    path = tmp_path / "state" / "history.sqlite"
    chance = random.Random(3)
    series = [Told("a", n=str(n)) for n in range(50)]
    with running(path) as history:
        put = []
        for window in range(8):
            rows = [(T0 + window * 5 * MINUTE + (i + 1) * SECOND, [chance.random() for _ in series]) for i in range(60)]
            put += rows
            for at_ms, values in rows:
                history.scrape(series, at_ms, values)
            for n, one in enumerate(series):
                history.sealed(
                    one, seal(array("q", [at for at, _ in rows]), array("d", [values[n] for _, values in rows]))
                )
            assert history.flush()
            assert history.status.queued < 300_000
        lost = history.status.lost_samples
        assert lost > 0
        (tmp_path / "state").unlink()
        assert history.flush()
        found = kept(history)
        for n, one in enumerate(series):
            samples = found[one.labels]
            assert samples == [(at_ms, values[n]) for at_ms, values in put][-len(samples) :]
        assert len(samples) >= 120


def test_a_disk_that_hangs_does_not_fill_the_memory(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history_module, "MOST_WAITING", 10_000)
    history = History(path)
    history.open()  # the thread is never started: it takes nothing
    series = [Told("a", n=str(n)) for n in range(100)]
    for i in range(500):
        history.scrape(series, T0 + i, [0.0] * 100)
    assert len(history._writer.inbox.queue) <= 101
    assert history.status.lost_samples >= 40_000
    assert "does not answer" in history.status.problem
    history._writer.end()


@pytest.mark.parametrize("size", [16, 100, PAGE])
def test_a_broken_header_costs_nothing(path: Path, put: dict[Labels, Samples], size: int) -> None:
    overwrite(path, 0, size)
    with running(path) as history:
        assert "was broken" in history.status.note
        assert history.flush()
        assert "none could not be read" in history.status.note
        assert history.status.ok
        assert share(kept(history), put) == 1.0
    now_ms = T0 + 3 * HOUR + 100 * SECOND
    overwrite(path, 0, size)
    head = Remembering()
    with running(path, before=lambda h: h.restore(head, now_ms, lambda labels: HOUR)):
        for labels, samples in put.items():  # the last hour is copied first
            expected = [each for each in samples if each[0] > now_ms - HOUR]
            assert head.samples(labels)[-len(expected) :] == expected
    assert len(list(path.parent.glob("history.sqlite.corrupt-*"))) == 1


def test_a_file_that_is_no_database_at_all(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(os.urandom(100_000))
    one = Told("a")
    with running(path) as history:
        assert "was broken" in history.status.note
        history.scrape([one], T0, [1.0])
        assert history.flush()
        assert kept(history) == {one.labels: [(T0, 1.0)]}


@pytest.mark.parametrize("missing", [0, 1])
def test_a_truncated_file(missing: int, path: Path, put: dict[Labels, Samples]) -> None:
    with path.open("r+b") as file:
        file.truncate(os.stat(path).st_size // PAGE // 2 * PAGE - missing)
    head = Remembering()
    with running(path, before=lambda h: h.restore(head, T0 + 4 * HOUR, lambda labels: 2 * HOUR)) as history:
        assert history.flush()
        assert "could not be read" in history.status.note
        assert history.status.ok
        assert 0.25 < share(kept(history), put) < 1.0


@pytest.mark.parametrize("table", ["chunks", "minutes", "times", "series", "blocks", "journal", "layouts"])
def test_a_broken_page_costs_what_is_on_it(path: Path, put: dict[Labels, Samples], table: str) -> None:
    pages = pages_of(path, table)
    overwrite(path, pages[len(pages) // 2])
    now_ms = T0 + 3 * HOUR + 100 * SECOND
    head = Remembering()
    with running(path, before=lambda h: h.restore(head, now_ms, lambda labels: HOUR)) as history:
        again = [Told("filled", n=dict(labels)["n"], more="x" * 40) for labels in put]
        for i in range(20 * 60):  # until the third hour is merged
            values = [float(i)] * len(again)
            history.scrape(again, now_ms + (i + 1) * SECOND, values)
        assert history.flush()
        reader = history.reader()
        found = {}
        for series in reader.select((), *EVERYTHING):
            times, values_ = series.window(*EVERYTHING)
            found[series.labels] = [pair for pair in zip(times, values_, strict=True) if pair[0] <= now_ms]
            newer = [value for at_ms, value in zip(times, values_, strict=True) if at_ms > now_ms]
            assert newer == [float(i) for i in range(20 * 60)]
            assert series.minutes(T0, T0 + 3 * HOUR) is not None
        assert share(found, put) > {"chunks": 0.8, "blocks": 0.9}.get(table, 0.95)
        if share(found, put) < 1:
            assert reader.damage or history.status.note
        assert history.status.ok
        reader.close()


def test_damaged_bytes_are_left_out_and_told(path: Path, put: dict[Labels, Samples]) -> None:
    """Not the pages: the bytes in them. SQLite notices nothing."""
    with closing(sqlite3.connect(path)) as connection:
        for table, column in (("chunks", "data"), ("minutes", "data"), ("journal", "data")):
            rows = connection.execute(f"SELECT id, {column} FROM {table}").fetchall()  # noqa: S608
            for ident, data in rows[:: max(1, len(rows) // 5)]:
                broken = bytearray(data)
                broken[len(broken) // 2] ^= 0x40
                connection.execute(f"UPDATE {table} SET {column} = ? WHERE id = ?", (bytes(broken), ident))  # noqa: S608
        connection.commit()
    with closing(HistoryReader(path)) as reader:
        found = {}
        for series in reader.select((), *EVERYTHING):
            found[series.labels] = list(zip(*series.window(*EVERYTHING), strict=True))
            series.minutes(T0, T0 + 2 * HOUR)
        assert 0.8 < share(found, put) < 1.0
        assert reader.damaged > 3
        assert "damaged" in reader.damage


def test_a_file_that_breaks_while_it_is_written(path: Path) -> None:
    with running(path) as history:
        put = fill(history)
        with standing(history) as file:
            assert file.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall() == [(0, 0, 0)]
            for table in ("series", "blocks", "chunks"):
                overwrite(path, pages_of(path, table)[-1])
            with pytest.raises(HistoryError):
                history.reader().select((), *EVERYTHING)
        one = Told("new")
        history.scrape([one], T0 + 4 * HOUR, [1.0])
        assert history.flush()
        assert "history.sqlite.corrupt-" in history.status.note
        assert history.status.ok
        found = kept(history)
        assert found.pop(one.labels) == [(T0 + 4 * HOUR, 1.0)]
        assert share(found, put) > 0.5
        with closing(HistoryReader(path)) as reader:
            assert reader.families()["filled"].help == "F."


def test_a_salvage_that_was_cut_off_goes_on(path: Path, put: dict[Labels, Samples]) -> None:
    overwrite(path, 0, 100)
    history = History(path, clock=lambda: T0)
    history.open()
    assert history._writer.step()  # one piece of it, and then the daemon is killed
    history._writer.end()
    with running(path) as again:
        assert again.flush()
        assert share(kept(again), put) == 1.0


def test_a_merge_that_was_cut_off_is_done_again(path: Path) -> None:
    one = Told("a")
    with running(path) as history:
        for i in range(3600):
            history.scrape([one], T0 + (i + 1) * SECOND, [float(i)])
        for window in range(12):
            times = array("q", (T0 + (window * 300 + i + 1) * SECOND for i in range(300)))
            history.sealed(one, seal(times, array("d", (float(window * 300 + i) for i in range(300)))))
        assert history.flush()
    history = History(path)
    history.open()
    writer = history._writer
    assert writer.file is not None
    history.scrape([one], T0 + 2 * HOUR, [0.0])
    writer.inbox.collect()
    writer.write()
    while not writer.file.unfinished():
        assert writer.step()
    writer.end()
    with running(path) as again:
        again.scrape([one], T0 + 2 * HOUR + 1, [1.0])
        assert again.flush()
        (samples,) = kept(again).values()
        assert [value for _, value in samples] == [*(float(i) for i in range(3600)), 0.0, 1.0]


def test_what_sqlite_never_takes_is_given_up_alone(path: Path) -> None:
    with running(path) as history:
        history._put(object())  # type: ignore[arg-type]
        history.event(history)  # type: ignore[arg-type]
        one = Told("a")
        history.scrape([one], T0 - 1, [1.0, 2.0])
        history.scrape([one], T0, [1.0])
        assert history.flush()
        assert kept(history) == {one.labels: [(T0, 1.0)]}
        assert history.status.lost_samples == 2


def test_work_that_fails_each_time_keeps_nothing_else_back(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(history_chores, "minutes_of", fails)
    with running(path, retention_ms=4 * HOUR) as history:
        put = fill(history, hours=3, width=2)
        assert history.status.ok
        assert share(kept(history), put) == 1.0
        history.scrape([Told("late")], T0 + 6 * HOUR, [1.0])
        for _ in range(4):  # each attempt gives up another hour
            assert history.flush()
        assert history.status.ok
        for labels, samples in kept(history, "filled").items():  # the oldest is gone: it was its time
            assert samples == [each for each in put[labels] if each[0] > T0 + 2 * HOUR]


def test_closing_waits_for_no_disk_that_hangs(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history_module, "_CLOSE_DEADLINE", 0.05)
    history = History(path, flush_seconds=0.01)
    history.open()
    gone_on = threading.Event()
    monkeypatch.setattr(history._writer, "write", lambda: gone_on.wait(10))
    history.start()
    thread = history._thread
    assert thread is not None
    asyncio.run(history.close())
    assert thread.is_alive()  # it was left behind
    gone_on.set()
    thread.join(10)


def test_asking_how_it_goes_touches_no_disk(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def hangs(*_: object) -> None:
        raise AssertionError("the loop waits for the disk")

    with running(path) as history:
        history.scrape([Told("a")], T0, [1.0])
        assert history.flush()
        size = sum(file.stat().st_size for file in (path, path.with_name(f"{path.name}-wal")))
        with monkeypatch.context() as disk:
            disk.setattr(os, "stat", hangs)
            assert history.status.bytes == size


def test_an_empty_file_is_no_new_one(path: Path) -> None:
    with running(path) as history:
        history.scrape([Told("a")], T0, [1.0])
        assert history.flush()
    os.truncate(path, 0)
    with running(path) as history:
        history.scrape([Told("a")], T0 + 1000, [2.0])
        assert history.flush()
        assert history.status.ok
        assert history.status.corrupt_files == 1
        assert "a broken history was moved to" in history.status.note


def test_of_a_file_that_could_not_be_begun_nothing_is_left(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise sqlite3.OperationalError("unable to open database file")

    with monkeypatch.context() as disk:
        disk.setattr("monitor.store.history_schema.connect", fails)
        with pytest.raises(sqlite3.OperationalError):
            open_file(path)
    open_file(path).close()


def test_a_broken_file_is_not_kept_open(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\xa5" * 65536)
    errors = []
    for read_only in (False, True):
        try:
            connect(path, read_only=read_only).close()
        except sqlite3.DatabaseError as error:
            errors.append(error)  # which keeps what it passed through
    open_ones = [os.path.realpath(f"/proc/self/fd/{file}") for file in os.listdir("/proc/self/fd")]
    assert len(errors) == 2
    assert str(path) not in open_ones
