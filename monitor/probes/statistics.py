"""From requests to numbers: the arithmetic of ``vllm bench serve``, on plain lists.

Latencies are of requests that came to their end; failures are counted, and are in none of them. Percentiles are linear,
as ``numpy.percentile``'s. Nothing here reads a clock.
"""

from __future__ import annotations

import math
import random
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from monitor.probes.schema import FAILURES, Latency, Metrics, Record, Slo, Window

STEADY = 0.95
"""Of the concurrency: from here on the load is steady."""
DIP_S = 0.1
"""A dip so short does not end the steady window: requests of one length end together, and the next begin at once."""
WINDOW_S = 10.0
WINDOW_SHARE = 0.1
_ERRORS = 10
_RESAMPLES = (200, 1000)
_RESAMPLE_WORK = 1_500_000
_RESAMPLE_SIZE = 4_000


# -- of a list of values ----------------------------------------------------------------------------------------------


def percentile(sorted_values: Sequence[float], q: float) -> float:
    """The ``q``-th percentile (0–100) of values in ascending order, between the two nearest by their distance. Raises
    ``ValueError`` where there is none."""
    if not sorted_values:
        raise ValueError("no percentile of no values")
    position = q / 100 * (len(sorted_values) - 1)
    below = min(max(math.floor(position), 0), len(sorted_values) - 1)
    share = position - below
    if not share:
        return sorted_values[below]
    low, high = sorted_values[below], sorted_values[min(below + 1, len(sorted_values) - 1)]
    # From the nearer end, as numpy does: to the last digit the same, and never outside of the two.
    return low + (high - low) * share if share < 0.5 else high - (high - low) * (1 - share)


def latency(values_ms: Iterable[float]) -> Latency:
    """Mean, spread and percentiles of milliseconds."""
    values = sorted(values_ms)
    if not values:
        return Latency()
    mean = math.fsum(values) / len(values)
    return Latency(
        n=len(values),
        mean=mean,
        median=percentile(values, 50),
        std=math.sqrt(math.fsum((value - mean) ** 2 for value in values) / len(values)),
        p90=percentile(values, 90),
        p95=percentile(values, 95),
        p99=percentile(values, 99),
        min=values[0],
        max=values[-1],
    )


# -- of one request ---------------------------------------------------------------------------------------------------


def tpot_s(record: Record) -> float | None:
    """Seconds for each token after the first; None where there was none after it."""
    tokens = record.output_tokens or 0
    if tokens <= 1 or record.e2el_s is None or record.ttft_s is None:
        return None
    return (record.e2el_s - record.ttft_s) / (tokens - 1)


def chunk_times(record: Record) -> list[float]:
    """When each chunk came, in seconds from the beginning of the step."""
    if record.ttft_s is None:
        return []
    return list(accumulate(record.itl_s, initial=record.start_s + record.ttft_s))


def ended_s(record: Record) -> float:
    """When it was over, in seconds from the beginning of the step; as far as it is known."""
    if record.ended_s is not None:
        return record.ended_s
    times = chunk_times(record)
    return record.start_s + record.e2el_s if record.e2el_s is not None else times[-1] if times else record.start_s


def good(record: Record, slos: Sequence[Slo]) -> bool:
    """Whether this request meets every target by itself; a target of ``itl`` by its own gaps, at its percentile. One
    token has no ``tpot``: that counts as 0, as in vLLM."""
    if record.outcome != "ok" or record.ttft_s is None or record.e2el_s is None:
        return False
    for slo in slos:
        match slo.metric:
            case "ttft":
                value = record.ttft_s
            case "tpot":
                value = tpot_s(record) or 0.0
            case "e2el":
                value = record.e2el_s
            case "itl":
                value = percentile(sorted(record.itl_s), slo.percentile) if record.itl_s else 0.0
        if value > slo.limit_ms / 1000:
            return False
    return True


# -- of a step --------------------------------------------------------------------------------------------------------


