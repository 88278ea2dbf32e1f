"""The name server is dead: a real one, that the daemon's own /etc/resolv.conf names."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from tests.faults.fault import NodeFactory, Outcome, fault
from tests.faults.groups.receivers import wait_reason
from tests.faults.helper import Helper
from tests.faults.mounts import Space
from tests.faults.node import Node

_NAME = "{}.faults.test"


@contextmanager
def named(nodes: NodeFactory) -> Iterator[tuple[Helper, Node]]:
    """A node whose webhook, mail server, heartbeat and first vLLM have names, and their name server."""
    with Space() as space:
        node = nodes(start=False, prefix=space.prefix)
        with node:
            # An address for each run of the harness and each node of it: the port of names is always 53.
            pid = os.getpid()
            address = f"127.{1 + pid % 250}.{pid // 250 % 250}.{1 + node.vllm.ready['port'] % 250}"
            server = Helper("tests.faults.name_server", address, log=node.folder / "names.log")
            try:
                resolv = node.folder / "resolv.conf"
                resolv.write_text(f"nameserver {address}\n")
                space.mount("--bind", resolv, "/etc/resolv.conf")
                _by_name(node)
                node.start()
                yield server, node
            finally:
                server.close()


def _by_name(node: Node) -> None:
    config = node.config()
    (receiver,) = config["receivers"]
    vllm, other = config["sources"]["vllm"]["servers"]
    local = "127.0.0.1"
    mail = node.folder / "mail-url"
    mail.write_text(mail.read_text().replace(f"//{local}", f"//{_NAME.format('mail')}", 1))
    node.write_config(
        receivers=[{**receiver, "webhook": receiver["webhook"].replace(local, _NAME.format("hook"))}],
        heartbeat=config["heartbeat"].replace(local, _NAME.format("beat")),
        sources={"vllm": {"servers": [vllm.replace(local, _NAME.format("gpu7")), other]}},
    )


def _dead(nodes: NodeFactory, mode: str, words: str) -> Outcome:
    outcome = Outcome()
    with named(nodes) as (names, node):
        # A server whose connection is open is asked on: so one whose connection is not.
        names.send(mode=mode)
        node.vllm.send(mode="down")
        node.vllm.send(mode="ok")
        at = node.now()
        name = node.drill()
        outcome.see("reason of the receiver", wait_reason(node, words), node.now() - at)
        mine = f"{_NAME.format('gpu7')}:{node.vllm.ready['port']}"

        def why() -> str:
            sources = node.request("GET", "/api/gpumon/v1/sources").json()["sources"]
            return next((s["reason"] for s in sources if s.get("server") == mine and not s["up"]), "")

        outcome.see("reason of the vLLM", node.wait("the server's reason", why), node.now() - at)
        outcome.see("event", "it is down", _event(node, mine) - at)
        began = node.now()
        node.request("GET", "/api/v1/query", query="count(gpumon_source_up)")
        outcome.go_on(f"a query is answered after {node.now() - began:.2f} s")
        node.wait(
            "another alert", lambda: node.query(f'ALERTS{{alertname="Drill",engine="{name}",alertstate="firing"}}')
        )
        # No further back than the fault: before its first reading a source is down.
        up = f'min_over_time(gpumon_source_up{{server!="{mine}"}}[{max(1, int(node.now() - at))}s])'
        found = node.query(up)
        down = [labels.get("server") or labels["source"] for labels, value in found if value != 1]
        outcome.expect(found and not down, f"down, and needs no name: {', '.join(down) or 'nothing is known'}")
        outcome.go_on("rules and what needs no name go on")
        late = node.value("max_over_time(gpumon_source_age_seconds{source='nvml'}[30s])")
        outcome.expect(late is not None and late < 5, f"the GPUs' readings were {late} s old")
        at = node.now()
        names.send(mode="ok")
        node.wait_told("Drill", since=at, seconds=120, engine=name)
        node.wait("the server is read", lambda: not why())
        node.wait("nothing is owed", lambda: node.owed() == 0)
        outcome.recovered = node.now() - at
        outcome.close(node, mail=True)
    return outcome


def _event(node: Node, server: str) -> float:
    node.wait("an event", lambda: any(server in each["title"] for each in node.events("source_down")))
    return node.now()


@fault("DNS down", group="DNS", what="the name server does not answer")
def silent(nodes: NodeFactory) -> Outcome:
    return _dead(nodes, "silent", "the name server does not answer")


@fault("DNS fails", group="DNS", what="the name server answers SERVFAIL")
def servfail(nodes: NodeFactory) -> Outcome:
    return _dead(nodes, "servfail", "name resolution")
