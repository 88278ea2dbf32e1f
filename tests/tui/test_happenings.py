"""The kinds of what happens: how grave, of what group, what lasted until when, and what graphs show of it."""

from __future__ import annotations

import pytest

from monitor.client.snapshot import Happening
from monitor.tui.happenings import GRAVE, NOTE, OVER, WARNS, group_of, level_of, spans, weight_of, word_of
from monitor.tui.palette import CRITICAL, GOOD, KEY
from monitor.tui.panels.chart import marks


def event(at: int, kind: str, severity: str = "info", title: str = "", **labels: str) -> Happening:
    return Happening(at * 1000, kind, severity, title or kind, labels)


@pytest.mark.parametrize(
    ("kind", "severity", "group", "level", "weight"),
    [
        ("firing", "critical", "alerts", GRAVE, 3),
        ("firing", "page", "alerts", GRAVE, 3),
        ("firing", "warning", "alerts", WARNS, 2),
        ("firing", "info", "alerts", NOTE, None),
        ("resolved", "critical", "alerts", OVER, 0),
        ("silence_set", "info", "alerts", NOTE, None),
        ("xid", "critical", "faults", GRAVE, 3),
        ("xid", "info", "faults", NOTE, 1),
        ("oom_kill", "warning", "faults", WARNS, 2),
        ("something_that_comes_later", "critical", "faults", GRAVE, 3),
        ("server_restarted", "warning", "servers", WARNS, 2),
        ("server_log", "warning", "servers", WARNS, None),
        ("server_log", "critical", "servers", GRAVE, 3),
        ("source_down", "warning", "sources", WARNS, 2),
        ("source_up", "info", "sources", OVER, 0),
        ("daemon_started", "info", "gpumon", NOTE, 1),
        ("daemon_started", "warning", "gpumon", WARNS, 2),
        ("config_reloaded", "info", "gpumon", NOTE, 1),
        ("config_refused", "warning", "gpumon", WARNS, None),
        ("kernel_log_flood", "warning", "gpumon", WARNS, None),
        ("clock_back", "warning", "gpumon", WARNS, 2),
        ("clock_forward", "warning", "gpumon", WARNS, 2),
        ("slept", "warning", "gpumon", WARNS, 2),
        ("probe_finished", "info", "probes", NOTE, 1),
    ],
)
def test_each_kind(kind: str, severity: str, group: str, level: int, weight: int | None) -> None:
    one = event(1, kind, severity)
    assert group_of(one) == group
    assert level_of(one) == level
    assert weight_of(one) == weight


def test_words() -> None:
    assert word_of(event(1, "xid")) == "XID"
    assert word_of(event(1, "nvlink_down")) == "nvlink down"


def test_marks_are_coloured_by_what_they_are() -> None:
    found = marks(
        [event(4, "probe_finished"), event(3, "resolved"), event(2, "silence_set"), event(1, "xid", "critical")]
    )
    assert [(one.at_ms, one.style) for one in found] == [(4000, KEY), (3000, GOOD), (1000, CRITICAL)]


def test_an_alert_lasts_from_its_firing_to_its_end_and_others_beside_it() -> None:
    again = event(90, "firing", "warning", "Hot: 91 °C", gpu="3")
    end = event(50, "resolved", "warning", "Hot: 88 °C", gpu="3")
    other = event(20, "firing", "warning", "Hot: 91 °C", gpu="4")
    begin = event(10, "firing", "warning", "Hot: 91 °C", gpu="3")
    found = spans([again, end, other, begin])
    assert found[id(begin)].end is end
    assert found[id(end)].begin is begin
    assert found[id(other)].until_ms is None
    assert found[id(again)].until_ms is None


def test_a_source_that_flaps_lasts_until_it_is_steady() -> None:
    up = event(900, "source_up", source="vllm", server="n:1")
    flapping = event(100, "source_flapping", "warning", source="vllm", server="n:1")
    up_before = event(60, "source_up", source="vllm", server="n:1")
    down = event(50, "source_down", "warning", source="vllm", server="n:1")
    found = spans([up, flapping, up_before, down])
    assert found[id(down)].until_ms == 60_000
    assert found[id(flapping)].until_ms == 900_000


def test_what_nobody_will_tell_the_end_of_is_over_with_who_would_have() -> None:
    fires = event(5, "firing", "warning", "Hot: x")
    down = event(10, "source_down", "warning", source="vllm", server="n:1")
    other = event(11, "source_down", "warning", source="vllm", server="n:2")
    refused = event(12, "config_refused", "warning")
    gone = event(600, "server_gone", server="n:1")
    began = event(900, "daemon_started")
    found = spans([began, gone, refused, other, down, fires])
    assert found[id(down)].end is gone
    assert found[id(other)].end is began
    assert found[id(refused)].end is began
    assert found[id(fires)].end is None, "alerts outlive a restart"


def test_a_silence_ends_by_itself_when_it_said_or_by_hand() -> None:
    until = "1970-01-01T01:00:00.000Z"
    ended = event(500, "silence_ended", id="b")
    by_hand = event(20, "silence_set", id="b", until=until)
    by_itself = event(10, "silence_set", id="a", until=until)
    found = spans([ended, by_hand, by_itself])
    assert found[id(by_itself)].until_ms == 3_600_000
    assert found[id(by_hand)].until_ms == 500_000


def test_gpumon_was_away_between_its_end_and_its_begin() -> None:
    started, stopped, first = event(300, "daemon_started"), event(100, "daemon_stopped"), event(1, "daemon_started")
    found = spans([started, stopped, first])
    assert found[id(stopped)].until_ms == 300_000
    assert id(first) not in found
    assert id(event(1, "xid")) not in found
