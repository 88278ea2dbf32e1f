"""The Grafana dashboards, ours and those that people have, asked as Grafana asks them: of a Prometheus that scrapes two
nodes of unlike hardware, and of a node itself.

Grafana is not here. What it would send is: its variables' calls, and each panel's query with the variables in it,
POSTed as its data source does. What it would draw of the answers is not seen.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from monitor.dashboards.build import to_json
from monitor.dashboards.files import ALL
from monitor.probes import results
from monitor.probes.headline import headline
from monitor.probes.schema import WorkloadName
from tests.dashboards.grafana import Chosen, asked, filled, label_values, query_result, text_of, written
from tests.live.servers import PROJECT, Daemon, QueryApi, daemon, get, prometheus, wait_for
from tests.probes.made_results import made

pytestmark = pytest.mark.live

TRIAL = "trial.yaml"
RULE = """\
groups:
  - name: trial
    rules:
      # Something that fires on each node and for each server, as something does on most days.
      - alert: TrialFires
        expr: gpumon_build_info == 1
        labels: {severity: critical}
      - alert: TrialOfServer
        expr: vllm:num_requests_running >= 0
        labels: {severity: warning}
"""
SPAN_S = 60
UPSTREAM = sorted((PROJECT / "tests" / "data" / "grafana").glob("*.json"))

WELL = "no fault"
NOT_SIMULATED = "not simulated"
EMPTY: dict[str, str] = {
    "gpumon-node: XID errors/A": f"{WELL}: no XID error",
    "gpumon-node: XID errors/B": f"{WELL}: no XID error",
    "gpumon-node: CPU of the daemon and of the reader of GPUs/B": f"{NOT_SIMULATED}: a process that reads the driver",
    "gpumon-node: Memory of the daemon and of the reader of GPUs/B": f"{NOT_SIMULATED}: the same",
    "gpumon-node: Notifications/A": "no receiver is configured",
    "gpumon-node: Notifications/B": "no receiver is configured",
    "gpumon-vllm: Errors/C": f"{NOT_SIMULATED}: a server's log",
    "gpumon-probes: Load tests running/A": "no load test since the daemon began",
    "gpumon-probes: Load tests/A": "the same",
    "gpumon-probes: Canaries that failed in a row/A": f"{NOT_SIMULATED}: a canary, which asks a real server",
    "gpumon-probes: What the canary found/A": f"{NOT_SIMULATED}: the same",
}
"""What may have no data on a healthy simulated node, and why. It has to be answered without a complaint."""
EMPTY_ON_L40S: dict[str, str] = {
    **dict.fromkeys(
        ("gpumon-node: GPUs now/D", "gpumon-node: Memory temperature/A"),
        "an L40S has no sensor of its memory",
    ),
    **dict.fromkeys(
        (
            "gpumon-node: GPUs now/J",
            "gpumon-node: NVLink/A",
            "gpumon-node: NVLink/B",
            "gpumon-node: NVLinks down/A",
            "gpumon-node: NVLink errors/A",
        ),
        "an L40S has no NVLink",
    ),
    **dict.fromkeys(
        (
            "gpumon-node: SM active/A",
            "gpumon-node: Tensor pipes active/A",
            "gpumon-node: Memory bandwidth in use/A",
        ),
        "an L40S has no GPU performance monitoring",
    ),
}
"""Absent, never 0."""
RESIDENCY = {"Block lifetime": 4, "Idle time before eviction": 4, "Block reuse gap": 4}
CONNECTOR = {
    "Requests waiting on KV loads": 1,
    "Transfer duration": 4,
    "Transfer throughput": 2,
    "Transfers / s": 1,
    "Bytes per transfer": 4,
    "Transfer post time": 4,
    "Descriptors per transfer": 4,
    "Transfer failures / s": 4,
    "Offload throughput": 2,
    "Offload transfer bandwidth": 2,
    "Mean offload transfer size": 2,
    "Offload lookup latency p99": 2,
    "CPU offload buffer usage": 3,
    "Failed and skipped stores / s": 2,
    "Store admission outcomes": 1,
    "Blocks restored from offload / s": 1,
    "Offload pool blocks": 2,
}
"""Panels of vLLM's dashboard of the KV cache, and how many queries each has."""


def _of_panels(why: str, panels: Mapping[str, int]) -> dict[str, str]:
    return {f"vllm-kv-cache: {title}/{chr(65 + at)}": why for title, count in panels.items() for at in range(count)}


UPSTREAM_EMPTY: dict[str, str] = {
    "vllm-overview: Cache hit rates/B": "no request asks another instance's cache: there is no KV connector",
    "vllm-overview: Cache hit rates/C": "no request has a picture",
    "vllm-instances: LoRA adapters/A": "no adapter is served",
    **dict.fromkeys(
        (f"vllm-instances: Sleep mode and weight update operations (since process start)/{one}" for one in "ABC"),
        "nobody has put a server to sleep, or given it new weights",
    ),
    "vllm-kv-cache: Cache hit rates/B": "no request asks another instance's cache: there is no KV connector",
    "vllm-kv-cache: Cache hit rates/C": "no request has a picture",
    "vllm-kv-cache: External prefix cache hit rate/A": "no request asks another instance's cache",
    **_of_panels("the server keeps no account of blocks (--kv-cache-metrics)", RESIDENCY),
    **_of_panels("there is no KV connector (--kv-transfer-config)", CONNECTOR),
}
"""Of the dashboards that people have: what has no data here, and why."""
UPSTREAM_FAILS: dict[str, str] = {
    "vllm-instances: Instances (last 5 minutes)/J": "it takes one server for each instance; a node has two here",
}
"""What Prometheus refuses, and why: the queries of those who scrape each server by itself."""


