"""What the daemon watches: the sources of the configuration, and the servers that are found on the node.

It starts and ends pollers, keeps the GPUs' processes and what engine they belong to, and knows which source is down.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import msgspec

from monitor import logs
from monitor.api.node import Node
from monitor.clock import Clock
from monitor.config import Config, VllmServer
from monitor.found_servers import FoundServer, FoundServers
from monitor.outages import Outages
from monitor.repeats import Trouble
from monitor.samples import Event, GpuProcess, Labels, Scrape, Shape, label
from monitor.sources import engines
from monitor.sources.discovery import Found, ServerFinder
from monitor.sources.kernel_log import KernelLogSource
from monitor.sources.nvml import NvmlSource
from monitor.sources.poller import Poller, SourceStatus
from monitor.sources.processes import ProcessTable
from monitor.sources.source import Source
from monitor.sources.vllm_health import process_of
from monitor.store.head import Head
from monitor.watched_sources import host_source, kernel_log_source, nvml_source, server_sources

if TYPE_CHECKING:
    from monitor.sources.hardware import Hardware
    from monitor.sources.story import Story

log = logging.getLogger(__name__)

_FORGET_MS = 600_000
"""A found server whose process has gone stays for so long, down, so that an alert about it is seen."""

_Wanted = dict[str, tuple[object, Callable[[], Sequence[Source]]]]
"""What is to be watched, by name: its settings, and what makes its sources."""


class _Watched(msgspec.Struct):
    """Sources that begin and end together: their settings, and the keys of their pollers."""

    settings: object
    keys: list[str]


class Watching:
    """``ended`` is told of each task that ends. Used from one loop."""

    def __init__(
        self,
        config: Config,
        clock: Clock,
        head: Head,
        node: Node,
        ended: Callable[[asyncio.Task[None]], None],
        *,
        simulate: bool = False,
        hardware: Hardware | None = None,
        past_seconds: float = 0.0,
    ) -> None:
        self._config = config
        self._clock = clock
        self._head = head
        self._node = node
        self._ended = ended
        self._simulate = simulate
        self._hardware = hardware
        self._past_seconds = past_seconds
        self.rules_began: float | None = None
        """When rules were first evaluated, by ``time.monotonic``: sources are read just before each of their beats."""
        self._pollers: dict[str, tuple[Poller, asyncio.Task[None]]] = {}
        self._watched: dict[str, _Watched] = {}
        self._found: dict[str, VllmServer] = {}
        """Servers that were found, by label."""
        self._seen_ms: dict[str, int] = {}
        """When each of them was seen last."""
        self._kept = FoundServers(config.state_directory)
        self._gpus: dict[str, str] = {}
        self._gpus_of: Shape | None = None
        """The series that they were seen in."""
        self._rows: tuple[GpuProcess, ...] = ()
        self._nvml: NvmlSource | None = None
        self._kernel_log: KernelLogSource | None = None
        self._story: Story | None = None
        """What is simulated."""
        self._outages = Outages(node.tell)
        self._new_tables()

    def _new_tables(self) -> None:
        config = self._config
        self._table = ProcessTable(config.hostname, _labels(config))
        self._finder = ServerFinder(self._table)

    # -- beginning and end -------------------------------------------------------------------------------------------

    @property
    def tasks(self) -> list[asyncio.Task[None]]:
        """A task for each source."""
        return [task for _, task in self._pollers.values()]

    def start(self) -> None:
        """Start a poller for every source of the configuration, and for the servers that the run before had found."""
        if self._simulate:
            for source in self._simulated():
                self._add(source, {})
            self._tell()
            return
        now_ms = self._clock.now_ms()
        for one in self._kept.read() if self._looks else ():
            if 0 <= now_ms - one.seen_ms <= _FORGET_MS and self._is_labelled(one.url, one.server):
                self._found[one.server] = VllmServer(one.url, one.server)
                self._seen_ms[one.server] = one.seen_ms
        self._match(now_ms)

    def reload(self, config: Config) -> None:
        """Take another configuration. What is watched goes on. Where its own settings changed it begins anew, and what
        it said last stands until it says more: nobody is told that an alert has ended because gpumon looked away."""
        old, self._config = self._config, config
        if self._simulate:
            return
        if (old.hostname, _labels(old)) != (config.hostname, _labels(config)):
            self._new_tables()
        for name, server in list(self._found.items()):
            if not self._looks or not self._is_labelled(server.url, name):
                del self._found[name], self._seen_ms[name]
        self._match(self._clock.now_ms())

    @property
    def _looks(self) -> bool:
        """Whether servers are looked for on the node."""
        return self._config.vllm.enabled and self._config.discover

    def _is_labelled(self, url: str, server: str) -> bool:
        """Whether a server that was found here would be found under this label again, and is none that the
        configuration names."""
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port or 0
        except ValueError:
            return False
        if any(server == one.server for one in self._config.vllm_servers):
            return False
        return server in (self._table.label_at(port), self._table.label_inside(host, port))

    def _match(self, now_ms: int) -> None:
        """Watch what is wanted, and nothing else."""
        wanted = self._wanted()
        before: dict[str, SourceStatus] = {}
        for name, watched in list(self._watched.items()):
            if name not in wanted or watched.settings != wanted[name][0]:
                del self._watched[name]
                before |= {key: self._stop(key) for key in watched.keys}
        self._nvml = self._nvml if "nvml" in self._watched else None
        self._kernel_log = self._kernel_log if "kernel_log" in self._watched else None
        for name, (settings, make) in wanted.items():
            if name not in self._watched:
                self._watched[name] = _Watched(settings, [self._add(source, before) for source in make()])
        self._pollers = {key: self._pollers[key] for name in wanted for key in self._watched[name].keys}
        for key, status in before.items():
            if key not in self._pollers:
                self._head.end(key, now_ms)
                if status.source == "vllm":
                    self._outages.forget(status.server)
        if self._nvml is None and self._rows:
            self._rows = ()
            self._show_processes(now_ms)
        if self._nvml is not None and self._kernel_log is not None:
            self._nvml.on_xid = self._kernel_log.note_nvml
        self._tell()

    def _add(self, source: Source, before: Mapping[str, SourceStatus]) -> str:
        """Begin to poll; the key. Until the first poll it is as it was ``before``."""
        poller = Poller(source, self._clock, self._take, self._lose, self._servers, lambda: self.rules_began)
        status = poller.status
        if (last := before.get(status.key)) is not None:
            status.up, status.absent, status.reason = last.up, last.absent, last.reason
            status.last_success_ms, status.poll_seconds, status.facts = (
                last.last_success_ms,
                last.poll_seconds,
                last.facts,
            )
        task = asyncio.create_task(poller.run(), name=f"source {status.key}")
        task.add_done_callback(self._ended)
        self._pollers[status.key] = (poller, task)
        return status.key

    def _stop(self, key: str) -> SourceStatus:
        poller, task = self._pollers.pop(key)
        task.remove_done_callback(self._ended)
        task.cancel()
        return poller.status

    def _servers(self) -> int:
        return sum(1 for poller, _ in self._pollers.values() if poller.status.server)

    def _tell(self) -> None:
        self._node.statuses = [poller.status for poller, _ in self._pollers.values()]

    def _wanted(self) -> _Wanted:
        config = self._config
        wanted: _Wanted = {}
        if config.nvml.enabled:
            wanted["nvml"] = ((config.nvml, config.hostname), self._new_nvml)
        if config.kernel_log.enabled:
            wanted["kernel_log"] = ((config.kernel_log, config.nvml.enabled), self._new_kernel_log)
        if config.host.enabled:
            wanted["host"] = ((config.host, config.model_caches, config.rootfs), self._new_host)
        if config.vllm.enabled:
            for server in (*config.vllm_servers, *self._found.values()):
                wanted[f"server {server.server}"] = ((server, config.vllm), partial(self._new_server, server))
        return wanted

    def _new_nvml(self) -> list[Source]:
        self._nvml = nvml_source(self._config)
        return [self._nvml]

    def _new_kernel_log(self) -> list[Source]:
        self._kernel_log = kernel_log_source(self._config)
        return [self._kernel_log]

    def _new_host(self) -> list[Source]:
        return [host_source(self._config)]

    def _new_server(self, server: VllmServer) -> list[Source]:
        """A daemon that notifies nobody sends no canary."""
        return server_sources(
            server,
            self._config.vllm,
            process=lambda: process_of(self._table, server.server),
            sends_canaries=self._node.mode == "system",
        )

    def _simulated(self) -> list[Source]:
        from monitor.sources.simulated import past, simulated_sources
        from monitor.sources.simulated_engine import SimulatedEngine
        from monitor.sources.simulated_host import SimulatedHost
        from monitor.sources.story import Story

        story = self._story = Story(self._clock.now_ms(), past_seconds=self._past_seconds, hardware=self._hardware)
        hostname = self._config.hostname
        servers = simulated_sources(story, hostname)
        others: list[SimulatedHost | SimulatedEngine] = [
            SimulatedHost(story.origin_ms, nodename=f"{story.hardware.model.lower()}-demo")
        ]
        others += [
            SimulatedEngine(number, hostname=hostname, engines=story.engines) for number in range(len(story.engines))
        ]
        for source, scrape in past(story, servers):
            self._head.ingest(SourceStatus(source.name, source.server, source.interval).key, scrape)
            if source.name == "nvml":
                for other in others:
                    status = SourceStatus(other.name, other.server, other.interval)
                    self._head.ingest(status.key, other.scrape(scrape.at_ms))
        return [*servers, *others]

    # -- what comes in -----------------------------------------------------------------------------------------------

    def _take(self, status: SourceStatus, scrape: Scrape) -> None:
        node = self._node
        self._head.ingest(status.key, scrape)
        node.ready = True
        self._outages.up(status.source, status.server, scrape.at_ms)
        for event in scrape.events:
            node.tell(event)
            subject = {name: event.labels.get(name, "") for name in ("gpu", "server", "code")}
            log.warning("%s: %s", event.kind, event.title, extra=logs.about(event=event.kind, **subject))
        if status.source != "nvml":
            return
        if scrape.shape is not self._gpus_of:
            self._gpus, self._gpus_of = engines.gpus_of(scrape.shape.series), scrape.shape
        if self._nvml is not None:
            node.topology = self._nvml.topology
        if self._kernel_log is not None:
            self._kernel_log.know_gpus(scrape.shape)
        if scrape.processes is not None:
            if self._story is not None:
                # The PIDs of a story are nobody's: this machine's process of that number is another.
                from monitor.sources.simulated_processes import processes

                self._rows = processes(self._story, self._config.hostname, scrape.processes, scrape.at_ms)
            else:
                self._rows = self._table.enrich(scrape.processes, scrape.at_ms)
            self._show_processes(scrape.at_ms)

    def _lose(self, status: SourceStatus, at_ms: int) -> None:
        self._head.end(status.key, at_ms)
        self._node.ready = True  # a source that says why it is down has answered, too
        self._outages.down(status.source, status.server, status.interval, status.reason, at_ms, absent=status.absent)
        if status.source == "nvml":
            self._rows = ()
            self._show_processes(at_ms)

    def _show_processes(self, at_ms: int) -> None:
        """Those on the GPUs, and the engines' processes that are on none."""
        others = () if self._simulate else self._table.engine_processes(at_ms, beside=self._rows)
        self._node.processes = (*self._rows, *others)
        self._node.processes_at_ms = at_ms if self._node.processes else None

    def engine_gpus(self) -> Sequence[tuple[tuple[str, str], ...]]:
        """The label sets of ``gpumon_engine_gpu_info``."""
        if self._simulate:
            return []  # the story says it itself
        configured = {server.server: server.gpus for server in self._config.vllm_servers if server.gpus}
        return engines.engine_gpus(configured, self._gpus, self._rows)

    def gone(self, labels: Labels) -> str | None:
        """The source whose data an alert with these labels needs, where it is down."""
        server = label(labels, "server")
        on_gpu = bool(label(labels, "UUID") or label(labels, "gpu"))
        for poller, _ in self._pollers.values():
            status = poller.status
            if status.up or (status.source == "vllm" and status.server != server):
                continue
            if (status.source == "vllm" and server) or (status.source == "nvml" and on_gpu):
                return status.key
            if status.source == "host" and not server and not on_gpu:
                return status.key
        return None

    # -- the node's processes and servers ----------------------------------------------------------------------------

    async def look_around(self) -> None:
        """Keep looking at the node's processes and for its servers, until cancelled."""
        trouble = Trouble(log, level=logging.ERROR)
        while True:
            if self._nvml is not None:
                self._nvml.watched = self._node.clients > 0
            try:
                if await self._table.refresh(self._clock.now_ms()):
                    if self._nvml is None or not self._rows:
                        self._show_processes(self._clock.now_ms())
                    if self._looks:
                        finder = self._finder
                        found = await finder.find()
                        if finder is self._finder:  # else a reload has given other labels meanwhile
                            self._follow(found)
                            await self._keep_found()
            except Exception as error:  # what is not found must not end the watching of what is
                told = isinstance(error, OSError) and error.strerror  # with the file's name; a TimeoutError has none
                fault, why = (None, str(error)) if told else (error, repr(error))
                trouble.again(f"looking for processes and servers failed: {why}", error=fault)
            else:
                trouble.over("processes and servers are looked for again")
            await asyncio.sleep(1.0)

    def _follow(self, found: list[Found]) -> None:
        """Watch the servers that were found, and let go of those that have been gone for long."""
        now_ms = self._clock.now_ms()
        if not self._looks:
            return  # the configuration was changed while they were looked for
        changed = False
        for one in found:
            known = self._found.get(one.server)
            if known is None and f"vllm:{one.server}" in self._pollers:
                continue  # of the configuration, which stays in any case
            if known is None:
                log.info("found %s at %s (%s)", one.server, one.url, one.how, extra=logs.about(server=one.server))
                self._tell_of(now_ms, "server_found", f"{one.server} was found, and is watched: {one.url}", one.server)
            if known is None or known.url != one.url:
                self._found[one.server] = VllmServer(one.url, one.server)
                changed = True
            self._seen_ms[one.server] = now_ms
        for server, seen_ms in list(self._seen_ms.items()):
            if now_ms - seen_ms > _FORGET_MS and not self._is_up(server):
                log.info("%s is gone: no longer watched", server, extra=logs.about(server=server))
                self._tell_of(now_ms, "server_gone", f"{server} is gone, and no longer watched", server)
                del self._found[server], self._seen_ms[server]
                changed = True
        if changed:
            self._match(now_ms)

    def _is_up(self, server: str) -> bool:
        """Whether a server's metrics are read."""
        known = self._pollers.get(f"vllm:{server}")
        return known is not None and known[0].status.up

    async def _keep_found(self) -> None:
        if self._node.mode != "demo":
            servers = tuple(FoundServer(one.url, name, self._seen_ms[name]) for name, one in self._found.items())
            await self._kept.keep(servers, self._clock.now_ms())

    def _tell_of(self, at_ms: int, kind: str, title: str, server: str) -> None:
        self._node.tell(Event(at_ms, kind, "info", title, {"server": server}))


def _labels(config: Config) -> dict[str, str]:
    """What the configuration calls its servers, by their URLs."""
    return {server.url: server.server for server in config.vllm_servers}
