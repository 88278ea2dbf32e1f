"""The daemon: wires sources, store, rules, notifications and API together, and ends them. Nothing else.

It never imports textual, aiohttp, apprise, numpy or pynvml: those live in processes of their own.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence

import msgspec

from monitor import __version__, logs, resolving, starting, state_lock, told
from monitor.api.node import Node
from monitor.api.server import ApiServer
from monitor.clock import Clock
from monitor.config import Config
from monitor.failing_rules import FailingRules
from monitor.own_series import SELF, OwnSeries
from monitor.probes.kept import Limits
from monitor.probes.known import known_servers
from monitor.probes.runs import Runs
from monitor.probes.series import ProbeSeries
from monitor.reloading import Reloads, read_rules, said_if_slow
from monitor.rules.engine import Engine
from monitor.rules.rule_file import RuleSet
from monitor.rules.transition import Transition
from monitor.samples import Event, ScrapeBuilder, label
from monitor.sd_notify import notify, watchdog_seconds
from monitor.selector import Matcher
from monitor.sources import procfs
from monitor.sources.hardware import Hardware
from monitor.store.head import BACK_MS, HOUR_MS, Head
from monitor.store.history import History
from monitor.store.reaching import reach_back, stretches
from monitor.telling import Telling
from monitor.watching import Watching
from monitor.yaml_reader import Problem

log = logging.getLogger(__name__)

PRIVATE_LINGER = 600.0
"""Seconds that a private daemon stays after its last client has gone."""
_TRANSITIONS_KEPT = 1000
_EVENTS_KEPT = 2000
_SERVING = ("api", "notifications", "alertmanagers", "heartbeats")
"""Tasks that end by themselves when they are closed, after the others were cancelled."""
_ALIVE_EVERY = 10.0
_PAUSE_MS = 3_000
"""For how long rules are not evaluated after the clock went back: longer than most sources' intervals."""
_AT_ONCE_SECONDS = 0.01
"""For so long rules are evaluated before all else has its turn."""


class Options(msgspec.Struct, frozen=True):
    """What the command line says beside the configuration."""

    mode: str = "system"
    """``system``, ``private`` or ``demo``."""
    read: Callable[[], Config] = Config
    """Reads the configuration again, with what the command line says beside it. Raises ``ConfigError``."""
    simulate: bool = False
    speed: float = 1.0
    past_seconds: float = 0.0
    """Simulated past to begin with."""
    hardware: Hardware | None = None
    """What is simulated; None for eight H200."""
    file: str = "gpumon.yaml"
    """What ``read`` reads, for what is said of it."""


