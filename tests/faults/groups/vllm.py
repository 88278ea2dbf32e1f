"""A vLLM that is down, hangs, or answers what no vLLM should."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from tests.certificates import Authority
from tests.faults.fault import NodeFactory, Outcome, fault
from tests.faults.node import Node

_MOST_MORE = 160 << 20
"""Bytes that a server's answers may cost for a while: one of 16 MiB is read whole before it is judged."""


def reason(node: Node) -> str:
    """Why the server that is broken is not read; "" while it is."""
    try:
        sources = node.request("GET", "/api/gpumon/v1/sources").json()["sources"]
    except (httpx.TransportError, KeyError, ValueError):
        return ""
    mine = node.server(node.vllm)
    return next((s["reason"] for s in sources if s["source"] == "vllm" and s["server"] == mine and not s["up"]), "")


def _wait_reason(node: Node, words: str) -> str:
    return node.wait(f"a reason with {words!r}", lambda: why if words in (why := reason(node)) else "")


@contextmanager
def memory(node: Node) -> Iterator[Callable[[], int]]:
    """Watches the daemon's resident memory; what is given says by how much it grew at most, in bytes."""
    pid, most, over = node.pid, [0], threading.Event()

    def rss() -> int:
        try:
            with open(f"/proc/{pid}/statm") as file:
                return int(file.read().split()[1]) * 4096
        except OSError:
            return 0

    began = rss()

    def look() -> None:
        while not over.wait(0.05):
            most[0] = max(most[0], rss() - began)

    thread = threading.Thread(target=look, name="memory")
    thread.start()
    try:
        yield lambda: most[0]
    finally:
        over.set()
        thread.join()


def _well_meanwhile(node: Node, outcome: Outcome, since: float) -> None:
    """Another crossing is told while it is broken, and the other server is read on."""
    at = node.now()
    other = node.drill()
    told = node.wait_told("Drill", since=at, engine=other)
    node.drill(other, None)
    outcome.meanwhile = f"another crossing is told after {told - at:.1f} s; the other server and the GPUs are read on"
    for expr, what in (
        (f'gpumon_source_up{{source="vllm",server="{node.server(node.other)}"}}', "the other server"),
        ('gpumon_source_up{source="nvml"}', "nvml"),
    ):
        seconds = max(5, int(node.now() - since))
        outcome.expect(node.value(f"min_over_time({expr}[{seconds}s])") == 1, f"{what} was down meanwhile")


def _broken(nodes: NodeFactory, words: str, **command: Any) -> Outcome:
    """Break it so, and look that it is down for a reason that has these words, is told, and comes back."""
    return _each(nodes, (words, command))


def _each(nodes: NodeFactory, *ways: tuple[str, dict[str, Any]]) -> Outcome:
    """Break it in each of these ways, one after the other, and look that it is down for a reason that has the words, is
    told, and comes back after the last. The alert is of the first: it stays."""
    outcome = Outcome()
    with nodes() as node:
        mine = node.server(node.vllm)
        first = node.now()
        with memory(node) as grown:
            for words, command in ways:
                at = node.now()
                node.vllm.send(**command)
                why = _wait_reason(node, words)
                outcome.see("reason", why, node.now() - at)
                if at - first < 1:
                    node.wait("an event", lambda: any(mine in each["title"] for each in node.events("source_down")))
                    outcome.see("event", "it is down", node.now() - at)
                    told = node.wait_told("VllmServerDown", since=at, server=mine)
                    outcome.see("webhook", "VllmServerDown", told - at)
            _well_meanwhile(node, outcome, first)
            if grown() > 32 << 20:
                outcome.meanwhile += f"; the daemon takes {grown() >> 20} MiB more"
            outcome.expect(grown() < _MOST_MORE, f"the daemon grew by {grown() >> 20} MiB")
        _heal(node, outcome, mine)
        outcome.close(node)
    return outcome


def _heal(node: Node, outcome: Outcome, mine: str) -> None:
    at = node.now()
    node.vllm.send(mode="ok")
    node.wait("it is up again", lambda: node.value(f'gpumon_source_up{{source="vllm",server="{mine}"}}') == 1)
    outcome.recovered = node.now() - at
    node.wait_told("VllmServerDown", "resolved", since=at, server=mine)


@fault("vllm down", group="vllm", what="a vLLM's port is closed")
def down(nodes: NodeFactory) -> Outcome:
    return _broken(nodes, "connection refused", mode="down")


@fault("vllm hung", group="vllm", what="a vLLM takes requests and answers none")
def hung(nodes: NodeFactory) -> Outcome:
    return _broken(nodes, "no answer in 2 s", mode="hang")


@fault("vllm 500", group="vllm", what="a vLLM answers 500 to everything")
def http_500(nodes: NodeFactory) -> Outcome:
    return _broken(nodes, "HTTP 500", mode="500")


@fault("vllm huge", group="vllm", what="`/metrics` has 100,000 lines")
def huge(nodes: NodeFactory) -> Outcome:
    return _broken(nodes, "100000 series are too many", mode="huge")


