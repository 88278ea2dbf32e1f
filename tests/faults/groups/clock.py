"""A wall clock that is stepped, and a machine that slept."""

from __future__ import annotations

import os
import signal
import time

from tests.faults.family import family
from tests.faults.fault import NodeFactory, Outcome, fault
from tests.faults.node import Node
from tests.faults.shim import Shim

HOUR = 3600.0


@fault("clock back", group="clock", what="the wall clock is set back by an hour")
def clock_back(nodes: NodeFactory) -> Outcome:
    return _stepped(nodes, -HOUR)


@fault("clock forward", group="clock", what="the wall clock is set forward by an hour")
def clock_forward(nodes: NodeFactory) -> Outcome:
    return _stepped(nodes, HOUR)


@fault("clock there and back", group="clock", what="the wall clock is set forward by an hour, and soon back again")
def clock_there_and_back(nodes: NodeFactory) -> Outcome:
    return _stepped(nodes, HOUR, back_after=20.0)


@fault("suspend", group="clock", what="the machine sleeps for an hour")
def suspend(nodes: NodeFactory) -> Outcome:
    """All its processes stand still; then the wall clock and CLOCK_BOOTTIME are an hour on, and CLOCK_MONOTONIC, which
    stands in a sleep, is not, but for the few seconds that this takes."""
    outcome = Outcome()
    with _Shimmed(nodes) as (node, shim):
        firing = node.drill()
        node.wait_told("Drill", engine=firing)
        at = node.now()
        pids = family(node.mark)
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        time.sleep(3)
        crossing = node.drill()
        shim.wake_after(HOUR)
        for pid in reversed(pids):
            os.kill(pid, signal.SIGCONT)
        woke = node.now()
        outcome.see("webhook", "what crossed meanwhile", node.wait_told("Drill", since=at, engine=crossing) - woke)
        _event(node, outcome, woke, "slept")
        node.wait("every source is read", node.sources_up)
        outcome.recovered = node.now() - woke
        outcome.expect(not node.tellings("Drill", "resolved", at, engine=firing), "what fires was told as over")
        outcome.expect(not node.restarts, "the daemon was started again")
        _no_false_alarm(node, outcome, at)
        outcome.lost = "the hour itself: absent, not 0"
        outcome.close(node, gap_ends=False)
    return outcome


class _Shimmed:
    """A node whose clock can be set; with the node, the shim."""

    def __init__(self, nodes: NodeFactory) -> None:
        self._node = nodes(start=False)
        self._node.folder.mkdir(parents=True, exist_ok=True)
        self._shim = Shim(self._node.folder)
        self._node.more_environment(self._shim.env())

    def __enter__(self) -> tuple[Node, Shim]:
        self._node.__enter__()
        try:
            self._node.start()
        except BaseException:
            self.__exit__()
            raise
        return self._node, self._shim

    def __exit__(self, *_: object) -> None:
        self._node.__exit__(None, None, None)
        self._shim.close()


def _stepped(nodes: NodeFactory, seconds: float, back_after: float | None = None) -> Outcome:
    outcome = Outcome()
    with _Shimmed(nodes) as (node, shim):
        firing = node.drill()
        node.wait_told("Drill", engine=firing)
        time.sleep(10)  # so that there is something to lose
        first = at = node.now()
        shim.step_clock(seconds)
        _event(node, outcome, at, "clock_forward" if seconds > 0 else "clock_back")
        if seconds < 0:
            outcome.lost = "the first readings of the hour that comes twice, as the second come"
        outcome.alarm(node, "a crossing after the step")
        if back_after is not None:
            time.sleep(back_after)
            at = node.now()
            shim.step_clock(-seconds)
            _event(node, outcome, at, "clock_back")
            outcome.alarm(node, "a crossing after the way back")
        node.wait("every source is read", node.sources_up)
        outcome.recovered = node.now() - at
        # What fires goes on firing: a clock is no recovery.
        outcome.expect(not node.tellings("Drill", "resolved", first, engine=firing), "what fires was told as over")
        shown = node.query(f'ALERTS{{alertname="Drill",engine="{firing}",alertstate="firing"}}')
        outcome.expect(shown, "what fires is not shown as firing")
        outcome.expect(not node.watchdogs and not node.restarts, "the daemon was started again")
        _no_false_alarm(node, outcome, first)
        since = node.now()
        node.drill(firing, 0.0)
        node.wait_told("Drill", "resolved", since, engine=firing)
        outcome.go_on("what fired goes on, and its end is told")
        outcome.close(node, gap_ends=False, ordered=seconds > 0 and back_after is None)
    return outcome


def _event(node: Node, outcome: Outcome, at: float, kind: str) -> None:
    events = node.wait(f"an event {kind}", lambda: node.events(kind))
    outcome.see("event", f"«{events[-1]['title']}»", node.now() - at)


def _no_false_alarm(node: Node, outcome: Outcome, since: float) -> None:
    """Nobody is woken by a clock: no source is told as dead, no server as restarted."""
    time.sleep(20)  # longer than any of them waits until it fires
    names = ("SourceStalled", "VllmServerDown", "VllmRestarted", "GpuLost", "NotificationLost", "StateNotRecorded")
    false = [name for name in names if node.told(name, since=since)]
    outcome.expect(not false, f"told for nothing: {', '.join(false)}")
