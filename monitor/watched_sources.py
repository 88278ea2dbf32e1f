"""The sources that a configuration asks for, made of its values."""

from __future__ import annotations

from collections.abc import Callable

from monitor import logs
from monitor.config import Config, VllmServer
from monitor.config_values import Polling
from monitor.probes.canary import CanarySource
from monitor.sources.host import HostSource
from monitor.sources.kernel_log import KernelLogSource
from monitor.sources.nvml import NvmlSource
from monitor.sources.source import Source
from monitor.sources.vllm import VllmSource
from monitor.sources.vllm_health import EngineSource, ServerProcess
from monitor.sources.vllm_http import Key
from monitor.sources.vllm_log import ServerLog


def nvml_source(config: Config) -> NvmlSource:
    """The node's GPUs."""
    return NvmlSource(interval=config.nvml.interval, deadline=config.nvml.deadline, hostname=config.hostname)


def kernel_log_source(config: Config) -> KernelLogSource:
    """What the kernel says."""
    polling = config.kernel_log
    return KernelLogSource(polling.interval, polling.deadline, nvml_events=config.nvml.enabled)


def host_source(config: Config) -> HostSource:
    """The machine."""
    return HostSource(
        interval=config.host.interval,
        deadline=config.host.deadline,
        model_caches=[str(path) for path in config.model_caches] or None,
        rootfs=config.rootfs or "",
    )


def server_sources(
    server: VllmServer, polling: Polling, *, process: Callable[[], ServerProcess | None], sends_canaries: bool
) -> list[Source]:
    """What is read of one server: its metrics, how it is, its log where the configuration names one, and a canary's
    fate where it asks for that and canaries are sent. ``process`` gives what is known of its process on this node."""
    api_key = None
    if server.api_key is not None:
        about = logs.about(source="vllm", server=server.server)["about"]
        api_key = Key(server.api_key.reveal, server=server.server, about=about)
    ca_file = str(server.ca_file) if server.ca_file else None
    name, insecure = server.server, server.insecure_skip_verify
    metrics = VllmSource(
        server.url,
        name,
        interval=polling.interval,
        deadline=polling.deadline,
        api_key=api_key,
        ca_file=ca_file,
        insecure_skip_verify=insecure,
    )
    engine = EngineSource(
        server.url,
        name,
        metrics,
        deadline=polling.deadline,
        api_key=api_key,
        ca_file=ca_file,
        insecure_skip_verify=insecure,
        process=process,
    )
    sources: list[Source] = [metrics, engine]
    if server.canary is not None and sends_canaries:
        sources.append(
            CanarySource(
                server.url,
                name,
                metrics,
                engine,
                deadline_seconds=server.canary.deadline_seconds,
                still_seconds=server.canary.still_seconds,
                model=server.canary.model,
                api_key=api_key,
                ca_file=ca_file,
                insecure_skip_verify=insecure,
            )
        )
    if server.log_file is not None:
        sources.append(ServerLog(name, path=str(server.log_file)))
    elif server.log_unit:
        sources.append(ServerLog(name, unit=server.log_unit))
    return sources
