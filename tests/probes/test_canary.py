"""The canary: when one is sent, what is made of what comes, and what it never does."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from monitor.probes.canary import STATES, CanarySource, Judgement, Kind, Outcome
from monitor.samples import Scrape, format_labels
from monitor.sources.vllm import VllmSource
from monitor.sources.vllm_health import EngineSource
from tests.http_server import Server, answer, serve

IDLE = (Path(__file__).parent.parent / "data" / "idle.prom").read_bytes()
MODELS = json.dumps({"data": [{"id": "lora", "parent": "tiny"}, {"id": "tiny", "max_model_len": 1024}]}).encode()
S = 1_000
TOKEN = b'{"choices":[{"text":"a"}]}'


# -- what is made of it: pure, with moved time -------------------------------------------------------------------------


def outcome(kind: Kind, seconds: float = 10.0) -> Outcome:
    return Outcome(kind, "" if kind == "answered" else "no token in 10 s", seconds)


class Timeline:
    """A judgement on its way, a second at a time."""

    def __init__(self) -> None:
        self.judgement = Judgement(30 * S)
        self.now_ms = 1_000_000
        self.steps = 100.0
        self.judgement.see(self.now_ms, self.steps)

    def pass_(self, seconds: int, *, busy: bool = False) -> bool:
        """Let so many seconds pass; whether a canary was due in any of them."""
        due = False
        for _ in range(seconds):
            self.now_ms += S
            self.steps += busy
            self.judgement.see(self.now_ms, self.steps)
            due = due or self.judgement.due(self.now_ms)
        return due

    def until_due(self, most: int = 400) -> int:
        """Seconds until the next is due, which is then sent."""
        for waited in range(1, most):
            if self.pass_(1):
                self.judgement.sent()
                return waited
        raise AssertionError("none is due")

    def fail(self, seconds: int = 10, *, busy: bool = False) -> str:
        """The one in flight gets no answer in so many seconds; the state then."""
        self.pass_(seconds, busy=busy)
        self.judgement.came(self.now_ms, outcome("silent"))
        return self.judgement.state

    def succeed(self) -> str:
        """It gets its token, which is a step of the engine's; the state then."""
        self.judgement.came(self.now_ms, outcome("answered", 0.02))
        self.steps += 1
        self.pass_(1)
        return self.judgement.state


def test_a_busy_engine_is_never_asked() -> None:
    line = Timeline()
    assert not line.pass_(600, busy=True)
    assert line.judgement.state == "alive"


def test_an_engine_that_stands_still_is_asked_after_half_a_minute_and_then_each_half_minute_at_most() -> None:
    line = Timeline()
    assert line.until_due() == 30
    assert line.succeed() == "alive"
    # Its own token was a step, seen a second after: from then on it stands still.
    assert [line.until_due() for _ in range(3) if line.succeed() == "alive"] == [30, 30, 30]


def test_an_answer_without_a_step_does_not_bring_the_next_one_nearer() -> None:
    line = Timeline()
    line.until_due()
    line.judgement.came(line.now_ms, outcome("answered"))
    assert line.until_due() == 30


def test_work_in_between_puts_the_next_one_off() -> None:
    line = Timeline()
    assert not line.pass_(29)
    assert not line.pass_(1, busy=True)
    assert line.until_due() == 30


def test_two_that_failed_without_a_step_are_a_frozen_engine() -> None:
    line = Timeline()
    line.until_due()
    assert line.fail() == "idle"
    assert line.judgement.failures == 1
    assert line.until_due() == 5
    assert line.fail() == "frozen"
    assert line.judgement.failures == 2
    assert line.until_due() == 30, "a frozen one is asked on, so that its recovery is seen"
    assert line.fail() == "frozen"


def test_a_frozen_engine_that_makes_a_step_is_alive_at_once() -> None:
    line = Timeline()
    line.until_due()
    line.fail()
    line.until_due()
    assert line.fail() == "frozen"
    line.pass_(1, busy=True)
    assert (line.judgement.state, line.judgement.failures, line.judgement.last) == ("alive", 0, None)
    assert line.until_due() == 30


