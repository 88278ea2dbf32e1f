"""What the terminal screens weigh, beside vllmstat over the same eight GPUs and the same vLLM."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import statistics
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psutil

from tests.bench.install import vllmstat
from tests.bench.weigh import line
from tests.daemons import RunningDaemon, daemon, wait_for
from tests.live.cache import InstallError
from tests.live.servers import free_port
from tests.nvml_stub.control import Stub, compile_library
from tests.tui.pty.terminal import Terminal, terminal

SIZE = (200, 50)
GPUS = 8
SCREENS = {
    "overview": "1",
    "GPUs": "2",
    "a GPU": "2\r",
    "vLLM": "3",
    "a server": "3\r",
    "alerts": "4",
    "processes": "5",
    "host": "6",
    "events": "7",
    "probes": "8",
    "fleet": "9",
}
"""What is shown, and the keys that lead to it."""

_ESCAPES = re.compile(rb"\x1b(?:\[[0-9;?<>=$]*[a-zA-Z]|\][^\x07]*\x07|[()].|[PX^_][^\x1b]*\x1b\\|[=>])")


class Pane:
    """A program in a pseudo-terminal that takes all at once and keeps nothing but the count."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str] | None = None, size: tuple[int, int] = SIZE):
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", size[1], size[0], 0, 0))
        environment = {**os.environ, "TERM": "xterm-256color", **(env or {})}
        self.began = time.perf_counter()
        self.process = subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave, env=environment, start_new_session=True
        )
        os.close(slave)
        self.bytes = 0
        self.painted = threading.Event()
        self.first_paint = 0.0
        """Seconds from the start to the first character that can be seen."""
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._master, 65536)
            except OSError:
                return
            self.bytes += len(data)
            if not self.painted.is_set() and _ESCAPES.sub(b"", data).strip():
                self.first_paint = time.perf_counter() - self.began
                self.painted.set()
            for _ in range(data.count(b"\x1b[6n")):
                os.write(self._master, b"\x1b[1;1R")

    def press(self, keys: str) -> None:
        """Type, as fast as a person."""
        for key in keys:
            os.write(self._master, key.encode())
            time.sleep(0.5)

    def cpu(self) -> float:
        """Seconds of CPU since it began, of it and its children."""
        top = psutil.Process(self.process.pid)
        times = [one.cpu_times() for one in (top, *top.children(recursive=True))]
        return sum(one.user + one.system for one in times)

    def memory(self) -> tuple[float, float]:
        """MiB: resident, proportional."""
        told = psutil.Process(self.process.pid).memory_full_info()
        return told.rss / (1 << 20), told.pss / (1 << 20)

    def close(self) -> None:
        """End it."""
        self.process.terminate()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._thread.join(5)
        os.close(self._master)


@contextmanager
def pane(command: Sequence[str], env: Mapping[str, str] | None = None) -> Iterator[Pane]:
    """A program in a pseudo-terminal, for as long as the block runs."""
    one = Pane(command, env)
    try:
        yield one
    finally:
        one.close()


@dataclass(frozen=True)
class Weight:
    """What a program took."""

    cpu: float
    """Per cent of a core."""
    rate: float
    """kB a second to the terminal."""


def weigh_panes(panes: Sequence[Pane], seconds: float) -> list[Weight]:
    """What programs take, side by side."""
    begun = time.monotonic()
    before = [(one.cpu(), one.bytes) for one in panes]
    time.sleep(seconds)
    took = time.monotonic() - begun
    return [
        Weight((one.cpu() - cpu) / took * 100, (one.bytes - size) / took / 1000)
        for one, (cpu, size) in zip(panes, before, strict=True)
    ]


def _ours(node: RunningDaemon) -> list[str]:
    return [sys.executable, "-m", "monitor", "tui", "--url", f"unix:{node.socket}"]


_MIRRORED = {
    "DCGM_FI_DEV_GPU_UTIL": ("gpu_util", 1),
    "DCGM_FI_DEV_GPU_TEMP": ("temperature", 1),
    "DCGM_FI_DEV_POWER_USAGE": ("power_mw", 1000),
    "DCGM_FI_DEV_SM_CLOCK": ("sm_clock", 1),
    "DCGM_FI_DEV_FB_USED": ("memory_used", 1 << 20),
}


class Mirror:
    """Lets the stub library say what the simulated GPUs do, so that both programs show the same numbers move."""

    def __init__(self, node: RunningDaemon, stub: Stub) -> None:
        self._node, self._stub = node, stub
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._end.wait(1.0):
            for name, (reading, unit) in _MIRRORED.items():
                for labels, value in self._node.query(name):
                    self._stub.set(int(labels["gpu"]), reading, round(value * unit))

    def close(self) -> None:
        """End it."""
        self._end.set()
        self._thread.join(10)


