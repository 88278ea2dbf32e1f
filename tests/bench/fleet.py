"""How fast the fleet screen is: a real Prometheus with a hundred nodes of eight GPUs, and the feed that the terminal
interface draws from.

One simulated daemon plays all nodes, and relabelling makes their labels unlike. The hour before is written beforehand,
of what is asked over a range, so that graphs have their points. The rules are loaded and evaluated, as they would be.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, aclosing, contextmanager
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

from monitor.client import fleet_queries
from monitor.client.api import Client
from monitor.client.fleet import RANGE_SECONDS, Fleet
from monitor.client.snapshot import Snapshot
from monitor.rules.rule_file import default_rules_path
from monitor.tui.server import live_feed
from tests.bench.weigh import line
from tests.live import install_prometheus, servers

NODES = 100
LOOKS = 8
_STEP = 15
_PAST = 3600
_KEPT = (
    "DCGM_FI_DEV_GPU_UTIL",
    "DCGM_FI_DEV_POWER_USAGE",
    "DCGM_FI_DEV_FB_USED",
    "vllm:generation_tokens_total",
    "vllm:num_requests_running",
    "node_load1",
    "gpumon_build_info",
)
"""What is asked over a range."""
_RELABEL = [
    {"source_labels": ["instance"], "regex": "(.+):9519", "target_label": "Hostname", "replacement": "$1"},
    {
        "source_labels": ["instance", "UUID"],
        "regex": "gpu-(.+):9519;GPU-...(.+)",
        "target_label": "UUID",
        "replacement": "GPU-$1$2",
    },
    {
        "source_labels": ["instance", "server"],
        "regex": "(.+):9519;.+:(.+)",
        "target_label": "server",
        "replacement": "$1:$2",
    },
]


def name_of(number: int) -> str:
    """Of a node."""
    return f"gpu-{number:03d}"


def _relabelled(labels: dict[str, str], node: str) -> dict[str, str]:
    out = {**labels, "instance": f"{node}:9519", "job": "gpumon", "Hostname": node}
    if "UUID" in labels:
        out["UUID"] = f"GPU-{node.removeprefix('gpu-')}{labels['UUID'][7:]}"
    if "server" in labels:
        out["server"] = f"{node}:{labels['server'].rpartition(':')[2]}"
    return out


def _write_past(node: servers.Daemon, nodes: int, folder: Path, until: int) -> None:
    """Blocks of the hour before, in a new folder."""
    samples = [
        one
        for family in text_string_to_metric_families(servers.get(f"{node.url}/metrics").text)
        for one in family.samples
        if one.name in _KEPT
    ]
    text = folder.with_suffix(".om")
    with text.open("w") as out:
        for name in _KEPT:
            out.write(f"# TYPE {name.removesuffix('_total')} {'counter' if name.endswith('_total') else 'gauge'}\n")
            for number in range(nodes):
                for one in samples:
                    if one.name != name:
                        continue
                    labels = _relabelled(one.labels, name_of(number))
                    written = ",".join(f"{key}={json.dumps(value)}" for key, value in labels.items())
                    for at in range(until - _PAST, until, _STEP):
                        lower = (until - at) * 20 if name.endswith("_total") else (at // _STEP + number) % 7
                        out.write(f"{name}{{{written}}} {max(0.0, one.value - lower)} {at}\n")
        out.write("# EOF\n")
    tool = install_prometheus.prometheus_bin() / "promtool"
    command: list[str | Path] = [tool, "tsdb", "create-blocks-from", "openmetrics", text, folder]
    subprocess.run(command, check=True, capture_output=True)
    text.unlink()


@contextmanager
def fleet_of(
    folder: Path, nodes: int = NODES, *, rules: bool = True, past: bool = True
) -> Iterator[servers.Prometheus]:
    """A Prometheus of so many nodes, with an hour of past, that has scraped each twice."""
    with ExitStack() as stack:
        node = stack.enter_context(servers.daemon(folder, {}, "--simulate", name="node1"))
        servers.wait_for("a vLLM", lambda: node.query("vllm:num_requests_running"), 60, node.process)
        port = servers.free_port()
        targets = [{"targets": [node.instance], "labels": {"instance": f"{name_of(n)}:9519"}} for n in range(nodes)]
        config = {
            "global": {"scrape_interval": f"{_STEP}s", "evaluation_interval": f"{_STEP}s"},
            "rule_files": [str(default_rules_path())] if rules else [],
            "scrape_configs": [
                {"job_name": "gpumon", "static_configs": targets, "metric_relabel_configs": _RELABEL},
            ],
        }
        file = folder / "fleet.json"
        file.write_text(json.dumps(config))
        data = folder / "fleet-data"
        if past:
            _write_past(node, nodes, data, int(time.time()))
        command: list[str | Path] = [
            install_prometheus.prometheus_bin() / "prometheus", f"--config.file={file}",
            f"--storage.tsdb.path={data}", f"--web.listen-address=127.0.0.1:{port}",
        ]  # fmt: skip
        url = f"http://127.0.0.1:{port}"
        ready = f"{url}/-/ready"
        process = stack.enter_context(
            servers.running("fleet", command, folder, lambda: servers.get(ready).status_code == 200)
        )
        found = servers.Prometheus(url, process)
        seen = "count(count_over_time(node_load5[45s]) >= 2)"  # of what the past has not
        servers.wait_for("two scrapes of every node", lambda: list(found.query(seen).values()) == [str(nodes)], 180)
        yield found


def _own(prometheus: servers.Prometheus, name: str, **prefixes: str) -> float:
    """The sum of Prometheus' own series of this name whose labels begin so."""
    return sum(
        one.value
        for family in text_string_to_metric_families(servers.get(f"{prometheus.url}/metrics").text)
        for one in family.samples
        if one.name == name and all(one.labels[key].startswith(prefix) for key, prefix in prefixes.items())
    )


