"""One GPU as the NVML reader asks it: each reading at its own cadence, and what is still worth asking.

A part of the NVML reader.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pynvml

from monitor.sources.nvml_calls import (
    IDENTITY,
    Ask,
    Fields,
    Lost,
    Values,
    ask,
    fast,
    present,
    progress,
    slow,
    static,
)
from monitor.sources.nvml_gpm import Gpm, supported
from monitor.sources.nvml_mig import Mig

_MOST_PERCENT = 100
_WRAP = 1 << 32


class Cadences(NamedTuple):
    """Seconds between two askings of the same; what is not here is asked at every poll."""

    slow: float = 15.0
    board: float = 60.0
    gpm: float = 5.0
    gpm_watched: float = 1.0
    shares: float = 5.0
    shares_watched: float = 2.0
    gpm_shortest: float = 0.1


class Clock:
    """When something is due next. A little early is due: polls come on a grid that jitters."""

    def __init__(self, first: float) -> None:
        self._last = first

    def due(self, now: float, every: float) -> bool:
        """Whether so many seconds have passed; if so, they start anew."""
        if now - self._last < 0.95 * every:
            return False
        self._last = now
        return True


class Gpu:
    """GPU number ``index``. ``offset``, from 0 to 1, is its turn within a cadence: so that the slow readings of all
    GPUs are not asked in the same poll."""

    def __init__(self, index: int, cadences: Cadences, offset: float, *, use_gpm: bool) -> None:
        self.index = index
        self.facts: Values = {"index": index}
        self.handle: Any = None
        self._cadences = cadences
        self._offset = offset
        self._use_gpm = use_gpm
        self._static = static()
        self._fast = fast()
        self._slow = slow()
        self._shares = [Ask("nvmlDeviceGetProcessUtilization", self._read_shares)]
        self._shares_seen = 0
        self._last_shares: dict[int, tuple[int, int]] = {}
        self._gpm: Gpm | None = None
        self._gpm_ways = [Ask("nvmlGpmMetricsGet", self._read_gpm)]
        self._pcie = _PcieCounters()
        self._mig = Mig()
        self._clocks: dict[str, Clock] = {}
        self._now = 0.0
        self._lost = ""

    def poll(self, now: float, watched: bool, names: Callable[[int], tuple[str, str]]) -> Values:
        """This GPU's part of a frame. ``now`` is in seconds, of any clock that only goes forward."""
        if self._lost:  # each call to it may cost seconds, or hang; the parent finds out when it is back
            return {"index": self.index, "error": self._lost, "lost": True}
        progress.gpu(self.index)
        self._now = now
        errors: list[str] = []
        values: Values = {"index": self.index}
        try:
            if not self._identify(errors):
                return values | {"error": errors[0]}
            self._ask_static(errors)
            found = self._ask_fast(values, errors)
            if len(values) == 1 and errors:  # nothing but its index: once it answers again, everything is due
                self._clocks.clear()
                return values | {"error": errors[0]}
            self._ask_slow(values, errors)
            self._ask_gpm(values, watched, errors)
            shares = self._ask_shares(watched, errors) if found else {}
        except Lost as lost:
            self._lost = str(lost)
            return {"index": self.index, "error": self._lost, "lost": True}
        values["processes"] = [
            [pid, memory, kind, *names(pid), *shares.get(pid, (None, None))] for pid, memory, kind in _each_once(found)
        ]
        if errors:
            values["error"] = errors[0]
        return values

    def _identify(self, errors: list[str]) -> bool:
        if self.handle is not None:
            return True

        def take(_: Any) -> Values:
            return {"handle": pynvml.nvmlDeviceGetHandleByIndex(self.index)}

        answer = ask([Ask("nvmlDeviceGetHandleByIndex_v2", take)], None, errors)
        if not answer:
            errors.append("no handle: not supported")
            return False
        handle = answer["handle"]
        for row in IDENTITY:
            answer = ask([row], handle, errors)
            if not answer:
                errors.append(f"{row.call}: not supported")
                return False
            self.facts.update(answer)
        self.handle = handle
        return True

    def _ask_static(self, errors: list[str]) -> None:
        for ways in list(self._static):
            answer = ask(ways, self.handle, errors)
            if answer is not None:
                self.facts.update(present(answer))
            if answer is not None or not ways:
                self._static.remove(ways)

    def _ask_fast(self, values: Values, errors: list[str]) -> list[tuple[int, int | None, str]]:
        found: list[tuple[int, int | None, str]] = []
        for ways in self._fast:
            answer = ask(ways, self.handle, errors) or {}
            found += answer.pop("found", ())
            values.update(present(answer))
        return found

    def _ask_slow(self, values: Values, errors: list[str]) -> None:
        if self._due("board", self._cadences.board):
            self._mig.look(self.handle)
            self.facts["mig"] = self._mig.enabled
        if not self._due("slow", self._cadences.slow):
            return
        readings: Values = {}
        for ways in self._slow:
            readings.update(present(ask(ways, self.handle, errors) or {}))
        values["links"] = readings.pop("links", [])
        values["slow"] = readings

    def _ask_gpm(self, values: Values, watched: bool, errors: list[str]) -> None:
        due = self._due("gpm", self._cadences.gpm_watched if watched else self._cadences.gpm)
        if due and self._gpm_ways and self._use_gpm:
            answer = ask(self._gpm_ways, self.handle, errors)
            if answer is None:
                values["gpm"] = {}
            elif "gpm" in answer:
                values["gpm"] = answer["gpm"]
            else:  # the first sample: the next poll has something to compare with it
                del self._clocks["gpm"]
        if not self._gpm_ways:
            values.update(self._pcie.read(self.handle, errors))
        values["mig"] = self._mig.poll(self.handle, self._now, self._cadences.gpm_shortest, due and self._use_gpm)

    def _read_gpm(self, handle: Any) -> Values:
        if self._gpm is None:
            if not supported(handle):
                raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
            self._gpm = Gpm(lambda sample: pynvml.nvmlGpmSampleGet(handle, sample), self._cadences.gpm_shortest)
        found = self._gpm.read(self._now)
        return {} if found is None else {"gpm": found}

    def _ask_shares(self, watched: bool, errors: list[str]) -> dict[int, tuple[int, int]]:
        if self._due("shares", self._cadences.shares_watched if watched else self._cadences.shares):
            self._last_shares = (ask(self._shares, self.handle, errors) or {}).get("shares", {})
        return self._last_shares

    def _read_shares(self, handle: Any) -> Values:
        """What each process took, in %: its newest sample since the last asking."""
        try:
            samples = pynvml.nvmlDeviceGetProcessUtilization(handle, self._shares_seen)
        except pynvml.NVMLError as error:
            if error.value != pynvml.NVML_ERROR_NOT_FOUND:  # nobody ran meanwhile
                raise
            return {"shares": {}}
        newest: dict[int, Any] = {}
        for sample in samples:
            # The driver is known to answer rubbish: other PIDs, more than everything, and times long past.
            good = sample.pid and sample.timeStamp > self._shares_seen
            if good and sample.smUtil <= _MOST_PERCENT and sample.memUtil <= _MOST_PERCENT:
                held = newest.get(sample.pid)
                if held is None or sample.timeStamp > held.timeStamp:
                    newest[sample.pid] = sample
        if newest:
            self._shares_seen = max(sample.timeStamp for sample in newest.values())
        return {"shares": {pid: (sample.smUtil, sample.memUtil) for pid, sample in newest.items()}}

    def _due(self, what: str, every: float) -> bool:
        clock = self._clocks.get(what)
        if clock is None:
            # Everything at once the first time, and then each GPU in its turn.
            self._clocks[what] = Clock(self._now - (0.0 if what == "gpm" else self._offset * every))
            return True
        return clock.due(self._now, every)


