"""What the samples of one GPU during one step come to. Pure: no process, no clock.

It adds up and forgets, so a soak of hours needs no more memory than a second.
"""

from __future__ import annotations

from monitor.client.gpu_queries import REASONS
from monitor.probes.schema import GpuReading
from monitor.sources.nvml_series import THROTTLE_REASONS

_WORDS = {name: words for name, words, _, _ in REASONS}
BITS = tuple((bit, _WORDS[name]) for name, bit in THROTTLE_REASONS)
"""The bits of NVML's clocks event reasons that hold clocks down, in the words that the screens have for them."""
WORDS = tuple((name, _WORDS[name]) for name, _ in THROTTLE_REASONS)
"""The label ``reason`` of ``gpumon_gpu_throttle_active``, in the same words."""

_PERCENT, _MILLI = 100.0, 1000.0


class Mean:
    """A mean, the least and the most, without keeping the values."""

    __slots__ = ("least", "most", "total", "weight")

    def __init__(self) -> None:
        self.total = 0.0
        self.weight = 0.0
        self.least: float | None = None
        self.most: float | None = None

    def add(self, value: float | None, weight: float = 1.0) -> None:
        """Take a value; None is none."""
        if value is None or weight <= 0:
            return
        self.total += value * weight
        self.weight += weight
        self.least = value if self.least is None else min(self.least, value)
        self.most = value if self.most is None else max(self.most, value)

    @property
    def mean(self) -> float | None:
        """None before the first value."""
        return self.total / self.weight if self.weight else None


class Tally:
    """One GPU's samples since the last ``clear``. Units are those of ``GpuReading``."""

    def __init__(self, gpu: str, uuid: str = "", name: str = "", max_sm_clock: float | None = None) -> None:
        self._gpu, self._uuid, self._name = gpu, uuid, name
        self.max_sm_clock = max_sm_clock
        self.clear()

    def clear(self) -> None:
        """Begin anew."""
        self._samples = 0
        self._first: float | None = None
        self._last: float | None = None
        self.util, self._clock = Mean(), Mean()
        self._power, self._average = Mean(), Mean()
        self._idle = 0
        self._with_util = 0
        self._memory, self._total, self._temperature = Mean(), Mean(), Mean()
        self._tensor, self._dram, self._sm = Mean(), Mean(), Mean()
        self._with_reasons = 0
        self._throttled: dict[str, int] = {}

    @property
    def samples(self) -> int:
        """How many came."""
        return self._samples

    def often(
        self,
        t: float,
        util: float | None,
        power: float | None,
        average: float | None,
        clock: float | None,
        throttled: set[str] | None,
    ) -> None:
        """A sample: utilization 0–1, W of the moment and as the driver averages it, MHz, and what holds the clocks
        down (None where that is not said)."""
        self._samples += 1
        self._first = t if self._first is None else self._first
        self._last = t
        self.util.add(util)
        if util is not None:
            self._with_util += 1
            self._idle += util <= 0.0
        self._power.add(average if power is None else power)
        self._average.add(power if average is None else average)
        self._clock.add(clock)
        if throttled is not None:
            self._with_reasons += 1
            for word in throttled:
                self._throttled[word] = self._throttled.get(word, 0) + 1

    def row(self, t: float, row: list[float | None]) -> None:
        """A row of ``fast``, of the process that asks the driver."""
        _, util, power, average, clock, reasons = row
        words = None if reasons is None else {word for bit, word in BITS if int(reasons) & bit}
        self.often(t, _over(util, _PERCENT), _over(power, _MILLI), _over(average, _MILLI), clock, words)

    def seldom(self, used: float | None, total: float | None, temperature: float | None) -> None:
        """Bytes and °C."""
        self._memory.add(used)
        self._total.add(total)
        self._temperature.add(temperature)

    def activity(self, tensor: float | None, dram: float | None, sm: float | None, seconds: float) -> None:
        """Ratios over so many seconds."""
        self._tensor.add(tensor, seconds)
        self._dram.add(dram, seconds)
        self._sm.add(sm, seconds)

    def reading(self, duration_s: float, energy_j: float | None) -> GpuReading:
        """What it comes to. ``energy_j`` is the counter's, and the mean of the power comes from it; without it the
        averages of the driver are taken: what is drawn at ten moments of a second may be far from the mean."""
        span = None
        if self._samples > 1 and self._first is not None and self._last is not None:
            span = (self._last - self._first) / (self._samples - 1)
        power = self._average.mean
        if energy_j is not None and duration_s > 0:
            power = energy_j / duration_s
        elif power is not None:
            energy_j = power * duration_s
        return GpuReading(
            gpu=self._gpu,
            uuid=self._uuid,
            name=self._name,
            samples=self._samples,
            interval_s=span,
            util=self.util.mean,
            idle_share=self._idle / self._with_util if self._with_util else None,
            tensor_active=self._tensor.mean,
            dram_active=self._dram.mean,
            sm_active=self._sm.mean,
            power_w=power,
            power_max_w=self._power.most,
            energy_j=energy_j,
            sm_clock_mhz=self._clock.mean,
            sm_clock_min_mhz=self._clock.least,
            sm_clock_max_mhz=self.max_sm_clock,
            memory_used_bytes=self._memory.most,
            memory_total_bytes=self._total.most,
            temperature_c=self._temperature.most,
            throttled={word: count / self._with_reasons for word, count in sorted(self._throttled.items())},
        )


def _over(value: float | None, factor: float) -> float | None:
    return None if value is None else value / factor
