"""The feed of a screen: pictures, lost connections, and servers that are no daemon."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import ExitStack, aclosing
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from monitor.client import discover
from monitor.client import feed as feeding
from monitor.client.api import Client
from monitor.client.errors import Refused, Unreachable
from monitor.client.events import Connecting, ConnectionLost, Event
from monitor.client.feed import Asking, live, poll, take_snapshot
from monitor.client.queries import overview
from monitor.client.results import Results
from monitor.client.snapshot import Snapshot
from monitor.client.wire import AlertRow, Frame, Query, Series
from monitor.promql.plan import plan
from tests.client.fake_daemon import FakeDaemon
from tests.client.story import START_MS
from tests.http_server import answer, serve


@pytest.mark.parametrize("window", ["30s", "2m"])
def test_every_query_of_the_overview_is_promql(window: str) -> None:
    asked = overview(window=window)
    for query in asked:
        plan(query.expr)
    assert len({query.id for query in asked}) == len(asked)
    assert all(query.id.endswith("_h") == (query.range_seconds is not None) for query in asked)


def test_pictures_follow_a_lost_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeding, "PAUSES", (0.01,))
    events: list[Event] = []

    async def follow(target: str) -> None:
        async with aclosing(live(target)) as stream:
            async for event in stream:
                events.append(event)
                if sum(isinstance(one, Snapshot) for one in events) == 4:
                    return

    with FakeDaemon(tmp_path / "d.sock", frames=2).serving() as target:
        asyncio.run(follow(target))
    kinds = [type(event) for event in events]
    assert kinds == [Connecting, Snapshot, Snapshot, ConnectionLost, Connecting, Snapshot, Snapshot]


def test_a_service_that_is_restarted_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A private daemon has neither its servers nor its alerts, and a screen would stay with it."""
    monkeypatch.setattr(feeding, "PAUSES", (0.01,))
    monkeypatch.delenv("GPUMON_URL", raising=False)
    socket = tmp_path / "d.sock"
    only_system = partial(discover.find, environment={"HOME": str(tmp_path)}, system_socket=socket)
    monkeypatch.setattr(discover, "find", only_system)

    async def no_other(url: str | None) -> discover.Found:
        found = only_system(url)
        assert found is not None, "a private daemon was started"
        return found

    monkeypatch.setattr(discover, "find_or_start", no_other)
    lost: list[ConnectionLost] = []

    async def follow() -> Snapshot:
        async with aclosing(live()) as stream:
            serving = FakeDaemon(socket, frames=1).serving()
            serving.__enter__()
            async for event in stream:
                if isinstance(event, ConnectionLost):
                    lost.append(event)
                    if len(lost) == 1:
                        await asyncio.to_thread(serving.__exit__, None, None, None)
                        socket.unlink(missing_ok=True)
                    elif len(lost) == 3:
                        serving = FakeDaemon(socket, frames=1).serving()
                        serving.__enter__()
                elif isinstance(event, Snapshot) and lost:
                    await asyncio.to_thread(serving.__exit__, None, None, None)
                    return event
        raise AssertionError

    assert len(asyncio.run(follow()).gpus) == 8
    assert [one.error.what for one in lost[1:]] == ["the service's daemon has ended"] * 2


def test_a_private_daemon_is_left_for_the_service_once_it_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GPUMON_URL", raising=False)
    system, private = tmp_path / "system.sock", tmp_path / "gpumon" / "gpumon.sock"
    private.parent.mkdir()
    find = partial(discover.find, environment={"XDG_RUNTIME_DIR": str(tmp_path)}, system_socket=system)
    monkeypatch.setattr(discover, "SYSTEM_SOCKET", system)
    monkeypatch.setattr(discover, "find", lambda *_, **__: find())
    seen: list[str] = []

    async def follow(began: ExitStack) -> None:
        async with aclosing(live()) as stream:
            async for event in stream:
                if isinstance(event, Snapshot):
                    seen.append(event.node.target)
                    if len(seen) == 2:
                        began.enter_context(FakeDaemon(system).serving())
                    if len(seen) == 4:
                        return

    with ExitStack() as began:
        began.enter_context(FakeDaemon(private).serving())
        asyncio.run(follow(began))
    assert seen == [f"unix:{private}"] * 2 + [f"unix:{system}"] * 2


def test_a_bad_address_is_told_and_not_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    async def first_loss() -> ConnectionLost:
        async with aclosing(live("nonsense")) as stream:
            async for event in stream:
                if isinstance(event, ConnectionLost):
                    return event
        raise AssertionError

    assert asyncio.run(first_loss()).error.what == "this is no address"


def test_a_server_that_is_neither_daemon_nor_prometheus_is_told() -> None:
    async def first_loss() -> ConnectionLost:
        async with serve(answer(b"no such page", "404 Not Found")) as server, aclosing(live(server.url)) as stream:
            async for event in stream:
                if isinstance(event, ConnectionLost):
                    return event
        raise AssertionError

    error = asyncio.run(first_loss()).error
    assert error.what == "HTTP 404"
    assert "a gpumon daemon or a Prometheus" in error.cure


def test_one_whole_picture(tmp_path: Path) -> None:
    async def take(target: str) -> Snapshot:
        async with Client(target) as client:
            return await take_snapshot(client)

    with FakeDaemon(tmp_path / "d.sock").serving() as target:
        picture = asyncio.run(take(target))
    assert len(picture.gpus) == 8
    assert picture.now_ms == START_MS


