"""What the outbox keeps, and what it does when the disk does not play along."""

from __future__ import annotations

import asyncio
import math
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from monitor.notify.database import Database, Record
from monitor.notify.outbox import Outbox, OutboxError, OutboxRefused
from monitor.notify.records import Delivery, alert_from_json, alert_to_json, event_id
from monitor.notify.writer import Writer
from monitor.records import replace
from monitor.rules.transition import Transition
from tests.notify.parts import T0, alert, firing, resolved, wait_for


def clock() -> int:
    return T0


def to(receiver: str, change: Transition) -> Delivery:
    return Delivery(event_id(change), receiver, "firing" if change.after == "firing" else "resolved", change)


def run(path: Path, body: Callable[[Outbox], Coroutine[Any, Any, None]], **options: Any) -> None:
    """Run ``body`` with an outbox that is open."""

    async def main() -> None:
        outbox = Outbox(path, clock, **options)
        await outbox.open()
        try:
            await body(outbox)
        finally:
            await outbox.close()

    asyncio.run(main())


def rows(path: Path, query: str) -> list[Any]:
    connection = sqlite3.connect(path)
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


def test_alerts_past_and_deliveries_come_back(tmp_path: Path) -> None:
    path = tmp_path / "state" / "outbox.db"
    change = firing()
    odd = replace(alert("Odd", "pending"), value=math.inf, annotations={"summary": "Ü\n\ud800"})

    async def write(outbox: Outbox) -> None:
        await outbox.record([change], [change.alert, odd], [to("ops", change), to("page", change)], T0)
        await outbox.mark(to("page", change), "sent", T0)

    async def read(outbox: Outbox) -> None:
        assert await outbox.load_alerts() == [change.alert, odd]
        assert await outbox.load_pending() == [to("ops", change)]
        assert await outbox.load_transitions() == [change]
        assert await outbox.load_transitions(T0 + 1) == []
        assert sorted(await outbox.load_told()) == [("ops", change.alert.key), ("page", change.alert.key)]
        assert outbox.status().recording_ok

    run(path, write)
    run(path, read)
    assert path.stat().st_mode & 0o777 == 0o600


def test_nan_survives() -> None:
    assert math.isnan(alert_from_json(alert_to_json(replace(alert(), value=math.nan))).value)


@pytest.mark.parametrize("text", ["{}", "[]", "null", '{"key": "x"}', "nonsense"])
def test_a_text_that_is_no_alert_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        alert_from_json(text)


def test_a_newer_event_supersedes_what_was_not_sent(tmp_path: Path) -> None:
    async def body(outbox: Outbox) -> None:
        await outbox.record([firing()], [alert()], [to("ops", firing())], T0)
        await outbox.record([resolved()], [], [to("ops", resolved())], T0 + 1)
        assert await outbox.load_pending() == [to("ops", resolved())]
        assert await outbox.load_alerts() == []
        assert await outbox.load_told() == []
        # It was under way, and arrived after all: that is the truth.
        await outbox.mark(to("ops", firing()), "sent", T0 + 2)

    run(tmp_path / "o.db", body)
    assert rows(tmp_path / "o.db", "SELECT kind, state FROM deliveries ORDER BY kind") == [
        ("firing", "sent"),
        ("resolved", "queued"),
    ]


def test_a_failed_attempt_does_not_bring_back_what_was_superseded(tmp_path: Path) -> None:
    async def body(outbox: Outbox) -> None:
        await outbox.record([firing()], [alert()], [to("ops", firing())], T0)
        await outbox.record([resolved()], [], [to("ops", resolved())], T0 + 1)
        await outbox.mark(to("ops", firing()).failed("no", T0 + 9, T0 + 2), "queued", T0 + 2)
        assert [delivery.kind for delivery in await outbox.load_pending()] == ["resolved"]

    run(tmp_path / "o.db", body)


CHILD = """
import asyncio, os, sys
from pathlib import Path
from monitor.notify.outbox import Outbox
from tests.notify.parts import T0, firing
from tests.notify.test_outbox import to

async def main():
    outbox = Outbox(Path(sys.argv[1]), lambda: T0)
    await outbox.open()
    for number in range(1_000_000):
        change = firing(f"A{number % 50}", T0 + number)
        await outbox.record([change], [change.alert], [to("ops", change), to("page", change)], T0 + number)
        os.write(1, b"%d\\n" % number)
asyncio.run(main())
"""


