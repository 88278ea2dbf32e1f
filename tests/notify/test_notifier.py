"""From transitions to messages that arrived, with time in the tests' hands."""

from __future__ import annotations

import asyncio
import itertools
import logging
import sqlite3
import threading
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from monitor.notify.database import Connect, connect
from monitor.notify.message import Message
from monitor.notify.notifier import Notifier
from monitor.notify.outbox import Outbox
from monitor.notify.policy import Policy
from monitor.notify.route import Route
from monitor.notify.sender import AppriseSender, Sender, SendFailed
from monitor.notify.targets import Targets
from monitor.records import replace
from monitor.rules.transition import Alert, Transition
from monitor.samples import STALE, ScrapeBuilder, format_labels
from tests.notify.parts import T0, FakeSender, Time, To, Url, alert, firing, http_receiver, resolved, wait_for

OPS = To("ops", (Url("json://ops"),))
PAGE = To("page", (Url("json://page"),))


def policy(receivers: Sequence[To], route: Sequence[str] | Route, **options: Any) -> Policy:
    """Every alert is a group of its own and told at once, unless the test brings a route."""
    if not isinstance(route, Route):
        route = Route("0", tuple(route), group_by=None, group_wait_ms=0, group_interval_ms=0)
    return Policy(tuple(receivers), route, **options)


@dataclass
class Rig:
    """A notifier at work."""

    notifier: Notifier
    outbox: Outbox
    sender: FakeSender
    time: Time

    async def fire(self, *transitions: Transition) -> bool:
        """Submit what begins or ends; what begins is all that is active."""
        alerts = [transition.alert for transition in transitions if transition.after == "firing"]
        return await self.notifier.submit(transitions, alerts, self.time())

    def queued(self) -> int:
        return sum(receiver.queued for receiver in self.notifier.status().receivers)


def run(
    tmp_path: Path,
    body: Callable[[Rig], Coroutine[Any, Any, None]],
    *,
    sender: Sender | None = None,
    receivers: Sequence[To] = (OPS,),
    route: Sequence[str] | Route = ("ops",),
    connector: Connect = connect,
    time: Time | None = None,
    commit_deadline: float = 1.0,
    of_policy: dict[str, Any] | None = None,
    **options: Any,
) -> FakeSender:
    """Run ``body`` with a notifier that runs, from its start to its clean end."""
    fake = FakeSender() if sender is None else sender
    clock = time or Time()

    async def main() -> None:
        outbox = Outbox(tmp_path / "o.db", clock, connector=connector, commit_deadline=commit_deadline)
        await outbox.open()
        notifier = Notifier(
            outbox,
            policy(receivers, route, **(of_policy or {})),
            Targets(fake),
            "node1",
            clock,
            sleep=clock.sleep,
            jitter=lambda: 0.0,
            **options,
        )
        await notifier.open()
        running = asyncio.create_task(notifier.run())
        try:
            await body(Rig(notifier, outbox, fake, clock))  # type: ignore[arg-type]
        finally:
            await notifier.close(drain=0.5)
            await asyncio.wait_for(running, 10)
            await fake.close()
            await outbox.close()

    asyncio.run(main())
    return fake if isinstance(fake, FakeSender) else FakeSender()


def states(tmp_path: Path) -> list[tuple[str, str, str]]:
    """Receiver, kind and state of each delivery on the disk."""
    connection = sqlite3.connect(tmp_path / "o.db")
    try:
        return connection.execute(
            "SELECT d.receiver, d.kind, d.state FROM deliveries d JOIN transitions t ON t.id = d.event_id "
            "ORDER BY d.receiver, t.at_ms, d.state"
        ).fetchall()
    finally:
        connection.close()


def series(notifier: Notifier) -> dict[str, float]:
    builder = ScrapeBuilder()
    notifier.add_to(builder)
    scrape = builder.build(T0)
    return {format_labels(labels): value for labels, value in zip(scrape.shape.series, scrape.values, strict=True)}


