"""Alerts as entries of a list: those that are active, and those that are over."""

from __future__ import annotations

from rich.style import Style

from monitor.client.ended import Ended
from monitor.client.format import duration, figure
from monitor.client.snapshot import Alert
from monitor.tui.palette import DIM, FAINT, PLAIN, STRONG, severity
from monitor.tui.screens.listing import Entry


def state_of(alert: Alert) -> str:
    """``firing``, ``pending``, ``silenced``, ``inhibited`` or ``resolved``."""
    return alert.state if alert.state != "firing" else alert.muted or "firing"


def entry_of(alert: Alert, now_ms: int) -> Entry:
    """One that fires or is pending."""
    quiet = alert.state != "firing" or bool(alert.muted)
    style = DIM if quiet else PLAIN
    lasting = None if alert.since_ms is None else max(0, now_ms - alert.since_ms) / 1000
    return _entry(alert, lasting, "", None, DIM if quiet else severity(alert.severity), style, quiet)


def over_entry(one: Ended, now_ms: int) -> Entry:
    """One that is over, dim."""
    alert = one.alert
    lasting = None if alert.since_ms is None else (one.ended_ms - alert.since_ms) / 1000
    ago = max(0, now_ms - one.ended_ms) / 1000
    entry = _entry(alert, lasting, f"{duration(ago)} ago", -ago, DIM, DIM, True, FAINT)
    return Entry(entry.key, entry.cells, entry.text, entry.sort, one, alert.since_ms or one.ended_ms, entry.copies)


def _entry(
    alert: Alert,
    lasting: float | None,
    ago: str,
    ended: float | None,
    grave: Style,
    style: Style,
    quiet: bool,
    words: Style | None = None,
) -> Entry:
    state = state_of(alert)
    value = _number(alert.value)
    summary = alert.summary or _labels(alert)
    cells = (
        (alert.severity or "alert", grave),
        (state, style),
        (duration(lasting), DIM),
        (ago, DIM),
        (alert.name, DIM if quiet else STRONG),
        ("" if value is None else figure(value), style),
        (summary, words or style),
    )
    text = " ".join((alert.name, alert.severity, state, alert.summary, _labels(alert)))
    copies = f'ALERTS{{alertname="{alert.name}"}}'
    sort = (alert.severity, state, lasting, ended, alert.name, value, summary)
    # An alert that ends keeps its place under the cursor.
    return Entry(key_of(alert), cells, text, sort, alert, alert.since_ms, copies)


def key_of(alert: Alert) -> str:
    """What it is known by in the list, also when it is over."""
    return repr(sorted(alert.labels.items()))


def _labels(alert: Alert) -> str:
    return ", ".join(f"{key}={value}" for key, value in alert.labels.items() if key != "alertname")


def _number(value: str) -> float | None:
    try:
        return float(value)
    except ValueError:
        return None
