"""Forwarding to Alertmanagers: what is sent and when, as Prometheus sends it, and every way in which it fails."""

from __future__ import annotations

import asyncio
import json
import re
import ssl
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from monitor.notify.alertmanagers import BATCH, Alertmanagers
from monitor.records import replace
from monitor.rules.engine import Engine
from monitor.rules.rule_file import read_rules
from monitor.rules.transition import Alert, Transition
from monitor.samples import ScrapeBuilder, format_labels, make_labels
from monitor.store.head import Head
from tests.certificates import Authority
from tests.http_server import answer, hang_up, never, serve
from tests.notify.parts import T0, Url, alert, resolved, wait_for

MINUTE = 60_000


@dataclass(frozen=True)
class Peer:
    """An Alertmanager of the tests."""

    url: str
    bearer_token: Url | None = None
    ca_file: Path | None = None
    insecure_skip_verify: bool = False


@dataclass
class FakeAlertmanager:
    """Takes every POST; remembers the requests and the alerts in them."""

    statuses: list[int] = field(default_factory=list)
    """Of the first answers; then 200."""
    text: str = ""
    requests: list[httpx.Request] = field(default_factory=list)
    batches: list[list[dict[str, Any]]] = field(default_factory=list)

    def client(self) -> httpx.AsyncClient:
        def handle(request: httpx.Request) -> httpx.Response:
            self.requests.append(request)
            self.batches.append(json.loads(request.content))
            return httpx.Response(self.statuses.pop(0) if self.statuses else 200, text=self.text)

        return httpx.AsyncClient(transport=httpx.MockTransport(handle))

    def take(self) -> list[dict[str, Any]]:
        """The alerts since the last take."""
        taken = [each for batch in self.batches for each in batch]
        self.batches.clear()
        return taken


Story = Callable[[Alertmanagers, FakeAlertmanager], Awaitable[None]]


def play(story: Story, peers: Iterable[Peer] = (Peer("http://am:9093"),), **options: Any) -> FakeAlertmanager:
    """Run a story with a fake Alertmanager behind every URL."""
    fake = FakeAlertmanager()

    async def work() -> None:
        client = fake.client()
        sending = Alertmanagers(peers, client=client, **options)
        running = asyncio.create_task(sending.run())
        try:
            await story(sending, fake)
        finally:
            await sending.close()
            await running
            await client.aclose()

    asyncio.run(work())
    return fake


async def offered(
    sending: Alertmanagers, fake: FakeAlertmanager, alerts: Iterable[Alert], ended: Iterable[Transition], now_ms: int
) -> list[dict[str, Any]]:
    """What an evaluation's outcome sends."""
    sending.offer(alerts, ended, now_ms)
    await sending.settled()
    return fake.take()


def test_a_firing_alert_is_sent_at_once_as_alertmanager_wants_it() -> None:
    async def story(sending: Alertmanagers, fake: FakeAlertmanager) -> None:
        sent = await offered(sending, fake, [alert()], [], T0 + 5)
        assert sent == [
            {
                "labels": {
                    "alertname": "GpuTemperatureHigh",
                    "gpu": "3",
                    "job": "gpumon",
                    "severity": "critical",
                    "cluster": "a",
                },
                "annotations": {"summary": "GPU 3 is at 92 C", "action": "Look at the fans"},
                "startsAt": "2023-11-14T22:13:20.000Z",
                "endsAt": "2023-11-14T22:17:20.005Z",
                "generatorURL": "https://grafana/d/gpumon",
            }
        ]

    fake = play(
        story,
        external_labels=(("cluster", "a"), ("gpu", "of the outside")),
        external_url="https://grafana/d/gpumon",
    )
    assert str(fake.requests[0].url) == "http://am:9093/api/v2/alerts"
    assert fake.requests[0].method == "POST"
    assert fake.requests[0].headers["content-type"] == "application/json"


