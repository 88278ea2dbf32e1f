"""`/api/v1` and `/metrics`, as Prometheus answers them."""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from monitor.samples import STALE, Family, Scrape, Shape, make_labels
from monitor.sources.poller import SourceStatus
from monitor.store.head import Head
from tests.api.running import Running, running

FAMILIES = {
    "util": Family("util", "gauge", "Utilization, in\nper cent \\ of all."),
    "done_total": Family("done_total", "counter", "Done."),
    "ttft_seconds": Family("ttft_seconds", "histogram", "TTFT."),
}
SHAPE = Shape(
    [
        make_labels("util", gpu="0"),
        make_labels("util", gpu="1", name='a"b\\c\n'),
        make_labels("done_total"),
        make_labels("ttft_seconds_bucket", le="0.5"),
        make_labels("ttft_seconds_bucket", le="+Inf"),
        make_labels("ttft_seconds_sum"),
        make_labels("ttft_seconds_count"),
    ],
    FAMILIES,
)
T0 = 1_700_000_000_000


def head() -> Head:
    """Eleven scrapes, one a second, that end at T0: GPU 0 counts from 0 to 10, GPU 1 stands at 42."""
    store = Head("gpumon", "n1:9519")
    for i in range(11):
        store.ingest("nvml", Scrape(T0 - 10_000 + i * 1000, SHAPE, [float(i), 42.0, i * 5.0, 1.0, 3.0, 2.5, 3.0]))
    return store


def with_api(work: Callable[[Running], Awaitable[Any]], store: Head | None = None, rules: str = "groups: []") -> Any:
    async def main() -> Any:
        async with running(store or head(), rules) as api:
            return await work(api)

    return asyncio.run(main())


def get(path: str, **kwargs: Any) -> tuple[int, Any]:
    async def work(api: Running) -> tuple[int, Any]:
        response = await api.client.get(path, **kwargs)
        return response.status_code, response.json()

    status, body = with_api(work)
    return int(status), body


def test_an_instant_query_by_get_and_by_post() -> None:
    async def work(api: Running) -> list[Any]:
        fields = {"query": "util{gpu='0'}", "time": f"{T0 / 1000:.3f}"}
        return [
            (await api.client.get("/api/v1/query", params=fields)).json(),
            (await api.client.post("/api/v1/query", data=fields)).json(),
        ]

    got, posted = with_api(work)
    assert got == posted
    assert got == {
        "status": "success",
        "data": {
            "resultType": "vector",
            "result": [
                {
                    "metric": {"__name__": "util", "gpu": "0", "instance": "n1:9519", "job": "gpumon"},
                    "value": [1700000000.0, "10"],
                }
            ],
        },
    }


def test_scalars_strings_and_matrices() -> None:
    time = f"{T0 / 1000:.3f}"
    assert get("/api/v1/query", params={"query": "1.5", "time": time})[1]["data"] == {
        "resultType": "scalar",
        "result": [1700000000.0, "1.5"],
    }
    assert get("/api/v1/query", params={"query": "'x'", "time": time})[1]["data"] == {
        "resultType": "string",
        "result": [1700000000.0, "x"],
    }
    matrix = get("/api/v1/query", params={"query": "util{gpu='0'}[2s]", "time": time})[1]["data"]
    assert matrix["resultType"] == "matrix"
    assert matrix["result"][0]["values"] == [[1699999999.0, "9"], [1700000000.0, "10"]]


def test_a_range_query() -> None:
    params = {"query": "rate(done_total[5s])", "start": str(T0 / 1000 - 4), "end": str(T0 / 1000), "step": "2s"}
    status, body = get("/api/v1/query_range", params=params)
    assert status == 200
    (series,) = body["data"]["result"]
    assert series["metric"] == {"instance": "n1:9519", "job": "gpumon"}
    assert series["values"] == [[1699999996.0, "5"], [1699999998.0, "5"], [1700000000.0, "5"]]


@pytest.mark.parametrize(
    ("path", "params", "words"),
    [
        ("query", {"query": "util{"}, 'invalid parameter "query"'),
        ("query", {}, '^invalid parameter "query": unknown position: parse error: no expression found in input$'),
        ("query", {"query": "util", "time": "soon"}, 'invalid parameter "time"'),
        ("query_range", {"query": "util", "start": "0", "end": "10", "step": "0"}, "zero or negative"),
        ("query_range", {"query": "util", "start": "10", "end": "0", "step": "1"}, "must not be before start"),
        ("query_range", {"query": "util", "start": "0", "end": "99999", "step": "1"}, "11,000 points"),
        ("series", {}, r"no match\[\]"),
        ("series", {"match[]": "rate(util[1m])"}, "match"),
    ],
)
def test_a_bad_request_is_told_as_prometheus_does(path: str, params: dict[str, str], words: str) -> None:
    status, body = get(f"/api/v1/{path}", params=params)
    assert status == 400
    assert (body["status"], body["errorType"]) == ("error", "bad_data")

    assert re.search(words, body["error"])


