"""Steps as CSV: a file for each workload, a line for each step and repeat, units in the names of the columns."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from monitor.probes.figures import LATENCIES, OTHERS, RATES, hit_rate
from monitor.probes.schema import Result, Step, WorkloadName

FILES: dict[WorkloadName, str] = {"lengths": "sequence_length_results.csv"}
"""Of workloads whose file is not called after them."""


def csv_files(result: Result) -> dict[str, str]:
    """The text of each file by its name; one for each workload that has steps."""
    found: dict[WorkloadName, list[Step]] = {}
    for step in result.steps:
        found.setdefault(step.workload, []).append(step)
    return {FILES.get(name, f"{name}_results.csv"): csv_of(steps) for name, steps in found.items()}


def csv_of(steps: Sequence[Step]) -> str:
    """One line for each step, and one for each group of its requests (``priority 1``), where there are several."""
    parameters = list(dict.fromkeys(name for step in steps for name in step.parameters))
    lines: list[dict[str, object]] = []
    for step in steps:
        asked = {name: step.parameters.get(name) for name in parameters}
        lines.append({"step": step.name, "repeat": step.repeat + 1, "group": "", **asked, **_figures(step)})
        for group, made in step.groups.items():
            only = Step(step.workload, step.name, step.parameters, step.began_ms, step.ended_ms, made)
            lines.append({"step": step.name, "repeat": step.repeat + 1, "group": group, **asked, **_figures(only)})
    for name in list(lines[0]) if lines else []:
        if name in _OFTEN_EMPTY and all(line[name] in (None, "") for line in lines):
            for line in lines:
                del line[name]
    file = io.StringIO()
    writer = csv.DictWriter(file, list(lines[0]) if lines else [], lineterminator="\n")
    writer.writeheader()
    for line in lines:
        writer.writerow({name: _cell(value) for name, value in line.items()})
    return file.getvalue()


_OFTEN_EMPTY = ("group", "goodput", "slo_met", "invalid", "errors")


def _figures(step: Step) -> dict[str, object]:
    made = step.metrics
    server = step.readings.server
    gpus = step.readings.gpus
    powers = [gpu.power_w for gpu in gpus if gpu.power_w is not None]
    utils = [gpu.util for gpu in gpus if gpu.util is not None]
    return {
        "duration_s": made.duration_s,
        "completed": made.completed,
        "failed": made.failed,
        "input_tokens": made.input_tokens,
        "output_tokens": made.output_tokens,
        **{f"{figure.name}_{_UNITS[figure.unit]}": figure.of(step) for figure in RATES},
        "slo_met": None if made.slo_met is None else str(made.slo_met).lower(),
        **{f"{figure.name}_ms": figure.of(step) for figure in LATENCIES},
        **{figure.name: figure.of(step) for figure in OTHERS},
        "gpu_util": sum(utils) / len(utils) if utils else None,
        "power_w": sum(powers) if powers else None,
        "kv_usage_max": server.kv_usage_max if server else None,
        "waiting_max": server.waiting_max if server else None,
        "preemptions": server.preemptions if server else None,
        "batch": server.batch if server else None,
        "cached_tokens": made.cached_tokens,
        "hit_rate": hit_rate(step),
        "invalid": "; ".join(step.invalid),
        "errors": "; ".join(f"{count} × {text}" for text, count in made.errors.items()),
    }


_UNITS = {"tok/s": "tokens_per_s", "req/s": "requests_per_s"}


def _cell(value: object) -> object:
    """Empty for what was not measured. A text that a spreadsheet would take for a formula begins with an apostrophe:
    errors come from strangers."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.9g}"
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return f"'{value}"
    return value
