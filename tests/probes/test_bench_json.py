"""Results of ``vllm bench serve``, of any version, as results of ours."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from monitor.probes import results
from monitor.probes.json_place import BadFile
from monitor.probes.schema import Result

PLAIN: dict[str, Any] = {
    "date": "20261121-213000", "endpoint_type": "vllm", "backend": "vllm", "label": None, "model_id": "org/model",
    "tokenizer_id": "org/model", "num_prompts": 4, "request_rate": "inf", "burstiness": 1.0, "max_concurrency": 2,
    "duration": 2.0, "completed": 4, "failed": 0, "total_input_tokens": 40, "total_output_tokens": 12,
    "request_throughput": 2.0, "request_goodput": None, "output_throughput": 6.0, "total_token_throughput": 26.0,
    "max_output_tokens_per_s": 7.0, "max_concurrent_requests": 2, "rtfx": 0.0,
    "mean_ttft_ms": 100.0, "median_ttft_ms": 90.0, "std_ttft_ms": 5.0, "p99_ttft_ms": 130.0,
    "mean_tpot_ms": 10.0, "median_tpot_ms": 9.0, "std_tpot_ms": 1.0, "p99_tpot_ms": 13.0,
    "mean_itl_ms": 11.0, "median_itl_ms": 9.5, "std_itl_ms": 1.5, "p99_itl_ms": 14.0,
}  # fmt: skip
"""As --save-result alone writes it."""

LISTS: dict[str, Any] = {
    "input_lens": [10, 10, 10, 10],
    "output_lens": [3, 3, 3, 3],
    "ttfts": [0.1, 0.08, 0.09, 0.13],
    "itls": [[0.01, 0.01], [0.009, 0.011], [0.01, 0.01], [0.012, 0.008]],
    "start_times": [1000.0, 1000.0, 1000.5, 1001.0],
    "generated_texts": ["a", "b", "c", "d"],
    "errors": ["", "", "", ""],
}


def read(tmp_path: Path, *values: dict[str, Any]) -> Result:
    path = tmp_path / "bench.json"
    path.write_text("\n".join(json.dumps(value) for value in values))
    return results.read(path)


def without(value: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: one for name, one in value.items() if name not in names}


def test_what_save_result_keeps(tmp_path: Path) -> None:
    result = read(tmp_path, PLAIN)
    (step,) = result.steps
    assert (result.id, result.workload, result.state, result.facts.model) == (
        "bench",
        "throughput",
        "done",
        "org/model",
    )
    assert (step.name, step.parameters) == ("concurrency 2", {"concurrency": 2, "input_len": 10, "output_len": 3})
    assert (step.metrics.completed, step.metrics.output_throughput, step.metrics.goodput) == (4, 6.0, None)
    assert (step.metrics.ttft.mean, step.metrics.ttft.median, step.metrics.ttft.p99) == (100.0, 90.0, 130.0)
    assert step.metrics.ttft.p95 is None
    assert step.metrics.e2el.mean is None
    assert step.records is None
    assert step.ended_ms - step.began_ms == 2000


def test_requests_one_by_one_give_what_the_file_does_not_say(tmp_path: Path) -> None:
    result = read(tmp_path, PLAIN | LISTS)
    step = result.steps[0]
    assert step.records is not None
    assert [one.start_s for one in step.records] == [0.0, 0.0, 0.5, 1.0]
    assert [one.e2el_s for one in step.records] == pytest.approx([0.12, 0.1, 0.11, 0.15])
    assert [one.outcome for one in step.records] == ["ok"] * 4
    assert step.metrics.ttft.mean == 100.0, "what the file says comes first"
    assert step.metrics.ttft.p95 == pytest.approx(125.5)
    assert step.metrics.e2el.median == pytest.approx(115.0)
    assert step.metrics.itl.n == 8


def test_latencies_of_newer_versions_are_taken_as_they_are(tmp_path: Path) -> None:
    result = read(tmp_path, PLAIN | LISTS | {"latencies": [0.2] * 4, "queue_times": [0.0, 0.0, 0.3, 0.0]})
    records = result.steps[0].records
    assert records is not None
    assert [one.e2el_s for one in records] == [0.2] * 4
    assert records[2].waited_s == 0.3


def test_failed_requests(tmp_path: Path) -> None:
    trace = (
        "Traceback (most recent call last):\n  File …\naiohttp.client_exceptions.ClientPayloadError: not completed\n"
    )
    lists = LISTS | {
        "errors": ["", "Too Many Requests", trace, "Never received a valid chunk to calculate TTFT."],
        "ttfts": [0.1, 0.0, 0.09, 0.0],
        "itls": [[0.01, 0.01], [], [0.01], []],
        "output_lens": [3, 0, 0, 0],
    }
    result = read(tmp_path, PLAIN | lists | {"completed": 1, "failed": 3})
    step = result.steps[0]
    assert step.records is not None
    assert [one.outcome for one in step.records] == ["ok", "shed", "broken", "empty"]
    assert step.records[2].error == "aiohttp.client_exceptions.ClientPayloadError: not completed"
    assert step.records[1].ttft_s is None
    assert step.metrics.failed == 3
    assert step.metrics.failures == {"shed": 1, "broken": 1, "empty": 1}


def test_old_versions_lack_keys(tmp_path: Path) -> None:
    old = without(
        PLAIN, "failed", "total_token_throughput", "max_concurrent_requests", "max_output_tokens_per_s",
        "max_concurrency", "burstiness", "rtfx", "label", "endpoint_type", "request_goodput",
    )  # fmt: skip
    step = read(tmp_path, old | {"request_goodput:": 1.5, "completed": 3}).steps[0]
    assert step.name == "all at once"
    assert (step.metrics.failed, step.metrics.goodput, step.metrics.total_throughput) == (1, 1.5, 26.0)
    assert read(tmp_path, without(old, "date")).began_ms == -2000


def test_a_rate(tmp_path: Path) -> None:
    result = read(tmp_path, PLAIN | {"request_rate": 4.0, "burstiness": 0.5, "max_concurrency": None})
    assert result.workload == "rate"
    assert result.steps[0].name == "4/s"
    assert result.steps[0].parameters["burstiness"] == 0.5


def test_appended_results_are_steps_and_repeats(tmp_path: Path) -> None:
    result = read(tmp_path, PLAIN, PLAIN | {"max_concurrency": 4}, PLAIN | {"output_throughput": 7.0})
    assert [(step.name, step.repeat) for step in result.steps] == [
        ("concurrency 2", 0), ("concurrency 4", 0), ("concurrency 2", 1),
    ]  # fmt: skip


def refused(tmp_path: Path, *values: dict[str, Any]) -> str:
    with pytest.raises(BadFile) as error:
        read(tmp_path, *values)
    return str(error.value).removeprefix(f"{tmp_path}/bench.json:")


def test_what_is_wrong_in_the_second_line_is_told_there(tmp_path: Path) -> None:
    assert refused(tmp_path, PLAIN, PLAIN | {"duration": "long"}).startswith("2:")
    assert "'duration' is to be a number" in refused(tmp_path, PLAIN, PLAIN | {"duration": "long"})
    assert refused(tmp_path, PLAIN, {"a": 1}).startswith("2:1: it is no result")


def test_lists_that_do_not_fit(tmp_path: Path) -> None:
    assert "'itls' has 1 items, and 'ttfts' has 4" in refused(tmp_path, PLAIN | LISTS | {"itls": [[0.1]]})
    assert "request 1 is not as" in refused(tmp_path, PLAIN | LISTS | {"ttfts": [0.1, None, 0.1, 0.1]})
    assert "'errors' is to be a list" in refused(tmp_path, PLAIN | LISTS | {"errors": "none"})
    assert "'date' is to be as" in refused(tmp_path, PLAIN | {"date": "yesterday"})


def test_an_embedding_benchmark_is_refused(tmp_path: Path) -> None:
    assert "a model that writes text" in refused(tmp_path, without(PLAIN, "output_throughput"))
