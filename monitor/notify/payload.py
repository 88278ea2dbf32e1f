"""A message for a machine: the payload of Alertmanager's webhook, version 4, with a few fields of our own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from monitor.notify.notice import Entry, Notice
from monitor.notify.wording import clean, fired_at

VERSION = "4"
REASON = "gpumon_reason"
"""The annotation that says why an alert ended, where that was no recovery."""
_NEVER = "0001-01-01T00:00:00Z"


def payload_of(notice: Notice) -> dict[str, Any]:
    """Values that ``json.dumps`` takes.

    Ours are ``eventId``, ``node``, ``reminder`` (how often this was said before, 0 for news) and ``unrecorded``, and
    ``eventId`` of each alert. ``notification_reason`` is there since Alertmanager 0.33.
    """
    alerts = [_alert(entry) for entry in notice.entries]
    return {
        "version": VERSION,
        "groupKey": clean(notice.group_key),
        "truncatedAlerts": 0,
        "status": "firing" if any(entry.kind == "firing" for entry in notice.entries) else "resolved",
        "receiver": clean(notice.receiver),
        "groupLabels": {clean(name): clean(value) for name, value in notice.group_labels},
        "externalURL": clean(notice.external_url),
        "notification_reason": _why(notice),
        **_alerts(alerts),
        "eventId": notice.ident,
        "node": clean(notice.node),
        "reminder": notice.reminder,
        "unrecorded": notice.unrecorded,
    }


def cut(payload: Mapping[str, Any], most: int) -> dict[str, Any]:
    """The payload with ``most`` alerts at most, all of them where that is 0, and how many were left out."""
    alerts = payload.get("alerts", [])
    if not most or len(alerts) <= most:
        return dict(payload)
    return {**payload, **_alerts(alerts[:most]), "truncatedAlerts": len(alerts) - most}


def format_rfc3339(at_ms: int) -> str:
    """``2026-01-31T10:15:00.123Z``; a number that is no date gives Go's zero time."""
    try:
        moment = datetime.fromtimestamp(at_ms / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return _NEVER
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{at_ms % 1000:03d}Z"


def _alert(entry: Entry) -> dict[str, Any]:
    change, alert = entry.transition, entry.alert
    annotations = {clean(name): clean(text, lines=True) for name, text in alert.annotations.items()}
    if entry.kind == "resolved" and change.reason:
        annotations[REASON] = clean(change.reason)
    return {
        "status": entry.kind,
        "labels": {clean(name): clean(value) for name, value in alert.labels},
        "annotations": annotations,
        "startsAt": format_rfc3339(fired_at(change)),
        "endsAt": format_rfc3339(change.at_ms) if entry.kind == "resolved" else _NEVER,
        "generatorURL": "",
        "fingerprint": alert.key,
        "eventId": entry.event_id,
    }


def _alerts(alerts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {
        "commonLabels": _common([alert["labels"] for alert in alerts]),
        "commonAnnotations": _common([alert["annotations"] for alert in alerts]),
        "alerts": list(alerts),
    }


def _why(notice: Notice) -> str:
    """In Alertmanager's words."""
    fires = [entry for entry in notice.entries if entry.kind == "firing"]
    if not fires:
        return "all alerts resolved"
    if not any(entry.new for entry in fires):
        return "repeat interval elapsed" if len(fires) == len(notice.entries) else "some alerts resolved"
    return "first notification" if all(entry.new for entry in fires) else "new alerts added"


def _common(sets: Sequence[dict[str, str]]) -> dict[str, str]:
    first, *others = sets
    return {name: value for name, value in first.items() if all(other.get(name) == value for other in others)}
