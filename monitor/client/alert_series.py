"""What happened with alerts, where nobody kept a record but the series ``ALERTS``: at which times they began to fire,
and at which they ended.

It is known to a minute, for the last six hours. Where the server itself did not evaluate, nobody knows, and no alert
began or ended then.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

from monitor.client.api import Client
from monitor.client.errors import ClientError
from monitor.client.format import clean
from monitor.client.queries import selector
from monitor.client.snapshot import Happening
from monitor.client.wire import AlertRow, Series

STEP_MS = 60_000
LONGEST_MS = 6 * 3_600_000
_MOST_SERIES = 500
"""Of more alerts than this the time that is looked back is cut."""
_NOT_TOLD = ("severity", "Hostname", "UUID", "device", "modelName", "pci_bus_id", "load", "model_name")
"""Labels that a title does without: others say it shorter."""
_LEFT_OUT = ("__name__", "alertstate", "alertname", "job")


async def happened(client: Client, since_ms: int, now_ms: int) -> tuple[Happening, ...]:
    """Alerts that began and ended since a time, the newest first. Raises ``ClientError``."""
    firing = selector(
        "ALERTS", 'alertstate="firing",severity!="none"', "" if client.part is None else client.part.every
    )
    end = now_ms - now_ms % STEP_MS
    # Two steps before: what is seen in the first of them only is known to have been there.
    start = max(end - LONGEST_MS, since_ms - since_ms % STEP_MS - 2 * STEP_MS)
    if start >= end:
        return ()
    seconds = (end - start) // 1000
    counted = await client.query(f"count(count_over_time({firing}[{seconds}s]))", end)
    many = float(counted[0].value[1]) if counted and counted[0].value is not None else 0.0
    if not many:
        return ()
    if many > _MOST_SERIES:
        start = end - max(2 * STEP_MS, int((end - start) * _MOST_SERIES / many) // STEP_MS * STEP_MS)
    series = await client.query_range(firing, start, end, STEP_MS / 1000)
    alive = await client.query_range("count(up)", start, end, STEP_MS / 1000)
    words = {_identity(one.labels): one.annotations for one in await _now(client)}
    known = sorted({round(at * 1000) for one in (*alive, *series) for at, _ in one.values})
    found = [one for each in series for one in changes(each, known, words.get(_identity(each.metric), {}))]
    return tuple(sorted((one for one in found if one.at_ms >= since_ms), key=lambda one: -one.at_ms))


async def _now(client: Client) -> Sequence[AlertRow]:
    try:
        return await client.alerts()
    except ClientError:
        return ()


def changes(series: Series, known: Sequence[int], words: dict[str, str]) -> Iterable[Happening]:
    """When one alert began and ended. ``known`` are the moments at which the server evaluated at all."""
    there = {round(at * 1000) for at, _ in series.values}
    labels = {clean(name): clean(value) for name, value in series.metric.items() if name not in _LEFT_OUT}
    name, severity = clean(series.metric.get("alertname", "")), clean(series.metric.get("severity", ""))
    detail = clean(words.get("summary", ""))
    # What it says in words is known while it fires only: in the title an event would be another one afterwards.
    told = {key: value for key, value in labels.items() if key not in _NOT_TOLD} or labels
    what = ", ".join(f"{key}={value}" for key, value in told.items())
    for before, at in pairwise(known):
        if (at in there) == (before in there):
            continue
        kind = "firing" if at in there else "resolved"
        yield Happening(at, kind, severity, f"{name}: {what}" if what else name, labels, detail)


def _identity(labels: dict[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((key, value) for key, value in labels.items() if key not in ("__name__", "alertstate")))
