"""Processes that are killed, and processes that stand still."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from monitor.probes.process import Patience
from tests.faults.family import family
from tests.faults.fault import NodeFactory, Outcome, fault
from tests.faults.helper import PROJECT
from tests.faults.node import PATIENCE, Node

_KEPT = 10.0
"""Seconds of history that a kill may cost."""


@fault("daemon killed", group="processes", what="`kill -9` of the daemon")
def daemon_killed(nodes: NodeFactory) -> Outcome:
    outcome = Outcome()
    with nodes() as node:
        firing = node.drill()
        node.wait_told("Drill", engine=firing)
        silence = _silence(node)
        time.sleep(1)
        killed_wall = time.time()
        at = node.signal(signal.SIGKILL)
        crossing = node.drill()
        outcome.see("webhook", "what crossed meanwhile", node.wait_told("Drill", since=at, engine=crossing) - at)
        node.wait("the daemon is ready", node.ready)
        outcome.recovered = node.now() - at
        see_new_life(node, outcome, at)
        outcome.expect(node.restarts == 1, f"{node.restarts} restarts for one kill")
        ids = {alert["eventId"] for _, _, alert in node.tellings("Drill", engine=firing)}
        outcome.expect(len(ids) == 1, "what fired was told as new after the restart")
        kept = [each["id"] for each in node.request("GET", "/api/v2/silences").json()]
        outcome.expect(silence in kept, "a silence is gone")
        outcome.go_on("what fired goes on firing, under the same id; the silence is there")
        lost = _lost_before(node, killed_wall)
        outcome.lost = f"{lost:.0f} s of history before the kill"
        outcome.expect(lost <= _KEPT + 1, f"{lost:.1f} s of history were lost by a kill")
        outcome.close(node, gap_ends=False)
    return outcome


def see_new_life(node: Node, outcome: Outcome, at: float) -> None:
    """A daemon that was killed cannot tell; the next one says that it was."""
    told = node.wait("an event", lambda: [e for e in node.events("daemon_started") if e["severity"] == "warning"])
    outcome.see("event", f"«{told[-1]['title']}»", node.now() - at)


@fault("family killed", group="processes", what="`kill -9` of the daemon and all its children at once")
def family_killed(nodes: NodeFactory) -> Outcome:
    outcome = Outcome()
    with nodes() as node:
        at = node.now()
        for pid in family(node.mark):
            with suppress(ProcessLookupError):  # some end when the daemon does
                os.kill(pid, signal.SIGKILL)
        crossing = node.drill()
        node.wait("another daemon", lambda: node.restarts == 1)
        outcome.see("webhook", "what crossed meanwhile", node.wait_told("Drill", since=at, engine=crossing) - at)
        see_new_life(node, outcome, at)
        node.wait("every source is read", node.sources_up)
        outcome.recovered = node.now() - at
        outcome.close(node)
    return outcome


@fault("reader killed", group="processes", what="`kill -9` of the NVML reader")
def reader_killed(nodes: NodeFactory) -> Outcome:
    outcome = Outcome()
    with nodes() as node:
        before = node.pids()["reader"]
        at = node.signal(signal.SIGKILL, "reader")
        outcome.see("log", "the reader died: SIGKILL", _logged(node, "SIGKILL") - at)
        outcome.alarm(node)
        node.wait("another reader", lambda: node.pids().get("reader", before) != before)
        node.wait("both GPUs are read", lambda: len(node.query("DCGM_FI_DEV_GPU_TEMP")) == 2)
        outcome.recovered = node.now() - at
        outcome.expect(not node.restarts, "the daemon was started again")
        outcome.close(node)
    return outcome


@fault("sender killed", group="processes", what="`kill -9` of the sender while a mail is on its way")
def sender_killed(nodes: NodeFactory) -> Outcome:
    outcome = Outcome()
    with nodes() as node:
        node.receivers.send(mail="hang")
        at = node.now()
        name = node.drill()
        outcome.see("webhook", "the alert", node.wait_told("Drill", engine=name) - at)
        node.wait("a sender", lambda: node.pids().get("sender"))
        time.sleep(2)  # so that it is in the middle of the mail
        at = node.signal(signal.SIGKILL, "sender")
        node.receivers.send(mail="ok")
        came = node.wait("the mail", lambda: node.mailed("FIRING", "Drill"))
        outcome.see("mail", "the same alert, tried again", came - at)
        outcome.recovered = came - at
        outcome.close(node, mail=True)
    return outcome


@fault("probe killed", group="processes", what="`kill -9` of a running probe")
def probe_killed(nodes: NodeFactory) -> Outcome:
    outcome = Outcome()
    with nodes() as node, _paced(node) as url:
        run = _probe(node, url)
        at = node.signal(signal.SIGKILL, "probe")
        row = node.wait("the probe's end", lambda: _ended(node, run))
        outcome.see("API", f"the run is {row['state']}: {row.get('problem') or row.get('error', '')}", node.now() - at)
        outcome.expect(row["state"] == "lost", f"a probe that was killed is {row['state']}")
        again = _probe(node, url)
        node.request("POST", f"/api/gpumon/v1/probes/{again}/cancel")
        node.wait("the second probe's end", lambda: _ended(node, again))
        outcome.go_on("another can be started at once")
        outcome.alarm(node)
        outcome.recovered = node.now() - at
        outcome.close(node)
    return outcome


@fault("report killed", group="processes", what="`kill -9` of the process that makes a report")
def report_killed(nodes: NodeFactory) -> Outcome:
    return _report(nodes, signal.SIGKILL)


@fault("reader stopped", group="processes", what="SIGSTOP of the NVML reader, for ever")
def reader_stopped(nodes: NodeFactory) -> Outcome:
    outcome = Outcome()
    with nodes() as node:
        pid = node.pids()["reader"]
        at = node.signal(signal.SIGSTOP, "reader")
        node.wait("the GPUs' readings are stale", lambda: not node.query("DCGM_FI_DEV_GPU_TEMP"))
        outcome.see("series", "the GPUs' readings end, and are not frozen", node.now() - at)
        outcome.see("log", "no answer from the driver", _logged(node, "no answer from the driver") - at)
        outcome.alarm(node)
        node.wait("it is ended", lambda: not os.path.exists(f"/proc/{pid}"))
        node.wait("both GPUs are read", lambda: len(node.query("DCGM_FI_DEV_GPU_TEMP")) == 2)
        outcome.recovered = node.now() - at
        outcome.close(node)
    return outcome


@fault("sender stopped", group="processes", what="SIGSTOP of the sender, for ever")
def sender_stopped(nodes: NodeFactory) -> Outcome:
    outcome = Outcome()
    with nodes() as node:
        first = node.drill()
        node.wait("the first mail", lambda: node.mailed("FIRING", "Drill"))
        node.drill(first, 0.0)
        node.wait("the second mail", lambda: node.mailed("RESOLVED", "Drill"))
        pid = node.pids().get("sender")
        at = node.signal(signal.SIGSTOP, "sender")
        name = node.drill()
        outcome.see("webhook", "an alert", node.wait_told("Drill", since=at, engine=name) - at)
        came = node.wait("its mail", lambda: node.mailed("FIRING", "Drill", since=at), 120)
        outcome.see("mail", "the same, by another sender", came - at)
        outcome.recovered = came - at
        node.wait("the one that stood is ended", lambda: not os.path.exists(f"/proc/{pid}"))
        outcome.close(node, mail=True)
    return outcome


@fault("probe stopped", group="processes", what="SIGSTOP of a running probe, for ever; then it is cancelled")
def probe_stopped(nodes: NodeFactory) -> Outcome:
    outcome = Outcome()
    with nodes() as node, _paced(node) as url:
        run = _probe(node, url)
        pid = node.pids()["probe"]
        at = node.signal(signal.SIGSTOP, "probe")
        outcome.alarm(node)
        node.request("POST", f"/api/gpumon/v1/probes/{run}/cancel")
        row = node.wait("the probe's end", lambda: _ended(node, run), 120)
        outcome.see("API", f"the run is {row['state']}", node.now() - at)
        outcome.go_on(f"left alone, it is given up after {Patience().silent / 60:.0f} minutes of silence")
        node.wait("its process is gone", lambda: not os.path.exists(f"/proc/{pid}"))
        outcome.recovered = node.now() - at
        outcome.by_itself = False
        outcome.close(node)
    return outcome


@fault("report stopped", group="processes", what="SIGSTOP of the process that makes a report, for ever")
def report_stopped(nodes: NodeFactory) -> Outcome:
    return _report(nodes, signal.SIGSTOP)


@fault("two daemons", group="processes", what="a second daemon on the same state, the same socket, the same port")
def two_daemons(nodes: NodeFactory) -> Outcome:
    from tests.live.servers import free_port

    outcome = Outcome()
    address = f"127.0.0.1:{free_port()}"
    with nodes(listen=address) as node:
        pid = node.pid
        elsewhere = node.folder / "other"
        elsewhere.mkdir()
        base = [sys.executable, "-m", "monitor", "daemon"]
        at = node.now()
        begun = [
            (
                words,
                sentence,
                subprocess.Popen([*base, *map(str, arguments)], cwd=PROJECT, stderr=subprocess.PIPE, text=True),
            )
            for words, arguments, sentence in (
                ("state", ["--state-dir", node.state, "--socket", elsewhere / "s", "--listen", "none"], "state"),
                ("socket", ["--state-dir", elsewhere / "a", "--socket", node.socket, "--listen", "none"], "socket"),
                ("port", ["--state-dir", elsewhere / "b", "--socket", elsewhere / "t", "--listen", address], address),
            )
        ]
        try:
            for words, sentence, process in begun:
                _, errors = process.communicate(timeout=3 * PATIENCE)
                said = errors.strip().splitlines()[-1:] or [""]
                outcome.see("exit 1", f"same {words}: «{said[0].replace(str(node.folder), '…')}»", node.now() - at)
                outcome.expect(process.returncode == 1, f"the same {words}: exit {process.returncode}, not 1")
                outcome.expect(sentence in said[0] and "Traceback" not in errors, f"the same {words}: {errors}")
        finally:
            for _, _, process in begun:
                process.kill()  # where one runs that should not
                process.communicate()
        outcome.expect(node.pid == pid and not node.restarts, "the first one is gone")
        outcome.expect(node.socket.exists(), "the first one's socket is gone")
        outcome.recovered = 0.0
        outcome.go_on("the first one knows nothing of it")
        outcome.close(node)
    return outcome


# -- what several of them do -------------------------------------------------------------------------------------------


def _logged(node: Node, words: str) -> float:
    node.wait(f"«{words}» in the log", lambda: words in node.log())
    return node.now()


def _silence(node: Node) -> str:
    """The id of a silence that silences nothing that is here."""
    body = {
        "matchers": [{"name": "alertname", "value": "Nothing", "isRegex": False, "isEqual": True}],
        "startsAt": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "endsAt": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 86_400)),
        "createdBy": "faults",
        "comment": "to be kept",
    }
    return str(node.request("POST", "/api/v2/silences", body).json()["silenceID"])


def _lost_before(node: Node, wall: float) -> float:
    """Seconds between the last sample before a moment and that moment."""
    expr = f'vllm:num_requests_running{{server="{node.server(node.other)}"}}[10m]'
    rows = node.request("GET", "/api/v1/query", query=expr).json()["data"]["result"]
    times = [at for row in rows for at, _ in row["values"] if at < wall]
    return wall - max(times) if times else wall


@contextmanager
def _paced(node: Node) -> Iterator[str]:
    """A simulated server that can be loaded: its URL."""
    from tests.live.servers import free_port, get, wait_for

    port = free_port()
    command = [sys.executable, "-m", "monitor.probes.pace", "--port", str(port), "--itl-ms", "20", "--prefill-ms", "20"]
    with (node.folder / "pace.log").open("ab") as out:
        process = subprocess.Popen(command, cwd=PROJECT, stdout=out, stderr=out)
    try:
        url = f"http://127.0.0.1:{port}"
        wait_for("the simulated server", lambda: get(f"{url}/health").status_code == 200, 60)
        yield url
    finally:
        process.terminate()
        process.wait(30)


def _probe(node: Node, url: str) -> str:
    """Start one that takes a minute; its id, once it measures."""
    spec = {"workload": "rate", "url": url, "options": {}, "max_seconds": 120, "yes": True}
    answer = node.request("POST", "/api/gpumon/v1/probes", {"spec": spec})
    if answer.status_code >= 300:
        raise RuntimeError(f"the probe was refused: {answer.status_code} {answer.text}")
    row = answer.json()
    ident = str(row.get("id") or row["row"]["id"])
    node.wait("the probe measures", lambda: _row(node, ident).get("state") == "running" and node.pids().get("probe"))
    return ident


def _row(node: Node, ident: str) -> dict[str, str]:
    detail = node.request("GET", f"/api/gpumon/v1/probes/{ident}").json()
    row: dict[str, str] = detail.get("row", detail)
    return row


def _ended(node: Node, ident: str) -> dict[str, str] | None:
    row = _row(node, ident)
    return row if row.get("state") not in (None, "running", "starting", "waiting") else None


def _report(nodes: NodeFactory, number: signal.Signals) -> Outcome:
    """A report is due within a minute; its process is struck when it comes, and the report arrives all the same."""
    outcome = Outcome()
    due = time.gmtime(time.time() + 75)
    schedule = time.strftime("daily %H:%M", due)
    with nodes(config={"reports": [{"name": "day", "schedule": schedule, "receiver": "ops", "since": "1h"}]}) as node:
        pid = node.wait("the report's process", lambda: node.pids().get("report"), 150)
        at = node.now()
        os.kill(pid, number)
        outcome.alarm(node)
        node.wait("it is ended", lambda: not os.path.exists(f"/proc/{pid}"), 180)
        came = node.wait("the report", lambda: node.mailed("day"), 600)
        outcome.see("mail", "the report, made by another process", came - at)
        outcome.recovered = came - at
        outcome.expect(not node.restarts, "the daemon was started again")
        outcome.close(node)
    return outcome
