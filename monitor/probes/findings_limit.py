"""At what batch scaling stops, and why: what was at its limit when more requests at once brought nothing. Pure.

The evidence is that of the first step beyond the knee, where scaling failed, or of a later one where that step shows
nothing. What hides the others is named first: a server without room keeps both its GPU and the client from working
more, and where requests wait at the server the client is not what they wait for; a client without CPU hides everything
behind it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from monitor.client.format import throughput as bytes_per_s
from monitor.probes import roofline
from monitor.probes.findings_base import mean, middle, most, ms, of_gpus, percent, present, signed, tokens_per_s
from monitor.probes.saturation import Point, knee, peak, points
from monitor.probes.schema import Facts, Finding, Level, Result, Step

FLAT = 0.10
"""A doubling of the concurrency that brings less has stopped scaling."""
CLIENT_FULL = 0.9
"""Cores of the probe's own: it has one."""
CPU_FULL = 0.95
KV_FULL = 0.9
GPU_BUSY = 0.95
GPU_WAITS = 0.7
NEAR = 0.7
"""A share of what a GPU is seen to reach from which on it is taken for the limit."""
LINK_FULL = 0.7
_ROOM = 0.95
_WAITING = 0.05
_LATE_MS = 10.0
_COOL = ("power cap", "sync boost")
"""Reasons for lower clocks that are no fault."""


@dataclass(frozen=True, slots=True)
class Cause:
    """One thing that was at its limit."""

    name: str
    """``client``, ``host cpu``, ``kv cache``, ``max_num_seqs``, ``network``, ``compute``, ``memory bandwidth``,
    ``gpu``, ``thermal``, ``power``."""
    text: str
    level: Level = "info"
    values: dict[str, float | int | str | None] = field(default_factory=dict)


def limit(result: Result) -> list[Finding]:
    """Where scaling stops and why; nothing where there was no sweep."""
    sweep = points(result.steps)
    top, bend = peak(sweep), knee(sweep)
    if len(sweep) < 2 or top is None or bend is None:
        return []
    beyond = [point for point in sweep if point.concurrency > bend.concurrency]
    if top is sweep[-1] and _gain(sweep[-2], sweep[-1]) > FLAT:
        return [_still_rising(sweep, result.facts)]
    where, found = bend, list[Cause]()
    for point in beyond or [bend]:
        where, found = point, causes(point.steps, result.facts)
        if found:
            break
    else:
        where = beyond[0] if beyond else bend
    batch, kind = batch_of(bend.steps, bend.concurrency)
    stop = f"Scaling stops at {kind} (concurrency {bend.concurrency})"
    if beyond:
        change = beyond[0].output / bend.output - 1 if bend.output else 0.0
        stop += f": {beyond[0].concurrency} at once bring {signed(change)} tokens per second"
    seen = "" if where is bend or where in beyond[:1] else f" (seen at concurrency {where.concurrency})"
    values = present(concurrency=bend.concurrency, batch=float(batch), seen_at=where.concurrency)
    if not found:
        text = f"{stop}. Why is not known: {_looked_at(where.steps)}"
        return [Finding("limit", "info", text, values | {"cause": "unknown"})]
    first, *rest = found
    text = f"{stop}. The limit is {first.text}{seen}."
    if first.name == "client":
        text += " The server may do more than was seen."
    if rest:
        text += f" Beside it: {'; '.join(cause.text for cause in rest)}."
    for cause in reversed(found):
        values |= present(**cause.values)
    return [Finding("limit", first.level, text, values | {"cause": first.name})]


def _gain(before: Point, after: Point) -> float:
    """Of a doubling, between two points."""
    if before.output <= 0 or after.output <= 0:
        return 0.0
    doublings = math.log2(after.concurrency / before.concurrency) if before.concurrency > 0 else 1.0
    return float((after.output / before.output) ** (1 / doublings) - 1) if doublings > 0 else 0.0


def _still_rising(sweep: Sequence[Point], facts: Facts) -> Finding:
    last, before = sweep[-1], sweep[-2]
    change = last.output / before.output - 1 if before.output else 0.0
    text = (
        f"Scaling had not stopped at the highest concurrency that was measured: {last.concurrency} at once bring "
        f"{signed(change)} over {before.concurrency} ({tokens_per_s(last.output)}). The peak, and with it the knee, "
        "may be higher."
    )
    near = causes(last.steps, facts)
    if near:
        text += f" Nearest to its limit there: {near[0].text}."
    return Finding(
        "limit", "info", text, present(concurrency=last.concurrency, gain=change, cause="none yet")
    )  # fmt: skip


