"""Alerts sent on to a real Alertmanager: it shows them, tells of them once, and ends them by itself where nobody
resends them."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from monitor.notify.alertmanagers import Alertmanagers
from monitor.rules.transition import Alert, Transition
from monitor.samples import labels_of
from tests.live import install_prometheus
from tests.live.flipping import failing_webhook, flipping_server
from tests.live.kill9 import Victim
from tests.live.receivers import JsonReceiver, json_receiver
from tests.live.servers import Alertmanager, alertmanager, wait_for

pytestmark = pytest.mark.live

EXTERNAL = (("cluster", "lab"),)
LABELS = {"alertname": "GpuTooHot", "severity": "critical", "gpu": "3", "instance": "n1:9519", "job": "gpumon"}


@dataclass(frozen=True)
class Peer:
    """An Alertmanager as the configuration names it."""

    url: str
    bearer_token: None = None
    ca_file: None = None
    insecure_skip_verify: bool = False


def settings(port: int) -> dict[str, Any]:
    """An alertmanager.yml that tells a webhook of every alert by itself, at once."""
    return {
        "route": {
            "receiver": "hook",
            "group_by": ["..."],
            "group_wait": "0s",
            "group_interval": "1s",
            "repeat_interval": "1h",
        },
        "receivers": [{"name": "hook", "webhook_configs": [{"url": f"http://127.0.0.1:{port}/"}]}],
    }


@pytest.fixture
def hook() -> Iterator[JsonReceiver]:
    with json_receiver() as receiver:
        yield receiver


@pytest.fixture
def real(tmp_path: Path, hook: JsonReceiver) -> Iterator[Alertmanager]:
    with alertmanager(tmp_path, settings(hook.port)) as server:
        yield server


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def alert(at_ms: int, **labels: str) -> Alert:
    """An alert that began to fire at ``at_ms``."""
    all_labels = labels_of({**LABELS, **labels})
    texts = {"summary": "GPU 3 is at 96 °C", "action": "Look at the fans"}
    return Alert(str(all_labels), "gpu", "GpuTooHot", "firing", all_labels, texts, 96.0, at_ms - 5_000, at_ms, None)


def statuses(hook: JsonReceiver) -> list[str]:
    """What the webhook was told, oldest first."""
    return [body["status"] for body in list(hook.bodies)]


def amtool_query(url: str) -> Any:
    """What a person sees."""
    command: list[str | Path] = [
        install_prometheus.amtool(),
        f"--alertmanager.url={url}",
        "alert",
        "query",
        "-o",
        "json",
    ]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout)


async def until(what: str, holds: Any, seconds: float = 60) -> None:
    """Wait for something at the other processes; generous, and only the end of a failure."""
    await asyncio.to_thread(wait_for, what, holds, seconds)


def test_it_shows_a_firing_alert_and_is_told_of_its_end(real: Alertmanager, hook: JsonReceiver) -> None:
    async def work() -> None:
        sending = Alertmanagers([Peer(real.url)], EXTERNAL, "https://grafana.example/d/gpumon", 5_000)
        running = asyncio.create_task(sending.run())
        began = now_ms()
        hot = alert(began)
        sending.offer([hot], [], began)
        await until("Alertmanager shows it", real.alerts)
        (shown,) = real.alerts()
        assert shown["labels"] == LABELS | dict(EXTERNAL)
        assert shown["annotations"] == dict(hot.annotations)
        assert shown["status"]["state"] == "active"
        assert shown["generatorURL"] == "https://grafana.example/d/gpumon"
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(began // 1000))
        assert shown["startsAt"] == f"{stamp}.{began % 1000:03d}Z"
        queried = await asyncio.to_thread(amtool_query, real.url)
        assert [each["labels"] for each in queried] == [LABELS | dict(EXTERNAL)]

        # The resend moves its end, and tells nobody again.
        sending.offer([hot], [], began + 61_000)
        await until("the resend arrived", lambda: real.alerts()[0]["endsAt"] > shown["endsAt"])
        (again,) = real.alerts()
        assert (again["startsAt"], again["fingerprint"]) == (shown["startsAt"], shown["fingerprint"])
        await until("the webhook is told", lambda: "firing" in statuses(hook))

        end = Transition(hot, "firing", "inactive", now_ms(), "data gone: nvml")
        sending.offer([], [end], now_ms())
        await until("the webhook is told of the end", lambda: "resolved" in statuses(hook))
        assert real.alerts() == []
        assert statuses(hook) == ["firing", "resolved"]
        (told,) = hook.bodies[-1]["alerts"]
        assert told["annotations"]["gpumon_reason"] == "data gone: nvml"
        # Go leaves zeros at the end out of the one, and writes them in the other.
        assert datetime.fromisoformat(told["startsAt"]) == datetime.fromisoformat(shown["startsAt"])
        assert [(each.sent, each.errors) for each in sending.status()] == [(3, 0)]
        await sending.close()
        await running

    asyncio.run(work())


def test_it_ends_by_itself_what_a_dead_daemon_no_longer_resends(real: Alertmanager, hook: JsonReceiver) -> None:
    """With an interval and a resend of half a second instead of a minute: it outlives four of them."""

    async def work() -> None:
        sending = Alertmanagers([Peer(real.url)], interval_ms=500, resend_ms=500)
        running = asyncio.create_task(sending.run())
        hot = alert(now_ms())
        last = 0
        for _ in range(16):  # 4 s: twice as long as it would live by one send
            last = now_ms()
            sending.offer([hot], [], last)
            await asyncio.sleep(0.25)
        assert [each["labels"] for each in real.alerts()] == [LABELS]
        assert statuses(hook) == ["firing"]
        running.cancel()
        await until("it ended by itself", lambda: not real.alerts())
        assert now_ms() >= last + 1_500  # the last offer may lie within the half second of the last send
        await until("the webhook is told of the end", lambda: statuses(hook) == ["firing", "resolved"])
        (told,) = hook.bodies[-1]["alerts"]
        assert told["labels"] == LABELS
        assert datetime.fromisoformat(told["endsAt"]) > datetime.fromisoformat(told["startsAt"])
        await sending.close()

    asyncio.run(work())


def test_one_that_was_away_gets_what_fires_with_the_next_resend(tmp_path: Path, hook: JsonReceiver) -> None:
    async def work() -> None:
        with alertmanager(tmp_path, settings(hook.port)) as server:
            port = server.port
        sending = Alertmanagers([Peer(f"http://127.0.0.1:{port}")], interval_ms=1_000)
        running = asyncio.create_task(sending.run())
        began = now_ms()
        both = [alert(began, gpu=gpu) for gpu in ("0", "1")]
        sending.offer(both, [], began)
        await sending.settled()
        (status,) = sending.status()
        assert (status.sent, status.errors, status.last_error) == (0, 2, "connection refused")
        with alertmanager(tmp_path, settings(hook.port), port=port) as server:
            # One of them ended while it was away.
            end = Transition(both[1], "firing", "inactive", now_ms())
            sending.offer(both[:1], [end], began + 61_000)
            await until("the other is there", server.alerts)
            assert [each["labels"]["gpu"] for each in server.alerts()] == ["0"]
            await until("the webhook is told", lambda: hook.bodies)
            await sending.close()
            await running
            assert statuses(hook) == ["firing"]
            assert sending.status()[0].sent == 2

    asyncio.run(work())


def test_it_takes_hundreds_at_once_and_says_what_it_refuses(real: Alertmanager) -> None:
    async def work() -> None:
        sending = Alertmanagers([Peer(real.url)], EXTERNAL)
        at = now_ms()
        sending.offer([alert(at, gpu=str(number)) for number in range(600)], [], at)
        await sending.close(drain=20)
        assert sending.status()[0].sent == 600
        assert len(real.alerts()) == 600

    async def refused() -> None:
        sending = Alertmanagers([Peer(f"{real.url}/nowhere")])
        at = now_ms()
        sending.offer([alert(at)], [], at)
        await sending.close(drain=20)
        assert sending.status()[0].last_error.startswith("HTTP 404")

    asyncio.run(refused())
    asyncio.run(work())


def test_the_daemon_sends_on_what_its_rules_find_also_after_kill_9(
    real: Alertmanager, hook: JsonReceiver, tmp_path: Path
) -> None:
    folder = tmp_path / "daemon"
    folder.mkdir()
    with flipping_server(3, 0.0, 1) as server, failing_webhook(0.0, 1) as webhook:
        alerting = {
            "alertmanagers": [real.url],
            "external_labels": dict(EXTERNAL),
            "external_url": "https://n1.example",
        }
        victim = Victim(folder, server, webhook, alerting=alerting)
        try:
            victim.start()
            assert victim.wait_until_ready(60)
            server.settle()
            wait_for("both alerts are at Alertmanager", lambda: len(real.alerts()) == 2, 60)
            shown = {each["labels"]["engine"]: each for each in real.alerts()}
            ours = victim.request("GET", "/api/v1/alerts").json()["data"]["alerts"]
            assert {each["labels"]["engine"]: each["labels"] | dict(EXTERNAL) for each in ours} == {
                engine: each["labels"] for engine, each in shown.items()
            }
            wait_for("the webhook is told", lambda: len(statuses(hook)) == 2, 60)

            victim.kill()
            victim.start()
            assert victim.wait_until_ready(60)
            before = {each["fingerprint"]: each["endsAt"] for each in shown.values()}
            wait_for(
                "it is told of both again",
                lambda: all(each["endsAt"] > before[each["fingerprint"]] for each in real.alerts()),
                60,
            )
            again = {each["labels"]["engine"]: each["startsAt"] for each in real.alerts()}
            assert again == {engine: each["startsAt"] for engine, each in shown.items()}
            assert statuses(hook) == ["firing", "firing"]

            # What ends before there is data again is kept for a minute.
            path = "/api/v1/query?query=count_over_time(vllm:num_requests_waiting[10s])%20%3E%209"
            wait_for("there is data again", lambda: victim.request("GET", path).json()["data"]["result"], 60)
            server.settle(calm=True)
            wait_for("the webhook is told of both ends", lambda: statuses(hook).count("resolved") == 2, 60)
            assert real.alerts() == []
            taken = victim.request("GET", "/metrics").text
            assert 'gpumon_alertmanager_errors_total{alertmanager="' + real.url + '"} 0' in taken
            victim.end(signal.SIGTERM)
        finally:
            victim.kill()