@pytest.mark.parametrize(("first_seconds", "given"), [(30.0, True), (0.05, False)])
def test_a_slow_node_gets_longer_for_its_first_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first_seconds: float, given: bool
) -> None:
    """What is waited for is a whole picture; one that is not whole is better than none."""
    real = feeding.snapshots

    async def late(client: Client, *, interval: float) -> AsyncGenerator[Snapshot]:
        await asyncio.sleep(0.3)
        async with aclosing(real(client, interval=interval)) as pictures:
            async for picture in pictures:
                yield picture

    monkeypatch.setattr(feeding, "snapshots", late)

    async def take(target: str) -> Snapshot:
        async with Client(target) as client:
            return await take_snapshot(client, wait_seconds=0.01, first_seconds=first_seconds)

    with FakeDaemon(tmp_path / "d.sock").serving() as target:
        if given:
            assert len(asyncio.run(take(target)).gpus) == 8
        else:
            with pytest.raises(Unreachable, match="no picture in time"):
                asyncio.run(take(target))


class Prometheus:
    """The part of ``Client`` that a plain Prometheus can answer."""

    target = "http://prometheus:9090"

    def __init__(self) -> None:
        self.asked: list[tuple[str, float, float]] = []

    async def query(self, expr: str, at_ms: int) -> tuple[Series, ...]:
        if expr == "bad":
            raise Refused("parse error", self.target, status=400)
        return (Series({"job": "x"}, (at_ms / 1000, "2.5")), Series({"job": "y"}, (at_ms / 1000, "NaN")))

    async def query_range(self, expr: str, start_ms: int, end_ms: int, step: float) -> tuple[Series, ...]:
        self.asked.append((expr, start_ms / 1000, end_ms / 1000))
        times = range(start_ms, end_ms + 1, int(step * 1000))
        return (Series({"job": "x"}, None, tuple((at / 1000, "1") for at in times)),)

    async def alerts(self) -> tuple[AlertRow, ...]:
        return ()


def test_a_prometheus_is_asked_for_the_past_once_and_then_for_what_is_new() -> None:
    server: Any = Prometheus()
    clock = iter([1000.0, 1020.0])

    async def two_frames() -> list[Any]:
        asked = [Query("a", "up"), Query("bad", "bad"), Query("r_h", "up", 60, 10)]
        async with aclosing(poll(server, asked, interval=0, now=lambda: next(clock))) as frames:
            return [await anext(frames), await anext(frames)]

    first, second = asyncio.run(two_frames())
    assert first.results["a"].labels == ({"job": "x"}, {"job": "y"})
    assert first.results["a"].values == [2.5, None]
    assert second.results["a"].labels is None
    assert first.results["bad"].error == "parse error"
    assert server.asked == [("up", 940, 1000), ("up", 1010, 1020)]
    assert first.results["r_h"].reset
    assert len(first.results["r_h"].times) == 7
    assert second.results["r_h"].times == [1_010_000, 1_020_000]
    assert not second.results["r_h"].reset


def test_a_query_that_was_refused_once_answers_again_without_a_new_connection() -> None:
    class Busy(Prometheus):
        refuses = False

        async def query(self, expr: str, at_ms: int) -> tuple[Series, ...]:
            self._check()
            return await super().query(expr, at_ms)

        async def query_range(self, expr: str, start_ms: int, end_ms: int, step: float) -> tuple[Series, ...]:
            self._check()
            return await super().query_range(expr, start_ms, end_ms, step)

        def _check(self) -> None:
            if self.refuses:
                raise Refused("too many queries", self.target, status=503)

    server: Any = Busy()
    results = Results("http://x", 60_000)

    async def ask() -> None:
        asking = Asking(server, [Query("a", "up"), Query("r_h", "up", 60, 10)])
        for number, server.refuses in enumerate((False, True, False, False)):
            now_ms = 1_000_000 + number * 20_000
            results.apply(Frame(number, now_ms, await asking.results(now_ms)))
            assert (sorted(results.problems) == ["a", "r_h"]) is server.refuses

    asyncio.run(ask())
    assert [value for _, _, value in results.rows("a")] == [2.5]
    ((_, history),) = results.windows["r_h"].histories()
    assert (history.times[0], history.times[-1]) == (1_000_000, 1_060_000)


@pytest.mark.parametrize(("status", "told"), [(404, ()), (503, None)])
def test_alerts_that_a_busy_prometheus_does_not_tell_are_not_over(status: int, told: object) -> None:
    class Silent(Prometheus):
        async def alerts(self) -> tuple[AlertRow, ...]:
            raise Refused("not now", self.target, status=status)

    server: Any = Silent()

    async def frame() -> Frame:
        async with aclosing(poll(server, [], interval=0)) as frames:
            return await anext(frames)

    assert asyncio.run(frame()).alerts == told, "none, or as they were before"


@pytest.mark.parametrize(("age", "at"), [("NaN", None), ("+Inf", None), ("-Inf", None), ("3", 997_000)])
def test_an_age_that_is_no_number_is_none(age: str, at: int | None) -> None:
    class Prometheus:
        part = None

        async def query(self, expr: str, at: float | None = None) -> tuple[Series, ...]:
            return (Series({"source": "nvml", "instance": "a"}, (1.0, age if "age" in expr else "1")),)

    server: Any = Prometheus()
    (row,) = asyncio.run(feeding.sources_of(server, 1_000_000))
    assert row.last_success_ms == at
