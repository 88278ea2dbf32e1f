"""What a value in a template has: fields, and methods as in ``(toTime $value).Format "15:04"``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from monitor.rules.go_format import Data, Sample, Value
from monitor.rules.go_time import ZERO_NS, Duration, Named, Time
from monitor.rules.template_kinds import Declared

_TIME: Mapping[str, Declared] = {
    "Add": Declared(lambda time, span: time.moved(_span(span)), ("duration",)),
    "AddDate": Declared(lambda time, *given: time.with_date(*given), ("int", "int", "int")),
    "After": Declared(lambda time, other: time.ns > other.ns, ("time",)),
    "Before": Declared(lambda time, other: time.ns < other.ns, ("time",)),
    "Compare": Declared(lambda time, other: (time.ns > other.ns) - (time.ns < other.ns), ("time",)),
    "Day": Declared(lambda time: time.moment.day),
    "Equal": Declared(lambda time, other: time.ns == other.ns, ("time",)),
    "Format": Declared(lambda time, layout: time.format(layout), ("string",)),
    "Hour": Declared(lambda time: time.moment.hour),
    "IsZero": Declared(lambda time: time.is_zero),
    "Local": Declared(lambda time: time),  # this is UTC, as in Prometheus' own container
    "Location": Declared(lambda _: "UTC"),
    "Minute": Declared(lambda time: time.moment.minute),
    "Month": Declared(lambda time: time.month),
    "Nanosecond": Declared(lambda time: time.nanosecond),
    "Round": Declared(lambda time, span: _to_multiple(time, _span(span), up=True), ("duration",)),
    "Second": Declared(lambda time: time.moment.second),
    "String": Declared(str),
    "Sub": Declared(lambda time, other: Duration(time.ns - other.ns), ("time",)),
    "Truncate": Declared(lambda time, span: _to_multiple(time, _span(span), up=False), ("duration",)),
    "UTC": Declared(lambda time: time),
    "Unix": Declared(lambda time: time.ns // 1_000_000_000),
    "UnixMicro": Declared(lambda time: time.ns // 1_000),
    "UnixMilli": Declared(lambda time: time.ns // 1_000_000),
    "UnixNano": Declared(lambda time: time.ns),
    "Weekday": Declared(lambda time: time.weekday),
    "Year": Declared(lambda time: time.moment.year),
    "YearDay": Declared(lambda time: time.moment.timetuple().tm_yday),
}
_DURATION: Mapping[str, Declared] = {
    "Abs": Declared(lambda span: Duration(abs(span.ns))),
    "Hours": Declared(lambda span: span.seconds / 3600),
    "Microseconds": Declared(lambda span: int(span.ns / 1_000)),
    "Milliseconds": Declared(lambda span: int(span.ns / 1_000_000)),
    "Minutes": Declared(lambda span: span.seconds / 60),
    "Nanoseconds": Declared(lambda span: span.ns),
    "Round": Declared(lambda span, to: span.rounded(_span(to), up=True), ("duration",)),
    "Seconds": Declared(lambda span: span.seconds),
    "String": Declared(str),
    "Truncate": Declared(lambda span, to: span.rounded(_span(to), up=False), ("duration",)),
}
FIELDS: Mapping[tuple[type, str], tuple[Callable[[Any], Value], str]] = {
    (Sample, "Labels"): (lambda sample: sample.labels, ""),
    (Sample, "Value"): (lambda sample: sample.value, "interface {}"),
    (Data, "Labels"): (lambda data: data.labels, ""),
    (Data, "ExternalLabels"): (lambda data: data.external_labels, ""),
    (Data, "ExternalURL"): (lambda data: data.external_url, ""),
    (Data, "Value"): (lambda data: data.value, "interface {}"),
}
"""The fields that there are, by type and name: how to get them, and Go's type of the field where it says less than the
value does."""
METHODS: Mapping[type, Mapping[str, Declared]] = {
    Time: _TIME,
    Duration: _DURATION,
    Named: {"String": Declared(lambda named: named.name)},
}
"""By the type of the value, which is what a method is given first."""


def _span(value: int | Duration) -> int:
    return value.ns if isinstance(value, Duration) else value


def _to_multiple(time: Time, span: int, *, up: bool) -> Time:
    """Rounded as Go does: counted from its zero time, which differs from the epoch for spans of days and weeks."""
    if span <= 0:
        return time
    rest = (time.ns - ZERO_NS) % span
    return Time(time.ns - rest + (span if up and 2 * rest >= span else 0))
