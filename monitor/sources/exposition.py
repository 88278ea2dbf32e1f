"""Reads the Prometheus text format, again and again from the same server.

A line that was seen before costs one dictionary look-up and a float: the part of it before its value is the key. What
is new is read by a pattern where it is plain, and else (escapes, timestamps, faults) by prometheus_client's parser.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from prometheus_client.parser import text_string_to_metric_families

from monitor.samples import Family, Labels, Shape, label, make_labels

_SUFFIXES = {
    "counter": ("", "_total"),
    "histogram": ("_bucket", "_count", "_sum"),
    "summary": ("", "_count", "_sum"),
    "info": ("_info",),
}
_KINDS = {"unknown": "untyped", "info": "gauge", "stateset": "gauge"}  # OpenMetrics' words for them
_LEFT_OUT = ("python_gc_",)
_LABEL = rb'[a-zA-Z_][a-zA-Z0-9_]*="[^"\\\n]*"'
_PLAIN = re.compile(rb"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{((?:" + _LABEL + rb"(?:," + _LABEL + rb")*,?)?)\})?")
_PAIR = re.compile(r'([^=,]+)="([^"]*)"')
MAX_SERIES = 20_000
"""A server with more is refused: a real one has some hundreds, and the store would give each of them room."""


class ExpositionError(ValueError):
    """Text that is not an exposition. The message names the line and shows its beginning."""


class ExpositionReader:
    """Parses the expositions of one server. ``extra`` is added to each series; a label of the same name that the server
    sends becomes ``exported_<name>``, as when Prometheus scrapes.

    Series that nobody reads are left out: the moment a counter was created, Python's garbage collector.
    """

    def __init__(self, extra: Mapping[str, str], *, max_series: int = MAX_SERIES) -> None:
        self._extra = dict(extra)
        self._max_series = max_series
        self._known: dict[bytes, Labels | None] = {}
        self._lines: list[Labels] = []
        self.shape = Shape((), {})

    def read(self, body: bytes) -> list[float]:
        """The values of ``body``; ``self.shape`` then has their series, the same object while they stay the same.

        Raises ``ExpositionError``; nothing of such a body is taken.
        """
        if body.count(b"\n") > self._max_series:
            self._refuse_explosion(body)  # before anything of it is parsed or remembered
        if b" # {" in body:  # exemplars of OpenMetrics follow the value
            body = b"\n".join(line.partition(b" # {")[0] for line in body.split(b"\n"))
        known = self._known
        series: list[Labels] = []
        values: list[float] = []
        new_series = series.append
        new_value = values.append
        for line in body.split(b"\n"):
            if line[:1] == b"#" or not line:
                continue
            key, _, value = line.rpartition(b" ")
            try:
                labels = known[key]
            except KeyError:
                labels, key, value = self._learn(line, key, value, body)
            if labels is None:
                continue
            try:
                new_value(float(value))
            except ValueError:
                raise _error(line, body) from None
            new_series(labels)
        if series != self._lines:
            self._lines = series
            self.shape = Shape(series, self._families(body, series))
            if len(known) > 4 * len(series) + 1000:  # series that come and go must not pile up
                known.clear()
        return values

    def _learn(self, line: bytes, key: bytes, value: bytes, body: bytes) -> tuple[Labels | None, bytes, bytes]:
        """A line that was not seen before: its series (None for one that is left out), its key and its value."""
        if key.isascii() and (found := _PLAIN.fullmatch(key)):
            pairs = _PAIR.findall((found[2] or b"").decode())
            if len(dict(pairs)) == len(pairs):
                kept = self._known[key] = self._series(found[1].decode(), dict(pairs))
                return kept, key, value
        try:
            samples = [s for family in text_string_to_metric_families(line.decode() + "\n") for s in family.samples]
        except (ValueError, IndexError, KeyError) as error:
            raise _error(line, body) from error
        if len(samples) != 1:
            raise _error(line, body)
        sample = samples[0]
        if sample.timestamp is not None:
            # The time stands after the value; without it the line is like any other.
            key, _, value = key.rpartition(b" ")
            if key in self._known:
                return self._known[key], key, value
            remember = False
        else:
            remember = True
        labels = self._series(sample.name, sample.labels)
        if remember:
            self._known[key] = labels
        return labels, key, value

    def _series(self, name: str, labels: Mapping[str, str]) -> Labels | None:
        if name.endswith("_created") or name.startswith(_LEFT_OUT):
            return None
        pairs = {f"exported_{k}" if k in self._extra else k: v for k, v in labels.items()}
        return make_labels(name, pairs | self._extra)

    def _refuse_explosion(self, body: bytes) -> None:
        count = sum(1 for line in body.split(b"\n") if line and line[:1] != b"#")
        if count > self._max_series:
            raise ExpositionError(f"{count} series are too many: {self._max_series} at most are taken of one server")

    def _families(self, body: bytes, series: list[Labels]) -> dict[str, Family]:
        """Types and help texts of the series that are kept."""
        kinds: dict[str, str] = {}
        helps: dict[str, str] = {}
        for line in body.split(b"\n"):
            if line[:7] in (b"# TYPE ", b"# HELP "):
                name, _, text = line[7:].decode(errors="replace").partition(" ")
                (kinds if line[2:3] == b"T" else helps)[name] = text.strip()
        names = {label(labels, "__name__") for labels in series}
        families = {}
        for name, kind in kinds.items():
            for suffix in _SUFFIXES.get(kind, ("",)):
                if name + suffix in names:
                    # OpenMetrics names a family without the _total or _info of its samples.
                    family = name + suffix if kind in ("counter", "info") else name
                    help_text = helps.get(name, "").replace("\\n", "\n").replace("\\\\", "\\")
                    families[family] = Family(family, _KINDS.get(kind, kind), help_text)
                    break
        return families


def _error(line: bytes, body: bytes) -> ExpositionError:
    number = body.split(b"\n").index(line) + 1
    shown = "".join(c if c.isprintable() else "?" for c in line[:60].decode(errors="replace"))
    return ExpositionError(f'not Prometheus text: line {number}: "{shown}"')
