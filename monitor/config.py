"""``gpumon.yaml`` into typed values. Every problem is told as file:line:column; a file with one is refused whole.

Without a file the defaults hold: this node's GPUs, its host, no vLLM server, the shipped rules, no receiver. The values
are in ``config_values``; ``config_vllm``, ``config_alerting`` and ``config_routes`` read what they are named after.
"""

from __future__ import annotations

from pathlib import Path

from monitor import config_fields as described
from monitor.config_alerting import AlertingReader
from monitor.config_api import parse_listen, read_api, why_not_listen
from monitor.config_parts import Parts
from monitor.config_reports import read_reports
from monitor.config_routes import RouteReader, read_inhibit_rules, read_time_intervals
from monitor.config_values import (
    DEFAULT_PORT,
    SYSTEM_SOCKET,
    SYSTEM_STATE,
    AlertmanagerServer,
    Api,
    Canary,
    Config,
    Keeping,
    Polling,
    ProbeKeeping,
    Receiver,
    ScheduledReport,
    Secret,
    Tls,
    VllmServer,
    Webhook,
)
from monitor.config_vllm import VllmReader, read_targets
from monitor.field_kinds import Section
from monitor.notify.route import Route
from monitor.records import replace
from monitor.yaml_reader import ConfigError, Node, Problem, Problems, compose, read_text, refuse_nothing

__all__ = [
    "DEFAULT_PORT",
    "NO_CONFIG",
    "SYSTEM_SOCKET",
    "SYSTEM_STATE",
    "AlertmanagerServer",
    "Api",
    "Canary",
    "Config",
    "ConfigError",
    "Keeping",
    "Polling",
    "ProbeKeeping",
    "Problem",
    "Receiver",
    "ScheduledReport",
    "Secret",
    "Tls",
    "VllmServer",
    "Webhook",
    "load",
    "loads",
    "parse_listen",
    "why_not_listen",
]


NO_CONFIG = "where the defaults are meant, write {}"
"""What to do about a file of nothing."""


def load(path: Path | str) -> Config:
    """Read ``gpumon.yaml``. Raises ``ConfigError`` with every problem of it, also where nothing is in it."""
    problems = Problems(str(path))
    text = read_text(path, problems)
    refuse_nothing(text, problems, NO_CONFIG)
    problems.raise_if_any()
    return loads(text or "", str(path))


def loads(text: str, path: str = "gpumon.yaml") -> Config:
    """Read a configuration from text; ``path`` is the name that problems carry and that relative paths in the text
    start from. Raises ``ConfigError``."""
    problems = Problems(path)
    root = compose(text, problems)
    config = _Reader(Path(path).parent).read(root) if root is not None else Config()
    problems.raise_if_any()
    return config.named()