def test_a_pending_alert_is_not_sent() -> None:
    async def story(sending: Alertmanagers, fake: FakeAlertmanager) -> None:
        assert await offered(sending, fake, [alert(state="pending")], [], T0) == []
        assert len(await offered(sending, fake, [alert()], [], T0 + 5)) == 1
        # A reload that raised `for` makes it pending again: it is left to end by its time.
        assert await offered(sending, fake, [alert(state="pending")], [], T0 + 3 * MINUTE) == []

    play(story)


def test_a_firing_alert_is_resent_after_more_than_a_minute() -> None:
    async def story(sending: Alertmanagers, fake: FakeAlertmanager) -> None:
        moments = range(T0, T0 + 3 * MINUTE + 1, 5_000)
        sent_at = [at for at in moments if await offered(sending, fake, [alert()], [], at)]
        assert [at - T0 for at in sent_at] == [0, 65_000, 130_000]

    play(story)


def test_a_slow_evaluation_makes_an_alert_live_longer() -> None:
    async def story(sending: Alertmanagers, fake: FakeAlertmanager) -> None:
        (sent,) = await offered(sending, fake, [alert()], [], T0)
        assert sent["endsAt"] == "2023-11-14T22:33:20.000Z"  # 4 x 5 minutes

    play(story, interval_ms=5 * MINUTE)


def test_an_end_is_sent_at_once_and_again_each_minute_while_the_engine_tells_of_it() -> None:
    async def story(sending: Alertmanagers, fake: FakeAlertmanager) -> None:
        await offered(sending, fake, [alert()], [], T0)
        end = resolved(at_ms=T0 + 10_000)
        sent = []
        for at in range(T0 + 10_000, T0 + 10_000 + 15 * MINUTE, 30_000):
            sent += [(at - T0, each["endsAt"]) for each in await offered(sending, fake, [], [end], at)]
        assert [at for at, _ in sent] == list(range(10_000, 10_000 + 15 * MINUTE, 90_000))
        assert {ends for _, ends in sent} == {"2023-11-14T22:13:30.000Z"}
        assert await offered(sending, fake, [], [], T0 + 20 * MINUTE) == []

    play(story)


def test_lost_data_is_no_recovery() -> None:
    async def story(sending: Alertmanagers, fake: FakeAlertmanager) -> None:
        (sent,) = await offered(sending, fake, [], [resolved(reason="data gone: nvml")], T0 + MINUTE)
        assert sent["annotations"]["gpumon_reason"] == "data gone: nvml"
        assert sent["annotations"]["summary"] == "GPU 3 is at 92 C"
        (sent,) = await offered(sending, fake, [], [resolved("Other")], T0 + MINUTE)
        assert "gpumon_reason" not in sent["annotations"]

    play(story)


def test_an_alert_that_fires_again_is_sent_at_once() -> None:
    async def story(sending: Alertmanagers, fake: FakeAlertmanager) -> None:
        await offered(sending, fake, [alert()], [], T0)
        await offered(sending, fake, [], [resolved(at_ms=T0 + 5_000)], T0 + 5_000)
        (again,) = await offered(sending, fake, [alert(at_ms=T0 + 10_000)], [], T0 + 10_000)
        assert again["startsAt"] == "2023-11-14T22:13:30.000Z"
        (ended,) = await offered(sending, fake, [], [resolved(at_ms=T0 + 15_000)], T0 + 15_000)
        assert ended["endsAt"] == "2023-11-14T22:13:35.000Z"

    play(story)


def test_an_end_is_not_sent_while_another_rule_fires_with_the_same_labels() -> None:
    async def story(sending: Alertmanagers, fake: FakeAlertmanager) -> None:
        moved = replace(alert(), key="the same rule in another group")
        (sent,) = await offered(sending, fake, [moved], [resolved()], T0 + MINUTE)
        assert sent["endsAt"] > "2023-11-14T22:14:20.000Z"

    play(story)


