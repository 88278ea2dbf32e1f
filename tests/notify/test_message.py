"""What a person reads."""

from __future__ import annotations

import json
import math

import pytest

from monitor.notify.message import render
from monitor.notify.records import event_id
from monitor.notify.wording import clean, format_duration, format_value
from monitor.records import replace
from monitor.rules.transition import Transition
from monitor.samples import labels_of
from tests.notify.parts import T0, firing, resolved
from tests.notify.wire import alert_of, begins, kv_cache_full, notice, render_transition


def test_firing_says_what_where_and_since_when() -> None:
    message = render_transition(firing(), "firing", "node1", T0 + 5_000)
    assert message.title == "[FIRING] critical: GpuTemperatureHigh on node1 (gpu 3)"
    assert message.notify_type == "failure"
    lines = message.body.splitlines()
    assert lines[:2] == ["GPU 3 is at 92 C", "Action: Look at the fans"]
    assert "Value: 92" in lines
    assert "Since: 2023-11-14 22:12:20 UTC (1m 5s ago)" in lines
    assert "  gpu: 3" in lines
    assert "job" not in message.body
    assert lines[-1] == f"Event: {event_id(firing())}" == f"Event: {message.event_id}"
    assert json.loads(json.dumps(message.fields))["alerts"][0]["labels"]["gpu"] == "3"


def test_what_is_of_no_gpu_and_no_server_has_no_empty_brackets() -> None:
    watched = alert_of("Watched", {"summary": "all is well"}, 1.0, labels={"severity": "warning"})
    lines = render(notice(begins(watched), begins(kv_cache_full()))).body.splitlines()
    assert "FIRING warning: Watched" in lines
    assert "FIRING critical: KvCacheFull (server node7:8000)" in lines


def test_resolved_says_how_long_it_fired() -> None:
    message = render_transition(resolved(), "resolved", "node1", T0 + 60_000)
    assert message.title == "[RESOLVED] critical: GpuTemperatureHigh on node1 (gpu 3)"
    assert message.notify_type == "success"
    assert "Fired for: 1m" in message.body.splitlines()
    assert message.fields["alerts"][0]["endsAt"] == "2023-11-14T22:14:20.000Z"


def test_an_end_for_lack_of_data_is_no_recovery() -> None:
    message = render_transition(resolved(reason="data gone: nvml"), "resolved", "node1", T0 + 60_000)
    assert message.title.startswith("[DATA GONE] critical: ")
    assert message.body.splitlines()[0] == "data gone: nvml"
    assert message.notify_type == "warning"
    assert "RESOLVED" not in message.title


def test_another_reason_is_an_end_and_no_recovery() -> None:
    message = render_transition(resolved(reason="rule removed"), "resolved", "node1", T0)
    assert message.title.startswith("[ENDED]")
    assert message.notify_type == "warning"


def test_a_server_stands_in_the_title() -> None:
    change = firing(gpu="", server="node1:8000")
    assert render_transition(change, "firing", "node1", T0).title.endswith("on node1 (server node1:8000)")


def test_unrecorded_is_said() -> None:
    assert "unrecorded" not in render_transition(firing(), "firing", "n", T0).body
    message = render_transition(firing(), "firing", "n", T0, unrecorded=True)
    assert "unrecorded" in message.body
    assert message.fields["unrecorded"] is True


def test_hostile_labels_and_annotations_are_made_harmless() -> None:
    change = firing()
    hostile = replace(
        change.alert,
        labels=labels_of(
            {
                "alertname": "X",
                "gpu": "\x1b[31m3\x1b[0m\r\nBcc: a@b\x00",
                "m": "\x1b]0;owned\x07ok\u202e\u200b\xad\ufeff\U000e0041",
            }
        ),
        annotations={"summary": "one\ntwo\x1b[2J\x9b1m"},
    )
    message = render_transition(Transition(hostile, "pending", "firing", T0), "firing", "node\n1", T0)
    assert message.title == "[FIRING] GpuTemperatureHigh on node 1 (gpu 3 Bcc: a@b)"
    assert message.body.startswith("one\ntwo\n")
    assert "  m: ok\n" in message.body
    assert not [c for c in message.body if ord(c) < 32 and c != "\n"]


def test_a_body_has_a_bound_and_keeps_its_event() -> None:
    labels = {f"label{i}": "x" * 2_000 for i in range(20)}
    change = firing(at_ms=T0, name="Wordy", **labels)
    body = render_transition(change, "firing", "n", T0).body
    assert len(body) < 8_200
    assert body.splitlines()[-1] == f"Event: {event_id(change)}"


@pytest.mark.parametrize(
    ("value", "text"),
    [(92.0, "92"), (0.875, "0.875"), (math.nan, "NaN"), (math.inf, "+Inf"), (-math.inf, "-Inf"), (1e300, "1e+300")],
)
def test_values(value: float, text: str) -> None:
    assert format_value(value) == text


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [(-5, "0s"), (999, "0s"), (45_000, "45s"), (3_600_000, "1h"), (93_784_000, "1d 2h"), (725_000, "12m 5s")],
)
def test_durations(milliseconds: int, text: str) -> None:
    assert format_duration(milliseconds) == text


def test_clean_leaves_ordinary_text_alone() -> None:
    assert clean("Tröpfchen 温度 🔥 [31m]") == "Tröpfchen 温度 🔥 [31m]"


def test_ids_differ_by_alert_time_and_state() -> None:
    ids = {event_id(t) for t in (firing(), firing(at_ms=T0 + 1), resolved(at_ms=T0), firing("Other"))}
    assert len(ids) == 4
    assert event_id(firing()) == event_id(firing())