@pytest.mark.parametrize("acknowledged", [1, 40, 90])
def test_kill_9_loses_nothing_that_was_acknowledged_and_halves_nothing(tmp_path: Path, acknowledged: int) -> None:
    path = tmp_path / "o.db"
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(path)], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
    )
    assert process.stdout is not None
    with process, process.stdout:
        last = -1
        for line in process.stdout:
            last = int(line)
            if last >= acknowledged:
                os.kill(process.pid, signal.SIGKILL)
                break
        last = max([last, *(int(line) for line in process.stdout if line.endswith(b"\n"))])
    assert process.returncode == -signal.SIGKILL

    async def body(outbox: Outbox) -> None:
        past = await outbox.load_transitions(limit=1_000_000)
        assert len(past) >= last + 1
        assert await outbox.load_alerts() == [past[-1].alert]

    run(path, body)
    assert not list(tmp_path.glob("*corrupt*"))
    # Each event has both its deliveries, or neither it nor they are there.
    halves = (
        "SELECT t.id FROM transitions t LEFT JOIN deliveries d ON d.event_id = t.id GROUP BY t.id HAVING count(*) != 2"
    )
    assert rows(path, halves) == []


def test_a_broken_file_is_moved_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "o.db"
    path.write_bytes(b"this is no database" * 1000)

    async def body(outbox: Outbox) -> None:
        assert await outbox.load_alerts() == []
        await outbox.record([firing()], [alert()], [], T0)
        assert outbox.status().recording_ok
        assert outbox.status().corrupt_files == 1

    run(path, body)
    assert [p.name for p in tmp_path.glob("*.corrupt-*")] == ["o.db.corrupt-20231114T221320Z"]
    assert "moved to" in caplog.text
    assert rows(path, "SELECT count(*) FROM transitions") == [(1,)]


def test_a_page_that_breaks_is_found_at_the_start(tmp_path: Path) -> None:
    path = tmp_path / "o.db"

    async def fill(outbox: Outbox) -> None:
        changes = [firing(f"A{n}") for n in range(100)]
        await outbox.record(changes, [change.alert for change in changes], [], T0)

    async def read(outbox: Outbox) -> None:
        assert outbox.status().corrupt_files == 1

    run(path, fill)
    with path.open("r+b") as file:
        file.seek(4096 * 2)
        file.write(b"\xff" * 4096 * 3)
    run(path, read)


