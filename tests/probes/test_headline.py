"""The figures by which a run stands in a list, computed by hand."""

from __future__ import annotations

from monitor.probes.headline import headline
from monitor.probes.schema import GpuReading, Latency, Metrics, Readings, Step, WorkloadName


def step(
    workload: WorkloadName = "latency",
    *,
    concurrency: int = 1,
    output: float = 100.0,
    ttft: float = 50.0,
    tpot: float = 10.0,
    input_len: int = 10,
    slo_met: bool | None = None,
    invalid: tuple[str, ...] = (),
    joules: tuple[float | None, ...] = (),
    repeat: int = 0,
) -> Step:
    made = Metrics(
        10.0, 10, 0, 1000, 500, output / 50, output, output * 3, ttft=Latency(10, median=ttft, p99=2 * ttft),
        tpot=Latency(10, median=tpot), slo_met=slo_met,
    )  # fmt: skip
    gpus = tuple(GpuReading(str(index), energy_j=value) for index, value in enumerate(joules))
    return Step(
        workload, f"{workload} {concurrency} {input_len}", {"concurrency": concurrency, "input_len": input_len}, 0, 1,
        made, invalid=invalid, readings=Readings(gpus=gpus), repeat=repeat,
    )  # fmt: skip


def test_one_concurrency_alone_has_no_knee() -> None:
    found = headline("throughput", [step("throughput", concurrency=1)])
    assert found["output_throughput"] == 100.0
    assert found.keys().isdisjoint({"knee", "peak_concurrency", "factor"})


def test_latencies_are_the_medians_over_repeats() -> None:
    found = headline("latency", [step(ttft=ttft) for ttft in (40.0, 60.0, 50.0)])
    assert found == {
        "ttft_p50_ms": 50.0,
        "ttft_p99_ms": 100.0,
        "tpot_p50_ms": 10.0,
        "output_throughput": 100.0,
        "total_throughput": 300.0,
        "request_throughput": 2.0,
    }


def test_what_does_not_count_is_left_out_where_there_is_other() -> None:
    bad = step(ttft=1.0, invalid=("cached tokens: 5",))
    assert headline("latency", [bad, step(ttft=50.0)])["ttft_p50_ms"] == 50.0
    assert headline("latency", [bad])["ttft_p50_ms"] == 1.0
    assert headline("latency", []) == {}


def test_energy_is_that_of_all_gpus_or_none() -> None:
    assert headline("latency", [step(joules=(1000.0, 500.0))])["joules_per_token"] == 3.0
    assert "joules_per_token" not in headline("latency", [step(joules=(1000.0, None))])


def test_a_sweep_is_its_peak_and_its_knee() -> None:
    sweep = [
        step("throughput", concurrency=level, output=output, slo_met=met, joules=(1000.0,))
        for level, output, met in ((1, 100.0, True), (2, 190.0, True), (4, 300.0, False), (8, 310.0, False))
    ]
    assert headline("throughput", sweep) == {
        "output_throughput": 310.0,
        "total_throughput": 930.0,
        "request_throughput": 6.2,
        "peak_concurrency": 8.0,
        "knee": 4.0,
        "factor": 3.1,
        "slo_concurrency": 2.0,
        "joules_per_token": 2.0,
    }


def test_targets_that_none_meets_are_zero_and_without_targets_there_is_no_figure() -> None:
    assert headline("throughput", [step("throughput", slo_met=False)])["slo_concurrency"] == 0.0
    assert "slo_concurrency" not in headline("throughput", [step("throughput")])


def test_lengths_are_how_fast_the_longest_is_read_and_a_token_written() -> None:
    found = headline("lengths", [step("lengths", input_len=length, ttft=length / 10) for length in (10, 1000)])
    assert found == {"prefill_throughput": 10_000.0, "ttft_p50_ms": 100.0, "tpot_p50_ms": 10.0}


def test_a_suite_has_those_of_its_parts_by_their_names() -> None:
    found = headline(
        "suite", [step(ttft=50.0), step("throughput", concurrency=1, output=400.0), step("lengths", ttft=5.0)]
    )
    assert (found["ttft_p50_ms"], found["output_throughput"], found["lengths_ttft_p50_ms"]) == (50.0, 400.0, 5.0)
