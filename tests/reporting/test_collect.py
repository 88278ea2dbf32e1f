"""A report of a store that is known by heart, asked through a real API: restarts, gaps, births."""

from __future__ import annotations

import asyncio

import pytest

from monitor.client.prometheus import QueryClient
from monitor.clock import Clock
from monitor.reporting.asked import Asked
from monitor.reporting.collect import collect, period_of
from monitor.reporting.make import report
from monitor.reporting.schema import Period, Report
from monitor.samples import Scrape, Shape, labels_of
from monitor.store.head import Head
from tests.api.running import running
from tests.reporting.story import END_MS, MINUTE_MS, PERIOD, store

GPU = {"gpu": "0", "modelName": "H200"}
VLLM = {"server": "n1:8000", "engine": "0", "model_name": "m"}


class Still(Clock):
    def now_ms(self) -> int:
        return END_MS + 7_000


def reported(head: Head, period: Period = PERIOD) -> Report:
    async def main() -> Report:
        async with running(head, clock=Still()) as api, QueryClient(f"unix:{api.socket}") as client:
            asked = Asked(period)
            answers = await collect(client, asked)
            assert answers.problems == {}
            return report(asked, answers)

    return asyncio.run(main())


def restarted(number: int) -> float:
    """50 more in each ten seconds; the server began anew after sample 30."""
    return 50.0 * (number if number <= 30 else number - 30)


def bucket(share: float, number: int) -> float:
    return share * restarted(number)


def series() -> dict[str, tuple[dict[str, str], object]]:
    return {
        "DCGM_FI_DEV_GPU_UTIL": (GPU, lambda n: 100.0 if n <= 15 else 20.0),
        "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION": (GPU, lambda n: 4_000_000.0 * n),  # 4,000 J in ten seconds
        "DCGM_FI_DEV_FB_USED": (GPU, lambda n: 500.0 + n),
        "DCGM_FI_DEV_FB_FREE": (GPU, lambda n: 500.0 - n),
        "vllm:num_requests_running": (VLLM, lambda n: 2.0),
        "vllm:num_requests_waiting": (VLLM, lambda n: 7.0 if n == 40 else 0.0),
        "vllm:generation_tokens_total": (VLLM, restarted),
        "vllm:prompt_tokens_total": (VLLM, lambda n: 3 * restarted(n)),
        "vllm:request_success_total": ({**VLLM, "finished_reason": "stop"}, restarted),
        "vllm:request_success_total#2": ({**VLLM, "finished_reason": "error"}, lambda n: 0.0),
        "vllm:prefix_cache_hits_total": (VLLM, restarted),
        "vllm:prefix_cache_queries_total": (VLLM, lambda n: 4 * restarted(n)),
        "vllm:time_to_first_token_seconds_bucket": ({**VLLM, "le": "0.1"}, lambda n: bucket(0.5, n)),
        "vllm:time_to_first_token_seconds_bucket#2": ({**VLLM, "le": "0.5"}, lambda n: bucket(0.9, n)),
        "vllm:time_to_first_token_seconds_bucket#3": ({**VLLM, "le": "1.0"}, lambda n: bucket(1.0, n)),
        "vllm:time_to_first_token_seconds_bucket#4": ({**VLLM, "le": "+Inf"}, lambda n: bucket(1.0, n)),
        "vllm:time_to_first_token_seconds_sum": (VLLM, lambda n: 0.25 * restarted(n)),
    }


def test_ten_minutes_with_a_restart() -> None:
    found = reported(store(series()))  # type: ignore[arg-type]
    now = found.figures
    # 59 steps of 50 are between the first sample and the last; increase() goes on to the window's edges: 60 of them.
    assert now.generation_tokens == pytest.approx(3000)
    assert now.prompt_tokens == pytest.approx(9000)
    assert now.requests == pytest.approx(3000)
    assert now.failed == 0
    assert now.prefix_hits == pytest.approx(0.25)
    # 15 readings of 100 % and 45 of 20 %.
    assert now.utilization == pytest.approx((15 * 100 + 45 * 20) / 60 / 100)
    # 60 times 4,000 J.
    assert now.energy_kwh == pytest.approx(240_000 / 3.6e6)
    assert now.energy_from == "counter"
    assert now.tokens_per_joule == pytest.approx(3000 / 240_000)
    assert now.gpu_hours == pytest.approx(1 / 6)
    assert now.ttft is not None
    assert now.ttft.count == pytest.approx(3000)
    assert now.ttft.mean == pytest.approx(0.25)
    assert now.ttft.p95 is not None
    assert now.ttft.p95.seconds == pytest.approx(0.75)  # half of the way from 90 to 100 %, between 0.5 and 1 s
    (gpu,) = found.gpus
    assert gpu.memory == pytest.approx((500 + 30.5) / 1000)
    assert gpu.memory_max == pytest.approx(0.56)
    (server,) = found.servers
    assert (server.running, server.waiting_max) == (2.0, 7.0)
    assert server.waiting == pytest.approx(7 / 60)
    assert {one.ratio for one in found.coverage} == {1.0}
    assert found.before is None
    assert found.has_data


def test_a_gap_is_told_and_is_in_no_mean() -> None:
    # Nothing was read in the minutes 4 and 5, in which the GPU was as busy as ever, for all that is known.
    found = reported(store(series(), gap=range(19, 31)))  # type: ignore[arg-type]
    (of_gpus,) = [one for one in found.coverage if one.what == "GPUs"]
    assert of_gpus.ratio == pytest.approx(0.8)
    assert [(gap.start_ms - PERIOD.start_ms, gap.end_ms - PERIOD.start_ms) for gap in of_gpus.gaps] == [
        (3 * MINUTE_MS, 5 * MINUTE_MS)
    ]
    assert found.figures.gpu_hours == pytest.approx(8 / 60)
    assert found.figures.utilization == pytest.approx((15 * 100 + 33 * 20) / 48 / 100)
    # The counter was at 900 before the gap, and at 50 after it: the server began anew, and what it counted until then
    # is not known. 850 + 50 + 29 * 50 = 2350 in 590 s.
    assert found.figures.generation_tokens == pytest.approx(2350 * 600 / 590, rel=0.01)


def test_a_failure_that_is_born_with_its_series_is_counted() -> None:
    # The server has been watched from the beginning; its first 5xx comes in the fourth minute, and makes the series.
    labels = labels_of({"__name__": "http_requests_total", "server": "n1:8000", "status": "5xx", "handler": "/v1/x"})
    running_before = labels_of({"__name__": "vllm:num_requests_running", **VLLM})
    head = Head("gpumon", "n1:9519")
    shape = Shape([running_before], {})
    both = Shape([running_before, labels], {})
    for number in range(61):
        at_ms = END_MS - (60 - number) * 10_000
        if number < 20:
            head.ingest("test", Scrape(at_ms, shape, [1.0]))
        else:
            head.ingest("test", Scrape(at_ms, both, [1.0, 3.0 if number < 40 else 4.0]))
    assert reported(head).figures.failed == pytest.approx(4)


def test_a_time_of_which_nothing_is_known_is_said_to_be_one() -> None:
    found = reported(store({"up": ({}, lambda n: 1.0)}))
    assert not found.has_data
    assert found.figures.gpus is None
    assert found.figures.generation_tokens is None
    assert found.incidents == ()


def test_a_period_is_whole_minutes() -> None:
    assert period_of(END_MS - 86_400_000, END_MS + 59_999) == Period(END_MS - 86_460_000, END_MS)
    assert period_of(END_MS - 10, END_MS) == Period(END_MS - MINUTE_MS, END_MS)
