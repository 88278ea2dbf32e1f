"""A server of another age, or of another kind, gives the same dashboard as today's vLLM.

The expositions of older namings are made from recordings of vLLM 0.32, by the changes that each version's own code had:
what a dashboard asks must then give the same numbers.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from monitor.samples import NAME, Family, Scrape, Shape, format_labels, label
from monitor.sources.aliases import translate
from monitor.sources.exposition import ExpositionReader
from monitor.store.head import Head
from tests.promql.store import at

DATA = Path(__file__).parent.parent / "data"
RECORDED = [(DATA / f"{name}.prom").read_text() for name in ("idle", "preemption-storm-2", "preemption-storm-3")]
STEP_MS = 20_000
DASHBOARD = (
    "sum by (server, engine) (vllm:num_requests_running)",
    "sum by (server, engine) (vllm:num_requests_waiting)",
    "max by (server, engine) (vllm:kv_cache_usage_perc)",
    "sum by (server, engine) (rate(vllm:generation_tokens_total[1m]))",
    "sum by (server, engine) (rate(vllm:prompt_tokens_total[1m]))",
    "sum by (server, engine) (increase(vllm:num_preemptions_total[1m]))",
    "sum by (server, engine, finished_reason) (increase(vllm:request_success_total[1m]))",
    "sum by (server, engine) (rate(vllm:prefix_cache_hits_total[1m]))"
    " / sum by (server, engine) (rate(vllm:prefix_cache_queries_total[1m]))",
    "histogram_quantile(0.99, sum by (server, engine, le) (rate(vllm:time_to_first_token_seconds_bucket[1m])))",
    "histogram_quantile(0.5, sum by (server, engine, le) (rate(vllm:inter_token_latency_seconds_bucket[1m])))",
    "sum by (server, engine) (vllm:cache_config_info)",
)


def renamed(text: str, today: str, old: str) -> str:
    """The family ``today`` under its name ``old``."""
    return re.sub(rf"vllm:{today}(?=[_ {{])", f"vllm:{old}", text)


def duplicated(text: str, today: str, old: str, factor: str = "9") -> str:
    """The family under both names; the old one has other values, so that it shows which was taken."""
    lines = [line for line in text.splitlines() if re.match(rf"(# \w+ )?vllm:{today}[_ {{]", line)]
    copies = [renamed(line, today, old) if line[0] == "#" else renamed(line, today, old) + factor for line in lines]
    return text + "\n".join(copies) + "\n"


def naming_of_0_9(text: str) -> str:
    """vLLM until 0.9.1: the cache was the GPU's, and the gap between tokens the time for each output token."""
    text = renamed(text, "kv_cache_usage_perc", "gpu_cache_usage_perc")
    text = renamed(text, "prefix_cache_queries", "gpu_prefix_cache_queries")
    text = renamed(text, "prefix_cache_hits", "gpu_prefix_cache_hits")
    return renamed(text, "inter_token_latency_seconds", "time_per_output_token_seconds")


def naming_of_0_10_2(text: str) -> str:
    """vLLM 0.9.2 to 0.11: the new names and the old beside them."""
    text = duplicated(text, "kv_cache_usage_perc", "gpu_cache_usage_perc")
    text = duplicated(text, "prefix_cache_queries", "gpu_prefix_cache_queries")
    text = duplicated(text, "prefix_cache_hits", "gpu_prefix_cache_hits")
    return duplicated(text, "inter_token_latency_seconds", "time_per_output_token_seconds")


def naming_of_0_8_0(text: str) -> str:
    """The first V1 engines: no label ``engine``, counters without ``_total``, and the names of 0.9."""
    text = re.sub(r'engine="0",', "", naming_of_0_9(text))
    counters = re.findall(r"# TYPE (vllm:\w+)_total counter", text)
    return re.sub(rf"({'|'.join(counters)})_total(?=[ {{])", r"\1", text)