def test_a_frozen_engine_that_answers_is_alive() -> None:
    line = Timeline()
    line.until_due()
    line.fail()
    line.until_due()
    line.fail()
    line.until_due()
    assert line.succeed() == "alive"
    assert line.judgement.failures == 0


def test_a_step_between_two_failures_is_no_frozen_engine() -> None:
    line = Timeline()
    line.until_due()
    line.fail()
    line.pass_(1, busy=True)
    line.until_due()
    assert line.fail() == "idle"


def test_one_that_fails_while_steps_are_made_is_an_overloaded_engine() -> None:
    line = Timeline()
    line.until_due()
    assert line.fail(busy=True) == "overloaded"
    assert not line.pass_(29, busy=True)
    assert line.judgement.state == "overloaded", "steps alone are no answer"
    assert line.pass_(1, busy=True), "it is asked again, though it makes steps: nothing else ends it"
    line.judgement.sent()
    assert line.succeed() == "alive"


def test_an_overloaded_engine_that_freezes_is_frozen() -> None:
    line = Timeline()
    line.until_due()
    line.fail(busy=True)
    line.until_due()
    assert line.fail() == "overloaded"
    assert line.until_due() == 5
    assert line.fail() == "frozen"


def test_a_restarted_engine_counts_from_the_beginning() -> None:
    line = Timeline()
    line.until_due()
    line.fail()
    line.until_due()
    line.fail()
    line.steps = 0.0
    line.pass_(1)
    assert line.judgement.state == "alive"


def test_what_is_refused_is_no_failure_and_is_seldom_asked_again() -> None:
    line = Timeline()
    line.until_due()
    line.judgement.came(line.now_ms, Outcome("refused", "HTTP 404", 0.01))
    assert (line.judgement.state, line.judgement.failures) == ("unreadable", 0)
    assert line.judgement.last is None
    line.pass_(1, busy=True)
    assert line.judgement.state == "alive"
    assert line.until_due() == 299


def test_a_server_that_takes_no_more_for_now_is_asked_again_soon() -> None:
    line = Timeline()
    line.until_due()
    line.judgement.came(line.now_ms, Outcome("shed", "HTTP 503", 0.01))
    assert (line.judgement.state, line.judgement.failures, line.judgement.last) == ("unreadable", 0, None)
    assert line.until_due() == 30


def test_errors_of_the_server_are_failures_and_no_frozen_engine() -> None:
    line = Timeline()
    for failures in (1, 2, 3):
        line.until_due()
        line.judgement.came(line.now_ms, Outcome("broken", "HTTP 500", 0.01))
        assert (line.judgement.state, line.judgement.failures) == ("unreadable", failures)
        assert line.judgement.last is not None


def test_a_reading_does_not_outlive_what_it_says() -> None:
    line = Timeline()
    line.until_due()
    line.succeed()
    assert line.judgement.last is not None
    line.pass_(100, busy=True)
    assert line.judgement.last is None


def test_stillness_is_only_what_was_seen() -> None:
    line = Timeline()
    line.pass_(20)
    line.now_ms += 60 * S
    line.judgement.lose_sight(line.now_ms)
    assert line.until_due() == 30


# -- what is sent: against a server ------------------------------------------------------------------------------------


async def until(what: Callable[[], bool]) -> None:
    """Wait until it is so."""
    while not what():  # noqa: ASYNC110 - what is waited for tells nobody
        await asyncio.sleep(0.005)


def gone(writer: asyncio.StreamWriter) -> bool:
    """Whether the client has closed its end: the kernel's word, as the request's body is never read."""
    established = 1
    state: bytes = writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)
    return state[0] != established


