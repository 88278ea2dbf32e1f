"""The JSON that webhooks get: Alertmanager's, version 4. tests/live holds it against a real one."""

from __future__ import annotations

import json

import pytest

from monitor.notify.message import render
from monitor.notify.notice import Entry
from monitor.notify.payload import cut, format_rfc3339, payload_of
from tests.notify.wire import T0, begins, ends, kv_cache_full, notice


def test_a_group_with_one_firing_is_firing() -> None:
    one, other = kv_cache_full(), kv_cache_full(server="node7:8001")
    payload = json.loads(json.dumps(payload_of(notice(begins(one), ends(other), external_url="https://n/"))))
    assert payload["version"] == "4"
    assert payload["status"] == "firing"
    assert payload["receiver"] == "on-call"
    assert payload["groupKey"] == '{}/{severity="critical"}:{alertname="KvCacheFull"}'
    assert payload["groupLabels"] == {"alertname": "KvCacheFull"}
    assert payload["externalURL"] == "https://n/"
    assert payload["truncatedAlerts"] == 0
    assert payload["commonLabels"] == {name: value for name, value in one.labels if name != "server"}
    assert "summary" not in payload["commonAnnotations"]
    assert payload["commonAnnotations"]["action"] == one.annotations["action"]
    first, second = payload["alerts"]
    assert (first["status"], second["status"]) == ("firing", "resolved")
    assert first["startsAt"] == "2023-11-14T22:09:20.000Z"
    assert first["endsAt"] == "0001-01-01T00:00:00Z"
    assert second["endsAt"] == "2023-11-14T22:13:19.000Z"
    assert first["fingerprint"] == one.key
    assert first["eventId"] == begins(one).event_id


def test_an_end_for_lack_of_data_is_resolved_with_its_reason() -> None:
    payload = payload_of(notice(ends(kv_cache_full(), "data gone: vllm node7:8000")))
    assert payload["status"] == "resolved"
    assert payload["alerts"][0]["annotations"]["gpumon_reason"] == "data gone: vllm node7:8000"
    assert "gpumon_reason" not in payload_of(notice(ends(kv_cache_full())))["alerts"][0]["annotations"]


def test_too_many_alerts_are_cut_and_counted() -> None:
    message = render(notice(*(begins(kv_cache_full(server=f"node7:{n}")) for n in range(5))))
    less = cut(message.fields, 1)
    assert len(less["alerts"]) == 1
    assert less["truncatedAlerts"] == 4
    # What is common is of those that are there.
    assert less["commonLabels"]["server"] == "node7:0"
    assert "server" not in message.fields["commonLabels"]
    assert len(cut(message.fields, 0)["alerts"]) == 5
    assert cut(message.fields, 5)["truncatedAlerts"] == 0


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ([begins(kv_cache_full())], "first notification"),
        ([begins(kv_cache_full()), begins(kv_cache_full("b:1"), new=False)], "new alerts added"),
        ([begins(kv_cache_full(), new=False), ends(kv_cache_full("b:1"))], "some alerts resolved"),
        ([begins(kv_cache_full(), new=False)], "repeat interval elapsed"),
        ([ends(kv_cache_full())], "all alerts resolved"),
    ],
)
def test_why_it_is_sent_is_said_in_alertmanagers_words(entries: list[Entry], reason: str) -> None:
    assert payload_of(notice(*entries))["notification_reason"] == reason


@pytest.mark.parametrize(
    ("at_ms", "text"), [(T0 + 7, "2023-11-14T22:13:20.007Z"), (0, "1970-01-01T00:00:00.000Z"), (10**18, "0001-01-01")]
)
def test_times(at_ms: int, text: str) -> None:
    assert format_rfc3339(at_ms).startswith(text)
