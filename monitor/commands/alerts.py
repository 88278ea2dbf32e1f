"""``gpumon alerts``: what fires, what is about to, and what is kept back by whom.

The JSON is one object; times are epoch milliseconds, and an absent one is null:

    {"schema": 1, "now_ms": …,
     "alerts": [{"name", "state": "firing" | "pending", "severity", "since_ms", "summary", "labels", "annotations",
                 "value", "fingerprint", "receivers": [name…],
                 "silenced_by": [{"id", "created_by", "comment", "ends_at_ms"}…],
                 "inhibited_by": [fingerprint…]}…]}
"""

from __future__ import annotations

import asyncio
import shutil
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import click
import msgspec

from monitor.client import format as words
from monitor.client.alertmanager import AlertClient, ManagedAlert, SilenceRow
from monitor.client.discover import find
from monitor.client.errors import ClientError, Refused
from monitor.client.wire import AlertRow, parse_time
from monitor.commands.for_programs import json_text

SCHEMA = 1
_COLORS = {"critical": "red", "warning": "yellow"}
_SEVERITIES = {"critical": 0, "warning": 1}


class Silencing(msgspec.Struct, frozen=True):
    """The silence that keeps an alert back."""

    id: str
    created_by: str = ""
    comment: str = ""
    ends_at_ms: int | None = None


class Alert(msgspec.Struct, frozen=True):
    """An alert, as the JSON has it."""

    name: str
    state: str
    severity: str
    since_ms: int | None
    summary: str
    labels: dict[str, str]
    annotations: dict[str, str]
    value: str | None = None
    fingerprint: str = ""
    receivers: tuple[str, ...] = ()
    silenced_by: tuple[Silencing, ...] = ()
    inhibited_by: tuple[str, ...] = ()

    @property
    def shown_state(self) -> str:
        """``firing``, ``pending``, ``silenced`` or ``inhibited``."""
        return "silenced" if self.silenced_by else "inhibited" if self.inhibited_by else self.state


@dataclass(frozen=True, slots=True)
class Picture:
    """All alerts at one time. ``note`` says what could not be asked."""

    now_ms: int
    alerts: tuple[Alert, ...]
    note: str = ""


def run(url: str | None, alertmanager: str | None, *, everything: bool, as_json: bool) -> int:
    """Print the alerts; 0, or 1 where they could not be had."""
    try:
        picture = asyncio.run(_ask(url, alertmanager))
    except ClientError as error:
        click.echo(f"gpumon alerts: {error}", err=True)
        return 1
    if as_json:
        click.echo(json_text({"schema": SCHEMA, "now_ms": picture.now_ms, "alerts": picture.alerts}, indent=2))
        return 0
    width = shutil.get_terminal_size((100, 24)).columns if sys.stdout.isatty() else 10_000
    click.echo(render(picture, width, everything=everything), nl=False, color=words.wants_color())
    return 0


async def _ask(url: str | None, alertmanager: str | None) -> Picture:
    if alertmanager and not url:
        async with AlertClient(alertmanager) as client:
            return _merged(None, await client.managed_alerts(), await client.silences(), _here_ms())
    found = find(url)
    if found is None:
        raise ClientError("no daemon runs here", "this node", "Start one with `gpumon daemon`, or name one with --url")
    async with AlertClient(found.target) as client:
        rows = await client.alerts()
        if alertmanager:
            async with AlertClient(alertmanager) as other:
                return _merged(rows, await other.managed_alerts(), await other.silences(), _here_ms())
        try:
            now_ms = (await client.capabilities()).now_ms
            return _merged(rows, await client.managed_alerts(), await client.silences(), now_ms)
        except Refused as error:
            if error.status != 404:  # a Prometheus, which knows no silences
                raise
    note = "silences are not known: a Prometheus has none; name its Alertmanager with --alertmanager http://HOST:9093"
    return _merged(rows, (), (), _here_ms(), note)


def _here_ms() -> int:
    return time.time_ns() // 1_000_000


def _merged(
    rows: Sequence[AlertRow] | None,
    managed: Sequence[ManagedAlert],
    silences: Sequence[SilenceRow],
    now_ms: int,
    note: str = "",
) -> Picture:
    """The rules' alerts with what the Alertmanager knows of each; with no rules' alerts, the Alertmanager's own."""
    known = {one.id: one for one in silences}
    alerts = []
    if rows is None:
        alerts = [_alert(one.labels, one.annotations, "firing", one.starts_at, one, known) for one in managed]
    for row in rows or ():
        match = next((one for one in managed if _same(row, one)), None) if row.state == "firing" else None
        alerts.append(_alert(row.labels, row.annotations, row.state, row.active_at, match, known, row))
    alerts.sort(key=_order)
    return Picture(now_ms, tuple(alerts), note)


def _same(row: AlertRow, managed: ManagedAlert) -> bool:
    """Whether both are one alert: an Alertmanager's has the external labels of who sent it, too."""
    if row.fingerprint and row.fingerprint == managed.fingerprint:
        return True
    return row.labels.items() <= managed.labels.items()