class Engine:
    """A server with one engine. ``completions`` answers the canaries; ``steps`` is its counter."""

    def __init__(self) -> None:
        self.steps = 10
        self.extra = b""
        self.paths: dict[str, bytes | int] = {"/health": b"", "/version": b"{}", "/v1/models": MODELS}
        self.metrics = IDLE
        self.completion: tuple[str, bytes] | None = ("200 OK", TOKEN)
        """None for no answer, as 0 in ``paths``."""
        self.hangs_up = False
        """Whether it ends the connections that it does not answer."""
        self.hangs_up = False
        """Whether it ends the connections that it does not answer."""
        self.asked: list[bytes] = []
        self.open = 0
        self.most_open = 0

    async def __call__(self, request: bytes, writer: asyncio.StreamWriter) -> None:
        path = request.split()[1].decode()
        if path == "/v1/completions":
            self.asked.append(request)
            self.open += 1
            self.most_open = max(self.open, self.most_open)
            try:
                if self.completion is None:
                    await until(lambda: self.hangs_up or gone(writer))
                    writer.close()
                else:
                    status, body = self.completion
                    await answer(body, status)(request, writer)
                    writer.close()  # asked for by Connection: close; what follows is the request's body
            finally:
                self.open -= 1
            return
        if path == "/metrics":
            count = rb"(?m)^(vllm:iteration_tokens_total_count\{.*\}) \S+$"
            body, found = re.subn(count, rb"\1 %d" % self.steps, self.metrics)
            assert found or b"iteration" not in self.metrics
            await answer(body + self.extra)(request, writer)
            return
        answered = self.paths.get(path, 404)
        if answered == 0:
            await until(lambda: gone(writer))
            writer.close()
        elif isinstance(answered, bytes):
            await answer(answered)(request, writer)
        else:
            await answer(b"no", f"{answered} X")(request, writer)


def in_flight() -> bool:
    return any(task.get_name() == "canary n1:8000" for task in asyncio.all_tasks())


class Watched:
    """The three sources of a server, polled together with moved time."""

    def __init__(
        self, server: Server, engine: Engine, deadline: float, model: str = "", key: str | None = None
    ) -> None:
        self.server = server
        self.engine = engine
        self.now_ms = 1_000_000
        self.metrics = VllmSource(server.url, "n1:8000", api_key=key)
        self.health = EngineSource(server.url, "n1:8000", self.metrics, api_key=key)
        self.canary = CanarySource(
            server.url, "n1:8000", self.metrics, self.health, deadline_seconds=deadline, model=model, api_key=key
        )

    async def poll(self, seconds: float = 1.0, *, scrape: bool = True) -> Scrape:
        """What the canary says so many seconds later."""
        self.now_ms += round(seconds * 1000)
        if scrape:
            await self.metrics.poll(self.now_ms)
            await self.health.poll(self.now_ms)
        return await self.canary.poll(self.now_ms)

    async def asked(self) -> Scrape:
        """What it says once the one in flight is over."""
        await until(lambda: not in_flight())
        return await self.poll()

    async def close(self) -> None:
        for source in (self.canary, self.health, self.metrics):
            await source.close()


def run(
    story: Callable[[Watched], Awaitable[None]],
    engine: Engine | None = None,
    *,
    deadline: float = 20.0,
    model: str = "",
    key: str | None = None,
) -> None:
    async def work() -> None:
        one = engine or Engine()
        async with serve(one) as server:
            watched = Watched(server, one, deadline, model, key)
            try:
                await watched.poll()
                await story(watched)
            finally:
                await watched.close()

    asyncio.run(work())


def readings(scrape: Scrape) -> dict[str, float]:
    return {format_labels(s): v for s, v in zip(scrape.shape.series, scrape.values, strict=True)}


SUCCESS = 'probe_success{probe="canary",server="n1:8000"}'
DURATION = 'probe_duration_seconds{probe="canary",server="n1:8000"}'
FAILURES = 'gpumon_canary_failures{server="n1:8000"}'


