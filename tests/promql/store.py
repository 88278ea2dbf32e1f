"""A small store and short questions to it."""

from __future__ import annotations

from monitor.promql.evaluate import instant, range_query
from monitor.promql.plan import plan
from monitor.samples import Labels, format_labels, labels_of
from monitor.store.head import Head

MINUTE = 60_000


def load(step_ms: int, **series: list[float | None]) -> Head:
    """A store whose series ``name`` or ``name__key_value__key_value`` have a sample every ``step_ms`` from 0 on."""
    head = Head("j", "i")
    for written, values in series.items():
        name, *pairs = written.split("__")
        labels = labels_of({"__name__": name, **dict(pair.split("_", 1) for pair in pairs)})
        for k, value in enumerate(values):
            if value is not None:
                head.append(labels, k * step_ms, value)
    return head


def add(head: Head, labels: Labels, step_ms: int, values: list[float]) -> None:
    """Append samples from 0 on."""
    for k, value in enumerate(values):
        head.append(labels, k * step_ms, value)


def at(head: Head, text: str, at_ms: int) -> dict[str, float]:
    """The samples of an instant vector, by their series as Prometheus writes it."""
    result = instant(plan(text), head, at_ms)
    assert result.type == "vector"
    return {format_labels(labels): value for labels, value in result.vector}


def over(head: Head, text: str, start_ms: int, end_ms: int, step_ms: int) -> dict[str, list[tuple[int, float]]]:
    """The series of a range query."""
    found = range_query(plan(text), head, start_ms, end_ms, step_ms)
    return {format_labels(labels): points for labels, points in found}