def test_a_query_that_cannot_be_evaluated() -> None:
    status, body = get("/api/v1/query", params={"query": "util * on(job) util", "time": str(T0 / 1000)})
    assert (status, body["errorType"]) == (422, "execution")
    assert "many-to-many" in body["error"]


def test_series_labels_and_values() -> None:
    window = {"start": str(T0 / 1000 - 60), "end": str(T0 / 1000)}
    series = get("/api/v1/series", params={"match[]": "util", **window})[1]["data"]
    assert [one["gpu"] for one in series] == ["0", "1"]
    assert get("/api/v1/labels", params=window)[1]["data"] == ["__name__", "gpu", "instance", "job", "le", "name"]
    assert get("/api/v1/label/gpu/values", params=window)[1]["data"] == ["0", "1"]
    assert get("/api/v1/label/__name__/values", params={"match[]": '{le!=""}', **window})[1]["data"] == [
        "ttft_seconds_bucket"
    ]
    before = {"start": "0", "end": "10"}
    assert get("/api/v1/label/gpu/values", params=before)[1]["data"] == []


def test_metrics_is_what_a_prometheus_would_scrape() -> None:
    async def work(api: Running) -> str:
        return (await api.client.get("/metrics")).text

    text = with_api(work)
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert families["util"].documentation == "Utilization, in\nper cent \\ of all."
    assert [(s.labels, s.value) for s in families["util"].samples] == [
        ({"gpu": "0"}, 10.0),
        ({"gpu": "1", "name": 'a"b\\c\n'}, 42.0),
    ]
    assert families["done"].type == "counter"
    assert families["ttft_seconds"].type == "histogram"
    assert len(families["ttft_seconds"].samples) == 4


def test_metrics_shows_no_ended_series_nothing_of_rules_and_only_what_is_collected() -> None:
    store = head()
    store.ingest("host", Scrape(T0, Shape([make_labels("node_load1")], {}), [1.0]))
    store.append(make_labels("ALERTS", alertname="X"), T0, 1.0)
    store.end("nvml", T0 + 1000)

    async def work(api: Running) -> list[str]:
        return [(await api.client.get(f"/metrics{query}")).text for query in ("", "?collect[]=nvml&collect[]=vllm")]

    everything, collected = with_api(work, store)
    assert everything == "node_load1 1.0\n"
    assert collected == ""


RULES = """
groups:
- name: g
  interval: 5s
  rules:
  - record: job:util:max
    expr: max by (job) (util)
  - alert: Busy
    expr: util > 40
    for: 1m
    labels: {severity: warning}
    annotations: {summary: "GPU {{ $labels.gpu }} is at {{ $value }}"}
"""


def test_rules_and_alerts() -> None:
    async def work(api: Running) -> tuple[Any, Any]:
        api.node.engine.step(T0, api.node.head)
        rules = (await api.client.get("/api/v1/rules")).json()
        alerts = (await api.client.get("/api/v1/alerts")).json()
        return rules["data"], alerts["data"]

    rules, alerts = with_api(work, rules=RULES)
    (alert,) = alerts["alerts"]
    assert alert["labels"]["alertname"] == "Busy"
    assert alert["annotations"] == {"summary": "GPU 1 is at 42"}
    assert (alert["state"], alert["value"], alert["activeAt"]) == ("pending", "4.2e+01", "2023-11-14T22:13:20Z")
    (group,) = rules["groups"]
    assert (group["name"], group["interval"]) == ("g", 5)
    record, busy = group["rules"]
    assert (record["type"], record["name"], record["health"]) == ("recording", "job:util:max", "ok")
    assert (busy["type"], busy["state"], busy["duration"]) == ("alerting", "pending", 60)
    assert busy["query"] == "util > 40"
    assert busy["graph"] == [{"expr": "util", "op": ">", "threshold": 40}]
    assert "graph" not in record
    assert [one["labels"]["gpu"] for one in busy["alerts"]] == ["1"]


def test_a_staleness_marker_ends_a_series_at_once() -> None:
    store = head()
    (labels,) = [s.labels for s in store.all_series() if ("gpu", "0") in s.labels]
    store.append(labels, T0 + 1, STALE)

    async def work(api: Running) -> Any:
        response = await api.client.get("/api/v1/query", params={"query": "util", "time": str(T0 / 1000 + 1)})
        return [one["metric"]["gpu"] for one in response.json()["data"]["result"]]

    assert with_api(work, store) == ["1"]


