"""All that is known of one alert, in words: since when, why, what to do, its labels and its rule."""

from __future__ import annotations

from dataclasses import dataclass

from rich.style import Style

from monitor.client.alertmanager_wire import SilenceRow
from monitor.client.ended import Ended
from monitor.client.format import clock, duration
from monitor.client.rules import Rule
from monitor.client.snapshot import Alert
from monitor.durations import format_duration
from monitor.runbooks import is_shipped
from monitor.tui.palette import DIM, GOOD, NOTICE, PLAIN, STRONG, severity
from monitor.tui.panels.wrapped import wrapped
from monitor.tui.rows import Row

_RUNBOOKS = ("runbook_url", "runbook")


@dataclass(frozen=True, slots=True)
class Known:
    """What is known beside an alert."""

    rule: Rule | None = None
    ended: Ended | None = None
    """How it ended, where it did."""
    before: Ended | None = None
    """When it last fired before."""
    silence: SilenceRow | None = None
    """What keeps people from being told."""
    passed: bool = False
    """Whether what it compares is no longer so."""


def told(alert: Alert, known: Known, now_ms: int, width: int) -> list[Row]:
    """The most needed first."""
    rule, before, silence = known.rule, known.before, known.silence
    rows = [Row().put(f"  {alert.name}", STRONG).put(f"  {alert.severity}", severity(alert.severity))]
    state, style = _state(alert, known, now_ms)
    if rows[0].width + 2 + len(state) <= width:
        rows[0].put(f"  {state}", style)
    else:
        rows += wrapped("", state, width, style)
    if silence is not None:
        until = "" if silence.ends_at_ms is None else f"until {_clock(silence.ends_at_ms, now_ms)} "
        rows += wrapped("silenced", f"{until}by {silence.created_by}: {silence.comment}", width, NOTICE)
    if alert.summary:
        rows += wrapped("", alert.summary, width)
    if alert.action:
        rows += wrapped("do", alert.action, width)
    if alert.description:
        rows += wrapped("why", alert.description, width)
    runbook = [runbook_of(alert, rule), "r opens it here" if is_shipped(alert.name) else ""]
    if any(runbook):
        rows += wrapped("runbook", "; ".join(text for text in runbook if text), width)
    labels = ", ".join(f"{key}={value}" for key, value in alert.labels.items() if key != "alertname")
    if labels:
        rows += wrapped("labels", labels, width)
    if rule is not None:
        rows += wrapped("rule", rule.expr, width)
        rows += wrapped("", _terms(rule), width, DIM)
    if before is not None:
        ago = duration(max(0, now_ms - before.ended_ms) / 1000)
        rows += wrapped(
            "before", f"fired {_times(before.times)} in the day before; it last ended {ago} ago", width, DIM
        )
    return rows


def _state(alert: Alert, known: Known, now_ms: int) -> tuple[str, Style]:
    rule = known.rule
    if known.ended is not None:
        return _over(known.ended, now_ms), NOTICE if known.ended.reason else GOOD
    since = "" if alert.since_ms is None else f", since {_clock(alert.since_ms, now_ms)}"
    if alert.state == "firing":
        text, style = f"fires{since}", PLAIN
        if alert.muted:
            why = "silenced: nobody is told" if alert.muted == "silenced" else "inhibited: a graver alert speaks for it"
            text, style = f"{text}; {why}", DIM
        if known.passed and rule is not None and rule.keep_seconds:
            text += f"; it has passed, and is kept up for {_length(rule.keep_seconds)} in case it comes back"
        return text, style
    if rule is not None and alert.since_ms is not None and rule.for_seconds:
        left = rule.for_seconds - (now_ms - alert.since_ms) / 1000
        return f"pending{since}; fires in {duration(max(0.0, left))} if it goes on so", PLAIN
    return f"pending{since}", PLAIN


def _over(ended: Ended, now_ms: int) -> str:
    began = ended.alert.since_ms
    about = " about" if ended.about_ms else ""
    text = f"over since{about} {_clock(ended.ended_ms, now_ms)}"
    if ended.reason:
        text = f"ended {_clock(ended.ended_ms, now_ms)}, not for the better: {ended.reason}"
    if began is not None:
        text += f"; it fired from {_clock(began, now_ms)}, for{about} {duration((ended.ended_ms - began) / 1000)}"
    return text + (f"; {_times(ended.times)} in the day before" if ended.times > 1 else "")


def _terms(rule: Rule) -> str:
    terms = [f"for {_length(rule.for_seconds)}" if rule.for_seconds else "at once"]
    if rule.keep_seconds:
        terms.append(f"kept up for {_length(rule.keep_seconds)}")
    return ", ".join((*terms, f"group {rule.group}"))


def _length(seconds: float) -> str:
    return format_duration(round(seconds * 1000))


def runbook_of(alert: Alert, rule: Rule | None) -> str:
    """The runbook's address as the alert has it, else as its rule does; "" where neither says."""
    return alert.runbook or (told_runbook(rule) if rule is not None else "")


def told_runbook(rule: Rule) -> str:
    """The runbook's address that a rule says, where no template is in it."""
    found = (rule.annotations.get(name, "") for name in _RUNBOOKS)
    return next((one for one in found if one and "{{" not in one), "")


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number} times"


def _clock(at_ms: int, now_ms: int) -> str:
    return clock(at_ms, date=abs(now_ms - at_ms) > 43_200_000)
