"""`/metrics`: everything that the store has now, in the Prometheus text format.

``job`` and ``instance`` are left out: a Prometheus that scrapes this node adds its own, and then has the same series
as we do. What rules made (``ALERTS``, recorded series) is not shown: a Prometheus makes its own.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from weakref import WeakKeyDictionary

from monitor.samples import NAME, Family, format_labels, label
from monitor.store.head import Head
from monitor.store.series import HeadSeries

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_SUFFIXES = ("_bucket", "_count", "_sum")
_KINDS = {"counter", "gauge", "histogram", "summary", "untyped"}
_MILLION = 1e6


def _format(value: float) -> str:
    """A number as exporters write it: in Python's digits, from a million with an exponent, as Go has it."""
    if not math.isfinite(value):
        return "NaN" if value != value else "+Inf" if value > 0 else "-Inf"
    text = repr(value)
    if value < _MILLION or "e" in text:
        return text
    whole, _, part = text.partition(".")
    digits = (whole + part).rstrip("0")
    return f"{digits[0]}.{digits[1:]}".rstrip(".") + f"e+{len(whole) - 1:02}"


class Exposition:
    """Renders a store. How a series' line begins is worked out once."""

    def __init__(self, head: Head) -> None:
        self._head = head
        self._lines: WeakKeyDictionary[HeadSeries, tuple[str, str]] = WeakKeyDictionary()

    def render(self, collect: Collection[str] = ()) -> str:
        """The exposition; ``collect`` names the kinds of source to show (``nvml``, ``vllm``, …), nothing for all."""
        families: dict[str, list[str]] = {}
        for series, _, value in self._head.live():
            kind = series.source.partition(":")[0]
            if not kind or (collect and kind not in collect):
                continue
            family, start = self._lines.get(series) or self._learn(series)
            families.setdefault(family, []).append(f"{start} {_format(value)}\n")
        out: list[str] = []
        for name, lines in families.items():
            known = self._head.families.get(name)
            if known is not None:
                out.append(f"# HELP {name} {_escape_help(known.help)}\n")
                out.append(f"# TYPE {name} {known.kind if known.kind in _KINDS else 'untyped'}\n")
            out.extend(lines)
        return "".join(out)

    def _learn(self, series: HeadSeries) -> tuple[str, str]:
        name = label(series.original, NAME)
        found = family_of(name, self._head.families)
        entry = (found.name if found else name, format_labels(series.original))
        self._lines[series] = entry
        return entry


def family_of(name: str, families: dict[str, Family]) -> Family | None:
    """The family of a sample's name: itself, or the histogram or summary whose part it is."""
    family = families.get(name)
    if family is not None:
        return family
    for suffix in _SUFFIXES:
        if name.endswith(suffix):
            family = families.get(name[: -len(suffix)])
            if family is not None and family.kind in ("histogram", "summary"):
                return family
    return None


def _escape_help(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")