def state_of(scrape: Scrape) -> str:
    got = readings(scrape)
    states = {str(name): got[f'gpumon_canary_state{{server="n1:8000",state="{name}"}}'] for name in STATES}
    assert sorted(states.values()) == [0, 0, 0, 0, 1]
    assert states[scrape.facts["state"]] == 1
    return scrape.facts["state"]


def test_one_token_is_asked_for_once_the_engine_has_stood_still() -> None:
    async def story(one: Watched) -> None:
        for _ in range(29):
            assert state_of(await one.poll()) == "idle"
        assert one.engine.asked == []
        await one.poll()
        scrape = await one.asked()
        assert len(one.engine.asked) == 1
        assert state_of(scrape) == "alive"
        assert readings(scrape)[SUCCESS] == 1
        assert 0 < readings(scrape)[DURATION] < 20
        assert readings(scrape)[FAILURES] == 0

    run(story, key="hush")


def test_the_request_is_small_and_its_own() -> None:
    bodies: list[dict[str, object]] = []
    heads: list[str] = []

    async def work() -> None:
        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            head = await reader.readuntil(b"\r\n\r\n")
            heads.append(head.decode())
            length = int(re.findall(rb"(?i)content-length: (\d+)", head)[0])
            bodies.append(json.loads(await reader.readexactly(length)))
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(connected, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        metrics = VllmSource(url, "n1:8000")
        canary = CanarySource(url, "n1:8000", metrics, EngineSource(url, "n1:8000", metrics), model="m", api_key="hush")
        for _ in range(2):
            assert (await canary._send()).kind == "answered"
        server.close()
        await server.wait_closed()

    asyncio.run(work())
    salts = [body.pop("cache_salt") for body in bodies]
    assert len(set(salts)) == 2
    assert all(salts)
    assert bodies == [{"model": "m", "prompt": ".", "max_tokens": 1, "temperature": 0}] * 2
    for head in heads:
        assert head.startswith("POST /v1/completions HTTP/1.1\r\n")
        assert "authorization: bearer hush" in head.lower()
        assert "connection: close" in head.lower()
        assert "x-request-id: gpumon-canary-" in head.lower()


def test_a_silent_engine_is_asked_one_at_a_time_and_found_frozen() -> None:
    async def story(one: Watched) -> None:
        one.engine.completion = None
        await one.poll()
        await one.poll(30)
        for _ in range(60):
            await one.poll()
        assert len(one.engine.asked) == 1, "the first is still in flight"
        one.engine.hangs_up = True
        scrape = await one.asked()
        assert state_of(scrape) == "idle"
        assert (readings(scrape)[SUCCESS], readings(scrape)[FAILURES]) == (0, 1)
        assert "the connection broke" in scrape.facts["reason"]
        await one.poll(5)
        scrape = await one.asked()
        assert state_of(scrape) == "frozen"
        assert (readings(scrape)[SUCCESS], readings(scrape)[FAILURES]) == (0, 2)
        assert (len(one.engine.asked), one.engine.most_open) == (2, 1)
        one.engine.steps += 1
        scrape = await one.poll()
        assert state_of(scrape) == "alive"
        assert SUCCESS not in readings(scrape)
        assert readings(scrape)[FAILURES] == 0

    run(story)


def test_a_token_that_does_not_come_in_time_is_a_failure() -> None:
    async def story(one: Watched) -> None:
        one.engine.completion = None
        await one.poll(30)
        scrape = await one.asked()
        assert scrape.facts["reason"] == "no token in 0.4 s"
        assert (readings(scrape)[SUCCESS], readings(scrape)[FAILURES]) == (0, 1)
        assert readings(scrape)[DURATION] >= 0.4
        await until(lambda: one.engine.open == 0)

    run(story, deadline=0.4)


def test_one_that_fails_while_others_are_served_means_overloaded() -> None:
    async def story(one: Watched) -> None:
        one.engine.completion = None
        await one.poll()
        await one.poll(30)
        one.engine.steps += 5
        scrape = await one.asked()
        assert state_of(scrape) == "overloaded"
        one.engine.completion = ("200 OK", TOKEN)
        await one.poll(30)
        assert state_of(await one.asked()) == "alive"

    run(story, deadline=0.4)


def test_a_connection_that_breaks_is_a_failure() -> None:
    async def story(one: Watched) -> None:
        one.engine.completion = ("200 OK\r\nContent-Length: 900", b"{")
        await one.poll()
        await one.poll(30)
        scrape = await one.asked()
        assert readings(scrape)[SUCCESS] == 0
        assert readings(scrape)[FAILURES] == 1

    run(story)


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        ("401 X", b'{"error":"Unauthorized"}', "HTTP 401 (is the api_key right?)"),
        ("403 X", b"", "HTTP 403 (is the api_key right?)"),
        ("404 X", b'{"error":{"message":"The model `tiny` does not exist."}}', "HTTP 404: The model `tiny` does not"),
        ("400 X", b'{"message":"The model does not support Completions API"}', "HTTP 400: The model does not support"),
        ("501 X", b'{"error":{"message":"not supported"}}', "HTTP 501: not supported"),
        ("503 X", b"loading", "HTTP 503"),
        ("302 X", b"", "HTTP 302"),
    ],
)
def test_what_refuses_gives_no_reading_and_a_reason(status: str, body: bytes, words: str) -> None:
    async def story(one: Watched) -> None:
        one.engine.completion = (status, body)
        await one.poll()
        await one.poll(30)
        scrape = await one.asked()
        assert state_of(scrape) == "unreadable"
        assert scrape.facts["reason"].startswith(words)
        assert not {SUCCESS, DURATION} & set(readings(scrape))
        assert readings(scrape)[FAILURES] == 0
        await one.poll(20)
        assert len(one.engine.asked) == 1

    run(story)