def test_a_clock_that_went_back_makes_no_alert_that_ends_before_it_begins() -> None:
    async def story(sending: Alertmanagers, fake: FakeAlertmanager) -> None:
        back = T0 - 3_600_000
        (sent,) = await offered(sending, fake, [alert()], [], back)
        assert sent["startsAt"] == sent["endsAt"] == "2023-11-14T21:17:20.000Z"
        (ended,) = await offered(sending, fake, [], [resolved(at_ms=back)], back)
        assert ended["startsAt"] <= ended["endsAt"]
        # And what was sent in what is now the future does not hold back the next.
        assert len(await offered(sending, fake, [alert("Late")], [], T0)) == 1
        assert len(await offered(sending, fake, [alert("Late")], [], back)) == 1

    play(story)


def test_many_alerts_go_in_batches() -> None:
    async def story(sending: Alertmanagers, fake: FakeAlertmanager) -> None:
        sending.offer([alert(gpu=str(number)) for number in range(2 * BATCH + 1)], [], T0)
        await sending.settled()
        assert [len(batch) for batch in fake.batches] == [BATCH, BATCH, 1]
        assert [each["labels"]["gpu"] for each in fake.take()] == [str(number) for number in range(2 * BATCH + 1)]

    play(story)


def test_a_queue_that_is_full_drops_the_oldest_and_counts_them() -> None:
    async def work() -> None:
        fake = FakeAlertmanager()
        async with fake.client() as client:
            sending = Alertmanagers([Peer("http://am")], client=client, capacity=3)
            sending.offer([alert(gpu=str(number)) for number in range(5)], [], T0)
            assert [(each.queued, each.dropped) for each in sending.status()] == [(3, 2)]
            # What is news of an alert in the queue takes its place, and needs no room of its own.
            sending.offer([], [resolved(gpu="2")], T0 + MINUTE)
            assert [(each.queued, each.dropped) for each in sending.status()] == [(3, 2)]
            await sending.close()
            sent = fake.take()
            assert [each["labels"]["gpu"] for each in sent] == ["3", "4", "2"]
            assert sent[-1]["endsAt"] == "2023-11-14T22:14:20.000Z"

    asyncio.run(work())


def test_each_send_is_tried_once_and_made_good_by_the_resend(caplog: pytest.LogCaptureFixture) -> None:
    async def story(sending: Alertmanagers, fake: FakeAlertmanager) -> None:
        fake.statuses, fake.text = [500], "out of\nmemory"
        assert len(await offered(sending, fake, [alert()], [], T0)) == 1
        (status,) = sending.status()
        assert (status.sent, status.errors, status.queued, status.last_ok_ms) == (0, 1, 0, None)
        assert status.last_error == "HTTP 500: out of memory"
        assert await offered(sending, fake, [alert()], [], T0 + 30_000) == []
        assert len(await offered(sending, fake, [alert()], [], T0 + 61_000)) == 1
        (status,) = sending.status()
        assert (status.sent, status.errors, status.last_error, status.last_ok_ms) == (1, 1, "", T0 + 61_000)

    play(story)
    said = [record.getMessage() for record in caplog.records]
    assert said == ["Alertmanager http://am:9093: HTTP 500: out of memory; it gets what fires each minute again"]


def test_all_alertmanagers_get_all_alerts() -> None:
    async def story(sending: Alertmanagers, fake: FakeAlertmanager) -> None:
        await offered(sending, fake, [alert()], [], T0)
        assert [str(request.url) for request in fake.requests] == [
            "http://am1:9093/api/v2/alerts",
            "http://am2:9093/prefix/api/v2/alerts",
        ]

    play(story, [Peer("http://am1:9093"), Peer("http://am2:9093/prefix/")])


def test_one_that_hangs_delays_no_other() -> None:
    async def work() -> None:
        async with serve(never) as hanging, serve(answer(b"{}")) as quick:
            sending = Alertmanagers([Peer(hanging.url), Peer(quick.url)], deadline=60)
            running = asyncio.create_task(sending.run())
            sending.offer([alert()], [], T0)
            await wait_for(lambda: sending.status()[1].sent == 1)
            sending.offer([], [resolved()], T0 + MINUTE)
            await wait_for(lambda: sending.status()[1].sent == 2)
            assert [each.sent for each in sending.status()] == [0, 2]
            await sending.close(drain=0.05)
            await running

    asyncio.run(work())


