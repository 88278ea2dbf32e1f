"""A node with an API that notifies: rules that fire, routes, silences, an outbox on the disk."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import httpx

from monitor.clock import Clock
from monitor.notify.notifier import Notifier
from monitor.notify.outbox import Outbox
from monitor.notify.policy import Policy
from monitor.notify.targets import Targets
from monitor.store.head import Head
from tests.api.running import Running, running
from tests.notify.parts import FakeSender

T0 = 1_800_000_000_000
HOUR = 3_600_000
TOKEN = "open-sesame-41"
CONFIG = f"""
node: {{hostname: n1, instance: 'n1:9519'}}
api: {{token: {TOKEN}}}
receivers:
- {{name: team, apprise: 'json://secret-place:1/x'}}
- {{name: pager, apprise: 'json://secret-place:2/y'}}
route:
  receiver: team
  group_by: [alertname, severity]
  routes:
  - {{receiver: pager, matchers: ['severity="critical"']}}
  - {{receiver: [team, pager], matchers: ['alertname="Night"'], mute_time_intervals: [always]}}
time_intervals:
- name: always
  time_intervals: [{{times: [{{start_time: '00:00', end_time: '24:00'}}]}}]
inhibit_rules:
- {{source_matchers: [alertname=Hot], target_matchers: [alertname=Warm], equal: [gpu]}}
"""
RULES = """
groups:
- name: g
  interval: 1s
  rules:
  - {alert: Hot, expr: vector(1), labels: {severity: critical, gpu: "3"}, annotations: {summary: 'GPU 3 is "hot"'}}
  - {alert: Warm, expr: vector(1), labels: {severity: warning, gpu: "3"}}
  - {alert: Full, expr: vector(1), labels: {severity: warning, gpu: "0"}}
  - {alert: Night, expr: vector(1), labels: {severity: warning}}
  - {alert: Slow, expr: vector(1), for: 1h, labels: {severity: warning}}
  - {alert: Watchdog, expr: vector(1), labels: {severity: none}}
"""


class StandingClock(Clock):
    """Stands still until the test moves it."""

    def __init__(self, at_ms: int = T0) -> None:
        super().__init__()
        self.at_ms = at_ms

    def now_ms(self) -> int:
        return self.at_ms


class Notifying:
    """What a test has."""

    def __init__(self, api: Running, clock: StandingClock, notifier: Notifier, outbox: Outbox) -> None:
        self.node = api.node
        self.client = api.client
        """Over the unix socket."""
        self.socket = api.socket
        self.port = api.port
        self.clock = clock
        self.notifier = notifier
        self.outbox = outbox

    def evaluate(self) -> None:
        """Evaluate the rules, as the daemon does."""
        transitions = self.node.engine.step(self.clock.at_ms, self.node.head)
        self.notifier.submit(transitions, self.node.engine.alerts(), self.clock.at_ms)

    def tcp(self, token: str | None = None) -> httpx.AsyncClient:
        """A client over TCP."""
        headers = {} if token is None else {b"Authorization": b"Bearer " + token.encode()}
        return httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.port}", headers=headers, trust_env=False, timeout=10)


@asynccontextmanager
async def notifying(
    state: Path, sender: FakeSender | None = None, *, config: str = CONFIG, rules: str = RULES
) -> AsyncIterator[Notifying]:
    """A node whose rules were evaluated once, with its state in ``state``."""
    clock = StandingClock()
    async with running(Head("gpumon", "n1:9519"), rules, config=config, clock=clock) as api:
        read = api.node.config
        outbox = Outbox(state / "gpumon.db", clock.now_ms)
        await outbox.open()
        policy = Policy(read.receivers, read.route, read.inhibit_rules, read.time_intervals)
        notifier = Notifier(outbox, policy, Targets(sender or FakeSender()), "n1", clock.now_ms)
        await notifier.open()
        api.node.notifier = notifier
        node = Notifying(api, clock, notifier, outbox)
        node.evaluate()
        try:
            yield node
        finally:
            await notifier.close(drain=0)
            await outbox.close()


@contextmanager
def served(state: Path, sender: FakeSender | None = None, *, config: str = CONFIG) -> Iterator[Notifying]:
    """The same node in a thread of its own, for commands, which have their own loop."""
    ready: queue.SimpleQueue[tuple[Notifying, asyncio.AbstractEventLoop, asyncio.Event] | None] = queue.SimpleQueue()

    async def serve() -> None:
        async with notifying(state, sender, config=config) as node:
            done = asyncio.Event()
            ready.put((node, asyncio.get_running_loop(), done))
            await done.wait()

    def work() -> None:
        try:
            asyncio.run(serve())
        finally:
            ready.put(None)

    thread = threading.Thread(target=work)
    thread.start()
    begun = ready.get(timeout=30)
    try:
        assert begun is not None, "the server did not start"
        yield begun[0]
    finally:
        if begun is not None:
            begun[1].call_soon_threadsafe(begun[2].set)
        thread.join(timeout=30)