def batch_of(steps: Sequence[Step], concurrency: int) -> tuple[float, str]:
    """Sequences in a step of the engine, as far as they are known, and that in words."""
    batch = middle(step.readings.server.batch for step in steps if step.readings.server is not None)
    if batch is not None:
        return batch, f"a batch of {batch:.0f} (tokens written in a step of the engine)"
    running = middle(step.readings.server.running for step in steps if step.readings.server is not None)
    if running is not None:
        return running, f"a batch of {running:.0f} (requests running)"
    return float(concurrency), "a batch that the server does not say"


# -- what is at its limit ---------------------------------------------------------------------------------------------


def causes(steps: Sequence[Step], facts: Facts) -> list[Cause]:
    """What these steps, repeats of one another, show to be at its limit; the one that hides the others first."""
    concurrency = max((int(step.parameters.get("concurrency", 0) or 0) for step in steps), default=0)
    found = [*_room(steps, concurrency), *_client(steps), *_cpu(steps), *_network(steps), *_gpu(steps, facts)]
    return found + _throttled(steps)


def _host(steps: Sequence[Step], name: str) -> float | None:
    return middle(getattr(step.readings.host, name) for step in steps if step.readings.host is not None)


def _server(steps: Sequence[Step], name: str) -> float | None:
    return middle(getattr(step.readings.server, name) for step in steps if step.readings.server is not None)


def late(step: Step) -> bool:
    """Whether the probe's own timers came so late (p99), later than a token takes, that it measured itself."""
    host = step.readings.host
    if host is None or host.loop_lag_ms is None:
        return False
    gap = step.metrics.itl.median
    return host.loop_lag_ms > max(_LATE_MS, gap or 0.0)


def _client(steps: Sequence[Step]) -> list[Cause]:
    cpu, lag = _host(steps, "client_cpu"), _host(steps, "loop_lag_ms")
    if cpu is not None and cpu >= CLIENT_FULL:
        text = f"the probe itself: it took {cpu:.2f} cores of the one that it can use"
        return [Cause("client", text, "bad", {"client_cpu": cpu, "loop_lag_ms": lag})]
    if lag is not None and steps and sum(late(step) for step in steps) * 2 > len(steps):
        gap = middle(step.metrics.itl.median for step in steps)
        beside = f" where a token comes each {ms(gap)}" if gap else ""
        machine = _host(steps, "cpu")
        full = f", with {percent(machine)} of its machine's CPU in use" if machine is not None else ""
        text = f"the probe itself: its timers came {ms(lag)} late (p99){beside}{full}"
        return [Cause("client", text, "bad", {"client_cpu": cpu, "loop_lag_ms": lag})]
    return []


def _cpu(steps: Sequence[Step]) -> list[Cause]:
    """The machine's CPU, where no GPU computes."""
    cpu = _host(steps, "cpu")
    util = of_gpus(steps, lambda gpu: gpu.util)
    if cpu is None or cpu < CPU_FULL or (util is not None and util >= 0.5):
        return []
    beside = f", while the GPUs are busy {percent(util)} of the time" if util is not None else ""
    text = f"the CPU of the machine that the probe runs on: {percent(cpu)} of all cores{beside}"
    return [Cause("host cpu", text, "info", {"host_cpu": cpu})]


def waiting_of(steps: Sequence[Step]) -> float | None:
    """Requests that wait at the server, on average: by its gauge, which is looked at once a second, or by the time that
    requests spent in its queue (Little's law: their rate times that time), whichever is more."""
    by_queue = middle(
        step.readings.server.queue_s * step.metrics.request_throughput
        for step in steps
        if step.readings.server is not None and step.readings.server.queue_s is not None
    )
    return most((_server(steps, "waiting"), by_queue))


