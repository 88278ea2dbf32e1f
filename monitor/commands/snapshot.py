"""``gpumon snapshot``: how the node is, once, as text for people or as JSON for programs.

The JSON is one object. Times are epoch milliseconds, memory and sizes bytes, temperatures °C, power W, clocks MHz,
latencies seconds, rates a second, and every share a ratio of 0 to 1. What is absent is null, never 0.

    {"schema": 1, "now_ms": …,
     "node":    {"target", "hostname", "instance", "version", "mode", "simulated", "speed", "notifies", "heartbeat",
                 "driver", "cuda", "insecure", "fleet", "name", "rules"},
     "gpus":    [{"instance", "index", "uuid", "model", "at_ms", "stale", "utilization", "memory_busy", "memory_used",
                  "memory_total", "temperature", "memory_temperature", "slowdown_temperature", "max_temperature",
                  "memory_max_temperature", "power", "power_limit", "sm_clock", "max_sm_clock", "memory_clock",
                  "pstate", "fan", "throttles": [word…] | null, "engine"}…],
     "engines": [{"instance", "server", "up", "reason", "age_seconds", "models", "gpus", "running", "waiting",
                  "kv_cache", "prompt_rate", "generation_rate", "finished_rate", "preempted_rate", "failed_rate",
                  "ttft_mean", "ttft_p95", "itl_mean", "itl_p95", "prefix_hits"}…],
     "host":    {"instance", "at_ms", "stale", "cpu", "cpus", "load1", "load5", "load15", "memory_total",
                 "memory_available", "swap_total", "swap_free", "boot_time_seconds", "disk_read", "disk_write",
                 "net_in", "net_out", "filesystems": [{"mountpoint", "size", "available", "error"}…]} | null,
     "alerts":  [{"name", "state", "severity", "since_ms", "summary", "description", "labels", "value",
                  "fingerprint", "muted"}…],
     "sources": [{"name", "server", "up", "absent", "reason", "last_success_ms", "interval_seconds", "poll_seconds",
                  "facts"}…],
     "problems": {query id: reason},
     "processes": [{"gpu", "uuid", "pid", "memory_bytes", "kind", "name", "user", "command", "sm_ratio", "memory_ratio",
                    "cpu_ratio", "rss_bytes", "started_ms", "container", "server", "engine", "rank"}…]}

Fields are added, never renamed, within a schema. The exit code says whether the picture could be taken, and nothing
about what is in it: that is what alerts are for.
"""

from __future__ import annotations

import asyncio
import shutil
from collections import Counter
from collections.abc import Sequence

import click

from monitor.client import format as words
from monitor.client.api import Client
from monitor.client.discover import find
from monitor.client.errors import ClientError, Refused
from monitor.client.feed import take_snapshot
from monitor.client.snapshot import Alert, Engine, Gpu, Host, Snapshot, Source
from monitor.client.wire import ProcessRow
from monitor.commands.for_programs import json_text, shown

SCHEMA = 1
_GIB = 1024**3
_PARTS = ("node", "gpus", "engines", "host", "alerts", "sources", "problems")


def run(url: str | None, *, as_json: bool) -> int:
    """Print one picture; 0, or 1 where none could be taken."""
    try:
        snapshot, processes = asyncio.run(_take(url))
    except ClientError as error:
        click.echo(f"gpumon snapshot: {error}", err=True)
        return 1
    if as_json:
        click.echo(to_json(snapshot, processes))
    else:
        click.echo(render_text(snapshot, shutil.get_terminal_size((100, 24)).columns, processes), nl=False)
    return 0


def print_exposition(url: str | None) -> int:
    """Print what a Prometheus would scrape now; 0, or 1 where there is no daemon to ask."""

    async def take() -> str:
        async with Client(_target(url)) as client:
            await client.capabilities()  # a Prometheus has a /metrics of its own, which says nothing of nodes
            return await client.metrics()

    try:
        text = asyncio.run(take())
    except ClientError as error:
        cure = " (--prom needs a daemon)" if isinstance(error, Refused) and error.status == 404 else ""
        click.echo(f"gpumon snapshot: {error}{cure}", err=True)
        return 1
    click.echo(shown(text), nl=False)
    return 0


def _target(url: str | None) -> str:
    found = find(url)
    if found is None:
        raise ClientError("no daemon runs here", "this node", "Start one with `gpumon daemon`, or name one with --url")
    return found.target


async def _take(url: str | None) -> tuple[Snapshot, tuple[ProcessRow, ...]]:
    async with Client(_target(url)) as client:
        snapshot = await take_snapshot(client)
        try:
            return snapshot, (await client.processes()).processes
        except Refused as error:
            if error.status == 404:  # a Prometheus knows no processes
                return snapshot, ()
            raise