def test_firing_and_resolved_are_sent_in_order_and_recorded(tmp_path: Path) -> None:
    async def body(rig: Rig) -> None:
        assert series(rig.notifier)['gpumon_notifications_sent_total{receiver="ops"}'] == 0
        assert await rig.fire(firing())
        await rig.time.drive(lambda: len(rig.sender.sent) == 1)
        assert await rig.fire(resolved())
        await rig.time.drive(lambda: len(rig.sender.sent) == 2)
        assert rig.sender.titles == [
            "[FIRING] critical: GpuTemperatureHigh on node1 (gpu 3)",
            "[RESOLVED] critical: GpuTemperatureHigh on node1 (gpu 3)",
        ]
        assert "unrecorded" not in rig.sender.sent[0][1].body
        assert await rig.outbox.load_transitions() == [firing(), resolved()]
        (status,) = rig.notifier.status().receivers
        assert (status.sent, status.failed, status.queued, status.last_error) == (2, 0, 0, "")
        assert status.last_sent_ms is not None
        counters = series(rig.notifier)
        assert counters['gpumon_notifications_sent_total{receiver="ops"}'] == 2
        assert counters["gpumon_state_recorded"] == 1
        assert counters['gpumon_notifications_dead_total{receiver="ops"}'] == 0

    run(tmp_path, body)
    assert states(tmp_path) == [("ops", "firing", "sent"), ("ops", "resolved", "sent")]


def test_pending_and_severity_none_are_recorded_and_not_sent(tmp_path: Path) -> None:
    async def body(rig: Rig) -> None:
        pending = Transition(alert("A", "pending"), "inactive", "pending", T0)
        watchdog = firing("Watchdog", severity="none")
        await rig.notifier.submit([pending, watchdog], [pending.alert, watchdog.alert], T0)
        await rig.fire(firing("B"))
        await rig.time.drive(lambda: bool(rig.sender.sent))
        assert [pending, watchdog] == (await rig.outbox.load_transitions())[:2]

    sender = run(tmp_path, body)
    assert len(sender.tried) == 1


def test_attempts_go_on_with_growing_pauses_until_one_succeeds(tmp_path: Path) -> None:
    at: list[int] = []
    time = Time()

    def fail(url: str, message: Message) -> str:
        at.append(time.now_ms)
        return "HTTP 500" if len(at) < 7 else ""

    async def body(rig: Rig) -> None:
        await rig.fire(firing())
        await time.drive(lambda: bool(rig.sender.sent))
        (status,) = rig.notifier.status().receivers
        assert (status.sent, status.failed) == (1, 6)

    run(tmp_path, body, sender=FakeSender(fail), time=time)
    gaps = [later - earlier for earlier, later in itertools.pairwise(at)]
    assert gaps == [1_000, 2_000, 4_000, 8_000, 16_000, 32_000]


def test_an_unsent_firing_is_superseded_by_its_end(tmp_path: Path) -> None:
    down = True

    async def body(rig: Rig) -> None:
        nonlocal down
        await rig.fire(firing())
        await rig.time.drive(lambda: len(rig.sender.tried) == 1, move=False)
        await rig.fire(resolved())
        down = False
        await rig.time.drive(lambda: bool(rig.sender.sent))

    sender = run(tmp_path, body, sender=FakeSender(lambda url, message: "down" if down else ""))
    assert [title.split()[0] for title in sender.titles] == ["[RESOLVED]"]
    assert states(tmp_path) == [("ops", "firing", "superseded"), ("ops", "resolved", "sent")]


def test_one_that_is_under_way_when_its_end_comes_is_not_repeated(tmp_path: Path) -> None:
    gate = asyncio.Event()
    sender = FakeSender(lambda url, message: "too late" if "FIRING" in message.title else "", gate.wait)

    async def body(rig: Rig) -> None:
        await rig.fire(firing())
        await wait_for(lambda: len(sender.tried) == 1)
        await rig.fire(resolved())
        gate.set()
        await rig.time.drive(lambda: bool(sender.sent))
        assert rig.queued() == 0

    run(tmp_path, body, sender=sender)
    assert [message.title.split()[0] for _, message in sender.tried] == ["[FIRING]", "[RESOLVED]"]
    assert states(tmp_path) == [("ops", "firing", "superseded"), ("ops", "resolved", "sent")]


def test_who_wants_no_ends_still_hears_of_a_firing_that_ended_meanwhile(tmp_path: Path) -> None:
    down = True

    async def body(rig: Rig) -> None:
        nonlocal down
        await rig.fire(firing())
        await rig.time.drive(lambda: len(rig.sender.tried) == 1, move=False)
        await rig.fire(resolved())
        down = False
        await rig.time.drive(lambda: bool(rig.sender.sent))

    sender = FakeSender(lambda url, message: "down" if down else "")
    run(tmp_path, body, sender=sender, receivers=[To("ops", OPS.apprise, send_resolved=False)])
    assert [title.split()[0] for title in sender.titles] == ["[FIRING]"]