def test_an_empty_time_is_none() -> None:
    async def work(api: Running) -> list[int]:
        asked = [("query", {"query": "util", "time": ""}), ("series", {"match[]": "util", "start": "", "end": ""})]
        return [(await api.client.get(f"/api/v1/{path}", params=params)).status_code for path, params in asked]

    assert with_api(work) == [200, 200]


def test_limits_lookback_and_plain_selectors() -> None:
    async def main() -> list[tuple[int, Any]]:
        head = Head("j", "i")
        at_ms = round(time.time() * 1000) - 60_000
        shape = Shape([make_labels("m", n=str(n)) for n in range(5)], {})
        head.ingest("s", Scrape(at_ms, shape, [1.0] * 5))
        asked = [
            "/api/v1/query?query=m&limit=2",
            "/api/v1/query?query=m&limit=9",
            "/api/v1/query?query=m[5m]&limit=2",
            f"/api/v1/query_range?query=m&start={at_ms / 1000}&end={at_ms / 1000}&step=1&limit=3",
            "/api/v1/series?match[]=m&limit=2",
            "/api/v1/labels?limit=1",
            "/api/v1/label/n/values?limit=4",
            "/api/v1/query?query=m&lookback_delta=10s",
            "/api/v1/query?query=m&lookback_delta=2m",
            "/api/v1/query?query=m&limit=-1",
            "/api/v1/query?query=m&limit=x",
            "/api/v1/query?query=m&lookback_delta=x",
            "/api/v1/series?match[]=m offset 5m",
            "/api/v1/series?match[]=m @ 0",
            "/api/v1/series?match[]=(m)",
        ]
        async with running(head) as api:
            answers = [await api.client.get(path) for path in asked]
        return [(answer.status_code, answer.json()) for answer in answers]

    answers = asyncio.run(main())

    def size(body: Any) -> int:
        data = body["data"]
        return len(data["result"] if isinstance(data, dict) else data)

    good, bad = answers[:9], answers[9:]
    assert [size(body) for _, body in good] == [2, 5, 2, 3, 2, 1, 4, 0, 5]
    cut = ["results truncated due to limit"]
    assert [body.get("warnings") for _, body in good] == [cut, None, cut, cut, cut, cut, cut, None, None]
    assert [(status, body["errorType"]) for status, body in bad] == [(400, "bad_data")] * 6


# -- what Grafana asks beside ------------------------------------------------------------------------------------------

TWO_GROUPS = """
groups:
- name: a
  rules:
  - {alert: Hot, expr: util > 5, labels: {severity: warning}}
  - {record: "util:sum", expr: sum(util), labels: {made: "yes"}}
- name: b
  rules: [{record: "util:max", expr: max(util)}]
"""


def names(query: str) -> list[list[str]]:
    async def work(api: Running) -> Any:
        api.node.engine.step(T0, api.node.head)
        return (await api.client.get(f"/api/v1/rules?{query}")).json()

    body = with_api(work, rules=TWO_GROUPS)
    return [[rule["name"] for rule in group["rules"]] for group in body["data"]["groups"]]


def test_rules_are_filtered() -> None:
    assert names("") == [["Hot", "util:sum"], ["util:max"]]
    assert names("type=alert") == [["Hot"]]
    assert names("type=record&rule_group[]=b") == [["util:max"]]
    assert names("rule_name[]=Hot&rule_name[]=util:max") == [["Hot"], ["util:max"]]
    assert names('match[]={made="yes"}&match[]={severity="warning"}') == [["Hot", "util:sum"]]
    assert names("file[]=/nowhere") == []


def test_rules_come_in_pages() -> None:
    async def work(api: Running) -> Any:
        first = (await api.client.get("/api/v1/rules", params={"group_limit": 1})).json()["data"]
        token = first["groupNextToken"]
        rest = await api.client.get("/api/v1/rules", params={"group_limit": 1, "group_next_token": token})
        last = await api.client.get("/api/v1/rules", params={"exclude_alerts": "true"})
        return [group["name"] for group in first["groups"]], rest.json()["data"], last.json()["data"]

    first, rest, last = with_api(work, rules=TWO_GROUPS)
    assert first == ["a"]
    assert [group["name"] for group in rest["groups"]] == ["b"]
    assert "groupNextToken" not in rest
    assert last["groups"][0]["rules"][0]["alerts"] is None


@pytest.mark.parametrize(
    "query",
    ["type=odd", "exclude_alerts=odd", "group_limit=0", "group_limit=x", "group_next_token=x", "match[]={", "match[]="],
)
def test_what_rules_are_asked_for_wrongly(query: str) -> None:
    assert get(f"/api/v1/rules?{query}")[0] == 400