def naming_of_ray(text: str) -> str:
    """vLLM's readings from Ray's agent: ``_`` for ``:``, the agent's prefix, and the replica that each came from."""
    text = text.replace("vllm:", "ray_vllm_")
    return re.sub(r"(?m)^(ray_vllm_\w+)\{", r'\1{ReplicaId="r1",', text)


def naming_of_early_ray(text: str) -> str:
    """The same without the agent's prefix, and with counters as gauges beside the counters."""
    text = naming_of_ray(text).replace("ray_vllm_", "vllm_")
    return text + "\n".join(
        re.sub(r"_total(?=[ {])", "", line) + ("" if line[0] == "#" else "9")
        for line in text.splitlines()
        if re.match(r"vllm_(prompt|generation)_tokens_total", line)
    )


def openmetrics(text: str) -> str:
    """What the frontend in Rust sends: families named without ``_total``, and an end."""
    text = re.sub(r"(# (?:TYPE|HELP) \w+:\w+)_total(?= counter| [A-Z])", r"\1", text)
    return "\n".join(line for line in text.splitlines() if "_created" not in line) + "\n# EOF\n"


def stored(naming: Callable[[str], str]) -> Head:
    head = Head("gpumon", "n1:9519")
    reader = ExpositionReader({"server": "n1:8000"})
    for k, text in enumerate(RECORDED):
        values = reader.read(naming(text).encode())
        translation = translate(reader.shape)
        assert len(set(translation.shape.series)) == len(translation.shape.series)
        head.ingest("vllm", Scrape(k * STEP_MS, translation.shape, translation.values(values)))
    return head


def dashboard(head: Head) -> list[dict[str, float]]:
    return [at(head, query, 2 * STEP_MS) for query in DASHBOARD]


@pytest.mark.parametrize(
    "naming",
    [
        naming_of_0_8_0,
        naming_of_0_9,
        naming_of_0_10_2,
        naming_of_ray,
        naming_of_early_ray,
        openmetrics,
    ],
)
def test_each_naming_gives_todays_dashboard(naming: Callable[[str], str]) -> None:
    assert naming(RECORDED[1]) != RECORDED[1]
    wanted = dashboard(stored(lambda text: text))
    assert all(wanted), "a query of the dashboard has no answer even from today's server"
    assert dashboard(stored(naming)) == wanted


@pytest.mark.parametrize("naming", [naming_of_0_8_0, naming_of_0_9, naming_of_0_10_2])
def test_the_series_are_todays_and_no_other(naming: Callable[[str], str]) -> None:
    def series(text: str) -> set[str]:
        reader = ExpositionReader({"server": "n1:8000"})
        reader.read(text.encode())
        return {format_labels(labels) for labels in translate(reader.shape).shape.series}

    assert series(naming(RECORDED[1])) == series(RECORDED[1])


def test_todays_server_is_taken_as_it_is() -> None:
    reader = ExpositionReader({"server": "n1:8000"})
    values = reader.read(RECORDED[1].encode())
    translation = translate(reader.shape)
    assert translation.shape is reader.shape
    assert translation.values(values) is values
    assert translation.engine_type == "vllm"


def families_of(text: str) -> tuple[dict[str, float], dict[str, Family], str]:
    reader = ExpositionReader({"server": "n1:8000"})
    values = reader.read(text.encode())
    translation = translate(reader.shape)
    pairs = zip(translation.shape.series, translation.values(values), strict=True)
    return {format_labels(s): v for s, v in pairs}, dict(translation.shape.families), translation.engine_type


def test_types_go_with_the_names() -> None:
    _, families, _ = families_of(naming_of_0_8_0(RECORDED[1]))
    for name, kind in (
        ("vllm:prompt_tokens_total", "counter"),
        ("vllm:prefix_cache_hits_total", "counter"),
        ("vllm:kv_cache_usage_perc", "gauge"),
        ("vllm:inter_token_latency_seconds", "histogram"),
        ("vllm:iteration_tokens_total", "histogram"),
    ):
        assert (families[name].name, families[name].kind) == (name, kind)
        assert families[name].help
    assert "vllm:prompt_tokens" not in families
    assert "vllm:time_per_output_token_seconds" not in families


