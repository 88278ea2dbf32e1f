"""What watching GPUs costs, on a machine with GPUs: gpumon's reader and daemon beside nvitop, gpustat and nvidia-smi.

    PYTHONPATH=. python -m tests.gpu.weigh [--seconds 60] [--rounds 4] [--json FILE] [--device cpu]

Three tables, under eight minutes in all on four GPUs:

1. Each program for --seconds, at 1 s, one after the other, while every GPU works: its CPU with its children's, memory
   (PSS), and how long one look takes, beside what the load did meanwhile.
2. What polling costs that load: without, with the reader at 1 s, at 100 ms, at 100 ms with GPM at every poll, and with
   `nvidia-smi dmon`, in turn, the order shifted in each round. The noise is how far two windows without are apart.
3. How a poll grows with the number of GPUs, and the exponent that fits.

Needs nvidia-ml-py, psutil and msgspec. What is not installed (torch, nvitop, gpustat, nvidia-smi) is said and left out.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import json
import math
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil

from tests.bench.pane import pane
from tests.bench.slopes import exponent
from tests.bench.weigh import Meter
from tests.gpu import workload
from tests.gpu.costs import DirectReader, gpu_count

_ROOT = Path(__file__).resolve().parents[2]
_SETTLE = 2.0
"""Seconds before a program is weighed: what its start costs is told by no row."""
_LOOKS = {
    "nvitop": "from nvitop import Device, take_snapshots\nlook = take_snapshots",
    "gpustat": "import gpustat\nlook = gpustat.new_query",
}
"""One look of a program that is written in Python: what its loop calls."""
_TIMER = """
import json, sys, time
taken = []
for _ in range(int(sys.argv[1])):
    began = time.perf_counter()
    look()
    taken.append((time.perf_counter() - began) * 1000)
    time.sleep(0.2)
