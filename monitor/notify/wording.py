"""The words that every form of a message is made of: cleaned texts, numbers, times, and one alert as it is told.

Labels and annotations come from servers and drivers that we do not control: escape codes, control characters and
marks that reorder text are taken out, and long values are cut. Each form escapes what is special in it besides.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Literal

import msgspec

from monitor.notify.notice import Entry
from monitor.rules.transition import Transition
from monitor.samples import label

NotifyType = Literal["failure", "warning", "info", "success"]
Status = Literal["FIRING", "RESOLVED", "DATA GONE", "ENDED"]

DATA_GONE = "data gone"
"""How the reason of an alert begins that ended because its series went away."""
NOT_WELL = "The readings this alert rests on went away. It is not known to be well."

TITLE_LIMIT = 250
_VALUE_LIMIT = 1_000
_NAMES_SHOWN = 3
_VALUES_SHOWN = 4

# Whole escape sequences first, so that "ESC[31m" does not leave "[31m" behind: CSI, OSC with its end, other ones.
_ESCAPES = re.compile("\x1b\\[[0-?]*[ -/]*[@-~]|\x1b\\][^\x07\x1b]*(?:\x07|\x1b\\\\)?|\x9b[0-?]*[ -/]*[@-~]|\x1b[ -~]?")
# C0 but tab and newline, DEL, C1, line and paragraph separators, marks of direction, halves of surrogate pairs, and
# what has no width, with which two texts look alike (but for the two joiners, which scripts and emoji need).
_CONTROLS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u061c\u202a-\u202e\u2066-\u2069\ud800-\udfff"
    "\xad\u034f\u115f\u1160\u180b-\u180e\u200b\u2060-\u2065\u206a-\u206f\u3164\ufeff\uffa0\ufff0-\ufffb"
    "\U000e0000-\U000e0fff]"
)
_SPACES = re.compile(r"\s+")

_FIRST_ANNOTATIONS = ("summary", "description", "action")
_NAMES = {"runbook_url": "Runbook", "dashboard_url": "Dashboard"}
_WHERE = (("gpu", "gpu"), ("server", "server"), ("mountpoint", "on"))
_UNSAID_LABELS = ("job", "alertname")
SEVERITIES = ("critical", "warning", "info", "none")
"""The worst first; others are worse than info and better than a warning."""


class Told(msgspec.Struct, frozen=True):
    """One alert of a message in words, all of them clean."""

    status: Status
    new: bool
    severity: str
    name: str
    where: str
    """``gpu 3, server node7:8000``, or ""."""
    reason: str
    """Why it ended, where that was no recovery."""
    summary: str
    description: str
    action: str
    """These three may have several lines."""
    value: str
    since: str
    """``2026-01-31 10:15:00 UTC (2m ago)``."""
    ended: str
    """Likewise, or "" while it fires."""
    lasted: str
    """How long it fired, or "" while it does."""
    labels: tuple[tuple[str, str], ...]
    """But for the alert's name and the job."""
    others: tuple[tuple[str, str], ...]
    """Further annotations."""
    event_id: str

    @property
    def fires(self) -> bool:
        """Whether it has not ended."""
        return self.status == "FIRING"

    @property
    def said(self) -> tuple[str, ...]:
        """What it is about. Of one that ended no description: it tells of what is no more."""
        if self.fires:
            return tuple(text for text in (self.summary, self.description) if text)
        lines = [self.reason, NOT_WELL if self.status == "DATA GONE" else ""]
        return tuple(text for text in (*lines, f"It was: {self.summary}" if self.summary else "") if text)

    @property
    def facts(self) -> tuple[tuple[str, str], ...]:
        """Value and times, each with its name."""
        if self.fires:
            return (("Value", self.value), ("Since", self.since))
        times = (("Since", self.since), ("Ended", self.ended), ("Fired for", self.lasted))
        return (("Last value", self.value), *times)

    @property
    def is_known(self) -> bool:
        """Whether a line or two will do where others are news: it ended, or the receiver has heard of it."""
        return not self.fires or not self.new

    @property
    def what(self) -> str:
        """``critical: KvCacheFull``."""
        return f"{self.severity}: {self.name}" if self.severity else self.name

    @property
    def tone(self) -> NotifyType:
        """How bad it is, in apprise's word."""
        if not self.fires:
            return "success" if self.status == "RESOLVED" else "warning"
        if self.severity in ("critical", "page", "error"):
            return "failure"
        return "info" if self.severity in ("info", "none") else "warning"


