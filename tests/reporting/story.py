"""A store of ten minutes that tests know by heart, and answers made by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from monitor.client.results import Row
from monitor.client.wire import Series
from monitor.reporting.asked import Answers, Known
from monitor.reporting.schema import Period
from monitor.samples import Labels, Scrape, Shape, labels_of
from monitor.store.head import Head

END_MS = 1_790_000_040_000
"""A whole minute."""
MINUTE_MS = 60_000
PERIOD = Period(END_MS - 10 * MINUTE_MS, END_MS)

Value = Callable[[int], float]
"""Of the number of the sample, 1 to 60; they are ten seconds apart, the last at the end."""


def store(series: Mapping[str, tuple[dict[str, str], Value]], gap: range = range(0)) -> Head:
    """A store with these series, ``name: (labels, value)``; ``name#2`` is a second of the name. In the gap nothing was
    read."""
    head = Head("gpumon", "n1:9519")
    labels: list[Labels] = [labels_of({"__name__": name.partition("#")[0], **own}) for name, (own, _) in series.items()]
    shape = Shape(labels, {})
    for number in range(1, 61):
        if number not in gap:
            at_ms = END_MS - (60 - number) * 10_000
            head.ingest("test", Scrape(at_ms, shape, [value(number) for _, value in series.values()]))
    return head


def answers(node: str = "n1", **more: object) -> Answers:
    """Of one daemon, with a step of a minute."""
    made = Answers(END_MS, "unix:/x", node, (Known(node),), daemon=True, transitions=(), events=())
    made.steps = {"cover": 60, "graphs": 60, "disks": 3600, "alerts": 60}
    for name, value in more.items():
        setattr(made, name, value)
    return made


def row(value: float, **labels: str) -> Row:
    """A row of an instant query."""
    return labels, float(END_MS), value


def line(labels: dict[str, str], *minutes: int, value: float = 1.0) -> Series:
    """A range's series with points at these minutes of the period, 1 to 10."""
    at = [(PERIOD.start_ms + minute * MINUTE_MS) / 1000 for minute in minutes]
    return Series(labels, values=tuple((one, f"{value:g}") for one in at))