print(json.dumps(taken[1:]))
"""


@dataclass
class Row:
    """What one program cost."""

    what: str
    cpu: float | None
    """Per cent of a core; None where only looks were timed."""
    pss: float | None
    """MiB."""
    poll_ms: list[float] = field(default_factory=list)
    """How long looks took: the first, which opens the driver, is left out."""
    load: tuple[float, float] | None = None
    """Products and short kernels a second and GPU meanwhile."""


def _python(*arguments: str) -> list[str]:
    return [sys.executable, *arguments]


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": f"{_ROOT}:{os.environ.get('PYTHONPATH', '')}", "TERM": "xterm-256color"}


class Load:
    """The load on every GPU, and what it does in a stretch of time."""

    def __init__(self, devices: Sequence[str], folder: Path, stack: ExitStack) -> None:
        self._files = [folder / f"load-{device}" for device in devices]
        self._started = []
        for device, file in zip(devices, self._files, strict=True):
            workload.prepare(file)
            command = _python("-m", "tests.gpu.workload", device, str(file))
            process = subprocess.Popen(command, env=_environment(), stderr=subprocess.PIPE)
            stack.callback(_end, process)
            self._started.append(process)

    def wait(self, seconds: float = 120.0) -> None:
        """Until each has done a turn. Raises ``OSError`` where one ended or none is done in time."""
        until = time.monotonic() + seconds
        while not all(workload.read(file) for file in self._files):
            for process in self._started:
                if process.poll() is not None:
                    assert process.stderr is not None
                    raise OSError(process.stderr.read().decode(errors="replace").strip().splitlines()[-1])
            if time.monotonic() > until:
                raise OSError(f"no load after {seconds:.0f} s")
            time.sleep(0.1)

    def look(self) -> list[workload.Done]:
        """What each has done so far."""
        return [done for file in self._files if (done := workload.read(file))]

    def rates(self, before: Sequence[workload.Done]) -> tuple[float, float] | None:
        """Since then: the mean over the GPUs. None without a load, or where it did no turn."""
        try:
            found = [now.rates(then) for now, then in zip(self.look(), before, strict=True)]
            return statistics.mean(p for p, _ in found), statistics.mean(s for _, s in found)
        except (ZeroDivisionError, ValueError, statistics.StatisticsError):
            return None


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.communicate()


@contextmanager
def polling(
    count: int, total: int, pause: float, *, gpm: bool, watched: bool = False
) -> Iterator[tuple[int, list[float]]]:
    """A reader that is asked every ``pause`` seconds for the first ``count`` of ``total`` GPUs: its PID, and how many
    milliseconds each poll took. The first poll is over when the block begins."""
    reader = DirectReader(total, gpm=gpm, skip=range(count, total), every={"gpm_watched": min(pause, 1.0)})
    taken: list[float] = []
    end = threading.Event()
    try:
        frame = reader.poll(watched=watched)
        if "gpus" not in frame:
            raise OSError(f"no readings: {frame}")

        def poll() -> None:
            while not end.wait(max(0.0, pause - (taken[-1] / 1000 if taken else 0.0))):
                taken.append(float(reader.poll(watched=watched)["seconds"]) * 1000)

        thread = threading.Thread(target=poll, daemon=True)
        thread.start()
        try:
            yield reader.pid, taken
        finally:
            end.set()
            thread.join(10)
    finally:
        reader.close()


def _weighed(what: str, pid: int, seconds: float, load: Load, taken: Sequence[float] = ()) -> Row:
    time.sleep(_SETTLE)
    skipped = len(taken)
    before = load.look()
    meter = Meter([pid])
    time.sleep(seconds)
    cpu = meter.cpu()
    return Row(what, cpu, meter.memory(), list(taken[skipped:]), load.rates(before))


def _looks(program: str, times: int = 8) -> list[float]:
    """Milliseconds of looks of a program in Python, in a process of its own."""
    done = subprocess.run(
        _python("-c", _LOOKS[program] + _TIMER, str(times)),
        env=_environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    if done.returncode:
        print(f"{program}: one look cannot be timed: {(done.stderr.strip().splitlines() or ['?'])[-1]}")
        return []
    return [float(one) for one in json.loads(done.stdout)]


def _smi_looks(times: int = 4) -> list[float]:
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        subprocess.run(["nvidia-smi"], stdout=subprocess.DEVNULL, timeout=60, check=False)
        taken.append((time.perf_counter() - began) * 1000)
    return taken[1:]


def _daemon(seconds: float, folder: Path, load: Load) -> Row | str:
    (folder / "gpumon.yaml").write_text(
        json.dumps({"api": {"listen": "none"}, "sources": {"vllm": {"discover": False}}})
    )
    command = _python("-m", "monitor", "daemon", "--config", str(folder / "gpumon.yaml"), "--listen", "none")
    command += ["--socket", str(folder / "s"), "--state-dir", str(folder / "state")]
    with (folder / "daemon.log").open("wb") as log:
        process = subprocess.Popen(command, env=_environment(), stderr=log)
        try:
            until = time.monotonic() + 30
            while not (folder / "s").exists():
                if process.poll() is not None or time.monotonic() > until:
                    return (folder / "daemon.log").read_text(errors="replace").strip()[-300:] or "it did not start"
                time.sleep(0.05)
            return _weighed("gpumon daemon, all its processes, shipped rules", process.pid, seconds, load)
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def programs(seconds: float, daemon_seconds: float, count: int, folder: Path, load: Load) -> list[Row]:
    """The first table."""
    print(f"\n1. {seconds:.0f} s each at 1 s, {count} GPUs {'under load' if load.look() else 'idle'}\n")
    print(
        f"{'':48} {'CPU':>8} {'PSS':>10} {'one look, ms: median, worst':>29}   load: products/s, short kernels/s a GPU"
    )
    rows: list[Row] = []

    def add(row: Row) -> None:
        rows.append(row)
        looks = f"{statistics.median(row.poll_ms):.2f}, {max(row.poll_ms):.2f}" if row.poll_ms else ""
        meanwhile = f"{row.load[0]:.1f}, {row.load[1]:.0f}" if row.load else ""
        cpu = "" if row.cpu is None else f"{row.cpu:.2f} %"
        pss = "" if row.pss is None else f"{row.pss:.1f} MiB"
        print(f"{row.what:48} {cpu:>8} {pss:>10} {looks:>29}   {meanwhile}", flush=True)

    def alone() -> None:
        before = load.look()
        time.sleep(2)
        if rates := load.rates(before):
            rows.append(Row("nothing", 0.0, 0.0, [], rates))
            print(f"{'(nothing, 2 s)':48} {'':8} {'':10} {'':29}   {rates[0]:.1f}, {rates[1]:.0f}", flush=True)

    alone()
    with polling(count, count, 1.0, gpm=True) as (pid, taken):
        add(_weighed("gpumon's reader, GPM every 5 s", pid, seconds, load, taken))
    for name, module, arguments in (
        ("nvitop --interval 1, 200×50", "nvitop", ["--monitor", "full", "--interval", "1"]),
        ("gpustat --watch 1 -a", "gpustat", ["--watch", "1", "-a"]),
    ):
        if importlib.util.find_spec(module) is None:
            print(f"{name}: not installed")
            continue
        alone()
        with pane(_python("-m", module, *arguments), _environment()) as shown:
            row = _weighed(name, shown.process.pid, seconds, load)
            if shown.process.poll() is not None or not shown.bytes:
                print(f"{name}: it ended with {shown.process.poll()}: {bytes(shown.seen).decode(errors='replace')}")
                continue
        row.poll_ms = _looks(module)
        add(row)
    for name, arguments in (("nvidia-smi dmon -d 1", ["dmon", "-d", "1"]), ("nvidia-smi -l 1", ["-l", "1"])):
        if shutil.which("nvidia-smi") is None:
            print(f"{name}: not here")
            continue
        alone()
        with pane(["nvidia-smi", *arguments], _environment()) as shown:
            row = _weighed(name, shown.process.pid, seconds, load)
            if shown.process.poll() is not None:
                print(f"{name}: it ended with {shown.process.poll()}: {bytes(shown.seen).decode(errors='replace')}")
                continue
        add(row)
    if shutil.which("nvidia-smi") is not None:
        # How long a look of one that runs takes is not to be had from outside.
        add(Row("nvidia-smi, once, with its start", None, None, _smi_looks()))
    alone()
    if daemon_seconds:
        told = _daemon(daemon_seconds, folder, load)
        if isinstance(told, str):
            print(f"gpumon daemon: {told}")
        else:
            add(told)
    return rows


def cost(seconds: float, rounds: int, count: int, load: Load) -> dict[str, tuple[list[float], list[float]]]:
    """The second table: for each way of polling, each round's products and short kernels, in parts of those without."""
    kinds = {
        "without": None,
        "without, again": None,
        "reader at 1 s, GPM every 5 s": (1.0, True, False),
        "reader at 100 ms, no GPM": (0.1, False, False),
        "reader at 100 ms, GPM at each poll": (0.1, True, True),
        "nvidia-smi dmon -d 1": ["nvidia-smi", "dmon", "-d", "1"],
    }
    if shutil.which("nvidia-smi") is None:
        del kinds["nvidia-smi dmon -d 1"]
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in kinds}
    for number in range(rounds):
        order = list(kinds)[number % len(kinds) :] + list(kinds)[: number % len(kinds)]
        for name in order:
            how = kinds[name]
            with ExitStack() as stack:
                if isinstance(how, list):
                    stack.enter_context(pane(how, _environment()))
                elif how is not None:
                    pause, gpm, watched = how
                    stack.enter_context(polling(count, count, pause, gpm=gpm, watched=watched))
                time.sleep(0.5)
                before = load.look()
                time.sleep(seconds)
                if done := load.rates(before):
                    found[name].append(done)
    print(f"\n2. What polling costs the load: medians of {rounds} rounds of {seconds:g} s, against those without\n")
    print(f"{'':38} {'products':>10} {'rounds':>20} {'short kernels':>16} {'rounds':>20}")
    out = {}
    for name, rates in found.items():
        base = found["without"]
        if not rates or len(rates) != len(base):
            print(f"{name:38} the load did no turn in some windows")
            continue
        parts = [[(mine[i] / none[i] - 1) * 100 for mine, none in zip(rates, base, strict=True)] for i in (0, 1)]
        out[name] = (parts[0], parts[1])
        if name == "without":
            continue
        said = name if name != "without, again" else "without, again: the noise"
        texts = [f"{statistics.median(one):+.2f} %" for one in parts]
        spread = [f"{min(one):+.2f} to {max(one):+.2f}" for one in parts]
        print(f"{said:38} {texts[0]:>10} {spread[0]:>20} {texts[1]:>16} {spread[1]:>20}", flush=True)
    return out


