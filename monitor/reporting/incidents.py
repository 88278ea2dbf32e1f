"""Incidents: alerts of one node that overlapped, with what happened around them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from monitor.client.format import clean
from monitor.client.wire import EventRow
from monitor.reporting.firings import is_standing
from monitor.reporting.schema import Around, FiringRow, Incident, Period

BEFORE_MS = 10 * 60_000
"""How long before the first alert an event may have been that preceded it."""
JOIN_MS = 60_000
"""Alerts that follow each other as closely are one incident: rules are evaluated at different times."""
MOST_AROUND = 12
KINDS = frozenset(
    [
        *("xid", "sxid", "gpu_lost", "gpu_init_failed", "oom_kill", "server_restarted", "server_log", "server_gone"),
        *("source_down", "source_up", "source_flapping", "daemon_started", "daemon_stopped", "config_reloaded"),
        *("silence_set", "silence_ended", "probe_started", "probe_ended", "probe_failed"),
        *("clock_back", "clock_forward", "slept", "history_problem"),
    ]
)
_RANK = {"critical": 0, "page": 0, "error": 0, "warning": 1, "info": 3, "none": 4}


def incidents(
    found: Sequence[FiringRow], events: Iterable[EventRow], period: Period
) -> tuple[tuple[Incident, ...], tuple[FiringRow, ...]]:
    """The incidents, the first first, and the alerts that stand: they fired nearly all the time, and belong to none."""
    standing = tuple(one for one in found if is_standing(one, period))
    told = sorted((one for one in events if one.kind in KINDS), key=lambda one: one.at_ms)
    groups: list[list[FiringRow]] = []
    open_groups: dict[str, list[FiringRow]] = {}
    for one in sorted((one for one in found if one not in standing), key=lambda one: one.start_ms):
        group = open_groups.get(one.node)
        if group is None or one.start_ms > _end(group, period) + JOIN_MS:
            group = open_groups[one.node] = []
            groups.append(group)
        group.append(one)
    return tuple(_incident(group, told, period) for group in groups), standing


def _end(group: Sequence[FiringRow], period: Period) -> int:
    return max(period.end_ms if one.end_ms is None else one.end_ms for one in group)


def _incident(group: Sequence[FiringRow], events: Sequence[EventRow], period: Period) -> Incident:
    first = group[0]
    end = _end(group, period)
    around = [
        Around(one.at_ms, clean(one.kind), clean(one.severity), clean(one.title))
        for one in events
        if first.start_ms - BEFORE_MS <= one.at_ms <= end
    ]
    if len(around) > MOST_AROUND:  # the gravest, in their order
        kept = sorted(around, key=lambda one: (_RANK.get(one.severity, 2), one.at_ms))[:MOST_AROUND]
        around = sorted(kept, key=lambda one: one.at_ms)
    return Incident(
        first.node,
        first.start_ms,
        None if any(one.end_ms is None for one in group) else end,
        min((one.severity for one in group), key=lambda severity: _RANK.get(severity, 2)),
        f"{first.name} ({first.where})" if first.where else first.name,
        tuple(group),
        tuple(around),
    )
