"""Of what `gpumon export` writes promtool makes blocks, and from them a real Prometheus answers as the source does."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.daemons import RunningDaemon, daemon
from tests.live.install_prometheus import prometheus_bin
from tests.live.servers import free_port, get, running, wait_for

pytestmark = pytest.mark.live

PAST = 900
QUERIES = (
    "sum by (gpu) (DCGM_FI_DEV_GPU_TEMP)",
    "rate(vllm:generation_tokens_total[1m])",
    "histogram_quantile(0.95, sum by (le) (rate(vllm:time_to_first_token_seconds_bucket[2m])))",
    "increase(vllm:request_success_total[5m]) > 0",
    "max_over_time(DCGM_FI_DEV_POWER_USAGE[3m])",
    "avg_over_time(node_memory_MemAvailable_bytes[5m])",
    "topk(3, DCGM_FI_DEV_FB_USED)",
    "count({__name__=~'gpumon_.+'}) by (__name__)",
    "deriv(DCGM_FI_DEV_GPU_TEMP[2m])",
    "DCGM_FI_DEV_SM_CLOCK offset 1m",
)


def export(url: str, output: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "monitor", "export", "--url", url, "-o", str(output), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


@contextmanager
def prometheus_over(file: Path, folder: Path) -> Iterator[str]:
    """A Prometheus that has what ``file`` holds, and scrapes nothing."""
    bin = prometheus_bin()
    data = folder / "data"
    made = subprocess.run(
        [bin / "promtool", "tsdb", "create-blocks-from", "openmetrics", file, data],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert made.returncode == 0, made.stdout + made.stderr
    config = folder / "prometheus.yml"
    config.write_text("global: {scrape_interval: 1m}\n")
    port = free_port()
    command: list[str | Path] = [
        bin / "prometheus", f"--config.file={config}", f"--storage.tsdb.path={data}",
        f"--web.listen-address=127.0.0.1:{port}", "--storage.tsdb.retention.time=10y",
    ]  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    with running("exported", command, folder, lambda: get(f"{url}/-/ready").status_code == 200):
        yield url


def ask_daemon(one: RunningDaemon, path: str, **fields: str) -> Any:
    return one.get(path, **fields)["data"]


def ask(url: str, path: str, **fields: str) -> Any:
    answer = httpx.post(f"{url}{path}", data=fields, timeout=60, trust_env=False)
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


def close(left: Any, right: Any) -> bool:
    """Equal, but for the last digits that the order of additions may change."""
    if isinstance(left, str) and isinstance(right, str):
        return left == right or float(left) == pytest.approx(float(right), rel=1e-9, nan_ok=True)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(close, left, right))
    return bool(left == right)


def rows(result: Any) -> list[Any]:
    return sorted(([sorted(row["metric"].items()), row.get("value"), row.get("values")] for row in result), key=repr)


def test_a_prometheus_over_the_export_answers_as_the_daemon_does(tmp_path: Path) -> None:
    with daemon(tmp_path, "--simulate", "--past", str(PAST)) as one:
        url = f"unix:{one.socket}"
        wait_for("readings", lambda: one.query("count(DCGM_FI_DEV_GPU_TEMP) == 8"), 60)
        wait_for("engines", lambda: one.query("count(vllm:num_requests_running) > 0"), 60)
        end = int(one.query("vector(time())")[0][1]) - 1
        start = end - 600
        done = export(url, tmp_path / "all.om", "--start", str(start), "--end", str(end))
        assert done.returncode == 0, done.stderr
        text = (tmp_path / "all.om").read_text()
        assert text.endswith("# EOF\n")
        assert "# TYPE vllm:generation_tokens counter\n" in text
        with prometheus_over(tmp_path / "all.om", tmp_path) as prometheus:
            names = ask_daemon(one, "/api/v1/label/__name__/values")
            assert len(names) > 150
            different = []
            compared = 0
            for name in names:
                window = f'{{__name__="{name}"}}[{end - start}s]'
                left = rows(ask_daemon(one, "/api/v1/query", query=window, time=str(end))["result"])
                right = rows(ask(prometheus, "/api/v1/query", query=window, time=str(end))["result"])
                compared += sum(len(row[2]) for row in left)
                if left != right:
                    different.append(name)
            assert not different
            assert compared > 50_000
            for query in QUERIES:
                fields = {"query": query, "start": str(start + 300), "end": str(end), "step": "15"}
                left = rows(ask_daemon(one, "/api/v1/query_range", **fields)["result"])
                right = rows(ask(prometheus, "/api/v1/query_range", **fields)["result"])
                assert left, query
                assert close(left, right), query
            for query in (QUERIES[6], "1 / 0", f"{QUERIES[0]}[1m:15s]"):
                command = [sys.executable, "-m", "monitor", "query", "--url", prometheus, "--json", query]
                asked = subprocess.run(
                    [*command, "--at", str(end)], capture_output=True, text=True, timeout=60, check=True
                )
                assert json.loads(asked.stdout) == ask(prometheus, "/api/v1/query", query=query, time=str(end))
            # And out of a Prometheus comes what went in.
            again = export(prometheus, tmp_path / "again.om", "--start", str(start), "--end", str(end))
            assert again.returncode == 0, again.stderr
            samples = {line for line in text.splitlines() if line[0] != "#"}
            assert {line for line in (tmp_path / "again.om").read_text().splitlines() if line[0] != "#"} == samples
            span = ("--start", str(start), "--end", str(end))
            some = export(prometheus, tmp_path / "some.csv", "--format=csv", *span, 'DCGM_FI_DEV_GPU_TEMP{gpu="3"}')
            assert some.returncode == 0, some.stderr
            lines = (tmp_path / "some.csv").read_text().splitlines()
            assert lines[0] == "time,value,name,labels"
            assert len(lines) - 1 == sum("GPU_TEMP{" in line and 'gpu="3"' in line for line in samples)