@pytest.mark.parametrize(
    ("handler", "why"),
    [
        (never, "no answer in 0.2 s"),
        (hang_up, ""),
        (answer(b'"bad"', "400 Bad Request"), 'HTTP 400: "bad"'),
        (answer(b"", "302 Found", "Location: http://127.0.0.1:1/\r\n"), "HTTP 302"),
    ],
)
def test_what_went_wrong_is_said(handler: Any, why: str) -> None:
    async def work() -> None:
        async with serve(handler) as server:
            sending = Alertmanagers([Peer(server.url)], deadline=0.2 if handler is never else 60)
            sending.offer([alert()], [], T0)
            await sending.close(drain=60)
            (status,) = sending.status()
            assert status.last_error == why
            assert (status.sent, status.errors) == ((0, 1) if why else (1, 0))

    asyncio.run(work())


def test_nobody_there_is_said() -> None:
    async def work() -> None:
        async with serve(answer(b"")) as server:
            url = server.url
        sending = Alertmanagers([Peer(url)])
        sending.offer([alert()], [], T0)
        await sending.close(drain=60)
        assert [each.last_error for each in sending.status()] == ["connection refused"]

    asyncio.run(work())


def test_a_token_is_sent_and_never_shown(caplog: pytest.LogCaptureFixture) -> None:
    async def story(sending: Alertmanagers, fake: FakeAlertmanager) -> None:
        fake.statuses, fake.text = [401], "token tok-3n is not known"
        await offered(sending, fake, [alert()], [], T0)
        assert fake.requests[0].headers["authorization"] == "Bearer tok-3n"
        (status,) = sending.status()
        assert status.url == "https://am:9093/x"
        assert status.last_error == "HTTP 401: token *** is not known"

    play(story, [Peer("https://am:9093/x/", Url("tok-3n"))])
    assert "tok-3n" not in caplog.text


def test_a_password_in_the_url_is_not_shown(caplog: pytest.LogCaptureFixture) -> None:
    async def story(sending: Alertmanagers, fake: FakeAlertmanager) -> None:
        fake.statuses = [401]
        await offered(sending, fake, [alert()], [], T0)
        assert fake.requests[0].headers["authorization"].startswith("Basic ")
        assert [each.url for each in sending.status()] == ["https://[::1]:9093/x"]

    play(story, [Peer("https://user:pass-w0rd@[::1]:9093/x/")])
    assert "pass-w0rd" not in caplog.text


def test_a_token_that_cannot_be_read_is_said() -> None:
    async def story(sending: Alertmanagers, fake: FakeAlertmanager) -> None:
        assert await offered(sending, fake, [alert()], [], T0) == []
        assert sending.status()[0].last_error == "the environment variable NOWHERE is not set"

    play(story, [Peer("http://am", Url("missing:"))])


@pytest.mark.parametrize("token", ["tok-3n\nX: y", "tök-3n"])
def test_a_token_that_is_no_header_is_said_and_not_shown(token: str, caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        async with serve(answer(b"")) as server:
            sending = Alertmanagers([Peer(server.url, Url(token))])
            sending.offer([alert()], [], T0)
            await sending.close(drain=60)
            (status,) = sending.status()
            assert status.last_error == "its URL or its bearer_token is not valid"
            assert server.requests == []

    asyncio.run(work())
    assert "3n" not in caplog.text


def test_a_ca_file_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    async def work() -> None:
        sending = Alertmanagers([Peer("https://127.0.0.1:1", ca_file=tmp_path / "none.pem")])
        sending.offer([alert()], [], T0)
        await sending.close(drain=60)
        (status,) = sending.status()
        assert re.fullmatch(r"ca_file .*none\.pem: No such file or directory", status.last_error)

    asyncio.run(work())


def test_an_authority_that_was_replaced_is_read_again(tmp_path: Path) -> None:
    ours, others = Authority(tmp_path / "ours"), Authority(tmp_path / "others", "other")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*others.sign("server"))

    async def work() -> tuple[str, str]:
        async with serve(answer(b""), context) as server:
            sending = Alertmanagers([Peer(server.url, ca_file=ours.ca)])
            running = asyncio.create_task(sending.run())
            sending.offer([alert()], [], T0)
            await wait_for(lambda: sending.status()[0].errors == 1)
            why = sending.status()[0].last_error
            ours.ca.write_bytes(others.ca.read_bytes())
            sending.offer([alert()], [], T0 + 2 * MINUTE)
            await wait_for(lambda: sending.status()[0].sent == 1 or sending.status()[0].errors > 1)
            await sending.close(drain=60)
            await running
            return why, sending.status()[0].last_error

    assert asyncio.run(work()) == ("the certificate is not trusted: unable to get local issuer certificate", "")