def told(entry: Entry, now_ms: int) -> Told:
    """Put an alert in words. ``now_ms`` is when the message is sent, which may be long after the change."""
    change, alert = entry.transition, entry.alert
    ended = entry.kind == "resolved"
    texts = {clean(name): clean(text, lines=True) for name, text in alert.annotations.items()}
    return Told(
        status=_status(entry),
        new=entry.new,
        severity=clean(label(alert.labels, "severity")),
        name=clean(alert.rule),
        where=", ".join(f"{word} {value}" for word, value in _places(alert.labels)),
        reason=clean(change.reason) if ended else "",
        summary=texts.get("summary", ""),
        description=texts.get("description", ""),
        action=texts.get("action", ""),
        value=format_value(alert.value),
        since=format_time(alert.active_at_ms) + _ago(alert.active_at_ms, now_ms),
        ended=format_time(change.at_ms) + _ago(change.at_ms, now_ms) if ended else "",
        lasted=format_duration(change.at_ms - fired_at(change)) if ended else "",
        labels=tuple((clean(name), clean(value)) for name, value in alert.labels if name not in _UNSAID_LABELS),
        others=tuple(
            (_NAMES.get(name, name), text) for name, text in texts.items() if name not in _FIRST_ANNOTATIONS and text
        ),
        event_id=entry.event_id,
    )


def title_of(tolds: Sequence[Told], entries: Sequence[Entry], node: str, reminder: int) -> str:
    """One line: ``[FIRING 2, RESOLVED 1] critical: KvCacheFull on node7 (server a:8000, b:8000)``."""
    counts = {status: sum(one.status == status for one in tolds) for status in dict.fromkeys(t.status for t in tolds)}
    status = ", ".join(f"{name} {count}" if len(tolds) > 1 else name for name, count in counts.items())
    if reminder:
        status += f", reminder {reminder}"
    loudest = worst(one.severity for one in tolds if one.fires) or worst(one.severity for one in tolds)
    names = list(dict.fromkeys(one.name for one in tolds))
    what = ", ".join(names[:_NAMES_SHOWN])
    if len(names) > _NAMES_SHOWN:
        what += f" and {len(names) - _NAMES_SHOWN} more"
    places: dict[str, dict[str, None]] = {}
    for entry in entries:
        for word, value in _places(entry.alert.labels):
            places.setdefault(word, {})[value] = None
    where = ", ".join(_place(word, list(values)) for word, values in places.items())
    title = f"[{status}] {f'{loudest}: ' if loudest else ''}{what} on {clean(node)}" + (f" ({where})" if where else "")
    return cut(clean(title), TITLE_LIMIT)


def worst(severities: Iterable[str]) -> str:
    """The worst of several severities, "" of none."""
    return min((one for one in severities if one), key=_rank, default="")


def fired_at(transition: Transition) -> int:
    """Since when the alert fires, epoch milliseconds."""
    alert = transition.alert
    return alert.active_at_ms if alert.fired_at_ms is None else alert.fired_at_ms


def clean(text: str, *, lines: bool = False) -> str:
    """``text`` without escape codes and control characters, cut at 1,000 characters; on one line unless ``lines``."""
    text = _CONTROLS.sub("", _ESCAPES.sub("", text.replace("\r\n", "\n")))
    text = text.replace("\t", " ").strip() if lines else _SPACES.sub(" ", text).strip()
    return cut(text, _VALUE_LIMIT)


def cut(text: str, limit: int) -> str:
    """``text``, at most ``limit`` characters of it; where some are missing, the last is ``…``."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


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


def _status(entry: Entry) -> Status:
    if entry.kind == "firing":
        return "FIRING"
    reason = entry.transition.reason
    if reason.startswith(DATA_GONE):
        return "DATA GONE"
    return "ENDED" if reason else "RESOLVED"


def _places(labels: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    found = dict(labels)
    return [(word, clean(found[name])) for name, word in _WHERE if found.get(name)]


def _place(word: str, values: list[str]) -> str:
    more = f" and {len(values) - _VALUES_SHOWN} more" if len(values) > _VALUES_SHOWN else ""
    return f"{word} {', '.join(values[:_VALUES_SHOWN])}{more}"


def _rank(severity: str) -> float:
    return SEVERITIES.index(severity) if severity in SEVERITIES else 1.5


def _ago(at_ms: int, now_ms: int) -> str:
    return f" ({format_duration(now_ms - at_ms)} ago)" if now_ms - at_ms >= 1000 else ""
