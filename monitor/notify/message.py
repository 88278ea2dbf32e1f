"""What a person reads: title, body and fields of a notification. Pure functions of the transition.

Labels and annotations come from servers and drivers that we do not control: escape codes, control characters and
marks that reorder text are taken out, and long values are cut.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from monitor.notify.records import Kind, event_id
from monitor.rules.transition import Transition
from monitor.samples import label

NotifyType = Literal["failure", "warning", "info", "success"]

DATA_GONE = "data gone"
"""How the reason of an alert begins that ended because its series went away."""

_TITLE_LIMIT = 250
_VALUE_LIMIT = 1_000
_BODY_LIMIT = 8_000

# Whole escape sequences first, so that "ESC[31m" does not leave "[31m" behind: CSI, OSC with its end, other ones.
_ESCAPES = re.compile("\x1b\\[[0-?]*[ -/]*[@-~]|\x1b\\][^\x07\x1b]*(?:\x07|\x1b\\\\)?|\x9b[0-?]*[ -/]*[@-~]|\x1b[ -~]?")
# C0 but tab and newline, DEL, C1, line and paragraph separators, marks of direction, halves of surrogate pairs.
_CONTROLS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u061c\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
_SPACES = re.compile(r"\s+")

_FIRST_ANNOTATIONS = ("summary", "description", "action")
_WHERE = (("gpu", "gpu"), ("server", "server"), ("mountpoint", "on"))


@dataclass(frozen=True, slots=True)
class Message:
    """A notification, ready to send."""

    event_id: str
    title: str
    """One line."""
    body: str
    """Plain text; the event's id is its last line."""
    notify_type: NotifyType
    """apprise's word for how bad it is."""
    fields: Mapping[str, Any]
    """The same for a machine: values that ``json.dumps`` takes."""


def render(transition: Transition, kind: Kind, node: str, now_ms: int, *, unrecorded: bool = False) -> Message:
    """Write the message for a transition on ``node``. ``now_ms`` is when it is sent, which may be long after.

    ``unrecorded`` says that gpumon could not write the event to its disk, so that it may come again.
    """
    alert = transition.alert
    severity = clean(label(alert.labels, "severity"))
    gone = kind == "resolved" and transition.reason.startswith(DATA_GONE)
    ident = event_id(transition)
    body = "\n".join(_body(transition, kind, gone, now_ms, ident, unrecorded))
    return Message(
        event_id=ident,
        title=_title(transition, kind, gone, node),
        body=body,
        notify_type=_notify_type(severity, kind, well=kind == "resolved" and not transition.reason),
        fields={
            "event_id": ident,
            "status": kind,
            "reason": clean(transition.reason),
            "node": clean(node),
            "fingerprint": alert.key,
            "alertname": clean(alert.rule),
            "severity": severity,
            "labels": {name: clean(value) for name, value in alert.labels if name != "job"},
            "annotations": {clean(name): clean(text, lines=True) for name, text in alert.annotations.items()},
            "value": format_value(alert.value),
            "active_at_ms": alert.active_at_ms,
            "starts_at_ms": _fired_at(transition),
            "ends_at_ms": transition.at_ms if kind == "resolved" else None,
            "unrecorded": unrecorded,
        },
    )


def clean(text: str, *, lines: bool = False) -> str:
    """``text`` without escape codes and control characters, cut at 1,000 characters; on one line unless ``lines``."""
    text = _CONTROLS.sub("", _ESCAPES.sub("", text.replace("\r\n", "\n")))
    text = text.replace("\t", " ").strip() if lines else _SPACES.sub(" ", text).strip()
    return text if len(text) <= _VALUE_LIMIT else text[: _VALUE_LIMIT - 1] + "…"


