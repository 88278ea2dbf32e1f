"""When a disk is full if it goes on as it did: the median of all slopes between two points (Theil and Sen), which a
file that comes and goes does not turn. Pure.

No date is told that the past does not bear: of too short a past, of a disk that fills one day and empties the next, or
further ahead than ``HORIZON_DAYS``.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from msgspec.structs import replace

from monitor.client.format import clean
from monitor.reporting.asked import Answers
from monitor.reporting.coverage import points
from monitor.reporting.schema import DiskRow

HORIZON_DAYS = 90
LEAST_HOURS = 6.0
LEAST_POINTS = 6
_DAY_MS = 86_400_000
_STILL = 0.0005
"""Of its size a day: a disk that loses less than this stands still."""


def disks(answers: Answers) -> tuple[DiskRow, ...]:
    """Each file system that there was at the period's end."""
    sizes = {}
    for labels, _, value in answers.instants.get("disk_size", ()):
        node = answers.node_of(labels)
        if node is not None and value > 0:
            sizes[node, labels.get("mountpoint", "")] = value
    found = []
    for series in answers.ranges.get("disk_free_h", ()):
        node = answers.node_of(series.metric)
        place = clean(series.metric.get("mountpoint", ""))
        size = sizes.get((node or "", place))
        free = sorted(points(series).items())
        if node is not None and size is not None and free:
            found.append(judge(node, place, size, free))
    return tuple(sorted(found, key=lambda one: (one.days is None, one.days or 0.0, one.node, one.mountpoint)))


def judge(node: str, place: str, size: float, free: Sequence[tuple[int, float]]) -> DiskRow:
    """``free`` are times and bytes, in order."""
    available = free[-1][1]
    hours = (free[-1][0] - free[0][0]) / 3_600_000
    row = DiskRow(node, place, size, available, known_hours=hours)
    if hours < LEAST_HOURS or len(free) < LEAST_POINTS:
        return row
    slopes = sorted(
        (later - earlier) / (end - start)
        for number, (start, earlier) in enumerate(free)
        for end, later in free[number + 1 :]
    )
    daily = -statistics.median(slopes) * _DAY_MS  # bytes that are gone each day
    low, high = (-_part(slopes, share) * _DAY_MS for share in (0.75, 0.25))
    if daily <= _STILL * size:
        return replace(row, verdict="not filling")
    if low <= 0 or available - free[0][1] >= 0:
        return replace(row, verdict="unsteady")
    days = available / daily
    if days > HORIZON_DAYS:
        return replace(row, verdict="not soon")
    return DiskRow(node, place, size, available, "filling", days, available / high, available / low, hours)


def _part(ordered: Sequence[float], share: float) -> float:
    return ordered[round(share * (len(ordered) - 1))]
