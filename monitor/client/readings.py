"""Every reading of a thing, a GPU or a server, with its past: what a screen shows that opens one."""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping
from itertools import count, pairwise

from monitor.client.format import clean
from monitor.client.prometheus import Described, QueryClient
from monitor.client.snapshot import History, Reading
from monitor.client.wire import Series

_COUNTING = ("_total", "_count", "_sum")
_LEFT_OUT = ("_bucket", "_created")
_SHARED = ("__name__", "job", "instance", "Hostname", "UUID", "device", "modelName", "pci_bus_id", "gpu", "server")
_epochs = count(1 << 40)


async def readings(
    client: QueryClient, selector: str, at_ms: int, range_seconds: int, step: int
) -> tuple[Reading, ...]:
    """All readings that a selector selects, the thing's own first; those that ended before the moment are not among
    them. Raises ``ClientError``."""
    end_ms = at_ms - at_ms % (step * 1000)
    series = await client.query_range(selector, end_ms - range_seconds * 1000, end_ms, step)
    told = await client.metadata()
    found = [one for each in series if (one := _reading(each, told, end_ms, range_seconds, step)) is not None]
    return tuple(sorted(found, key=_place))


def _place(one: Reading) -> tuple[bool, str, list[tuple[str, str]]]:
    """By name; what gpumon says of a thing comes after what the thing says itself."""
    return one.name.startswith("gpumon_"), one.name, sorted(one.labels.items())


def _reading(
    series: Series, told: Mapping[str, tuple[Described, ...]], end_ms: int, range_seconds: int, step: int
) -> Reading | None:
    name = series.metric.get("__name__", "")
    if name.endswith(_LEFT_OUT) or not series.values:
        return None
    points = [(round(at * 1000), _finite(value)) for at, value in series.values]
    if points[-1][0] < end_ms - 2 * step * 1000:
        return None
    family = name
    for suffix in _COUNTING:
        family = family.removesuffix(suffix)
    described = next(iter(told.get(name, ()) or told.get(family, ())), Described())
    counts = described.type == "counter" or name.endswith(_COUNTING)
    if counts:
        points = _rates(points)
    known = dict(points)
    grid = array("q", range(end_ms - range_seconds * 1000, end_ms + 1, step * 1000))
    values = array("d", (known.get(at_ms, math.nan) for at_ms in grid))
    value = points[-1][1] if points and math.isfinite(points[-1][1]) else None
    labels = {clean(key): clean(text) for key, text in series.metric.items() if key not in _SHARED}
    history = History(grid, values, next(_epochs), range_seconds * 1000)
    return Reading(clean(name), labels, value, history, counts, clean(described.help))


def _finite(text: str) -> float:
    """What a graph can have: no infinity."""
    value = float(text)
    return value if math.isfinite(value) else math.nan


def _rates(points: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """What was counted a second, from each point to the next. A counter that begins anew began at 0."""
    out = []
    for (before_ms, before), (at_ms, value) in pairwise(points):
        out.append((at_ms, (value - before if value >= before else value) / ((at_ms - before_ms) / 1000)))
    return out
