"""The GPUs while a probe runs: a process of its own that asks the driver ten times a second, since NVML can hang in the
kernel and has crashed its callers, and a probe must live on.

``python -m monitor.probes.gpu_watch PARENT_PID OPTIONS`` writes lines of JSON, of one kind each:

- ``{"facts": {"driver": …, "gpus": [{"index", "uuid", "name", "max_sm_clock", "gpm"}], "unknown": […]}}``, the first;
- ``{"absent": reason}`` or ``{"down": reason}`` in its place, and it ends;
- ``{"t": seconds, "fast": [[index, util %, mW now, mW averaged, SM MHz, clocks event reasons], …]}`` every 100 ms;
- ``{"t": …, "slow": [[index, bytes used, bytes in total, °C, {GPM's readings}, seconds that they are of], …]}`` each
  second, and at a mark; ``errors`` beside it has what a GPU did not answer and why;
- ``{"t": …, "mark": number, "energy": {index: millijoules}}``, the answer to a line ``mark number`` on its standard
  input.

``t`` is of ``time.monotonic``, which all processes of a machine share. What a GPU does not have is null. OPTIONS is
JSON: ``Options`` below. It ends with its parent and with its standard input.

**What each reading is worth**, seen on an H200 with driver 580: utilization is a mean over 200 ms that the driver makes
every 200 ms, so each is read twice and the mean is right; ``nvmlDeviceGetSamples`` has the very same values, once each,
and costs 1,600 to 2,800 µs in place of 26, since it hands out 14 s every time. The draw of the moment (new every
100 ms) shows peaks and lies in the mean: a load of 50 ms on and 50 ms off read 852 W where 491 were drawn. So the mean
comes from the energy counter, which moves every 100 ms, costs 4 ms and is read at the two ends of a step alone; where
there is none, from ``nvmlDeviceGetPowerUsage``, which is a mean over a second itself. With one GPU the process takes 5
to 10 ms of CPU a second, of which GPM is half.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import pynvml

from monitor.sources.nvml_calls import (
    IDENTITY,
    Ask,
    Gone,
    Lost,
    Values,
    ask,
    fast,
    plain,
    present,
    progress,
    static,
)
from monitor.sources.nvml_gpm import Gpm, supported
from monitor.sources.nvml_reader import ABSENT, MISMATCH, end_with

INTERVAL = 0.1
SLOW_SECONDS = 1.0
_SHORTEST_GPM = 0.1
"""Seconds between two samples of GPM: of less, the driver knows no DRAM activity."""
_GPM = ("DCGM_FI_PROF_PIPE_TENSOR_ACTIVE", "DCGM_FI_PROF_DRAM_ACTIVE", "DCGM_FI_PROF_SM_ACTIVE")
_OFTEN = {
    "nvmlDeviceGetUtilizationRates",
    "nvmlDeviceGetFieldValues",
    "nvmlDeviceGetPowerUsage",
    "nvmlDeviceGetClockInfo",
    "nvmlDeviceGetCurrentClocksEventReasons",
}
_SECONDLY = {"nvmlDeviceGetMemoryInfo_v2", "nvmlDeviceGetTemperatureV"}
_ONCE = {"nvmlDeviceGetMaxClockInfo"}


class Options(NamedTuple):
    """What the parent wants."""

    progress: int = -1
    """A file descriptor for ``nvml_calls.Progress``."""
    gpus: tuple[str, ...] = ()
    """UUIDs or indices; () for all."""
    skip: tuple[int, ...] = ()
    """Indices that are not to be touched."""
    interval: float = INTERVAL
    gpm: bool = True


class Gpu:
    """One GPU: what of it is worth asking, and how often."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.errors: list[str] = []
        self.facts: Values = {"index": index, "gpm": False}
        self.lost = ""
        self._handle: Any = None
        self._fast = [ways for ways in fast() if ways[0].call in _OFTEN]
        self._slow = [ways for ways in fast() if ways[0].call in _SECONDLY]
        self._energy = [plain("energy", "nvmlDeviceGetTotalEnergyConsumption")]
        self._gpm: Gpm | None = None
        self._gpm_at: float | None = None
        self._gpm_ways: list[Ask] = []

    def open(self, *, use_gpm: bool) -> bool:
        """Find out which GPU this is, and what it has. False where it does not say."""
        progress.gpu(self.index)

        def take(_: Any) -> Values:
            return {"handle": pynvml.nvmlDeviceGetHandleByIndex(self.index)}

        found = ask([Ask("nvmlDeviceGetHandleByIndex_v2", take)], None, self.errors)
        if not found:
            return False
        handle = found["handle"]
        for row in IDENTITY:
            answer = ask([row], handle, self.errors)
            if not answer:
                return False
            self.facts.update(answer)
        for ways in static():
            if ways[0].call in _ONCE:
                self.facts.update(present(ask(ways, handle, self.errors) or {}))
        self._handle = handle
        if use_gpm:
            asked = ask([Ask("nvmlGpmQueryDeviceSupport", lambda h: {"gpm": supported(h)})], handle, self.errors)
            self.facts["gpm"] = bool(asked and asked["gpm"])
        if self.facts["gpm"]:
            self._gpm_ways = [Ask("nvmlGpmMetricsGet", self._read_gpm)]
        return True

    def often(self) -> list[Any]:
        """A row of ``fast``."""
        values: Values = {}
        for ways in self._fast:
            values.update(present(self._ask(ways)))
        powers = (values.get("power_instant_mw"), values.get("power_mw"))
        return [self.index, values.get("util"), *powers, values.get("sm_clock"), values.get("reasons")]

    def seldom(self, now: float) -> list[Any]:
        """A row of ``slow``. GPM's readings are of the time since the last row."""
        values: Values = {}
        for ways in self._slow:
            values.update(present(self._ask(ways)))
        gpm, span = self._ask_gpm(now)
        return [self.index, values.get("used"), values.get("total"), values.get("temp"), gpm, span]

    def energy(self) -> int | None:
        """Millijoules since the driver was loaded; None where they are not counted."""
        return self._ask(self._energy).get("energy")

    def _ask(self, ways: list[Ask]) -> Values:
        if self.lost or self._handle is None:
            return {}
        progress.gpu(self.index)
        try:
            return ask(ways, self._handle, self.errors) or {}
        except Lost as lost:  # each call to it may cost seconds, or hang
            self.lost = str(lost)
            return {}

    def _ask_gpm(self, now: float) -> tuple[dict[str, float], float | None]:
        before = self._gpm_at
        if before is not None and now - before < _SHORTEST_GPM:
            return {}, None
        answer = self._ask(self._gpm_ways)
        if not answer:
            return {}, None
        self._gpm_at = now
        return answer["gpm"], None if before is None else now - before

    def _read_gpm(self, handle: Any) -> Values:
        if self._gpm is None:
            self._gpm = Gpm(lambda sample: pynvml.nvmlGpmSampleGet(handle, sample), _SHORTEST_GPM)
        found = self._gpm.read(time.monotonic()) or {}
        return {"gpm": {name: found[name] for name in _GPM if name in found}}


