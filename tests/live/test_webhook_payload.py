"""Our webhook's payload beside that of a real Alertmanager for the same alerts."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from monitor.notify.message import render
from monitor.notify.payload import cut, format_rfc3339
from monitor.records import replace
from tests.live.receivers import json_receiver
from tests.live.servers import alertmanager, wait_for
from tests.notify.wire import begins, kv_cache_full, notice

pytestmark = pytest.mark.live

OURS = {"eventId", "node", "reminder", "unrecorded"}
"""What we say beside, of a message; of an alert it is ``eventId`` alone."""
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")


def form(value: Any) -> Any:
    """The types of a payload, without what is in it."""
    if isinstance(value, dict):
        return {key: form(one) for key, one in value.items()}
    if isinstance(value, list):
        return [form(one) for one in value]
    if isinstance(value, str) and TIME.fullmatch(value):
        return "time"
    return type(value).__name__


def test_a_real_alertmanager_says_the_same_of_the_same_alerts(tmp_path: Path) -> None:
    now_ms = int(datetime.now(UTC).timestamp() * 1000)
    alerts = [replace(kv_cache_full(server=f"node7:{port}"), fired_at_ms=now_ms) for port in (8000, 8001)]
    with json_receiver() as hook:
        settings = {
            "route": {"receiver": "on-call", "group_by": ["alertname"], "group_wait": "3s", "group_interval": "5m"},
            "receivers": [
                {"name": "on-call", "webhook_configs": [{"url": f"http://127.0.0.1:{hook.port}/", "max_alerts": 1}]}
            ],
        }
        with alertmanager(tmp_path, settings) as server:
            sent = [
                {
                    "labels": dict(alert.labels),
                    "annotations": dict(alert.annotations),
                    "startsAt": format_rfc3339(alert.fired_at_ms or 0),
                }
                for alert in alerts
            ]
            httpx.post(f"{server.url}/api/v2/alerts", json=sent).raise_for_status()
            wait_for("the webhook is told", lambda: hook.bodies, 60)
            theirs = hook.bodies[0]
    # Two alerts, of which one is sent: the reason is told of both, as there.
    told = notice(*map(begins, alerts), group_key='{}:{alertname="KvCacheFull"}', external_url=theirs["externalURL"])
    ours = cut(render(told).fields, 1)
    assert set(ours) - set(theirs) == OURS
    mine = {key: value for key, value in ours.items() if key not in OURS}
    mine["alerts"] = [{k: v for k, v in one.items() if k != "eventId"} for one in mine["alerts"]]
    assert form(mine) == form(theirs)
    differ = {key for key in theirs if mine[key] != theirs[key]}
    assert differ == {"alerts"}
    differ = {key for key in theirs["alerts"][0] if mine["alerts"][0][key] != theirs["alerts"][0][key]}
    # Our fingerprint names group and rule as well; times have as many digits as they need there.
    assert differ <= {"fingerprint", "generatorURL", "startsAt"}
