"""The arithmetic of the examples' autoscalers, on values that are made up: ``tests/live/test_scaling.py`` has real
ones."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.examples.autoscaling import adapter_query, desired_replicas, metric_value

AUTOSCALING = Path(__file__).parents[2] / "examples" / "kubernetes" / "autoscaling"


@pytest.mark.parametrize(
    ("replicas", "waiting", "in_flight", "wanted"),
    [
        (1, 0.0, 0.0, 0),  # its bounds keep one
        (2, 0.0, 96.0, 2),  # both full, nobody waits: an utilization of 98 % is no reason for a third
        (2, 0.0, 90.0, 2),  # nor are they too many
        (2, 0.0, 48.0, 1),
        (2, 20.0, 150.0, 5),
        (2, 8.5, 104.0, 2),  # within a tenth
        (2, None, 300.0, 7),
        (2, None, 10.0, 2),  # one is not known: never down
        (2, None, None, 2),
    ],
)
def test_what_the_hpa_wants(replicas: int, waiting: float | None, in_flight: float | None, wanted: int) -> None:
    (spec,) = (
        each["spec"]
        for each in yaml.safe_load_all((AUTOSCALING / "hpa.yaml").read_text())
        if each["kind"] == "HorizontalPodAutoscaler"
    )
    targets = [float(metric["external"]["target"]["averageValue"]) for metric in spec["metrics"]]
    assert targets == [4.0, 48.0]
    assert desired_replicas(replicas, list(zip((waiting, in_flight), targets, strict=True))) == wanted


def test_the_adapters_queries() -> None:
    (config,) = yaml.safe_load_all((AUTOSCALING / "prometheus-adapter.yaml").read_text())
    made = [
        adapter_query(rule, rule["seriesQuery"].partition("{")[0], {"model_name": "llama-70b"})
        for rule in config["externalRules"]
    ]
    assert made == [
        'sum(instance_server:vllm_num_requests_waiting:avg1m{job="gpumon",model_name="llama-70b"})',
        'sum(instance_server:vllm_num_requests:sum{job="gpumon",model_name="llama-70b"})',
        "sum(instance_server:vllm_num_requests_waiting:avg1m"
        '{job="gpumon",model_name="meta-llama/Llama-3.1-70B-Instruct"})',
    ]
    assert metric_value([]) is None
    assert metric_value([1.23456]) == 1.234
