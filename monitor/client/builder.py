"""From frames to snapshots: a state machine that keeps what the last frames said.

A GPU or a server that was there and gave no more readings stays in the picture, as stale: what is gone must be seen to
be gone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from monitor.client.format import clean
from monitor.client.queries import HISTORY_SECONDS
from monitor.client.results import Labels, Results
from monitor.client.snapshot import (
    STALE_AFTER_SECONDS,
    THROTTLE_BITS,
    Alert,
    Engine,
    Filesystem,
    Gpu,
    History,
    Host,
    NodeFacts,
    Snapshot,
    Source,
)
from monitor.client.wire import AlertRow, Frame, SourceRow, parse_time
from monitor.digits import by_number
from monitor.records import replace

_MIB = 1024 * 1024
_GPU_FIELDS: dict[str, tuple[str, float]] = {
    "DCGM_FI_DEV_GPU_UTIL": ("utilization", 0.01),
    "DCGM_FI_DEV_MEM_COPY_UTIL": ("memory_busy", 0.01),
    "DCGM_FI_DEV_FB_USED": ("memory_used", _MIB),
    "DCGM_FI_DEV_FB_TOTAL": ("memory_total", _MIB),
    "DCGM_FI_DEV_FB_FREE": ("free", _MIB),
    "DCGM_FI_DEV_FB_RESERVED": ("reserved", _MIB),
    "DCGM_FI_DEV_GPU_TEMP": ("temperature", 1),
    "DCGM_FI_DEV_MEMORY_TEMP": ("memory_temperature", 1),
    "DCGM_FI_DEV_SLOWDOWN_TEMP": ("slowdown_temperature", 1),
    "DCGM_FI_DEV_GPU_MAX_OP_TEMP": ("max_temperature", 1),
    "DCGM_FI_DEV_MEM_MAX_OP_TEMP": ("memory_max_temperature", 1),
    "DCGM_FI_DEV_POWER_USAGE": ("power", 1),
    "DCGM_FI_DEV_ENFORCED_POWER_LIMIT": ("power_limit", 1),
    "DCGM_FI_DEV_SM_CLOCK": ("sm_clock", 1),
    "DCGM_FI_DEV_MAX_SM_CLOCK": ("max_sm_clock", 1),
    "DCGM_FI_DEV_MEM_CLOCK": ("memory_clock", 1),
    "DCGM_FI_DEV_PSTATE": ("pstate", 1),
    "DCGM_FI_DEV_FAN_SPEED": ("fan", 0.01),
    "DCGM_FI_DEV_CLOCKS_EVENT_REASONS": ("reasons", 1),
}
_HOST_FIELDS = {
    "node_load1": "load1",
    "node_load5": "load5",
    "node_load15": "load15",
    "node_memory_MemTotal_bytes": "memory_total",
    "node_memory_MemAvailable_bytes": "memory_available",
    "node_memory_SwapTotal_bytes": "swap_total",
    "node_memory_SwapFree_bytes": "swap_free",
    "node_boot_time_seconds": "boot_time_seconds",
}
_HOST_RATES = {
    "cpu": "cpu",
    "cpus": "cpus",
    "disk_read": "disk_read",
    "disk_write": "disk_write",
    "net_in": "net_in",
    "net_out": "net_out",
}
_ENGINE_RATES = {
    "prompt": "prompt_rate",
    "generation": "generation_rate",
    "finished": "finished_rate",
    "preempted": "preempted_rate",
    "failed": "failed_rate",
    "ttft_mean": "ttft_mean",
    "ttft_p95": "ttft_p95",
    "itl_mean": "itl_mean",
    "itl_p95": "itl_p95",
    "prefix": "prefix_hits",
}
_BEGUN = {
    "begun": ("prompt", "generation", "disk_read", "disk_write", "net_in", "net_out"),
    "begun_longer": ("finished", "preempted", "failed"),
}
"""Sums a second, by the share of their window that a daemon has read since its begin: till then they are too low."""
_SEVERITIES = {"critical": 0, "page": 0, "error": 1, "warning": 2, "info": 4}


class SnapshotBuilder:
    """``apply`` takes frames in order and gives the picture after each. One builder for one connection.

    ``facts`` is who we look at. Raises ``ClientError`` for a frame that does not fit those before it: then only a new
    connection helps.
    """

    def __init__(
        self,
        facts: NodeFacts,
        *,
        range_seconds: int = HISTORY_SECONDS,
        whole: bool = False,
        oldest_ms: int | None = None,
    ) -> None:
        """With ``whole`` every graph shows the whole range, or all since ``oldest_ms``, where that is less."""
        self._facts = facts
        self._results = Results(facts.target, range_seconds * 1000, whole=whole, oldest_ms=oldest_ms)
        self._histories: dict[tuple[str, str, str], History] = {}
        self._alerts: tuple[Alert, ...] = ()
        self._sources: tuple[Source, ...] = ()
        self._gpus: dict[tuple[str, str], Gpu] = {}
        self._engines: dict[tuple[str, str], Engine] = {}
        self._host: Host | None = None
        self._dropped = 0

    def apply(self, frame: Frame) -> Snapshot:
        """Take one frame; give the picture with it."""
        histories_changed = self._results.apply(frame)
        if frame.alerts is not None:
            self._alerts = make_alerts(frame.alerts)
        if frame.sources is not None:
            self._sources = make_sources(frame.sources)
        self._dropped += frame.dropped
        if histories_changed:
            self._histories = {
                (id, labels.get("instance", ""), _member(id, labels)): history
                for id, one in self._results.windows.items()
                for labels, history in sorted(one.histories(), key=_whole_last)
                if id != "gpu_memory_h" or not labels.get("GPU_I_ID")
            }
        return Snapshot(
            seq=frame.seq,
            now_ms=frame.now_ms,
            node=self._node(),
            gpus=self._make_gpus(frame.now_ms),
            engines=self._make_engines(frame.now_ms),
            host=self._make_host(frame.now_ms),
            alerts=self._alerts,
            sources=self._sources,
            histories=self._histories,
            problems=dict(self._results.problems),
            dropped=self._dropped,
        )

    def _node(self) -> NodeFacts:
        rows = self._results.rows("nvml")
        if not rows:
            return self._facts
        labels = rows[0][0]
        return replace(self._facts, driver=labels.get("driver_version", ""), cuda=labels.get("cuda_version", ""))

    def _stale_after_ms(self, source: str, server: str = "") -> float:
        # Frames come once a second of ours: on a clock that runs faster a fresh reading is that much older.
        speed = max(1.0, self._facts.speed)
        for one in self._sources:
            if one.name == source and (not server or one.server == server) and one.interval_seconds:
                return max(STALE_AFTER_SECONDS * speed, 3 * one.interval_seconds) * 1000
        # A Prometheus keeps a series for five minutes and scrapes every minute at the slowest.
        told = self._sources and self._facts.mode != "prometheus"
        return STALE_AFTER_SECONDS * speed * 1000 if told else 180_000

    def _make_gpus(self, now_ms: int) -> tuple[Gpu, ...]:
        found: dict[tuple[str, str], dict[str, Any]] = {}
        for labels, at, value in self._results.rows("gpu"):
            known = _GPU_FIELDS.get(labels.get("__name__", ""))
            key = (labels.get("instance", ""), labels.get("gpu", ""))
            one = found.get(key)
            if one is None:
                one = found[key] = {
                    "uuid": labels.get("UUID", ""),
                    "model": labels.get("modelName", ""),
                    "at_ms": 0,
                }
            if known is not None and not labels.get("GPU_I_ID"):
                one[known[0]] = value * known[1]
            elif known is not None and known[1] != _MIB:
                # A dcgm-exporter says of a GPU with MIG what it is like as a whole with each of its instances.
                one.setdefault(known[0], value * known[1])
            if at > one["at_ms"]:
                one["at_ms"] = int(at)
        owners = {
            (labels.get("instance", ""), labels.get("gpu", "")): _owner(labels)
            for labels, _, _ in self._results.rows("engine_gpu")
        }
        limit = self._stale_after_ms("nvml")
        for key, fields in found.items():
            free, reserved = fields.pop("free", None), fields.pop("reserved", None)
            if "memory_total" not in fields and free is not None and "memory_used" in fields:
                fields["memory_total"] = fields["memory_used"] + free + (reserved or 0)
            reasons = fields.pop("reasons", None)
            if reasons is not None:
                fields["throttles"] = tuple(word for bit, word in THROTTLE_BITS if int(reasons) & bit)
            if "pstate" in fields:
                fields["pstate"] = int(fields["pstate"])
            stale = now_ms - fields["at_ms"] > limit
            self._gpus[key] = Gpu(*key, **fields, stale=stale, engine=owners.get(key, ""))
        past = self._results.windows.get("gpu_util_h")
        for labels in past.labels if past is not None else ():  # a GPU that was gone before we came is in the past
            key = (labels.get("instance", ""), labels.get("gpu", ""))
            if key not in self._gpus:
                self._gpus[key] = Gpu(*key, uuid=labels.get("UUID", ""), model=labels.get("modelName", ""))
        for key, gpu in self._gpus.items():
            if key not in found and not (gpu.stale and gpu.utilization is None):
                self._gpus[key] = Gpu(*key, uuid=gpu.uuid, model=gpu.model, at_ms=gpu.at_ms, engine=gpu.engine)
        return tuple(self._gpus[key] for key in sorted(self._gpus, key=_natural))

    def _whole(self, id: str) -> Callable[[Labels, float], float]:
        """What a number of a query would be, were its window full."""
        by = next((begun for begun, ids in _BEGUN.items() if id in ids), "")
        shares = {labels.get("instance", ""): share for labels, _, share in self._results.rows(by) if 0 < share < 1}
        return lambda labels, value: value / shares.get(labels.get("instance", ""), 1.0)

    def _make_engines(self, now_ms: int) -> tuple[Engine, ...]:
        found: dict[tuple[str, str], dict[str, Any]] = {}
        models: dict[tuple[str, str], set[str]] = {}
        newest: dict[tuple[str, str], float] = {}

        def at_key(labels: Labels) -> dict[str, Any]:
            return found.setdefault((labels.get("instance", ""), _server(labels)), {})

        for labels, at, value in self._results.rows("engine"):
            one, key = at_key(labels), (labels.get("instance", ""), _server(labels))
            models.setdefault(key, set()).add(labels.get("model_name", ""))
            newest[key] = max(at, newest.get(key, 0))
            name = labels.get("__name__", "")
            if name.endswith("cache_usage_perc"):
                one["kv_cache"] = max(value, one.get("kv_cache", 0.0))
            elif name == "vllm:num_requests_running":
                one["running"] = value + one.get("running", 0.0)
            elif name == "vllm:num_requests_waiting":
                one["waiting"] = value + one.get("waiting", 0.0)
        for id, attribute in _ENGINE_RATES.items():
            whole = self._whole(id)
            for labels, _, value in self._results.rows(id):
                key = (labels.get("instance", ""), _server(labels))
                if key in found:  # a rate outlives its server by its window; a server that is gone has none
                    found[key][attribute] = whole(labels, value)
        gpus: dict[str, list[str]] = {}
        for labels, _, _ in self._results.rows("engine_gpu"):
            gpus.setdefault(labels.get("server", ""), []).append(labels.get("gpu", ""))
        sources = {one.server: one for one in self._sources if one.name == "vllm"}
        instance = self._facts.instance
        for server in sources:
            if not any(key[1] == server for key in found):
                found[(instance, server)] = {}
        for key in self._engines:
            found.setdefault(key, {})
        for key, fields in found.items():
            source = sources.get(key[1])
            before = self._engines.get(key)
            last = source.last_success_ms if source is not None else newest.get(key)
            self._engines[key] = Engine(
                *key,
                up=source.up if source is not None else (True if key in newest else None),
                reason=source.reason if source is not None else ("" if key in newest else "no readings"),
                age_seconds=None if last is None else max(0.0, now_ms - max(last, newest.get(key, 0))) / 1000,
                models=tuple(sorted(models.get(key, ()))) or (before.models if before else ()),
                gpus=tuple(gpus.get(key[1], ())) or (before.gpus if before else ()),
                **fields,
            )
        return tuple(self._engines[key] for key in sorted(self._engines))

    def _make_host(self, now_ms: int) -> Host | None:
        rows = self._results.rows("host")
        if not rows:
            if self._host is not None and not self._host.stale:
                self._host = Host(self._host.instance, self._host.at_ms)
            return self._host
        instance = self._facts.instance if self._facts.instance else rows[0][0].get("instance", "")
        if not any(labels.get("instance", "") == instance for labels, _, _ in rows):
            instance = rows[0][0].get("instance", "")
        fields: dict[str, Any] = {}
        at_ms = 0
        for labels, at, value in rows:
            if labels.get("instance", "") == instance:
                attribute = _HOST_FIELDS.get(labels.get("__name__", ""))
                if attribute:
                    fields[attribute] = value
                    at_ms = max(at_ms, int(at))
        for id, attribute in _HOST_RATES.items():
            whole = self._whole(id)
            for labels, _, value in self._results.rows(id):
                if labels.get("instance", "") == instance:
                    fields[attribute] = whole(labels, value)
        if "cpus" in fields:
            fields["cpus"] = int(fields["cpus"])
        if "cpu" in fields:
            fields["cpu"] = min(1.0, max(0.0, fields["cpu"]))
        stale = now_ms - at_ms > self._stale_after_ms("host")
        self._host = Host(instance, at_ms, stale, filesystems=self._filesystems(instance), **fields)
        return self._host

    def _filesystems(self, instance: str) -> tuple[Filesystem, ...]:
        found: dict[str, dict[str, float]] = {}
        devices: dict[str, str] = {}
        for labels, _, value in self._results.rows("filesystem"):
            if labels.get("instance", "") == instance:
                mountpoint = labels.get("mountpoint", "")
                found.setdefault(mountpoint, {})[labels.get("__name__", "")] = value
                devices[mountpoint] = labels.get("device", "")
        all_of_them: list[Filesystem] = []
        seen: set[str] = set()
        for mountpoint in sorted(found, key=len):  # bind mounts show one device many times: the shortest path is kept
            if devices[mountpoint] in seen:
                continue
            seen.add(devices[mountpoint])
            values = found[mountpoint]
            all_of_them.append(
                Filesystem(
                    mountpoint,
                    values.get("node_filesystem_size_bytes"),
                    values.get("node_filesystem_avail_bytes"),
                    values.get("node_filesystem_device_error", 0) > 0,
                )
            )
        return tuple(sorted(all_of_them, key=lambda f: (f.mountpoint != "/", not f.error, -(f.used_ratio or 0))))


def make_alerts(rows: Iterable[AlertRow]) -> tuple[Alert, ...]:
    """Alerts in the order in which a person wants them: firing first, those that are silenced or inhibited after the
    others; then by severity, then the newest."""
    alerts = []
    for row in rows:
        labels = {clean(key): clean(value) for key, value in row.labels.items()}
        severity = labels.get("severity", "")
        if severity == "none":  # a watchdog: it fires always
            continue
        alerts.append(
            Alert(
                name=labels.get("alertname", ""),
                state=clean(row.state),
                severity=severity,
                since_ms=parse_time(row.active_at),
                summary=clean(row.annotations.get("summary", "")),
                description=clean(row.annotations.get("description", "")),
                action=clean(row.annotations.get("action", "")),
                runbook=clean(row.annotations.get("runbook_url", "") or row.annotations.get("runbook", "")),
                labels=labels,
                value=clean(row.value),
                fingerprint=clean(row.fingerprint),
                muted="silenced" if row.silenced_by else "inhibited" if row.inhibited_by else "",
            )
        )
    return tuple(sorted(alerts, key=_gravity))


def _gravity(alert: Alert) -> tuple[bool, bool, int, int, str, str]:
    return (
        alert.state != "firing",
        bool(alert.muted),
        _SEVERITIES.get(alert.severity, 3),
        -(alert.since_ms or 0),
        alert.name,
        alert.fingerprint,
    )


def make_sources(rows: Iterable[SourceRow]) -> tuple[Source, ...]:
    """The sources, with their words cleaned. What a server's health says goes into the row of its metrics: that it is
    loading its model, where `/metrics` only refuses. Its own row is shown only where it fails itself.
    """
    rows = tuple(rows)
    told = {row.server: row.facts.get("reason", "") for row in rows if row.source == "engine" and row.up}
    return tuple(
        Source(
            clean(row.source),
            clean(row.server),
            row.up,
            row.absent,
            clean((row.source == "vllm" and not row.up and told.get(row.server)) or row.reason),
            row.last_success_ms,
            row.interval_seconds,
            row.poll_seconds,
            {clean(key): clean(value) for key, value in row.facts.items()},
        )
        for row in rows
        if not (row.source == "engine" and row.up)
    )


def _server(labels: Labels) -> str:
    """A server's name; a Prometheus that scrapes vLLM itself has it in ``instance``."""
    return labels.get("server") or labels.get("instance", "")


def _member(id: str, labels: Labels) -> str:
    """What a history belongs to within its node: a GPU's index, a server, or "" for the host."""
    if id.startswith("gpu_"):
        return labels.get("gpu", "")
    return "" if id.startswith("host_") else _server(labels)


def _whole_last(one: tuple[Labels, History]) -> bool:
    """A GPU's own past after those of its MIG instances, which have its labels too."""
    return not one[0].get("GPU_I_ID")


def _owner(labels: Labels) -> str:
    rank = labels.get("rank", "")
    return f"{labels.get('server', '')} rank {rank}" if rank else labels.get("server", "")


def _natural(key: tuple[str, str]) -> tuple[str, int, str]:
    instance, index = key
    return (instance, *by_number(index))