@dataclass(frozen=True)
class Scene:
    """What is asked."""

    fleet: QueryApi
    big: Daemon
    small: Daemon


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("grafana")
    (folder / TRIAL).write_text(RULE)
    rules = [PROJECT / "alerts.yaml", folder / TRIAL]
    workloads: tuple[WorkloadName, ...] = ("throughput", "latency")
    for workload in workloads:
        one = made(workload, few=True)
        here = msgspec.structs.replace(
            one,
            spec=msgspec.structs.replace(one.spec, server="big:8000"),
            facts=msgspec.structs.replace(one.facts, server="big:8000"),
            headline=headline(workload, one.steps),
        )
        place = folder / "state-big" / "results" / one.id
        place.parent.mkdir(parents=True, exist_ok=True)
        results.write(place, here)
    with ExitStack() as stack:
        nodes = {
            name: stack.enter_context(
                daemon(
                    folder,
                    {
                        "state_directory": str(folder / f"state-{name}"),
                        "alerting": {"evaluation_interval": "1s", "rule_files": [str(file) for file in rules]},
                    },
                    *("--simulate", "--hardware", hardware),
                    name=name,
                )
            )
            for name, hardware in (("big", "8xH200"), ("small", "4xL40S"))
        }
        big, small = nodes.values()
        fleet = stack.enter_context(prometheus(folder, {"gpumon": [big.instance, small.instance]}, rule_files=rules))
        baseline(folder / "big" / "gpumon.sock", made("throughput", few=True).id)
        apis: list[tuple[QueryApi, int]] = [(fleet, 2), (big, 1), (small, 1)]
        for api, count in apis:
            for need in (
                "rate(vllm:generation_tokens_total[1m])",
                'ALERTS{alertname="TrialFires",alertstate="firing"}',
                'ALERTS{alertname="Watchdog",alertstate="firing"}',
            ):
                wait_for(need, partial(api.query, need), 60)
            ready = f"count(gpumon_build_info and on (instance) rate(node_cpu_seconds_total[1m])) == {count}"
            wait_for(ready, partial(api.query, ready), 60)
        ratio = "gpumon_probe_baseline_ratio"
        wait_for(ratio, lambda: fleet.query(ratio), 60)
        yield Scene(fleet, big, small)


def baseline(socket: Path, id: str) -> None:
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(socket)), base_url="http://gpumon", timeout=10) as client:
        answer = client.post(f"/api/gpumon/v1/probes/{id}/baseline", json={"name": "spring"})
    assert answer.status_code == 200, answer.text


def values_of(api: QueryApi, variable: dict[str, Any], known: Mapping[str, str]) -> list[str]:
    """A variable's values, by the calls that Grafana makes for it."""
    text = filled(text_of(variable), known)
    now = time.time()
    if expression := query_result(text):
        return [json.dumps(dict(labels)) for labels in api.query(expression)]
    selector, label = label_values(text)
    given = {"match[]": selector} if selector else {}
    answer = get(f"{api.url}/api/v1/label/{label}/values", start=str(now - 3600), end=str(now), **given)
    body = answer.json()
    assert body["status"] == "success", f"{text}: {body}"
    assert not body.get("warnings"), f"{text}: {body}"
    found: list[str] = body["data"]
    return found


def chosen(
    api: QueryApi, dashboard: dict[str, Any], wanted: Mapping[str, Chosen], *, everything: bool
) -> dict[str, str]:
    """What stands for each variable: what is ``wanted``, else All where that can be had and ``everything`` is asked
    for, else every value by its name, or the first. Each variable that is not wanted has to have values."""
    known: dict[str, str] = {}
    for variable in dashboard["templating"]["list"]:
        name = variable["name"]
        if variable["type"] != "query":
            continue
        values = values_of(api, variable, known)
        assert values or name in wanted, f"{dashboard['title']}: ${name} has no values"
        several = bool(variable.get("multi") or variable.get("includeAll"))
        if name in wanted:
            assert isinstance(wanted[name], str)
            assert wanted[name] in values, f"${name}: {wanted[name]} is not among {values}"
            known[name] = written(wanted[name], variable)
        elif several and everything and variable.get("allValue"):
            known[name] = variable["allValue"]
        else:
            known[name] = written(values if several else values[0], variable)
    return known


