"""What is said of a result: sentences and numbers of steps made by hand, and that nothing is said of nothing."""

from __future__ import annotations

import functools
import random
import types
import typing
from typing import Any

import msgspec
import pytest

from monitor.probes.findings import findings
from monitor.probes.findings_lengths import fit
from monitor.probes.findings_limit import late
from monitor.probes.findings_trust import variation
from monitor.probes.schema import (
    Accuracy,
    Facts,
    Finding,
    GpuReading,
    HostReading,
    Latency,
    Metrics,
    Readings,
    Result,
    ServerReading,
    Slo,
    Spec,
    Step,
    WorkloadName,
)
from tests.probes.made_results import made

UNKNOWN = Facts()


def latency(middle: float, n: int = 200, p99: float | None = None) -> Latency:
    top = middle * 1.5 if p99 is None else p99
    return Latency(n, middle, middle, middle / 10, middle * 1.2, middle * 1.3, top, middle * 0.9, top)


def metrics(
    output: float, *, ttft: float = 50.0, tpot: float = 10.0, seconds: float = 20.0, tokens: int = 100, **more: Any
) -> Metrics:
    """A step of so many tokens a second, of requests with ``tokens`` tokens each."""
    completed = round(output * seconds / tokens)
    return Metrics(
        duration_s=seconds,
        completed=completed,
        failed=more.pop("failed", 0),
        input_tokens=2 * completed * tokens,
        output_tokens=round(output * seconds),
        request_throughput=completed / seconds,
        output_throughput=output,
        total_throughput=3 * output,
        ttft=latency(ttft, more.pop("n", 200)),
        tpot=latency(tpot),
        itl=latency(tpot),
        e2el=latency(more.pop("e2el", ttft + tpot * (tokens - 1))),
        **more,
    )


def gpu(**fields: Any) -> GpuReading:
    values: dict[str, Any] = {"gpu": "0", "name": "NVIDIA H200", "samples": 200, "util": 0.99, "idle_share": 0.0}
    return GpuReading(**(values | fields))


def step(
    workload: WorkloadName,
    made_of: Metrics,
    parameters: dict[str, float | int | str],
    *,
    gpus: tuple[GpuReading, ...] = (),
    server: ServerReading | None = None,
    host: HostReading | None = None,
    notes: tuple[str, ...] = (),
    **more: Any,
) -> Step:
    name = more.pop("name", ", ".join(f"{key} {value}" for key, value in parameters.items()))
    return Step(
        workload, name, parameters, 0, 1000, made_of, readings=Readings(gpus, server, host, notes), **more
    )  # fmt: skip


def sweep(*levels: tuple[int, float], **readings: Any) -> list[Step]:
    return [step("throughput", metrics(output), {"concurrency": level}, **readings) for level, output in levels]


def result(*steps: Step, workload: WorkloadName = "throughput", facts: Facts = UNKNOWN, **more: Any) -> Result:
    spec = Spec(workload, "http://127.0.0.1:8000", **more.pop("spec", {}))
    return Result("1", workload, more.pop("state", "done"), 0, 1000, spec, facts, steps, **more)


def said(of: Result, topic: str) -> list[Finding]:
    return [finding for finding in findings(of) if finding.topic == topic]


def one(of: Result, topic: str) -> Finding:
    (finding,) = said(of, topic)
    return finding


RISING_THEN_FLAT = ((1, 100.0), (2, 195.0), (4, 380.0), (8, 700.0), (16, 720.0))


# -- the sweep --------------------------------------------------------------------------------------------------------


def test_knee_and_peak() -> None:
    finding = one(result(*sweep(*RISING_THEN_FLAT)), "knee")
    assert finding.text == (
        "The peak is 720 tok/s with 16 requests at once, 7.20 × that of one at a time. The knee is at 8: 700 tok/s, "
        "97 % of the peak, with a median TTFT of 50 ms where the peak has 50 ms."
    )
    assert finding.values == {
        "knee": 8, "knee_output_throughput": 700.0, "peak_concurrency": 16, "peak_output_throughput": 720.0,
        "peak_total_throughput": 2160.0, "factor": 7.2,
    }  # fmt: skip


def test_a_sweep_that_still_rises_says_so_and_knows_no_limit() -> None:
    of = result(*sweep((1, 100.0), (2, 195.0), (4, 380.0)))
    assert one(of, "saturated").text == (
        "The server was not saturated: from 2 to 4 at once, output goes by +95 %. Measure more at once to see its peak."
    )
    finding = one(of, "limit")
    assert finding.text == (
        "Scaling had not stopped at the highest concurrency that was measured: 4 at once bring +95 % over 2 "
        "(380 tok/s). The peak, and with it the knee, may be higher."
    )
    assert finding.values["cause"] == "none yet"