@dataclass
class _Sample:
    """What the numbers are made of; seconds."""

    ttft: list[float] = field(default_factory=list)
    tpot: list[float] = field(default_factory=list)
    goodput_tpot: list[float] = field(default_factory=list)
    itl: list[float] = field(default_factory=list)
    e2el: list[float] = field(default_factory=list)
    failed: int = 0

    def add_end(self, record: Record) -> None:
        """Take what is known when a request is over."""
        if record.e2el_s is not None:
            self.e2el.append(record.e2el_s)
        tpot = tpot_s(record)
        if tpot is not None:
            self.tpot.append(tpot)
        self.goodput_tpot.append(tpot or 0.0)

    def meets(self, slos: Sequence[Slo]) -> bool | None:
        """Whether each target is met at its percentile. One that failed has missed it: a server that turns half of
        its requests away is not a fast one."""
        if not slos or not (self.ttft or self.e2el or self.failed):
            return None
        lists = {"ttft": self.ttft, "tpot": self.goodput_tpot, "itl": self.itl, "e2el": self.e2el}
        for slo in slos:
            values = sorted(lists[slo.metric])
            # Failures stand at the end. Where the percentile lies among them, or between them and the rest, it is
            # beyond every limit.
            last = math.ceil(slo.percentile / 100 * (len(values) + self.failed - 1) - 1e-9)
            if self.failed and last >= len(values):
                return False
            if values and percentile([*values, *[math.inf] * self.failed], slo.percentile) > slo.limit_ms / 1000:
                return False
        return True


def slo_met(records: Iterable[Record], slos: Sequence[Slo]) -> bool | None:
    """Whether every target is met at its percentile by these requests, failures among those that missed it; None where
    there is no target, or nothing came to an end."""
    return _of_step(records).meets(slos)


def _of_step(records: Iterable[Record]) -> _Sample:
    sample = _Sample()
    for record in records:
        if record.outcome == "ok":
            if record.ttft_s is not None:
                sample.ttft.append(record.ttft_s)
            sample.itl += record.itl_s
            sample.add_end(record)
        elif record.outcome in FAILURES:
            sample.failed += 1
    return sample


def metrics(records: Sequence[Record], duration_s: float, slos: Sequence[Slo] = ()) -> Metrics:
    """What ``vllm bench serve`` prints of these requests. ``duration_s`` is from just before the first to the end of
    the last."""
    done = [record for record in records if record.outcome == "ok"]
    peak, concurrent = _busiest_second(done)
    return _metrics(
        records,
        _of_step(records),
        duration_s,
        slos,
        done=done,
        input_tokens=sum(record.prompt_tokens or 0 for record in done),
        output_tokens=sum(record.output_tokens or 0 for record in done),
        peak=peak,
        concurrent=concurrent,
    )


def _metrics(
    records: Sequence[Record],
    sample: _Sample,
    duration_s: float,
    slos: Sequence[Slo],
    *,
    done: Sequence[Record],
    input_tokens: int,
    output_tokens: int,
    peak: int | None,
    concurrent: int,
) -> Metrics:
    def each_s(count: float) -> float:
        return count / duration_s if duration_s > 0 else 0.0

    def in_ms(values_s: list[float]) -> Latency:
        return latency(1000 * value for value in values_s)

    cached = [record.cached_tokens for record in done if record.cached_tokens is not None]
    return Metrics(
        duration_s=duration_s,
        completed=len(done),
        failed=sum(record.outcome in FAILURES for record in records),
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        request_throughput=each_s(len(done)),
        output_throughput=each_s(output_tokens),
        total_throughput=each_s(input_tokens + output_tokens),
        ttft=in_ms(sample.ttft),
        tpot=in_ms(sample.tpot),
        itl=in_ms(sample.itl),
        e2el=in_ms(sample.e2el),
        goodput=each_s(sum(good(record, slos) for record in done)) if slos else None,
        slo_met=sample.meets(slos),
        max_concurrent=concurrent,
        max_output_per_s=peak,
        # vLLM may leave the field out where nothing was cached: known for one, it is 0 for those without.
        cached_tokens=sum(cached) if cached else None,
        failures=dict(Counter(str(record.outcome) for record in records if record.outcome != "ok").most_common()),
        errors=dict(Counter(record.error for record in records if record.error).most_common(_ERRORS)),
    )


def _busiest_second(done: Sequence[Record]) -> tuple[int | None, int]:
    """The most chunks in one second, and the most requests that were there in one; seconds count from the first
    request, as vLLM counts them. None and 0 where nothing was done."""
    if not done:
        return None, 0
    first = min(record.start_s for record in done)
    chunks: Counter[int] = Counter()
    there: Counter[int] = Counter()
    for record in done:
        chunks.update(int(at - first) for at in chunk_times(record))
        there.update(range(int(record.start_s - first), int(record.start_s + (record.e2el_s or 0.0) - first) + 1))
    return max(chunks.values(), default=0), max(there.values())


# -- of the part in which the load was steady -------------------------------------------------------------------------


