"""The heartbeat: whoever waits for its calls sees that a node is dead, or that it would tell nobody."""

from __future__ import annotations

import os
import signal
import time

from tests.faults.family import family
from tests.faults.fault import NodeFactory, Outcome, fault
from tests.faults.node import Node

PERIOD = 60.0
"""Seconds between calls, as monitor.notify.heartbeat makes them."""
GRACE = 15.0
"""Seconds more, after which a service that waits for calls raises its alarm."""


def _missed(node: Node, since: float) -> float:
    """Wait until a service with this period and grace would raise its alarm; when that is."""
    alarm = since + PERIOD + GRACE
    time.sleep(max(0.0, alarm - node.now()))
    return alarm


def _last(node: Node) -> float:
    return node.wait("a heartbeat", lambda: node.heartbeats()[-1:])[0]


@fault("node off", group="heartbeat", what="the node is switched off: all its processes are killed and stay away")
def node_off(nodes: NodeFactory) -> Outcome:
    outcome = Outcome()
    with nodes() as node:
        fires = node.drill()
        node.wait_told("Drill", engine=fires)
        node.supervisor.send(do="hold")
        at = node.now()
        for pid in family(node.mark):
            os.kill(pid, signal.SIGKILL)
        last = _last(node)
        alarm = _missed(node, last)
        outcome.see("heartbeat's receiver", f"no call for {PERIOD + GRACE:g} s", alarm - at)
        outcome.expect(not node.heartbeats(since=at + 1), "a call came from a node that is off")
        at = node.now()
        node.start()
        node.wait("a heartbeat", lambda: node.heartbeats(since=at))
        outcome.recovered = node.heartbeats(since=at)[0] - at
        outcome.by_itself = False
        outcome.expect(node.told("Drill", "resolved", engine=fires) is None, "an alert was ended by the node's end")
        outcome.close(node)
    return outcome


@fault("heartbeat withheld", group="heartbeat", what="the GPUs cannot be read (NVML hangs)")
def withheld(nodes: NodeFactory) -> Outcome:
    """The calls cease while what the node watches is not read, though all else runs."""
    outcome = Outcome()
    with nodes() as node:
        _last(node)
        words = "heartbeats are withheld: nvml"
        said = node.log().count(words)
        at = node.now()
        for gpu in (0, 1):
            node.stub.fault(gpu, "hang")
        node.wait("the log", lambda: node.log().count(words) > said, PERIOD + 30)
        outcome.see("log", "heartbeats are withheld", node.now() - at)
        last = _last(node)
        alarm = _missed(node, last)
        outcome.expect(not node.heartbeats(since=last + 1), "a call came while the GPUs were not read")
        outcome.see("heartbeat's receiver", f"no call for {PERIOD + GRACE:g} s", alarm - at)
        outcome.alarm(node)
        healed = node.now()
        for gpu in (0, 1):
            node.stub.clear(gpu)
        node.wait("a heartbeat", lambda: node.heartbeats(since=healed), 150)
        outcome.recovered = node.heartbeats(since=healed)[0] - healed
        outcome.close(node)
    return outcome


@fault("heartbeat refused", group="heartbeat", what="the heartbeat's URL answers 500")
def refused(nodes: NodeFactory) -> Outcome:
    outcome = Outcome()
    with nodes() as node:
        last = _last(node)
        node.receivers.send(heartbeat="refuse", status="500 Internal Server Error")
        node.wait("it is seen", lambda: node.value("gpumon_heartbeat_failures_total") or 0, PERIOD + 30)
        outcome.see("series", "`gpumon_heartbeat_failures_total`, from the call", node.now() - (last + PERIOD))
        node.wait("the log", lambda: "heartbeat 0 failed: HTTP 500" in node.log())
        outcome.see("log", "heartbeat 0 failed: HTTP 500, from the call", node.now() - (last + PERIOD))
        outcome.alarm(node)
        healed = node.now()
        node.receivers.send(heartbeat="ok")
        node.wait("a call that is taken", lambda: "heartbeat 0 succeeds again" in node.log(), PERIOD + 30)
        outcome.recovered = node.now() - healed
        outcome.close(node)
    return outcome
