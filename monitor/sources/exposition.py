"""Reads the Prometheus text format, again and again from the same server.

A line that was seen before costs one dictionary look-up and a float: the part of it before its value is the key. What
is new is read by a pattern where it is plain, and else (escapes, timestamps, faults) by prometheus_client's parser.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress

from monitor.samples import Family, Labels, Shape, label, make_labels

_SUFFIXES = {
    "counter": ("", "_total"),
    "histogram": ("_bucket", "_count", "_sum"),
    "summary": ("", "_count", "_sum"),
    "info": ("_info",),
}
_KINDS = {"unknown": "untyped", "info": "gauge", "stateset": "gauge"}  # OpenMetrics' words for them
_COMMENT = ord("#")
_LEFT_OUT = ("python_gc_",)
_LABEL = rb'[a-zA-Z_][a-zA-Z0-9_]*="[^"\\\n]*"'
_PLAIN = re.compile(rb"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{((?:" + _LABEL + rb"(?:," + _LABEL + rb")*,?)?)\})?")
_LINE = re.compile(
    # A name (none where it stands quoted within the braces) and labels; a value; perhaps a time.
    rb"[ \t]*+((?:[a-zA-Z_:][a-zA-Z0-9_:]*+)?"
    rb'(?:[ \t]*+\{(?:[^"{}]|"(?:[^"\\]|\\.)*+")*+\})?)'
    rb'[ \t]*+([^ \t{}"=]++)(?:[ \t]++[-+0-9.eE]++)?[ \t]*+'
)
_PAIR = re.compile(r'([^=,]+)="([^"]*)"')
MAX_SERIES = 20_000
"""A server with more is refused: a real one has some hundreds, and the store would give each of them room."""
MAX_LINES = 10 * MAX_SERIES
"""With comments and empty lines: to look at millions takes seconds, in which nothing else is done."""
MAX_LINE_BYTES = 64 << 10
_MOST_HELP = 512
"""Bytes of a name and what is said of it: the longest of vLLM has 320. Of a server whose names are ever new, 50,000 of
them are in memory and in the history's file."""


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
        lines = body.count(b"\n")
        if lines > MAX_LINES:
            raise ExpositionError(f"{lines} lines are too many: {MAX_LINES} at most are taken of one server")
        if lines > self._max_series:
            self._refuse_explosion(body)  # before anything of it is parsed or remembered
        try:
            return self._read(body)
        finally:
            if len(self._known) > 4 * len(self._lines) + 1000:  # series that come and go must not pile up
                self._known.clear()

    def _read(self, body: bytes) -> list[float]:
        if b" # {" in body:  # exemplars of OpenMetrics follow the value
            body = b"\n".join(line.partition(b" # {")[0] for line in body.split(b"\n"))
        known = self._known
        series: list[Labels] = []
        texts: list[bytes] = []
        lines: list[bytes] = []
        new_series = series.append
        new_text = texts.append
        new_line = lines.append
        for line in body.split(b"\n"):
            if not line or line[0] == _COMMENT:
                continue
            key, _, value = line.rpartition(b" ")
            try:
                labels = known[key]
            except KeyError:
                labels, key, value = self._learn(line, key, value, body)
            if labels is not None:
                new_series(labels)
                new_text(value)
                new_line(line)
        values = _numbers(texts, lines, body)
        if series != self._lines:
            self._lines = series
            self.shape = Shape(series, self._families(body, series))
        return values

    def _learn(self, line: bytes, key: bytes, value: bytes, body: bytes) -> tuple[Labels | None, bytes, bytes]:
        """A line that was not seen before: its series (None for one that is left out), its key and its value."""
        if len(line) > MAX_LINE_BYTES:
            most = f"{MAX_LINE_BYTES >> 10} KiB at most are taken"
            raise ExpositionError(f"line {_number(line, body)} is too long: {len(line)} bytes, and {most}")
        if key.isascii() and (found := _PLAIN.fullmatch(key)):
            pairs = _PAIR.findall((found[2] or b"").decode())
            if len(dict(pairs)) == len(pairs):
                kept = self._known[key] = self._series(found[1].decode(), dict(pairs))
                return kept, key, value
        found = _LINE.fullmatch(line)
        if not found:
            raise _error(line, body)
        text, value = found.groups()
        if text in self._known:
            return self._known[text], text, value
        # Here, since few pages have such a line, and it takes a start 10 ms and the daemon 2 MB.
        from prometheus_client.parser import text_string_to_metric_families

        try:  # with a value of ours: that parser passes over what stands between a value and a time
            samples = [s for family in text_string_to_metric_families(text.decode() + " 1\n") for s in family.samples]
        except (ValueError, IndexError, KeyError) as error:
            raise _error(line, body) from error
        if len(samples) != 1:
            raise _error(line, body)
        labels = self._series(samples[0].name, samples[0].labels)
        self._known[text] = labels
        return labels, text, value

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
                name, _, text = line[7 : 7 + _MOST_HELP].decode(errors="replace").partition(" ")
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


def _numbers(texts: list[bytes], lines: list[bytes], body: bytes) -> list[float]:
    """The values of lines: at once, and one by one where any is odd."""
    # An underscore may stand between digits for Python, and not here.
    if b"_" not in b" ".join(texts):
        with suppress(ValueError):
            return list(map(float, texts))
    return [_odd_value(text, line, body) for text, line in zip(texts, lines, strict=True)]


def _odd_value(text: bytes, line: bytes, body: bytes) -> float:
    """The value of a line, perhaps one that has a tab before its time."""
    for one in (text, found[2] if (found := _LINE.fullmatch(line)) and found[1] else b""):
        if b"_" not in one:
            with suppress(ValueError):
                return float(one)
    raise _error(line, body)


def _error(line: bytes, body: bytes) -> ExpositionError:
    shown = "".join(c if c.isprintable() else "?" for c in line[:60].decode(errors="replace"))
    return ExpositionError(f'not Prometheus text: line {_number(line, body)}: "{shown}"')


def _number(line: bytes, body: bytes) -> int:
    return body.split(b"\n").index(line) + 1