def test_after_a_reload_all_that_fires_is_sent_to_those_that_are_there() -> None:
    async def story(sending: Alertmanagers, fake: FakeAlertmanager) -> None:
        await offered(sending, fake, [alert()], [], T0)
        sending.reload([Peer("http://new"), Peer("http://stays")], (("cluster", "b"),), "", MINUTE)
        sent = await offered(sending, fake, [alert()], [], T0 + 5_000)
        assert [each["labels"]["cluster"] for each in sent] == ["b", "b"]
        assert [request.url.host for request in fake.requests[2:]] == ["new", "stays"]
        assert [(each.url, each.sent) for each in sending.status()] == [("http://new", 1), ("http://stays", 2)]
        sending.reload([], (), "", MINUTE)
        assert await offered(sending, fake, [alert("Other")], [], T0 + 10_000) == []

    play(story, [Peer("http://goes"), Peer("http://stays")])


def test_close_sends_what_is_queued_and_waits_no_longer_than_it_may() -> None:
    async def work() -> None:
        async with serve(never) as server:
            sending = Alertmanagers([Peer(server.url)])
            running = asyncio.create_task(sending.run())
            sending.offer([alert()], [], T0)
            async with asyncio.timeout(60):
                await sending.close(drain=0.05)
                await running
            assert sending.status()[0].sent == 0

    asyncio.run(work())


def test_the_counters_begin_at_0() -> None:
    async def work() -> None:
        sending = Alertmanagers([Peer("http://am:9093")])
        builder = ScrapeBuilder()
        sending.add_to(builder)
        scrape = builder.build(T0)
        named = {format_labels(s): v for s, v in zip(scrape.shape.series, scrape.values, strict=True)}
        assert named == {
            'gpumon_alertmanager_sent_total{alertmanager="http://am:9093"}': 0,
            'gpumon_alertmanager_errors_total{alertmanager="http://am:9093"}': 0,
            'gpumon_alertmanager_dropped_total{alertmanager="http://am:9093"}': 0,
            'gpumon_alertmanager_queued{alertmanager="http://am:9093"}': 0,
        }

    asyncio.run(work())


def test_a_rule_that_fails_keeps_its_alerts_alive() -> None:
    """With the real engine: in Prometheus, an Alertmanager would resolve them after four minutes."""
    rules = read_rules("groups: [{name: g, interval: 5s, rules: [{alert: Hot, expr: temp > 90, labels: {gpu: all}}]}]")
    one, other = make_labels("temp", gpu="0"), make_labels("temp", gpu="1")

    async def story(sending: Alertmanagers, fake: FakeAlertmanager) -> None:
        head, engine = Head("gpumon", "n1:9519"), Engine(rules)
        sent = []
        for now_ms in range(T0, T0 + 6 * MINUTE, 5_000):
            head.append(one, now_ms, 95.0)
            if now_ms > T0:  # a second sample makes the same alert: an error
                head.append(other, now_ms, 95.0)
            engine.step(now_ms, head)
            sent += await offered(sending, fake, engine.alerts(), engine.resolved(), now_ms)
        assert engine.failures == 71
        assert [each["endsAt"][11:19] for each in sent] == [
            "22:17:20", "22:18:25", "22:19:30", "22:20:35", "22:21:40", "22:22:45",
        ]  # fmt: skip

    play(story)
