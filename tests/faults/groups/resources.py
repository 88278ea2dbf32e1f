"""What the daemon takes from its machine, and does not get: memory, files, processes, the processor, answers."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.faults.cgroup import Group
from tests.faults.dead_mount import DeadMount
from tests.faults.fault import NodeFactory, NotRun, Outcome, fault
from tests.faults.groups.disk import silence_nothing, silences, told_once
from tests.faults.groups.processes import see_new_life
from tests.faults.mounts import Space

_EAT = "import time\nheld = []\nwhile True:\n    held.append(bytearray(b'x') * (1 << 20))\n    time.sleep(0.005)\n"
_SPIN = "while True: pass"


@contextmanager
def _no_memory_for(group: Group, victim: int) -> Iterator[None]:
    """Take all of the group's memory; the kernel is to choose ``victim``."""
    Path(f"/proc/{victim}/oom_score_adj").write_text("1000")
    group.limit(group.used() + (16 << 20))
    eater = subprocess.Popen([*group.prefix, sys.executable, "-c", _EAT])
    # It is the next to go: nobody else is to be killed before the limit is lifted.
    Path(f"/proc/{eater.pid}/oom_score_adj").write_text("500")
    try:
        yield
    finally:
        eater.kill()
        eater.wait()
        group.limit(None)


@fault("no memory", group="resources", what="no memory is left in its control group: the kernel kills the daemon")
def no_memory(nodes: NodeFactory) -> Outcome:
    outcome = Outcome()
    with Group("memory") as group, nodes(prefix=group.prefix) as node:
        silence = silence_nothing(node)
        before = node.drill()
        node.wait_told("Drill", engine=before)
        node.wait("nothing is owed", lambda: not node.owed())
        at = node.now()
        with _no_memory_for(group, node.pid):
            ended = node.wait("the kernel kills the daemon", lambda: node.supervisor.lines("exit"))
        outcome.see("systemd", "the daemon was killed", ended[0]["at"] - at)
        outcome.expect(ended[0]["status"] == -9, f"it ended with {ended[0]['status']}")
        see_new_life(node, outcome, at)
        healed = node.now()
        node.wait("it is started anew", lambda: node.restarts >= 1)
        node.wait("the daemon is ready", node.ready)
        node.wait("every source was read", node.sources_up)
        outcome.recovered = node.now() - healed
        outcome.expect(silence in silences(node), "the silence is lost")
        outcome.alarm(node)
        outcome.close(node)
        outcome.expect(told_once(node, before), "what fired before was told under two ids")
    return outcome


@fault("child without memory", group="resources", what="no memory is left: the kernel kills the NVML reader alone")
def child_without_memory(nodes: NodeFactory) -> Outcome:
    outcome = Outcome()
    with Group("memory") as group, nodes(prefix=group.prefix) as node:
        reader, at = node.pids()["reader"], node.now()
        with _no_memory_for(group, reader):
            node.wait("the reader is killed", lambda: not os.path.exists(f"/proc/{reader}"))
        node.wait("the log says so", lambda: "SIGKILL" in node.log())
        outcome.see("log", "the reader died: SIGKILL", node.now() - at)
        restarted = node.wait("it is counted", lambda: node.value("gpumon_nvml_reader_restarts_total"))
        outcome.see("series", f"gpumon_nvml_reader_restarts_total {restarted:.0f}", node.now() - at)
        healed = node.now()
        outcome.alarm(node)
        node.wait("the GPUs are read", lambda: node.query('gpumon_source_up{source="nvml"} == 1'))
        outcome.recovered = node.now() - healed
        outcome.expect(not node.restarts, "the daemon was started anew")
        outcome.close(node)
    return outcome