def _counted(prometheus: servers.Prometheus) -> tuple[float, float]:
    """Requests that its API has had, and samples that it has read for queries, those of rules too."""
    asked = _own(prometheus, "prometheus_http_requests_total", handler="/api/v1/")
    return asked, _own(prometheus, "prometheus_engine_query_samples_total")


async def first_picture(url: str) -> tuple[float, Snapshot]:
    """Seconds from nothing until the terminal interface's feed gives a fleet, and the fleet."""
    begun = time.perf_counter()
    async with aclosing(live_feed(url)()) as events:  # type: ignore[type-var]
        async for event in events:
            if isinstance(event, Snapshot):
                return time.perf_counter() - begun, event
    raise AssertionError("the feed ended")


async def later_pictures(url: str, count: int) -> list[float]:
    """Seconds for each picture after the first, a second between them."""
    found = []
    async with Client(url) as client:
        seen = Fleet(client)
        for number in range(count + 1):
            begun = time.perf_counter()
            await seen.look(round(time.time() * 1000))
            if number:
                found.append(time.perf_counter() - begun)
            await asyncio.sleep(1)
    return found


def alone(url: str) -> dict[str, float]:
    """Seconds that the same queries take one after the other, with nothing made of the answers."""
    found = {}
    with httpx.Client(base_url=url, trust_env=False, timeout=60) as http:
        now = time.time()
        http.get("/-/ready")
        asked: dict[str, tuple[str, int | None, int]] = {"members": (fleet_queries.MEMBERS, None, 0)}
        for one in fleet_queries.fleet(window="2m", range_seconds=RANGE_SECONDS, step_seconds=_STEP):
            asked[one.id] = (one.expr, one.range_seconds, one.step_seconds or 0)
        for id, (expr, range_seconds, step) in asked.items():
            begun = time.perf_counter()
            if range_seconds is None:
                answer = http.post("/api/v1/query", data={"query": expr, "time": str(now)})
            else:
                span = {"start": str(now - range_seconds), "end": str(now), "step": str(step)}
                answer = http.post("/api/v1/query_range", data={"query": expr, **span})
            answer.raise_for_status()
            found[id] = time.perf_counter() - begun
    return found


def fleet(seconds: float) -> None:
    """The fleet screen on a Prometheus of 100 nodes."""
    with tempfile.TemporaryDirectory() as text, fleet_of(Path(text)) as prometheus:
        series = _own(prometheus, "prometheus_tsdb_head_series")
        before = _counted(prometheus)
        firsts = []
        for _ in range(3):
            took, picture = asyncio.run(first_picture(prometheus.url))
            firsts.append(took)
        queries, samples = (int(now - then) // 3 for now, then in zip(_counted(prometheus), before, strict=True))
        gpus = sum(len(one.utilization) for one in picture.fleet)
        peer = alone(prometheus.url)
        what = f"fleet screen, {len(picture.fleet)} nodes, {gpus} GPUs, {series:,.0f} series: first picture"
        slowest = sorted(peer, key=lambda id: -peer[id])[:3]
        line(
            what,
            f"{statistics.median(firsts):.2f} s",
            f"Prometheus, the same queries in turn {sum(peer.values()):.2f} s",
            "1 s",
        )
        line("  the worst of three", f"{max(firsts):.2f} s")
        line("  queries, and samples read (with those of rules meanwhile)", f"{queries}, {samples:,}")
        line("  the slowest queries", ", ".join(f"{id} {peer[id] * 1000:.0f} ms" for id in slowest))
        before = _counted(prometheus)
        later = asyncio.run(later_pictures(prometheus.url, LOOKS))
        queries = int(_counted(prometheus)[0] - before[0]) // (LOOKS + 1)
        line(
            "  a later picture, the median of eight",
            f"{statistics.median(later):.2f} s",
            f"worst {max(later):.2f} s; {queries} queries",
            "1 s",
        )
