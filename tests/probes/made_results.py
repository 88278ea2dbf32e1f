"""Results of probes as a run would give them, made by arithmetic: a server of known pace, whose steps differ by chance
alone. For tests of whatever shows, keeps or compares results, and for pictures.

``made("throughput")`` is one; ``made("throughput", slower=1.2, seed=2)`` is one of a server that takes a fifth longer.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from monitor.probes import statistics
from monitor.probes.schema import (
    FAILURES,
    Accuracy,
    Facts,
    Finding,
    GpuReading,
    HostReading,
    Latency,
    Metrics,
    Outcome,
    Readings,
    Record,
    Result,
    RunDetail,
    RunRow,
    RunState,
    ServerReading,
    Slo,
    Spec,
    Step,
    WorkloadName,
)
from monitor.records import replace

BEGAN_MS = 1_795_296_600_000
"""2026-11-21 21:30 UTC."""
SLOS = (Slo("ttft", 500.0), Slo("tpot", 40.0))
URL = "http://127.0.0.1:8000"
MODEL = "Qwen/Qwen3-8B"


@dataclass(frozen=True)
class Pace:
    """How fast the server is: seconds."""

    prefill_s: float = 0.022
    prefill_token_s: float = 0.000045
    token_s: float = 0.0115
    token_of_each_s: float = 0.00022
    batch: int = 64
    """More than so many wait."""
    spread: float = 0.04
    """Of every time, as a share."""
    slower: float = 1.0


@dataclass
class _Clock:
    rng: random.Random
    now_ms: int = BEGAN_MS
    made: list[Step] = field(default_factory=list)


def latency(values_ms: Iterable[float]) -> Latency:
    """What ``schema.Latency`` says, by the plainest arithmetic."""
    values = sorted(values_ms)
    if not values:
        return Latency()

    def at(q: float) -> float:
        place = (len(values) - 1) * q / 100
        low = math.floor(place)
        return values[low] + (values[min(low + 1, len(values) - 1)] - values[low]) * (place - low)

    mean = sum(values) / len(values)
    return Latency(
        n=len(values),
        mean=mean,
        median=at(50),
        std=math.sqrt(sum((value - mean) ** 2 for value in values) / len(values)),
        p90=at(90),
        p95=at(95),
        p99=at(99),
        min=values[0],
        max=values[-1],
    )


def metrics(records: Sequence[Record], duration_s: float, slos: Sequence[Slo] = ()) -> Metrics:
    """What ``schema.Metrics`` says, by the plainest arithmetic."""
    good = [one for one in records if one.outcome == "ok" and one.ttft_s is not None and one.e2el_s is not None]
    first = {id(one): (one.ttft_s or 0) * 1000 for one in good}
    whole = {id(one): (one.e2el_s or 0) * 1000 for one in good}
    tpot = {
        id(one): (whole[id(one)] - first[id(one)]) / (one.output_tokens - 1)
        for one in good
        if one.output_tokens is not None and one.output_tokens > 1
    }
    of: dict[str, dict[int, float]] = {"ttft": first, "tpot": tpot, "e2el": whole}
    met = [one for one in good if all(of[slo.metric].get(id(one), 0) <= slo.limit_ms for slo in slos)]
    taken = {name: latency(values.values()) for name, values in of.items()}
    limits = {slo: getattr(taken[slo.metric], f"p{slo.percentile:g}") for slo in slos}
    outcomes = [one.outcome for one in records if one.outcome != "ok"]
    texts = [one.error for one in records if one.error]
    ends = [(one.start_s, one.start_s + (one.e2el_s or 0)) for one in good]
    output = sum(one.output_tokens or 0 for one in good)
    prompts = sum(one.prompt_tokens or 0 for one in good)
    chunks = [0] * (int(duration_s) + 2)
    for one in good:
        at = one.start_s + (one.ttft_s or 0)
        for gap in [0.0, *one.itl_s]:
            at += gap
            chunks[min(int(at), len(chunks) - 1)] += 1
    return Metrics(
        duration_s=duration_s,
        completed=len(good),
        failed=sum(outcome in FAILURES for outcome in outcomes),
        input_tokens=prompts,
        output_tokens=output,
        request_throughput=len(good) / duration_s,
        output_throughput=output / duration_s,
        total_throughput=(prompts + output) / duration_s,
        ttft=taken["ttft"],
        tpot=taken["tpot"],
        itl=latency(gap * 1000 for one in good for gap in one.itl_s),
        e2el=taken["e2el"],
        goodput=len(met) / duration_s if slos else None,
        slo_met=all(value is not None and value <= slo.limit_ms for slo, value in limits.items()) if slos else None,
        max_concurrent=max((sum(a <= begin < b for a, b in ends) for begin, _ in ends), default=0),
        max_output_per_s=float(max(chunks)),
        cached_tokens=sum(one.cached_tokens or 0 for one in good),
        failures={outcome: outcomes.count(outcome) for outcome in dict.fromkeys(outcomes)},
        errors={text: texts.count(text) for text in dict.fromkeys(texts)},
    )


def request(
    pace: Pace, rng: random.Random, start_s: float, batch: int, input_len: int, output_len: int, cached: int = 0
) -> Record:
    """One request beside ``batch - 1`` others."""

    def chance() -> float:
        return pace.slower * max(0.3, rng.gauss(1.0, pace.spread))

    running = min(batch, pace.batch)
    gap = pace.token_s + pace.token_of_each_s * running
    waits = gap * output_len * (batch - running) / running
    ttft = (pace.prefill_s + pace.prefill_token_s * (input_len - cached) * (1 + running / 40)) * chance() + waits
    itl = [round(gap * chance(), 7) for _ in range(output_len - 1)]
    return Record(
        start_s=round(start_s, 6),
        status=200,
        ttft_s=round(ttft, 7),
        e2el_s=round(ttft + sum(itl), 7),
        itl_s=itl,
        prompt_tokens=input_len,
        output_tokens=output_len,
        cached_tokens=cached,
    )


def closed(
    pace: Pace, rng: random.Random, concurrency: int, requests: int, input_len: int = 256, output_len: int = 64
) -> list[Record]:
    """So many at once, each place refilled when it is free."""
    free = [0.0] * concurrency
    records = []
    for _ in range(requests):
        place = min(range(concurrency), key=free.__getitem__)
        one = request(pace, rng, free[place], concurrency, input_len, output_len)
        free[place] = one.start_s + (one.e2el_s or 0) + 0.0004
        records.append(one)
    return records


def end_of(records: Sequence[Record]) -> float:
    """When the last one ended."""
    return max(one.start_s + (one.e2el_s or 0) for one in records)


def gpus(load: float, seconds: float) -> tuple[GpuReading, ...]:
    """Two GPUs at a load of 0 to 1."""
    return tuple(
        GpuReading(
            gpu=str(index),
            uuid=f"GPU-0000000{index}-aaaa-bbbb-cccc-000000000000",
            name="NVIDIA H100 80GB HBM3",
            samples=int(seconds * 10),
            interval_s=0.1,
            util=0.55 + 0.44 * load,
            idle_share=0.2 * (1 - load),
            tensor_active=0.04 + 0.5 * load,
            dram_active=0.5 + 0.35 * load - 0.02 * index,
            sm_active=0.3 + 0.6 * load,
            power_w=240 + 400 * load,
            power_max_w=260 + 430 * load,
            energy_j=(240 + 400 * load) * seconds,
            sm_clock_mhz=1980 - 180 * load,
            sm_clock_min_mhz=1980 - 300 * load,
            sm_clock_max_mhz=1980,
            memory_used_bytes=72.4e9 + index * 1e9,
            memory_total_bytes=85.5e9,
            temperature_c=45 + 24 * load,
            throttled={"power cap": 0.31} if load > 0.95 else {},
        )
        for index in range(2)
    )


def readings(load: float, made: Metrics, concurrency: float) -> Readings:
    """What would be read while a step ran."""
    steps = made.output_tokens / max(concurrency, 1)
    return Readings(
        gpus=gpus(load, made.duration_s),
        server=ServerReading(
            running=concurrency * 0.97,
            running_max=concurrency,
            waiting=max(0.0, concurrency - 64),
            waiting_max=max(0.0, concurrency - 60),
            kv_usage=0.6 * load,
            kv_usage_max=0.9 * load,
            preemptions=0.0,
            steps=steps,
            tokens_per_step=(made.input_tokens + made.output_tokens) / steps,
            batch=made.output_tokens / steps,
            prompt_tokens=made.input_tokens,
            generation_tokens=made.output_tokens,
            requests=made.completed,
            prefix_queries=made.input_tokens,
            prefix_hits=made.cached_tokens,
            other_tokens=0.0,
            other_requests=0.0,
            queue_s=0.001,
            prefill_s=0.03,
            decode_s=0.9,
        ),
        host=HostReading(
            cpu=0.12 + 0.1 * load,
            cpu_max=0.4,
            client_cpu=0.03 + 0.3 * load,
            loop_lag_ms=0.6 + load,
            loop_lag_max_ms=4.0,
            network_bytes_per_s=made.output_throughput * 220,
        ),
        notes=("energy: by the counter of the driver",),
    )


def step(
    clock: _Clock,
    workload: WorkloadName,
    name: str,
    parameters: Mapping[str, float | int | str],
    records: list[Record],
    *,
    slos: Sequence[Slo] = (),
    load: float = 0.3,
    concurrency: float = 1,
    repeat: int = 0,
    steady: bool = False,
) -> Step:
    """One step, after the last one of the clock."""
    duration = end_of(records)
    whole = metrics(records, duration, slos)
    names = list(dict.fromkeys(one.group for one in records if one.group))
    window = statistics.steady(records, int(concurrency), duration, slos) if steady else None
    one = Step(
        workload=workload,
        name=name,
        parameters=dict(parameters),
        began_ms=clock.now_ms,
        ended_ms=clock.now_ms + int(duration * 1000),
        metrics=whole,
        repeat=repeat,
        steady=window,
        readings=readings(load, whole, concurrency),
        groups={
            group: metrics([record for record in records if record.group == group], duration, slos) for group in names
        },
        records=tuple(records),
    )
    clock.now_ms = one.ended_ms + 2000
    clock.made.append(one)
    return one


def _latency(clock: _Clock, pace: Pace, few: bool) -> None:
    for repeat in range(1 if few else 3):
        records = closed(pace, clock.rng, 1, 8 if few else 20)
        asked = {"concurrency": 1, "input_len": 256, "output_len": 64}
        step(clock, "latency", "one at a time", asked, records, slos=SLOS, repeat=repeat)


def _throughput(clock: _Clock, pace: Pace, few: bool) -> None:
    for concurrency in (1, 4, 16) if few else (1, 2, 4, 8, 16, 32, 64, 128):
        records = closed(pace, clock.rng, concurrency, max(6, concurrency * (2 if few else 4)))
        if concurrency == 128:
            records[5] = fail(records[5], "shed", "HTTP 429: too many requests", 429)
            records[9] = fail(records[9], "broken", "the connection ended in the middle of the stream", 200)
        asked = {"concurrency": concurrency, "input_len": 256, "output_len": 64}
        step(
            clock,
            "throughput",
            f"concurrency {concurrency}",
            asked,
            records,
            slos=SLOS,
            load=min(1.0, concurrency / 64),
            concurrency=concurrency,
            steady=concurrency > 1,
        )


def _lengths(clock: _Clock, pace: Pace, few: bool) -> None:
    for input_len in (10, 1000) if few else (10, 50, 200, 1000, 4000):
        for output_len in (50,) if few else (50, 100, 200):
            records = closed(pace, clock.rng, 1, 4, input_len, output_len)
            asked = {"concurrency": 1, "input_len": input_len, "output_len": output_len}
            step(clock, "lengths", f"{input_len} in, {output_len} out", asked, records)


def _prefix(clock: _Clock, pace: Pace, few: bool) -> None:
    for share in (0.0, 0.9) if few else (0.0, 0.25, 0.5, 0.75, 0.9):
        records: list[Record] = []
        at = 0.0
        for number in range(6 if few else 12):
            cached = int(1024 * share) // 16 * 16 if number > 1 else 0
            one = request(pace, clock.rng, at, 1, 1024, 32, cached)
            one.group = "warm" if number > 1 else "cold"
            at += (one.e2el_s or 0) + 0.001
            records.append(one)
        asked = {"share": share, "input_len": 1024, "output_len": 32}
        step(clock, "prefix", f"{share:.0%} shared", asked, records)


def _rate(clock: _Clock, pace: Pace, few: bool) -> None:
    for rate in (1.0, 4.0) if few else (1.0, 2.0, 4.0, 8.0):
        at, records = 0.0, []
        for number in range(int(rate * 12)):
            at += clock.rng.expovariate(rate)
            one = request(pace, clock.rng, at, int(rate) + 1, 256, 64)
            if number % 9 == 8:
                one = fail(one, "hung_up", "", 200)
            records.append(one)
        asked = {"rate": rate, "burstiness": 1.0, "input_len": 256, "output_len": 64}
        step(clock, "rate", f"{rate:g}/s", asked, records, slos=SLOS, load=rate / 8, concurrency=rate)


def _priority(clock: _Clock, pace: Pace, few: bool) -> None:
    records = closed(pace, clock.rng, 16, 24 if few else 64)
    for number, one in enumerate(records):
        level = number % 3
        one.group = f"priority {level}"
        late = 0.15 * level * (one.e2el_s or 0)
        one.ttft_s, one.e2el_s = round((one.ttft_s or 0) + late, 7), round((one.e2el_s or 0) + late, 7)
    asked: dict[str, float | int | str] = {"concurrency": 16, "classes": "0,1,2", "input_len": 256, "output_len": 64}
    step(clock, "priority", "3 classes", asked, records, load=0.5, concurrency=16)


def _soak(clock: _Clock, pace: Pace, few: bool) -> None:
    minutes = 3 if few else 20
    for minute in range(minutes):
        slower = replace(pace, slower=pace.slower * (1 + 0.004 * minute))
        at, records = 0.0, []
        while at < 58:
            at += clock.rng.expovariate(0.5)
            records.append(request(slower, clock.rng, at, 3, 256, 64))
        asked: dict[str, float | int | str] = {"rate": 0.5, "minute": minute, "input_len": 256, "output_len": 64}
        step(clock, "soak", f"minute {minute + 1}", asked, records, load=0.2, concurrency=2)


_MAKERS: dict[str, Callable[[_Clock, Pace, bool], None]] = {
    "latency": _latency,
    "throughput": _throughput,
    "lengths": _lengths,
    "prefix": _prefix,
    "rate": _rate,
    "priority": _priority,
    "soak": _soak,
}


def fail(one: Record, outcome: Outcome, error: str, status: int | None = None) -> Record:
    """The same request, had it failed in the middle."""
    seen = len(one.itl_s) // 2
    return msgspec.structs.replace(
        one,
        outcome=outcome,
        error=error,
        status=status,
        ttft_s=None if status != 200 else one.ttft_s,
        itl_s=one.itl_s[:seen] if status == 200 else [],
        e2el_s=(one.ttft_s or 0) + sum(one.itl_s[:seen]),
        output_tokens=seen + 1 if status == 200 else None,
    )


def findings(workload: WorkloadName) -> tuple[Finding, ...]:
    """Sentences of every level."""
    return (
        Finding(
            "knee",
            "good",
            "More than 64 requests at once bring little: 2,445 tok/s are 99 % of the peak of 2,465 tok/s at 128.",
            {"concurrency": 64, "output_throughput": 2445.0, "peak": 2465.0, "peak_concurrency": 128},
        ),
        Finding(
            "target",
            "info",
            "The targets (TTFT p99 at most 500 ms, TPOT p99 at most 40 ms) are met up to 64 requests at once.",
            {"concurrency": 64},
        ),
        Finding(
            "limit",
            "info",
            "Memory bandwidth is what holds it: DRAM active 85 %, tensor cores 54 %, at 64 requests at once.",
            {"dram_active": 0.85},
        ),
        Finding("disturbed", "warning", "GPU 0 ran at its power cap for 31 % of concurrency 128.", {"share": 0.31}),
        Finding(
            "failures",
            "bad",
            "2 of 512 requests failed at concurrency 128: 1 shed (HTTP 429), 1 broken.",
            {"failed": 2},
        ),
        Finding("trust", "good", f"This {workload} can be trusted: nothing else ran, 0 cached tokens.", {}),
    )


def headline(steps: Sequence[Step]) -> dict[str, float]:
    """The figures of the step that generated most."""
    best = max(steps, key=lambda one: one.metrics.output_throughput).metrics
    figures = {
        "output_throughput": best.output_throughput,
        "request_throughput": best.request_throughput,
        "total_throughput": best.total_throughput,
        "goodput": best.goodput,
    }
    for name in ("ttft", "tpot", "itl", "e2el"):
        one: Latency = getattr(best, name)
        figures |= {f"{name}_mean_ms": one.mean, f"{name}_p50_ms": one.median, f"{name}_p99_ms": one.p99}
    return {name: value for name, value in figures.items() if value is not None}


def made(
    workload: WorkloadName = "throughput",
    *,
    slower: float = 1.0,
    seed: int = 1,
    few: bool = False,
    name: str = "",
    state: RunState = "done",
    model: str = MODEL,
    labels: dict[str, str] | None = None,
    accuracy: bool = True,
    pace: Pace | None = None,
) -> Result:
    """One result, the same each time for the same arguments. ``few``: a small one, made in milliseconds."""
    clock = _Clock(random.Random(seed))
    own = replace(pace or Pace(), slower=slower)
    for maker in _MAKERS.values() if workload == "suite" else [_MAKERS[workload]]:
        maker(clock, own, few)
    text = random.Random(7)
    logprobs = tuple(-4 * text.random() - clock.rng.gauss(0.02 * (slower - 1), 0.01) for _ in range(64))
    return Result(
        id=f"20261121-21300{seed % 10}-{name or workload}",
        workload=workload,
        state=state,
        began_ms=BEGAN_MS,
        ended_ms=clock.now_ms,
        spec=Spec(
            workload=workload,
            url=URL,
            server="127.0.0.1:8000",
            model=model,
            name=name,
            slos=SLOS,
            seed=seed,
            price_per_hour=4.0,
            labels=labels or {},
            accuracy=accuracy,
        ),
        facts=Facts(
            server="127.0.0.1:8000",
            url=URL,
            model=model,
            server_version="vLLM 0.32.0",
            max_model_len=32768,
            vocabulary=151936,
            block_size=16,
            kv_cache_tokens=417_392,
            cache_config={"block_size": "16", "cache_dtype": "auto", "gpu_memory_utilization": "0.9"},
            prefix_caching=True,
            usage_details=True,
            gpus=("NVIDIA H100 80GB HBM3", "NVIDIA H100 80GB HBM3"),
            driver="575.51.03",
            hostname="node-7",
            gpumon="0.1.0",
        ),
        steps=tuple(clock.made),
        findings=findings(workload),
        headline=headline(clock.made),
        error="" if state == "done" else "the server closed every connection",
        accuracy=Accuracy(math.exp(-sum(logprobs) / 64), 64, logprobs, "gpumon-1") if accuracy else None,
        seed=seed,
    )


def without_records(result: Result) -> Result:
    """As it is sent to screens."""
    return msgspec.structs.replace(
        result, steps=tuple(msgspec.structs.replace(one, records=None) for one in result.steps)
    )


def row(result: Result, *, baseline: str = "") -> RunRow:
    """As it stands in the daemon's list."""
    return RunRow(
        id=result.id,
        name=result.spec.name or result.workload,
        workload=result.workload,
        server=result.facts.server,
        model=result.facts.model,
        state=result.state,
        began_ms=result.began_ms,
        ended_ms=result.ended_ms,
        error=result.error,
        headline=result.headline,
        valid=not result.invalid,
        baseline=baseline,
        labels=result.spec.labels,
    )


def detail(result: Result) -> RunDetail:
    """As the daemon gives one of its list."""
    return RunDetail(
        row=row(result),
        spec=result.spec,
        facts=result.facts,
        steps=without_records(result).steps,
        findings=result.findings,
        invalid=result.invalid,
        accuracy=result.accuracy,
        files=("baseline_metrics.json", "summary.md", "report.html"),
    )
