"""What Prometheus' API tells of the server itself: status, targets, Alertmanagers, metadata.

A daemon scrapes itself: its sources are its targets. What only a Prometheus has, its Go, its WAL, is left out.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from monitor import __version__
from monitor.api.go_values import parse_whole
from monitor.api.http import BadRequest, first, parameters, rfc3339, success
from monitor.api.node import Node, Status
from monitor.durations import format_duration
from monitor.samples import NAME, label
from monitor.selector import Matcher
from monitor.store.series import HeadSeries

_TOP = 10
_MOST = 10_000
_HEALTH = {True: "up", False: "down"}


def routes(node: Node) -> list[Route]:
    """The routes."""

    async def metadata(request: Request) -> Response:
        found = await parameters(request)
        limit, each = _number(found, "limit"), _number(found, "limit_per_metric")
        wanted = first(found, "metric")
        chosen = [one for one in node.head.families.values() if not wanted or one.name == wanted]
        if limit is not None and limit >= 0:
            chosen = chosen[:limit]
        if each is not None and each < 0:
            each = None
        return success({one.name: [{"type": one.kind, "help": one.help, "unit": ""}][: each or None] for one in chosen})

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

    async def runtimeinfo(request: Request) -> Response:
        return success(
            {
                "startTime": rfc3339(node.began_ms),
                "serverTime": rfc3339(node.clock.now_ms()),
                "hostname": node.config.hostname,
                "storageRetention": _retention(node),
            }
        )

    async def flags(request: Request) -> Response:
        listen = node.config.api.listen
        found = {"storage.tsdb.retention.time": _retention(node)}
        if listen is not None:
            host = f"[{listen[0]}]" if ":" in listen[0] else listen[0]
            found["web.listen-address"] = f"{host}:{listen[1]}"
        return success(found)

    async def config(request: Request) -> Response:
        # JSON is YAML. Nothing of gpumon.yaml is told but what a Prometheus has by the same name.
        lines = [f"evaluation_interval: {format_duration(node.config.evaluation_interval_ms)}"]
        if node.config.external_labels:
            lines.append(f"external_labels: {json.dumps(dict(node.config.external_labels), ensure_ascii=False)}")
        return success({"yaml": "global:\n" + "".join(f"  {line}\n" for line in lines)})

    async def tsdb(request: Request) -> Response:
        found = await parameters(request)
        text = first(found, "limit")
        try:
            limit = parse_whole(text) if text else _TOP
        except ValueError:
            limit = 0
        if limit < 1:
            raise BadRequest("limit must be a positive number")
        if limit > _MOST:
            raise BadRequest(f"limit must not exceed {_MOST}")
        return success(_cardinality(node, limit))

    async def targets(request: Request) -> Response:
        found = await parameters(request)
        state, pool = first(found, "state").lower(), first(found, "scrapePool")
        chosen = [one for one in node.statuses if not pool or one.source == pool]
        body: dict[str, Any] = {"activeTargets": [], "droppedTargets": [], "droppedTargetCounts": None}
        if state != "dropped":
            body["activeTargets"] = [_target(node, one) for one in chosen]
        if state != "active":
            body["droppedTargetCounts"] = {one.source: 0 for one in chosen}
        return success(body)

    async def scrape_pools(request: Request) -> Response:
        return success({"scrapePools": sorted({one.source for one in node.statuses})})

    async def alertmanagers(request: Request) -> Response:
        urls = [{"url": f"{one.url}/api/v2/alerts"} for one in node.config.alertmanagers]
        return success({"activeAlertmanagers": urls, "droppedAlertmanagers": []})

    async def notifications(request: Request) -> Response:
        return success([])  # of a server to those who have its pages open: there are none

    return [
        Route("/api/v1/metadata", metadata),
        Route("/api/v1/status/buildinfo", buildinfo),
        Route("/api/v1/status/runtimeinfo", runtimeinfo),
        Route("/api/v1/status/flags", flags),
        Route("/api/v1/status/config", config),
        Route("/api/v1/status/tsdb", tsdb),
        Route("/api/v1/targets", targets),
        Route("/api/v1/scrape_pools", scrape_pools),
        Route("/api/v1/alertmanagers", alertmanagers),
        Route("/api/v1/notifications", notifications),
    ]


def _number(found: dict[str, list[str]], name: str) -> int | None:
    text = first(found, name)
    try:
        return parse_whole(text) if text else None
    except ValueError:
        raise BadRequest(f"{name} must be a number") from None


def _retention(node: Node) -> str:
    return format_duration(node.config.history.retention_ms if node.history is not None else node.head.retention_ms)


def _target(node: Node, status: Status) -> dict[str, Any]:
    """A source as a target. One that there is not on this node is down, and says why."""
    labels = {"instance": node.config.instance, "job": node.config.job}
    if status.server:
        labels["server"] = status.server
    return {
        "discoveredLabels": {},
        "labels": labels,
        "scrapePool": status.source,
        "scrapeUrl": "",
        "globalUrl": "",
        "lastError": "" if status.up else status.reason,
        "lastScrape": rfc3339(status.last_success_ms or 0),
        "lastScrapeDuration": status.poll_seconds or 0,
        "health": _HEALTH[status.up],
        "scrapeInterval": format_duration(round(status.interval * 1000)),
        "scrapeTimeout": format_duration(round(status.interval * 1000)),
    }


def _cardinality(node: Node, limit: int) -> dict[str, Any]:
    """How many series there are in memory, and of what."""
    series = [one for one in node.head.select([Matcher(NAME, "!=", "")]) if isinstance(one, HeadSeries)]
    pairs: Counter[tuple[str, str]] = Counter()
    for one in series:
        pairs.update(one.labels)
    values: Counter[str] = Counter(name for name, _ in pairs)
    size: Counter[str] = Counter()
    for name, value in pairs:
        size[name] += len(value.encode())
    names = Counter(label(one.labels, NAME) for one in series)
    oldest = [at for one in series if (at := one.oldest_ms) is not None]
    newest = [at for one in series if (at := one.newest_ms) is not None]
    return {
        "headStats": {
            "numSeries": len(series),
            "numLabelPairs": len(pairs),
            "minTime": min(oldest, default=0),
            "maxTime": max(newest, default=0),
        },
        "seriesCountByMetricName": _top(names, limit),
        "labelValueCountByLabelName": _top(values, limit),
        "memoryInBytesByLabelName": _top(size, limit),
        "seriesCountByLabelValuePair": _top(Counter({f"{n}={v}": count for (n, v), count in pairs.items()}), limit),
    }


def _top(found: Counter[str], limit: int) -> list[dict[str, Any]]:
    rows = sorted(found.items(), key=lambda pair: (-pair[1], pair[0]))[:limit]
    return [{"name": name, "value": count} for name, count in rows]
