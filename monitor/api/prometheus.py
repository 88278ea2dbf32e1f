"""`/api/v1`: Prometheus' HTTP API, as far as Grafana, people and our own client use it."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from monitor import __version__
from monitor.api.http import (
    BadRequest,
    go_float,
    parameters,
    parse_step_ms,
    parse_time_ms,
    rfc3339,
    seconds,
    success,
)
from monitor.api.node import Node
from monitor.api.queries import Answer
from monitor.linear_regex import TooMuch
from monitor.promql.errors import Limits, PromQLError
from monitor.promql.evaluate import Result, instant, range_query
from monitor.promql.parse import parse_selector
from monitor.promql.plan import LOOKBACK_MS, Plan, plan
from monitor.rules.engine import RuleStatus
from monitor.rules.graph import Comparison, comparisons_of
from monitor.rules.transition import Alert
from monitor.samples import NAME, Labels, label
from monitor.selector import Matcher, Storage

T = TypeVar("T")

_MAX_POINTS = 11_000
_TRUNCATED = "results truncated due to limit"


def routes(node: Node) -> list[Route]:
    """The routes of `/api/v1`."""

    async def query(request: Request) -> Response:
        found = await parameters(request)
        at_ms = parse_time_ms(found["time"][0], "time") if any(found.get("time", ())) else node.clock.now_ms()
        planned, limit = _plan(found), _limit(found)

        def work(storage: Storage, limits: Limits) -> tuple[msgspec.Raw, bool]:
            result = instant(planned, storage, at_ms, limits)
            cut = 0 < limit < max(len(result.vector), len(result.matrix))
            if cut:
                result = replace(result, vector=result.vector[:limit], matrix=result.matrix[:limit])
            return msgspec.Raw(msgspec.json.encode(_result_json(result, at_ms))), cut

        answer = await _evaluated(node.queries.run(planned, at_ms, at_ms, work))
        data, cut = answer.value
        return success(data, [*answer.warnings, *([_TRUNCATED] if cut else [])])

    async def query_range(request: Request) -> Response:
        found = await parameters(request)
        start_ms = parse_time_ms(_one(found, "start"), "start")
        end_ms = parse_time_ms(_one(found, "end"), "end")
        step_ms = parse_step_ms(_one(found, "step"), "step")
        if end_ms < start_ms:
            raise BadRequest('invalid parameter "end": end timestamp must not be before start time')
        if step_ms <= 0:
            raise BadRequest(
                'invalid parameter "step": zero or negative query resolution step widths are not accepted. '
                "Try a positive integer"
            )
        if (end_ms - start_ms) // step_ms > _MAX_POINTS:
            raise BadRequest(
                "exceeded maximum resolution of 11,000 points per timeseries. "
                "Try decreasing the query resolution (?step=XX)"
            )
        planned, limit = _plan(found), _limit(found)

        def work(storage: Storage, limits: Limits) -> tuple[msgspec.Raw, bool]:
            # Text is made where the query is evaluated: of a million points that takes seconds.
            rows = range_query(planned, storage, start_ms, end_ms, step_ms, limits)
            cut = 0 < limit < len(rows)
            return msgspec.Raw(msgspec.json.encode(_matrix_json(rows[:limit] if cut else rows))), cut

        steps = (end_ms - start_ms) // step_ms + 1
        answer = await _evaluated(node.queries.run(planned, start_ms, end_ms, work, steps))
        data, cut = answer.value
        return success({"resultType": "matrix", "result": data}, [*answer.warnings, *([_TRUNCATED] if cut else [])])

    async def series(request: Request) -> Response:
        found = await parameters(request)
        if not found.get("match[]"):
            raise BadRequest("no match[] parameter provided")
        answer = await _matching(node, found)
        return _limited(found, [dict(one) for one in answer.value], answer.warnings)

    async def labels(request: Request) -> Response:
        found = await parameters(request)
        answer = await _matching(node, found)
        return _limited(found, sorted({key for one in answer.value for key, _ in one}), answer.warnings)

    async def label_values(request: Request) -> Response:
        found = await parameters(request)
        name = request.path_params["name"]
        answer = await _matching(node, found)
        return _limited(found, sorted({v for one in answer.value if (v := label(one, name))}), answer.warnings)

    async def metadata(request: Request) -> Response:
        wanted = request.query_params.get("metric")
        families = node.head.families.values()
        return success(
            {
                family.name: [{"type": family.kind, "help": family.help, "unit": ""}]
                for family in families
                if not wanted or family.name == wanted
            }
        )

    async def rules(request: Request) -> Response:
        return success({"groups": rules_json(node)})

    async def alerts(request: Request) -> Response:
        return success({"alerts": alerts_json(node)})

    async def buildinfo(request: Request) -> Response:
        # Grafana reads the version to know what it may ask: the semantics here are Prometheus 3's.
        return success(
            {
                "version": "3.5.0",
                "revision": f"gpumon {__version__}",
                "branch": "",
                "buildUser": "",
                "buildDate": "",
                "goVersion": "",
            }
        )

    both = ["GET", "POST"]
    return [
        Route("/api/v1/query", query, methods=both),
        Route("/api/v1/query_range", query_range, methods=both),
        Route("/api/v1/series", series, methods=both),
        Route("/api/v1/labels", labels, methods=both),
        Route("/api/v1/label/{name}/values", label_values),
        Route("/api/v1/metadata", metadata),
        Route("/api/v1/rules", rules),
        Route("/api/v1/alerts", alerts),
        Route("/api/v1/status/buildinfo", buildinfo),
    ]


def alerts_json(node: Node) -> list[dict[str, Any]]:
    """Active alerts with Prometheus' fields, their fingerprint, and what keeps people from being told of them."""
    now_ms = node.clock.now_ms()
    found = []
    for alert in node.engine.alerts():
        body = _alert_json(alert)
        if node.notifier is not None and alert.state == "firing":
            kept = node.notifier.suppression(alert.labels, now_ms)
            if kept.silenced_by:
                body["silencedBy"] = kept.silenced_by
            if kept.inhibited_by:
                body["inhibitedBy"] = kept.inhibited_by
        found.append(body)
    return found


