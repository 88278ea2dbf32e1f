"""The simulated node: the real sources' series, counters that only go forward, and the story as it is told."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

import pytest

from monitor.samples import NAME, Scrape, label
from monitor.sources.exposition import ExpositionReader
from monitor.sources.hardware import Hardware, parse
from monitor.sources.nvml_series import THROTTLE_REASONS
from monitor.sources.nvml_table import ALL
from monitor.sources.simulated import Simulated, SimulatedGpus, SimulatedVllm, past, simulated_sources
from monitor.sources.story import Plot, Story

START = 1_800_000_000_000
HOT = Hardware().hot
RECORDED = Path(__file__).parent.parent / "data" / "preemption-storm-3.prom"

Readings = dict[tuple[str, ...], float]


def story(seed: int = 7, past_seconds: float = 120.0) -> Story:
    return Story(START, seed, past_seconds=past_seconds)


def sources(told: Story) -> list[Simulated]:
    return simulated_sources(told, "node1")


def by_labels(scrape: Scrape, name: str, *keys: str) -> Readings:
    return {
        tuple(label(labels, key) for key in keys): value
        for labels, value in zip(scrape.shape.series, scrape.values, strict=True)
        if label(labels, NAME) == name
    }


def value(scrape: Scrape, name: str, **labels: str) -> float:
    (found,) = (
        v
        for series, v in zip(scrape.shape.series, scrape.values, strict=True)
        if label(series, NAME) == name and all(label(series, k) == want for k, want in labels.items())
    )
    return found


def is_counter(scrape: Scrape, name: str) -> bool:
    for suffix in ("", "_bucket", "_count", "_sum"):
        family = scrape.shape.families.get(name.removesuffix(suffix) if suffix else name)
        if family is not None:
            return family.kind == "counter" or (bool(suffix) and family.kind in ("histogram", "summary"))
    raise AssertionError(f"{name} has no family")


def test_gpu_series_are_the_nvml_sources() -> None:
    scrape = SimulatedGpus(story(), hostname="node1").scrape(START)
    per_gpu = (
        "GPU_UTIL MEM_COPY_UTIL FB_USED FB_FREE FB_RESERVED FB_TOTAL GPU_TEMP MEMORY_TEMP SLOWDOWN_TEMP SHUTDOWN_TEMP"
        " GPU_MAX_OP_TEMP MEM_MAX_OP_TEMP POWER_USAGE ENFORCED_POWER_LIMIT SM_CLOCK MEM_CLOCK MAX_SM_CLOCK"
        " MAX_MEM_CLOCK PSTATE CLOCKS_EVENT_REASONS TOTAL_ENERGY_CONSUMPTION ECC_DBE_VOL_TOTAL ROW_REMAP_PENDING"
        " PCIE_LINK_GEN PCIE_MAX_LINK_GEN PCIE_REPLAY_COUNTER POWER_VIOLATION THERMAL_VIOLATION ENC_UTIL"
    )
    for name in per_gpu.split():
        assert by_labels(scrape, f"DCGM_FI_DEV_{name}", "gpu").keys() == {(str(i),) for i in range(8)}
    # An H200 has no fan: absent, not 0.
    assert not by_labels(scrape, "DCGM_FI_DEV_FAN_SPEED", "gpu")
    for series in scrape.shape.series:
        if label(series, NAME).startswith("DCGM_"):
            assert [key for key, _ in series] == sorted(
                [NAME, "Hostname", "UUID", "device", "gpu", "modelName", "pci_bus_id"]
            )
            assert label(series, "Hostname") == "node1"
            assert label(series, "device") == f"nvidia{label(series, 'gpu')}"
    reasons = by_labels(scrape, "gpumon_gpu_throttle_active", "gpu", "reason")
    assert reasons.keys() == {(str(i), reason) for i in range(8) for reason, _ in THROTTLE_REASONS}
    assert value(scrape, "gpumon_nvml_up") == 1
    used = by_labels(scrape, "DCGM_FI_DEV_FB_USED", "gpu")
    total = by_labels(scrape, "DCGM_FI_DEV_FB_TOTAL", "gpu")
    assert all(0.915 < used[gpu] / total[gpu] < 0.925 for gpu in used)


def test_gpu_series_are_all_that_the_driver_gives_of_an_h200() -> None:
    scrape = SimulatedGpus(story(), hostname="node1").scrape(START)
    names = {label(series, NAME) for series in scrape.shape.series}
    # It has no fan; it has GPM, and so no counters of PCIe; one link for each of 18.
    absent = {"DCGM_FI_DEV_FAN_SPEED", "gpumon_gpu_pcie_transmit_bytes_total", "gpumon_gpu_pcie_receive_bytes_total"}
    absent |= {"gpumon_nvml_reader_cpu_seconds_total", "gpumon_nvml_reader_resident_memory_bytes"}
    assert {row.name for row in ALL} - names == absent
    assert len(by_labels(scrape, "gpumon_gpu_nvlink_up", "gpu", "link")) == 8 * 18


def test_counters_of_the_gpus_go_forward_and_fit_their_gauges() -> None:
    gpus = SimulatedGpus(story(), hostname="node1")
    before: Scrape | None = None
    scrapes = []
    for at_ms in range(START, START + 300_000, 5000):
        scrape = gpus.scrape(at_ms)
        if before is not None:
            assert scrape.shape is before.shape
            for series, old, new in zip(scrape.shape.series, before.values, scrape.values, strict=True):
                if is_counter(scrape, label(series, NAME)):
                    assert new >= old, series
        before = scrape
        scrapes.append(scrape)
    hot, cool = {"gpu": str(HOT)}, {"gpu": "6"}
    joules = (
        value(scrapes[-1], "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", **cool)
        - value(scrapes[0], "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", **cool)
    ) / 1000
    drawn = [value(one, "DCGM_FI_DEV_POWER_USAGE", **cool) for one in scrapes]
    assert joules == pytest.approx(sum(drawn) / len(drawn) * 285, rel=0.06)
    name = "DCGM_FI_DEV_CLOCKS_EVENT_REASON_HW_THERM_SLOWDOWN_NS"
    assert value(scrapes[-1], name, **hot) - value(scrapes[0], name, **hot) > 100e9
    assert value(scrapes[-1], name, **cool) == value(scrapes[0], name, **cool)


def test_the_driver_lists_one_worker_on_each_gpu() -> None:
    scrape = SimulatedGpus(story(), hostname="node1").scrape(START)
    assert scrape.processes is not None
    assert [(p.gpu, p.name) for p in scrape.processes] == [(str(i), f"VLLM::Worker_TP{i % 4}") for i in range(8)]
    assert len({p.pid for p in scrape.processes}) == 8
    assert {p.uuid for p in scrape.processes} == {gpu for (gpu,) in by_labels(scrape, "DCGM_FI_DEV_GPU_UTIL", "UUID")}


def test_vllm_series_are_those_of_a_real_server() -> None:
    reader = ExpositionReader({"server": "node1:8000"})
    reader.read(RECORDED.read_bytes())
    real = reader.shape
    simulated = SimulatedVllm(story(), hostname="node1").scrape(START).shape

    def keys(series: Iterable[tuple[tuple[str, str], ...]]) -> dict[str, set[tuple[str, ...]]]:
        found: dict[str, set[tuple[str, ...]]] = defaultdict(set)
        for labels in series:
            found[label(labels, NAME)].add(tuple(key for key, _ in labels))
        return found

    ours, theirs = keys(simulated.series), keys(real.series)
    del ours["vllm:cache_config_info"], theirs["vllm:cache_config_info"]  # a label for each of its many settings
    # What the sources of a real server add to what it sends.
    assert ours.keys() - theirs.keys() == {
        "gpumon_engine_gpu_info",
        "gpumon_engine_gpu_memory_utilization_ratio",
    }
    assert {name: ours[name] for name in theirs} == theirs
    assert {name: simulated.families[name] for name in real.families} == real.families

    def bounds(series: Iterable[tuple[tuple[str, str], ...]]) -> dict[str, list[str]]:
        found: dict[str, list[str]] = defaultdict(list)
        for labels in series:
            if label(labels, NAME).endswith("_bucket"):
                found[label(labels, NAME)].append(label(labels, "le"))
        return found

    longer = {"2000.0", "5000.0", "10000.0", "20000.0"}  # this model's requests may be longer than the recorded one's
    mine = {
        name: [le for le in les if le not in longer or "seconds" in name]
        for name, les in bounds(simulated.series).items()
    }
    recorded = bounds(real.series)
    assert recorded
    for name, les in recorded.items():
        if name.startswith("vllm:"):
            assert mine[name] == [le for le in les if le not in longer], name


def test_the_second_server_drafts_and_counts_what_was_right() -> None:
    _, first, second = sources(story())
    assert not any("spec_decode" in name for name in first.scrape(START).shape.families)
    scrape = second.scrape(START)
    name = "vllm:spec_decode_num"
    drafts, drafted = value(scrape, f"{name}_drafts_total"), value(scrape, f"{name}_draft_tokens_total")
    places = by_labels(scrape, f"{name}_accepted_tokens_per_pos_total", "position")
    right = [places[(str(place),)] for place in range(3)]
    assert 0 < right[2] < right[1] < right[0] < drafts
    assert drafted == 3 * drafts
    assert value(scrape, f"{name}_accepted_tokens_total") == sum(right)
    assert drafts + sum(right) == pytest.approx(value(scrape, "vllm:generation_tokens_total"), rel=1e-3)


def test_each_engine_says_on_which_gpus_it_runs() -> None:
    gpus, *servers = sources(story())
    uuids = {key[0]: key[1] for key in by_labels(gpus.scrape(START), "DCGM_FI_DEV_GPU_UTIL", "gpu", "UUID")}
    found: Readings = {}
    for source in servers:
        scrape = source.scrape(START)
        found |= by_labels(scrape, "gpumon_engine_gpu_info", "server", "engine", "gpu", "rank", "UUID")
    assert found == {(f"node1:{8000 + i // 4}", "0", str(i), str(i % 4), uuids[str(i)]): 1.0 for i in range(8)}
    assert [source.server for source in servers] == ["node1:8000", "node1:8001"]


def test_a_seed_tells_one_story_whatever_the_polls() -> None:
    one, same, other = story(7), story(7), story(8)
    times = [START - 90_000, START, START + 123_456]
    told = [[(s.scrape(t).values) for s in sources(one)] for t in times]
    for t in range(START - 120_000, START + 120_000, 700):
        same.at(t)
    # Asked again for the past it goes back to its beginning; the same comes out.
    assert [[s.scrape(t).values for s in sources(same)] for t in times] == told
    assert [[s.scrape(t).values for s in sources(other)] for t in times] != told


def test_counters_only_go_forward_over_an_hour_of_uneven_polls() -> None:
    told = story(past_seconds=600)
    rng = random.Random(3)
    _, *servers = sources(told)
    for source in servers:
        before: Scrape | None = None
        counters: list[int] = []
        moved: set[int] = set()
        at_ms = told.origin_ms
        while at_ms < START + 3_000_000:
            scrape = source.scrape(at_ms)
            if before is None:
                counters = [
                    i for i, labels in enumerate(scrape.shape.series) if is_counter(scrape, label(labels, NAME))
                ]
                assert len(counters) > 300
            else:
                assert scrape.shape is before.shape
                for i in counters:
                    assert scrape.values[i] >= before.values[i], scrape.shape.series[i]
                    if scrape.values[i] > before.values[i]:
                        moved.add(i)
            before = scrape
            at_ms += round(rng.choice((1, 80, 1000, 3000, 15000)) * rng.uniform(1, 2))
        assert len(moved) > 150


def test_what_is_counted_does_not_depend_on_how_often_it_is_read() -> None:
    often, seldom = (sources(story())[1] for _ in range(2))
    for t in range(START, START + 60_000, 100):
        scrape = often.scrape(t)
    assert scrape.values == seldom.scrape(START + 59_900).values


@pytest.mark.parametrize("seconds", [-60, 0, 100, 200, 300, 450])
def test_histograms_are_whole(seconds: float) -> None:
    for source in sources(story())[1:]:
        scrape = source.scrape(START + int(seconds * 1000) + 321)
        histograms = [f.name for f in scrape.shape.families.values() if f.kind == "histogram"]
        assert len(histograms) == 18
        for name in histograms:
            buckets = by_labels(scrape, f"{name}_bucket", "le")
            counts = list(buckets.values())
            assert counts == sorted(counts), name
            assert all(count == int(count) for count in counts)
            assert next(reversed(buckets)) == ("+Inf",)
            assert counts[-1] == value(scrape, f"{name}_count")
            # The sum must be possible: each value lies between the bounds of its bucket.
            edges = [0.0, *(float(le) for (le,) in list(buckets)[:-1])]
            each = [counts[0], *(b - a for a, b in pairwise(counts))]
            least = sum(n * low for n, low in zip(each, edges, strict=True))
            most = sum(n * high for n, high in zip(each, [*edges[1:], 10 * edges[-1]], strict=True))
            assert least * 0.97 <= value(scrape, f"{name}_sum") <= most * 1.03, name
        done = value(scrape, "vllm:e2e_request_latency_seconds_count")
        in_flight = value(scrape, "vllm:time_to_first_token_seconds_count") - done
        assert in_flight == pytest.approx(value(scrape, "vllm:num_requests_running"), abs=40)
        assert sum(by_labels(scrape, "vllm:request_success_total", "finished_reason").values()) == pytest.approx(
            done, abs=2
        )


def test_the_past_goes_over_into_the_present_without_a_jump() -> None:
    told = Story(START, 7)
    made = sources(told)
    last: dict[str, Scrape] = {}
    times = defaultdict(list)
    for source, scrape in past(told, made, 15.0):
        assert scrape.at_ms < START
        times[source.name + source.server].append(scrape.at_ms)
        last[source.name + source.server] = scrape
    assert set(times) == {"nvml", "vllmnode1:8000", "vllmnode1:8001"}
    for at in times.values():
        assert at == list(range(START - 3_600_000, START, 15_000))
    for source in made:
        before = last[source.name + source.server]
        now = asyncio.run(source.poll(START))
        assert now.shape is before.shape
        if source.name == "nvml":
            for name, most in (("GPU_TEMP", 3), ("POWER_USAGE", 60), ("GPU_UTIL", 10)):
                was, is_now = (by_labels(s, f"DCGM_FI_DEV_{name}", "gpu") for s in (before, now))
                assert all(abs(is_now[gpu] - was[gpu]) <= most for gpu in was)
        else:
            new = value(now, "vllm:generation_tokens_total") - value(before, "vllm:generation_tokens_total")
            assert 15 * 800 < new < 15 * 5000


def test_the_past_has_waves_and_one_milder_incident() -> None:
    told = Story(START, 7)
    rates, hottest, hit_rates = [], 0.0, []
    gpus, server, _ = made = sources(told)
    before: Scrape | None = None
    for source, scrape in past(told, made, 30.0):
        if source is gpus:
            hottest = max(hottest, *by_labels(scrape, "DCGM_FI_DEV_GPU_TEMP", "gpu").values())
        elif source is server:
            if before is not None:
                rates.append(delta(before, scrape, "vllm:generation_tokens_total") / 30)
                hit_rates.append(hit_rate(before, scrape))
            before = scrape
    assert max(rates) > 1.5 * min(rates)
    assert 75 < hottest < 87
    low = [i for i, rate in enumerate(hit_rates) if rate < 0.6]
    assert 4 <= len(low) <= 8
    assert low == list(range(low[0], low[-1] + 1))


def delta(before: Scrape, after: Scrape, name: str) -> float:
    return value(after, name) - value(before, name)


def hit_rate(before: Scrape, after: Scrape) -> float:
    return delta(before, after, "vllm:prefix_cache_hits_total") / delta(
        before, after, "vllm:prefix_cache_queries_total"
    )


@pytest.mark.parametrize(("seed", "period"), [(7, 0), (1, 0), (7, 2)])
def test_the_story_crosses_its_thresholds_when_said(seed: int, period: int) -> None:
    told = story(seed)
    begin = START + period * 720_000
    gpus, server, other = sources(told)
    temp: list[float] = []
    waiting: list[float] = []
    servers: list[Scrape] = []
    boards: list[Scrape] = []
    for second in range(720):
        at_ms = begin + second * 1000
        boards.append(gpus.scrape(at_ms))
        servers.append(server.scrape(at_ms))
        temp.append(value(boards[-1], "DCGM_FI_DEV_GPU_TEMP", gpu=str(HOT)))
        waiting.append(value(servers[-1], "vllm:num_requests_waiting"))
        if second % 10 == 0:
            scrape = other.scrape(at_ms)
            assert value(scrape, "vllm:num_requests_waiting") <= 5

    def span(values: list[float], limit: float) -> tuple[int, int]:
        above = [second for second, v in enumerate(values) if v > limit]
        # Without a gap: an alert's `for` must not begin anew.
        assert above == list(range(above[0], above[-1] + 1))
        return above[0], above[-1]

    first, last = span(temp, 89)
    assert 95 < first < 130
    assert 265 < last < 290
    assert max(temp) < 94, "a GPU at its shutdown temperature would be gone"
    first, last = span(waiting, 10)
    assert 75 < first < 105
    assert 265 < last < 300
    low = [second for second in range(10, 720) if hit_rate(servers[second - 10], servers[second]) < 0.6]
    assert 65 < low[0] < 95
    assert 265 < low[-1] < 295
    assert 0.1 < hit_rate(servers[150], servers[240]) < 0.3

    calm, worst, after = 40, 200, 420
    hot = {"gpu": str(HOT)}
    for reason, active in (("hw_thermal", 1), ("hw_slowdown", 1), ("sw_thermal", 1), ("hw_power_brake", 0)):
        assert value(boards[worst], "gpumon_gpu_throttle_active", reason=reason, **hot) == active
        assert value(boards[calm], "gpumon_gpu_throttle_active", reason=reason, **hot) == 0
        assert value(boards[after], "gpumon_gpu_throttle_active", reason=reason, **hot) == 0
    assert value(boards[worst], "DCGM_FI_DEV_SM_CLOCK", **hot) < 1600
    assert value(boards[after], "DCGM_FI_DEV_SM_CLOCK", **hot) == 1980
    power = by_labels(boards[worst], "DCGM_FI_DEV_POWER_USAGE", "gpu")
    assert power[str(HOT),] < min(watts for gpu, watts in power.items() if gpu != (str(HOT),) and gpu < ("4",)) - 80
    assert value(boards[calm], "DCGM_FI_DEV_POWER_USAGE", **hot) > value(
        boards[worst], "DCGM_FI_DEV_POWER_USAGE", **hot
    )

    assert value(servers[worst], "vllm:kv_cache_usage_perc") > 0.93
    assert value(servers[after], "vllm:kv_cache_usage_perc") < 0.6
    assert 5 < delta(servers[60], servers[300], "vllm:num_preemptions_total") < 100
    assert delta(servers[350], servers[700], "vllm:num_preemptions_total") == 0

    def first_token(one: int, two: int) -> float:
        sums, counts = (f"vllm:time_to_first_token_seconds_{what}" for what in ("sum", "count"))
        return delta(servers[one], servers[two], sums) / delta(servers[one], servers[two], counts)

    assert first_token(0, 40) < 0.3
    assert first_token(180, 240) > 5
    assert first_token(360, 700) < 0.3


def test_when_things_happen_can_be_said_otherwise() -> None:
    quiet = Plot()._replace(cooling=Plot().cooling._replace(begin=500, full=560, ease=600, end=650))
    gpus = SimulatedGpus(Story(START, 7, past_seconds=0, plot=quiet), hostname="node1")
    temp = [value(gpus.scrape(START + s * 1000), "DCGM_FI_DEV_GPU_TEMP", gpu=str(HOT)) for s in range(0, 650, 10)]
    assert max(temp[:50]) < 80


def test_ranks_of_one_engine_look_alike_but_for_the_hot_one() -> None:
    gpus = sources(story())[0]
    for second in (20, 200, 400):
        scrape = gpus.scrape(START + second * 1000)
        power = by_labels(scrape, "DCGM_FI_DEV_POWER_USAGE", "gpu")
        mates = [power[str(i),] for i in range(4) if i != HOT]
        assert max(mates) - min(mates) < 50
        util = by_labels(scrape, "DCGM_FI_DEV_GPU_UTIL", "gpu")
        assert max(util[str(i),] for i in range(4)) - min(util[str(i),] for i in range(4)) < 12


def test_readings_move_smoothly_and_are_possible() -> None:
    gpus = sources(story())[0]
    limits = {
        "GPU_UTIL": (0, 100, 15),
        "GPU_TEMP": (30, 94, 4),
        "POWER_USAGE": (60, 705, 90),
        "SM_CLOCK": (345, 1980, 300),
    }
    before: Scrape | None = None
    for second in range(-100, 400):
        scrape = gpus.scrape(START + second * 1000 + 137)
        for name, (low, high, most) in limits.items():
            now = by_labels(scrape, f"DCGM_FI_DEV_{name}", "gpu")
            assert all(low <= v <= high for v in now.values()), name
            if before is not None:
                was = by_labels(before, f"DCGM_FI_DEV_{name}", "gpu")
                assert all(abs(now[gpu] - was[gpu]) <= most for gpu in now), name
        before = scrape


# -- other hardware ----------------------------------------------------------------------------------------------------


def all_of(scrape: Scrape) -> set[str]:
    return {label(series, NAME) for series in scrape.shape.series}


@pytest.mark.parametrize("model", ["A100", "B200", "H100", "H200", "L40S"])
@pytest.mark.parametrize("count", [1, 2, 3, 8, 16])
def test_any_number_of_any_board_is_used_by_engines(count: int, model: str) -> None:
    told = Story(START, past_seconds=60, hardware=parse(f"{count}x{model}"))
    spread = [gpu for facts in told.engines for gpu in facts.gpus]
    assert spread == list(range(count))
    assert all(len(facts.gpus).bit_count() == 1 for facts in told.engines), "a model spreads over powers of two"
    for source in simulated_sources(told, "node1"):
        scrape = source.scrape(START)
        if source.name == "vllm":
            continue
        used = by_labels(scrape, "DCGM_FI_DEV_FB_USED", "gpu")
        total = by_labels(scrape, "DCGM_FI_DEV_FB_TOTAL", "gpu")
        limit = by_labels(scrape, "DCGM_FI_DEV_ENFORCED_POWER_LIMIT", "gpu")
        power = by_labels(scrape, "DCGM_FI_DEV_POWER_USAGE", "gpu")
        clock = by_labels(scrape, "DCGM_FI_DEV_SM_CLOCK", "gpu")
        most = by_labels(scrape, "DCGM_FI_DEV_MAX_SM_CLOCK", "gpu")
        assert len(used) == count
        assert all(0.9 * total[gpu] < used[gpu] < total[gpu] for gpu in used)
        assert all(0.05 * limit[gpu] < power[gpu] <= limit[gpu] + 20 for gpu in power)
        assert all(0 < clock[gpu] <= most[gpu] for gpu in clock)
        assert len(by_labels(scrape, "gpumon_gpu_up", "pci_bus_id")) == count, "each has a place of its own"


def test_a_board_has_nothing_that_it_does_not_support() -> None:
    names = {}
    for model in ("H200", "A100", "L40S"):
        gpus = SimulatedGpus(Story(START, past_seconds=60, hardware=parse(f"4x{model}")), hostname="node1")
        names[model] = all_of(gpus.scrape(START))
    assert not any("nvlink" in name.lower() for name in names["L40S"])
    for name in ("DCGM_FI_DEV_MEMORY_TEMP", "DCGM_FI_DEV_MEM_MAX_OP_TEMP", "DCGM_FI_DEV_MIG_MODE"):
        assert name in names["A100"]
        assert name not in names["L40S"]
    for model in ("A100", "L40S"):
        assert not any(name.startswith("DCGM_FI_PROF_") for name in names[model])
        assert "gpumon_gpu_pcie_receive_bytes_total" in names[model], "read otherwise where there is no GPM"
    assert "gpumon_gpu_pcie_receive_bytes_total" not in names["H200"]


@pytest.mark.parametrize("hardware", ["4xL40S", "1xB200", "2xA100"])
def test_the_story_is_told_on_other_hardware_too(hardware: str) -> None:
    told = Story(START, past_seconds=120, hardware=parse(hardware))
    calm = told.at(START + 20_000)[0]
    trouble = told.at(START + 200_000)[0]
    hot = told.hardware.hot
    assert trouble.gpus[hot].temp > told.hardware.board.slowdown_temp - 1
    assert trouble.engines[0].waiting > calm.engines[0].waiting + 5
    again = told.at(START + 700_000)[0]
    assert again.engines[0].waiting < 5
    assert again.gpus[hot].temp < told.hardware.board.max_op_temp


def test_counters_of_boards_without_gpm_only_go_forward() -> None:
    gpus = SimulatedGpus(Story(START, past_seconds=60, hardware=parse("2xL40S")), hostname="node1")
    name = "gpumon_gpu_pcie_receive_bytes_total"
    moved = [value(gpus.scrape(START + s * 700), name, gpu="1") for s in range(20)]
    assert moved == sorted(moved)
    assert moved[-1] > moved[0]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("4xV100", "those are A100, B200, H100, H200, L40S"),
        ("0xH100", "1 to 16 GPUs, not 0"),
        ("17xH100", "1 to 16 GPUs, not 17"),
        ("H100", "as 4xL40S"),
        ("", "as 4xL40S"),
        ("-1xH100", "as 4xL40S"),
    ],
)
def test_what_is_no_hardware_is_said(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse(text)


def test_hardware_is_taken_in_any_spelling() -> None:
    assert str(parse("4xl40s")) == str(parse(" 4XL40S ")) == "4xL40S"
    assert parse("8xH200").engines == Hardware().engines
