"""Heartbeats with moved time: called each minute while gpumon is well, and never shown."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from monitor.notify.heartbeat import EVERY, Heartbeats
from monitor.samples import ScrapeBuilder, format_labels
from tests.certificates import Authority
from tests.http_server import answer, hang_up, never, serve
from tests.notify.parts import T0, Time, Url, wait_for

SECRET = Url("https://ping.example/5b1f2c9e-secret")
OTHER = Url("https://ping.example/other-secret")


class Pinged:
    """What the URLs' server saw: when each was called. ``answers`` are the first statuses, then 200."""

    def __init__(self, clock: Time) -> None:
        self.calls: list[tuple[float, str]] = []
        self.answers: list[int | Exception] = []
        self._clock = clock

    def client(self) -> httpx.AsyncClient:
        def handle(request: httpx.Request) -> httpx.Response:
            self.calls.append(((self._clock() - T0) / 1000, request.url.path))
            assert request.method == "GET"
            found = self.answers.pop(0) if self.answers else 200
            if isinstance(found, Exception):
                raise found
            return httpx.Response(found)

        return httpx.AsyncClient(transport=httpx.MockTransport(handle))

    @property
    def at(self) -> list[float]:
        """Seconds after the start, of each call."""
        return [seconds for seconds, _ in self.calls]


class Steps(Time):
    """A clock that goes on when the heartbeats and everybody of ``acts`` sleep, and not before, however slow the
    machine is."""

    def __init__(self) -> None:
        super().__init__()
        self.acts: list[asyncio.Task[None]] = []

    async def drive(self, until: Callable[[], bool], *, move: bool = True) -> None:
        async with asyncio.timeout(60):
            while not until():
                self._sleepers = [(at, future) for at, future in self._sleepers if not future.done()]
                if move and len(self._sleepers) > sum(not act.done() for act in self.acts):
                    at, future = min(self._sleepers, key=lambda sleeper: sleeper[0])
                    self.now_ms = max(self.now_ms, at)
                    future.set_result(None)
                await asyncio.sleep(0.001)


class Stage:
    """Heartbeats with a clock that the test moves."""

    def __init__(self, urls: Iterable[Url] = (SECRET,)) -> None:
        self.clock = Steps()
        self.seen = Pinged(self.clock)
        self.why = ""
        self.urls = tuple(urls)

    def play(
        self, until: Callable[[Heartbeats], bool], *more: tuple[Callable[[Heartbeats], None], float]
    ) -> Heartbeats:
        """Run until ``until`` holds; ``more`` are acts and their seconds after the start."""

        async def work() -> Heartbeats:
            async with self.seen.client() as client:
                beats = Heartbeats(self.urls, lambda: self.why, self.clock, self.clock.sleep, client=client)
                running = asyncio.create_task(beats.run())
                acts = self.clock.acts = [asyncio.create_task(self._act(beats, act, at)) for act, at in more]
                await self.clock.drive(lambda: until(beats))
                await beats.close()
                async with asyncio.timeout(20):
                    await running
                for task in acts:
                    task.cancel()
                    with suppress(asyncio.CancelledError):
                        await task
                return beats

        return asyncio.run(work())

    async def _act(self, beats: Heartbeats, act: Callable[[Heartbeats], None], at: float) -> None:
        await self.clock.sleep(at)
        act(beats)


def test_a_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> bytes:
        clock = Steps()
        async with serve(answer(b"OK")) as proxy:
            monkeypatch.setenv("HTTP_PROXY", proxy.url)
            monkeypatch.delenv("NO_PROXY", raising=False)
            beats = Heartbeats([Url("http://ping.example/5b1f")], lambda: "", clock, clock.sleep, deadline=60)
            running = asyncio.create_task(beats.run())
            await clock.drive(lambda: beats.status()[0].last_ok_ms == T0, move=False)
            await beats.close()
            await running
            return proxy.requests[0]

    assert asyncio.run(work()).startswith(b"GET http://ping.example/5b1f HTTP/1.1\r\n")


def series(beats: Heartbeats) -> dict[str, float]:
    builder = ScrapeBuilder()
    beats.add_to(builder)
    scrape = builder.build(T0)
    return {format_labels(s): v for s, v in zip(scrape.shape.series, scrape.values, strict=True)}