def steady(records: Sequence[Record], concurrency: int, duration_s: float, slos: Sequence[Slo] = ()) -> Window | None:
    """The longest stretch in which at least 95 % of ``concurrency`` were in flight; None where it never was so.

    What counts is what happened in it: tokens and gaps by the time of their chunk, a request and its E2EL and TPOT when
    it ended there, a TTFT when the request began there (those that began before met an emptier server), a prompt when
    its first chunk came there."""
    stretch = _longest_stretch(records, concurrency)
    if stretch is None:
        return None
    begin_s, end_s = stretch

    def inside(at: float) -> bool:
        return begin_s <= at <= end_s

    sample = _Sample()
    ended: list[Record] = []
    output = 0.0
    prompts = 0
    seconds: Counter[int] = Counter()
    for record in records:
        over = inside(ended_s(record))
        if over:
            ended.append(record)
        if record.outcome != "ok" or record.ttft_s is None:
            sample.failed += over and record.outcome in FAILURES
            continue
        if over:
            sample.add_end(record)
        if inside(record.start_s):
            sample.ttft.append(record.ttft_s)
        times = chunk_times(record)
        prompts += (record.prompt_tokens or 0) * inside(times[0])
        first, last = bisect_left(times, begin_s), bisect_right(times, end_s)
        # A chunk may hold several tokens: each counts as many as the others of its request.
        output += (last - first) * (record.output_tokens or len(times)) / len(times)
        sample.itl += record.itl_s[max(first - 1, 0) : max(last - 1, 0)]
        seconds.update(int(at - begin_s) for at in times[first:last])
    return Window(
        begin_s=begin_s,
        end_s=end_s,
        metrics=_metrics(
            ended,
            sample,
            end_s - begin_s,
            slos,
            done=[record for record in ended if record.outcome == "ok"],
            input_tokens=prompts,
            output_tokens=round(output),
            peak=max(seconds.values(), default=0),
            concurrent=concurrency,
        ),
        long_enough=end_s - begin_s >= max(WINDOW_S, WINDOW_SHARE * duration_s),
    )


def _longest_stretch(records: Sequence[Record], concurrency: int) -> tuple[float, float] | None:
    needed = math.ceil(STEADY * concurrency - 1e-9)
    # What ends and what begins at one moment is one change: a place that is refilled at once was never free.
    changes: Counter[float] = Counter()
    for record in records:
        changes[record.start_s] += 1
        changes[ended_s(record)] -= 1
    stretches: list[list[float]] = []
    level = 0
    for at, change in sorted(changes.items()):
        before, level = level, level + change
        if before < needed <= level:
            if stretches and at - stretches[-1][1] <= DIP_S:
                continue
            stretches.append([at, at])
        elif level < needed <= before:
            stretches[-1][1] = at
    longest = max(stretches, key=lambda one: one[1] - one[0], default=None)
    return (longest[0], longest[1]) if longest is not None and longest[1] > longest[0] else None


# -- of two runs ------------------------------------------------------------------------------------------------------


def interval_of_change(
    before: Sequence[float],
    after: Sequence[float],
    statistic: Callable[[Sequence[float]], float],
    seed: int = 0,
) -> tuple[float, float | None, float | None] | None:
    """How much ``statistic`` changed, as a share of what it was, and the interval that holds with 95 %: a bootstrap
    over the values of each side. The same seed gives the same numbers.

    The interval is None where a side has fewer than two values; all is None where there is none, or it was 0 before.
    It takes less than a second: of very many values it draws some, and narrows the interval by as much."""
    if not before or not after:
        return None
    was, is_ = statistic(before), statistic(after)
    if not was or not math.isfinite(was) or not math.isfinite(is_):
        return None
    change = (is_ - was) / was
    if len(before) < 2 or len(after) < 2:
        return change, None, None
    size_before, size_after = min(len(before), _RESAMPLE_SIZE), min(len(after), _RESAMPLE_SIZE)
    rounds = min(max(_RESAMPLE_WORK // (size_before + size_after), _RESAMPLES[0]), _RESAMPLES[1])
    rng = random.Random(seed)  # noqa: S311 - numbers, not secrets
    found: list[float] = []
    for _ in range(rounds):
        # What is drawn varies with the root of how many: the deviation of each side is brought to its full size.
        one = was + (statistic(rng.choices(before, k=size_before)) - was) * math.sqrt(size_before / len(before))
        other = is_ + (statistic(rng.choices(after, k=size_after)) - is_) * math.sqrt(size_after / len(after))
        if one:
            found.append((other - one) / one)
    found.sort()
    return (change, percentile(found, 2.5), percentile(found, 97.5)) if found else (change, None, None)
