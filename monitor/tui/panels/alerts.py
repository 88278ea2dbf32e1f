"""What fires and what is pending, and the sources, with the reason of each that is down."""

from __future__ import annotations

from collections import Counter

from monitor.client.format import cells, cut, duration, fit
from monitor.client.snapshot import Alert, Snapshot, Source
from monitor.tui.palette import CRITICAL, DIM, GOOD, NOTICE, PLAIN, STRONG, WARNING, severity
from monitor.tui.rows import Line, Row, View, flow, title

_INDENT = 8
_NAME = 29
"""Where an alert's name begins."""
_WORDS = {"": "firing", "silenced": "silenced", "inhibited": "inhibit."}


def alert_lines(view: View, width: int, height: int, *, ruled: bool = False) -> list[Line]:
    """A title with the counts, then an alert a line, the gravest first; the last line says how many are not shown."""
    snapshot = view.snapshot
    if snapshot is None or height <= 0:
        return []
    alerts = snapshot.alerts
    rows = [_title(alerts)]
    if ruled:
        rows[0].rule(width)
    room = height - 1
    shown, below = _shown(snapshot, width, height)
    for alert in shown:
        rows.append(_alert(snapshot, alert, 0 if below else width))
        if below:
            rows.append(
                Row()
                .to(_NAME)
                .put(cut(_text(alert), width - _NAME), PLAIN if alert.state == "firing" and not alert.muted else DIM)
            )
    if len(shown) < len(alerts) and room > 1:
        rows.append(_more(alerts[len(shown) :], width))
    return [row.line() for row in rows[:height]]


def _more(alerts: tuple[Alert, ...], width: int) -> Row:
    """The names of those that there is no line for, as many as fit."""
    row = Row().put(f"  and {len(alerts)} more", NOTICE)
    left = Counter(one.name for one in alerts)
    told = {one.name: one for one in reversed(alerts)}  # each as grave as its gravest
    for name, many in left.items():
        text = name if many == 1 else f"{name} ×{many}"
        if row.width + 2 + cells(text) > width:
            break
        one = told[name]
        quiet = one.state != "firing" or bool(one.muted)
        row.put("  ").put(text, DIM if quiet else severity(one.severity))
    return row


def alert_at(view: View, width: int, height: int, line: int) -> Alert | None:
    """The alert in a line of what ``alert_lines`` gives."""
    if view.snapshot is None or line < 1:
        return None
    shown, below = _shown(view.snapshot, width, height)
    number = (line - 1) // (2 if below else 1)
    return shown[number] if number < len(shown) else None


def _shown(snapshot: Snapshot, width: int, height: int) -> tuple[tuple[Alert, ...], bool]:
    """The alerts that there is room for, and whether each has its text below it."""
    alerts = snapshot.alerts
    room = height - 1
    # Where there is one line alone, the gravest alert has it; the title has told how many there are.
    shown = alerts if len(alerts) <= room else alerts[: max(1, room - 1)]
    return shown, 2 * len(alerts) <= room and any(_width(snapshot, alert) > width for alert in alerts)


def _title(alerts: tuple[Alert, ...]) -> Row:
    row = title("alerts").to(_INDENT)
    firing = [alert for alert in alerts if alert.state == "firing" and not alert.muted]
    if not alerts:
        return row.put("none firing", GOOD)
    if firing:
        row.put(f"{len(firing)} firing", severity(firing[0].severity))
    else:
        row.put("none firing", GOOD)
    for word in ("silenced", "inhibited"):
        muted = sum(alert.muted == word for alert in alerts)
        if muted:
            row.put(f"  {muted} {word}", DIM)
    pending = sum(alert.state != "firing" for alert in alerts)
    if pending:
        row.put(f"  {pending} pending", DIM)
    return row


def _alert(snapshot: Snapshot, alert: Alert, width: int) -> Row:
    """One alert in a line; its text where ``width`` leaves room."""
    quiet = alert.state != "firing" or bool(alert.muted)
    row = Row().put("  ")
    row.put(fit(alert.severity or "alert", 9), DIM if quiet else severity(alert.severity))
    since = "" if alert.since_ms is None else duration(max(0, snapshot.now_ms - alert.since_ms) / 1000)
    row.put(fit(alert.state if alert.state != "firing" else _WORDS[alert.muted], 9), DIM if quiet else PLAIN)
    row.put(fit(since, 8), DIM).to(_NAME)
    row.put(alert.name, DIM if quiet else STRONG)
    text = _text(alert)
    room = width - row.width - 2
    if text and room >= 8:
        row.put("  ").put(cut(text, room), DIM if quiet else PLAIN)
    return row


def _text(alert: Alert) -> str:
    """Its summary, else the labels that tell it from its like."""
    return alert.summary or ", ".join(
        f"{key}={value}" for key, value in alert.labels.items() if key not in ("alertname", "severity", "job")
    )


def _width(snapshot: Snapshot, alert: Alert) -> int:
    return _alert(snapshot, alert, 10_000).width


def source_lines(view: View, width: int, height: int) -> list[Line]:
    """The sources in one line or more; those that are down first, with their reasons."""
    snapshot = view.snapshot
    if snapshot is None or height <= 0:
        return []
    if not snapshot.sources:
        text = "not told by a Prometheus" if snapshot.node.mode == "prometheus" else "none yet"
        return [title("sources").to(_INDENT + 1).put(text, DIM).line()]
    ordered = sorted(snapshot.sources, key=lambda source: (source.up or source.absent, source.absent))
    rows = flow([_source(snapshot, one) for one in ordered], width, indent=_INDENT + 1, gap=3, first=title("sources"))
    for id, problem in snapshot.problems.items():
        rows.append(Row().to(_INDENT + 1).put(f"query {id} failed: ", WARNING).put(problem, DIM))
    return [row.line() for row in rows[:height]]


def _source(snapshot: Snapshot, source: Source) -> Row:
    row = Row().put(source.name if not source.server else f"{source.name} {source.server}", PLAIN).put(" ")
    if source.up:
        return row.put("ok", GOOD)
    if source.absent:
        return row.put("not here", DIM)
    row.put("DOWN", CRITICAL).put(f" {source.reason}", WARNING)
    if source.last_success_ms is not None:
        row.put(f", {duration((snapshot.now_ms - source.last_success_ms) / 1000)}", NOTICE)
    return row