def test_each_url_is_called_at_once_and_then_each_minute() -> None:
    stage = Stage([SECRET, OTHER])
    beats = stage.play(lambda _: len(stage.seen.calls) >= 6)
    assert stage.seen.at == [0, 0, EVERY, EVERY, 2 * EVERY, 2 * EVERY]
    assert {path for _, path in stage.seen.calls} == {"/5b1f2c9e-secret", "/other-secret"}
    assert [(each.number, each.last_ok_ms, each.failures) for each in beats.status()] == [
        (0, T0 + 120_000, 0),
        (1, T0 + 120_000, 0),
    ]
    assert series(beats)['gpumon_heartbeat_last_success_timestamp_seconds{heartbeat="1"}'] == T0 / 1000 + 120


def test_a_node_that_is_not_well_is_silent_and_calls_soon_after_it_is_well_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    stage = Stage()

    def ill(beats: Heartbeats) -> None:
        stage.why = "the source nvml is 90 s old"

    def well(beats: Heartbeats) -> None:
        (status,) = beats.status()
        assert status.withheld == "the source nvml is 90 s old"
        stage.why = ""

    caplog.set_level("INFO")
    stage.play(lambda _: len(stage.seen.calls) >= 4, (ill, 70), (well, 303))
    assert stage.seen.at == [0, 60, 305, 365]
    assert "heartbeats are withheld: the source nvml is 90 s old" in caplog.text
    assert caplog.text.count("heartbeats are sent again") == 1


def test_that_nothing_was_read_yet_at_its_begin_is_no_trouble(caplog: pytest.LogCaptureFixture) -> None:
    stage = Stage()
    stage.why = "nvml is not read: not asked yet"

    def well(beats: Heartbeats) -> None:
        assert beats.status()[0].withheld
        stage.why = ""

    caplog.set_level("INFO")
    stage.play(lambda _: len(stage.seen.calls) >= 1, (well, 3))
    assert stage.seen.at == [5]
    assert "heartbeats" not in caplog.text


def test_a_call_that_failed_is_tried_once_more_after_five_seconds() -> None:
    stage = Stage()
    stage.seen.answers = [500]
    beats = stage.play(lambda _: len(stage.seen.calls) >= 3)
    assert stage.seen.at == [0, 5, 60]
    (status,) = beats.status()
    assert (status.failures, status.last_error) == (1, "")


def test_two_failures_are_an_error_until_the_next_minute(caplog: pytest.LogCaptureFixture) -> None:
    stage = Stage()
    stage.seen.answers = [500, 503]
    errors: list[str] = []
    beats = stage.play(
        lambda _: len(stage.seen.calls) >= 3, (lambda beats: errors.append(beats.status()[0].last_error), 30)
    )
    assert stage.seen.at == [0, 5, 60]
    assert errors == ["HTTP 503"]
    (status,) = beats.status()
    assert (status.failures, status.last_error, status.last_ok_ms) == (2, "", T0 + 60_000)
    assert "heartbeat 0 failed: HTTP 503" in caplog.text


def test_one_that_never_succeeded_is_old_from_the_beginning() -> None:
    stage = Stage()
    stage.seen.answers = [404, 404]
    beats = stage.play(lambda beats: beats.status()[0].failures == 2)
    assert series(beats) == {
        'gpumon_heartbeat_last_success_timestamp_seconds{heartbeat="0"}': 0,
        'gpumon_heartbeat_failures_total{heartbeat="0"}': 2,
    }
    assert series(Heartbeats([], lambda: "", stage.clock)) == {}


def test_other_urls_are_called_at_once_and_those_that_stay_keep_their_counts() -> None:
    stage = Stage([SECRET])
    stage.seen.answers = [500, 200]
    beats = stage.play(lambda _: len(stage.seen.calls) >= 4, (lambda beats: beats.reload([OTHER, SECRET]), 20))
    assert [(at, path) for at, path in stage.seen.calls[2:]] == [(20, "/other-secret"), (20, "/5b1f2c9e-secret")]
    assert [each.failures for each in beats.status()] == [0, 1]


