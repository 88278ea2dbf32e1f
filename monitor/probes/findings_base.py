"""What the findings have in common: which steps count, numbers over GPUs and repeats, numbers in words. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence

from monitor.client.format import duration, number, percent, seconds
from monitor.probes.schema import GpuReading, Result, Step, WorkloadName

FEW = 100
"""Of fewer values the 99th percentile is about the greatest one."""

SIMULATED_GPUS = "the GPUs are those of a simulated node"
"""The note of a step whose GPUs were made up by a daemon."""


def counted(result: Result, *workloads: WorkloadName) -> list[Step]:
    """The steps that are valid and have answers; of these workloads, or of all."""
    return [
        step
        for step in result.steps
        if not step.invalid and step.metrics.completed > 0 and (not workloads or step.workload in workloads)
    ]


def middle(values: Iterable[float | None]) -> float | None:
    """The median of those that are there; None where none is."""
    known = [value for value in values if value is not None and value == value]
    return statistics.median(known) if known else None


def mean(values: Iterable[float | None]) -> float | None:
    """Their mean; None where none is there."""
    known = [value for value in values if value is not None and value == value]
    return statistics.fmean(known) if known else None


def most(values: Iterable[float | None]) -> float | None:
    """The greatest; None where none is there."""
    return max((value for value in values if value is not None and value == value), default=None)


def of_gpus(steps: Iterable[Step], take: Callable[[GpuReading], float | None]) -> float | None:
    """The mean over all GPUs of all these steps."""
    return mean(take(gpu) for step in steps for gpu in step.readings.gpus)


def parameter(step: Step, *names: str) -> float | None:
    """The first of these parameters that is a number."""
    for name in names:
        value = step.parameters.get(name)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(value)
    return None


def grouped(steps: Iterable[Step]) -> dict[tuple[str, str], list[Step]]:
    """Repeats of the same step, by workload and name, in their order."""
    found: dict[tuple[str, str], list[Step]] = {}
    for step in steps:
        found.setdefault((step.workload, step.name), []).append(step)
    return found


def names(steps: Sequence[Step]) -> str:
    """``concurrency 8, concurrency 16 and 3 more``."""
    all_names = list(dict.fromkeys(step.name for step in steps))
    shown = ("; " if any("," in name for name in all_names[:3]) else ", ").join(all_names[:3])
    return f"{shown} and {len(all_names) - 3} more" if len(all_names) > 3 else shown


# -- numbers in words -------------------------------------------------------------------------------------------------


def plural(count: float, noun: str) -> str:
    """``1 step``, ``3 steps``."""
    return f"{count:,.0f} {noun}" + ("" if count == 1 else "s")


def ms(value: float | None) -> str:
    """Milliseconds as a person reads them: ``0.42 ms``, ``48 ms``, ``1.24 s``."""
    if value is not None and 0 < abs(value) < 0.95:
        return f"{value:.2g} ms"
    return seconds(None if value is None else value / 1000)


def tokens_per_s(value: float) -> str:
    """``1,240 tok/s``; with a decimal below ten."""
    return f"{value:,.1f} tok/s" if value < 10 else f"{value:,.0f} tok/s"


def times(value: float) -> str:
    """``1.96 ×``."""
    return f"{value:.2f} ×" if value < 10 else f"{value:.0f} ×"


def signed(change: float) -> str:
    """``+12 %``, with a decimal below ten; a minus is one."""
    written = f"{change:+.1%}" if abs(change) < 0.1 else f"{change:+.0%}"
    return written.replace("%", " %").replace("-", "−")


def rounded(value: float, digits: int = 4) -> float:
    """For ``Finding.values``."""
    return float(f"{value:.{digits}g}")


def present(**values: float | int | str | None) -> dict[str, float | int | str]:
    """``Finding.values``, without what is not known; numbers with a fraction to six digits."""
    return {
        name: rounded(value, 6) if isinstance(value, float) else value
        for name, value in values.items()
        if value is not None
    }


__all__ = [
    "FEW", "SIMULATED_GPUS", "counted", "duration", "grouped", "mean", "middle", "most", "ms", "names", "number",
    "of_gpus", "parameter", "percent", "plural", "present", "rounded", "seconds", "signed", "times", "tokens_per_s",
]  # fmt: skip
