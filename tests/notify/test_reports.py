"""Scheduled reports with a clock that a test moves: once, late, again after a failure, never twice, over restarts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from monitor.config import ConfigError, loads
from monitor.notify.message import Message
from monitor.notify.outbox import Outbox
from monitor.notify.reports import CannotMake, Make, Reports
from monitor.notify.sender import SendFailed
from monitor.notify.targets import Targets
from monitor.reporting.letter import Letter, Picture, Wanted
from monitor.samples import Event

HOUR_MS, DAY_MS = 3_600_000, 86_400_000
MIDNIGHT_MS = 1_789_948_800_000
"""2026-09-21, UTC, a Monday."""
EIGHT_MS = MIDNIGHT_MS + 8 * HOUR_MS
CONFIG = """
receivers: [{name: chat, apprise: ['json://one', 'json://two']}]
reports: [{name: morning, schedule: 'daily 08:00', receiver: chat, price: 0.30/kWh}]
"""


class World:
    """The clock, what was sent and made, and what fails."""

    def __init__(self, folder: Path, now_ms: int) -> None:
        self.now_ms = now_ms
        self.folder = folder
        self.sent: list[tuple[str, Message]] = []
        self.wanted: list[Wanted] = []
        self.events: list[Event] = []
        self.refusing: set[str] = set()
        self.broken = ""

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0.002)

    async def make(self, wanted: Wanted) -> Letter:
        self.wanted.append(wanted)
        if self.broken:
            raise CannotMake(self.broken)
        return Letter(
            "gpumon report: n1, 24 h", ("a line", "*another*"), "<p>all</p>", (Picture("p", 1000, ((1, 2.0),)),)
        )

    async def send(self, url: str, message: Message) -> None:
        if url in self.refusing:
            raise SendFailed("it is down")
        self.sent.append((url, message))

    async def close(self) -> None:
        pass

    @asynccontextmanager
    async def daemon(self, config: str = CONFIG, make: Make | None = None) -> AsyncIterator[Reports]:
        """A run, from its start to its end."""
        outbox = Outbox(self.folder / "gpumon.db", lambda: self.now_ms)
        await outbox.open()
        reports = Reports(
            loads(config), outbox, Targets(self), "n1", lambda: self.now_ms, self.events.append,
            sleep=self.sleep, make=make or self.make, jitter=lambda: 0.0,
        )  # fmt: skip
        await reports.open()
        task = asyncio.create_task(reports.run())
        try:
            yield reports
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await outbox.close()

    async def until(self, what: Callable[[], object]) -> None:
        async with asyncio.timeout(10):
            while not what():  # noqa: ASYNC110 - it looks at plain values
                await asyncio.sleep(0.002)

    async def rest(self) -> None:
        """Let it look a few times."""
        for _ in range(20):
            await asyncio.sleep(0.002)

    def said(self) -> list[str]:
        return [one.kind for one in self.events]


def play(folder: Path, now_ms: int, story: Callable[[World], object]) -> World:
    world = World(folder, now_ms)

    async def main() -> None:
        found = story(world)
        assert asyncio.iscoroutine(found)
        await found

    asyncio.run(main())
    return world


def test_it_is_sent_when_it_is_due_to_each_target_once(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        async with world.daemon() as reports:
            await world.rest()
            assert world.wanted == []  # what was due before it was known is not sent
            assert reports.status()[0].next_ms == EIGHT_MS
            assert reports.status()[0].since_seconds == 86_400
            world.now_ms = EIGHT_MS + 500
            await world.until(lambda: len(world.sent) == 2)
            await world.until(lambda: not reports.status()[0].waiting)
            await world.rest()
            assert reports.status()[0].last_sent_ms == EIGHT_MS + 500

    world = play(tmp_path, EIGHT_MS - HOUR_MS, story)
    (wanted,) = world.wanted
    assert (wanted.start_ms, wanted.end_ms, wanted.prices) == (EIGHT_MS - DAY_MS, EIGHT_MS, ("0.3/kWh",))
    assert wanted.remarks == ()
    assert [url for url, _ in world.sent] == ["json://one", "json://two"]
    message = world.sent[0][1]
    assert message.title == "gpumon report: n1, 24 h"
    assert message.body == f"a line\n*another*\nReport: {message.event_id}"
    assert message.html == "<p>all</p>"
    assert "\\*another\\*" in message.markdown
    assert len(message.graphs) == 1
    assert world.said() == ["report_sent"]


def test_of_several_that_are_due_at_once_one_is_made_after_the_other(tmp_path: Path) -> None:
    more = "".join(f", {{name: more{number}, schedule: 'daily 08:00', receiver: chat}}" for number in range(3))
    config = CONFIG.replace("0.30/kWh}", "0.30/kWh}" + more)
    at_once: list[int] = []

    async def story(world: World) -> None:
        begun = 0

        async def make(wanted: Wanted) -> Letter:
            nonlocal begun
            begun += 1
            at_once.append(begun)
            await world.rest()
            begun -= 1
            return await world.make(wanted)

        async with world.daemon(config, make):
            await world.rest()
            world.now_ms = EIGHT_MS
            await world.until(lambda: len(world.sent) == 8)

    play(tmp_path, EIGHT_MS - HOUR_MS, story)
    assert at_once == [1, 1, 1, 1]


def test_a_restart_sends_nothing_twice(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        async with world.daemon():
            await world.rest()
            world.now_ms = EIGHT_MS
            await world.until(lambda: len(world.sent) == 2)
            await world.until(lambda: world.events)
        for later in (1, HOUR_MS, 23 * HOUR_MS):
            world.now_ms = EIGHT_MS + later
            async with world.daemon():
                await world.rest()
        assert len(world.sent) == 2
        world.now_ms = EIGHT_MS + DAY_MS
        async with world.daemon():
            await world.until(lambda: len(world.sent) == 4)

    world = play(tmp_path, EIGHT_MS - HOUR_MS, story)
    assert len({message.event_id for _, message in world.sent}) == 2


def test_one_that_was_missed_comes_late_once_and_says_so(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        async with world.daemon():
            await world.rest()
        world.now_ms = EIGHT_MS + 2 * DAY_MS + 3 * HOUR_MS
        async with world.daemon() as reports:
            await world.until(lambda: len(world.sent) == 2)
            await world.until(lambda: not reports.status()[0].waiting)

    world = play(tmp_path, EIGHT_MS - HOUR_MS, story)
    (wanted,) = world.wanted
    assert wanted.end_ms == EIGHT_MS + 2 * DAY_MS  # of the time that it was due for
    assert wanted.remarks == (
        "This report is 3 h late: gpumon did not run when it was due.",
        "2 before it were never made, for gpumon did not run.",
    )


def test_a_receiver_that_is_down_gets_it_later_and_who_had_it_not_again(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        world.refusing = {"json://two"}
        async with world.daemon() as reports:
            await world.rest()
            world.now_ms = EIGHT_MS
            await world.until(lambda: reports.status()[0].last_error)
            assert (
                reports.status()[0].last_error == "apprise: it is down"
                or "it is down" in reports.status()[0].last_error
            )
            assert reports.status()[0].waiting
        world.refusing = set()
        world.now_ms = EIGHT_MS + 10_000
        async with world.daemon() as reports:  # over a restart
            await world.until(lambda: not reports.status()[0].waiting)

    world = play(tmp_path, EIGHT_MS - HOUR_MS, story)
    assert [url for url, _ in world.sent] == ["json://one", "json://two"]
    assert len({message.event_id for _, message in world.sent}) == 1
    assert len(world.wanted) == 1  # made once
    assert world.said() == ["report_failed", "report_sent"]


def test_one_that_never_arrived_is_told_by_the_next(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        world.refusing = {"json://one", "json://two"}
        async with world.daemon() as reports:
            await world.rest()
            world.now_ms = EIGHT_MS
            await world.until(lambda: reports.status()[0].last_error)
            world.refusing = set()
            world.now_ms = EIGHT_MS + DAY_MS
            await world.until(lambda: len(world.sent) == 2)
            await world.until(lambda: not reports.status()[0].waiting)

    world = play(tmp_path, EIGHT_MS - HOUR_MS, story)
    assert "The report before could not be delivered: " in world.wanted[-1].remarks[0]
    assert "it is down" in world.wanted[-1].remarks[0]
    assert world.said() == ["report_failed", "report_failed", "report_sent"]
    assert "was given up" in world.events[1].title
    assert world.wanted[-1].end_ms == EIGHT_MS + DAY_MS


def test_one_that_cannot_be_made_is_tried_again(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        world.broken = "no answer within 30 s"
        async with world.daemon() as reports:
            await world.rest()
            world.now_ms = EIGHT_MS
            await world.until(lambda: reports.status()[0].last_error)
            assert "no answer within 30 s" in reports.status()[0].last_error
            world.broken = ""
            world.now_ms += 5_000
            await world.until(lambda: len(world.sent) == 2)

    play(tmp_path, EIGHT_MS - HOUR_MS, story)


def test_another_schedule_is_due_the_next_time(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        async with world.daemon() as reports:
            await world.rest()
            reports.reload(loads(CONFIG.replace("08:00", "06:00")))  # an hour ago
            await world.rest()
            assert world.wanted == []
            assert reports.status()[0].next_ms == EIGHT_MS + DAY_MS - 2 * HOUR_MS
            reports.reload(loads(CONFIG.partition("reports:")[0]))
            await world.rest()
            assert reports.status() == []

    play(tmp_path, EIGHT_MS - HOUR_MS, story)


def test_a_clock_that_goes_back_sends_nothing_again(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        async with world.daemon():
            await world.rest()
            world.now_ms = EIGHT_MS
            await world.until(lambda: len(world.sent) == 2)
            world.now_ms = EIGHT_MS - 2 * HOUR_MS
            await world.rest()
            world.now_ms = EIGHT_MS + 1
            await world.rest()
            assert len(world.sent) == 2

    play(tmp_path, EIGHT_MS - HOUR_MS, story)


def test_a_service_that_keeps_incidents_gets_no_report(tmp_path: Path) -> None:
    config = CONFIG.replace("'json://two'", "'pagerduty://key@routing'")

    async def story(world: World) -> None:
        async with world.daemon(config) as reports:
            sent = await reports.send_now("chat", Wanted("", EIGHT_MS - DAY_MS, EIGHT_MS))
            assert [(one.target, bool(one.reason)) for one in sent] == [("json", False), ("pagerduty", True)]
            assert "would make an incident of it" in sent[1].reason
            with pytest.raises(KeyError):
                await reports.send_now("nobody", Wanted("", 0, 1))

    world = play(tmp_path, EIGHT_MS - HOUR_MS, story)
    assert [url for url, _ in world.sent] == ["json://one"]
    assert world.wanted[0].target == f"unix:{loads(config).api.socket}"


REPORT = "receivers: [{name: chat, apprise: 'json://x'}, {name: hook, webhook: 'http://x'}]\nroute: {receiver: chat}\n"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{name: a, schedule: 'daily 08:00', receiver: chta}", 'there is no receiver "chta"'),
        ("{name: a, schedule: 'daily 08:00', receiver: hook}", "has webhooks alone, which take alerts"),
        ("{name: a, schedule: 'daily 8', receiver: chat}", '"daily 8" is no schedule: write daily 08:00'),
        ("{name: a, schedule: 'daily 08:00'}", 'a report needs a "receiver"'),
        ("{name: a, schedule: 'daily 08:00', receiver: chat, price: 3}", "is no price: write 0.30/kWh"),
        ("{name: a, schedule: 'daily 08:00', receiver: chat, location: Mars}", 'there is no time zone "Mars"'),
        ("{name: a, schedule: 'daily 08:00', receiver: chat, since: 1s}", "1m"),
    ],
)
def test_a_report_that_cannot_be_meant_is_refused(text: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        loads(f"{REPORT}reports: [{text}]")
    said = str(caught.value)
    assert problem in said
    assert said.startswith("gpumon.yaml:3:")


def test_a_weekly_one_looks_back_a_week() -> None:
    (report,) = loads(REPORT + "reports: [{name: a, schedule: 'weekly mon 08:00', receiver: chat}]").reports
    assert report.since_ms == 7 * DAY_MS
