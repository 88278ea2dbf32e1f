"""Who tells: a Prometheus that scrapes the node and has the same rules, or the node itself.

`evaluator: remote` is silent while it is scraped, speaks once nobody has scraped it for five minutes of its clock, and
is silent again when the other is back. Where both send to one Alertmanager, that has each alert once.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.live import install_prometheus
from tests.live.receivers import JsonReceiver, json_receiver
from tests.live.servers import (
    Alertmanager,
    Process,
    Prometheus,
    alertmanager,
    daemon,
    free_port,
    get,
    running,
    wait_for,
)

pytestmark = pytest.mark.live

SPEED = 40
SENT = "prometheus_notifications_sent_total"
RULES: dict[str, Any] = {
    "groups": [
        {
            "name": "g",
            "rules": [
                {
                    "alert": "Hot",
                    "expr": "DCGM_FI_DEV_GPU_TEMP > 80",
                    "labels": {"severity": "critical"},
                    "annotations": {"summary": "GPU {{ $labels.gpu }} is at {{ $value }} °C"},
                },
                {"alert": "Steady", "expr": 'gpumon_gpu_up{gpu="0"} == 1', "labels": {"severity": "warning"}},
            ],
        }
    ]
}
"""A fault of the story, for about 4 s in each 18, and what fires until the rule says otherwise."""
ENDED = json.dumps(RULES).replace("== 1", "== 2")


def told_by_alertmanager(hook: JsonReceiver, status: str, name: str, **labels: str) -> int:
    """How often Alertmanager's webhook told of an alert's beginning or end."""
    return sum(
        one["labels"]["alertname"] == name and labels.items() <= one["labels"].items()
        for body in list(hook.bodies)
        for one in body["alerts"]
        if one["status"] == status
    )


def settings(hook: JsonReceiver) -> dict[str, Any]:
    """An alertmanager.yml that tells a webhook of every alert by itself, at once."""
    timing = {"group_wait": "0s", "group_interval": "1s", "repeat_interval": "1h"}
    return {
        "route": {"receiver": "hook", "group_by": ["..."], **timing},
        "receivers": [{"name": "hook", "webhook_configs": [{"url": f"http://127.0.0.1:{hook.port}/"}]}],
    }


@contextmanager
def scraping(
    folder: Path, instance: str, manager: Alertmanager, rules: Path, external: dict[str, str]
) -> Iterator[Prometheus]:
    """A Prometheus that scrapes the node and evaluates its rules; started again it has what it had."""
    home = folder / "central"
    home.mkdir(exist_ok=True)
    port = free_port()
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s", "external_labels": external},
        "rule_files": [str(rules)],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [manager.url.removeprefix("http://")]}]}]},
        "scrape_configs": [{"job_name": "gpumon", "static_configs": [{"targets": [instance]}]}],
    }
    (home / "prometheus.yml").write_text(json.dumps(config))
    command: Sequence[str | Path] = [
        install_prometheus.prometheus_bin() / "prometheus", f"--config.file={home / 'prometheus.yml'}",
        f"--storage.tsdb.path={home / 'data'}", f"--web.listen-address=127.0.0.1:{port}", "--web.enable-lifecycle",
    ]  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    with running("central", command, folder, lambda: get(f"{url}/-/ready").status_code == 200) as process:
        yield Prometheus(url, process)


@contextmanager
def scraped_by_hand(url: str) -> Iterator[None]:
    """Somebody scrapes the node as long as the block runs: at this speed a Prometheus that starts slowly is late."""
    done = threading.Event()

    def work() -> None:
        while not done.wait(0.5):
            httpx.get(f"{url}/metrics", headers={"X-Prometheus-Scrape-Timeout-Seconds": "1"}, trust_env=False)

    thread = threading.Thread(target=work, name="scraping", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(10)


def node_config(rules: Path, hook: JsonReceiver, **alerting: Any) -> dict[str, Any]:
    return {
        "alerting": {"rule_files": [str(rules)], "evaluation_interval": "1s", **alerting},
        "receivers": [{"name": "ops", "webhook": [f"http://127.0.0.1:{hook.port}/"]}],
        "route": {"receiver": "ops", "group_by": ["..."], "group_wait": "0s", "group_interval": "1s"},
    }


def test_the_node_speaks_while_nobody_scrapes_it_and_tells_the_end_of_what_it_told(tmp_path: Path) -> None:
    rules = tmp_path / "rules.yaml"
    rules.write_text(yaml.safe_dump(RULES))
    with ExitStack() as stack:
        theirs, ours = stack.enter_context(json_receiver()), stack.enter_context(json_receiver())
        manager = stack.enter_context(alertmanager(tmp_path, settings(theirs)))
        config = node_config(rules, ours, evaluator="remote")
        node = stack.enter_context(daemon(tmp_path, config, "--simulate", "--speed", str(SPEED)))

        def ours_told(status: str, name: str) -> int:
            return told_by_alertmanager(ours, status, name)  # a webhook of ours has Alertmanager's form

        # Alive: Prometheus tells, once, of beginnings and ends, and the node of nothing.
        with ExitStack() as alive:
            with scraped_by_hand(node.url):
                other = alive.enter_context(scraping(tmp_path, node.instance, manager, rules, {}))
                wait_for("Steady", lambda: told_by_alertmanager(theirs, "firing", "Steady"), 60, other.process)
            ends = lambda: told_by_alertmanager(theirs, "resolved", "Hot", gpu="3")  # noqa: E731
            wait_for("the end of a fault", ends, 60, other.process)
            assert node.query('ALERTS{alertname="Steady",alertstate="firing"}'), "the node evaluates all the same"
            assert told_by_alertmanager(theirs, "firing", "Steady") == 1
            assert told_by_alertmanager(theirs, "firing", "Hot", gpu="3") >= 1
            assert ours.bodies == []
        gone = node_time(node.url)

        # Gone: after five minutes of its clock the node tells of what fires, once each.
        wait_for("the node speaks", lambda: ours_told("firing", "Steady"), 60, node.process)
        assert node_time(node.url) - gone > 300 - SPEED, "not before"
        wait_for("the node tells of a fault", lambda: ours_told("firing", "Hot"), 60, node.process)

        # Back: the fault's end is told by who told of its beginning; what begins is the other's again.
        with scraping(tmp_path, node.instance, manager, rules, {}) as other:
            wait_for("the end of the fault from the node", lambda: ours_told("resolved", "Hot"), 60, node.process)
            begun, before = ours_told("firing", "Hot"), told_by_alertmanager(theirs, "firing", "Hot", gpu="3")
            again = lambda: told_by_alertmanager(theirs, "firing", "Hot", gpu="3") > before  # noqa: E731
            wait_for("the next fault", again, 60, other.process)
            rules.write_text(ENDED)  # once: none of them reads a file that is half written
            for each in (node.process, other.process):
                hang_up(each)
            wait_for("its end at the node", lambda: ours_told("resolved", "Steady"), 60, node.process)
            wait_for("its end", lambda: told_by_alertmanager(theirs, "resolved", "Steady"), 60, other.process)
            time.sleep(1)
            assert ours_told("firing", "Hot") == begun, "silent again"
            assert (ours_told("firing", "Steady"), ours_told("resolved", "Steady")) == (1, 1)
            assert told_by_alertmanager(theirs, "firing", "Steady") == 1, "one alert, that was never over for it"


def sent_by(other: Prometheus) -> float:
    """How many alerts a Prometheus has sent to its Alertmanagers."""
    lines = [one for one in get(f"{other.url}/metrics").text.splitlines() if one.startswith(SENT)]
    return sum(float(one.rpartition(" ")[2]) for one in lines)


def node_time(url: str) -> float:
    """The node's clock, seconds since the epoch."""
    return float(get(f"{url}/api/v1/query", query="time()").json()["data"]["result"][1])