def to_json(snapshot: Snapshot, processes: Sequence[ProcessRow] = ()) -> str:
    """The picture without its histories, in the schema above, indented."""
    picture: dict[str, object] = {"schema": SCHEMA, "now_ms": snapshot.now_ms}
    picture.update({name: getattr(snapshot, name) for name in _PARTS})
    picture["processes"] = processes
    return json_text(picture, indent=2)


def render_text(snapshot: Snapshot, width: int = 100, processes: Sequence[ProcessRow] = ()) -> str:
    """The picture as plain text in lines of at most ``width`` cells (60 at least), without escape codes, ended by a
    newline."""
    width = max(60, width)
    parts = [_head(snapshot), _gpus(snapshot), _engines(snapshot), _host(snapshot.host, width)]
    parts += [_processes(processes), _alerts(snapshot), _sources(snapshot)]
    return "\n".join(words.cut(line.rstrip(), width).rstrip() for part in parts for line in part) + "\n"


def _head(snapshot: Snapshot) -> list[str]:
    node = snapshot.node
    parts = [node.hostname or node.target, words.clock(snapshot.now_ms, date=True)]
    models = Counter(gpu.model for gpu in snapshot.gpus if gpu.model)
    parts += [f"{many} × {model}" for model, many in models.items()]
    if node.driver:
        parts.append(f"driver {node.driver}")
    host = snapshot.host
    if host is not None and host.boot_time_seconds is not None:
        parts.append(f"up {words.duration(snapshot.now_ms / 1000 - host.boot_time_seconds)}")
    notes = []
    if node.simulated:
        notes.append("simulated" if node.speed == 1 else f"simulated ×{node.speed:g}")
    if node.mode == "private":
        notes.append("private: nobody is notified")
    elif node.mode == "system" and not node.notifies:
        notes.append("no receivers: nobody is notified")
    elif node.mode == "system" and not node.heartbeat:
        notes.append("no heartbeat: a dead node is silent")
    lines = ["  ".join(parts)]
    return lines + (["  ·  ".join(notes)] if notes else []) + [""]


def _gpus(snapshot: Snapshot) -> list[str]:
    if not snapshot.gpus:
        return ["no GPU readings", ""]
    several = len({gpu.instance for gpu in snapshot.gpus}) > 1
    rows = [["GPU", "util", "memory GiB", "", "temp", "power", "SM clock", "state"]]
    rows += [_gpu(snapshot, gpu, several) for gpu in snapshot.gpus]
    return [*_table(rows, "rrrrrrrl"), ""]


def _gpu(snapshot: Snapshot, gpu: Gpu, several: bool) -> list[str]:
    used = None if gpu.memory_used is None else gpu.memory_used / _GIB
    total = None if gpu.memory_total is None else gpu.memory_total / _GIB
    if gpu.stale:
        state = "no readings"
        if gpu.at_ms is not None:
            state += f" for {words.duration((snapshot.now_ms - gpu.at_ms) / 1000)}"
    elif gpu.throttles:
        state = ", ".join(gpu.throttles)
    else:
        state = words.ABSENT if gpu.throttles is None else "ok"
    return [
        f"{gpu.instance}/{gpu.index}" if several else gpu.index,
        words.percent(gpu.utilization),
        words.used_of(used, total, "", 1).rstrip(),
        words.percent(gpu.memory_ratio),
        words.celsius(gpu.temperature),
        words.used_of(gpu.power, gpu.power_limit, "W"),
        words.megahertz(gpu.sm_clock),
        state,
    ]


def _engines(snapshot: Snapshot) -> list[str]:
    lines: list[str] = []
    for engine in snapshot.engines:
        lines += [*_engine(engine), ""]
    return lines


def _engine(engine: Engine) -> list[str]:
    state = "up" if engine.up else "state unknown" if engine.up is None else f"DOWN: {engine.reason}"
    if engine.up is False and engine.age_seconds is not None:
        state += f", last answer {words.duration(engine.age_seconds)} ago"
    head = ["vLLM", engine.server, state, ", ".join(engine.models)]
    if engine.gpus:
        head.append(f"GPU {words.short_range(list(engine.gpus))}")
    lines = ["  ".join(part for part in head if part)]
    if engine.running is None:
        return lines
    lines.append(
        f"  running {words.number(engine.running)}   waiting {words.number(engine.waiting)}"
        f"   prompt {words.rate(engine.prompt_rate, 'tok/s')}"
        f"   generation {words.rate(engine.generation_rate, 'tok/s')}"
        f"   done {words.rate(engine.finished_rate, 'req/s')}"
    )
    lines.append(
        f"  first token mean {words.seconds(engine.ttft_mean)}, p95 {words.seconds(engine.ttft_p95)}"
        f"   inter-token mean {words.seconds(engine.itl_mean)}, p95 {words.seconds(engine.itl_p95)}"
    )
    lines.append(
        f"  KV cache {words.percent(engine.kv_cache)}   prefix hits {words.percent(engine.prefix_hits)}"
        f"   preempted {words.rate(engine.preempted_rate, '/s')}   HTTP 5xx {words.rate(engine.failed_rate, '/s')}"
    )
    return lines