def test_too_many_requests_come_from_the_living() -> None:
    async def story(one: Watched) -> None:
        one.engine.completion = ("429 X", b"")
        await one.poll()
        await one.poll(30)
        scrape = await one.asked()
        assert state_of(scrape) == "alive"
        assert readings(scrape)[SUCCESS] == 1

    run(story)


def test_an_error_of_the_server_is_a_failure_with_its_reason() -> None:
    async def story(one: Watched) -> None:
        one.engine.completion = ("500 X", b'{"error":{"message":"EngineCore\\nencountered an issue"}}')
        await one.poll()
        await one.poll(30)
        scrape = await one.asked()
        assert state_of(scrape) == "unreadable"
        assert scrape.facts["reason"] == "HTTP 500: EngineCore encountered an issue"
        assert readings(scrape)[SUCCESS] == 0

    run(story)


ASLEEP = IDLE.replace(b'sleep_state="awake"} 1.0', b'sleep_state="awake"} 0.0').replace(
    b'sleep_state="weights_offloaded"} 0.0', b'sleep_state="weights_offloaded"} 1.0'
)
PROFILE = b'http_requests_total{handler="/start_profile",method="POST",status="2xx"} 1.0\n'
UNCOUNTED = re.sub(rb"(?m)^vllm:(iteration|generation|prompt)_tokens_(total_)?(count|total)?.*$", b"", IDLE)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"metrics": ASLEEP}, "it sleeps (weights offloaded)"),
        ({"extra": PROFILE}, "its profiler runs"),
        ({"paths": {"/health": 503, "/v1/models": MODELS}}, "the server is down"),
        ({"paths": {"/health": b"", "/v1/models": 401}}, "its model is not known /v1/models: HTTP 401 (is the api_key"),
        ({"paths": {"/health": b"", "/v1/models": b"{}"}}, "its model is not known"),
        ({"metrics": b"vllm:num_requests_running 0\n"}, "it does not count its steps"),
        ({"metrics": b"go_threads 8\n"}, "/metrics gives no readings"),
    ],
)
def test_what_must_not_be_asked_is_not(change: dict[str, object], words: str) -> None:
    async def story(one: Watched) -> None:
        for _ in range(3):
            scrape = await one.poll(31)
        assert state_of(scrape) == "unreadable"
        assert scrape.facts["reason"].startswith(f"not asked: {words}")
        assert one.engine.asked == []
        assert SUCCESS not in readings(scrape)

    engine = Engine()
    for name, value in change.items():
        setattr(engine, name, value)
    run(story, engine)