@fault(
    "no files",
    group="resources",
    what="120 clients connect and end no request, where the daemon may have 96 files open",
)
def no_files(nodes: NodeFactory) -> Outcome:
    outcome = Outcome()
    with nodes(prefix=["prlimit", "--nofile=96:96"]) as node, ExitStack() as stack:
        at = node.now()
        clients = []
        for _ in range(120):
            client = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            clients.append(client)
            client.settimeout(2)
            try:
                client.connect(str(node.socket))
                client.sendall(b"GET /api/v1/query?query=1 HTTP/1.1\r\nHost: x\r\n")
            except OSError:  # it is closed already
                pass
            client.setblocking(False)
        # Nothing is wrong with the node, and only who is sent away hears of it.
        node.wait("clients are sent away", lambda: sum(map(_is_closed, clients)) >= 120 - 96)
        outcome.see("the clients", f"{sum(map(_is_closed, clients))} of 120 are closed", node.now() - at)
        outcome.alarm(node)
        held = len(os.listdir(f"/proc/{node.pid}/fd"))
        outcome.expect(held < 96, "clients took every file that may be open")
        outcome.go_on(f"{held} of 96 files are open: its listener keeps to its share")
        while node.now() < at + 35:
            time.sleep(0.5)
        outcome.alarm(node, "another after 35 s")
        outcome.expect(not node.restarts, "the daemon was started anew")
        stack.close()
        healed = node.now()
        node.wait("it answers", node.ready)
        outcome.recovered = node.now() - healed
        outcome.close(node)
    return outcome


def _is_closed(client: socket.socket) -> bool:
    """Whether the other side has closed it, or it was never taken."""
    try:
        return not client.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except OSError:
        return True


@fault("few files at start", group="resources", what="the daemon may have 16 files open, and is started")
def few_files(nodes: NodeFactory) -> Outcome:
    outcome = Outcome()
    with tempfile.TemporaryDirectory(prefix="gpumon-files-") as folder:
        most = Path(folder) / "most"
        most.write_text("16")
        prefix = ["sh", "-c", 'ulimit -n "$(cat "$0")" && exec "$@"', str(most)]
        with nodes(prefix=prefix, start=False) as node:
            at = node.now()
            node.start(ready=False)
            node.wait("it says why it does not start", lambda: "at most 16 files may be open here" in node.log())
            outcome.see("log", "how many it needs, and where that is set", node.now() - at)
            outcome.expect("Traceback" not in node.log(), f"a traceback: {node.tail(8)}")
            node.wait("it is tried again", lambda: node.restarts >= 1)
            most.write_text("1024")
            healed = node.now()
            node.wait("the daemon is ready", node.ready)
            outcome.recovered = node.now() - healed
            outcome.close(node)
    return outcome


@fault("no processes", group="resources", what="no process and no thread can be started, and the NVML reader ends")
def no_processes(nodes: NodeFactory) -> Outcome:
    outcome = Outcome()
    with Group("pids") as group, nodes(prefix=group.prefix) as node:
        at = node.now()
        group.limit(1)
        node.signal(9, "reader")
        down = 'gpumon_source_up{source="nvml"} == 0'
        node.wait("it says that the GPUs are not read", lambda: node.query(down))
        outcome.see("series", "gpumon_source_up of nvml is 0", node.now() - at)
        outcome.alarm(node)
        while node.now() < at + 15:
            time.sleep(0.5)
        outcome.expect(not node.restarts, "the daemon was started anew")
        group.limit(None)
        healed = node.now()
        node.wait("the GPUs are read", lambda: node.query('gpumon_source_up{source="nvml"} == 1'), 120)
        outcome.recovered = node.now() - healed
        outcome.close(node)
    return outcome


@contextmanager
def _busy(each: int, nice: int) -> Iterator[None]:
    """Programs that take all of every processor."""
    count = (os.cpu_count() or 1) * each
    spinning = [subprocess.Popen(["nice", "-n", str(nice), sys.executable, "-c", _SPIN]) for _ in range(count)]
    try:
        yield
    finally:
        for process in spinning:
            process.kill()
            process.wait()


