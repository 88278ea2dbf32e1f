"""The charts of one GPU, each with the thresholds that it must not cross, and the words for how the GPU is: the same on
its card and on its own screen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.style import Style

from monitor.client.format import ABSENT, celsius, megahertz, percent, throughput, used_of
from monitor.client.snapshot import Gpu, Happening, History
from monitor.tui.palette import (
    CACHE,
    CRITICAL,
    DIM,
    GOOD,
    LATENCY,
    MEMORY,
    NETWORK,
    NOTICE,
    PROMPT,
    STALE,
    TEMPERATURE,
    UTILIZATION,
    WARNING,
)
from monitor.tui.panels.chart import Chart, Curve, Mark, Threshold, marks
from monitor.tui.plot import Plot, greatest, nice_ceiling
from monitor.tui.rows import View

GIB = 1024**3
_MIB = 1024 * 1024
_COLD = 20.0
"""Where scales of temperatures begin, in °C."""


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a GPU beside its place in the picture: its past by the ids of ``gpu_queries.PASTS``, and other
    readings by name, in the units of their series."""

    past: Callable[[str], History | None]
    now: Callable[[str], float | None]


@dataclass(frozen=True, slots=True)
class _Kind:
    id: str
    title: str
    style: Style
    shape: Callable[[Gpu, Known, History | None], _Shape]
    line: bool = False
    over: tuple[str, str, Style] | None = None
    """The id of another past, a word for it, and how it is drawn."""


@dataclass(frozen=True, slots=True)
class _Shape:
    now: str
    scale: str
    high: float
    low: float = 0.0
    thresholds: tuple[Threshold, ...] = ()


def state(gpu: Gpu) -> tuple[str, Style]:
    """What slows it; else whether it is hot; else that all is well. Where the driver does not say: ``–``."""
    if gpu.stale:
        return "gone", WARNING
    if gpu.throttles:
        worst = gpu.throttles[0]
        style = CRITICAL if worst.startswith("hw") else NOTICE if worst == "power cap" else WARNING
        return ", ".join(gpu.throttles), style
    limit = gpu.max_temperature or gpu.slowdown_temperature
    if gpu.temperature is not None and limit is not None and gpu.temperature >= limit:
        return "hot", WARNING
    return (ABSENT, DIM) if gpu.throttles is None else ("ok", GOOD)


def gib(value: float | None) -> float | None:
    """Bytes as GiB."""
    return None if value is None else value / GIB


class Charts:
    """Makes the charts; keeps what their plots need from tick to tick."""

    def __init__(self) -> None:
        self._plots: dict[tuple[str, str, str], Plot] = {}

    def of(self, gpu: Gpu, known: Known) -> list[tuple[str, Chart]]:
        """By id, those that there is anything for, the most wanted first."""
        found = []
        for kind in _KINDS:
            history = known.past(kind.id)
            shape = kind.shape(gpu, known, history)
            if history is None and shape.now == ABSENT:
                continue
            plot = self._plots.setdefault((kind.id, *gpu.key), Plot(line=kind.line))
            chart = Chart(
                plot,
                history,
                kind.title,
                shape.now,
                shape.scale,
                shape.high,
                STALE if gpu.stale else kind.style,
                shape.low,
                shape.thresholds,
                over=self._over(gpu, known, kind),
            )
            found.append((kind.id, chart))
        return found

    def _over(self, gpu: Gpu, known: Known, kind: _Kind) -> tuple[Curve, ...]:
        if kind.over is None:
            return ()
        id, word, style = kind.over
        history = known.past(id)
        if history is None:
            return ()
        newest = history.newest
        now = throughput(newest) if id.startswith(("pcie", "nvlink")) else percent(newest)
        plot = self._plots.setdefault((id, *gpu.key), Plot(line=True))
        return (Curve(plot, history, STALE if gpu.stale else style, f"{word} {now}"),)


class Marks:
    """What happened to one GPU, to its engine, or to all of the node: what happened to others is not marked on its
    charts."""

    def __init__(self) -> None:
        self._of: object = None
        self._marks: dict[tuple[str, str, str], tuple[Mark, ...]] = {}

    def of(self, view: View, gpu: Gpu) -> Sequence[Mark]:
        """The marks of a GPU's charts."""
        if view.happened is None or not view.marks:
            return view.marks
        if self._of is not view.happened:
            self._of, self._marks = view.happened, {}
        key = (*gpu.key, gpu.engine)
        if key not in self._marks:
            self._marks[key] = marks([one for one in view.happened if _concerns(one, gpu)])
        return self._marks[key]


def _concerns(one: Happening, gpu: Gpu) -> bool:
    index, instance, server = (one.labels.get(label) for label in ("gpu", "instance", "server"))
    if instance and gpu.instance and instance != gpu.instance:
        return False
    if index:
        return index == gpu.index
    return not server or gpu.engine.partition(" rank ")[0] == server


# -- what each shows ---------------------------------------------------------------------------------------------------


def _utilization(gpu: Gpu, known: Known, history: History | None) -> _Shape:
    return _Shape(percent(gpu.utilization), "0–100 %", 100.0)


def _memory(gpu: Gpu, known: Known, history: History | None) -> _Shape:
    total = gpu.memory_total
    high = total / _MIB if total else nice_ceiling(greatest(history), 1024)
    now = used_of(gib(gpu.memory_used), gib(total), "GiB", 1)
    return _Shape(now, percent(gpu.memory_ratio) if total else "", high)