def test_a_receiver_that_hangs_delays_no_other(tmp_path: Path) -> None:
    never = asyncio.Event()

    class Stuck(FakeSender):
        async def send(self, url: str, message: Message) -> None:
            if url == "json://page":
                await never.wait()
            await super().send(url, message)

    async def body(rig: Rig) -> None:
        await rig.fire(firing("A"), firing("B"))
        await wait_for(lambda: len(rig.sender.sent) == 2)
        never.set()

    run(tmp_path, body, sender=Stuck(), receivers=[PAGE, OPS], route=["page", "ops"])


def test_a_url_that_has_had_it_is_not_told_again_when_another_of_the_receiver_fails(tmp_path: Path) -> None:
    failures = ["no", "no", ""]
    sender = FakeSender(lambda url, message: failures.pop(0) if url == "json://b" else "")

    async def body(rig: Rig) -> None:
        await rig.fire(firing())
        await rig.time.drive(lambda: len(sender.sent) == 2)

    run(tmp_path, body, sender=sender, receivers=[To("ops", (Url("json://a"), Url("json://b")))])
    assert [url for url, _ in sender.sent] == ["json://a", "json://b"]
    assert len(sender.tried) == 4


def test_a_restart_resumes_what_was_not_sent_at_once_and_repeats_nothing(tmp_path: Path) -> None:
    async def before(rig: Rig) -> None:
        await rig.fire(firing("A"), firing("B"))
        await rig.time.drive(lambda: len(rig.sender.tried) >= 2, move=False)

    async def after(rig: Rig) -> None:
        alerts = await rig.outbox.load_alerts()
        await rig.notifier.submit([], alerts, T0 + 1_000)
        await rig.time.drive(lambda: bool(rig.sender.sent), move=False)
        await rig.fire(resolved("A"), firing("C"))
        await rig.time.drive(lambda: len(rig.sender.sent) == 3)

    run(tmp_path, before, sender=FakeSender(lambda url, message: "" if " A " in message.title else "down"))
    assert states(tmp_path) == [("ops", "firing", "queued"), ("ops", "firing", "sent")]
    sender = run(tmp_path, after, time=Time(T0 + 500))
    assert [title.split(" on ")[0] for title in sender.titles] == [
        "[FIRING] critical: B",
        "[RESOLVED] critical: A",
        "[FIRING] critical: C",
    ]


def test_a_receiver_that_comes_later_hears_of_what_fires_already(tmp_path: Path) -> None:
    change = firing()

    async def nobody(rig: Rig) -> None:
        await rig.fire(change)

    async def somebody(rig: Rig) -> None:
        await rig.notifier.submit([], [change.alert], T0 + 5_000)
        await rig.time.drive(lambda: bool(rig.sender.sent))
        await rig.notifier.submit([], [change.alert], T0 + 10_000)
        rig.notifier.reload(policy([OPS, PAGE], ["ops", "page"]))
        await rig.notifier.submit([], [change.alert], T0 + 15_000)
        await rig.time.drive(lambda: len(rig.sender.sent) == 2)
        assert await rig.outbox.load_transitions() == [change]

    run(tmp_path, nobody, receivers=[], route=[])
    sender = run(tmp_path, somebody)
    assert [url for url, _ in sender.tried] == ["json://ops", "json://page"]
    assert len({message.event_id for _, message in sender.sent}) == 1


def test_a_reload_mends_a_url_and_buries_what_is_for_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def body(rig: Rig) -> None:
        await rig.fire(firing())
        await rig.time.drive(lambda: len(rig.sender.tried) == 2, move=False)
        rig.notifier.reload(policy([To("ops", (Url("json://mended"),))], ["ops"]))
        await rig.time.drive(lambda: bool(rig.sender.sent), move=False)
        assert rig.notifier.status().dead == 1
        assert [receiver.name for receiver in rig.notifier.status().receivers] == ["ops"]

    sender = FakeSender(lambda url, message: "" if "mended" in url else "wrong")
    run(tmp_path, body, sender=sender, receivers=[OPS, PAGE], route=["ops", "page"])
    assert states(tmp_path) == [("ops", "firing", "sent"), ("page", "firing", "dead")]
    assert "no receiver page" in caplog.text