def test_what_can_be_read_of_a_broken_file_is_taken_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "o.db"
    changes = [firing(f"A{n:03}", T0 + n, text="x" * 500) for n in range(300)]

    async def fill(outbox: Outbox) -> None:
        await outbox.keep_silence("s1", "a silence")
        await outbox.record(changes, [changes[0].alert], [to("ops", change) for change in changes], T0)

    run(path, fill)
    whole = rows(path, "SELECT id FROM transitions ORDER BY rowid")
    with path.open("r+b") as file:  # a page in the middle of the transitions: its rows alone are lost
        file.seek(file.read().index(b'"rule":"A150"') // 4096 * 4096)
        file.write(b"\xff" * 4096)

    async def read(outbox: Outbox) -> None:
        assert outbox.status().corrupt_files == 1
        assert await outbox.load_silences() == [("s1", "a silence")]
        assert await outbox.load_alerts() == [changes[0].alert]
        pending, told = await outbox.load_pending(), await outbox.load_told()
        assert 290 <= len(pending) < 300
        assert {(one.receiver, one.key) for one in pending} == set(told), "what cannot be told does not count as told"

    run(path, read)
    assert re.search(r"the broken file: 1 silences, 1 alerts, 29\d deliveries, 29\d transitions", caplog.text)
    kept = rows(path, "SELECT id FROM transitions ORDER BY rowid")
    assert 290 <= len(kept) < 300
    assert kept == [row for row in whole if row in set(kept)]


def test_an_empty_file_is_no_new_one(tmp_path: Path) -> None:
    path = tmp_path / "o.db"

    async def fill(outbox: Outbox) -> None:
        await outbox.record([firing()], [alert()], [], T0)

    async def read(outbox: Outbox) -> None:
        assert outbox.status().corrupt_files == 1
        assert await outbox.load_alerts() == []

    run(path, fill)
    os.truncate(path, 0)
    run(path, read)


def test_a_first_start_that_fails_leaves_no_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "o.db"

    class Full(sqlite3.Connection):
        def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
            if "journal_mode" in sql:
                raise sqlite3.OperationalError("database or disk is full")
            return super().execute(sql, parameters)

    async def fill(outbox: Outbox) -> None:
        assert not outbox.status().recording_ok

    run(path, fill, connector=connector(Full))
    assert os.listdir(tmp_path) == []


class Breaking(sqlite3.Connection):
    """SQLite that finds its file broken when told to, so many times."""

    broken = 0
    check = ""

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        if Breaking.broken and sql.startswith("BEGIN"):
            Breaking.broken -= 1
            raise sqlite3.DatabaseError("database disk image is malformed")
        if Breaking.check and "quick_check" in sql:
            sql, Breaking.check = f"SELECT '{Breaking.check}'", ""
        return super().execute(sql, parameters)


def connector(kind: type[sqlite3.Connection]) -> Callable[[str], sqlite3.Connection]:
    return lambda path: sqlite3.connect(path, isolation_level=None, check_same_thread=False, factory=kind)


def test_a_file_that_breaks_while_in_use_is_started_anew_with_what_is_known(tmp_path: Path) -> None:
    async def body(outbox: Outbox) -> None:
        a, b, c = firing("A"), firing("B"), firing("C")
        await outbox.record([a, b], [a.alert, b.alert], [to("ops", a), to("ops", b)], T0)
        await outbox.mark(to("ops", a), "sent", T0)
        Breaking.broken = 2  # also when it is looked at anew
        await outbox.record([c], [a.alert, c.alert], [to("ops", c)], T0 + 1)
        assert outbox.status().corrupt_files == 1
        assert outbox.status().recording_ok
        assert await outbox.load_alerts() == [a.alert, c.alert]
        assert await outbox.load_pending() == [to("ops", b), to("ops", c)]

    run(tmp_path / "o.db", body, connector=connector(Breaking))


def test_a_file_that_looks_broken_once_and_is_not_is_kept(tmp_path: Path) -> None:
    """A disk that fails makes SQLite say so of a sound file."""

    async def body(outbox: Outbox) -> None:
        a, b = firing("A"), firing("B")
        await outbox.record([a], [a.alert], [to("ops", a)], T0)
        await outbox.mark(to("ops", a), "sent", T0)
        Breaking.broken = 1
        await outbox.record([b], [a.alert, b.alert], [], T0 + 1)
        assert outbox.status().corrupt_files == 0
        assert await outbox.load_transitions() == [a, b]

    run(tmp_path / "o.db", body, connector=connector(Breaking))


def test_a_file_whose_pages_cannot_be_read_now_is_kept(tmp_path: Path) -> None:
    async def body(outbox: Outbox) -> None:
        a, b = firing("A"), firing("B")
        await outbox.record([a], [a.alert], [], T0)
        Breaking.broken = 1
        Breaking.check = "Tree 2 page 5: unable to get the page. error code=266"
        with pytest.raises(OutboxError, match=r"disk I/O error: Tree 2 page 5"):
            await outbox.record([b], [a.alert, b.alert], [], T0 + 1)
        assert not outbox.status().recording_ok
        await outbox.flush()
        assert outbox.status().recording_ok
        assert outbox.status().corrupt_files == 0
        assert await outbox.load_transitions() == [a, b]

    run(tmp_path / "o.db", body, connector=connector(Breaking))


def test_a_file_that_is_removed_while_in_use_is_started_anew(tmp_path: Path) -> None:
    path = tmp_path / "o.db"

    async def body(outbox: Outbox) -> None:
        await outbox.record([firing()], [alert()], [to("ops", firing())], T0)
        for name in os.listdir(tmp_path):
            os.unlink(tmp_path / name)
        await outbox.record([firing("B")], None, [], T0 + 1)

    run(path, body)
    assert rows(path, "SELECT key FROM alerts") == [("GpuTemperatureHigh-3",)]
    assert rows(path, "SELECT state FROM deliveries") == [("queued",)]


def test_a_directory_that_cannot_be_written_is_said_and_owed(tmp_path: Path) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("")
    path = blocker / "o.db"

    async def body(outbox: Outbox) -> None:
        assert not outbox.status().recording_ok
        with pytest.raises(OutboxError, match=r"o\.db: Not a directory"):
            await outbox.record([firing()], [alert()], [to("ops", firing())], T0)
        with pytest.raises(OutboxError):
            await outbox.load_alerts()
        blocker.unlink()  # somebody mends it
        await outbox.flush()
        assert outbox.status() == replace(outbox.status(), recording_ok=True, error="", owed=0)
        assert await outbox.load_alerts() == [alert()]
        assert await outbox.load_pending() == [to("ops", firing())]

    run(path, body)


def test_a_full_disk_is_said_and_what_is_owed_is_written_later(tmp_path: Path) -> None:
    opened: list[sqlite3.Connection] = []

    def open_full(path: str) -> sqlite3.Connection:
        opened.append(connector(sqlite3.Connection)(path))
        return opened[-1]

    async def body(outbox: Outbox) -> None:
        await outbox.record([firing()], [alert()], [to("ops", firing())], T0)
        opened[0].execute("PRAGMA max_page_count = 1")  # SQLite takes it as: no more than there are
        big = [firing(f"A{n}", T0 + n, text="x" * 500) for n in range(200)]
        with pytest.raises(OutboxError, match="full"):
            await outbox.record(big, [c.alert for c in big], [to("ops", c) for c in big], T0 + 1)
        await asyncio.gather(outbox.mark(to("ops", firing()), "sent", T0 + 2), return_exceptions=True)
        assert not outbox.status().recording_ok
        assert len(await outbox.load_transitions()) == 1  # all of it or nothing
        opened[0].execute("PRAGMA max_page_count = 1000000")
        await outbox.record([], [c.alert for c in big], [], T0 + 3)
        assert outbox.status().recording_ok
        assert len(await outbox.load_transitions()) == 201
        assert len(await outbox.load_pending()) == 200

    run(tmp_path / "o.db", body, connector=open_full)


def test_a_change_that_can_never_be_written_does_not_stop_the_others(tmp_path: Path) -> None:
    async def body(outbox: Outbox) -> None:
        poison = outbox.record([firing(at_ms=10**30)], None, [], T0)  # no integer of SQLite's
        good = outbox.record([firing("B")], None, [], T0)
        await good
        with pytest.raises(OutboxError):
            await poison
        assert outbox.status().recording_ok
        assert outbox.status().lost == 1
        assert await outbox.load_transitions() == [firing("B")]

    run(tmp_path / "o.db", body)


def test_a_commit_that_hangs_is_said_until_it_ends(tmp_path: Path) -> None:
    gate = threading.Event()
    gate.set()

    class Hanging(sqlite3.Connection):
        def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
            if sql == "COMMIT":
                gate.wait(20)
            return super().execute(sql, parameters)

    async def body(outbox: Outbox) -> None:
        gate.clear()
        future = outbox.record([firing()], [alert()], [], T0)
        await wait_for(lambda: not outbox.status().recording_ok)
        assert "takes over" in outbox.status().error
        with pytest.raises(OutboxError, match="no answer"):
            await outbox.load_alerts()
        gate.set()
        await future
        await wait_for(lambda: outbox.status().recording_ok)

    run(tmp_path / "o.db", body, connector=connector(Hanging), commit_deadline=0.05, read_deadline=0.2)


def test_a_disk_that_hangs_for_long_does_not_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = threading.Event()
    gate.set()

    class Hanging(sqlite3.Connection):
        def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
            if sql == "COMMIT":
                gate.wait(20)
            return super().execute(sql, parameters)

    async def body(outbox: Outbox) -> None:
        monkeypatch.setattr("monitor.notify.outbox.MOST_WAITING", 5)
        gate.clear()
        waiting = [outbox.record([firing(at_ms=T0 + n)], [alert()], [], T0 + n) for n in range(20)]
        refused = [one for one in waiting if one.done()]
        assert len(refused) >= 20 - 2 * 5
        assert "5 changes wait" in str(refused[0].exception())
        assert outbox.status().lost == len(refused)
        gate.set()
        await asyncio.gather(*(one for one in waiting if one not in refused))
        await outbox.record([firing("B")], [alert()], [], T0)
        assert len(await outbox.load_transitions()) == 21 - len(refused)

    run(tmp_path / "o.db", body, connector=connector(Hanging))


def test_a_newer_schema_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "o.db"

    async def nothing(outbox: Outbox) -> None:
        pass

    run(path, nothing)
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(OutboxRefused, match="newer gpumon"):
        run(path, nothing)
    assert rows(path, "PRAGMA user_version") == [(99,)]


def test_another_programs_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "o.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE theirs (x)")
    connection.close()

    async def nothing(outbox: Outbox) -> None:
        pass

    with pytest.raises(OutboxRefused, match="another program"):
        run(path, nothing)
    assert rows(path, "SELECT name FROM sqlite_master") == [("theirs",)]