def test_a_profile_that_was_stopped_hinders_nothing() -> None:
    async def story(one: Watched) -> None:
        assert one.metrics.profiling
        one.engine.extra = PROFILE + PROFILE.replace(b"start", b"stop")
        assert state_of(await one.poll()) == "idle"
        one.engine.extra = PROFILE.replace(b"1.0", b"2.0") + PROFILE.replace(b"start", b"stop")
        assert state_of(await one.poll()) == "unreadable"

    engine = Engine()
    engine.extra = PROFILE
    run(story, engine)


def test_a_server_whose_metrics_are_gone_is_not_asked_and_its_stillness_begins_anew() -> None:
    async def story(one: Watched) -> None:
        await one.poll(20)
        scrape = await one.poll(20, scrape=False)
        assert state_of(scrape) == "unreadable"
        assert scrape.facts["reason"] == "not asked: /metrics gives no readings"
        for _ in range(29):
            assert state_of(await one.poll()) == "idle"
        assert one.engine.asked == []
        await one.poll()
        assert state_of(await one.asked()) == "alive"

    run(story)


def test_a_late_health_takes_nothing_back() -> None:
    async def story(one: Watched) -> None:
        one.engine.completion = None
        await one.poll()
        await one.poll(30)
        await one.asked()
        one.engine.paths["/health"] = 0
        one.health.deadline = 0.2
        await one.poll(5)
        assert one.health.state == "down"
        assert state_of(await one.asked()) == "frozen"

    run(story, deadline=0.4)


def test_what_was_in_flight_as_the_server_fell_asleep_is_no_failure() -> None:
    async def story(one: Watched) -> None:
        one.engine.completion = None
        await one.poll()
        await one.poll(30)
        one.engine.metrics = ASLEEP
        await one.poll()
        assert state_of(await one.asked()) == "unreadable"
        one.engine.metrics = IDLE
        scrape = await one.poll()
        assert (state_of(scrape), readings(scrape)[FAILURES]) == ("idle", 0)

    run(story, deadline=0.4)


def test_the_configured_model_is_asked_for_where_the_server_names_none() -> None:
    async def story(one: Watched) -> None:
        await one.poll(31)
        assert state_of(await one.asked()) == "alive"

    engine = Engine()
    engine.paths["/v1/models"] = 401
    run(story, engine, model="tiny")


def test_several_engines_stand_still_only_together() -> None:
    two = IDLE + IDLE.replace(b'engine="0"', b'engine="1"')

    async def story(one: Watched) -> None:
        assert one.metrics.steps == 2 * one.engine.steps

    engine = Engine()
    engine.metrics = two
    run(story, engine)


def test_an_engine_that_counts_tokens_only_stands_still_when_they_do() -> None:
    async def story(one: Watched) -> None:
        assert one.metrics.steps is not None
        await one.poll(31)
        assert state_of(await one.asked()) == "alive"

    engine = Engine()
    engine.metrics = (Path(__file__).parent.parent / "data" / "sglang.prom").read_bytes()
    run(story, engine)


def test_closing_gives_up_the_one_in_flight() -> None:
    async def story(one: Watched) -> None:
        one.engine.completion = None
        await one.poll(31)
        await until(lambda: one.engine.open == 1)
        await one.canary.close()
        assert not in_flight()
        await until(lambda: one.engine.open == 0)

    run(story)