def test_a_server_that_gives_less_beyond_its_peak() -> None:
    finding = one(result(*sweep((1, 100.0), (2, 200.0), (4, 150.0))), "saturated")
    assert finding.text == "Beyond its peak at 2 the server gives less: 25 % less at 4."
    assert finding.level == "warning"


def test_the_highest_concurrency_within_the_targets() -> None:
    slos = (Slo("ttft", 100.0), Slo("tpot", 50.0, 50.0))
    steps = [
        step("throughput", metrics(output, ttft=ttft, slo_met=met), {"concurrency": level})
        for level, output, ttft, met in ((1, 100.0, 40.0, True), (2, 190.0, 60.0, True), (4, 300.0, 80.0, False))
    ]
    finding = one(result(*steps, spec={"slos": slos}), "target")
    assert finding.text == (
        "Up to 2 requests at once meet the targets (TTFT p99 ≤ 100 ms, TPOT p50 ≤ 50 ms), with 190 tok/s; "
        "at 4, TTFT p99 is 120 ms."
    )
    assert (finding.level, finding.values) == ("good", {"concurrency": 2, "output_throughput": 190.0})
    finding = one(result(steps[2], spec={"slos": slos}), "target")
    assert finding.text.startswith("No concurrency meets the targets")
    assert finding.text.endswith("already at 4, TTFT p99 is 120 ms.")
    assert finding.level == "bad"
    assert not said(result(*steps), "target"), "where there is no target, none is met or missed"


def test_a_bound_that_a_lower_step_missed_is_not_sharp() -> None:
    steps = [
        step("throughput", metrics(100.0 * level, slo_met=met), {"concurrency": level})
        for level, met in ((1, True), (2, False), (4, True))
    ]
    finding = one(result(*steps, spec={"slos": (Slo("ttft", 100.0),)}), "target")
    assert finding.text.endswith("more were not measured. But 2 at once missed them: the bound is not sharp.")
    assert finding.level == "warning"


def test_the_highest_rate_within_the_targets() -> None:
    steps = [
        step("rate", metrics(100.0, ttft=ttft, slo_met=met), {"rate": rate})
        for rate, ttft, met in ((2.0, 40.0, True), (4.0, 90.0, False))
    ]
    finding = one(result(*steps, workload="rate", spec={"slos": (Slo("ttft", 100.0),)}), "target")
    assert finding.text == "Up to 2 requests a second meet the targets (TTFT p99 ≤ 100 ms); at 4, TTFT p99 is 135 ms."


def test_gpus_that_are_made_up_are_called_that() -> None:
    """A real server behind the daemon of a simulated node: its joules are nobody's."""
    notes = ("the GPUs are those of a simulated node",)
    (found,) = [
        each
        for each in said(result(*sweep((1, 100.0), (2, 195.0), gpus=(gpu(),), notes=notes)), "disturbed")
        if each.level == "warning"
    ]
    assert found.text.startswith("The GPUs are made up")


def test_reasons_of_heat_that_come_together_are_one_finding() -> None:
    hot = gpu(throttled={"hw slowdown": 0.2, "hw thermal slowdown": 0.4, "power cap": 0.9})
    found = [each for each in said(result(*sweep((1, 100.0), gpus=(hot,))), "disturbed") if "held down" in each.text]
    assert [each.level for each in found] == ["warning", "info"]
    assert "(hw slowdown, hw thermal slowdown) during concurrency 1 (in up to 40 % of the samples)" in found[0].text
    assert found[0].values == {"reason": "hw slowdown, hw thermal slowdown", "share": 0.4}


def rated(rate: float, *, seconds: float, completed: int, ttft: float = 40.0) -> Step:
    made = metrics(100.0, ttft=ttft, seconds=seconds)
    fast = Latency(completed, ttft + 960.0, ttft + 960.0, min=1000.0)
    made = msgspec.structs.replace(made, completed=completed, request_throughput=completed / seconds, e2el=fast)
    return step("rate", made, {"rate": rate})