class _Reader:
    """Walks the document. Each method takes the node of its section and gives its value, or the default where the node
    has a problem: then the whole file is refused anyway."""

    def __init__(self, base: Path) -> None:
        self._parts = Parts(base)

    def read(self, root: Node) -> Config:
        config = Config()
        top = root.fields(described.TOP.names)
        if "node" in top:
            config = self._identity(top["node"], config)
        if (state_directory := self._parts.path_of(top, "state_directory")) is not None:
            config = replace(config, state_directory=state_directory)
        if "history" in top:
            config = replace(config, history=_keeping(top["history"].fields(described.HISTORY.names), config.history))
        if "probes" in top:
            config = replace(config, probes=_probe_keeping(top["probes"].fields(described.PROBES.names), config.probes))
        if "api" in top:
            config = replace(config, api=read_api(top["api"], config.api, self._parts))
        if "sources" in top:
            config = self._sources(top["sources"], config)
        alerting = AlertingReader(self._parts)
        if "alerting" in top:
            config = alerting.alerting(top["alerting"], config)
        if "receivers" in top:
            config = replace(config, receivers=alerting.receivers(top["receivers"]))
        if "heartbeat" in top:
            config = replace(config, heartbeats=alerting.heartbeats(top["heartbeat"]))
        intervals = read_time_intervals([top[n] for n in ("time_intervals", "mute_time_intervals") if n in top])
        config = replace(config, time_intervals=intervals)
        if "inhibit_rules" in top:
            config = replace(config, inhibit_rules=read_inhibit_rules(top["inhibit_rules"]))
        if "route" in top:
            names = [receiver.name for receiver in config.receivers]
            config = replace(config, route=RouteReader(names, list(intervals)).read(top["route"]))
        elif len(config.receivers) == 1:
            config = replace(config, route=Route("0", (config.receivers[0].name,)))
        elif config.receivers:
            top["receivers"].problem("several receivers and no route: say who is told, `route: {receiver: NAME}`")
        if "reports" in top:
            config = replace(config, reports=read_reports(top["reports"], config.receivers))
        return config

    def _identity(self, node: Node, config: Config) -> Config:
        found = node.fields(described.NODE.names)
        texts = {name: value for name, child in found.items() if (value := child.text())}
        return replace(
            config,
            hostname=texts.get("hostname", config.hostname),
            job=texts.get("job", config.job),
            instance=texts.get("instance", config.instance),
        )

    def _sources(self, node: Node, config: Config) -> Config:
        found = node.fields(described.SOURCES.names)
        if "nvml" in found:
            config = replace(config, nvml=_polling(found["nvml"], described.NVML, config.nvml))
        if "host" in found:
            fields = found["host"].fields(described.HOST.names)
            config = replace(config, host=_polled(fields, described.HOST, config.host))
            if "model_caches" in fields:
                config = replace(config, model_caches=self._parts.paths(fields["model_caches"]))
            if (rootfs := self._parts.path_of(fields, "rootfs")) is not None:
                config = replace(config, rootfs=rootfs)
        if "kernel_log" in found:
            config = replace(config, kernel_log=_polling(found["kernel_log"], described.KERNEL_LOG, config.kernel_log))
        if "vllm" in found:
            fields = found["vllm"].fields(described.VLLM.names)
            config = replace(config, vllm=_polled(fields, described.VLLM, config.vllm))
            if "discover" in fields:
                config = replace(config, discover=fields["discover"].boolean() is not False)
            if "servers" in fields:
                servers = VllmReader(self._parts, config.hostname).servers(fields["servers"])
                config = replace(config, vllm_servers=servers)
            if "targets" in fields:
                config = replace(config, latency_targets=read_targets(fields["targets"], config.latency_targets))
        return config


def _keeping(fields: dict[str, Node], default: Keeping) -> Keeping:
    enabled = fields["enabled"].boolean() if "enabled" in fields else default.enabled
    limits = described.HISTORY.limits("retention")
    retention_ms = fields["retention"].duration_ms(*limits) if "retention" in fields else None
    max_bytes = fields["max_size"].size(described.HISTORY.least_size("max_size")) if "max_size" in fields else None
    return Keeping(enabled is not False, retention_ms or default.retention_ms, max_bytes or default.max_bytes)


def _probe_keeping(fields: dict[str, Node], default: ProbeKeeping) -> ProbeKeeping:
    runs = fields["keep"].integer(*described.PROBES.limits("keep")) if "keep" in fields else None
    max_bytes = fields["max_size"].size(described.PROBES.least_size("max_size")) if "max_size" in fields else None
    return ProbeKeeping(runs or default.runs, max_bytes or default.max_bytes)


def _polling(node: Node, section: Section, default: Polling) -> Polling:
    return _polled(node.fields(section.names), section, default)


def _polled(fields: dict[str, Node], section: Section, default: Polling) -> Polling:
    enabled = fields["enabled"].boolean() if "enabled" in fields else default.enabled
    interval = fields["interval"].duration_ms(*section.limits("interval")) if "interval" in fields else None
    deadline = fields["deadline"].duration_ms(*section.limits("deadline")) if "deadline" in fields else None
    return Polling(
        enabled is not False,
        interval / 1000 if interval else default.interval,
        deadline / 1000 if deadline else default.deadline,
    )