def hang_up(process: Process) -> None:
    """Let a server read its files again."""
    os.kill(process.pid, signal.SIGHUP)


def test_what_both_send_to_one_alertmanager_is_one_alert(tmp_path: Path) -> None:
    rules = tmp_path / "rules.yaml"
    rules.write_text(yaml.safe_dump(RULES))
    external = {"cluster": "lab", "severity": "not this one"}
    with ExitStack() as stack:
        theirs, ours = stack.enter_context(json_receiver()), stack.enter_context(json_receiver())
        manager = stack.enter_context(alertmanager(tmp_path, settings(theirs)))
        config = node_config(rules, ours, alertmanagers=[manager.url], external_labels=external)
        node = stack.enter_context(daemon(tmp_path, config, "--simulate"))
        wait_for("the node's alert", lambda: manager.alerts(), 60, node.process)
        (one,) = manager.alerts()
        with scraping(tmp_path, node.instance, manager, rules, external) as other:
            wait_for("Prometheus sends it too", lambda: sent_by(other), 60, other.process)
            (both,) = manager.alerts()
            assert both["updatedAt"] > one["updatedAt"], "it came from the other side, too"
            assert (both["fingerprint"], both["labels"]) == (one["fingerprint"], one["labels"])
            assert both["labels"]["severity"] == "warning", "an alert's own labels win over external ones"
            assert both["startsAt"] == one["startsAt"], "since when the first said"
        time.sleep(2)
        assert told_by_alertmanager(theirs, "firing", "Steady") == 1
