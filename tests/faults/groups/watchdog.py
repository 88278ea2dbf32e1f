"""systemd's watchdog: it ends a daemon whose rule loop stands still, and only then."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from tests.faults.fault import NodeFactory, Outcome, fault
from tests.faults.groups.processes import see_new_life
from tests.faults.helper import PROJECT
from tests.faults.node import Node
from tests.faults.shim import Shim
from tests.faults.supervisor import seconds_of

WATCHDOG = seconds_of("WatchdogSec")
BLOCKER = Path(__file__).parents[1] / "blocker"


@fault("daemon stopped", group="watchdog", what="SIGSTOP of the daemon, for ever")
def daemon_stopped(nodes: NodeFactory) -> Outcome:
    outcome = Outcome()
    with nodes() as node:
        pid = node.pid
        at = node.signal(signal.SIGSTOP)
        try:
            crossing = node.drill()
            _watchdog_ends(node, outcome, at)
            outcome.see("webhook", "what crossed meanwhile", node.wait_told("Drill", since=at, engine=crossing) - at)
        finally:
            _go_on(pid)
        node.wait("every source is read", node.sources_up)
        outcome.recovered = node.now() - at
        outcome.lost = "readings while it stood"
        outcome.close(node, gap_ends=False)
    return outcome


@fault("loop blocked", group="watchdog", what="a bug that blocks the daemon's loop, for ever")
def loop_blocked(nodes: NodeFactory) -> Outcome:
    return _bug(nodes, signal.SIGUSR2, answers=False)


@fault("rules stand", group="watchdog", what="a bug that lets the rule loop wait for ever, and all else run")
def rules_stand(nodes: NodeFactory) -> Outcome:
    return _bug(nodes, signal.SIGUSR1, answers=True)


def _bug(nodes: NodeFactory, number: signal.Signals, *, answers: bool) -> Outcome:
    outcome = Outcome()
    with nodes(env={"PYTHONPATH": f"{BLOCKER}{os.pathsep}{PROJECT}"}) as node:
        at = node.signal(number)
        if answers:
            time.sleep(3)  # it may have been about to evaluate
        crossing = node.drill()
        if answers:
            time.sleep(10)
            before = node.told("Drill", since=at, engine=crossing)
            outcome.expect(before is None, "rules were evaluated: this tested nothing")
            outcome.expect(node.sources_up(), "sources are not read while only the rules stand")
            outcome.go_on("sources are read and the API answers")
        _watchdog_ends(node, outcome, at)
        outcome.see("webhook", "what crossed meanwhile", node.wait_told("Drill", since=at, engine=crossing) - at)
        outcome.recovered = node.now() - at
        outcome.lost = "readings while it stood"
        outcome.close(node, gap_ends=False)
    return outcome


@fault("all slow", group="watchdog", what="NVML hangs, vLLM hangs, the disk hangs: no case for the watchdog")
def all_slow(nodes: NodeFactory) -> Outcome:
    """As long as the watchdog waits, and half as long again."""
    outcome = Outcome()
    node = nodes(start=False)
    node.folder.mkdir(parents=True, exist_ok=True)
    shim = Shim(node.folder)
    node.more_environment(shim.env())
    try:
        with node:
            node.start()
            at = node.now()
            node.stub.fault(None, "hang")
            node.stub.fault(0, "hang")
            node.stub.fault(1, "hang")
            node.vllm.send(mode="hang")
            hung = shim.fault(node.state, "write", "sync", hang=True)
            until = at + 1.5 * WATCHDOG
            stalled = node.wait_told("SourceStalled", since=at)
            outcome.see("webhook", "SourceStalled", stalled - at)
            outcome.see("webhook", "StateNotRecorded", node.wait_told("StateNotRecorded", since=at) - at)
            while node.now() < until:
                outcome.meanwhile = ""
                outcome.alarm(node)
                time.sleep(5)
            outcome.expect(not node.watchdogs, "the watchdog ended a daemon whose rule loop went on")
            outcome.expect(not node.restarts, "the daemon was started again")
            outcome.go_on(f"the rule loop feeds the watchdog for {1.5 * WATCHDOG:.0f} s")
            at = node.now()
            node.stub.clear(None)
            node.stub.clear(0)
            node.stub.clear(1)
            node.vllm.send(mode="ok")
            shim.heal(hung)
            node.wait("every source is read", node.sources_up, 180)
            node.wait("it records again", lambda: node.value("gpumon_state_recorded") == 1)
            outcome.recovered = node.now() - at
            outcome.close(node)
    finally:
        shim.close()
    return outcome


def _watchdog_ends(node: Node, outcome: Outcome, at: float) -> None:
    """The watchdog ends it, not before its time, and it is started again."""
    line = node.supervisor.wait("the watchdog", lambda line: line["kind"] == "watchdog", 2 * WATCHDOG + 30)
    outcome.see("systemd", "its watchdog ends it", line["at"] - at)
    outcome.expect(line["silent"] >= WATCHDOG, "the watchdog was early")
    node.wait("another daemon", lambda: node.restarts == 1)
    node.wait("the daemon is ready", node.ready)
    see_new_life(node, outcome, at)
    outcome.expect(node.watchdogs == 1, f"the watchdog ended it {node.watchdogs} times")


def _go_on(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGCONT)
    except ProcessLookupError:
        return  # it was ended