def _host(host: Host | None, width: int) -> list[str]:
    if host is None:
        return ["host  no readings", ""]
    load = " ".join("–" if value is None else f"{value:.1f}" for value in (host.load1, host.load5, host.load15))
    cores = "" if host.cpus is None else f" of {host.cpus} cores"
    fields = [
        f"CPU {words.percent(host.cpu)}{cores}",
        f"load {load}",
        f"memory {words.size(host.memory_used)} of {words.size(host.memory_total)}",
        *(
            f"{one.mountpoint} no answer"
            if one.error
            else f"{one.mountpoint} {words.percent(one.used_ratio)} of {words.size(one.size)}"
            for one in host.filesystems[:4]
        ),
        f"disk read {words.throughput(host.disk_read)}, write {words.throughput(host.disk_write)}",
        f"net in {words.throughput(host.net_in)}, out {words.throughput(host.net_out)}",
    ]
    return [*_wrapped("host  ", fields, width), ""]


def _processes(processes: Sequence[ProcessRow]) -> list[str]:
    if not processes:
        return []
    rows = [["GPU", "PID", "user", "server", "engine", "rank", "GPU memory", "SM", "CPU", "RSS", "container", "name"]]
    rows += [
        [
            words.clean(text)
            for text in (
                one.gpu or words.ABSENT,
                str(one.pid),
                one.user,
                one.server,
                one.engine,
                one.rank,
                words.size(one.memory_bytes),
                words.percent(one.sm_ratio),
                words.percent(one.cpu_ratio),
                words.size(one.rss_bytes),
                one.container or words.ABSENT,
                one.name,
            )
        ]
        for one in processes
    ]
    return ["processes", *("  " + line for line in _table(rows, "rrlllrrrrrll")), ""]


def _alerts(snapshot: Snapshot) -> list[str]:
    states = Counter(_state(alert) for alert in snapshot.alerts)
    shown = ["firing", *(word for word in ("silenced", "inhibited") if states[word]), "pending"]
    counts = ", ".join(f"{states[word]} {word}" for word in shown)
    lines = [f"alerts  {counts}" if snapshot.alerts else "alerts  none"]
    rows = [_alert(snapshot, alert) for alert in snapshot.alerts]
    return [*lines, *("  " + line for line in _table(rows, "lllll")), ""]


def _alert(snapshot: Snapshot, alert: Alert) -> list[str]:
    since = "" if alert.since_ms is None else words.duration(max(0, snapshot.now_ms - alert.since_ms) / 1000)
    return [alert.severity, _state(alert), since, alert.name, alert.summary]


def _state(alert: Alert) -> str:
    return alert.muted or alert.state


def _sources(snapshot: Snapshot) -> list[str]:
    lines = ["sources  " + "   ".join(_source(snapshot, one) for one in snapshot.sources)] if snapshot.sources else []
    return lines + [f"query {id} failed: {reason}" for id, reason in snapshot.problems.items()]


def _source(snapshot: Snapshot, source: Source) -> str:
    name = f"{source.name} {source.server}" if source.server else source.name
    if source.up:
        return f"{name} ok"
    if source.absent:
        return f"{name} not here: {source.reason}"
    return f"{name} DOWN: {source.reason}"


def _table(rows: Sequence[Sequence[str]], sides: str) -> list[str]:
    widths = [max((words.cells(row[column]) for row in rows), default=0) for column in range(len(sides))]
    return [
        "  ".join(
            words.fit(text, width, right=side == "r") for text, width, side in zip(row, widths, sides, strict=True)
        )
        for row in rows
    ]


def _wrapped(begin: str, fields: Sequence[str], width: int) -> list[str]:
    lines = [begin]
    for one in fields:
        if len(lines[-1]) > len(begin) and words.cells(lines[-1]) + 3 + words.cells(one) > width:
            lines.append(" " * len(begin))
        lines[-1] += ("   " if len(lines[-1]) > len(begin) else "") + one
    return lines