def test_a_histogram_of_request_means_is_not_the_gap_between_tokens() -> None:
    got, _, _ = families_of('vllm:request_time_per_output_token_seconds_sum{engine="0"} 3\n')
    assert list(got) == ['vllm:request_time_per_output_token_seconds_sum{engine="0",server="n1:8000"}']


def test_data_parallel_engines_keep_their_numbers_and_what_has_none_gets_none() -> None:
    got, _, _ = families_of(
        'vllm:num_requests_running{engine="0"} 1\nvllm:num_requests_running{engine="1"} 2\n'
        'vllm:lora_requests_info{max_lora="2"} 7\nvllm:nixl_num_failed_transfers_total 0\nup 1\n'
    )
    assert {name.partition(",server")[0] for name in got} == {
        'vllm:num_requests_running{engine="0"',
        'vllm:num_requests_running{engine="1"',
        'vllm:lora_requests_info{max_lora="2"',
        'vllm:nixl_num_failed_transfers_total{server="n1:8000"}',
        'up{server="n1:8000"}',
    }


def test_sglang_comes_under_vllms_names() -> None:
    got, families, engine_type = families_of((DATA / "sglang.prom").read_text())
    assert engine_type == "sglang"
    theirs = 'engine="0",engine_type="sglang",exported_engine_type="unified",model_name="tiny",server="n1:8000"'
    assert got[f'vllm:num_requests_running{{{theirs},tp_rank="0"}}'] == 16
    assert got[f'vllm:num_requests_waiting{{{theirs},tp_rank="0"}}'] == 3
    assert got[f'vllm:kv_cache_usage_perc{{{theirs},tp_rank="0"}}'] == 0.28
    plain = 'engine="0",engine_type="sglang"'
    where = 'model_name="tiny",server="n1:8000"'
    assert got[f"vllm:generation_tokens_total{{{plain},{where}}}"] == 7557572
    assert got[f'vllm:time_to_first_token_seconds_bucket{{{plain},le="0.1",{where}}}'] == 5
    assert families["vllm:time_to_first_token_seconds"].kind == "histogram"
    assert [name for name in got if name.startswith("sglang")] == [
        'sglang:gen_throughput{engine_type="unified",model_name="tiny",server="n1:8000",tp_rank="0"}'
    ]


def test_text_generation_inference_comes_under_vllms_names() -> None:
    got, families, engine_type = families_of((DATA / "tgi.prom").read_text())
    assert engine_type == "tgi"
    labels = '{engine="0",engine_type="tgi",server="n1:8000"}'
    assert got[f"vllm:num_requests_running{labels}"] == 8
    assert got[f"vllm:num_requests_waiting{labels}"] == 4
    assert got[f"vllm:request_success_total{labels}"] == 12
    assert got[f"vllm:generation_tokens_total{labels}"] == 1200
    assert got[f"vllm:prompt_tokens_total{labels}"] == 480
    assert got[f"vllm:request_generation_tokens_sum{labels}"] == 1200
    assert got[f"vllm:e2e_request_latency_seconds_count{labels}"] == 12
    assert families["vllm:generation_tokens_total"].kind == "counter"
    assert families["vllm:request_success_total"].kind == "counter"
    assert families["vllm:e2e_request_latency_seconds"].kind == "histogram"
    assert not [name for name in got if name.startswith("tgi")]


def test_what_is_no_engine_is_left_alone() -> None:
    got, _, engine_type = families_of('http_requests_total{handler="/x"} 4\nprocess_cpu_seconds_total 1\n')
    assert engine_type == ""
    assert {label(s, NAME) for s in translate(_shape_of('x{a="b"} 1\n')).shape.series} == {"x"}
    assert 'http_requests_total{handler="/x",server="n1:8000"}' in got


def _shape_of(text: str) -> Shape:
    reader = ExpositionReader({})
    reader.read(text.encode())
    return reader.shape