def rules_json(node: Node) -> list[dict[str, Any]]:
    """The rule groups with Prometheus' fields. Two are our own: ``neverMatched``, nothing ever had the rule's series;
    and of an alerting rule ``graph``, what it compares with what, the leftmost comparison first."""
    return [
        {
            "name": group.name,
            "file": group.path,
            "interval": seconds(group.interval_ms),
            "limit": group.limit,
            "rules": [_rule_json(status) for status in group.rules],
            "evaluationTime": group.duration_seconds,
            "lastEvaluation": rfc3339(group.last_evaluation_ms or 0),
        }
        for group in node.engine.groups_status()
    ]


def _rule_json(status: RuleStatus) -> dict[str, Any]:
    rule = status.rule
    body: dict[str, Any] = {
        "name": rule.name,
        "query": rule.expr,
        "labels": {name: template.text for name, template in rule.labels.items()},
        "health": status.health,
        "lastError": status.last_error,
        "evaluationTime": status.duration_seconds,
        "lastEvaluation": rfc3339(status.last_evaluation_ms or 0),
        "neverMatched": status.never_matched,
        "type": "recording" if rule.records else "alerting",
    }
    if not rule.records:
        body |= {
            "state": status.state,
            "duration": seconds(rule.for_ms),
            "keepFiringFor": seconds(rule.keep_firing_for_ms),
            "annotations": {name: template.text for name, template in rule.annotations.items()},
            "alerts": [_alert_json(alert) for alert in status.alerts],
            "graph": [_comparison_json(one) for one in comparisons_of(rule.expr)],
        }
    return body


def _comparison_json(one: Comparison) -> dict[str, Any]:
    """Value and threshold are PromQL, the threshold a number where it is one. ``on`` or ``ignoring`` are there where
    the two are not paired by all of their labels."""
    body: dict[str, Any] = {"expr": one.expr, "op": one.op, "threshold": one.threshold}
    if one.on is not None:
        body["on"] = one.on
    elif one.ignoring:
        body["ignoring"] = one.ignoring
    return body