def test_the_highest_rate_that_the_server_keeps_up_with() -> None:
    kept = rated(2.0, seconds=61.0, completed=120)
    late = rated(4.0, seconds=90.0, completed=240, ttft=9000.0)
    finding = one(result(kept, late, workload="rate"), "saturated")
    assert finding.text == (
        "The server keeps up with 2 requests a second (median TTFT 40 ms), not with 4: 2.67 a second were answered, "
        "and the last answer came 30 s after the last request was due (median TTFT 9.00 s)."
    )
    assert (finding.level, finding.values) == ("good", {"rate": 2.0, "rate_beyond": 4.0})
    slow = rated(1.0, seconds=61.0, completed=60, ttft=30.0)
    assert "(median TTFT 40 ms, 30 ms at 1)" in one(result(slow, kept, workload="rate"), "saturated").text
    finding = one(result(kept, workload="rate"), "saturated")
    assert finding.text.endswith("the highest that was tried: a higher one would show where it ends.")
    finding = one(result(late, workload="rate"), "saturated")
    assert finding.text.startswith("The server keeps up with no rate that was tried: of 4 requests a second, 2.67")
    assert finding.level == "bad"


# -- why scaling stops ------------------------------------------------------------------------------------------------


def limit_of(facts: Facts = UNKNOWN, **readings: Any) -> Finding:
    """Of a sweep that stops at 8, with these readings at 16."""
    last = step("throughput", metrics(720.0), {"concurrency": 16}, **readings)
    return one(result(*sweep(*RISING_THEN_FLAT[:-1]), last, facts=facts), "limit")


STOPS = (
    "Scaling stops at a batch that the server does not say (concurrency 8): 16 at once bring +2.9 % tokens per second."
)


@pytest.mark.parametrize(
    ("cause", "readings", "why"),
    [
        (
            "client",
            {"host": HostReading(cpu=0.5, client_cpu=0.97, loop_lag_ms=3.0), "gpus": (gpu(tensor_active=0.9),)},
            "The limit is the probe itself: it took 0.97 cores of the one that it can use. The server may do more "
            "than was seen. Beside it: computing: the tensor cores are active 90 % of the time, where a large matrix "
            "product alone reaches 93 %.",
        ),
        (
            "client",
            {"host": HostReading(cpu=0.97, client_cpu=0.5, loop_lag_ms=18.0)},
            "The limit is the probe itself: its timers came 18 ms late (p99) where a token comes each 10 ms, with 97 % "
            "of its machine's CPU in use. The server may do more than was seen. Beside it: the CPU of the machine that "
            "the probe runs on: 97 % of all cores.",
        ),
        (
            "kv cache",
            {"server": ServerReading(running_max=10, waiting=5, waiting_max=6, kv_usage_max=0.98, preemptions=4)},
            "The limit is the KV cache: 98 % full, 4 requests were put back for want of it, 6 waited at the most.",
        ),
        (
            "max_num_seqs",
            {"server": ServerReading(running_max=8, waiting=8, waiting_max=8, kv_usage_max=0.12, preemptions=0)},
            "The limit is how many requests the server lets run at once (max_num_seqs): never more than 8 of 16 ran, "
            "8 waited on average, with the KV cache at most 12 % full.",
        ),
        (
            # 7.2 requests a second, each 1.5 s in the queue, are 10.8 that wait, whatever the gauge showed.
            "max_num_seqs",
            {
                "server": ServerReading(running_max=4, waiting=0, waiting_max=0, queue_s=1.5),
                "host": HostReading(cpu=0.5, client_cpu=0.95, loop_lag_ms=1.0),
            },
            "The limit is how many requests the server lets run at once (max_num_seqs): never more than 4 of 16 ran, "
            "11 waited on average, and how full the KV cache was is not known. Beside it: the probe itself: it took "
            "0.95 cores of the one that it can use.",
        ),
        (
            "compute",
            {"gpus": (gpu(tensor_active=0.7, dram_active=0.3),)},
            "The limit is computing: the tensor cores are active 70 % of the time, where a large matrix product alone "
            "reaches 93 %.",
        ),
        (
            "memory bandwidth",
            {"gpus": (gpu(tensor_active=0.3, dram_active=0.8),)},
            "The limit is the bandwidth of the GPU's memory: active 80 % of the time, where copying alone reaches "
            "89 %.",
        ),
        (
            "host cpu",
            {"host": HostReading(cpu=0.99, client_cpu=0.2, loop_lag_ms=1.0)},
            "The limit is the CPU of the machine that the probe runs on: 99 % of all cores.",
        ),
        (
            "network",
            {"host": HostReading(network_bytes_per_s=1.0e8, link_bytes_per_s=1.25e8)},
            "The limit is the network: 100 MB/s over a link of 125 MB/s.",
        ),
        (
            "thermal",
            {"gpus": (gpu(tensor_active=0.3, dram_active=0.3, throttled={"hw thermal slowdown": 0.4}),)},
            "The limit is clocks held down (hw thermal slowdown) in 40 % of the samples.",
        ),
        (
            "power",
            {
                "gpus": (
                    gpu(
                        tensor_active=0.5, dram_active=0.5, sm_clock_mhz=1500, sm_clock_max_mhz=1980, power_w=695,
                        throttled={"power cap": 0.9},
                    ),
                )
            },
            "The limit is the GPU's power limit, which held its clocks at 1500 of 1980 MHz in 90 % of the samples, "
            "at 695 W.",
        ),
    ],
)  # fmt: skip
def test_why_scaling_stops(cause: str, readings: dict[str, Any], why: str) -> None:
    finding = limit_of(**readings)
    assert finding.values["cause"] == cause
    assert finding.text == f"{STOPS} {why}"