def _room(steps: Sequence[Step], concurrency: int) -> list[Cause]:
    """The KV cache, or the number of sequences that the server lets run."""
    running, waiting = _server(steps, "running_max"), waiting_of(steps)
    waiting_max = most((_server(steps, "waiting_max"), waiting))
    kv, preempted = _server(steps, "kv_usage_max"), _server(steps, "preemptions")
    waits = waiting_max is not None and waiting_max >= 1
    if preempted or (kv is not None and kv >= KV_FULL and waits):
        parts = [f"{percent(kv)} full"] if kv is not None else []
        parts += [f"{preempted:.0f} requests were put back for want of it"] if preempted else []
        parts += [f"{waiting_max:.0f} waited at the most"] if waits else []
        text = f"the KV cache: {', '.join(parts)}"
        return [Cause("kv cache", text, "info", {"kv_usage_max": kv, "preemptions": preempted, "waiting": waiting})]
    if running is None or waiting is None or not concurrency:
        return []
    if running < _ROOM * concurrency and waiting >= max(1.0, _WAITING * concurrency):
        beside = (
            "and how full the KV cache was is not known"
            if kv is None
            else f"with the KV cache at most {percent(kv)} full"
        )
        text = (
            f"how many requests the server lets run at once (max_num_seqs): never more than {running:.0f} of "
            f"{concurrency} ran, {waiting:.0f} waited on average, {beside}"
        )
        return [Cause("max_num_seqs", text, "info", {"running_max": running, "waiting": waiting, "kv_usage_max": kv})]
    return []


def _network(steps: Sequence[Step]) -> list[Cause]:
    moved, link = _host(steps, "network_bytes_per_s"), _host(steps, "link_bytes_per_s")
    if moved is None or not link or moved < LINK_FULL * link:
        return []
    text = f"the network: {bytes_per_s(moved)} over a link of {bytes_per_s(link)}"
    return [Cause("network", text, "warning", {"network_bytes_per_s": moved})]


def _gpu(steps: Sequence[Step], facts: Facts) -> list[Cause]:
    tensor, dram = of_gpus(steps, lambda gpu: gpu.tensor_active), of_gpus(steps, lambda gpu: gpu.dram_active)
    util = of_gpus(steps, lambda gpu: gpu.util)
    both: dict[str, float | int | str | None] = {"tensor_active": tensor, "dram_active": dram, "util": util}
    found = []
    if tensor is not None and tensor >= NEAR * roofline.MEASURED_TENSOR:
        text = (
            f"computing: the tensor cores are active {percent(tensor)} of the time, where a large matrix product alone "
            f"reaches {percent(roofline.MEASURED_TENSOR)}"
        )
        found.append((tensor / roofline.MEASURED_TENSOR, Cause("compute", text, "info", both)))
    if dram is not None and dram >= NEAR * roofline.MEASURED_DRAM:
        text = (
            f"the bandwidth of the GPU's memory: active {percent(dram)} of the time, where copying alone reaches "
            f"{percent(roofline.MEASURED_DRAM)}"
        )
        found.append((dram / roofline.MEASURED_DRAM, Cause("memory bandwidth", text, "info", both)))
    if found:
        return [cause for _, cause in sorted(found, key=lambda pair: -pair[0])]
    if tensor is not None or dram is not None or util is None:
        return []
    estimated = estimate_text(steps, facts)
    if util >= GPU_BUSY:
        text = (
            f"the GPU: something ran on it {percent(util)} of the time{_clocks(steps)}; whether it computes or waits "
            f"for its memory is not measurable, as it has no GPM. {estimated}"
        )
        return [Cause("gpu", text.rstrip(". "), "info", both)]
    return []


def _clocks(steps: Sequence[Step]) -> str:
    clock, top = of_gpus(steps, lambda gpu: gpu.sm_clock_mhz), of_gpus(steps, lambda gpu: gpu.sm_clock_max_mhz)
    return f" at {clock:.0f} of {top:.0f} MHz" if clock is not None and top else ""


def _throttled(steps: Sequence[Step]) -> list[Cause]:
    reasons: dict[str, list[float]] = {}
    for step in steps:
        for gpu in step.readings.gpus:
            for reason, share in gpu.throttled.items():
                reasons.setdefault(reason, []).append(share)
    shares = {reason: max(found) for reason, found in reasons.items()}
    found = []
    hot = {reason: share for reason, share in shares.items() if reason not in _COOL and share >= 0.05}
    if hot:
        reason, share = max(hot.items(), key=lambda pair: pair[1])
        text = f"clocks held down ({reason}) in {percent(share)} of the samples{_clocks(steps)}"
        found.append(Cause("thermal", text, "warning", {"throttled": share}))
    capped = shares.get("power cap", 0.0)
    clock, top = of_gpus(steps, lambda gpu: gpu.sm_clock_mhz), of_gpus(steps, lambda gpu: gpu.sm_clock_max_mhz)
    if capped >= 0.5 and clock is not None and top and clock < _ROOM * top:
        power = of_gpus(steps, lambda gpu: gpu.power_w)
        draws = f", at {power:.0f} W" if power is not None else ""
        held = f"held its clocks at {clock:.0f} of {top:.0f} MHz in {percent(capped)} of the samples"
        text = f"the GPU's power limit, which {held}{draws}"
        found.append(Cause("power", text, "info", {"power_capped": capped}))
    return found


