"""A driver that hangs, crashes, is slow, goes away and comes back; a GPU that is lost; a reader that cannot be killed.

The driver is ours (`tests/nvml_stub`), under the real pynvml and the real reader."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.faults.family import family, role
from tests.faults.fault import NodeFactory, NotRun, Outcome, fault
from tests.faults.groups.watchdog import WATCHDOG
from tests.faults.node import Node
from tests.nvml_stub import layout

TEMPERATURE = "DCGM_FI_DEV_GPU_TEMP"
_CALL = "nvmlDeviceGetPowerUsage"
_FREEZER = Path("/sys/fs/cgroup/freezer")


@fault("nvml hangs", group="nvml", what="a call to the driver for GPU 1 never returns")
def nvml_hangs(nodes: NodeFactory) -> Outcome:
    outcome = Outcome()
    with nodes() as node:
        at = node.now()
        node.stub.fault(1, f"hang:{_CALL}")
        _gpu_is_gone(node, outcome, at)
        _past_the_watchdog(node, outcome, at)
        at = node.now()
        node.stub.clear(1)
        _all_read(node)
        outcome.recovered = node.now() - at
        outcome.close(node)
    return outcome


@fault("nvml hangs everywhere", group="nvml", what="every call to the driver, and opening it, never returns")
def nvml_hangs_everywhere(nodes: NodeFactory) -> Outcome:
    outcome = Outcome()
    with nodes() as node:
        at = node.now()
        for gpu in (None, 0, 1):
            node.stub.fault(gpu, "hang")
        _readings_end(node, outcome, at)
        outcome.see("webhook", "SourceStalled", node.wait_told("SourceStalled", source="nvml") - at)
        _past_the_watchdog(node, outcome, at)
        readers = sum(role(pid) == "reader" for pid in family(node.mark))
        outcome.expect(readers <= 2, f"{readers} readers at once")
        at = node.now()
        for gpu in (None, 0, 1):
            node.stub.clear(gpu)
        _all_read(node)
        outcome.recovered = node.now() - at
        outcome.close(node)
    return outcome


@fault("nvml crashes", group="nvml", what="the driver's library crashes in a call for GPU 1, each time")
def nvml_crashes(nodes: NodeFactory) -> Outcome:
    outcome = Outcome()
    with nodes() as node:
        at = node.now()
        node.stub.fault(1, f"crash:{_CALL}")
        _gpu_is_gone(node, outcome, at)
        outcome.alarm(node)
        at = node.now()
        node.stub.clear(1)
        _all_read(node)
        outcome.recovered = node.now() - at
        outcome.expect(not node.restarts, "the daemon was started again")
        outcome.close(node)
    return outcome


@fault("gpu lost", group="nvml", what="GPU 1 falls off the bus")
def gpu_lost(nodes: NodeFactory) -> Outcome:
    outcome = Outcome()
    with nodes() as node:
        at = node.now()
        node.stub.fault(1, "lost")
        _gpu_is_gone(node, outcome, at)
        outcome.alarm(node)
        at = node.now()
        node.stub.clear(1)
        _all_read(node)
        outcome.recovered = node.now() - at
        outcome.close(node)
    return outcome


@fault("nvml slow", group="nvml", what="the driver takes 0.5 s for a call of each GPU, each second")
def nvml_slow(nodes: NodeFactory) -> Outcome:
    outcome = Outcome()
    with nodes() as node:
        at = node.now()
        for gpu in (0, 1):
            node.stub.fault(gpu, f"sleep:{_CALL}:500")
        took = node.wait("polls are long", lambda: now if (now := _poll_seconds(node)) >= 1.0 else None)
        outcome.see("series", f"gpumon_nvml_poll_duration_seconds {took:.1f}", node.now() - at)
        for _ in range(15):
            time.sleep(1)
            outcome.expect(_gpus(node) == {"0", "1"}, "a slow driver is taken for a dead one")
        outcome.go_on("readings come, oftener than they go stale")
        outcome.alarm(node)
        at = node.now()
        for gpu in (0, 1):
            node.stub.clear(gpu)
        node.wait("polls are short", lambda: 0 < _poll_seconds(node) < 0.5)
        outcome.recovered = node.now() - at
        outcome.close(node)
    return outcome


@fault("driver gone", group="nvml", what="the driver is unloaded, and comes back when that was told")
def driver_gone(nodes: NodeFactory) -> Outcome:
    outcome = Outcome()
    with nodes() as node:
        at = node.now()
        # What an open library says when the module goes; a reader that opens it anew hears that there is none.
        node.stub.driver_absent(library=False)
        for gpu in (0, 1):
            node.stub.fault(gpu, "unknown")
        _readings_end(node, outcome, at)
        node.wait(
            "somebody is told", lambda: node.told("GpuLost", since=at) or node.told("SourceStalled", since=at), 90
        )
        for name in ("SourceStalled", "GpuLost"):
            if (told := node.told(name, since=at)) is not None:
                outcome.see("webhook", name, told - at)
        outcome.alarm(node)
        at = node.now()
        node.stub.driver_present()
        for gpu in (0, 1):
            node.stub.clear(gpu)
        _all_read(node, 180)
        outcome.recovered = node.now() - at
        outcome.close(node)
    return outcome


@fault("reader unkillable", group="nvml", what="the reader hangs in the kernel: not even SIGKILL ends it")
def reader_unkillable(nodes: NodeFactory) -> Outcome:
    """A frozen cgroup of version 1 is the real thing: such a process takes no signal until it is thawed."""
    outcome = Outcome()
    with _freezer() as freezer, nodes() as node:
        stuck = node.pids()["reader"]
        (freezer / "cgroup.procs").write_text(str(stuck))
        at = node.now()
        (freezer / "freezer.state").write_text("FROZEN")
        _readings_end(node, outcome, at)
        # The driver works: another reader gives readings, and the one that is left is counted.
        node.wait("it is counted", lambda: node.value("gpumon_nvml_readers_left_behind") == 1)
        outcome.see("series", "gpumon_nvml_readers_left_behind 1", node.now() - at)
        _all_read(node)
        outcome.go_on("another reader reads, where the driver lets it")
        outcome.expect(os.path.exists(f"/proc/{stuck}"), "it was killed all the same: this tested nothing")
        outcome.alarm(node)
        _past_the_watchdog(node, outcome, at)
        at = node.now()
        (freezer / "freezer.state").write_text("THAWED")
        node.wait("it has ended", lambda: not os.path.exists(f"/proc/{stuck}"))
        node.wait("none is counted", lambda: node.value("gpumon_nvml_readers_left_behind") == 0)
        outcome.recovered = node.now() - at
        outcome.close(node)
    return outcome


@fault("driver hangs unkillably", group="nvml", what="the driver hangs every caller in the kernel, unkillably")
def driver_hangs_unkillably(nodes: NodeFactory) -> Outcome:
    """Each reader that comes is frozen too: there must be no heap of them."""
    outcome = Outcome()
    with _freezer() as freezer, nodes() as node:
        at = node.now()
        frozen: set[int] = set()
        (freezer / "cgroup.procs").write_text(str(node.pids()["reader"]))
        (freezer / "freezer.state").write_text("FROZEN")
        until = at + 45
        while node.now() < until:
            for pid in family(node.mark):
                if role(pid) == "reader" and pid not in frozen:
                    with suppress(OSError):
                        (freezer / "cgroup.procs").write_text(str(pid))
                        frozen.add(pid)
            time.sleep(0.05)
        readers = [pid for pid in family(node.mark) if role(pid) == "reader"]
        outcome.expect(len(readers) <= 2, f"{len(readers)} readers hang: {readers}")
        outcome.see("webhook", "SourceStalled", node.wait_told("SourceStalled", source="nvml") - at)
        outcome.go_on(f"{len(readers)} readers are left in it, and no third is tried")
        outcome.alarm(node)
        outcome.expect(not node.restarts, "the daemon was started again")
        at = node.now()
        (freezer / "freezer.state").write_text("THAWED")
        _all_read(node)
        outcome.recovered = node.now() - at
        outcome.close(node)
    return outcome


# -- what several of them do -------------------------------------------------------------------------------------------


def _gpu_is_gone(node: Node, outcome: Outcome, at: float) -> None:
    """GPU 1 is told as lost, its readings end, and GPU 0's go on."""
    node.wait("GPU 1 has no readings", lambda: _gpus(node) == {"0"})
    outcome.see("series", "GPU 1's readings end, gpumon_gpu_up 0", node.now() - at)
    outcome.see("webhook", "GpuLost", node.wait_told("GpuLost", since=at, gpu="1") - at)
    outcome.expect(node.value('gpumon_gpu_up{gpu="0"}') == 1, "GPU 0 is not read beside it")
    outcome.go_on("GPU 0 is read")