def _alert(
    labels: dict[str, str],
    annotations: dict[str, str],
    state: str,
    since: str,
    managed: ManagedAlert | None,
    silences: Mapping[str, SilenceRow],
    row: AlertRow | None = None,
) -> Alert:
    status = managed.status if managed is not None else None
    return Alert(
        name=labels.get("alertname", ""),
        state=state,
        severity=labels.get("severity", ""),
        since_ms=parse_time(since),
        summary=annotations.get("summary", "") or annotations.get("description", ""),
        labels=labels,
        annotations=annotations,
        value=row.value if row is not None else None,
        fingerprint=(row.fingerprint if row is not None else "") or (managed.fingerprint if managed else ""),
        receivers=tuple(one.name for one in managed.receivers) if managed is not None else (),
        silenced_by=tuple(_silencing(ident, silences) for ident in status.silenced_by) if status else (),
        inhibited_by=status.inhibited_by if status else (),
    )


def _silencing(ident: str, silences: Mapping[str, SilenceRow]) -> Silencing:
    found = silences.get(ident)
    if found is None:
        return Silencing(ident)
    return Silencing(ident, found.created_by, found.comment, found.ends_at_ms)


def _order(alert: Alert) -> tuple[int, int, int, str, str]:
    states = {"firing": 0, "pending": 1, "silenced": 2, "inhibited": 3}
    return (
        states.get(alert.shown_state, 9),
        _SEVERITIES.get(alert.severity, 2),
        alert.since_ms or 0,
        alert.name,
        str(sorted(alert.labels.items())),
    )


# -- for people --------------------------------------------------------------------------------------------------------


def render(picture: Picture, width: int = 100, *, everything: bool = False) -> str:
    """The alerts as lines of at most ``width`` cells, with colours. Without ``everything``, what is kept back and what
    has severity none is counted and not listed."""
    shown = [one for one in picture.alerts if everything or not _is_quiet(one)]
    lines = [_count(picture.alerts, len(picture.alerts) - len(shown))]
    if shown:
        lines += ["", *_table(picture, shown, width)]
    if picture.note:
        lines += ["", picture.note]
    return "\n".join(lines) + "\n"


def _is_quiet(alert: Alert) -> bool:
    return alert.shown_state in ("silenced", "inhibited") or alert.severity == "none"


def _count(alerts: Sequence[Alert], hidden: int) -> str:
    if not alerts:
        return "no alerts"
    counts = Counter("of severity none" if _is_machines(one) else one.shown_state for one in alerts)
    order = ("firing", "pending", "silenced", "inhibited", "of severity none")
    said = ", ".join(f"{counts[state]} {state}" for state in order if counts[state] or state == "firing")
    return f"{said} (--all lists them)" if hidden else said


def _is_machines(alert: Alert) -> bool:
    return alert.severity == "none" and alert.shown_state in ("firing", "pending")


def _table(picture: Picture, alerts: Sequence[Alert], width: int) -> list[str]:
    rows = [["SEVERITY", "STATE", "FOR", "ALERT", "SUMMARY"]]
    for one in alerts:
        since = words.ABSENT if one.since_ms is None else words.duration((picture.now_ms - one.since_ms) / 1000)
        what = one.summary or ", ".join(f"{k}={v}" for k, v in sorted(one.labels.items()) if k not in _PLAIN)
        rows.append([words.clean(cell) for cell in (one.severity, one.shown_state, since, one.name, what)])
    widths = [max(words.cells(row[column]) for row in rows) for column in range(4)]
    lines = []
    by_print = {one.fingerprint: one for one in picture.alerts if one.fingerprint}
    for number, row in enumerate(rows):
        cells = [words.fit(cell, size) for cell, size in zip(row, widths, strict=False)]
        line = words.cut("  ".join([*cells, row[4]]).rstrip(), width).rstrip()
        color = _COLORS.get(row[0]) if number and alerts[number - 1].shown_state == "firing" else None
        lines.append(click.style(line[: widths[0]], fg=color) + line[widths[0] :] if color else line)
        if number:
            lines += [words.cut(f"    {why}", width).rstrip() for why in _reasons(alerts[number - 1], by_print)]
    return lines


_PLAIN = ("alertname", "severity", "job")


def _reasons(alert: Alert, by_print: Mapping[str, Alert]) -> list[str]:
    said = []
    for one in alert.silenced_by:
        until = "" if one.ends_at_ms is None else f" until {words.clock(one.ends_at_ms, date=True)}"
        who = f" by {words.clean(one.created_by)}" if one.created_by else ""
        said.append(f"silenced{who}{until}: {words.clean(one.comment) or 'no comment'} ({one.id[:8]})")
    for key in alert.inhibited_by:
        other = by_print.get(key)
        said.append(f"inhibited by {words.clean(other.name) if other is not None else key}")
    return said
