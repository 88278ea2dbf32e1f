"""The daemon: wires sources, store, rules, notifications and API together, and ends them. Nothing else.

It never imports textual, aiohttp, apprise, numpy or pynvml: those live in processes of their own.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import signal
import time
from collections import deque
from dataclasses import dataclass, replace
from pathlib import Path

from monitor import __version__
from monitor.api.node import Node
from monitor.api.server import ApiServer, CannotListen
from monitor.clock import Clock
from monitor.config import Config, ConfigError, load
from monitor.notify.notifier import Notifier
from monitor.notify.outbox import Outbox, OutboxError
from monitor.notify.sender import AppriseSender
from monitor.own_series import OwnSeries
from monitor.rules.engine import Engine
from monitor.rules.rule_file import RuleSet, default_rules_path, load_rules
from monitor.samples import Labels, Scrape, label
from monitor.sd_notify import notify, watchdog_seconds
from monitor.sources import engines
from monitor.sources.poller import Poller, SourceStatus
from monitor.sources.source import Source
from monitor.store.head import Head

log = logging.getLogger(__name__)

PRIVATE_LINGER = 600.0
"""Seconds that a private daemon stays after its last client has gone."""
_TRANSITIONS_KEPT = 1000
_EVENTS_KEPT = 2000
_SELF = "gpumon"


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says beside the configuration."""

    mode: str = "system"
    """``system``, ``private`` or ``demo``."""
    config_path: Path | None = None
    simulate: bool = False
    speed: float = 1.0
    past_seconds: float = 0.0
    """Simulated past to begin with."""


