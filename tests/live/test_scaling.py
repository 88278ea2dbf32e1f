"""Autoscaling as examples/kubernetes has it: the rules of its PrometheusRule on a real Prometheus, the queries of the
Prometheus adapter and of KEDA while two simulated nodes have a queue, and what an HPA makes of the values."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.examples.autoscaling import adapter_name, adapter_query, desired_replicas, metric_value
from tests.live.install_prometheus import prometheus_bin
from tests.live.servers import Prometheus, daemon, get, prometheus, wait_for

EXAMPLES = Path(__file__).parents[2] / "examples" / "kubernetes"
BUSY = "meta-llama/Llama-3.1-70B-Instruct"
"""The simulated engine that gets more than it can take."""
CALM = "Qwen/Qwen2.5-72B-Instruct"
SPEED = "8"
"""The story's queue begins after 60 of its seconds."""

pytestmark = pytest.mark.live


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((EXAMPLES / name).read_text()))


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    """What the Prometheus Operator writes for its Prometheus."""
    (rule,) = documents("prometheusrule.yaml")
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump(rule["spec"]))
    return path


def test_promtool_takes_the_rules_of_the_prometheusrule(rules: Path) -> None:
    command: list[str | Path] = [prometheus_bin() / "promtool", "check", "rules", "--lint=all", "--lint-fatal", rules]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


@contextmanager
def exporter(text: Callable[[], str]) -> Iterator[str]:
    """The address of one who has ``text`` as metrics."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(text().encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def values(fleet: Prometheus, query: str, at: float | None = None) -> list[float]:
    return [float(text) for text in fleet.query(query, at).values()]


def test_queue_depth_scales_and_utilization_would_not(rules: Path, tmp_path: Path) -> None:
    adapter = documents("autoscaling/prometheus-adapter.yaml")[0]["externalRules"]
    hpa = documents("autoscaling/hpa.yaml")[0]["spec"]
    keda = documents("autoscaling/keda-scaledobject.yaml")[0]["spec"]
    with ExitStack() as stack:
        config = {"alerting": {"evaluator": "remote"}}
        nodes = [
            stack.enter_context(daemon(tmp_path, config, "--simulate", "--speed", SPEED, name=name))
            for name in ("node1", "node2")
        ]

        def of_vllm() -> str:
            lines = get(f"{nodes[0].url}/metrics").text.splitlines(keepends=True)
            return "".join(line for line in lines if line.startswith("vllm:"))

        known = [f'kube_pod_info{{pod="llama-{n}",pod_ip="node{n}",created_by_name="llama-7d4"}} 1\n' for n in (1, 2)]
        targets = {
            "gpumon": [node.instance for node in nodes],
            # As where Prometheus scrapes vLLM, too.
            "vllm": [stack.enter_context(exporter(of_vllm))],
            "kube-state-metrics": [stack.enter_context(exporter(lambda: "".join(known)))],
        }
        fleet = stack.enter_context(prometheus(tmp_path, targets, rule_files=[rules]))
        waiting, in_flight, named = adapter

        def queue() -> bool:
            found = values(fleet, f"{series_of(waiting)}{{model_name='{BUSY}'}}")
            return len(found) == 3 and min(found) > 10 and len(values(fleet, "kube_pod_info")) == 2

        wait_for("a queue", queue, 60)
        at = time.time()

        # The adapter finds the series, and names them.
        for rule in adapter:
            found = get(f"{fleet.url}/api/v1/series", **{"match[]": rule["seriesQuery"], "start": f"{at - 600:.0f}"})
            assert {each["__name__"] for each in found.json()["data"]} == {series_of(rule)}
        names = {adapter_name(rule, series_of(rule)): rule for rule in adapter}

        # Its queries: one value each, the sum over the replicas of this model, each counted once.
        asked = []
        for metric in hpa["metrics"]:
            rule = names[metric["external"]["metric"]["name"]]
            selector = dict.fromkeys(metric["external"]["metric"]["selector"]["matchLabels"], BUSY)
            (value,) = values(fleet, adapter_query(rule, series_of(rule), selector), at)
            one_by_one = fleet.query(f"{series_of(rule)}{{model_name='{BUSY}'}}", at)
            assert len(one_by_one) == 3
            once = [float(text) for labels, text in one_by_one.items() if dict(labels)["job"] == "gpumon"]
            assert len(once) == 2
            assert value == pytest.approx(sum(once))
            asked.append((metric_value([value]), float(metric["external"]["target"]["averageValue"])))
        assert values(fleet, adapter_query(named, series_of(named), {}), at) == values(
            fleet, adapter_query(waiting, series_of(waiting), {"model_name": BUSY}), at
        )
        wanted = desired_replicas(2, asked)
        assert wanted > 2

        # KEDA's queries have the same values, and none for a model that nobody serves: an error, not 0.
        for trigger, (known_value, _) in zip(keda["triggers"], asked, strict=True):
            query = trigger["metadata"]["query"]
            (same,) = values(fleet, query.replace("llama-70b", BUSY), at)
            assert same == pytest.approx(known_value, abs=0.001)
            assert values(fleet, query, at) == []
            assert trigger["metadata"]["ignoreNullValues"] == "false"

        # The other engine is as busy, by utilization, and nobody waits for it: it stays as it is.
        calm = [
            (metric_value(values(fleet, adapter_query(rule, series_of(rule), {"model_name": CALM}), at)), target)
            for rule, (_, target) in zip((waiting, in_flight), asked, strict=True)
        ]
        utilization = {
            model: values(
                fleet,
                "avg(instance_server_engine_gpu:gpu_utilization_percent:avg1m{job='gpumon'} "
                "* on (instance, server, engine) group_left () "
                f"instance_server_engine:vllm_num_requests:sum{{job='gpumon',model_name='{model}'}} ^ 0)",
                at,
            )[0]
            for model in (BUSY, CALM)
        }
        print(f"\nutilization {utilization}; (value, target for each replica) {asked}, calm {calm}; wanted {wanted}")
        assert calm[0][0] == 0.0
        assert desired_replicas(2, calm) <= 2
        assert utilization[CALM] > 75
        assert utilization[BUSY] < 100 / 75 * utilization[CALM]

        # Two Deployments with the same model: by the pods' addresses, as docs/kubernetes.md has it.
        page = (EXAMPLES.parents[1] / "docs" / "kubernetes.md").read_text()
        joined = page.partition("```promql\n")[2].partition("```")[0]
        assert joined
        (of_pods,) = values(fleet, joined.replace("llama-70b-.*", "llama-.*").replace("llama-70b", BUSY), at)
        assert of_pods == pytest.approx(asked[0][0], abs=0.001)


def series_of(rule: dict[str, Any]) -> str:
    return str(rule["seriesQuery"]).partition("{")[0]