def growth(seconds: float, total: int) -> dict[str, dict[int, float]]:
    """The third table: median milliseconds of a poll, by the number of GPUs that are read."""
    print("\n3. How a poll grows: median ms, at 100 ms between polls\n")
    counts = [n for n in (1, 2, 4, 8, 16) if n <= total] or [total]
    out: dict[str, dict[int, float]] = {}
    for name, gpm, watched in (("without GPM", False, False), ("GPM at each poll", True, True)):
        points: dict[int, float] = {}
        for count in counts:
            with polling(count, total, 0.1, gpm=gpm, watched=watched) as (_, taken):
                time.sleep(seconds)
                points[count] = statistics.median(taken) if taken else math.nan
        out[name] = points
        known = {count: ms for count, ms in points.items() if ms > 0}
        fitted = exponent(list(known), list(known.values()))
        said = ", ".join(f"{count} GPU{'s' * (count > 1)} {ms:.2f}" for count, ms in points.items())
        power = f"; grows with the power {fitted:.2f}" if math.isfinite(fitted) else ""
        print(f"{name:20} {said}{power}", flush=True)
    return out


def _gpu_name() -> str:
    import pynvml

    pynvml.nvmlInit()
    try:
        name = pynvml.nvmlDeviceGetName(pynvml.nvmlDeviceGetHandleByIndex(0))
        return f"{name}, driver {pynvml.nvmlSystemGetDriverVersion()}"
    finally:
        pynvml.nvmlShutdown()