def test_the_past_is_pruned_but_not_what_is_needed(tmp_path: Path) -> None:
    path = tmp_path / "o.db"
    old, waiting, active, new = firing("Old"), firing("Waiting"), firing("Active"), firing("New", T0 + 1_000)

    async def body(outbox: Outbox) -> None:
        deliveries = [to("ops", old), to("ops", waiting), to("ops", active)]
        await outbox.record([old, waiting, active, new], [active.alert], deliveries, T0)
        await outbox.mark(to("ops", old), "sent", T0)
        await outbox.mark(to("ops", active), "sent", T0)

    run(path, body)
    database = Database.open(path)
    try:
        assert database.prune(T0 + 1_000, keep_ms=500) == 1
        assert [t.alert.rule for t in database.transitions(0, 100)] == ["Waiting", "Active", "New"]
        assert database.told() == [("ops", "Active-3"), ("ops", "Waiting-3")]
        assert database.prune(T0 + 1_000, keep_ms=10**9, keep_rows=0) == 1
    finally:
        database.close()
    assert rows(path, "SELECT count(*) FROM deliveries") == [(2,)]


def test_one_that_flaps_without_firing_does_not_push_what_fired_out_of_the_past(tmp_path: Path) -> None:
    path = tmp_path / "o.db"
    fired = firing("Fired")
    passing = [Transition(alert("Flaps", "pending"), "inactive", "pending", T0 + 1_000 + 2 * n) for n in range(20)] + [
        Transition(alert("Flaps", "pending"), "pending", "inactive", T0 + 1_001 + 2 * n) for n in range(20)
    ]

    async def body(outbox: Outbox) -> None:
        await outbox.record([fired, *passing], [], [], T0)

    run(path, body)
    database = Database.open(path)
    try:
        assert database.prune(T0 + 2_000, keep_rows=30, keep_passing_rows=10) == 31, "the row limit is for all"
        assert database.prune(T0 + 2_000, keep_rows=30, keep_passing_rows=5) == 5
    finally:
        database.close()

    other = tmp_path / "p.db"
    run(other, body)
    database = Database.open(other)
    try:
        assert database.prune(T0 + 2_000, keep_rows=100, keep_passing_rows=10) == 30
        assert database.transitions(0, 100)[0] == fired
    finally:
        database.close()


