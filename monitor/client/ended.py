"""Alerts that fired and are over: from a daemon's record of changes, or from the series that a Prometheus' rules
leave."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from monitor.client.format import clean
from monitor.client.snapshot import Alert
from monitor.client.wire import Series, TransitionRow

DAY_MS = 86_400_000
_NOT_ITS_OWN = ("__name__", "alertstate")
_OF_THE_NODE = ("job", "instance")
"""Labels that a store adds to an alert's series."""


@dataclass(frozen=True, slots=True)
class Ended:
    """The last time that an alert fired."""

    alert: Alert
    """As it last was. ``since_ms`` is when it began to fire, or None where that is not known."""
    ended_ms: int
    reason: str = ""
    """Why it ended, where it was not that all is well again."""
    times: int = 1
    """How often it fired in the day before, this time among them."""
    about_ms: int = 0
    """How exactly its times are known."""


def ended_of(rows: Iterable[TransitionRow], at_ms: int) -> tuple[Ended, ...]:
    """What fired within the day before a moment and was over by then, the last first. ``rows`` are in order."""
    begun: dict[tuple[tuple[str, str], ...], int] = {}
    found: dict[tuple[tuple[str, str], ...], Ended] = {}
    for row in rows:
        if row.at_ms > at_ms or row.labels.get("severity") == "none":
            continue
        key = tuple(sorted(row.labels.items()))
        if row.after == "firing":
            begun[key] = row.at_ms
        elif row.before == "firing" and row.at_ms > at_ms - DAY_MS:
            before = found.get(key)
            times = 1 if before is None else before.times + 1
            found[key] = Ended(_alert(row, begun.get(key)), row.at_ms, clean(row.reason), times)
    return tuple(sorted(found.values(), key=lambda one: -one.ended_ms))


def _alert(row: TransitionRow, since_ms: int | None) -> Alert:
    labels = {clean(key): clean(value) for key, value in row.labels.items()}
    words = {key: clean(row.annotations.get(key, "")) for key in ("summary", "description", "action")}
    words["runbook"] = clean(row.annotations.get("runbook_url", "") or row.annotations.get("runbook", ""))
    return Alert(
        name=labels.get("alertname", ""),
        state="resolved",
        severity=labels.get("severity", ""),
        since_ms=since_ms,
        labels=labels,
        value="" if row.value is None else f"{row.value:g}",
        **words,
    )


def ended_of_series(found: Sequence[Series], at_ms: int, step_ms: int) -> tuple[Ended, ...]:
    """The same from ``ALERTS`` that fire, asked for at each step of the day before a moment."""
    ended = []
    for one in found:
        times = [round(at * 1000) for at, _ in one.values]
        if not times or times[-1] > at_ms - 2 * step_ms or one.metric.get("severity") == "none":
            continue
        begins = [
            at for before, at in zip([times[0] - 2 * step_ms, *times], times, strict=False) if at - before > step_ms
        ]
        labels = {key: value for key, value in one.metric.items() if key not in _NOT_ITS_OWN}
        row = TransitionRow(times[-1], "firing", "inactive", labels)
        ended.append(Ended(_alert(row, begins[-1]), times[-1], "", len(begins), step_ms))
    return tuple(sorted(ended, key=lambda one: -one.ended_ms))


def is_same(one: Mapping[str, str], other: Mapping[str, str]) -> bool:
    """Whether two sets of labels are of the same alert. Those of the node may be absent in either."""
    for key in one.keys() | other.keys():
        if key in _NOT_ITS_OWN or (key in _OF_THE_NODE and not (key in one and key in other)):
            continue
        if one.get(key) != other.get(key):
            return False
    return True