@fault("vllm garbage", group="vllm", what="`/metrics` is a page of HTML with escape codes")
def garbage(nodes: NodeFactory) -> Outcome:
    return _broken(nodes, "not Prometheus text: line 1", mode="garbage")


@fault("vllm endless", group="vllm", what="`/metrics` never ends: as fast as it is read; then a line twice a second")
def endless(nodes: NodeFactory) -> Outcome:
    return _each(
        nodes, ("the answer has more than 16 MiB", {"mode": "endless"}), ("no answer in 2 s", {"mode": "drip"})
    )


@fault("vllm redirects", group="vllm", what="every answer leads elsewhere")
def redirects(nodes: NodeFactory) -> Outcome:
    with socket.create_server(("127.0.0.1", 0)) as elsewhere:
        elsewhere.setblocking(False)
        outcome = _broken(nodes, "redirect", mode="redirect", to=f"http://127.0.0.1:{elsewhere.getsockname()[1]}/x")
        try:
            elsewhere.accept()[0].close()
        except BlockingIOError:
            outcome.meanwhile += "; nobody went where it led"
        else:
            outcome.problems.append("the redirect was followed")
    return outcome


@fault(
    "vllm breaks off",
    group="vllm",
    what="the connection closes: without a word; in the middle of the page; in the middle of a number, where nothing "
    "says how long the page is; header lines never end",
)
def breaks_off(nodes: NodeFactory) -> Outcome:
    return _each(
        nodes,
        ("disconnected without sending", {"mode": "hang_up"}),
        ("without sending complete message", {"mode": "middle"}),
        ("middle of a line", {"mode": "cut"}),
        ("buffer too long", {"mode": "headers"}),
    )


@fault("vllm encoded", group="vllm", what="`/metrics` is compressed, 0.5 GiB in 2 MiB; is protobuf")
def encoded(nodes: NodeFactory) -> Outcome:
    return _each(nodes, ("compressed", {"mode": "bomb"}), ("protobuf", {"mode": "type"}))


@fault("vllm slow", group="vllm", what="a vLLM takes 1.5 s for each answer")
def slow(nodes: NodeFactory) -> Outcome:
    """It is read, only seldom; and oftener as soon as it is quick again."""
    outcome = Outcome()
    with nodes() as node:
        mine = node.server(node.vllm)
        at = node.now()
        node.vllm.send(mode="slow", seconds=1.5)
        took = f'gpumon_source_poll_duration_seconds{{source="vllm",server="{mine}"}}'
        node.wait("a slow poll", lambda: (node.value(took) or 0) >= 1.4)
        outcome.see("series", "`gpumon_source_poll_duration_seconds`", node.now() - at)
        age = f'gpumon_source_age_seconds{{source="vllm",server="{mine}"}}'
        time.sleep(20)
        _well_meanwhile(node, outcome, at)
        oldest = node.value(f"max_over_time({age}[1m])") or 0.0
        outcome.meanwhile += f"; its readings were {oldest:.0f} s old at most"
        outcome.expect(node.told("VllmServerDown", since=at, server=mine) is None, "a slow server was told as down")
        at = node.now()
        node.vllm.send(mode="ok")
        node.wait("it is read at its interval again", lambda: _interval(node) <= 1.5, 120)
        outcome.recovered = node.now() - at
        outcome.expect(outcome.recovered < 60, "it was read seldom for long after it was quick again")
        outcome.close(node)
    return outcome


def _interval(node: Node) -> float:
    sources = node.request("GET", "/api/gpumon/v1/sources").json()["sources"]
    mine = node.server(node.vllm)
    return float(next(s["interval_seconds"] for s in sources if s["source"] == "vllm" and s["server"] == mine))


@fault("vllm restarted", group="vllm", what="a vLLM is started anew: its counters begin again")
def restarted(nodes: NodeFactory) -> Outcome:
    outcome = Outcome()
    with nodes() as node:
        mine = node.server(node.vllm)
        rate = f'rate(vllm:prompt_tokens_total{{server="{mine}"}}[30s])'
        node.wait("its pace", lambda: (node.value(rate) or 0) > 1)
        time.sleep(10)
        at = node.now()
        node.vllm.send(mode="down")
        node.vllm.send(mode="restarted")
        outcome.see("webhook", "VllmRestarted", node.wait_told("VllmRestarted", since=at, server=mine) - at)
        outcome.expect(
            any(mine in each["title"] for each in node.events("server_restarted")), "no event tells of the restart"
        )
        lowest = node.wait("its lowest pace", lambda: node.value(f"min_over_time({rate}[20s:1s])"))
        highest = node.wait("its highest pace", lambda: node.value(f"max_over_time({rate}[20s:1s])"))
        outcome.expect(
            lowest > 0 and highest < 30, f"its pace of 7 a second was shown as {lowest:.0f} to {highest:.0f}"
        )
        _well_meanwhile(node, outcome, at)
        outcome.meanwhile += f"; its pace of 7 tokens a second is shown as {lowest:.1f} to {highest:.1f}"
        outcome.close(node)
    return outcome


