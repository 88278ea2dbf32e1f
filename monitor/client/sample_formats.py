"""Samples as OpenMetrics and as CSV, a family after the other, a series after the other, each ascending in time."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Protocol

import msgspec

from monitor.client.prometheus import Described
from monitor.client.raw_samples import Key, RawSeries, quoted

_NAME = re.compile(r"[A-Za-z_:][A-Za-z0-9_:]*")
_LABEL = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Format(Protocol):
    """How samples are written. Each method gives the text to write."""

    def begin(self) -> str:
        """What stands before all."""

    def family(self, name: str) -> str:
        """What stands before the series of a metric."""

    def series(self, series: RawSeries) -> Iterator[str]:
        """The samples of a series, or of a piece of it: a line each."""

    def end(self) -> str:
        """What stands behind all."""


class OpenMetrics:
    """The text format, version 1.0.0.

    A counter's family is its name without ``_total``. The parts of histograms and summaries stand as families of their
    own, of unknown type: their samples come metric by metric, where the format would have them point by point.
    """

    def __init__(self, names: Collection[str], metadata: Mapping[str, Sequence[Described]]) -> None:
        self._names = frozenset(names)
        self._metadata = metadata

    def begin(self) -> str:
        """Nothing."""
        return ""

    def family(self, name: str) -> str:
        """Type and help."""
        family, described = self._family(name)
        if not _NAME.fullmatch(family):
            family = quoted(family)
        text = f"# TYPE {family} {described.type}\n"
        help = " ".join(described.help.split("\n")).replace("\\", "\\\\").replace('"', '\\"')
        return text + (f"# HELP {family} {help}\n" if help else "")

    def _family(self, name: str) -> tuple[str, Described]:
        base = name.removesuffix("_total")
        for known in (name, base):
            for one in self._metadata.get(known, ()):
                # A family of the name must be free: a gauge may have it.
                if one.type == "counter" and name != base and base not in self._names:
                    return base, one
                if one.type == "gauge" and known == name:
                    return name, one
        return name, Described()

    def series(self, series: RawSeries) -> Iterator[str]:
        """A line for each sample."""
        head = _head(series.labels)
        for at_ms, value in zip(series.times, series.values, strict=True):
            yield f"{head} {number(value)} {timestamp(at_ms)}\n"

    def end(self) -> str:
        """The mark that tells a whole file."""
        return "# EOF\n"


class Csv:
    """Columns: time (RFC 3339, UTC), value, the metric's name, and its labels as a JSON object."""

    def begin(self) -> str:
        """The names of the columns."""
        return "time,value,name,labels\n"

    def family(self, name: str) -> str:
        """Nothing."""
        return ""

    def series(self, series: RawSeries) -> Iterator[str]:
        """A line for each sample."""
        labels = dict(series.labels)
        name = labels.pop("__name__", "")
        tail: list[str] = []
        csv.writer(_Lines(tail.append), lineterminator="\n").writerow([name, msgspec.json.encode(labels).decode()])
        for at_ms, value in zip(series.times, series.values, strict=True):
            yield f"{rfc3339(at_ms)},{number(value)},{tail[0]}"

    def end(self) -> str:
        """Nothing."""
        return ""


class _Lines:
    def __init__(self, write: Callable[[str], object]) -> None:
        self.write = write


def _head(labels: Key) -> str:
    name = dict(labels).get("__name__", "")
    pairs = [
        f"{key if _LABEL.fullmatch(key) else quoted(key)}={quoted(value)}" for key, value in labels if key != "__name__"
    ]
    if not _NAME.fullmatch(name):
        return "{" + ",".join([quoted(name), *pairs]) + "}"
    return f"{name}{{{','.join(pairs)}}}" if pairs else name


def number(value: float) -> str:
    """A value with all its digits."""
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    if math.isnan(value):
        return "NaN"
    text = repr(value)
    return text.removesuffix(".0")


def timestamp(at_ms: int) -> str:
    """Seconds. Prometheus multiplies them by 1000 and drops what is behind the point, so half a microsecond is added
    where that would lose a millisecond."""
    sign, whole = ("-", -at_ms) if at_ms < 0 else ("", at_ms)
    text = f"{sign}{whole // 1000}.{whole % 1000:03d}"
    return text if int(float(text) * 1000) == at_ms else text + "0005"


def rfc3339(at_ms: int) -> str:
    """A time in UTC, to the millisecond."""
    try:
        return (_EPOCH + timedelta(milliseconds=at_ms)).strftime("%Y-%m-%dT%H:%M:%S.") + f"{at_ms % 1000:03d}Z"
    except OverflowError:
        return f"{at_ms / 1000:.3f}"