def test_the_batch_is_the_engines_where_it_says_it() -> None:
    knee = step("throughput", metrics(700.0), {"concurrency": 8}, server=ServerReading(batch=7.6, running=8))
    of = result(*sweep((1, 100.0), (4, 380.0)), knee, *sweep((16, 720.0)))
    finding = one(of, "limit")
    assert finding.text.startswith("Scaling stops at a batch of 8 (tokens written in a step of the engine)")
    assert finding.values["batch"] == 7.6


def test_where_nothing_is_at_its_limit_it_says_what_was_looked_at() -> None:
    finding = limit_of(
        gpus=(gpu(util=0.45, tensor_active=0.2, dram_active=0.3),),
        server=ServerReading(running=15.5, running_max=16, waiting=0, waiting_max=0, kv_usage_max=0.1, preemptions=0),
        host=HostReading(cpu=0.3, client_cpu=0.2, loop_lag_ms=1.0),
    )
    assert finding.values["cause"] == "unknown"
    assert finding.text == (
        f"{STOPS} Why is not known: nothing that was read is at its limit (GPU busy 45 %, tensor cores 20 %, GPU "
        "memory 30 %, KV cache 10 %, CPU 30 %, the probe 0.20 cores). The GPU waits 55 % of the time, for the "
        "server's own work on the CPU between its steps, or for requests."
    )


def test_where_nothing_was_read_nothing_is_claimed() -> None:
    finding = limit_of()
    assert finding.text == (
        f"{STOPS} Why is not known: nothing was read beside the load; not measurable: the GPU, the server."
    )


def test_without_gpm_there_is_an_estimate_that_is_called_one() -> None:
    server = ServerReading(steps=1000, generation_tokens=16_000, prompt_tokens=0, running_max=16)
    facts = Facts(weights_bytes=16_000_000_000)
    finding = limit_of(facts, gpus=(gpu(sm_clock_mhz=1980, sm_clock_max_mhz=1980),), server=server)
    # 50 steps a second of 16 GB are 0.8 of 4.8 TB/s; 800 tokens a second of 8 billion parameters are 12.8 TFLOP/s.
    assert finding.text == (
        f"{STOPS} The limit is the GPU: something ran on it 99 % of the time at 1980 of 1980 MHz; whether it computes "
        "or waits for its memory is not measurable, as it has no GPM. A roofline estimate, no measurement (two "
        "bytes a parameter, without KV cache, against a H200's data sheet): 1 % of its operations and 17 % of its "
        "memory's bandwidth, so memory bandwidth is nearer to its limit (16 operations a byte; from 206 on computing "
        "limits)."
    )
    assert finding.values["cause"] == "gpu"
    finding = limit_of(gpus=(gpu(),), server=server)
    assert finding.text.endswith(
        "There is no roofline estimate either: the model's size is not known, and the server does not estimate its "
        "work (--enable-mfu-metrics)."
    )
    said_itself = ServerReading(flops_per_s=494.7e12, memory_bytes_per_s=0.48e12)
    assert "50 % of its operations and 10 % of its memory's bandwidth, so compute is nearer" in (
        limit_of(gpus=(gpu(),), server=said_itself).text
    )


# -- single questions -------------------------------------------------------------------------------------------------


def test_whether_the_gpu_is_idle_between_requests() -> None:
    alone = step(
        "latency", metrics(90.0), {"concurrency": 1},
        gpus=(gpu(util=0.6, idle_share=0.1, power_w=240, sm_active=0.35),),
    )  # fmt: skip
    finding = one(result(alone, workload="latency"), "idle")
    assert finding.text == (
        "One request at a time, the GPU is busy 60 % of the time, and nothing at all ran in 10 % of the samples, at "
        "240 W; its multiprocessors have work 35 % of the time: between the steps of one request it is idle 40 % of "
        "the time."
    )
    unread = step("latency", metrics(90.0), {"concurrency": 1}, notes=("no GPU was read: no NVIDIA driver",))
    finding = one(result(unread, workload="latency"), "idle")
    assert finding.text == ("Whether the GPU is idle between requests is not known: no GPU was read: no NVIDIA driver.")