def main() -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seconds", type=float, default=60.0, help="how long each program is weighed")
    parser.add_argument("--daemon-seconds", type=float, default=15.0, help="how long the daemon is weighed; 0: not")
    parser.add_argument("--rounds", type=int, default=4, help="of what polling costs a load")
    parser.add_argument("--round-seconds", type=float, default=2.5)
    parser.add_argument("--growth-seconds", type=float, default=3.0)
    parser.add_argument("--device", choices=["gpu", "cpu", "none"], default="gpu", help="where the load runs")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the numbers")
    options = parser.parse_args()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # what was measured is seen, whatever ends it
    began = time.monotonic()
    count = gpu_count()
    if not count:
        print("no GPU answers", file=sys.stderr)
        return 2
    machine = f"{count} × {_gpu_name()}; {psutil.cpu_count()} CPUs, Linux {platform.release()}"
    machine += f", Python {platform.python_version()}"
    print(machine)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        devices = {"gpu": [str(n) for n in range(count)], "cpu": ["cpu"], "none": []}[options.device]
        load = Load(devices, folder, stack)
        try:
            load.wait()
        except OSError as error:
            print(f"no load: {error}")
            load = Load([], folder, stack)
            devices = []
        rows = programs(options.seconds, options.daemon_seconds, count, folder, load)
        costs = cost(options.round_seconds, options.rounds, count, load) if devices else {}
        grown = growth(options.growth_seconds, count)
    if options.json:
        kept = {"machine": machine, "programs": [asdict(row) for row in rows], "cost": costs, "growth": grown}
        options.json.write_text(json.dumps(kept, indent=1))
    print(f"\n{time.monotonic() - began:.0f} s in all")
    return 0


if __name__ == "__main__":
    sys.exit(main())
