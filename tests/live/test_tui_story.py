"""What a person does at the terminal when a server goes under: see the storm, find the reason, silence the alert, go
back to where it began, and take the query along. A real vLLM, eight GPUs of the stub library, a real terminal.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path

import pytest

from tests.live.servers import PROJECT, Daemon, Vllm, daemon, storm, wait_for
from tests.live.terminal import Terminal, terminal
from tests.live.test_end_to_end import firing, kv_cache_alert
from tests.nvml_stub.control import Stub, compile_library

pytestmark = pytest.mark.live


@pytest.fixture
def node(vllm: Vllm, tmp_path: Path) -> Iterator[Daemon]:
    """The daemon with the shipped rules, which watches vLLM as the engine on GPU 0."""
    config = {
        "sources": {
            "vllm": {
                "interval": "1s",
                "deadline": "10s",
                "discover": False,
                "servers": [{"url": vllm.url, "gpus": ["0"]}],
            }
        },
        "alerting": {"evaluation_interval": "1s"},
    }
    library = tmp_path / "library"
    library.mkdir()
    with ExitStack() as stack:
        stub = Stub(tmp_path, compile_library(library))
        stack.callback(stub.close)
        stub.gpus(8)
        found = stack.enter_context(daemon(tmp_path, config, name="node1", environment=stub.env()))
        wait_for("vLLM is scraped", lambda: found.query("vllm:num_requests_running"), 60, found.process)
        yield found


def gpumon(*arguments: str) -> list[str]:
    """A command line of gpumon's."""
    return [sys.executable, "-m", "monitor", *arguments]


def test_the_storm_as_a_person_meets_it(vllm: Vllm, node: Daemon, tmp_path: Path) -> None:
    socket = f"unix:{tmp_path}/node1/gpumon.sock"
    alert = kv_cache_alert()
    environment = {"PYTHONPATH": str(PROJECT), "XDG_STATE_HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)}
    with terminal(gpumon("tui", "--url", socket), environment=environment) as screen:
        screen.wait("8 × H200", "vLLM", "up", "none firing")
        with storm(vllm):
            see_the_storm(screen, alert)
            find_the_reason(screen, vllm)
            silence_it(screen, alert, node)
            go_back_to_its_begin(screen, node, alert)
        query = copy_the_query(screen, alert)
        screen.press("Space")  # in tmux, which may have dropped it, it is shown too, until a key is pressed
        screen.wait("alerts", "help")
        screen.press("q")
        screen.wait("ended with 0")
    done = subprocess.run(
        gpumon("query", "--url", socket, "--json", query), capture_output=True, text=True, cwd=PROJECT, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["result"], query


def see_the_storm(screen: Terminal, alert: str) -> None:
    """The overview says it, and so does the terminal's title."""
    screen.wait(alert, seconds=300)
    # Its `for` begins anew wherever the cache is less full for a while.
    screen.wait_match(rf"firing .* {alert} ", seconds=300)
    title = screen.tmux("display-message", "-p", "#{pane_title}")
    assert "node1" in title, title
    assert title.startswith("●"), title


def find_the_reason(screen: Terminal, vllm: Vllm) -> None:
    """The server, opened: its cache is full, and requests that were begun give way to others."""
    screen.press("3", "Enter")
    screen.wait("latencies", "phases", "KV cache", "preempted")
    full = r"KV cache (9\d|100)(\.\d+)? ?%.*preempted \S+ /"  # each preemption gives some of it back
    shown = screen.wait_match(full)
    preempted = re.search(r"preempted (\S+) /(s|min|h)", shown)
    assert preempted is not None, shown
    assert float(preempted[1]) > 0, shown
    screen.press("Escape")
    screen.wait("server", "state", "wait")  # what follows an escape at once is part of it, for a terminal


def silence_it(screen: Terminal, alert: str, node: Daemon) -> None:
    """From the list of alerts, with a reason, for half an hour; the daemon holds it back from then on."""
    screen.press("4", "/")
    screen.type(alert)
    screen.press("Enter")
    screen.wait(alert, "alerts  1 of")
    screen.press("s")
    screen.wait("silence", "alertname")
    screen.type("the batch job knows")
    screen.press("Enter")
    screen.wait("silenced until")
    wait_for("the alert is held back", lambda: muted(node, alert), 30, node.process)
    screen.wait("silenced ")


def muted(node: Daemon, alert: str) -> bool:
    """Whether the alert fires, and a silence holds it back."""
    return any(each.get("silencedBy") for each in firing(node, alert))


def go_back_to_its_begin(screen: Terminal, node: Daemon, alert: str) -> None:
    """Everything is as it was then: the overview of that moment."""
    since = min(each["activeAt"] for each in firing(node, alert))
    screen.press("Enter")
    clock = time.strftime("%H:%M:%S", time.localtime(datetime.fromisoformat(since).timestamp()))
    screen.wait("PAST", "ago", "vLLM", clock)
    screen.press("l")
    until = time.monotonic() + 30
    while "PAST" in screen.text:
        assert time.monotonic() < until, screen.text
        time.sleep(0.2)


def copy_the_query(screen: Terminal, alert: str) -> str:
    """What the alert compares, in the clipboard."""
    screen.press("4")
    screen.wait(alert)
    screen.press("y")
    return screen.clipboard()
