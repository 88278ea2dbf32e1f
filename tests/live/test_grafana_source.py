"""A node as a data source: each call that Grafana makes, and odd ones, to a node and to a real Prometheus 3 that
scrapes it. Both answer alike: the same status, the same errors, the same data where it can be the same."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import httpx
import pytest

from tests.live.prometheus_calls import Call, of_grafana, of_people
from tests.live.servers import Daemon, Prometheus, daemon, prometheus, wait_for

pytestmark = pytest.mark.live

RULES = """
groups:
- name: one
  interval: 1s
  rules:
  - alert: Always
    expr: DCGM_FI_DEV_GPU_TEMP > 0
    labels: {severity: warning, team: "{{ $labels.gpu }}"}
    annotations: {summary: "GPU {{ $labels.gpu }}"}
  - {alert: Never, expr: DCGM_FI_DEV_GPU_TEMP < 0, for: 5m, keep_firing_for: 1m, labels: {severity: critical}}
  - {record: "gpus:count", expr: count(DCGM_FI_DEV_GPU_TEMP), labels: {made: "yes"}}
- name: two
  interval: 1s
  limit: 100
  rules:
  - {record: "gpus:temp", expr: max by (gpu) (DCGM_FI_DEV_GPU_TEMP)}
"""
CHANGING = {
    "evaluationTime", "lastEvaluation", "activeAt", "keepFiringSince", "value",
    "startTime", "serverTime", "hostname", "version", "revision", "branch", "buildUser", "buildDate", "goVersion",
}  # fmt: skip
"""What each says of itself: of these, that they are there, and of what kind."""
OURS = {"fingerprint", "silencedBy", "inhibitedBy", "graph", "neverMatched", "lastError", "labels", "annotations"}
"""What a node tells beside, or tells where Prometheus leaves out what is empty."""


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Daemon, Prometheus]]:
    folder = tmp_path_factory.mktemp("source")
    file = folder / "rules.yaml"
    file.write_text(RULES)
    with (
        daemon(folder, {"alerting": {"rule_files": [str(file)]}}, "--simulate") as node,
        prometheus(folder, {"gpumon": [f"127.0.0.1:{node.port}"]}, rule_files=[file]) as server,
    ):
        for one in (node, server):
            wait_for("rules were evaluated", lambda one=one: one.query("gpus:temp"), 60, one.process)  # type: ignore[misc]
            wait_for("alerts fire", lambda one=one: len(one.alerts("Always")) == 8, 60, one.process)  # type: ignore[misc]
        time.sleep(3)  # so that two seconds back both have readings
        yield node, server


def differences(both: tuple[Daemon, Prometheus], calls: Iterator[Call]) -> tuple[Counter[int], list[str]]:
    """How often each status was given, and where the two differ."""
    node, server = both
    statuses: Counter[int] = Counter()
    found = []
    with (
        httpx.Client(base_url=server.url, trust_env=False, timeout=20) as theirs,
        httpx.Client(base_url=node.url, trust_env=False, timeout=20) as ours,
    ):
        for call in calls:
            expected, given = call.send(theirs), call.send(ours)
            statuses[expected.status_code] += 1
            if why := _differ(call, expected, given):
                said = (
                    f"{expected.status_code} {expected.text[:300]}\n    gpumon: {given.status_code} {given.text[:300]}"
                )
                found.append(f"{call}: {why}\n    Prometheus: {said}")
    return statuses, found


def _differ(call: Call, expected: httpx.Response, given: httpx.Response) -> str:
    if expected.status_code != given.status_code:
        return "the status"
    if expected.status_code in (404, 405):  # Prometheus' are a text, ours an error like every other
        body = given.json() if call.method != "HEAD" else {"status": "error"}
        allowed = [
            set(one.headers.get("Allow", "").replace(" ", "").split(",")) - {"OPTIONS"} for one in (expected, given)
        ]
        return "" if body["status"] == "error" and allowed[0] == allowed[1] else "the form"
    if not expected.content:
        return "" if not given.content else "a body"
    if expected.headers["Content-Type"].partition(";")[0] != given.headers["Content-Type"].partition(";")[0]:
        return "the content's type"
    return _compare("", _settled(expected.json()), _settled(given.json()))


def _settled(value: Any, name: str = "") -> Any:
    """Lists of series in one order: each server has its own."""
    if isinstance(value, dict):
        return {key: _settled(one, key) for key, one in value.items()}
    if isinstance(value, list) and name not in ("value", "values", "groups", "rules"):
        return sorted((_settled(one) for one in value), key=lambda one: json.dumps(_key(one), sort_keys=True))
    if isinstance(value, list):
        return [_settled(one) for one in value]
    return value


def _key(one: Any) -> Any:
    return one.get("metric", one.get("labels", one)) if isinstance(one, dict) else one


def _compare(where: str, expected: Any, given: Any) -> str:
    if isinstance(expected, Mapping) and isinstance(given, Mapping):
        if missing := set(expected) - set(given):
            return f"{where} lacks {sorted(missing)}"
        if more := {key for key in set(given) - set(expected) if key not in OURS}:
            return f"{where} has {sorted(more)}"
        return next(filter(None, (_compare(f"{where}.{key}", expected[key], given[key]) for key in expected)), "")
    if isinstance(expected, list) and isinstance(given, list):
        if len(expected) != len(given):
            return f"{where} has {len(given)} items for {len(expected)}"
        pairs = zip(expected, given, strict=True)
        return next(filter(None, (_compare(f"{where}[]", *pair) for pair in pairs)), "")
    kinds = {float if type(one) is int else type(one) for one in (expected, given)}
    if len(kinds) > 1:
        return f"{where}: {expected!r} is {given!r}"
    if where.rpartition(".")[2].rstrip("[]") in CHANGING and ".result" not in where:
        return ""
    return "" if expected == given else f"{where}: {expected!r} is {given!r}"


def test_grafana_is_answered_as_by_prometheus(
    both: tuple[Daemon, Prometheus], capsys: pytest.CaptureFixture[str]
) -> None:
    statuses, found = differences(both, of_grafana(time.time()))
    with capsys.disabled():
        print(f"\n{statuses.total()} calls of Grafana's: {dict(statuses)}, {len(found)} differ")
    assert not found, "\n".join(found)
    assert statuses[200] > 50


def test_what_is_odd_or_wrong_is_answered_as_by_prometheus(
    both: tuple[Daemon, Prometheus], capsys: pytest.CaptureFixture[str]
) -> None:
    statuses, found = differences(both, of_people(time.time()))
    with capsys.disabled():
        print(f"\n{statuses.total()} odd calls: {dict(statuses)}, {len(found)} differ")
    assert not found, "\n".join(found)
    assert min(statuses[code] for code in (200, 204, 400, 404, 405)) > 0
