"""Targets of a probe as a person writes them: ``ttft=500ms,tpot=50ms,p99``."""

from __future__ import annotations

import re
from collections.abc import Iterable

from monitor.probes.schema import METRICS, Metric, Slo

_LIMIT = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|)")
_PERCENTILE = re.compile(r"p(\d{2,3}(?:\.\d+)?)")
_HOW = "write targets as ttft=500ms,tpot=50ms,p99"


class SloError(ValueError):
    """What was written is no target; the text says why, and what would be."""


def parse_slos(text: str) -> tuple[Slo, ...]:
    """Targets, each of the percentile that stands with it (``ttft=500ms@p95``), or else of the one that stands alone,
    or of p99. A number without a unit is milliseconds. Raises ``SloError``."""
    percentile = 99.0
    found: list[tuple[Metric, float, float | None]] = []
    for part in (one.strip().lower() for one in text.split(",")):
        if not part:
            continue
        name, equals, limit = part.partition("=")
        if not equals:
            percentile = _percentile(part)
            continue
        metric = next((one for one in METRICS if one == name.strip()), None)
        if metric is None:
            raise SloError(f"{name.strip() or part!r} is none of {', '.join(METRICS)}: {_HOW}")
        limit, at, own = limit.partition("@")
        match = _LIMIT.fullmatch(limit.strip())
        if match is None or not float(match[1]):
            raise SloError(f"{limit.strip() or 'nothing'!r} is no time: {_HOW}")
        found.append((metric, float(match[1]) * (1000 if match[2] == "s" else 1), _percentile(own) if at else None))
    return tuple(Slo(metric, limit_ms, percentile if own is None else own) for metric, limit_ms, own in found)


def _percentile(text: str) -> float:
    match = _PERCENTILE.fullmatch(text.strip())
    value = float(match[1]) if match is not None else 0.0
    if not 50 <= value <= 100:
        raise SloError(f"{text.strip()!r} is no percentile of p50 to p100: {_HOW}")
    return value


def slos_text(slos: Iterable[Slo]) -> str:
    """The same, as one would write them."""
    return ", ".join(f"{one.metric} p{one.percentile:g} ≤ {one.limit_ms:g} ms" for one in slos)