def _looked_at(steps: Sequence[Step]) -> str:
    """What was read and was at no limit, and what was not read."""
    seen, missing = [], []
    util = of_gpus(steps, lambda gpu: gpu.util)
    tensor, dram = of_gpus(steps, lambda gpu: gpu.tensor_active), of_gpus(steps, lambda gpu: gpu.dram_active)
    kv, cpu, client = _server(steps, "kv_usage_max"), _host(steps, "cpu"), _host(steps, "client_cpu")
    for value, what in (
        (util, "GPU busy"),
        (tensor, "tensor cores"),
        (dram, "GPU memory"),
        (kv, "KV cache"),
        (cpu, "CPU"),
    ):
        if value is not None:
            seen.append(f"{what} {percent(value)}")
    if client is not None:
        seen.append(f"the probe {client:.2f} cores")
    if util is None:
        missing.append("the GPU")
    elif tensor is None and dram is None:
        missing.append("what the GPU does while it is busy (no GPM)")
    if kv is None and _server(steps, "running") is None:
        missing.append("the server")
    text = f"nothing that was read is at its limit ({', '.join(seen)})" if seen else "nothing was read beside the load"
    if missing:
        text += f"; not measurable: {', '.join(missing)}"
    if util is not None and util < GPU_WAITS:
        text += (
            f". The GPU waits {percent(1 - util)} of the time, for the server's own work on the CPU between its steps, "
            "or for requests"
        )
    return text + "."


# -- the estimate -----------------------------------------------------------------------------------------------------


def estimate(steps: Sequence[Step], facts: Facts) -> tuple[roofline.Estimate | None, str]:
    """What the GPUs do by the roofline, and what it stands on; else None, and why there is none."""
    gpu_names = [gpu.name for step in steps for gpu in step.readings.gpus] or list(facts.gpus)
    top = next((found for name in gpu_names if (found := roofline.peak(name)) is not None), None)
    if top is None:
        return None, f"what a {gpu_names[0]} can is not known" if gpu_names and gpu_names[0] else "no GPU is known"
    said = roofline.by_server(top, _server(steps, "flops_per_s"), _server(steps, "memory_bytes_per_s"))
    if said is not None:
        return said, f"by the server's own count, against a {top.name}'s data sheet"
    if not facts.weights_bytes:
        return None, "the model's size is not known, and the server does not estimate its work (--enable-mfu-metrics)"
    per_s, tokens = _rates(steps)
    if per_s is None or tokens is None:
        return None, "how many steps the engine made is not known"
    gpus = max((len(step.readings.gpus) for step in steps), default=0) or max(1, len(facts.gpus))
    guess = roofline.by_weights(
        top, weights_bytes=facts.weights_bytes, steps_per_s=per_s, tokens_per_s=tokens, gpus=gpus
    )
    return guess, f"two bytes a parameter, without KV cache, against a {top.name}'s data sheet"


def _rates(steps: Sequence[Step]) -> tuple[float | None, float | None]:
    """Steps and tokens a second."""
    made, tokens = [], []
    for step in steps:
        server, seconds = step.readings.server, step.metrics.duration_s
        if server is None or server.steps is None or seconds <= 0:
            continue
        made.append(server.steps / seconds)
        known = [value for value in (server.prompt_tokens, server.generation_tokens) if value is not None]
        tokens.append(sum(known) / seconds if known else None)
    return mean(made), mean(tokens)


def estimate_text(steps: Sequence[Step], facts: Facts) -> str:
    """The estimate as a sentence, or why there is none."""
    found, basis = estimate(steps, facts)
    if found is None:
        return f"There is no roofline estimate either: {basis}."
    shares = []
    if found.compute is not None:
        shares.append(f"{percent(found.compute)} of its operations")
    if found.bandwidth is not None:
        shares.append(f"{percent(found.bandwidth)} of its memory's bandwidth")
    text = f"A roofline estimate, no measurement ({basis}): {' and '.join(shares)}"
    if found.nearer is not None:
        text += f", so {found.nearer} is nearer to its limit"
    if found.intensity is not None:
        text += f" ({found.intensity:.0f} operations a byte; from {found.ridge:.0f} on computing limits)"
    return text + "."