class Daemon:
    """One node's daemon. ``run`` returns when it was told to end."""

    def __init__(self, config: Config, options: Options) -> None:
        self._config = config
        self._options = options
        self._clock = Clock(options.speed)
        with said_if_slow(", ".join(map(str, config.rule_files)) or "the shipped rules"):
            self._rules = read_rules(config)
        self._head = Head(config.job, config.instance)
        self._history = _history_of(config, options)
        self._engine = Engine(self._rules, default_interval_ms=config.evaluation_interval_ms)
        self._failing = FailingRules(self._engine)
        self._node = Node(
            config,
            self._clock,
            self._head,
            self._engine,
            mode=options.mode,
            simulated=options.simulate,
            transitions=deque(maxlen=_TRANSITIONS_KEPT),
            events=deque(maxlen=_EVENTS_KEPT),
            history=self._history,
        )
        self._server = ApiServer(self._node)
        self._own = OwnSeries(options.simulate)
        self._watching = Watching(
            config,
            self._clock,
            self._head,
            self._node,
            self._watch_task,
            simulate=options.simulate,
            past_seconds=options.past_seconds,
            hardware=options.hardware,
        )
        self._tasks: list[asyncio.Task[None]] = []
        self._reaching: asyncio.Task[None] | None = None
        self._renewing: asyncio.Task[None] | None = None
        self._reloads = Reloads(
            options.read, options.file, held=lambda: self._config, take=self._take, refuse=self._refuse
        )
        self._stop = asyncio.Event()
        self._failed: BaseException | None = None
        self._lock: state_lock.StateLock | None = None
        self._ends = ""
        """Why it ends, for the event that tells of it."""
        self._orphaned = False
        self._fed = 0.0
        """When the watchdog was fed last."""
        self._telling = Telling(
            config,
            self._clock,
            self._node,
            self._engine,
            silent=options.mode == "private",
            simulated=options.simulate,
        )
        self._node.notifier = self._telling.notifier
        self._node.reports = self._telling.reports
        self._runs = Runs(
            config.state_directory / "results",
            servers=lambda: known_servers(self._node),
            tell=self._node.tell,
            now_ms=self._clock.now_ms,
            hostname=config.hostname,
            socket=str(config.api.socket),
            limits=Limits(config.probes.runs, config.probes.max_bytes),
        )
        self._node.runs = self._runs
        self._probe_series = ProbeSeries(self._runs)

    async def run(self) -> None:
        """Start everything, serve, and end cleanly on SIGTERM or SIGINT.

        Raises ``CannotListen`` or ``StateInUse`` before anything was started, and whatever ended one of the daemon's
        own tasks.
        """
        config = self._config
        alive_at_ms = state_lock.last_alive_ms(config.state_directory)
        self._lock = state_lock.StateLock.take(config.state_directory)
        self._server.bind(config.api.socket, config.api.listen)
        clean = self._lock.ended_by_itself()  # a start that fails before is no run
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._end, number)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        self._open_history()
        self._node.tell(told.began(self._clock.now_ms(), alive_at_ms, clean, procfs.boot_ms()))
        await self._telling.open(alive_at_ms)
        self._telling.start(self._spawn)
        self._runs.open()
        self._watching.start()
        self._spawn(self._server.run(), "api")
        self._spawn(self._watch_rules(), "rules")
        self._spawn(self._watch_self(), "own series")
        if not self._options.simulate:
            self._spawn(self._watching.look_around(), "processes and servers")
        if self._options.mode == "private":
            self._spawn(self._linger(), "linger")
        if self._options.mode == "demo":
            loop.add_reader(sys.stdin.fileno(), self._heed_the_demo)
        notify("READY=1", f"STATUS=watching as {config.instance}")
        starting.over()
        log.info("gpumon %s watches as %s, socket %s", __version__, config.instance, config.api.socket)
        try:
            await self._stop.wait()
        finally:
            await self._close()
        if self._failed is not None:
            raise self._failed

    # -- beginning and end -------------------------------------------------------------------------------------------

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
            self._ends = f"{task.get_name()} failed: {type(error).__name__}"
            self._failed = error
        self._stop.set()

    def _end(self, number: int) -> None:
        self._ends = signal.Signals(number).name
        log.info("ending: %s", self._ends)
        self._stop.set()

    def _heed_the_demo(self) -> None:
        """The demo holds the other end of our standard input: when that closes, however it ended, so do we. What it
        could then not remove, we do."""
        if os.read(sys.stdin.fileno(), 4096):
            return
        asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
        self._orphaned = True
        self._stop.set()

    async def _close(self) -> None:
        """End from the left to the right: nothing new comes in, what is due goes out, what is owed is written."""
        notify("STOPPING=1")
        await self._reloads.close()
        runs = asyncio.create_task(self._runs.close(), name="ending probes")
        serving = {task for task in self._tasks if task.get_name() in _SERVING}
        ending = self._watching.tasks + [task for task in self._tasks if task not in serving]
        for task in ending:
            task.cancel()
        self._server.close()
        if ending:
            await asyncio.wait(ending, timeout=2)
        await self._telling.close()
        await runs
        _, late = await asyncio.wait(serving, timeout=2)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
        await self._telling.close_files()
        if self._history is not None:
            self._history.event(told.ended(self._clock.now_ms(), self._ends, failed=self._failed is not None))
            await self._history.close()
        if self._lock is not None:
            await self._lock.leave()
        if self._orphaned:
            shutil.rmtree(self._config.state_directory, ignore_errors=True)

    async def _watch_self(self) -> None:
        """The daemon's own series, once a second of the world; and the sign that it lives, for the next start."""
        alive, families, written = 0.0, 0, True
        looked, now_ms = time.monotonic(), self._clock.now_ms()
        while True:
            rows = self._watching.engine_gpus()
            scrape = self._own.scrape(self._clock.now_ms(), self._node, self._engine, self._add_to, rows)
            self._head.ingest(SELF, scrape)
            if self._history is not None and len(self._head.families) != families:
                families = len(self._head.families)
                self._history.families(self._head.families.values())
            if self._history is not None and (status := self._history.status).ok != written:
                written = status.ok
                event = told.history_turned(self._clock.now_ms(), written, status.problem, status.lost_samples)
                self._node.tell(event)
            if self._lock is not None and time.monotonic() - alive >= _ALIVE_EVERY:
                alive = time.monotonic()
                self._lock.touch()
            if time.monotonic() - looked >= _ALIVE_EVERY:
                looked, seen_ms, now_ms = time.monotonic(), now_ms, self._clock.now_ms()
                for over in told.silences_over(self._telling.notifier.silences.all(), seen_ms, now_ms):
                    self._node.tell(over)
            logs.settle()
            await asyncio.sleep(1.0)

    def _add_to(self, builder: ScrapeBuilder) -> None:
        self._telling.add_to(builder)
        self._probe_series.add_to(builder)

    def _open_history(self) -> None:
        """Take back the last hour, and what rules need for longer, before anything new comes in."""
        self._head.keep(_needs(self._rules))
        if self._history is None:
            return
        self._history.open()
        self._history.restore(self._head, self._clock.now_ms(), self._head.kept_ms)
        self._head.journal = self._history
        self._history.start()

    # -- rules -------------------------------------------------------------------------------------------------------

    async def _watch_rules(self) -> None:
        """Evaluate each group when it is due. This loop alone feeds systemd's watchdog."""
        beat = watchdog_seconds()
        last_ms, rewinds, anew_at_ms = 0, 0, None
        self._watching.rules_began = time.monotonic()
        while True:
            now_ms = self._clock.now_ms()
            if now_ms < last_ms - BACK_MS and self._head.rewinds == rewinds:
                self._head.rewind(now_ms)
            if self._head.rewinds != rewinds:
                rewinds = self._head.rewinds
                anew_at_ms = now_ms + _PAUSE_MS
                self._clock_went_back(now_ms, last_ms)
            last_ms = now_ms
            for event in told.leapt(now_ms, self._clock.leap()):
                log.warning(event.title)
                self._node.tell(event)
            if now_ms >= (self._engine.next_due_ms if anew_at_ms is None else anew_at_ms):
                anew_at_ms = None
                await self._evaluate(now_ms)
            self._feed_the_watchdog()
            wait = (self._engine.next_due_ms - self._clock.now_ms()) / 1000 / self._clock.speed
            await asyncio.sleep(min(max(wait, 0.01), beat / 2 if beat else 1.0, 1.0))

    def _feed_the_watchdog(self) -> None:
        """The loop of the rules goes on. Said between two rules, too: all of them may take longer than it waits."""
        beat = watchdog_seconds()
        if beat is not None and time.monotonic() - self._fed >= beat / 2:
            notify("WATCHDOG=1")
            self._fed = time.monotonic()

    def _clock_went_back(self, now_ms: int, last_ms: int) -> None:
        """Rules wait until every source has been read again; what fires goes on firing meanwhile."""
        self._engine.hold(now_ms)
        back = max(0, last_ms - now_ms) / 1000
        title = f"the clock went back by {back:.0f} s; the hour in memory begins anew"
        log.warning(title)
        self._node.tell(Event(now_ms, "clock_back", "warning", title))

    async def _evaluate(self, now_ms: int) -> None:
        """Evaluate what is due. Sources are read and requests answered meanwhile, however long it takes: a node with
        very many rules must not call its servers down for that."""
        rewinds = self._head.rewinds
        began = time.perf_counter()
        changed: list[Transition] = []
        try:
            for transitions in self._engine.steps(now_ms, self._head, gone=self._watching.gone):
                changed += transitions
                if time.perf_counter() - began < _AT_ONCE_SECONDS:
                    continue
                self._feed_the_watchdog()
                await asyncio.sleep(0)
                began = time.perf_counter()
                if self._head.rewinds != rewinds:  # what is left is evaluated by the new clock
                    break
        finally:
            # Together: what inhibits an alert may end by an earlier rule than it, which would be told in between.
            self._changed(changed, now_ms)
        self._failing.tell(now_ms)

    def _changed(self, transitions: Sequence[Transition], now_ms: int) -> None:
        """Record and tell what rules changed."""
        self._node.transitions.extend(transitions)
        for one in transitions:
            name = label(one.alert.labels, "alertname")
            # What only becomes pending, or passes, can do so each second: it is in the record, not in the log.
            level = logging.INFO if "firing" in (one.before, one.after) else logging.DEBUG
            why = f" ({one.reason})" if one.reason else ""
            subject = {each: label(one.alert.labels, each) for each in ("gpu", "server")}
            extra = logs.about(alert=name, rule=one.alert.rule, **subject)
            whose = "".join(f" {kind} {value}" for kind, value in subject.items() if value)
            log.log(level, "alert %s%s: %s -> %s%s", name, whose, one.before, one.after, why, extra=extra)
        self._telling.submit(transitions, now_ms)

    # -- reload, linger ----------------------------------------------------------------------------------------------

    def _reload(self) -> None:
        """SIGHUP: read the configuration, the rules and the certificates again. A bad file changes nothing."""
        self._renewing = asyncio.create_task(self._server.renew(), name="renewing certificates")
        self._reloads.ask()

    def _refuse(self, problems: Sequence[Problem]) -> None:
        for problem in problems:
            log.error("not reloaded: %s", problem)
        self._node.config_ok = False
        self._node.tell(told.refused(self._clock.now_ms(), problems))

    def _take(self, asked: Config, config: Config, rules: RuleSet) -> None:
        event = told.reloaded(self._clock.now_ms(), self._config, asked, self._rules, rules)
        self._node.tell(event)
        self._config = self._node.config = config
        self._node.config_ok = True
        self._rules = rules
        self._engine.reload(rules)
        self._head.keep(_needs(rules))
        self._reaching = asyncio.create_task(self._reach_back(), name="reaching back")
        self._telling.reload(config)
        self._watching.reload(config)
        log.log(logging.WARNING if event.severity == "warning" else logging.INFO, "reloaded: %s", event.title)

    async def _reach_back(self) -> None:
        """Give memory what the rules look back on beyond the hour, out of the history."""
        needs = _needs(self._rules)
        if not needs or self._history is None:
            return
        now_ms = self._clock.now_ms()
        earliest_ms = now_ms - max(reach_ms for _, reach_ms in needs)
        try:
            answer = await self._node.queries.in_thread(
                [matchers for matchers, _ in needs],
                earliest_ms,
                now_ms,
                lambda storage, limits: stretches(storage, needs, now_ms),
            )
        except Exception:  # rules go on with the hour; the history says by itself what is wrong with it
            log.exception("what rules look back on could not be read")
            return
        further = reach_back(self._head, answer.value)
        if further:
            log.info("rules look back further: %d series were read from the history", further)

    async def _linger(self) -> None:
        """A private daemon ends a while after its last client, and not while a probe runs."""
        alone_since = time.monotonic()
        while time.monotonic() - alone_since < PRIVATE_LINGER:
            await asyncio.sleep(1.0)
            if self._node.clients or self._runs.busy:
                alone_since = time.monotonic()
        self._ends = f"no client for {PRIVATE_LINGER / 60:.0f} min"
        log.info("%s: ending", self._ends)
        self._stop.set()


def _history_of(config: Config, options: Options) -> History | None:
    """What is kept on disk: nothing of a demo, whose clock is not the world's."""
    if not config.history.enabled or options.mode == "demo":
        return None
    keeping = config.history
    path = config.state_directory / "history.sqlite"
    return History(path, retention_ms=keeping.retention_ms, max_bytes=keeping.max_bytes)


def _needs(rules: RuleSet) -> list[tuple[tuple[Matcher, ...], int]]:
    """The series that rules look back on for more than the hour, and for how long."""
    plans = [rule.plan for group in rules.groups for rule in group.rules]
    return [(matchers, plan.reach_ms) for plan in plans if plan.reach_ms > HOUR_MS for matchers in plan.selectors]


def run(config: Config, options: Options) -> None:
    """Run a daemon until it is told to end. Raises ``ConfigError``, ``CannotListen`` and ``StateInUse``."""

    async def main() -> None:
        await Daemon(config, options).run()

    resolving.run(main())
