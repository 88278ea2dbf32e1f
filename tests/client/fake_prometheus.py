"""A server of Prometheus' query API that is no daemon. It answers the queries that a test has rows for, and others with
nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import parse_qs

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from monitor.client import fleet_queries
from monitor.client.fleet import RANGE_SECONDS
from tests.client.fake_daemon import FakeDaemon

Rows: TypeAlias = "list[tuple[dict[str, str], float]]"
Past: TypeAlias = "list[tuple[dict[str, str], Callable[[float], bool]]]"
"""Labels, and whether there is a point, which is 1, at a time in epoch seconds."""
NAMES = {one.expr: one.id for one in fleet_queries.fleet(window="2m", range_seconds=RANGE_SECONDS, step_seconds=15)}
NAMES[fleet_queries.MEMBERS] = "members"


class FakePrometheus(FakeDaemon):
    """``rows`` are by the name of a fleet's query, or by a whole expression; ``alerts`` is what fires now."""

    def __init__(self, path: Path, rows: dict[str, Rows]) -> None:
        super().__init__(path)
        self.rows = rows
        self.alert_rows: list[dict[str, Any]] = []
        self.rules: list[dict[str, Any]] = []
        self.past: dict[str, Past] = {}
        """Of range queries, by their expression, in place of ``rows``."""
        self.asked: Counter[str] = Counter()
        self.times: set[str] = set()
        self.app = Starlette(
            routes=[
                Route("/api/v1/query", self._instant, methods=["POST"]),
                Route("/api/v1/query_range", self._matrix, methods=["POST"]),
                Route("/api/v1/alerts", self._firing),
                Route("/api/v1/rules", self._rules),
            ]
        )

    async def _of(self, request: Request) -> tuple[dict[str, str], Rows]:
        fields = {key: value for key, (value,) in parse_qs((await request.body()).decode()).items()}
        name = NAMES.get(fields["query"], fields["query"])
        self.asked[name] += 1
        return fields, self.rows.get(name, [])

    async def _instant(self, request: Request) -> Response:
        fields, rows = await self._of(request)
        self.times.add(fields.get("time", ""))
        at = float(fields.get("time", "0"))
        return _vector([{"metric": labels, "value": [at, str(value)]} for labels, value in rows], "vector")

    async def _matrix(self, request: Request) -> Response:
        fields, rows = await self._of(request)
        start, end, step = (float(fields[name]) for name in ("start", "end", "step"))
        times = [start + number * step for number in range(int((end - start) / step) + 1)]
        past = self.past.get(fields["query"])
        if past is not None:
            return _vector(
                [{"metric": labels, "values": [[t, "1"] for t in times if there(t)]} for labels, there in past],
                "matrix",
            )
        return _vector([{"metric": labels, "values": [[t, str(v)] for t in times]} for labels, v in rows], "matrix")

    async def _firing(self, request: Request) -> Response:
        return JSONResponse({"status": "success", "data": {"alerts": self.alert_rows}})

    async def _rules(self, request: Request) -> Response:
        assert request.query_params["type"] == "alert"
        return JSONResponse({"status": "success", "data": {"groups": [{"name": "g", "rules": self.rules}]}})


def _vector(result: list[dict[str, Any]], kind: str) -> Response:
    return JSONResponse({"status": "success", "data": {"resultType": kind, "result": result}})