def choose(gpus: list[Gpu], wanted: tuple[str, ...]) -> tuple[list[Gpu], list[str]]:
    """Those that are wanted, and what of ``wanted`` is none of them. A beginning of a UUID is enough."""
    if not wanted:
        return gpus, []
    kept: dict[int, Gpu] = {}
    unknown = []
    for word in wanted:
        found = [
            gpu
            for gpu in gpus
            if word == str(gpu.index) or (len(word) > 4 and str(gpu.facts.get("uuid", "")).startswith(word))
        ]
        kept |= {gpu.index: gpu for gpu in found}
        if not found:
            unknown.append(word)
    return [kept[index] for index in sorted(kept)], unknown


def _open(options: Options) -> tuple[list[Gpu], Values]:
    """The GPUs that answer, and the first line."""
    progress.gpu(None)
    try:
        pynvml.nvmlInit()
        driver = pynvml.nvmlSystemGetDriverVersion()
        count = pynvml.nvmlDeviceGetCount()
    except pynvml.NVMLError as error:
        if reason := ABSENT.get(error.value):
            return [], {"absent": reason}
        text = MISMATCH if error.value == pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH else str(error)
        return [], {"down": f"cannot open the driver: {text}"}
    if not count:
        return [], {"absent": "the NVIDIA driver is loaded and lists no GPU"}
    silent: dict[int, str] = {}
    answering = []
    for gpu in (Gpu(index) for index in range(count) if index not in options.skip):
        try:
            good = gpu.open(use_gpm=options.gpm)
        except Lost as lost:
            good, gpu.lost = False, str(lost)
        if good:
            answering.append(gpu)
        else:
            silent[gpu.index] = gpu.lost or (gpu.errors[0] if gpu.errors else "it does not say which one it is")
    gpus, unknown = choose(answering, options.gpus)
    left_out = [str(index) for index in (*options.skip, *silent)]
    facts = {
        "driver": driver,
        "gpus": [gpu.facts for gpu in gpus],
        "unknown": [word for word in unknown if word not in left_out],
        "silent": silent,
    }
    return gpus, {"facts": facts}