def lengths_step(prompt: int, output: int, ttft: float, e2el: float) -> Step:
    tpot = (e2el - ttft) / (output - 1)
    made_of = metrics(50.0, ttft=ttft, tpot=tpot, e2el=e2el)
    return step("lengths", made_of, {"input_len": prompt, "output_len": output, "concurrency": 1})


def test_doublings_that_were_measured() -> None:
    steps = [
        lengths_step(prompt, output, 20 + prompt / 10, 20 + prompt / 10 + 10 * (output - 1))
        for prompt in (500, 1000, 2000)
        for output in (50, 100)
    ]
    prompt, output = said(result(*steps, workload="lengths"), "doubling")
    assert prompt.text == (
        "Twice the prompt (1,000 → 2,000 tokens, 50 out): TTFT takes 1.83 × as long (120 ms → 220 ms), the decode "
        "after it 1.00 ×. By a line through 3 prompt lengths (R² 1.00), TTFT is 20 ms and 100 ms for each 1,000 "
        "tokens. Each token of the answer takes 10 ms after 500 tokens of prompt and 10 ms after 2,000 (1.00 ×)."
    )
    assert prompt.values["prefill_tokens_per_s"] == 10_000
    assert output.text == (
        "Twice the output (50 → 100 tokens, 1,000 in) takes 1.82 × as long from end to end (610 ms → 1.11 s), the "
        "decode alone 2.02 ×, TTFT 1.00 ×. Over all 3 doublings that were measured, from end to end 1.70 × to "
        "1.89 ×, decode 2.02 × to 2.02 ×."
    )


def test_a_first_token_that_does_not_wait_for_longer_prompts_has_no_price() -> None:
    steps = [lengths_step(prompt, 50, ttft, 600) for prompt, ttft in ((10, 20.0), (100, 12.0), (1000, 16.0))]
    prompt, *_ = said(result(*steps, workload="lengths"), "doubling")
    assert prompt.text.startswith("TTFT does not grow with the prompt up to 1,000 tokens, by a line through 3")


def test_where_nothing_was_doubled_the_line_says_that_it_is_one() -> None:
    steps = [lengths_step(prompt, 50, 20 + prompt / 10, 600 + prompt / 10) for prompt in (10, 100, 1000)]
    prompt, output = said(result(*steps, workload="lengths"), "doubling")
    assert "so twice 1,000 would take 1.83 × as long (not measured)" in prompt.text
    assert (
        output.text == "What twice the output costs is not known: no length of answer was measured beside its double."
    )


def test_a_line_by_least_squares() -> None:
    line = fit([(0, 1), (1, 3), (2, 5)])
    assert line is not None
    assert (line.base, line.slope, line.r2) == pytest.approx((1, 2, 1))
    noisy = fit([(0, 0), (1, 1), (2, 0)])
    assert noisy is not None
    assert (noisy.slope, noisy.r2) == pytest.approx((0, 0))
    assert fit([(1, 1), (1, 2), (2, 3)]) is None


def test_energy_and_cost_at_the_peak() -> None:
    steps = [
        step("throughput", metrics(output), {"concurrency": level}, gpus=(gpu(energy_j=joules, power_w=joules / 20),))
        for level, output, joules in ((1, 100.0, 4000.0), (8, 700.0, 14000.0))
    ]
    of = result(*steps, spec={"price_per_hour": 3.6})
    finding = one(of, "energy")
    assert finding.text == (
        "At the peak, with 8 at once: 1 token per joule (1 J a token), with 700 W by the GPU; one request at a time: "
        "0.5 tokens per joule (2 J a token). It is the GPUs' whole draw, with what they take when idle, and not the "
        "machine's."
    )
    finding = one(of, "cost")
    # 3.60 an hour are 0.001 a second, in which 700 tokens are written, and twice as many are read.
    assert finding.text == (
        "At the peak, with 8 at once (700 tok/s) and at $3.60 an hour, a million tokens written costs $1.43, with the "
        "prompts before them thrown in (2 tokens read for each one written); a million of both together costs $0.48. "
        "That is at full load: at half of it each costs twice as much."
    )
    assert finding.values["per_million_output"] == pytest.approx(1.42857)
    assert not said(result(*steps), "cost")
    unknown = step("throughput", metrics(100.0), {"concurrency": 1}, gpus=(gpu(),))
    assert one(result(unknown), "energy").text == (
        "What a token takes in energy is not known: the GPUs do not say their power."
    )


