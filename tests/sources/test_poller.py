"""Each source on its own cadence, none able to delay another."""

import asyncio
import itertools
import time

import pytest

from monitor.clock import Clock
from monitor.samples import Scrape, Shape, make_labels
from monitor.sources.poller import Poller, SourceStatus
from monitor.sources.source import SourceAbsent, SourceDown

SHAPE = Shape([make_labels("x")], {})


class Scripted:
    """A source whose polls do what a script says, one step a poll."""

    server = ""

    def __init__(self, name: str, *script: str, interval: float = 0.01, deadline: float = 0.05) -> None:
        self.name = name
        self.interval = interval
        self.deadline = deadline
        self.script = list(script)
        self.polls = 0
        self.closed = False

    async def open(self) -> None:
        pass

    async def poll(self, now_ms: int) -> Scrape:
        step = self.script[min(self.polls, len(self.script) - 1)]
        self.polls += 1
        if step == "hang":
            await asyncio.sleep(60)
        if step == "down":
            raise SourceDown("connection refused")
        if step == "absent":
            raise SourceAbsent("no driver")
        if step == "bug":
            raise ZeroDivisionError("oops")
        return Scrape(now_ms, SHAPE, [1.0])

    async def close(self) -> None:
        self.closed = True


def watch(*sources: Scripted, polls: int) -> dict[str, list[str]]:
    """Run pollers until the first source had ``polls`` polls; what each told, in order."""
    told: dict[str, list[str]] = {source.name: [] for source in sources}
    enough = asyncio.Event()

    def note(status: SourceStatus, what: str) -> None:
        told[status.source].append(what)
        if len(told[sources[0].name]) >= polls:
            enough.set()

    async def work() -> None:
        clock = Clock()
        pollers = [
            Poller(s, clock, lambda status, scrape: note(status, "up"), lambda status, at: note(status, status.reason))
            for s in sources
        ]
        tasks = [asyncio.create_task(p.run()) for p in pollers]
        async with asyncio.timeout(10):
            await enough.wait()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(work())
    return told


def test_a_source_goes_down_with_its_reason_and_comes_back() -> None:
    source = Scripted("a", "up", "down", "bug", "up")
    told = watch(source, polls=4)
    assert told["a"] == ["up", "connection refused", "internal error: ZeroDivisionError: oops", "up"]
    assert source.closed


def test_a_poll_that_hangs_is_given_up_and_delays_no_other() -> None:
    hung = Scripted("hung", "hang", deadline=0.05)
    told = watch(hung, Scripted("quick", "up"), polls=2)
    assert told["hung"] == ["no answer in 0.05 s"] * 2
    # While the first source missed two deadlines of 0.3 s with grace, the other went on every 0.01 s.
    assert len(told["quick"]) > 10


def test_what_is_not_there_is_asked_seldom() -> None:
    absent = Scripted("absent", "absent")
    told = watch(Scripted("b", "up"), absent, polls=10)
    assert told["absent"] == ["no driver"]


def test_a_faster_clock_polls_faster() -> None:
    clock = Clock(speed=50)
    first = clock.now_ms()
    asyncio.run(clock.sleep(1.0))
    assert clock.now_ms() - first >= 1000


def beats(
    monkeypatch: pytest.MonkeyPatch,
    source: Scripted,
    *,
    polls: int,
    late: float,
    servers: int = 1,
    rules: float | None = None,
) -> list[float]:
    """When a source is polled, on a clock on which each pause takes ``late`` longer than it should."""
    now = 0.0
    at: list[float] = []

    async def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds + late

    class Enough(Exception):
        pass

    def take(status: SourceStatus, scrape: Scrape) -> None:
        at.append(now)
        if len(at) == polls:
            raise Enough

    with monkeypatch.context() as patch:
        patch.setattr(time, "monotonic", lambda: now)
        patch.setattr(asyncio, "sleep", sleep)
        work = Poller(source, Clock(), take, lambda status, at: None, lambda: servers, lambda: rules).run()
        with pytest.raises(Enough):  # nothing in it waits, but for the sleep
            asyncio.run(work)
    return at


def test_beats_that_come_late_do_not_move_the_next_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    assert beats(monkeypatch, Scripted("a", "up", interval=1.0), polls=5, late=0.25) == [0, 1.25, 2.25, 3.25, 4.25]
    assert beats(monkeypatch, Scripted("a", "up", interval=1.0), polls=4, late=1.5) == [0, 2.5, 4.5, 6.5]


def test_servers_are_not_all_read_at_one_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    second = []
    for number in range(8):
        source = Scripted("vllm", "up", interval=100.0)
        source.server = f"n1:{8000 + number}"
        first, *others = beats(monkeypatch, source, polls=4, late=0.0, servers=10_000)
        assert first == 0.0
        assert 0.0 < others[0] <= 100.0
        assert [later - earlier for earlier, later in itertools.pairwise(others)] == [100.0, 100.0]
        second.append(others[0])
    assert max(second) - min(second) > 50.0
    assert len(set(second)) == 8


def test_a_few_servers_are_read_close_before_the_beat(monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(8):
        source = Scripted("vllm", "up", interval=1.0)
        source.server = f"n1:{8000 + number}"
        first, second, third = beats(monkeypatch, source, polls=3, late=0.0, servers=4)
        assert first == 0.0
        assert 0.94 <= second <= 1.0
        assert third - second == pytest.approx(1.0)


def test_what_is_read_is_there_just_before_the_rules_look(monkeypatch: pytest.MonkeyPatch) -> None:
    # They began 0.3 s before this source, which was found later.
    assert beats(monkeypatch, Scripted("a", "up", interval=1.0), polls=3, late=0.0, rules=-0.3) == pytest.approx(
        [0.0, 0.65, 1.65]
    )
    often = beats(monkeypatch, Scripted("a", "up", interval=0.1), polls=3, late=0.0, rules=0.0)
    assert often == pytest.approx([0.0, 0.09, 0.19])