def test_after_three_days_a_delivery_is_dead(tmp_path: Path) -> None:
    async def body(rig: Rig) -> None:
        await rig.fire(firing())
        await rig.time.drive(lambda: rig.notifier.status().dead == 1)
        assert rig.queued() == 0
        assert series(rig.notifier)['gpumon_notifications_dead_total{receiver="ops"}'] == 1

    run(tmp_path, body, sender=FakeSender(lambda url, message: "down"), give_up_ms=20_000)
    assert states(tmp_path) == [("ops", "firing", "dead")]


def test_a_secret_that_cannot_be_had_is_told(tmp_path: Path) -> None:
    async def body(rig: Rig) -> None:
        await rig.fire(firing())
        await wait_for(lambda: rig.notifier.status().receivers[0].failed > 0)
        assert rig.notifier.status().receivers[0].last_error == "the environment variable NOWHERE is not set"

    run(tmp_path, body, receivers=[To("ops", (Url("missing:"),))])


def test_a_bug_of_a_sender_silences_nobody_and_shows_no_secret(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Buggy(FakeSender):
        async def send(self, url: str, message: Message) -> None:
            self.tried.append((url, message))
            if len(self.tried) == 1:
                raise KeyError(url)
            self.sent.append((url, message))

    async def body(rig: Rig) -> None:
        await rig.fire(firing())
        await rig.time.drive(lambda: bool(rig.sender.sent))

    run(tmp_path, body, sender=Buggy(), receivers=[To("ops", (Url("json://hunter2"),))])
    assert "unforeseen: KeyError" in caplog.text
    assert "hunter2" not in caplog.text


class FullDisk(sqlite3.Connection):
    """Commits fail while ``full``."""

    full = False

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        if sql == "COMMIT" and FullDisk.full:
            raise sqlite3.OperationalError("database or disk is full")
        return super().execute(sql, parameters)


def full_disk(path: str) -> sqlite3.Connection:
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False, factory=FullDisk)


def test_a_disk_that_is_full_silences_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def body(rig: Rig) -> None:
        monkeypatch.setattr(FullDisk, "full", True)
        assert not await rig.fire(firing())
        await rig.time.drive(lambda: bool(rig.sender.sent), move=False)
        assert "unrecorded" in rig.sender.sent[0][1].body
        assert "full" in rig.notifier.status().recording_error
        assert series(rig.notifier)["gpumon_state_recorded"] == 0
        monkeypatch.setattr(FullDisk, "full", False)
        await rig.time.drive(lambda: rig.notifier.status().recording_ok)  # nothing new happens: it is tried anyway
        assert await rig.outbox.load_transitions() == [firing()]
        assert await rig.outbox.load_alerts() == [firing().alert]
        assert await rig.fire(resolved())
        await rig.time.drive(lambda: len(rig.sender.sent) == 2)
        assert "unrecorded" not in rig.sender.sent[1][1].body

    run(tmp_path, body, connector=full_disk)
    assert states(tmp_path) == [("ops", "firing", "sent"), ("ops", "resolved", "sent")]


def test_a_commit_that_hangs_silences_nothing(tmp_path: Path) -> None:
    gate = threading.Event()
    gate.set()

    class Hanging(sqlite3.Connection):
        def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
            if sql == "COMMIT":
                gate.wait(20)
            return super().execute(sql, parameters)

    def hanging(path: str) -> sqlite3.Connection:
        return sqlite3.connect(path, isolation_level=None, check_same_thread=False, factory=Hanging)

    async def body(rig: Rig) -> None:
        gate.clear()
        assert not await rig.fire(firing())
        await rig.time.drive(lambda: bool(rig.sender.sent), move=False)
        assert "unrecorded" in rig.sender.sent[0][1].body
        gate.set()

    run(tmp_path, body, connector=hanging, commit_deadline=0.05)
    assert states(tmp_path) == [("ops", "firing", "sent")]


def test_a_disk_that_comes_back_gives_up_what_an_earlier_run_left(tmp_path: Path) -> None:
    async def before(rig: Rig) -> None:
        await rig.fire(firing("A"))

    broken = True

    def connector(path: str) -> sqlite3.Connection:
        if broken:
            raise sqlite3.OperationalError("unable to open database file")
        return connect(path)

    async def after(rig: Rig) -> None:
        nonlocal broken
        assert not rig.notifier.status().recording_ok
        broken = False
        await rig.time.drive(lambda: bool(rig.sender.sent))

    run(tmp_path, before, sender=FakeSender(lambda url, message: "down"))
    sender = run(tmp_path, after, connector=connector)
    assert sender.titles == ["[FIRING] critical: A on node1 (gpu 3)"]


