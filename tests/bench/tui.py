"""What the terminal screens weigh, beside vllmstat over the same eight GPUs and the same vLLM."""

from __future__ import annotations

import re
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.bench.install import nvitop, vllmstat
from tests.bench.pane import SIZE, Pane, pane
from tests.bench.table import Row, Table, half
from tests.bench.weigh import line
from tests.daemons import RunningDaemon, daemon, wait_for
from tests.live.cache import InstallError
from tests.live.servers import free_port
from tests.nvml_stub.control import Stub, compile_library
from tests.tui.pty.terminal import Terminal, terminal

GPUS = 8
_VLLMSTAT = "vllmstat 0.9.1"
"""The peer that the aims are held against: without it they are not judged."""
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


@contextmanager
def _node() -> Iterator[tuple[RunningDaemon, list[_Peer]]]:
    """A simulated node, and the programs beside ours, over the same eight GPUs and the same vLLM."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        port = free_port()
        options = ("--simulate", "--past", "3600", "--listen", f"127.0.0.1:{port}")
        node = stack.enter_context(daemon(folder, *options))
        wait_for(lambda: node.query("DCGM_FI_DEV_GPU_TEMP"), "readings")
        stub = Stub(folder, compile_library(folder))
        stack.callback(stub.close)
        stub.gpus(GPUS)
        stack.callback(Mirror(node, stub).close)
        env = {**stub.env(), "HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
        peers = []
        vllm = ["-i", "1", "-u", f"http://127.0.0.1:{port}", "--metrics-path", "/metrics?collect[]=vllm"]
        full = ["--monitor", "full", "--interval", "1"]
        for name, install, arguments in ((_VLLMSTAT, vllmstat, vllm), ("nvitop 1.7.2", nvitop, full)):
            try:
                peers.append(_Peer(name, [str(install()), *arguments], env))
            except InstallError as error:
                print(f"no peer: {str(error).splitlines()[0]}")
        yield node, peers


@dataclass(frozen=True)
class _Peer:
    name: str
    command: list[str]
    env: Mapping[str, str]


def tui(table: Table, seconds: float) -> None:
    """The first paint, and the overview beside its peers. They read NVML and vLLM themselves, where our daemon does
    that; nvitop shows no vLLM."""
    with ExitStack() as stack:
        node, peers = stack.enter_context(_node())
        _paint(table, _ours(node), peers)
        names = ["ours", *(one.name for one in peers)]
        first = stack.enter_context(pane(_ours(node)))
        panes = [first, *(stack.enter_context(pane(one.command, one.env)) for one in peers)]
        time.sleep(8)
        first.press("1")
        rounds = [weigh_panes(panes, seconds / 4) for _ in range(4)]
        cpu = {name: [one[at].cpu for one in rounds] for at, name in enumerate(names)}
        rate = {name: [one[at].rate for one in rounds] for at, name in enumerate(names)}
        pss = {name: [panes[at].memory()[1]] for at, name in enumerate(names)}
    said = f"{SIZE[0]}×{SIZE[1]}, {GPUS} GPUs, a vLLM, 1 s"
    beside, aim = {name: cpu[name] for name in names[1:]}, "half of vllmstat's"
    most = half(beside, _VLLMSTAT)
    table.add(Row("tui-cpu", f"TUI, overview, {said}: CPU", "% of a core", cpu["ours"], aim, most, peers=beside))
    beside = {name: rate[name] for name in names[1:]}
    most = half(beside, _VLLMSTAT)
    table.add(Row("tui-bytes", "the same, to the terminal", "kB/s", rate["ours"], aim, most, peers=beside))
    beside = {name: pss[name] for name in names[1:]}
    table.add(Row("tui-memory", "the same, memory (PSS)", "MiB", pss["ours"], peers=beside))


def _paint(table: Table, ours: list[str], peers: Sequence[_Peer]) -> None:
    taken: dict[str, list[float]] = {}
    for number in range(6):
        for name, command, env in (("ours", ours, {}), *((one.name, one.command, one.env) for one in peers)):
            with pane(command, env) as one:
                one.painted.wait(30)
                if number:  # the first of each is read from disk, and writes bytecode
                    taken.setdefault(name, []).append(one.first_paint * 1000)
    mine = taken.pop("ours")
    table.add(Row("paint", "TUI: from the command to its first paint", "ms", mine, "500 ms", 500.0, peers=taken))


def tui_screens(seconds: float) -> None:
    """Each screen."""
    with _node() as (node, _), pane(_ours(node)) as first:
        time.sleep(8)
        for name, keys in SCREENS.items():
            first.press(keys)
            time.sleep(2)
            (weight,) = weigh_panes([first], max(5.0, seconds / 4))
            line(f"TUI, {name}: CPU, to the terminal", f"{weight.cpu:.2f} %", f"{weight.rate:.2f} kB/s")


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