class Daemon:
    """One node's daemon. ``run`` returns when it was told to end."""

    def __init__(self, config: Config, options: Options) -> None:
        self._config = config
        self._options = options
        self._clock = Clock(options.speed)
        self._rules = read_rules(config)
        self._head = Head(config.job, config.instance)
        self._engine = Engine(self._rules, default_interval_ms=config.evaluation_interval_ms)
        self._node = Node(
            config,
            self._clock,
            self._head,
            self._engine,
            mode=options.mode,
            simulated=options.simulate,
            transitions=deque(maxlen=_TRANSITIONS_KEPT),
            events=deque(maxlen=_EVENTS_KEPT),
        )
        self._server = ApiServer(self._node)
        self._own = OwnSeries(options.simulate)
        self._gpus: dict[str, str] = {}
        self._pollers: dict[str, tuple[Poller, asyncio.Task[None]]] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._stop = asyncio.Event()
        self._failed: BaseException | None = None
        self._lock: int | None = None
        silent = options.mode == "private"
        self._node.notifies = not silent and bool(config.route)
        self._outbox = Outbox(config.state_directory / "gpumon.db", self._clock.now_ms)
        self._sender = AppriseSender()
        self._notifier = Notifier(
            self._outbox,
            () if silent else config.receivers,
            () if silent else config.route,
            self._sender,
            f"{config.hostname} (simulated)" if options.simulate else config.hostname,
            self._clock.now_ms,
        )

    async def run(self) -> None:
        """Start everything, serve, and end cleanly on SIGTERM or SIGINT.

        Raises ``CannotListen`` before anything was started, and whatever ended one of the daemon's own tasks.
        """
        config = self._config
        self._lock = _lock(config.state_directory)
        self._server.bind(config.api.socket, config.api.listen)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._end, number)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        await self._open_notifications()
        self._start_sources()
        self._spawn(self._server.run(), "api")
        self._spawn(self._watch_rules(), "rules")
        self._spawn(self._watch_self(), "own series")
        if self._options.mode == "private":
            self._spawn(self._linger(), "linger")
        notify("READY=1", f"STATUS=watching as {config.instance}")
        log.info("gpumon %s watches as %s, socket %s", __version__, config.instance, config.api.socket)
        try:
            await self._stop.wait()
        finally:
            await self._close()
        if self._failed is not None:
            raise self._failed

    # -- beginning and end -------------------------------------------------------------------------------------------

    async def _open_notifications(self) -> None:
        await self._outbox.open()
        try:
            self._engine.restore(await self._outbox.load_alerts(), self._clock.now_ms())
            self._node.transitions.extend(await self._outbox.load_transitions())
        except OutboxError as error:
            log.error("alerts of an earlier run are not known: %s", error)
        await self._notifier.open()
        self._spawn(self._notifier.run(), "notifications")

    def _start_sources(self) -> None:
        wanted = {(s.name, s.server): s for s in self._make_sources()}
        for source in wanted.values():
            poller = Poller(source, self._clock, self._take, self._lose)
            task = asyncio.create_task(poller.run(), name=f"source {poller.status.key}")
            task.add_done_callback(self._watch_task)
            self._pollers[poller.status.key] = (poller, task)
        self._node.statuses = [poller.status for poller, _ in self._pollers.values()]

    def _make_sources(self) -> list[Source]:
        config = self._config
        if self._options.simulate:
            return self._simulated()
        sources: list[Source] = []
        if config.nvml.enabled:
            from monitor.sources.nvml import NvmlSource

            sources.append(
                NvmlSource(interval=config.nvml.interval, deadline=config.nvml.deadline, hostname=config.hostname)
            )
        if config.host.enabled:
            from monitor.sources.host import HostSource

            sources.append(HostSource(interval=config.host.interval, deadline=config.host.deadline))
        if config.vllm.enabled and config.vllm_servers:
            from monitor.sources.vllm import VllmSource

            for server in config.vllm_servers:
                try:
                    api_key = server.api_key.reveal() if server.api_key else None
                except ValueError as error:
                    log.error("server %s is scraped without its key: %s", server.server, error)
                    api_key = None
                sources.append(
                    VllmSource(
                        server.url,
                        server.server,
                        interval=config.vllm.interval,
                        deadline=config.vllm.deadline,
                        api_key=api_key,
                    )
                )
        return sources

    def _simulated(self) -> list[Source]:
        from monitor.sources.simulated import past, simulated_sources
        from monitor.sources.simulated_host import SimulatedHost
        from monitor.sources.story import Story

        story = Story(self._clock.now_ms(), past_seconds=self._options.past_seconds)
        servers = simulated_sources(story, self._config.hostname)
        host = SimulatedHost(story.origin_ms)
        for source, scrape in past(story, servers):
            self._head.ingest(SourceStatus(source.name, source.server, source.interval).key, scrape)
            if source.name == "nvml":
                self._head.ingest(host.name, host.scrape(scrape.at_ms))
        return [*servers, host]

    def _spawn(self, work: object, name: str) -> None:
        task: asyncio.Task[None] = asyncio.create_task(work, name=name)  # type: ignore[arg-type]
        task.add_done_callback(self._watch_task)
        self._tasks.append(task)

    def _watch_task(self, task: asyncio.Task[None]) -> None:
        """A task of the daemon that ends by itself is a fault: then all ends, and systemd starts it again."""
        if task.cancelled() or self._stop.is_set():
            return
        error = task.exception()
        if error is not None:
            log.critical("%s failed", task.get_name(), exc_info=error)
            self._failed = error
        self._stop.set()

    def _end(self, number: int) -> None:
        log.info("ending: %s", signal.Signals(number).name)
        self._stop.set()

    async def _close(self) -> None:
        """End from the left to the right: nothing new comes in, what is due goes out, what is owed is written."""
        notify("STOPPING=1")
        serving = {task for task in self._tasks if task.get_name() in ("api", "notifications")}
        ending = [task for _, task in self._pollers.values()] + [t for t in self._tasks if t not in serving]
        for task in ending:
            task.cancel()
        self._server.close()
        if ending:
            await asyncio.wait(ending, timeout=2)
        await self._notifier.close()
        _, late = await asyncio.wait(serving, timeout=2)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
        await self._sender.close()
        await self._outbox.close()
        if self._lock is not None:
            os.close(self._lock)

    # -- what comes in -----------------------------------------------------------------------------------------------

    def _take(self, status: SourceStatus, scrape: Scrape) -> None:
        self._head.ingest(status.key, scrape)
        self._node.ready = True
        self._node.events.extend(scrape.events)
        for event in scrape.events:
            log.warning("%s: %s", event.kind, event.title)
        if scrape.processes is not None:
            self._node.processes = scrape.processes
            self._node.processes_at_ms = scrape.at_ms
        if status.source == "nvml":
            self._gpus = engines.gpus_of(scrape.shape.series)

    def _lose(self, status: SourceStatus, at_ms: int) -> None:
        self._head.end(status.key, at_ms)
        self._node.ready = True  # a source that says why it is down has answered, too
        if status.source == "nvml":
            self._node.processes = ()
            self._node.processes_at_ms = None

    async def _watch_self(self) -> None:
        """The daemon's own series, once a second of the world."""
        while True:
            configured = {} if self._options.simulate else {s.server: s.gpus for s in self._config.vllm_servers}
            rows = engines.engine_gpus(configured, self._gpus)
            scrape = self._own.scrape(self._clock.now_ms(), self._node, self._engine, self._notifier, rows)
            self._head.ingest(_SELF, scrape)
            await asyncio.sleep(1.0)

    # -- rules -------------------------------------------------------------------------------------------------------

    async def _watch_rules(self) -> None:
        """Evaluate each group when it is due. This loop alone feeds systemd's watchdog."""
        beat = watchdog_seconds()
        fed = 0.0
        while True:
            now_ms = self._clock.now_ms()
            if now_ms >= self._engine.next_due_ms:
                self._evaluate(now_ms)
            if beat is not None and time.monotonic() - fed >= beat / 2:
                notify("WATCHDOG=1")
                fed = time.monotonic()
            wait = (self._engine.next_due_ms - self._clock.now_ms()) / 1000 / self._clock.speed
            await asyncio.sleep(min(max(wait, 0.01), beat / 2 if beat else 1.0, 1.0))

    def _evaluate(self, now_ms: int) -> None:
        transitions = self._engine.step(now_ms, self._head, gone=self._gone)
        self._node.transitions.extend(transitions)
        for one in transitions:
            name = label(one.alert.labels, "alertname")
            log.info("alert %s: %s -> %s%s", name, one.before, one.after, f" ({one.reason})" if one.reason else "")
        self._notifier.submit(transitions, self._engine.saved(), now_ms)

    def _gone(self, labels: Labels) -> str | None:
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

    # -- reload, linger ----------------------------------------------------------------------------------------------

    def _reload(self) -> None:
        """SIGHUP: read the configuration and the rules again. A bad file changes nothing."""
        notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
        try:
            config = load(self._options.config_path) if self._options.config_path else self._config
            config = replace(
                config,
                hostname=self._config.hostname,
                job=self._config.job,
                instance=self._config.instance,
                api=self._config.api,
                state_directory=self._config.state_directory,
            )
            rules = read_rules(config)
        except ConfigError as error:
            for problem in error.problems:
                log.error("not reloaded: %s", problem)
            notify("READY=1", "STATUS=a bad configuration was refused; the old one stays")
            return
        changed = (config.nvml, config.host, config.vllm, config.vllm_servers) != (
            self._config.nvml,
            self._config.host,
            self._config.vllm,
            self._config.vllm_servers,
        )
        self._config = self._node.config = config
        self._rules = rules
        self._engine.reload(rules)
        if self._options.mode != "private":
            self._notifier.reload(config.receivers, config.route)
            self._node.notifies = bool(config.route)
        if changed and not self._options.simulate:
            self._restart_sources()
        log.info("reloaded")
        notify("READY=1", f"STATUS=watching as {config.instance}")

    def _restart_sources(self) -> None:
        now_ms = self._clock.now_ms()
        old = list(self._pollers.items())
        self._pollers = {}
        for key, (_, task) in old:
            task.cancel()
            self._head.end(key, now_ms)
        self._start_sources()

    async def _linger(self) -> None:
        """A private daemon ends a while after its last client."""
        alone_since = time.monotonic()
        while time.monotonic() - alone_since < PRIVATE_LINGER:
            await asyncio.sleep(1.0)
            if self._node.clients:
                alone_since = time.monotonic()
        log.info("no client for %d minutes: ending", PRIVATE_LINGER // 60)
        self._stop.set()


def _lock(state_directory: Path) -> int | None:
    """Take the state directory for this daemon alone: two would each send what the other recorded. None where it cannot
    be written: then nothing is recorded, and the outbox says so. Raises ``CannotListen`` where another has it."""
    try:
        state_directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(state_directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        log.error("%s cannot be written: %s; alerts are not recorded", state_directory, error.strerror)
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        raise CannotListen(
            f"another gpumon daemon keeps its state in {state_directory}: "
            "end it first, or name another with --state-dir"
        ) from None
    return handle


def read_rules(config: Config) -> RuleSet:
    """The rules of the configuration, or those that are shipped. Raises ``ConfigError``."""
    return load_rules(config.rule_files or (default_rules_path(),))


def run(config: Config, options: Options) -> None:
    """Run a daemon until it is told to end. Raises ``ConfigError`` and ``CannotListen``."""

    async def main() -> None:
        await Daemon(config, options).run()

    asyncio.run(main())