@fault("vllm renews", group="vllm", what="`/metrics` has 500 series that are others at each scrape")
def renews(nodes: NodeFactory) -> Outcome:
    """Until the source has its 20,000: what is beyond is not kept, and its own series go on."""
    outcome = Outcome()
    with nodes() as node:
        mine = node.server(node.vllm)
        with memory(node) as grown:
            at = node.now()
            node.vllm.send(mode="renew")
            told = node.wait_told("SeriesRefused", since=at, seconds=150, server=mine)
            outcome.see("webhook", "SeriesRefused", told - at)
            time.sleep(5)
            _well_meanwhile(node, outcome, at)
            fresh = node.value(f'time() - timestamp(vllm:num_requests_running{{server="{mine}"}})')
            outcome.expect(fresh is not None and fresh < 5, "its own series are not read any more")
            outcome.meanwhile += f"; its own series go on; the daemon takes {grown() >> 20} MiB more"
            outcome.expect(grown() < _MOST_MORE, f"the daemon grew by {grown() >> 20} MiB")
        refused = f'increase(gpumon_store_series_refused_total{{source="vllm",server="{mine}"}}[10s])'
        node.wait("more is refused", lambda: node.value(refused))
        at = node.now()
        node.vllm.send(mode="ok")
        node.wait("nothing was refused for 10 s", lambda: node.value(refused) == 0)
        outcome.recovered = node.now() - at
        outcome.close(node)
    return outcome


@fault("vllm million", group="vllm", what="`/metrics` has a million values of a label at once")
def million(nodes: NodeFactory) -> Outcome:
    return _broken(nodes, "the answer has more than 16 MiB", mode="million")


@fault("vllm values", group="vllm", what="`/metrics` has 19,000 new values of a label at each scrape")
def values(nodes: NodeFactory) -> Outcome:
    """It is asked ever less often, so that it takes no core from the others; what is beyond its 20,000 is not kept."""
    outcome = Outcome()
    with nodes() as node:
        mine = node.server(node.vllm)
        with memory(node) as grown:
            at = node.now()
            node.vllm.send(mode="values")
            told = node.wait_told("SeriesRefused", since=at, seconds=150, server=mine)
            outcome.see("webhook", "SeriesRefused", told - at)
            interval = node.wait("a longer interval", lambda: found if (found := _interval(node)) > 1.5 else 0.0, 150)
            outcome.see("source", f"it is asked every {interval:.0f} s", node.now() - at)
            _well_meanwhile(node, outcome, at)
            kept = node.value(f'count(last_over_time({{__name__="vllm:request",server="{mine}"}}[10m]))') or 0.0
            outcome.expect(0 < kept < 20_000, f"{kept:.0f} of its series are kept")
            outcome.meanwhile += f"; {kept:.0f} of its series are kept, the daemon takes {grown() >> 20} MiB more"
            outcome.expect(grown() < _MOST_MORE, f"the daemon grew by {grown() >> 20} MiB")
        at = node.now()
        node.vllm.send(mode="ok")
        node.wait("it is asked each second again", lambda: _interval(node) == 1.0, 150)
        outcome.recovered = node.now() - at
        outcome.close(node)
    return outcome


@fault("vllm TLS", group="vllm", what="a vLLM's certificate has ended; then another authority's, then a good one")
def tls(nodes: NodeFactory) -> Outcome:
    outcome = Outcome()
    with nodes(start=False) as node:
        ours, other = Authority(node.folder / "ours"), Authority(node.folder / "others", "other")
        good, ended, foreign = ours.sign("good"), ours.sign("ended", days=-1), other.sign("foreign")
        node.vllm.send(mode="ok", cert=str(good[0]), key=str(good[1]))
        server = {"url": f"https://127.0.0.1:{node.vllm.ready['port']}", "ca_file": str(ours.ca)}
        node.write_config(sources={"vllm": {"servers": [server, f"http://127.0.0.1:{node.other.ready['port']}"]}})
        node.start()
        mine = node.server(node.vllm)
        for pair, words in ((ended, "certificate has expired"), (foreign, "unable to get local issuer")):
            at = node.now()
            node.vllm.send(mode="ok", cert=str(pair[0]), key=str(pair[1]))
            why = _wait_reason(node, words)
            outcome.see("reason", why, node.now() - at)
        outcome.see("webhook", "VllmServerDown", node.wait_told("VllmServerDown", server=mine) - at)
        _well_meanwhile(node, outcome, at)
        # The authority itself is replaced, as when it is renewed: the file has another one now.
        at = node.now()
        ours.ca.write_bytes(other.ca.read_bytes())
        node.wait("it is up again", lambda: not reason(node))
        outcome.recovered = node.now() - at
        node.wait_told("VllmServerDown", "resolved", since=at, server=mine)
        outcome.close(node)
    return outcome
