"""A node under a load that no node should have: 64 vLLM servers of 500 series, 16 GPUs, 200 rules and 20 clients, all
at 1 s. What it costs, and what comes late.

    python -m tests.bench [--seconds 60] [--keep] load

Servers and clients are in processes of their own. A beat is a rule that records the time: evaluations that did not take
place are missing in it. How late a scrape is, is the time between two samples of a server less the second.
"""

from __future__ import annotations

import itertools
import json
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.bench import clients as client_process
from tests.bench import marks
from tests.bench.clients import quantiles
from tests.bench.exporters import exporters
from tests.bench.rules import rule_set
from tests.bench.weigh import line, weigh
from tests.live import servers
from tests.nvml_stub.control import Stub, compile_library

BEAT = "bench:beat"
SETTLE_SECONDS = 15.0
_BEATS = {"groups": [{"name": "beat", "interval": "1s", "rules": [{"record": BEAT, "expr": "time()"}]}]}


@dataclass(frozen=True)
class Size:
    """What a daemon has to do."""

    gpus: int = 1
    servers: int = 1
    series: int = 500
    rules: int = 10
    clients: int = 0


@dataclass
class Found:
    """What that cost."""

    cpu: float
    """Per cent of a core, all its processes."""
    memory: float
    """MiB (PSS) at the end, all its processes."""
    evaluation_ms: float
    """All rules, the median of what each group says of its last evaluation."""
    series: int
    beats_due: int
    beats: int
    lateness_ms: Mapping[str, float]
    """Of scrapes, ``quantiles``."""
    down: int
    """Servers that are not read."""
    told: Mapping[str, Any] = field(default_factory=dict)
    """What the clients say."""


@contextmanager
def running(stack: ExitStack, size: Size) -> Iterator[servers.Daemon]:
    """A daemon of that size, settled."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    stub = Stub(folder, compile_library(folder))
    stack.callback(stub.close)
    stub.gpus(size.gpus)
    for gpu in range(size.gpus):
        stub.load(gpu)
    rules, beats = folder / "rules.yaml", folder / "beats.yaml"
    rules.write_text(json.dumps(rule_set(size.rules)))
    beats.write_text(json.dumps(_BEATS))
    urls = stack.enter_context(exporters(size.servers, size.series)) if size.servers else []
    config = {
        "sources": {"vllm": {"servers": urls, "discover": False}},
        "alerting": {"evaluation_interval": "1s", "rule_files": [str(rules), str(beats)]},
    }
    yield stack.enter_context(servers.daemon(folder, config, environment=stub.env()))


def measure(size: Size, seconds: float) -> Found:
    """Weigh a daemon of that size for so long."""
    with ExitStack() as stack:
        daemon = stack.enter_context(running(stack, size))
        time.sleep(SETTLE_SECONDS)
        asking = client_process.start(daemon.url, size.clients, seconds + 5) if size.clients else None
        if asking is not None:
            stack.callback(asking.kill)
        cpu, memory = weigh([daemon.process.pid], seconds)
        took = _evaluation(daemon)
        told = client_process.result(asking) if asking is not None else {}
        window = f"{max(5, int(seconds))}s"
        stamps = _stamps(daemon, f"{BEAT}[{window}]")
        beats = stamps[0] if stamps else []
        gaps = [
            later - earlier - 1.0
            for row in _stamps(daemon, f'{{__name__="vllm:num_requests_running"}}[{window}]')
            for earlier, later in itertools.pairwise(row)
        ]
        (series,) = daemon.query("gpumon_store_series").values()
        down = daemon.query('count(gpumon_source_up{source="vllm"} == 0)')
        return Found(
            cpu,
            memory,
            took * 1000,
            int(float(series)),
            max(5, int(seconds)),
            len(beats),
            quantiles(gaps),
            int(float(next(iter(down.values())))) if down else 0,
            told,
        )


def _evaluation(daemon: servers.Daemon) -> float:
    """Seconds of the last evaluation of all groups."""
    return float(sum(group["evaluationTime"] for group in _api(daemon, "rules")["groups"]))


def _stamps(daemon: servers.Daemon, expr: str) -> list[list[float]]:
    """The times of the samples of each series."""
    return [[float(at) for at, _ in row["values"]] for row in _api(daemon, "query", query=expr)["result"]]


def _api(daemon: servers.Daemon, path: str, **parameters: str) -> Any:
    """The answer's data, however long it takes."""
    with httpx.Client(trust_env=False, timeout=120) as client:
        answer = client.get(f"{daemon.url}/api/v1/{path}", params=parameters)
    answer.raise_for_status()
    return answer.json()["data"]


def _ms(numbers: Mapping[str, float]) -> str:
    return " / ".join(f"{value:.0f}" for value in numbers.values()) + " ms" if numbers else "none"


def rows(found: Found) -> list[tuple[str, str, str, str]]:
    """What was found, what belongs to it, and the aim."""
    out = [
        ("CPU, all processes", f"{found.cpu:.0f} % of a core", "", ""),
        ("memory (PSS)", f"{found.memory:.0f} MiB", f"{found.series:,} series", ""),
        ("evaluating all rules", f"{found.evaluation_ms:.0f} ms", "", ""),
        ("evaluations done, of those due", f"{found.beats} of {found.beats_due}", "", "all"),
        (
            "scrapes late by: p50 / p99 / most",
            _ms(found.lateness_ms),
            f"{found.down} servers down",
            "under 1000 ms, none down",
        ),
    ]
    if found.told:
        told = found.told
        out += [
            ("frames of streams late by: p50 / p99 / most", _ms(told["late_ms"]), f"{told['frames']} frames", ""),
            ("a query of ten minutes: p50 / p99 / most", _ms(told["query_ms"]), f"{told['queries']} queries", ""),
            ("requests that failed", str(told["failed"]), told["failure"][:60], "0"),
        ]
    return out


def words(size: Size) -> str:
    """A size, for a heading."""
    return (
        f"{size.servers} servers of {size.series} series, {size.gpus} GPUs, {size.rules} rules, {size.clients} clients"
    )


def load(seconds: float, *, keep: bool = False) -> None:
    """The whole of it, and a quarter of its servers beside. Raises ``ExceptionGroup`` at the end where one could not be
    measured: the other is printed and kept."""
    written, failed = [marks.measured(f"{seconds:.0f} s each")], []
    for size in (Size(16, 16, 500, 200, 20), Size(16, 64, 500, 200, 20)):
        try:
            found = rows(measure(size, seconds))
        except Exception as error:
            failed.append(error)
            found = [("not measured", type(error).__name__, "", "")]
        line(words(size), "")
        for row in found:
            line(f"    {row[0]}", *row[1:])
        written.append(marks.table((words(size), "", "", "aim"), found))
    if keep:
        marks.write("load", "\n\n".join(written))
    if failed:
        raise ExceptionGroup("load", failed)