def test_what_has_not_changed_is_not_written_again(tmp_path: Path) -> None:
    commits = 0

    class Counting(sqlite3.Connection):
        def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
            nonlocal commits
            commits += sql == "COMMIT"
            return super().execute(sql, parameters)

    def counting(path: str) -> sqlite3.Connection:
        return sqlite3.connect(path, isolation_level=None, check_same_thread=False, factory=Counting)

    async def body(rig: Rig) -> None:
        await rig.notifier.submit([], [alert("A", "pending")], T0)
        before = commits
        for n in range(20):
            assert await rig.notifier.submit([], [alert("A", "pending")], T0 + n)
        assert commits == before
        await rig.notifier.submit([], [alert("A", "pending", T0 + 5)], T0 + 50)
        assert commits == before + 1

    run(tmp_path, body, connector=counting, route=[])


def test_close_sends_what_it_can(tmp_path: Path) -> None:
    async def body(rig: Rig) -> None:
        rig.notifier.submit([firing()], [firing().alert], T0)

    assert len(run(tmp_path, body).sent) == 1


def test_close_without_time_begins_no_message(tmp_path: Path) -> None:
    sender = FakeSender()
    ops = To("ops", (Url("json://ops", is_at_hand=True),))
    route = Route("0", ("ops",), group_wait_ms=3_600_000)

    async def main() -> None:
        outbox = Outbox(tmp_path / "o.db", Time())
        await outbox.open()
        notifier = Notifier(outbox, policy([ops], route), Targets(sender), "node1", Time())
        await notifier.open()
        await notifier.submit([firing()], [firing().alert], T0)
        await notifier.close(drain=0)
        await outbox.close()

    asyncio.run(main())
    assert sender.tried == []
    assert states(tmp_path) == [("ops", "firing", "queued")]


def test_close_does_not_wait_for_a_receiver_that_hangs(tmp_path: Path) -> None:
    async def forever() -> None:
        await asyncio.Event().wait()

    async def body(rig: Rig) -> None:
        await rig.fire(firing())
        await wait_for(lambda: len(rig.sender.tried) == 1)
        async with asyncio.timeout(20):
            await rig.notifier.close(drain=0.05)

    run(tmp_path, body, sender=FakeSender(before=forever))
    assert states(tmp_path) == [("ops", "firing", "queued")]