def format_value(value: float) -> str:
    """A number for a person: ``92``, ``0.875``, ``NaN``, ``+Inf``."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else f"{value:.6g}"


def format_duration(milliseconds: int) -> str:
    """``45s``, ``2m 5s``, ``3h 20m``, ``2d 4h``: the two largest units. Nothing is below 0s."""
    seconds = max(0, milliseconds) // 1000
    days, rest = divmod(seconds, 86_400)
    hours, rest = divmod(rest, 3_600)
    minutes, seconds = divmod(rest, 60)
    parts = [f"{n}{unit}" for n, unit in ((days, "d"), (hours, "h"), (minutes, "m"), (seconds, "s")) if n]
    return " ".join(parts[:2]) or "0s"


def format_time(at_ms: int) -> str:
    """``2026-01-31 10:15:00 UTC``, or the number itself where it is no date."""
    try:
        return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (ValueError, OverflowError, OSError):
        return f"{at_ms} ms"


def _title(transition: Transition, kind: Kind, gone: bool, node: str) -> str:
    labels = transition.alert.labels
    if kind == "firing":
        status = "FIRING"
    elif gone:
        status = "DATA GONE"
    else:
        status = "ENDED" if transition.reason else "RESOLVED"
    severity = label(labels, "severity")
    where = ", ".join(f"{word} {label(labels, name)}" for name, word in _WHERE if label(labels, name))
    what = f"{severity}: {transition.alert.rule}" if severity else transition.alert.rule
    title = clean(f"[{status}] {what} on {node}" + (f" ({where})" if where else ""))
    return title if len(title) <= _TITLE_LIMIT else title[: _TITLE_LIMIT - 1] + "…"


def _body(transition: Transition, kind: Kind, gone: bool, now_ms: int, ident: str, unrecorded: bool) -> list[str]:
    alert = transition.alert
    texts = {name: clean(text, lines=True) for name, text in alert.annotations.items()}
    lines: list[str] = []
    if kind == "resolved" and transition.reason:
        lines.append(clean(transition.reason))
        if gone:
            lines.append("The readings this alert rests on went away. It is not known to be well.")
    if texts.get("summary"):
        lines.append(texts["summary"])
    if texts.get("description"):
        lines.append(texts["description"])
    if texts.get("action"):
        lines.append(f"Action: {texts['action']}")
    if lines:
        lines.append("")
    lines.append(f"{'Last value' if kind == 'resolved' else 'Value'}: {format_value(alert.value)}")
    lines.append(f"Since: {format_time(alert.active_at_ms)}{_ago(alert.active_at_ms, now_ms)}")
    if kind == "resolved":
        lines.append(f"Ended: {format_time(transition.at_ms)}{_ago(transition.at_ms, now_ms)}")
        lines.append(f"Fired for: {format_duration(transition.at_ms - _fired_at(transition))}")
    labels = [f"  {name}: {clean(value)}" for name, value in alert.labels if name not in ("job", "alertname")]
    if labels:
        lines += ["Labels:", *labels]
    others = [f"{clean(name)}: {text}" for name, text in texts.items() if name not in _FIRST_ANNOTATIONS and text]
    lines += others
    if unrecorded:
        lines.append("unrecorded: gpumon could not write this event to its disk. It may come again.")
    text = "\n".join(lines)
    if len(text) > _BODY_LIMIT:
        text = text[: _BODY_LIMIT - 1] + "…"
    return [text, f"Event: {ident}"]


def _fired_at(transition: Transition) -> int:
    alert = transition.alert
    return alert.active_at_ms if alert.fired_at_ms is None else alert.fired_at_ms


def _ago(at_ms: int, now_ms: int) -> str:
    return f" ({format_duration(now_ms - at_ms)} ago)" if now_ms - at_ms >= 1000 else ""


def _notify_type(severity: str, kind: Kind, *, well: bool) -> NotifyType:
    if kind == "resolved":
        return "success" if well else "warning"
    if severity in ("critical", "page", "error"):
        return "failure"
    return "info" if severity == "info" else "warning"