def test_a_query_has_the_time_that_it_is_given() -> None:
    for timeout in ("0", "-1", "NaN", "0s", "1e-9"):
        status, body = get("/api/v1/query", params={"query": "sum(util)", "time": "1", "timeout": timeout})
        assert (status, body["errorType"]) == (503, "timeout")
    assert get("/api/v1/query", params={"query": "1", "timeout": "soon"})[1]["error"] == (
        'invalid parameter "timeout": cannot parse "soon" to a valid duration'
    )
    assert get("/api/v1/query", params={"query": "1", "timeout": "1h"})[0] == 200


def test_a_body_that_is_no_form_is_none() -> None:
    async def work(api: Running) -> list[int]:
        kinds = ("application/x-www-form-urlencoded; charset=utf-8", "application/json", "text/plain")
        answers = [
            await api.client.post("/api/v1/query", content=b"query=1", headers={"Content-Type": kind}) for kind in kinds
        ]
        return [answer.status_code for answer in answers]

    assert with_api(work) == [200, 400, 400]


def test_methods_that_a_path_does_not_have() -> None:
    async def work(api: Running) -> list[tuple[int, set[str]]]:
        asked = [("HEAD", "query"), ("PUT", "labels"), ("POST", "rules"), ("HEAD", "metadata")]
        answers = [await api.client.request(method, f"/api/v1/{path}") for method, path in asked]
        return [(one.status_code, set(one.headers["Allow"].split(", "))) for one in answers]

    assert with_api(work) == [(405, {"GET", "POST"}), (405, {"GET", "POST"}), (405, {"GET"}), (405, {"GET"})]


def test_metadata_has_limits() -> None:
    one = {"type": "gauge", "help": FAMILIES["util"].help, "unit": ""}
    assert get("/api/v1/metadata?metric=util&limit=1&limit_per_metric=1")[1]["data"] == {"util": [one]}
    assert len(get("/api/v1/metadata?limit=2")[1]["data"]) == 2
    assert get("/api/v1/metadata?limit=0")[1]["data"] == {}
    assert get("/api/v1/metadata?limit=-1&limit_per_metric=-1")[1]["data"].keys() >= FAMILIES.keys()
    assert get("/api/v1/metadata?limit=x")[1]["error"] == "limit must be a number"


def test_what_the_node_tells_of_itself() -> None:
    store = head()

    async def work(api: Running) -> Any:
        async def data(path: str) -> Any:
            return (await api.client.get(f"/api/v1/{path}")).json()["data"]

        paths = ("status/runtimeinfo", "status/flags", "status/config", "status/tsdb?limit=1", "alertmanagers",
                 "notifications", "targets", "scrape_pools", "query_exemplars?query=util")  # fmt: skip
        return [await data(path) for path in paths]

    runtime, flags, config, tsdb, managers, notifications, targets, pools, exemplars = with_api(work, store)
    assert (runtime["hostname"], runtime["storageRetention"]) == ("n1", "1h")
    assert flags["storage.tsdb.retention.time"] == "1h"
    assert config["yaml"] == "global:\n  evaluation_interval: 5s\n"
    assert tsdb["headStats"]["numSeries"] == len(SHAPE.series)
    assert tsdb["headStats"]["maxTime"] - tsdb["headStats"]["minTime"] == 10_000
    assert tsdb["seriesCountByMetricName"] == [{"name": "ttft_seconds_bucket", "value": 2}]
    assert managers == {"activeAlertmanagers": [], "droppedAlertmanagers": []}
    assert (notifications, pools, exemplars) == ([], {"scrapePools": []}, [])
    assert targets["activeTargets"] == []


def test_sources_are_targets() -> None:
    async def work(api: Running) -> Any:
        api.node.statuses = [
            SourceStatus("vllm", "n1:8000", 1.0, up=False, reason="connection refused"),
            SourceStatus("host", "", 2.0, up=True, last_success_ms=T0),
        ]
        every = (await api.client.get("/api/v1/targets")).json()["data"]
        one = (await api.client.get("/api/v1/targets?scrapePool=host&state=active")).json()["data"]
        return every["activeTargets"], one

    (vllm, host), one = with_api(work)
    assert (vllm["health"], vllm["lastError"]) == ("down", "connection refused")
    assert vllm["labels"] == {"instance": "n1:9519", "job": "gpumon", "server": "n1:8000"}
    assert (host["health"], host["lastError"], host["scrapeInterval"]) == ("up", "", "2s")
    assert one == {"activeTargets": [host], "droppedTargets": [], "droppedTargetCounts": None}


def test_a_request_has_so_many_selectors_and_no_more() -> None:
    assert get("/api/v1/series", params={"match[]": ["util"] * 100})[0] == 200
    status, body = get("/api/v1/labels", params={"match[]": ["util"] * 101})
    assert (status, body["error"]) == (400, "101 match[] are too many: 100 at most")