def test_to_a_real_server_that_fails_hangs_and_recovers(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with http_receiver([500, 503]) as server:
        to = To("ops", (Url(f"json://me:hunter2@{server.host}/t0ken?rto=60"),))

        async def body(rig: Rig) -> None:
            await rig.fire(firing())
            await rig.time.drive(lambda: len(server.received) == 1)
            await rig.time.drive(lambda: rig.queued() == 0)
            assert rig.notifier.status().receivers[0].failed == 2
            server.gate.clear()
            await rig.fire(resolved())
            await wait_for(lambda: server.requests == 4)
            await wait_for(lambda: rig.notifier.status().receivers[0].failed == 3)
            assert rig.notifier.status().receivers[0].last_error == "no answer in 2 s"
            server.gate.set()
            await rig.time.drive(lambda: rig.queued() == 0)

        run(tmp_path, body, sender=AppriseSender(deadline=2.0), receivers=[to])
        titles = [content["title"].split()[0] for content in server.received]
        assert titles[0] == "[FIRING]"
        assert titles[-1] == "[RESOLVED]"
    kept = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    for secret in ("hunter2", "t0ken"):
        assert secret not in caplog.text
        assert secret.encode() not in kept


def test_values_that_are_no_numbers_are_sent(tmp_path: Path) -> None:
    change = firing()
    change = replace(change, alert=replace(change.alert, value=STALE))

    async def body(rig: Rig) -> None:
        assert await rig.fire(change)
        await rig.time.drive(lambda: bool(rig.sender.sent))
        assert "Value: NaN" in rig.sender.sent[0][1].body

    run(tmp_path, body)


def test_a_bug_outside_of_sending_silences_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    secret = "hunter" + "2"

    async def body(rig: Rig) -> None:
        (queue,) = rig.notifier._dispatcher.queues.values()
        plan, calls = queue.plan, itertools.count()

        def stumble(*args: Any) -> Any:
            if next(calls) == 0:
                raise KeyError(secret)
            return plan(*args)

        queue.plan = stumble  # type: ignore[method-assign, assignment]
        await rig.fire(firing())
        await rig.time.drive(lambda: bool(rig.sender.sent))

    run(tmp_path, body)
    assert "the queue of ops failed unforeseen: KeyError" in caplog.text
    assert secret not in caplog.text


def test_a_picture_that_fails_does_not_keep_the_message_back(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def no_picture(alert: Alert) -> None:
        raise ZeroDivisionError

    async def body(rig: Rig) -> None:
        await rig.fire(firing())
        await rig.time.drive(lambda: bool(rig.sender.sent), move=False)

    run(tmp_path, body, graph_of=no_picture)
    assert "the picture of GpuTemperatureHigh failed unforeseen" in caplog.text


TWO = To("ops", (Url("json://a"), Url("json://b")))


def test_a_target_that_asks_for_a_pause_holds_up_no_other(tmp_path: Path) -> None:
    class Busy(FakeSender):
        async def send(self, url: str, message: Message) -> None:
            if url == "json://b" and clock() < T0 + 60_000:
                self.tried.append((url, message))
                raise SendFailed("too many requests", retry_after=60)
            await super().send(url, message)

    clock = Time()

    async def body(rig: Rig) -> None:
        await rig.fire(firing())
        await rig.time.drive(lambda: len(rig.sender.sent) == 1)
        await rig.time.drive(lambda: rig.notifier.status().receivers[0].failed == 1, move=False)
        await rig.fire(firing(gpu="5"))
        await rig.time.drive(lambda: len(rig.sender.sent) == 2)
        assert clock() < T0 + 60_000
        assert [url for url, _ in rig.sender.tried] == ["json://a", "json://b", "json://a"]
        assert rig.notifier.status().receivers[0].last_error == "too many requests"
        await rig.time.drive(lambda: rig.queued() == 0)
        assert clock() >= T0 + 60_000

    sender = run(tmp_path, body, sender=Busy(), receivers=[TWO], time=clock)
    assert [url for url, _ in sender.tried].count("json://b") == 2
    assert sorted(url for url, _ in sender.sent) == ["json://a"] * 2 + ["json://b"]


def test_what_waits_for_a_target_that_is_left_alone_counts_as_no_attempt(tmp_path: Path) -> None:
    class Busy(FakeSender):
        async def send(self, url: str, message: Message) -> None:
            if url == "json://b" and clock() < T0 + 310_000:
                self.tried.append((url, message))
                raise SendFailed("too many requests", retry_after=310)
            await super().send(url, message)

    clock = Time()

    async def body(rig: Rig) -> None:
        await rig.fire(firing())
        await rig.time.drive(lambda: rig.notifier.status().receivers[0].sent == 1)
        assert clock() >= T0 + 310_000
        assert rig.notifier.status().receivers[0].failed == 1

    sender = run(tmp_path, body, sender=Busy(), receivers=[TWO], time=clock)
    assert [url for url, _ in sender.tried] == ["json://a", "json://b", "json://b"]


def test_a_target_that_hangs_delays_the_others_no_more_than_half_of_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("monitor.notify.targets.time", clock := Hanging())

    class Silent(FakeSender):
        async def send(self, url: str, message: Message) -> None:
            if url == "json://b":
                clock.seconds += 20
                self.tried.append((url, message))
                raise SendFailed("no answer in 20 s")
            await super().send(url, message)

    async def body(rig: Rig) -> None:
        for gpu in "123":
            await rig.fire(firing(gpu=gpu))
            await rig.time.drive(lambda gpu=gpu: len(rig.sender.sent) == int(gpu))  # type: ignore[misc]
        assert rig.time() < T0 + 10_000
        assert [url for url, _ in rig.sender.tried].count("json://b") == 1

    run(tmp_path, body, sender=Silent(), receivers=[TWO])


class Hanging:
    """``time``, of which a test says how it goes on."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def monotonic(self) -> float:
        return self.seconds


def test_a_bug_of_one_target_is_not_the_others(tmp_path: Path) -> None:
    class Buggy(FakeSender):
        async def send(self, url: str, message: Message) -> None:
            await super().send(url, message)
            if url == "json://b" and len(self.tried) < 6:
                raise KeyError(url)

    async def body(rig: Rig) -> None:
        await rig.fire(firing())
        await rig.time.drive(lambda: rig.queued() == 0)

    sender = run(tmp_path, body, sender=Buggy(), receivers=[To("ops", (Url("json://a"), Url("json://b")))])
    assert [url for url, _ in sender.tried].count("json://a") == 1