def tui(seconds: float) -> None:
    """Each screen, and vllmstat beside the overview. It reads NVML and vLLM itself, where our daemon does that."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        port = free_port()
        options = ("--simulate", "--past", "3600", "--listen", f"127.0.0.1:{port}")
        node = stack.enter_context(daemon(folder, *options))
        wait_for(lambda: node.query("DCGM_FI_DEV_GPU_TEMP"), "readings")
        ours = _ours(node)
        theirs: list[str] = []
        env: dict[str, str] = {}
        try:
            peer = str(vllmstat())
            stub = Stub(folder, compile_library(folder))
            stack.callback(stub.close)
            stub.gpus(GPUS)
            stack.callback(Mirror(node, stub).close)
            theirs = [peer, "-i", "1", "-u", f"http://127.0.0.1:{port}", "--metrics-path", "/metrics?collect[]=vllm"]
            env = {**stub.env(), "HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
        except InstallError as error:
            print(f"no peer: {error}")
        _paint(ours, theirs, env)
        first = stack.enter_context(pane(ours))
        panes = [first, *([stack.enter_context(pane(theirs, env))] if theirs else [])]
        time.sleep(8)
        first.press("1")
        both = weigh_panes(panes, seconds)
        said = f"{SIZE[0]}×{SIZE[1]}, {GPUS} GPUs, a vLLM, 1 s"
        beside = both[1] if theirs else None
        line(
            f"TUI, overview, {said}: CPU",
            f"{both[0].cpu:.2f} %",
            f"vllmstat 0.9.1 {beside.cpu:.2f} %" if beside else "",
            "half of the peer's",
        )
        line(
            "the same, to the terminal",
            f"{both[0].rate:.2f} kB/s",
            f"vllmstat 0.9.1 {beside.rate:.1f} kB/s" if beside else "",
            "half of the peer's",
        )
        for name, at in (("resident", 0), ("proportional (PSS)", 1)):
            of = [one.memory()[at] for one in panes]
            line(
                f"the same, memory, {name}",
                f"{of[0]:.1f} MiB",
                f"vllmstat 0.9.1 {of[1]:.1f} MiB" if theirs else "",
            )
        for one in panes[1:]:
            one.process.terminate()
        for name, keys in SCREENS.items():
            first.press(keys)
            time.sleep(2)
            (weight,) = weigh_panes([first], max(5.0, seconds / 4))
            line(f"TUI, {name}: CPU, to the terminal", f"{weight.cpu:.2f} %", f"{weight.rate:.2f} kB/s")


def _paint(ours: Sequence[str], theirs: Sequence[str], env: Mapping[str, str]) -> None:
    taken: list[list[float]] = [[], []]
    for _ in range(5):
        for which, (command, more) in enumerate(((ours, {}), (theirs, env))):
            if command:
                with pane(command, more) as one:
                    one.painted.wait(20)
                    taken[which].append(one.first_paint)
    peer = f"vllmstat 0.9.1 {statistics.median(taken[1]) * 1000:.0f} ms" if theirs else ""
    line("TUI: from the command to its first paint", f"{statistics.median(taken[0]) * 1000:.0f} ms", peer, "500 ms")


_CLOCK = re.compile(r"\d\d:\d\d:\d\d")


def _is_on(shown: Terminal, title: str) -> bool:
    return any(one.startswith(title) for one in shown.lines[1:5])


def tui_slow(seconds: float) -> None:
    """A line of 64 kbit/s with 300 ms each way: how old the picture is, and how long a key takes to be seen."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        node = stack.enter_context(daemon(folder, "--simulate", "--past", "3600"))
        for size in ((80, 24), SIZE):
            shown = stack.enter_context(terminal(_ours(node), size, rate=8000, delay=0.3))
            shown.see("GPU", "vLLM")
            shown.pump_for(4)
            oldest, taken = 0.0, []
            for key, title in (
                ("2", "GPUs  "),
                ("4", "alerts  "),
                ("7", "events  "),
                ("3", "vLLM  "),
                ("1", "GPU "),
            ) * 2:
                pressed = time.monotonic()
                shown.press(key)
                shown.wait(partial(_is_on, shown, title), title)
                taken.append(time.monotonic() - pressed)
                until = time.monotonic() + seconds / 20
                while time.monotonic() < until:
                    shown.pump(0.05)
                    found = _CLOCK.search(shown.lines[0])
                    if found is not None:
                        now = time.localtime()
                        hours, minutes, past = map(int, found[0].split(":"))
                        age = (now.tm_hour - hours) * 3600 + (now.tm_min - minutes) * 60 + now.tm_sec - past
                        oldest = max(oldest, age)
            name = f"TUI over 64 kbit/s and 300 ms, {size[0]}×{size[1]}"
            line(f"{name}: the oldest picture", f"{oldest:.0f} s", "", "3 s")
            worst = f"worst {max(taken):.1f} s of {len(taken)}"
            line(f"{name}: another screen, from its key", f"{statistics.median(taken):.1f} s", worst, "2 s")


def tui_hours(seconds: float) -> None:
    """A TUI that goes from screen to screen over a clock that runs ten times as fast; its memory each minute."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        node = stack.enter_context(daemon(folder, "--simulate", "--past", "3600", "--speed", "10"))
        one = stack.enter_context(pane(_ours(node)))
        begun = told = time.monotonic()
        while time.monotonic() - begun < seconds:
            for keys in (*SCREENS.values(), "\x1b[D", "[", "]", "l", "?", "\x1b"):
                one.press(keys)
                time.sleep(1)
                if time.monotonic() - told >= 60:
                    told = time.monotonic()
                    rss, pss = one.memory()
                    line(
                        f"TUI after {(told - begun) / 60:.0f} min at 10 times the speed",
                        f"{rss:.1f} MiB",
                        f"PSS {pss:.1f} MiB",
                    )