def _alert_json(alert: Alert) -> dict[str, Any]:
    return {
        "labels": dict(alert.labels),
        "annotations": dict(alert.annotations),
        "state": alert.state,
        "activeAt": rfc3339(alert.active_at_ms),
        "value": go_exponent(alert.value),
        "fingerprint": alert.key,
    }


def go_exponent(value: float) -> str:
    """An alert's value as Prometheus writes it: ``9.1e+01``."""
    text = go_float(value)
    if text[-1].isalpha() or "e" in text:
        return text
    mantissa, _, exponent = f"{value:.17e}".partition("e")
    for digits in range(17):
        shorter = f"{value:.{digits}e}"
        if float(shorter) == value:
            mantissa, _, exponent = shorter.partition("e")
            break
    return f"{mantissa}e{exponent}"


def _one(found: dict[str, list[str]], name: str) -> str:
    values = found.get(name)
    if not values or not values[0]:
        raise BadRequest(f'invalid parameter "{name}": it is missing')
    return values[0]


def _plan(found: dict[str, list[str]]) -> Plan:
    lookback = found.get("lookback_delta", [""])[0]
    lookback_ms = parse_step_ms(lookback, "lookback_delta") if lookback else LOOKBACK_MS
    if lookback_ms <= 0:
        raise BadRequest('invalid parameter "lookback_delta": it must be above 0')
    try:
        return plan(_one(found, "query"), lookback_ms=lookback_ms)
    except PromQLError as error:
        raise BadRequest(f'invalid parameter "query": {error}') from None


async def _evaluated(work: Awaitable[T]) -> T:
    try:
        return await work
    except PromQLError as error:
        status = {"bad_data": 400, "execution": 422, "timeout": 503}[error.kind]
        raise BadRequest(str(error), error.kind, status) from None


def _matrix_json(rows: Sequence[tuple[Labels, Sequence[tuple[int, float]]]]) -> list[Any]:
    return [
        {"metric": dict(labels), "values": [[seconds(at), go_float(value)] for at, value in points]}
        for labels, points in rows
    ]


def _result_json(result: Result, at_ms: int) -> dict[str, Any]:
    at = seconds(at_ms)
    value: list[Any]
    match result.type:
        case "vector":
            value = [{"metric": dict(labels), "value": [at, go_float(v)]} for labels, v in result.vector]
        case "matrix":
            value = _matrix_json(result.matrix)
        case "scalar":
            value = [at, go_float(result.scalar)]
        case "string":
            value = [at, result.string]
    return {"resultType": result.type, "result": value}


async def _matching(node: Node, found: dict[str, list[str]]) -> Answer[list[Labels]]:
    """The series that any ``match[]`` selects, with a sample between ``start`` and ``end``, sorted."""
    now_ms = node.clock.now_ms()
    start_ms = (
        parse_time_ms(found["start"][0], "start") if any(found.get("start", ())) else now_ms - node.head.retention_ms
    )
    end_ms = parse_time_ms(found["end"][0], "end") if any(found.get("end", ())) else now_ms
    selectors = [_matchers(text) for text in found.get("match[]", [])] or [[Matcher(NAME, "!=", "")]]
    try:
        return await node.queries.labels(selectors, start_ms - 1, end_ms)
    except TooMuch as error:
        raise BadRequest(f"a regular expression of a matcher {error}", "execution", 422) from None


def _limited(found: dict[str, list[str]], data: list[T], warnings: list[str]) -> Response:
    """A list, cut where ``limit`` says so."""
    limit = _limit(found)
    if limit and len(data) > limit:
        return success(data[:limit], [*warnings, _TRUNCATED])
    return success(data, warnings)


def _limit(found: dict[str, list[str]]) -> int:
    """``limit``; 0 for none."""
    text = found.get("limit", [""])[0]
    if not text:
        return 0
    if not (text.isascii() and text.lstrip("+-").isdigit()):
        raise BadRequest(f'invalid parameter "limit": cannot parse {text[:40]!r} as a number')
    if int(text) < 0:
        raise BadRequest('invalid parameter "limit": limit must be non-negative')
    return int(text)


def _matchers(text: str) -> Sequence[Matcher]:
    try:
        return parse_selector(text)
    except PromQLError as error:
        raise BadRequest(f'invalid parameter "match[]": {error}') from None