def test_an_alert_that_cannot_be_read_is_left_out_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "o.db"

    async def write(outbox: Outbox) -> None:
        await outbox.record([], [alert("A"), alert("B")], [], T0)

    async def read(outbox: Outbox) -> None:
        assert await outbox.load_alerts() == [alert("B")]

    run(path, write)
    connection = sqlite3.connect(path)
    connection.execute("UPDATE alerts SET alert = '{}' WHERE key = 'A-3'")
    connection.commit()
    connection.close()
    run(path, read)
    assert "A-3" in caplog.text


def test_a_clock_set_back_does_not_confuse_what_was_told(tmp_path: Path) -> None:
    async def body(outbox: Outbox) -> None:
        end = resolved(at_ms=T0 - 3_600_000)
        for change in (firing(), end):
            await outbox.record([change], [], [to("ops", change)], change.at_ms)
            await outbox.mark(to("ops", change), "sent", change.at_ms)
        assert await outbox.load_told() == []
        assert await outbox.load_heard() == []

    run(tmp_path / "o.db", body)


def test_what_is_owed_holds_one_set_of_alerts(tmp_path: Path) -> None:
    def broken(path: str) -> sqlite3.Connection:
        raise sqlite3.OperationalError("disk I/O error")

    writer = Writer(tmp_path / "o.db", clock, broken)
    for n in range(5):
        writer.write([Record((), {"A": alert(at_ms=T0 + n)}, (), T0 + n)])
    kept = [change.alerts for change in writer.owed if isinstance(change, Record) and change.alerts is not None]
    assert kept == [{"A": alert(at_ms=T0 + 4)}]
    assert len(writer.owed) == 5