@pytest.mark.parametrize(
    ("failure", "why"),
    [
        (httpx.ConnectError("All connection attempts failed"), "connection refused"),
        (httpx.ConnectError("[Errno -2] no such host ping.example"), "cannot connect: no such host ping.example"),
        (httpx.ReadError("5b1f2c9e-secret broke"), "the connection broke: *** broke"),
        (httpx.ReadTimeout(""), "no answer in 10 s"),
        (RuntimeError("https://ping.example/5b1f2c9e-secret"), "unforeseen: RuntimeError"),
        (302, "HTTP 302: a redirect is not followed, write the URL that it leads to"),
    ],
)
def test_what_went_wrong_is_said_without_the_url(
    failure: int | Exception, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    stage = Stage()

    def handle(request: httpx.Request) -> httpx.Response:
        if isinstance(failure, Exception):
            raise failure
        return httpx.Response(failure, headers={"Location": "https://elsewhere.example/"})

    async def work() -> str:
        async with httpx.AsyncClient(transport=httpx.MockTransport(handle)) as client:
            beats = Heartbeats([SECRET], lambda: "", stage.clock, stage.clock.sleep, client=client)
            running = asyncio.create_task(beats.run())
            await stage.clock.drive(lambda: beats.status()[0].failures == 2)
            await beats.close()
            await running
            return beats.status()[0].last_error

    assert asyncio.run(work()) == why
    assert "5b1f2c9e" not in caplog.text
    assert "5b1f2c9e" not in repr(SECRET)


def test_a_secret_that_cannot_be_read_is_said_and_the_others_are_called() -> None:
    stage = Stage([Url("missing:"), OTHER])
    beats = stage.play(lambda beats: beats.status()[0].failures == 2)
    assert [each.last_error for each in beats.status()] == ["the environment variable NOWHERE is not set", ""]
    assert len(stage.seen.calls) == 1


@pytest.mark.parametrize(
    ("handler", "why"), [(never, "no answer in 0.2 s"), (answer(b"", "410 Gone"), "HTTP 410"), (hang_up, "")]
)
def test_a_real_server(handler: object, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over a real connection; an answer that breaks off after a good beginning was still a call that arrived."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")

    async def work() -> None:
        clock = Steps()
        async with serve(handler) as server:  # type: ignore[arg-type]
            deadline = 0.2 if handler is never else 60
            beats = Heartbeats([Url(f"{server.url}/ping")], lambda: "", clock, clock.sleep, deadline=deadline)
            running = asyncio.create_task(beats.run())
            done = (lambda: beats.status()[0].failures == 2) if why else (lambda: beats.status()[0].last_ok_ms == T0)
            await clock.drive(done, move=bool(why))
            await beats.close()
            await running
            assert beats.status()[0].last_error == why
            # On a slow machine the time may be over before the request is sent.
            assert handler is never or server.requests[0].startswith(b"GET /ping HTTP/1.1\r\n")

    asyncio.run(work())


@pytest.mark.parametrize("url", ["ping.example/5b1f", "https://ping.example:port/5b1f", "ftp://ping.example/5b1f"])
def test_what_is_no_url_is_said_and_not_shown(url: str, caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> str:
        clock = Steps()
        beats = Heartbeats([Url(url)], lambda: "", clock, clock.sleep)
        running = asyncio.create_task(beats.run())
        await clock.drive(lambda: beats.status()[0].failures == 2)
        await beats.close()
        await running
        return beats.status()[0].last_error

    assert asyncio.run(work()) == "it is not a URL that can be called"
    assert "5b1f" not in caplog.text


def test_one_that_hangs_delays_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")

    async def work() -> None:
        clock = Steps()
        async with serve(never) as hanging, serve(answer(b"OK")) as quick:
            urls = [Url(hanging.url), Url(quick.url)]
            beats = Heartbeats(urls, lambda: "", clock, clock.sleep, deadline=60)
            running = asyncio.create_task(beats.run())
            await wait_for(lambda: beats.status()[1].last_ok_ms == T0)
            assert beats.status()[0].last_ok_ms is None
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    asyncio.run(work())


def test_authorities_that_were_replaced_are_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    ours, others = Authority(tmp_path / "ours"), Authority(tmp_path / "others", "other")
    monkeypatch.setenv("SSL_CERT_FILE", str(ours.ca))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*others.sign("server"))

    async def work() -> str:
        clock = Steps()
        async with serve(answer(b"OK"), context) as server:
            beats = Heartbeats([Url(f"{server.url}/5b1f")], lambda: "", clock, clock.sleep, deadline=60)
            running = asyncio.create_task(beats.run())
            await clock.drive(lambda: beats.status()[0].failures == 2)
            why = beats.status()[0].last_error
            ours.ca.write_bytes(others.ca.read_bytes())
            await clock.drive(lambda: beats.status()[0].last_ok_ms is not None)
            await beats.close()
            await running
            return why

    assert asyncio.run(work()) == "the certificate is not trusted: unable to get local issuer certificate"