@fault(
    "no processor",
    group="resources",
    what="others take 100 % of every processor for 40 s, at a higher priority",
    alone=True,
)
def no_processor(nodes: NodeFactory) -> Outcome:
    outcome = Outcome()
    if os.geteuid() != 0:
        raise NotRun("needs root")
    with nodes() as node:
        waits = "irate(node_pressure_cpu_waiting_seconds_total[30s])"
        calm = node.wait("pressure is read", lambda: node.query(waits))[0][1]
        with _busy(2, -5):
            at = node.now()
            share = node.wait("somebody always waits", lambda: now if (now := node.value(waits) or 0.0) > 0.9 else None)
            words = f"node_pressure_cpu_waiting_seconds_total {share:.1f} a second, before {calm:.1f}"
            outcome.see("series", words, node.now() - at)
            outcome.alarm(node)
            while node.now() < at + 40:
                time.sleep(0.5)
            outcome.alarm(node, "another after 40 s")
        outcome.expect(not node.watchdogs, "systemd's watchdog ended the daemon")
        outcome.expect(not node.restarts, "the daemon was started anew")
        healed = node.now()
        node.wait("every source is read", node.sources_up)
        outcome.recovered = node.now() - healed
        outcome.close(node)
    return outcome


@fault(
    "network mount dead", group="resources", what="a mount whose server is gone (FUSE): `statvfs` does not come back"
)
def dead_mount(nodes: NodeFactory) -> Outcome:
    outcome = Outcome()
    with Space() as space, tempfile.TemporaryDirectory(prefix="gpumon-mount-") as folder:
        point = Path(folder) / "models"
        point.mkdir()
        # What the daemon takes for the host's mounts, process 1's, are those of the space.
        space.mount("--bind", f"/proc/{space.pid}/mounts", "/proc/1/mounts")
        with DeadMount(space, point) as mount, nodes(prefix=space.prefix) as node:
            size = f'node_filesystem_size_bytes{{mountpoint="{point}"}}'
            node.wait("the mount is read", lambda: node.query(size))
            at = node.now()
            mount.hang()
            error = f'node_filesystem_device_error{{mountpoint="{point}"}} == 1'
            node.wait("it says that the mount is dead", lambda: node.query(error))
            outcome.see("series", "node_filesystem_device_error", node.now() - at)
            node.wait("its size is gone, and not 0", lambda: not node.query(size))
            outcome.alarm(node)
            outcome.expect(node.query('node_filesystem_size_bytes{mountpoint="/"}'), "other mounts are not read")
            outcome.expect(not node.restarts, "the daemon was started anew")
            mount.go_on()
            healed = node.now()
            node.wait("the mount is read again", lambda: node.query(size))
            outcome.recovered = node.now() - healed
            outcome.close(node)
    return outcome


@fault("/proc unreadable", group="resources", what="the files of /proc that the host's readings come from are empty")
def proc(nodes: NodeFactory) -> Outcome:
    outcome = Outcome()
    with Space() as space, nodes(prefix=space.prefix) as node:
        node.wait("the host is read", lambda: node.query("node_memory_MemTotal_bytes"))
        at = node.now()
        hidden = ("/proc/stat", "/proc/meminfo", "/proc/loadavg", "/proc/diskstats")
        for path in hidden:
            space.mount("--bind", "/dev/null", path)
        node.wait("the readings are gone, and not 0", lambda: not node.query("node_memory_MemTotal_bytes"))
        outcome.see("series", "the readings are absent", node.now() - at)
        node.wait("it says why", lambda: "source host is down: cannot read /proc/stat" in node.log())
        outcome.see("webhook", "SourceStalled", node.wait_told("SourceStalled", since=at, seconds=120) - at)
        outcome.alarm(node)
        for path in hidden:
            space.run("umount", path)
        healed = node.now()
        node.wait("the host is read", lambda: node.query("node_memory_MemTotal_bytes"))
        outcome.recovered = node.now() - healed
        outcome.expect(not node.restarts, "the daemon was started anew")
        outcome.close(node)
    return outcome
