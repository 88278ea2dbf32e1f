"""The charts of one host: what it did, each on a scale that says how much it could."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rich.style import Style

from monitor.client.format import number, percent, rate, size, throughput
from monitor.client.results import Answers
from monitor.client.snapshot import Host
from monitor.tui.palette import CPU, DISK, HOST_MEMORY, LATENCY, NETWORK, NOTICE, PROMPT, STALE
from monitor.tui.panels.chart import Chart, Curve, Threshold
from monitor.tui.plot import Plot, greatest, nice_ceiling


@dataclass(frozen=True, slots=True)
class _Kind:
    id: str
    title: str
    style: Style
    words: Callable[[float | None], str]
    least: float
    """The scale reaches here at least; 0 for a share, whose scale is whole."""
    over: tuple[tuple[str, str, Style], ...] = ()
    """Other pasts on the same scale: id, word, style."""
    line: bool = False


def _switches(value: float | None) -> str:
    return rate(value, "/s")


_KINDS = (
    _Kind("cpu_h", "CPU", CPU, percent, 0, (("iowait_h", "iowait", NOTICE), ("steal_h", "steal", LATENCY))),
    _Kind("memory_h", "memory used", HOST_MEMORY, size, 1 << 30, (("cached_h", "cached", NOTICE),)),
    _Kind("load_h", "load", PROMPT, number, 4, line=True),
    _Kind(
        "cpu_waiting_h",
        "waits for CPU",
        LATENCY,
        percent,
        0.1,
        (("io_waiting_h", "disks", NOTICE), ("memory_waiting_h", "memory", HOST_MEMORY)),
    ),
    _Kind("read_h", "disks read", DISK, throughput, 1e6, (("written_h", "write", CPU),)),
    _Kind("busy_h", "busiest disk", DISK, percent, 0),
    _Kind("received_h", "network in", NETWORK, throughput, 1e6, (("sent_h", "out", NOTICE),)),
    _Kind("ib_received_h", "InfiniBand in", NETWORK, throughput, 1e6, (("ib_sent_h", "out", NOTICE),)),
    _Kind("running_h", "running", CPU, number, 4, (("blocked_h", "blocked", NOTICE),)),
    _Kind("switches_h", "context switches", PROMPT, _switches, 1000),
    _Kind("swap_h", "swap used", HOST_MEMORY, size, 1 << 20),
    _Kind("files_h", "file handles", PROMPT, number, 100, line=True),
)


class Charts:
    """Makes the charts; keeps what their plots need from tick to tick."""

    def __init__(self) -> None:
        self._plots: dict[str, Plot] = {}

    def of(self, host: Host, answers: Answers) -> list[tuple[Chart, tuple[str, ...]]]:
        """Each with the ids of its pasts, where there is any, the most wanted first."""
        found = []
        for kind in _KINDS:
            history = answers.history(kind.id)
            if history is None or (kind.id == "swap_h" and not host.swap_total):
                continue
            over = []
            for id, word, style in kind.over:
                other = answers.history(id)
                if other is not None and (id != "steal_h" or (greatest(other) or 0) > 0):
                    plot = self._plots.setdefault(id, Plot(line=True))
                    look = STALE if host.stale else style
                    over.append((id, Curve(plot, other, look, f"{word} {kind.words(other.newest)}")))
            top = max((greatest(one.history) or 0.0 for _, one in over), default=0.0)
            high = max(greatest(history) or 0.0, top)
            high, scale = _scale(kind, host, high)
            thresholds: tuple[Threshold, ...] = ()
            if kind.id == "load_h" and host.cpus is not None and host.cpus <= high:
                thresholds = (Threshold(float(host.cpus), f"{host.cpus} CPUs"),)
            chart = Chart(
                self._plots.setdefault(kind.id, Plot(line=kind.line)),
                history,
                kind.title,
                kind.words(history.newest),
                scale,
                high,
                STALE if host.stale else kind.style,
                thresholds=thresholds,
                over=tuple(one for _, one in over),
            )
            found.append((chart, (kind.id, *(id for id, _ in over))))
        return found


def _scale(kind: _Kind, host: Host, high: float) -> tuple[float, str]:
    if kind.least == 0:
        return 1.0, "0–100 %"
    if kind.id == "memory_h" and host.memory_total:
        return host.memory_total, f"0–{size(host.memory_total)}"
    top = nice_ceiling(high, kind.least)
    return top, f"0–{kind.words(top).replace('.0 ', ' ')}"