def test_a_warm_prefix() -> None:
    steps = [
        step("prefix", metrics(100.0, ttft=ttft, cached_tokens=cached), {"share": share, "input_len": 1024})
        for share, ttft, cached in ((0.0, 49.0, 0), (0.5, 30.0, 1900), (0.9, 9.8, 3600))
    ]
    finding = one(result(*steps, workload="prefix"), "prefix")
    assert finding.text == (
        "A prompt of 1,024 tokens of which 90 % are in the prefix cache has its first token after 9.8 ms, where 0 % "
        "take 49 ms (−80 %); 90 % of the tokens came from the cache. Between them: 50 % 30 ms."
    )
    assert finding.level == "good"


def test_classes_of_priority() -> None:
    def classes(first: float, last: float, waiting: float) -> Finding:
        groups = {"priority 10": metrics(50.0, ttft=last), "priority 2": metrics(50.0, ttft=first)}
        loaded = step(
            "priority", metrics(100.0), {"concurrency": 64}, groups=groups, server=ServerReading(waiting_max=waiting)
        )
        return one(result(loaded, workload="priority"), "priority")

    finding = classes(100.0, 900.0, 20)
    assert finding.text == (
        "With 64 at once, the median TTFT is by class: priority 2 100 ms (p99 150 ms), priority 10 900 ms (p99 1.35 s)"
        ". The last class waits 9.00 × as long as the first."
    )
    assert finding.level == "good"
    assert classes(100.0, 105.0, 20).text.endswith("(1.05 ×): the server does not seem to obey them.")
    assert "nobody had to wait" in classes(100.0, 105.0, 0).text


def test_drift_of_a_soak() -> None:
    def soak(ttfts: list[float]) -> Finding:
        steps = [
            msgspec.structs.replace(
                step("soak", metrics(50.0, ttft=ttft), {"minute": minute}, name=f"minute {minute}"),
                began_ms=60_000 * minute,
            )
            for minute, ttft in enumerate(ttfts)
        ]
        return one(result(*steps, workload="soak"), "drift")

    rng = random.Random(1)
    finding = soak([50 + 0.5 * minute + rng.gauss(0, 0.3) for minute in range(20)])
    assert finding.level == "warning"
    assert finding.text.startswith("Median TTFT rose by")
    assert soak([50 + rng.gauss(0, 0.3) for _ in range(20)]).text.startswith("Nothing drifts beyond noise in 19 min")
    assert "(median TTFT +" in soak([50 + rng.gauss(0, 0.3) for _ in range(20)]).text.replace("−", "+")
    wild = soak([50 + rng.gauss(0, 30) for _ in range(8)])
    assert wild.level == "info"
    assert wild.text.startswith("Whether anything drifts in 7 min cannot be told: over that time, with 95 %, median")
    assert soak([50.0] * 3).text == "Whether anything drifts is not known: 3 parts were measured, and it takes 5."


def test_memory_and_room() -> None:
    server = ServerReading(kv_usage_max=0.25)
    used = gpu(memory_used_bytes=60 * 2**30, memory_total_bytes=80 * 2**30)
    of = result(*sweep((1, 100.0), gpus=(used, used), server=server), facts=Facts(kv_cache_tokens=100_000))
    assert one(of, "memory").text == (
        "The GPUs' memory held 120 GiB of 160 GiB (75 %) at the most; the KV cache was never above 25 %, that is about "
        "25,000 of 100,000 tokens: there is room for more or longer requests."
    )


def test_a_cache_that_is_all_but_empty_is_not_said_to_be_at_nothing() -> None:
    of = result(*sweep((1, 100.0), server=ServerReading(kv_usage_max=0.0004)), facts=Facts(kv_cache_tokens=100_000))
    assert one(of, "memory").text.startswith("The KV cache was never above 0.1 %, that is about 40 of 100,000 tokens")


def test_accuracy() -> None:
    of = result(*sweep((1, 100.0)), accuracy=Accuracy(6.25, 512))
    assert one(of, "accuracy").values == {"perplexity": 6.25, "tokens": 512}
    of = result(*sweep((1, 100.0)), accuracy=Accuracy(why_not="the server refuses prompt_logprobs"))
    assert one(of, "accuracy").text == "There is no perplexity: the server refuses prompt_logprobs."


# -- whether it can be trusted ----------------------------------------------------------------------------------------