class _PcieCounters:
    """Bytes over PCIe, for GPUs without GPM: counters of 32 bits that wrap, added up since the reader started."""

    def __init__(self) -> None:
        fields = Fields(
            [
                (pynvml.NVML_FI_DEV_PCIE_COUNT_TX_BYTES, 0, "pcie_tx", 1),
                (pynvml.NVML_FI_DEV_PCIE_COUNT_RX_BYTES, 0, "pcie_rx", 1),
            ]
        )
        self._ways = [Ask("nvmlDeviceGetFieldValues", fields.read)]
        self._before: Values = {}
        self._total: Values = {}

    def read(self, handle: Any, errors: list[str]) -> Values:
        """The totals; nothing where there are none."""
        now = ask(self._ways, handle, errors) or {}
        for key, value in now.items():
            moved = value - self._before.get(key, value)
            self._total[key] = self._total.get(key, 0) + (moved if moved >= 0 else moved % _WRAP)
            self._before[key] = value
        return {key: self._total[key] for key in now}


def _each_once(found: list[tuple[int, int | None, str]]) -> list[tuple[int, int | None, str]]:
    """A process that computes and draws is in both lists: it counts once, as compute, which comes first."""
    kept: dict[int, tuple[int, int | None, str]] = {}
    for process in found:
        kept.setdefault(process[0], process)
    return list(kept.values())
