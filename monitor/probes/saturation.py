"""Whether more requests at once still bring more tokens: the test that ends a sweep, and what a sweep says: its peak,
its knee, and the most that meets the targets. Pure.

The test. The steady part of a step is cut into pieces as long as a request takes (so that each holds whole waves of
prompts and answers, and one says little of the next), and the tokens that came in each are one value of its throughput.
The gain from the best step so far is the ratio of the two means; its 95 % interval is Welch's on their logarithms. A
step is *flat* where even the upper end is below what its doublings would have to bring. A sweep is *saturated* where
one is flat while requests wait at the server (or, where it does not say, the first token takes longer), or where two
follow each other: one step may have been disturbed.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from monitor.probes.schema import Record, Step

KNEE = 0.9
"""The knee is the smallest concurrency that reaches so much of the peak."""
MAX_PIECES = 30
MIN_PIECES = 3
_TTFT_GROWS = 1.5
_WAITING_SHARE = 0.05


def throughput(step: Step) -> float:
    """Tokens generated per second: of the steady window where it is long enough, else of the whole step."""
    if step.steady is not None and step.steady.long_enough:
        return step.steady.metrics.output_throughput
    return step.metrics.output_throughput


def total_throughput(step: Step) -> float:
    """The same with the prompts' tokens. These are those of the whole step's requests: they come in at once, and a
    window holds more or fewer of them by chance."""
    generated = step.metrics.output_tokens
    share = (step.metrics.input_tokens + generated) / generated if generated else 1.0
    return throughput(step) * share if generated else step.metrics.total_throughput


def concurrency(step: Step) -> int:
    """At how many at once it was measured."""
    return int(step.parameters.get("concurrency", 0))


# -- the test ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Gain:
    """How much more one mean is than another: 0.1 is a tenth more. The interval holds with 95 %."""

    change: float
    low: float
    high: float


def pieces(records: Iterable[Record], begin_s: float, end_s: float, seconds: float) -> list[float]:
    """Tokens per second in each whole stretch of ``seconds`` between two moments of a step; of a whole number of times
    that where there would be more than 30. A chunk stands for as many tokens as its request's chunks do on average.

    What is left over at the end is left out: a stretch of one and a bit would hold one wave or two, by chance."""
    if end_s <= begin_s or seconds <= 0:
        return []
    width = seconds * max(1, math.ceil((end_s - begin_s) / seconds / MAX_PIECES - 1e-9))
    count = int((end_s - begin_s) / width + 1e-9)
    tokens = [0.0] * count
    for record in records:
        if record.ttft_s is None:
            continue
        each = (record.output_tokens or 0) / (1 + len(record.itl_s)) or 1.0
        at = record.start_s + record.ttft_s - begin_s
        for gap in (0.0, *record.itl_s):
            at += gap
            where = int(at / width) if at >= 0 else -1
            if 0 <= where < count:
                tokens[where] += each
    return [many / width for many in tokens]


def pieces_of(step: Step) -> list[float]:
    """The pieces of a step's steady part; [] where it kept no records or nothing was answered."""
    good = [record for record in step.records or () if record.outcome == "ok" and record.e2el_s is not None]
    if not good:
        return []
    length = statistics.median(record.e2el_s for record in good if record.e2el_s is not None)
    if step.steady is not None:
        begin, end = step.steady.begin_s, step.steady.end_s
    else:
        begin, end = 0.0, step.metrics.duration_s
    return pieces(step.records or (), begin, end, length)


def gain(before: Sequence[float], after: Sequence[float]) -> Gain | None:
    """By how much the mean of ``after`` is above that of ``before``; None where there are too few values, or none."""
    if len(before) < MIN_PIECES or len(after) < MIN_PIECES:
        return None
    mean_before, mean_after = statistics.fmean(before), statistics.fmean(after)
    if mean_before <= 0 or mean_after <= 0:
        return None
    # The variance of a mean's logarithm, to first order.
    a = statistics.variance(before) / len(before) / mean_before**2
    b = statistics.variance(after) / len(after) / mean_after**2
    middle = math.log(mean_after / mean_before)
    spread = 0.0
    if a + b > 0:
        freedom = (a + b) ** 2 / (a**2 / (len(before) - 1) + b**2 / (len(after) - 1))
        spread = student(freedom) * math.sqrt(a + b)
    return Gain(math.exp(middle) - 1, math.exp(middle - spread) - 1, math.exp(middle + spread) - 1)