def _send(output: int, line: Values) -> None:
    data = json.dumps(line, separators=(",", ":")).encode() + b"\n"
    while data:
        data = data[os.write(output, data) :]


def _slow(gpus: list[Gpu], now: float) -> Values:
    line: Values = {"t": now, "slow": [gpu.seldom(now) for gpu in gpus]}
    if errors := {gpu.index: gpu.lost or gpu.errors[0] for gpu in gpus if gpu.lost or gpu.errors}:
        line["errors"] = errors
    for gpu in gpus:
        gpu.errors.clear()
    return line


def _watch(gpus: list[Gpu], options: Options, output: int, clock: Callable[[], float]) -> None:
    """Read until standard input ends."""
    due = slow_due = clock()
    asked = b""
    while True:
        progress.gpu(None)
        ready, _, _ = select.select([0], [], [], max(0.0, due - clock()))
        if ready:
            data = os.read(0, 4096)
            if not data:
                return
            *lines, asked = (asked + data).split(b"\n")
            for line in lines:
                word, _, number = line.partition(b" ")
                if word == b"mark" and number.isdigit():
                    now = clock()
                    _send(output, _slow(gpus, now))
                    energy = {gpu.index: gpu.energy() for gpu in gpus}
                    _send(output, {"t": now, "mark": int(number), "energy": energy})
                    slow_due = now + SLOW_SECONDS
            continue
        now = clock()
        _send(output, {"t": now, "fast": [gpu.often() for gpu in gpus]})
        if now >= slow_due:
            _send(output, _slow(gpus, now))
            slow_due = max(slow_due + SLOW_SECONDS, now)
        # A grid, so that a slow driver costs samples and no drift.
        due += options.interval * max(1, -(-(clock() - due) // options.interval))


def main(arguments: list[str]) -> int:
    """Read until told to end. Returns the exit status."""
    if len(arguments) != 2 or not arguments[0].isdigit():
        print("This is the part of gpumon's probes that asks the driver; they start it themselves.", file=sys.stderr)  # noqa: T201
        return 2
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # a terminal's are for whoever began the probe
    if not end_with(int(arguments[0])):
        return 0
    options = Options(**json.loads(arguments[1]))
    if options.progress >= 0:
        progress.share(options.progress)
    # What a library prints must not come between the lines.
    output = os.dup(1)
    os.dup2(2, 1)
    try:
        gpus, first = _open(options)
        _send(output, first)
        if gpus:
            _watch(gpus, options, output, time.monotonic)
    except Gone as error:
        _send(output, {"down": f"the driver went away, or was replaced: {error}"})
    except BrokenPipeError:
        return 0
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