def test_what_disturbed_it() -> None:
    def disturbed(**readings: Any) -> list[str]:
        return [
            f"{finding.level}: {finding.text}" for finding in said(result(*sweep((4, 300.0), **readings)), "disturbed")
        ]

    quiet: dict[str, Any] = {
        "server": ServerReading(other_tokens=0.0, generation_tokens=6000),
        "host": HostReading(cpu=0.3, client_cpu=0.2, loop_lag_ms=0.9),
        "gpus": (gpu(),),
    }
    assert disturbed(**quiet) == [
        "good: Nothing that was looked at disturbed it: the probe took at most 0.20 of its one core, its timers came "
        "at most 0.9 ms late (p99), the server wrote 0 tokens for others, clocks were held down in 0 % of the samples "
        "at the most."
    ]
    assert disturbed() == [
        "info: Not known: whether others used the server, as its /metrics does not say; whether clocks were held "
        "down, as no GPU was read; whether the probe kept up, as its own process was not watched."
    ]
    others = ServerReading(other_tokens=600.0, other_requests=5.0, generation_tokens=6600)
    assert disturbed(**quiet | {"server": others}) == [
        "warning: Others used the server during concurrency 4: 600 tokens were written for them in 5 requests, at most "
        "9 % of all in one step."
    ]
    hot = gpu(throttled={"sw thermal slowdown": 0.5}, sm_clock_mhz=1200, sm_clock_max_mhz=1980)
    assert disturbed(**quiet | {"gpus": (hot,)}) == [
        "warning: The GPUs' clocks were held down (sw thermal slowdown) during concurrency 4: 1200 of 1980 MHz on "
        "average (in up to 50 % of the samples): the same server is faster when it is cool."
    ]
    full = HostReading(cpu=0.99, client_cpu=0.95, loop_lag_ms=30.0)
    bad, warning = disturbed(**quiet | {"host": full})
    assert bad.startswith("bad: The probe itself was too slow during concurrency 4: it took 0.95 of the one core")
    assert warning.startswith("warning: The CPU of the probe's machine was full")
    held = disturbed(**quiet | {"host": HostReading(cpu=0.7, client_cpu=0.1, loop_lag_ms=30.0)})
    assert held == [
        "bad: The probe was held up during concurrency 4: its timers came 30 ms late (p99), though it took only 0.10 "
        "of a core. Latencies there are partly its own: something else has the CPU of its machine, so run it where a "
        "core is idle."
    ]
    restarted = disturbed(**quiet | {"server": ServerReading(restarted=True)})
    assert restarted[0] == "bad: The server was started anew during concurrency 4."


def test_a_late_probe() -> None:
    def probe(lag: float | None, gap: float) -> bool:
        return late(step("rate", metrics(10.0, tpot=gap), {}, host=HostReading(loop_lag_ms=lag)))

    assert probe(11.0, 10.0)
    assert not probe(11.0, 20.0), "less than a token takes"
    assert not probe(9.9, 1.0)
    assert not probe(None, 1.0)


def test_failures_by_kind() -> None:
    good, bad = (
        metrics(100.0),
        metrics(
            90.0, failed=4, failures={"stalled": 1, "broken": 3, "hung_up": 9},
            errors={"the connection ended": 3, "no byte in 60 s": 1},
        ),
    )  # fmt: skip
    steps = [step("throughput", made_of, {"concurrency": level}) for level, made_of in ((1, good), (2, bad))]
    finding = one(result(*steps), "failures")
    assert finding.text == (
        "4 of 42 requests failed (10 %): 3 broken, 1 stalled. The commonest error (3 times): the connection ended. "
        "They were in concurrency 2."
    )
    assert finding.level == "bad"
    assert not said(result(steps[0]), "failures")


def test_repeats_and_their_spread() -> None:
    def repeated(*outputs: float) -> Finding:
        steps = [
            step("throughput", metrics(output), {"concurrency": 4}, repeat=number)
            for number, output in enumerate(outputs)
        ]
        return one(result(*steps), "trust")

    finding = repeated(100.0, 102.0, 98.0)
    assert finding.text == (
        "Over 3 repeats, tokens per second differ by 2 % at the most (coefficient of variation, in concurrency 4: "
        "98 tok/s to 102 tok/s), the median TTFT by 0 % (in concurrency 4)."
    )
    assert (finding.level, finding.values["output_throughput_cv"]) == ("good", 0.02)
    assert repeated(100.0, 140.0).level == "warning"
    assert repeated(100.0).text == (
        "Each step was measured once, so how far it would differ the next time is not known: --repeats 3 shows it."
    )
    assert variation([98.0, 100.0, 102.0]) == pytest.approx(0.02)
    assert variation([1.0]) is None