def student(freedom: float, probability: float = 0.975) -> float:
    """Student's quantile, by the expansion in the normal one (Abramowitz & Stegun 26.7.5); within 1.5 % from two
    degrees of freedom on, and closer with each more."""
    z = statistics.NormalDist().inv_cdf(probability)
    n = max(2.0, freedom)
    return (
        z
        + (z**3 + z) / (4 * n)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * n**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * n**3)
        + (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / (92160 * n**4)
    )


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a step says of the sweep until it."""

    state: Literal["first", "rising", "unsure", "flat", "saturated"]
    """``unsure``: the interval holds both; the sweep goes on, as it does after ``flat``."""
    text: str = ""
    gain: Gain | None = None


class Saturation:
    """Takes the steps of a sweep in the order of their concurrency, and says when to stop."""

    def __init__(self, rise: float = 0.05) -> None:
        """``rise``: what a doubling of the concurrency has to bring, or it brings nothing: 0.05 is 5 %."""
        self._rise = rise
        self._best: Step | None = None
        self._best_pieces: list[float] = []
        self._last: Step | None = None
        self._flat = 0

    def add(self, step: Step) -> Verdict:
        """Judge the sweep with this step. One that has too few answers to tell is ``unsure``."""
        own = pieces_of(step)
        best, last = self._best, self._last
        self._last = step
        if best is None:
            self._best, self._best_pieces = step, own
            return Verdict("first")
        found = gain(self._best_pieces, own)
        if found is None:
            if throughput(step) > throughput(best):
                self._best, self._best_pieces = step, own
            self._flat = 0
            return Verdict("unsure", "too few requests to tell whether it still rises")
        doublings = math.log2(max(concurrency(step), 1) / max(concurrency(best), 1))
        needed = (1 + self._rise) ** doublings - 1
        words = (
            f"{concurrency(step)} at once give {throughput(step):,.0f} tok/s where {concurrency(best)} gave "
            f"{throughput(best):,.0f} ({found.change:+.1%}, with 95 % between {found.low:+.1%} and {found.high:+.1%})"
        )
        if found.change > 0:
            self._best, self._best_pieces = step, own
        if found.high < needed:
            self._flat += 1
            waits = _waits(last or best, step)
            if waits or self._flat > 1:
                why = waits or "so it was one step before"
                return Verdict("saturated", f"{words}, and {why}", found)
            return Verdict("flat", words, found)
        self._flat = 0
        return Verdict("rising" if found.low > needed else "unsure", words, found)


def judged(steps: Iterable[Step], rise: float = 0.05) -> Verdict | None:
    """What the test says of a sweep that is over: its first round, by concurrency. None where it has fewer than two
    steps whose requests are known."""
    sweep = [step for step in steps if step.workload == "throughput" and not step.repeat and not step.invalid]
    sweep = sorted((step for step in sweep if step.records and step.metrics.completed), key=concurrency)
    judge, verdict = Saturation(rise), None
    for step in sweep:
        verdict = judge.add(step)
        if verdict.state == "saturated":
            break
    return verdict if len(sweep) > 1 else None


def _waits(before: Step, after: Step) -> str:
    """What shows that requests wait for each other; "" for nothing."""
    server = after.readings.server
    if server is not None and server.waiting is not None:
        if server.waiting > _WAITING_SHARE * concurrency(after):
            return f"{server.waiting:.0f} of them wait at the server on average"
        return ""  # then a first token that takes longer is none that waits: prompts are read together
    first, second = before.metrics.ttft.median, after.metrics.ttft.median
    if first and second and second > _TTFT_GROWS * first:
        return f"the first token takes {second / first:.1f} times as long"
    return ""


# -- what a sweep says ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Point:
    """One concurrency of a sweep: medians over its repeats, those that are valid."""

    concurrency: int
    output: float
    """Tokens generated per second."""
    total: float
    """With the prompts."""
    requests: float
    slo_met: bool | None
    """In each repeat; None where there is no target."""
    steps: tuple[Step, ...]


def points(steps: Iterable[Step]) -> tuple[Point, ...]:
    """The sweep by concurrency, from the smallest. Steps that are not valid count in none."""
    by: dict[int, list[Step]] = {}
    for step in steps:
        if step.workload == "throughput" and not step.invalid and step.metrics.completed:
            by.setdefault(concurrency(step), []).append(step)
    found = []
    for level, these in sorted(by.items()):
        targets = [step.metrics.slo_met for step in these if step.metrics.slo_met is not None]
        found.append(
            Point(
                level,
                statistics.median(map(throughput, these)),
                statistics.median(map(total_throughput, these)),
                statistics.median(step.metrics.request_throughput for step in these),
                all(targets) if targets else None,
                tuple(these),
            )
        )
    return tuple(found)


def peak(sweep: Sequence[Point]) -> Point | None:
    """Where most tokens per second came."""
    return max(sweep, key=lambda point: point.output, default=None)


def knee(sweep: Sequence[Point]) -> Point | None:
    """The smallest concurrency that reaches 90 % of the peak."""
    top = peak(sweep)
    return None if top is None else next(point for point in sweep if point.output >= KNEE * top.output)


def highest_in_target(sweep: Sequence[Point]) -> Point | None:
    """The highest concurrency that meets every target; None where none does, or there is no target."""
    return next((point for point in reversed(sweep) if point.slo_met), None)