def _poll_seconds(node: Node) -> float:
    return node.value("gpumon_nvml_poll_duration_seconds") or 0.0


def _gpus(node: Node) -> set[str]:
    return {labels["gpu"] for labels, _ in node.query(TEMPERATURE)}


def _readings_end(node: Node, outcome: Outcome, at: float) -> None:
    node.wait("the GPUs' readings end", lambda: not node.query(TEMPERATURE))
    outcome.see("series", "the GPUs' readings end, and are not frozen", node.now() - at)


def _all_read(node: Node, seconds: float = 150) -> None:
    """The pauses between two looks grow to a minute."""
    node.wait("both GPUs are read", lambda: _gpus(node) == {"0", "1"}, seconds)


def _past_the_watchdog(node: Node, outcome: Outcome, at: float) -> None:
    """Longer than systemd's watchdog waits, and the alarm works; it is no case for the watchdog."""
    outcome.alarm(node)
    time.sleep(max(0.0, at + WATCHDOG + 10 - node.now()))
    outcome.expect(not node.watchdogs and not node.restarts, "the daemon was started again")


@contextmanager
def _freezer() -> Iterator[Path]:
    """A cgroup of version 1 whose processes can be frozen. Raises ``NotRun`` where there is none to be had."""
    group = _FREEZER / f"gpumon-faults-{os.getpid()}-{time.monotonic_ns()}"
    try:
        group.mkdir()
    except OSError as error:
        raise NotRun(f"needs root and a freezer of cgroups v1: {error.strerror}") from None
    try:
        yield group
    finally:
        (group / "freezer.state").write_text("THAWED")
        for _ in range(100):
            if not (group / "cgroup.procs").read_text().strip():
                break
            time.sleep(0.1)
        with suppress(OSError):
            group.rmdir()


assert _CALL in layout.FUNCTIONS, "a call that the stub has"