def run(
    api: QueryApi, dashboard: dict[str, Any], known: Mapping[str, str], *, fails: Collection[str] = ()
) -> dict[str, int]:
    """Ask every panel's query and each annotation's; how many series each has, by name. Fails for an error, and for a
    warning, which tells of a query that is wrong; Prometheus' infos tell of names and of rounding. What ``fails`` has
    to be refused, and comes back as having one."""
    found: dict[str, int] = {}
    end = time.time()
    queries = [(one.name, one.expr, one.instant) for one in asked(dashboard)]
    queries += [
        (f"{each['name']}/annotation", each["target"]["expr"], False)
        for each in dashboard["annotations"]["list"]
        if "expr" in each.get("target", {})
    ]
    wrong = []
    with httpx.Client(trust_env=False, timeout=30) as client:
        for name, text, instant in queries:
            form = {"query": filled(text, known, range_s=SPAN_S)}
            if instant:
                form["time"] = f"{end:.3f}"
            else:
                form |= {"start": f"{end - SPAN_S:.3f}", "end": f"{end:.3f}", "step": "15"}
            answer = client.post(f"{api.url}/api/v1/{'query' if instant else 'query_range'}", data=form)
            body = answer.json()
            full = f"{dashboard['uid']}: {name}"
            if full in fails:
                assert body["status"] == "error", f"{full} is answered now"
                found[full] = 1
                continue
            if body["status"] != "success" or body.get("warnings"):
                wrong.append(f"{name}: {body.get('error') or body['warnings']}\n  {form['query']}")
                continue
            found[full] = len(body["data"]["result"])
    assert not wrong, "\n".join(wrong)
    return found


def all_have_data(found: Mapping[str, int], *but: Mapping[str, str]) -> None:
    """Fails for queries without data that no reason is given for, and for a reason that is none any more."""
    empty = {name for name, count in found.items() if not count}
    reasons = {name for each in but for name in each}
    assert not empty - reasons, "without data:\n" + "\n".join(sorted(empty - reasons))
    stale = reasons & found.keys() - empty
    assert not stale, "with data, and a reason for having none:\n" + "\n".join(sorted(stale))


@pytest.mark.parametrize("everything", [True, False], ids=["all", "each by name"])
@pytest.mark.parametrize("uid", [one.uid for one in ALL])
def test_each_query_has_data_in_prometheus(scene: Scene, uid: str, everything: bool) -> None:
    (dashboard,) = (to_json(one) for one in ALL if one.uid == uid)
    wanted = {"instance": scene.big.instance} if uid == "gpumon-node" else {}
    found = run(scene.fleet, dashboard, chosen(scene.fleet, dashboard, wanted, everything=everything))
    all_have_data(found, EMPTY)
    if uid == "gpumon-fleet":
        assert found["gpumon-fleet: Nodes, the worst first/A"] == 2


@pytest.mark.parametrize("uid", [one.uid for one in ALL])
def test_each_query_has_data_on_a_node_that_is_asked_itself(scene: Scene, uid: str) -> None:
    (dashboard,) = (to_json(one) for one in ALL if one.uid == uid)
    found = run(scene.big, dashboard, chosen(scene.big, dashboard, {}, everything=False))
    all_have_data(found, EMPTY)


def test_a_node_of_other_hardware_has_all_but_what_its_boards_have_not(scene: Scene) -> None:
    (dashboard,) = (to_json(one) for one in ALL if one.uid == "gpumon-node")
    wanted = {"instance": scene.small.instance}
    for api in (scene.fleet, scene.small):
        found = run(api, dashboard, chosen(api, dashboard, wanted, everything=True))
        all_have_data(found, EMPTY, EMPTY_ON_L40S)


def upstream(file: Path) -> dict[str, Any]:
    """A dashboard that is not ours, as far as what it asks for: its variables, constants and queries."""
    told = json.loads(file.read_text("utf-8"))
    variables = [
        {"name": one["name"], "type": "query", "query": one["query"], "multi": one["several"]}
        for one in told["variables"]
    ]
    return {**told, "templating": {"list": variables}, "annotations": {"list": []}}


@pytest.mark.parametrize("file", UPSTREAM, ids=lambda file: file.stem)
@pytest.mark.parametrize("asking", ["prometheus", "node"])
def test_other_peoples_dashboards_have_data(scene: Scene, file: Path, asking: str) -> None:
    dashboard = upstream(file)
    api: QueryApi = scene.fleet if asking == "prometheus" else scene.big
    known = {**dashboard["constants"], **chosen(api, dashboard, {}, everything=False)}
    but = {f"{dashboard['uid']}: {one.name}" for one in asked(dashboard)} & set(UPSTREAM_FAILS)
    found = run(api, dashboard, known, fails=but)
    all_have_data(found, UPSTREAM_EMPTY)


def test_what_may_be_empty_is_asked_for() -> None:
    names = {f"{one.uid}: {query.name}" for one in ALL for query in asked(to_json(one))}
    assert {*EMPTY, *EMPTY_ON_L40S} <= names
    names = {f"{one['uid']}: {query.name}" for one in map(upstream, UPSTREAM) for query in asked(one)}
    assert {*UPSTREAM_EMPTY, *UPSTREAM_FAILS} <= names
    assert len(UPSTREAM) == 9
