"""Wires what tells people: the outbox, the notifier, Alertmanagers and heartbeats. The daemon's other hand beside
``watching.py``.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from monitor.api.node import Node
from monitor.clock import Clock
from monitor.config import Config
from monitor.notify.alertmanagers import Alertmanagers
from monitor.notify.heartbeat import Heartbeats
from monitor.notify.notice import Graph
from monitor.notify.notifier import Notifier
from monitor.notify.outbox import Outbox, OutboxError
from monitor.notify.policy import Policy
from monitor.notify.reports import Reports
from monitor.notify.sender import AppriseSender
from monitor.notify.targets import Targets
from monitor.notify.webhook import WebhookSender
from monitor.promql.errors import PromQLError
from monitor.records import replace
from monitor.rules.engine import Engine
from monitor.rules.graph import curve_of, graph_of
from monitor.rules.transition import Alert, Transition
from monitor.samples import ScrapeBuilder

log = logging.getLogger(__name__)

Spawn = Callable[[Coroutine[Any, Any, None], str], None]

UNSCRAPED_MS = 300_000
"""With ``evaluator: remote``: after how long without a scrape this node speaks for itself."""
_GRAPH_MS = 3_600_000
_STALE_MS = 60_000
"""A source that has not been read for so long stops the heartbeat."""


class Telling:
    """Tells people, and other machines, what the rules found. Used from the daemon's loop."""

    def __init__(
        self, config: Config, clock: Clock, node: Node, engine: Engine, *, silent: bool, simulated: bool
    ) -> None:
        """``silent`` is a private daemon's: it records, and tells nobody."""
        self._config = config
        self._clock = clock
        self._node = node
        self._engine = engine
        self._silent = silent
        self._began_ms = clock.now_ms()
        self.outbox = Outbox(config.state_directory / "gpumon.db", clock.now_ms)
        self._sender = AppriseSender()
        self._webhooks = WebhookSender()
        self.notifier = Notifier(
            self.outbox,
            self._policy(config),
            Targets(self._sender, self._webhooks),
            f"{config.hostname} (simulated)" if simulated else config.hostname,
            clock.now_ms,
            speaks=self.speaks,
            graph_of=self._graph_of,
            sleep=clock.sleep,
        )
        self.reports = Reports(
            replace(config, reports=(), receivers=()) if silent else config,
            self.outbox,
            Targets(self._sender),
            f"{config.hostname} (simulated)" if simulated else config.hostname,
            clock.now_ms,
            node.tell,
            sleep=clock.sleep,
        )
        self.alertmanagers = Alertmanagers(() if silent else config.alertmanagers)
        self.heartbeats = Heartbeats(() if silent else config.heartbeats, self.why_unwell, clock.now_ms)
        self._configure(config)

    def speaks(self) -> bool:
        """Whether this node decides and notifies itself, and not a Prometheus that scrapes it."""
        if self._config.evaluator == "local":
            return True
        last_ms = self._began_ms if self._node.last_scrape_ms is None else self._node.last_scrape_ms
        return abs(self._clock.now_ms() - last_ms) > UNSCRAPED_MS  # also where the clock was set back

    async def open(self, saved_at_ms: int | None) -> None:
        """Take up what an earlier run left. ``saved_at_ms`` is when that was last alive."""
        await self.outbox.open()
        try:
            self._engine.restore(await self.outbox.load_alerts(), self._clock.now_ms(), saved_at_ms)
            self._node.transitions.extend(await self.outbox.load_transitions())
        except OutboxError as error:
            log.error("alerts of an earlier run are not known: %s", error)
        await self.notifier.open()
        await self.reports.open()

    def start(self, spawn: Spawn) -> None:
        """Start what runs beside."""
        spawn(self.notifier.run(), "notifications")
        spawn(self.alertmanagers.run(), "alertmanagers")
        spawn(self.heartbeats.run(), "heartbeats")
        spawn(self.reports.run(), "reports")

    def submit(self, transitions: Sequence[Transition], now_ms: int) -> None:
        """The outcome of an evaluation."""
        alerts = self._engine.saved()
        self.notifier.submit(transitions, alerts, now_ms)
        if self.speaks():
            self.alertmanagers.offer(alerts, self._engine.resolved(), now_ms)

    def reload(self, config: Config) -> None:
        """Go by another configuration."""
        self._config = config
        if self._silent:
            self._configure(config)
            return
        self.notifier.reload(self._policy(config))
        self.heartbeats.reload(config.heartbeats)
        self.reports.reload(config)
        self._configure(config)

    def add_to(self, builder: ScrapeBuilder) -> None:
        """gpumon's own series on all of it."""
        self.notifier.add_to(builder)
        self.alertmanagers.add_to(builder)
        self.heartbeats.add_to(builder)

    async def close(self) -> None:
        """Send what can still be sent, and write what is owed."""
        await asyncio.gather(self.notifier.close(), self.alertmanagers.close(), self.heartbeats.close())

    async def close_files(self) -> None:
        """After ``close`` and the end of what ``start`` began."""
        await self._sender.close()
        await self._webhooks.close()
        await self.outbox.close()

    def why_unwell(self) -> str:
        """Why no heartbeat may be sent: "" while what this node watches is read, the rules are evaluated, and alerts
        are recorded. A server that is down is an alert's business; here it is whether there would be one."""
        now_ms = self._clock.now_ms()
        for status in self._node.statuses:
            if status.absent or status.source == "vllm" or status.server:
                continue
            if not status.up:
                return f"{status.source} is not read: {status.reason}"
            if status.last_success_ms is None or now_ms - status.last_success_ms > _STALE_MS:
                return f"{status.source} was not read for a minute"
        groups = self._engine.groups_status()
        late = [g.name for g in groups if now_ms - (g.last_evaluation_ms or self._began_ms) > _STALE_MS + g.interval_ms]
        if late:
            return f"the rules of {late[0]} are not evaluated"
        told = self.notifier.status()
        return "" if told.recording_ok else f"alerts are not recorded: {told.recording_error}"

    def _configure(self, config: Config) -> None:
        self._engine.configure(dict(config.external_labels), config.external_url)
        if self._silent:
            return
        self._node.notifies = config.route is not None or bool(config.alertmanagers)
        self._node.heartbeat = bool(config.heartbeats)
        groups = [group.interval_ms for group in self._engine.groups_status()]
        longest_ms = max([config.evaluation_interval_ms, *groups])
        self.alertmanagers.reload(config.alertmanagers, config.external_labels, config.external_url, longest_ms)

    def _policy(self, config: Config) -> Policy:
        if self._silent:
            return Policy()
        return Policy(config.receivers, config.route, config.inhibit_rules, config.time_intervals, config.external_url)

    def _graph_of(self, alert: Alert) -> Graph | None:
        """The hour before now of what the alert's rule compares."""
        for group in self._engine.groups_status():
            for status in group.rules:
                rule = status.rule
                if rule.records or (group.name, rule.name) != (alert.group, alert.rule):
                    continue
                plan = graph_of(rule)
                if plan is None:
                    return None
                now_ms = self._clock.now_ms()
                try:
                    curve = curve_of(plan, self._node.head, alert.labels, now_ms - _GRAPH_MS, now_ms)
                except PromQLError as error:
                    log.debug("no picture of %s: %s", alert.rule, error)
                    return None
                if curve is None:
                    return None
                return Graph(curve.title, curve.points, curve.step_ms, curve.threshold, curve.above)
        return None
