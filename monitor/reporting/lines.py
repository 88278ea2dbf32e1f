"""What a report draws: lines over the period, with a gap where there is nothing. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence

from monitor.client.wire import Series
from monitor.reporting.asked import Answers
from monitor.reporting.coverage import ends_of, points
from monitor.reporting.schema import Graph, Period

Points = dict[int, float]
_READ = 0.8
"""How much of a step has to be read, for a rate over it to be drawn."""


def graphs(answers: Answers, period: Period) -> tuple[Graph, ...]:
    """Those that there is something for."""
    step = answers.steps.get("graphs", 900)
    ends = ends_of(period, step)

    def line(found: Points) -> tuple[tuple[int, float | None], ...]:
        return tuple((at, found.get(at)) for at in ends)

    def total(id: str) -> Points:
        return _sum(one for one in answers.ranges.get(id, ()) if answers.node_of(one.metric) is not None)

    def alone(id: str) -> Points:
        return _sum(answers.ranges.get(id, ()))

    def rate(id: str, cover: str) -> Points:
        # A rate is by the whole step: of one that was read in part it would be a dip that nobody saw.
        known = _known(answers, cover, ends, step)
        return {at: value for at, value in total(id).items() if known.get(at, 0.0) >= _READ}

    sums, counts = total("util_h"), total("util_n_h")
    busy = {at: value / counts[at] for at, value in sums.items() if counts.get(at)}
    power = {at: value / 1000 for at, value in rate("energy_h", "cover_gpus").items()}
    found = [
        ("utilization", "GPU utilization, mean of all", "%", {"GPUs": busy}),
        ("tokens", "Generated tokens", "tokens/s", {"generated": rate("generation_h", "cover_servers")}),
        ("ttft", "Time to first token", "s", {"p50": alone("ttft50_h"), "p95": alone("ttft95_h")}),
        ("requests", "Requests", "", {"running": total("running_h"), "waiting": total("waiting_h")}),
        ("power", "Power of all GPUs", "W", {"GPUs": power}),
    ]
    return tuple(
        Graph(key, title, unit, step, {name: line(one) for name, one in lines.items() if one})
        for key, title, unit, lines in found
        if any(lines.values())
    )


def _known(answers: Answers, cover: str, ends: Sequence[int], step: int) -> Points:
    """Of each step of a graph the share of it that has readings, by its end."""
    fine = answers.steps.get("cover", 60)
    there = sorted({at for one in answers.ranges.get(cover, ()) for at in points(one)})
    return {end: (bisect_right(there, end) - bisect_right(there, end - step * 1000)) * fine / step for end in ends}


def _sum(found: Iterable[Series]) -> Points:
    whole: Points = {}
    for series in found:
        for at, value in points(series).items():
            whole[at] = whole.get(at, 0.0) + value
    return whole


def pieces(line: Sequence[tuple[int, float | None]]) -> list[list[tuple[int, float]]]:
    """A line without its gaps."""
    found: list[list[tuple[int, float]]] = [[]]
    for at, value in line:
        if value is None:
            found.append([])
        else:
            found[-1].append((at, value))
    return [piece for piece in found if piece]
