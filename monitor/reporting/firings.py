"""Which alerts fired in a period, from when to when: from a daemon's record of changes, or from the series that rules
leave. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from monitor.client.format import clean
from monitor.client.wire import TransitionRow
from monitor.reporting.asked import Answers
from monitor.reporting.coverage import ends_of, points, without
from monitor.reporting.schema import FiringRow, Gap, Period, RuleRow

_NOT_TOLD = (
    *("__name__", "alertstate", "alertname", "severity", "job", "instance"),
    *("Hostname", "UUID", "device", "modelName", "pci_bus_id", "load", "model_name"),
)
"""Labels that tell nothing of where an alert is, or that others say shorter."""
STANDING_SHARE = 0.8
STANDING_SECONDS = 6 * 3600


def firings(answers: Answers, period: Period, gaps: Mapping[str, Sequence[Gap]]) -> tuple[FiringRow, ...]:
    """Every firing that has a part in the period, the first first. ``gaps`` are the times without readings, by node."""
    if answers.transitions is not None:
        found = _of_record(answers, answers.transitions, period, gaps)
    else:
        found = _of_series(answers, period, gaps)
    return tuple(sorted(found, key=lambda one: (one.start_ms, one.name, one.where)))


def rules(found: Iterable[FiringRow]) -> tuple[RuleRow, ...]:
    """The same by rule, the one that fired longest first."""
    by_rule: dict[tuple[str, str], list[FiringRow]] = {}
    for one in found:
        by_rule.setdefault((one.name, one.severity), []).append(one)
    rows = [
        RuleRow(
            name,
            severity,
            len(each),
            sum(one.seconds for one in each),
            max(one.seconds for one in each),
            sum(one.end_ms is None for one in each),
        )
        for (name, severity), each in by_rule.items()
    ]
    return tuple(sorted(rows, key=lambda row: (-row.seconds, row.name)))


def is_standing(one: FiringRow, period: Period) -> bool:
    """Whether it fired nearly all the time: it would join all incidents to one."""
    return one.seconds >= STANDING_SECONDS and one.seconds >= STANDING_SHARE * period.seconds


def _of_record(
    answers: Answers, rows: Sequence[TransitionRow], period: Period, gaps: Mapping[str, Sequence[Gap]]
) -> list[FiringRow]:
    begun: dict[tuple[tuple[str, str], ...], TransitionRow] = {}
    found: list[FiringRow] = []
    for row in rows:
        if row.labels.get("severity") == "none":
            continue
        key = tuple(sorted(row.labels.items()))
        if row.after == "firing":
            begun.setdefault(key, row)
        elif row.before == "firing":
            first = begun.pop(key, None)
            # One whose beginning is forgotten fired from before the record.
            start_ms = 0 if first is None else first.at_ms
            if row.at_ms > period.start_ms and start_ms <= period.end_ms:
                found.append(_firing(answers, first or row, start_ms, row.at_ms, period, gaps, clean(row.reason)))
    found += [
        _firing(answers, row, row.at_ms, None, period, gaps) for row in begun.values() if row.at_ms <= period.end_ms
    ]
    return found


def _firing(
    answers: Answers,
    row: TransitionRow,
    start_ms: int,
    end_ms: int | None,
    period: Period,
    gaps: Mapping[str, Sequence[Gap]],
    reason: str = "",
) -> FiringRow:
    node = answers.nodes[0].name if answers.nodes else answers.source
    begin, end = max(start_ms, period.start_ms), period.end_ms if end_ms is None else min(end_ms, period.end_ms)
    return FiringRow(
        clean(row.labels.get("alertname", "")),
        clean(row.labels.get("severity", "")),
        node,
        where_of(row.labels),
        start_ms or period.start_ms,
        end_ms if end_ms is None or end_ms <= period.end_ms else None,
        without(begin, end, gaps.get(node, ())),
        start_ms < period.start_ms,
        reason,
        clean(row.annotations.get("summary", "")),
    )


def _of_series(answers: Answers, period: Period, gaps: Mapping[str, Sequence[Gap]]) -> list[FiringRow]:
    """Each run of steps at which it fired; a step stands for the time before it."""
    step = answers.steps.get("alerts", 60)
    ends = ends_of(period, step)
    found = []
    for series in answers.alerts:
        node = answers.node_of(series.metric, any_of_it=True)
        there = points(series)
        if node is None or series.metric.get("severity") == "none":
            continue
        start: int | None = None
        for number, end in enumerate(ends):
            if end in there:
                start = end - step * 1000 if start is None else start
                if number < len(ends) - 1:
                    continue
            if start is None:
                continue
            still = end in there
            last = end if still else ends[number - 1]
            found.append(
                FiringRow(
                    clean(series.metric.get("alertname", "")),
                    clean(series.metric.get("severity", "")),
                    node,
                    where_of(series.metric),
                    start,
                    None if still else last,
                    without(start, last, gaps.get(node, ())),
                    start == ends[0] - step * 1000,
                )
            )
            start = None
    return found


def where_of(labels: Mapping[str, str]) -> str:
    """What tells an alert from others of its rule, in few words: ``gpu 3, server node7:8000``."""
    return ", ".join(
        f"{clean(name)} {clean(value)}" for name, value in sorted(labels.items()) if name not in _NOT_TOLD and value
    )
