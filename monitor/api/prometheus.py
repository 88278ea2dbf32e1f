"""`/api/v1`: Prometheus' HTTP API, as far as Grafana, people and our own client use it."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from monitor.api import prometheus_rules, prometheus_status
from monitor.api.go_values import LEAST, MOST, Moment, parse_duration_ns, parse_whole, unescaped_label
from monitor.api.http import (
    BadRequest,
    first,
    go_float,
    optional_time,
    parameters,
    parse_step_ns,
    parse_time,
    seconds,
    success,
)
from monitor.api.node import Node
from monitor.api.queries import QUERY_SECONDS, Answer
from monitor.api.selectors import error_text, read_matchers
from monitor.linear_regex import TooMuch
from monitor.promql.errors import Limits, PromQLError
from monitor.promql.evaluate import Result, instant, range_query
from monitor.promql.plan import LOOKBACK_MS, Plan, plan
from monitor.promql.tree import DOCUMENTED
from monitor.records import replace
from monitor.samples import NAME, Labels, label
from monitor.selector import Matcher, Storage

T = TypeVar("T")

_MAX_POINTS = 11_000
_MOST_MATCHES = 100
"""Selectors of one request: each is a search of its own."""
_TRUNCATED = "results truncated due to limit"


def routes(node: Node) -> list[Route]:
    """The routes of `/api/v1`."""

    async def query(request: Request) -> Response:
        found = await parameters(request)
        limit = _limit(found)
        at_ms = optional_time(found, "time", _moment(node.clock.now_ms())).query_ms
        timeout = _timeout(found)
        planned = _plan(found)

        def work(storage: Storage, limits: Limits) -> tuple[msgspec.Raw, bool]:
            result = instant(planned, storage, at_ms, limits)
            cut = 0 < limit < max(len(result.vector), len(result.matrix))
            if cut:
                result = replace(result, vector=result.vector[:limit], matrix=result.matrix[:limit])
            return msgspec.Raw(msgspec.json.encode(_result_json(result, at_ms))), cut

        answer = await _evaluated(node.queries.run(planned, at_ms, at_ms, work, seconds=timeout))
        data, cut = answer.value
        return success(data, [*answer.warnings, *([_TRUNCATED] if cut else [])])

    async def query_range(request: Request) -> Response:
        found = await parameters(request)
        limit = _limit(found)
        start, end = parse_time(first(found, "start"), "start"), parse_time(first(found, "end"), "end")
        if end.before(start):
            raise BadRequest('invalid parameter "end": end timestamp must not be before start time')
        step_ns = parse_step_ns(first(found, "step"), "step")
        if step_ns <= 0:
            raise BadRequest(
                'invalid parameter "step": zero or negative query resolution step widths are not accepted. '
                "Try a positive integer"
            )
        if end.since(start) // step_ns > _MAX_POINTS:
            raise BadRequest(
                "exceeded maximum resolution of 11,000 points per timeseries. "
                "Try decreasing the query resolution (?step=XX)"
            )
        timeout = _timeout(found)
        planned = _plan(found)
        if planned.type not in ("scalar", "vector"):
            raise BadRequest(
                f'invalid parameter "query": invalid expression type "{DOCUMENTED[planned.type]}" for range query, '
                "must be Scalar or instant Vector"
            )
        start_ms, end_ms, step_ms = start.query_ms, end.query_ms, step_ns // 1_000_000
        if step_ms == 0:
            raise BadRequest('invalid parameter "step": a step has at least a millisecond')

        def work(storage: Storage, limits: Limits) -> tuple[msgspec.Raw, bool]:
            # Text is made where the query is evaluated: of a million points that takes seconds.
            rows = range_query(planned, storage, start_ms, end_ms, step_ms, limits)
            cut = 0 < limit < len(rows)
            return msgspec.Raw(msgspec.json.encode(_matrix_json(rows[:limit] if cut else rows))), cut

        steps = max(0, (end_ms - start_ms) // step_ms + 1)
        answer = await _evaluated(node.queries.run(planned, start_ms, end_ms, work, steps, timeout))
        data, cut = answer.value
        return success({"resultType": "matrix", "result": data}, [*answer.warnings, *([_TRUNCATED] if cut else [])])

    async def query_exemplars(request: Request) -> Response:
        # There are none: neither the driver nor vLLM makes any.
        found = await parameters(request)
        if optional_time(found, "end", MOST).before(optional_time(found, "start", LEAST)):
            raise BadRequest("end timestamp must not be before start timestamp")
        return success([]) if _plan(found, "").selectors else Response(status_code=204)

    async def series(request: Request) -> Response:
        found = await parameters(request)
        if not found.get("match[]"):
            raise BadRequest("no match[] parameter provided")
        limit = _limit(found)
        answer = await _matching(node, found, 'invalid parameter "match[]": ')
        return _limited(limit, [dict(one) for one in answer.value], answer.warnings)

    async def labels(request: Request) -> Response:
        found = await parameters(request)
        limit = _limit(found)
        answer = await _matching(node, found)
        return _limited(limit, sorted({key for one in answer.value for key, _ in one}), answer.warnings)

    async def label_values(request: Request) -> Response:
        found = await parameters(request)
        name = unescaped_label(request.path_params["name"])
        limit = _limit(found)
        answer = await _matching(node, found)
        return _limited(limit, sorted({v for one in answer.value if (v := label(one, name))}), answer.warnings)

    both = ["GET", "POST"]
    found = [
        Route("/api/v1/query", query, methods=both),
        Route("/api/v1/query_range", query_range, methods=both),
        Route("/api/v1/query_exemplars", query_exemplars, methods=both),
        Route("/api/v1/series", series, methods=both),
        Route("/api/v1/labels", labels, methods=both),
        Route("/api/v1/label/{name}/values", label_values),
        *prometheus_rules.routes(node),
        *prometheus_status.routes(node),
    ]
    for route in found:
        if route.methods is not None:
            route.methods.discard("HEAD")  # as Prometheus has none
    return found


def _plan(found: dict[str, list[str]], where: str = 'invalid parameter "query": ') -> Plan:
    text, lookback = first(found, "query"), first(found, "lookback_delta")
    try:
        lookback_ns = parse_duration_ns(lookback) if lookback else 0
    except ValueError as error:
        raise BadRequest(f"error parsing lookback delta duration: {error}") from None
    try:
        return plan(text, lookback_ms=lookback_ns // 1_000_000 if lookback_ns > 0 else LOOKBACK_MS)
    except PromQLError as error:
        raise BadRequest(f"{where}{error_text(error, text)}") from None


def _timeout(found: dict[str, list[str]]) -> float:
    """How long a query may take, in seconds."""
    return parse_step_ns(text, "timeout") / 1e9 if (text := first(found, "timeout")) else QUERY_SECONDS


def _moment(ms: int) -> Moment:
    return Moment.of(ms // 1000, ms % 1000 * 1_000_000)


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


async def _matching(node: Node, found: dict[str, list[str]], where: str = "") -> Answer[list[Labels]]:
    """The series that any ``match[]`` selects, with a sample between ``start`` and ``end``, sorted. ``where`` stands
    before what is wrong with a selector."""
    now_ms = node.clock.now_ms()
    start_ms = optional_time(found, "start", _moment(now_ms - node.head.retention_ms)).label_ms
    end_ms = optional_time(found, "end", _moment(now_ms)).label_ms
    texts = found.get("match[]", [])
    if len(texts) > _MOST_MATCHES:
        raise BadRequest(f"{where}{len(texts)} match[] are too many: {_MOST_MATCHES} at most")
    selectors = [read_matchers(text, where) for text in texts] or [[Matcher(NAME, "!=", "")]]
    try:
        return await node.queries.labels(selectors, start_ms - 1, end_ms)
    except PromQLError as error:
        raise BadRequest(str(error), error.kind, 503) from None
    except TooMuch as error:
        raise BadRequest(f"a regular expression of a matcher {error}", "execution", 422) from None


def _limited(limit: int, data: list[T], warnings: list[str]) -> Response:
    """A list, cut where ``limit`` says so."""
    if limit and len(data) > limit:
        return success(data[:limit], [*warnings, _TRUNCATED])
    return success(data, warnings)


def _limit(found: dict[str, list[str]]) -> int:
    """``limit``; 0 for none."""
    text = first(found, "limit")
    try:
        limit = parse_whole(text) if text else 0
    except ValueError as error:
        raise BadRequest(f'invalid parameter "limit": {error}') from None
    if limit < 0:
        raise BadRequest('invalid parameter "limit": limit must be non-negative')
    return limit