def _temperature(gpu: Gpu, known: Known, history: History | None) -> _Shape:
    shutdown = known.now("DCGM_FI_DEV_SHUTDOWN_TEMP")
    found = [
        _threshold(gpu.slowdown_temperature, "slowdown", "°C", WARNING),
        _threshold(gpu.max_temperature, "max", "°C", NOTICE),
        _threshold(shutdown, "shutdown", "°C", CRITICAL),
    ]
    high = max([one.value for one in found if one is not None] or [100.0]) + 1
    return _Shape(celsius(gpu.temperature), f"20–{high:.0f} °C", high, _COLD, _some(found))


def _memory_temperature(gpu: Gpu, known: Known, history: History | None) -> _Shape:
    limit = gpu.memory_max_temperature
    high = (limit or 100.0) + 1
    found = [_threshold(limit, "max", "°C", WARNING)]
    return _Shape(celsius(gpu.memory_temperature), f"20–{high:.0f} °C", high, _COLD, _some(found))


def _power(gpu: Gpu, known: Known, history: History | None) -> _Shape:
    limit = gpu.power_limit
    high = limit * 1.1 if limit else nice_ceiling(greatest(history), 100)
    found = [] if limit is None else [Threshold(limit, "", NOTICE)]  # the number beside it says it
    return _Shape(used_of(gpu.power, limit, "W"), f"0–{high:.0f} W", high, 0.0, _some(found))


def _sm_clock(gpu: Gpu, known: Known, history: History | None) -> _Shape:
    return _clock(gpu.sm_clock, gpu.max_sm_clock, history)


def _memory_clock(gpu: Gpu, known: Known, history: History | None) -> _Shape:
    return _clock(gpu.memory_clock, known.now("DCGM_FI_DEV_MAX_MEM_CLOCK"), history)


def _clock(now: float | None, top: float | None, history: History | None) -> _Shape:
    high = top * 1.1 if top else nice_ceiling(greatest(history), 1000)
    found = [_threshold(top, "max", "MHz", DIM)]
    return _Shape(megahertz(now), f"0–{high:.0f} MHz", high, 0.0, _some(found))


def _ratio(name: str) -> Callable[[Gpu, Known, History | None], _Shape]:
    return lambda gpu, known, history: _Shape(percent(known.now(name)), "0–100 %", 1.0)


def _percentage(name: str) -> Callable[[Gpu, Known, History | None], _Shape]:
    def shape(gpu: Gpu, known: Known, history: History | None) -> _Shape:
        value = known.now(name)
        return _Shape(percent(None if value is None else value / 100), "0–100 %", 100.0)

    return shape


def _flow(name: str, other: str) -> Callable[[Gpu, Known, History | None], _Shape]:
    def shape(gpu: Gpu, known: Known, history: History | None) -> _Shape:
        high = nice_ceiling(max(greatest(history) or 0.0, greatest(known.past(other)) or 0.0), 1e6)
        newest = history.newest if history is not None else None
        value = known.now(name)
        now = throughput(newest if value is None else value)
        return _Shape(now, f"0–{throughput(high).replace('.0 ', ' ')}", high)

    return shape


def _threshold(value: float | None, word: str, unit: str, style: Style) -> Threshold | None:
    return None if value is None else Threshold(value, f"{word} {value:.0f} {unit}", style)


def _some(found: Sequence[Threshold | None]) -> tuple[Threshold, ...]:
    return tuple(one for one in found if one is not None)


_KINDS: tuple[_Kind, ...] = (
    _Kind("util_h", "utilization", UTILIZATION, _utilization),
    _Kind("memory_h", "memory", MEMORY, _memory, line=True),
    _Kind("temp_h", "temperature", TEMPERATURE, _temperature, line=True),
    _Kind("power_h", "power", LATENCY, _power),
    _Kind("sm_clock_h", "SM clock", PROMPT, _sm_clock, line=True),
    _Kind(
        "sm_h",
        "SMs active",
        UTILIZATION,
        _ratio("DCGM_FI_PROF_SM_ACTIVE"),
        over=("tensor_h", "tensor cores", NOTICE),
    ),
    _Kind("dram_h", "memory bandwidth", CACHE, _ratio("DCGM_FI_PROF_DRAM_ACTIVE")),
    _Kind("pcie_rx_h", "PCIe in", NETWORK, _flow("pcie_rx", "pcie_tx_h"), over=("pcie_tx_h", "out", NOTICE)),
    _Kind("nvlink_rx_h", "NVLink in", NETWORK, _flow("nvlink_rx", "nvlink_tx_h"), over=("nvlink_tx_h", "out", NOTICE)),
    _Kind("memory_temp_h", "memory temperature", TEMPERATURE, _memory_temperature, line=True),
    _Kind("busy_h", "memory busy", MEMORY, _percentage("DCGM_FI_DEV_MEM_COPY_UTIL")),
    _Kind("memory_clock_h", "memory clock", PROMPT, _memory_clock, line=True),
    _Kind("fan_h", "fan", UTILIZATION, _percentage("DCGM_FI_DEV_FAN_SPEED")),
    _Kind("enc_h", "encoder", UTILIZATION, _percentage("DCGM_FI_DEV_ENC_UTIL"), over=("dec_h", "decoder", NOTICE)),
)
PAIRED = {kind.id: kind.over[0] for kind in _KINDS if kind.over is not None}
"""Of charts that show two pasts, the other one."""
