"""Range queries against Prometheus itself: random expressions over blocks that ``promtool`` makes, over HTTP.

promtool's unit tests know instants only. GPUMON_PROMQL_RANGES says how many, GPUMON_PROMQL_SEED with what seed. Blocks
have no staleness markers, so the series have none here.
"""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from monitor.promql.errors import PromQLError
from monitor.promql.evaluate import range_query
from monitor.promql.plan import plan
from monitor.samples import Labels, escape, is_stale, label, labels_of
from monitor.store.head import Head
from tests.live import servers
from tests.live.install_prometheus import prometheus_bin
from tests.promql.generate import COUNT, STEP_MS, Expressions, Made, make_series
from tests.promql.same import APPROXIMATE, CHAOTIC, FORGETFUL, MISPLACED, UNORDERED, same_value

pytestmark = pytest.mark.live

CASES = int(os.environ.get("GPUMON_PROMQL_RANGES", "3000"))
SEED = int(os.environ.get("GPUMON_PROMQL_SEED", "1"))
START_MS = 1_699_992_000_000
"""Two hours begin there: all is in one block."""

TIES = re.compile(r"\b(topk|bottomk)\b", re.IGNORECASE)
"""Which of equal values they take depends on the order of the series in Prometheus' storage, which is not ours."""

Points = dict[Labels, dict[int, float]]


def without_markers(series: list[Made]) -> list[Made]:
    return [Made(one.labels, tuple(None if v is not None and is_stale(v) else v for v in one.values)) for one in series]


def exposition(series: list[Made]) -> str:
    """The series as OpenMetrics, all of a name together."""
    lines = []
    for name in sorted({label(one.labels, "__name__") for one in series}):
        for one in series:
            if label(one.labels, "__name__") != name:
                continue
            quoted = (f'{json.dumps(key)}="{escape(value)}"' for key, value in one.labels if key != "__name__")
            inside = ",".join((json.dumps(name), *quoted))
            lines += [
                f"{{{inside}}} {_number(value)} {(START_MS + k * STEP_MS) / 1000:.3f}"
                for k, value in enumerate(one.values)
                if value is not None
            ]
    return "\n".join(lines) + "\n# EOF\n"


def _number(value: float) -> str:
    return {"inf": "+Inf", "-inf": "-Inf", "nan": "NaN"}.get(repr(value), repr(value))


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Head]]:
    """A Prometheus that holds the series, and a store that does."""
    folder = tmp_path_factory.mktemp("ranges")
    series = without_markers(make_series(random.Random(SEED)))
    file = folder / "series.om"
    file.write_text(exposition(series))
    promtool = prometheus_bin() / "promtool"
    ran = subprocess.run(
        [promtool, "tsdb", "create-blocks-from", "openmetrics", file, folder / "blocks"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    config = folder / "prometheus.yml"
    config.write_text("{}")
    port = servers.free_port()
    command: list[str | Path] = [
        prometheus_bin() / "prometheus", f"--config.file={config}", f"--storage.tsdb.path={folder / 'blocks'}",
        f"--web.listen-address=127.0.0.1:{port}", "--storage.tsdb.retention.time=100y",
    ]  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    store = Head("j", "i", retention_ms=2**52)
    for one in series:
        for k, value in enumerate(one.values):
            if value is not None:
                store.append(one.labels, START_MS + k * STEP_MS, value)
    with servers.running("prometheus", command, folder, lambda: servers.get(f"{url}/-/ready").status_code == 200):
        yield url, store


def asked(client: httpx.Client, expr: str, start_ms: int, end_ms: int, step_ms: int) -> Points | str:
    form = {"query": expr, "start": f"{start_ms / 1000:.3f}", "end": f"{end_ms / 1000:.3f}", "step": f"{step_ms}ms"}
    body = client.post("/api/v1/query_range", data=form).json()
    if body["status"] != "success":
        return str(body["error"])
    return {
        labels_of(one["metric"]): {round(t * 1000): float(v) for t, v in one["values"]}
        for one in body["data"]["result"]
    }


def ours(store: Head, expr: str, start_ms: int, end_ms: int, step_ms: int) -> Points | str:
    try:
        return {labels: dict(points) for labels, points in range_query(plan(expr), store, start_ms, end_ms, step_ms)}
    except PromQLError as error:
        return str(error)


def same(a: Points | str, b: Points | str, expr: str) -> bool:
    if isinstance(a, str) or isinstance(b, str):
        return isinstance(a, str) and isinstance(b, str)
    return a.keys() == b.keys() and all(
        a[key].keys() == b[key].keys() and all(same_value(a[key][t], b[key][t], expr) for t in a[key]) for key in a
    )


def test_range_queries_give_what_prometheus_gives(both: tuple[str, Head], capsys: pytest.CaptureFixture[str]) -> None:
    url, store = both
    rng = random.Random(SEED)
    make = Expressions(rng)
    differences = []
    points = failed = exact = answered = ties = 0
    with httpx.Client(base_url=url, trust_env=False, timeout=60) as client:
        for _ in range(CASES):
            # The series begin in 2023: what is bound to the first minutes of 1970 is bound to theirs.
            expr = make.any(rng.choice((1, 2, 2, 3)))
            for time in ("300", "617.5"):
                expr = expr.replace(f"@ {time}", f"@ {START_MS / 1000 + float(time)}")
            start = START_MS + rng.choice((0, rng.randrange(-400_000, COUNT * STEP_MS)))
            step = rng.choice((1_000, 7_000, 15_000, 60_000, 61_234, rng.randrange(1, 400_000)))
            query = (expr, start, start + rng.choice((0, 30, 200)) * step + rng.randrange(step), step)
            theirs, mine = asked(client, *query), ours(store, *query)
            if FORGETFUL.search(expr) or MISPLACED.search(expr):
                continue
            if not same(theirs, mine, expr) and TIES.search(expr):
                ties += 1
            elif not same(theirs, mine, expr):
                differences.append(f"{query}\n  Prometheus: {str(theirs)[:400]}\n  gpumon:     {str(mine)[:400]}")
            failed += isinstance(theirs, str)
            answered += not isinstance(theirs, str) and bool(theirs)
            points += 0 if isinstance(theirs, str) else sum(map(len, theirs.values()))
            exact += not any(pattern.search(expr) for pattern in (APPROXIMATE, CHAOTIC, UNORDERED))
    with capsys.disabled():
        print(
            f"\nseed {SEED}: {CASES:,} range queries, {answered:,} with {points:,} points, {failed:,} errors in both, "
            f"{exact:,} compared to the last bit; differences: {len(differences)}, and {ties} of topk and bottomk"
        )
    assert not differences, f"{len(differences)} of {CASES} differ:\n" + "\n".join(differences[:20])
    assert answered > CASES / 4
    assert ties <= CASES / 500