def test_too_few_requests_for_a_p99_and_steps_that_do_not_count() -> None:
    steps = [
        step("latency", metrics(100.0, n=30), {"concurrency": 1}, repeat=0),
        step("latency", metrics(100.0, n=500), {"concurrency": 1}, repeat=1, invalid=("cached tokens: 512",)),
    ]
    texts = [finding.text for finding in said(result(*steps, workload="latency"), "trust")]
    assert texts[0] == "1 of 2 steps does not count: concurrency 1: cached tokens: 512."
    assert texts[-1] == (
        "The p99 of TTFT and E2EL is about the slowest request in 1 of 1 step, with 30 requests: it takes 100 for one "
        "to lie above it."
    )
    cut = result(steps[1], state="failed", error="the server is gone")
    assert said(cut, "trust")[1].text == "The run did not come to its end: failed (the server is gone). It has 1 step."


# -- every result -----------------------------------------------------------------------------------------------------


def test_of_nothing_nothing_is_said() -> None:
    for workload in typing.get_args(WorkloadName):
        assert findings(result(workload=workload)) == ()


def optional(kind: Any) -> bool:
    return typing.get_origin(kind) in (typing.Union, types.UnionType) and type(None) in typing.get_args(kind)


hints_of = functools.cache(typing.get_type_hints)


def thinned(value: Any, rng: random.Random, share: float) -> Any:
    """The same with so much of what may be absent taken away, at random, at every depth."""
    if isinstance(value, msgspec.Struct):
        hints = hints_of(type(value))
        changes: dict[str, Any] = {}
        for name in value.__struct_fields__:
            was = getattr(value, name)
            if optional(hints[name]) and rng.random() < share:
                changes[name] = None
            elif rng.random() < share / 2 and isinstance(was, dict):
                changes[name] = {key: one for key, one in was.items() if rng.random() > share}
            elif rng.random() < share / 2 and isinstance(was, tuple):
                changes[name] = was[: rng.randrange(len(was) + 1)]
            elif type(was) in (int, float) and rng.random() < share / 8:
                changes[name] = type(was)(0)
            else:
                changes[name] = thinned(was, rng, share)
        return msgspec.structs.replace(value, **changes)
    if isinstance(value, tuple):
        return tuple(thinned(one, rng, share) for one in value)
    if isinstance(value, dict):
        return {key: thinned(one, rng, share) for key, one in value.items()}
    return value


@pytest.mark.parametrize("workload", typing.get_args(WorkloadName))
def test_any_part_of_a_result_has_findings_and_none_of_them_says_none(workload: WorkloadName) -> None:
    whole = made(workload, few=True)
    whole = msgspec.structs.replace(
        whole, steps=tuple(msgspec.structs.replace(one, records=None) for one in whole.steps)
    )
    for seed in range(80):
        rng = random.Random(f"{workload} {seed}")
        part = thinned(whole, rng, rng.choice((0.05, 0.3, 0.7)))
        for finding in findings(part):
            assert finding.text
            assert finding.text[0].isupper() or finding.text[0].isdigit()
            assert finding.text.endswith(".")
            assert not any(word in finding.text for word in ("None", "nan", "inf ", "–")), finding.text
            assert all(value is not None for value in finding.values.values())
        assert msgspec.json.decode(msgspec.json.encode(findings(part)), type=tuple[Finding, ...]) == findings(part)


def test_a_profile_disturbs_and_its_trace_is_named() -> None:
    spec = Spec("throughput", "http://127.0.0.1:1", profile=True, profile_seconds=5)
    of = msgspec.structs.replace(result(*sweep((1, 100.0), (2, 190.0))), spec=spec, traces=("/t/rank0.json.gz",))
    (found,) = [each for each in said(of, "disturbed") if "torch profiler" in each.text]
    assert found.level == "warning"
    assert "for 5 s at most" in found.text
    assert found.text.endswith("The trace: /t/rank0.json.gz.")
    without = msgspec.structs.replace(of, spec=msgspec.structs.replace(spec, profile=False))
    assert not [each for each in said(without, "disturbed") if "torch profiler" in each.text]


def test_what_waited_here_is_told_from_when_it_was_due() -> None:
    due = step("rate", metrics(100, ttft=50), {"rate": 4}, groups={"from when they were due": metrics(100, ttft=400)})
    (found,) = [each for each in said(result(due, workload="rate"), "disturbed") if "were due" in each.text]
    assert found.text.startswith("Requests were sent later than they were due, during rate 4: ")
    limited = msgspec.structs.replace(due, parameters={"rate": 4, "max_concurrency": 2})
    (found,) = [each for each in said(result(limited, workload="rate"), "disturbed") if "waited here" in each.text]
    assert "the TTFT p99 of rate 4 is 600 ms, where it is 75 ms from when they were sent" in found.text
    assert found.values == {"ttft_p99_due_ms": 600.0, "ttft_p99_ms": 75.0}
