"""What tells people, wired: who speaks, when the heart beats, and what an earlier run left."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from monitor.api.node import Node
from monitor.clock import Clock
from monitor.config import Config, loads
from monitor.records import replace
from monitor.rules.engine import Engine
from monitor.rules.rule_file import read_rules
from monitor.store.head import Head
from monitor.telling import UNSCRAPED_MS, Telling

T0 = 1_700_000_000_000
RULES = "groups: [{name: g, rules: [{alert: A, expr: vector(1)}]}]"


class StillClock(Clock):
    """Stands where it is put."""

    def __init__(self) -> None:
        super().__init__()
        self.at_ms = T0

    def now_ms(self) -> int:
        return self.at_ms


@dataclass
class Source:
    """A source's status."""

    source: str
    server: str = ""
    up: bool = True
    absent: bool = False
    reason: str = ""
    last_success_ms: int | None = T0
    interval: float = 1.0
    poll_seconds: float | None = 0.001
    facts: dict[str, str] = field(default_factory=dict)

    @property
    def key(self) -> str:
        return self.source


def telling(tmp_path: Path, text: str = "", *, silent: bool = False) -> tuple[Telling, Node, StillClock, Engine]:
    clock = StillClock()
    config: Config = replace(loads(text or "node: {hostname: n1}"), state_directory=tmp_path)
    engine = Engine(read_rules(RULES), default_interval_ms=5_000)
    head = Head("gpumon", "n1:9519")
    node = Node(config, clock, head, engine, mode="system", simulated=False, transitions=deque())
    return Telling(config, clock, node, engine, silent=silent, simulated=False), node, clock, engine


REMOTE = "alerting: {evaluator: remote}"


def test_where_another_decides_this_node_speaks_when_nobody_has_scraped_it_for_five_minutes(tmp_path: Path) -> None:
    one, node, clock, _ = telling(tmp_path, REMOTE)
    assert not one.speaks(), "after a start the other has its time to come"
    clock.at_ms += UNSCRAPED_MS + 1
    assert one.speaks()
    node.last_scrape_ms = clock.at_ms
    assert not one.speaks()
    clock.at_ms += UNSCRAPED_MS
    assert not one.speaks()
    clock.at_ms += 1
    assert one.speaks()


def test_a_clock_set_back_does_not_keep_this_node_silent(tmp_path: Path) -> None:
    one, node, clock, _ = telling(tmp_path, REMOTE)
    node.last_scrape_ms = clock.at_ms
    clock.at_ms -= 1_000
    assert not one.speaks(), "a step of NTP says nothing"
    clock.at_ms -= UNSCRAPED_MS
    assert one.speaks()
    node.last_scrape_ms = clock.at_ms
    assert not one.speaks()


def test_by_default_this_node_decides(tmp_path: Path) -> None:
    one, node, clock, _ = telling(tmp_path)
    node.last_scrape_ms = clock.at_ms
    assert one.speaks()


@pytest.mark.parametrize(
    ("source", "why"),
    [
        (Source("nvml"), ""),
        (Source("nvml", up=False, reason="no driver", last_success_ms=T0), "nvml is not read: no driver"),
        (Source("nvml", up=False, absent=True), ""),
        (Source("host", last_success_ms=T0 - 60_001), "host was not read for a minute"),
        (Source("host", last_success_ms=None), "host was not read for a minute"),
        (Source("vllm", "n1:8000", up=False, reason="refused"), ""),
    ],
)
def test_the_heart_beats_while_the_node_is_watched(tmp_path: Path, source: Source, why: str) -> None:
    one, node, clock, engine = telling(tmp_path)
    engine.step(clock.at_ms, node.head)
    node.statuses = (source,)
    assert one.why_unwell() == why


def test_the_heart_stops_where_rules_are_not_evaluated(tmp_path: Path) -> None:
    one, node, clock, engine = telling(tmp_path)
    engine.step(clock.at_ms, node.head)
    clock.at_ms += 66_000
    assert one.why_unwell() == "the rules of g are not evaluated"
    engine.step(clock.at_ms, node.head)
    assert one.why_unwell() == ""


def test_a_private_daemon_tells_nobody_whatever_the_file_says(tmp_path: Path) -> None:
    text = (
        'receivers: [{name: ops, apprise: "json://127.0.0.1:1"}]\n'
        'heartbeat: "http://127.0.0.1:1/beat"\n'
        'alerting: {alertmanagers: ["http://127.0.0.1:1"]}\n'
    )
    one, node, _, _ = telling(tmp_path, text, silent=True)
    assert (node.notifies, node.heartbeat, one.notifier.receiver_names) == (False, False, [])
    assert one.alertmanagers.status() == ()
    assert one.heartbeats.status() == ()
    loud, node, _, _ = telling(tmp_path, text)
    assert (node.notifies, node.heartbeat, loud.notifier.receiver_names) == (True, True, ["ops"])
    config: Any = replace(loads(text.split("\n")[0]), state_directory=tmp_path)
    loud.reload(config)
    assert (node.notifies, node.heartbeat) == (True, False)


def test_the_picture_of_an_alert_is_of_what_its_rule_compares(tmp_path: Path) -> None:
    one, node, clock, engine = telling(tmp_path)
    rules = "groups: [{name: g, rules: [{alert: Hot, expr: 'temperature > 80'}]}]"
    engine.reload(read_rules(rules))
    labels = (("__name__", "temperature"), ("gpu", "3"))
    for second in range(0, 600, 10):
        node.head.append(labels, T0 - 600_000 + second * 1000, 60 + second / 20)
    clock.at_ms = T0
    (began,) = [t for t in engine.step(T0, node.head) if t.after == "firing"]
    graph = one._graph_of(began.alert)
    assert graph is not None
    assert graph.points[-1][1] > 80
    assert {value for _, value in graph.threshold} == {80.0}


def test_templates_know_the_external_labels_and_url(tmp_path: Path) -> None:
    text = 'alerting: {external_url: "https://alerts.example.com", external_labels: {site: north}}'
    _, node, _, engine = telling(tmp_path, text)
    template = "{{ $externalLabels.site }} {{ externalURL }}"
    rules = f"groups: [{{name: g, rules: [{{alert: A, expr: vector(1), annotations: {{s: '{template}'}}}}]}}]"
    engine.reload(read_rules(rules))
    (began,) = [t for t in engine.step(T0, node.head) if t.after == "firing"]
    assert began.alert.annotations["s"] == "north https://alerts.example.com"
