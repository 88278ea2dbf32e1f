"""One simulated GPU: work makes power, power makes heat, heat takes clocks, and clocks take power."""

from __future__ import annotations

import random
from typing import NamedTuple

from monitor.sources.hardware import H200, Board

SW_POWER_CAP, HW_SLOWDOWN, SW_THERMAL, HW_THERMAL = 0x4, 0x8, 0x20, 0x40
"""Bits of NVML's clocks event reasons."""

_CLOCK_POWER = 2.2  # power goes with the clock to about this power, as voltage goes with the clock
_AIR = 30.0
_INERTIA = 22.0  # seconds in which the die comes two thirds of the way to where it goes
_HELD_ABOVE = 2.0  # C above its threshold the hardware's slowdown holds a die that it cannot cool


class GpuState(NamedTuple):
    """Readings, in NVML's units but unrounded: %, C, W, MHz. ``reasons`` is a bitmask."""

    util: float
    mem_util: float
    temp: float
    mem_temp: float
    power: float
    sm_clock: float
    tensor: float
    """The share of cycles in which a tensor pipe is active."""
    nvlink: float
    """Bytes a second each way, of the ranks' collectives."""
    pcie: float
    """Bytes a second from the host; a third of it goes back."""
    energy: float
    """J since the driver was loaded."""
    capped: float
    """Seconds in which the power limit held the clocks down."""
    slowed: float
    """Seconds in which the hardware did because of heat."""
    warned: float
    """Seconds in which the driver did because of heat."""
    sent: float
    """Bytes over NVLink."""
    moved: float
    """Bytes from the host over PCIe."""
    reasons: int


class Gpu:
    """A GPU with a place in its chassis: some are cooled a little better than others. ``alone`` is one whose engine has
    no other: nothing goes over its NVLink."""

    def __init__(self, rng: random.Random, board: Board = H200, *, alone: bool = False) -> None:
        self._rng = rng
        self._board = board
        self._joined = 0.0 if alone else board.nvlink_bytes
        self._cooled = rng.uniform(0.94, 1.08)
        self._leak = rng.uniform(-9.0, 9.0)
        self._noise = [0.0, 0.0, 0.0]
        self._temp = 60.0
        self._mem_temp = 64.0
        self._power = 450.0 * board.power_limit / 700.0
        self._clock = float(board.max_sm_clock)
        self._cap = float(board.max_sm_clock)
        self._slowed = False
        self._reasons = 0
        self._util = 90.0
        self._mem_util = 50.0
        self._tensor = 0.3
        self._nvlink = self._pcie = 0.0
        self._counted = [0.0] * 6
        """Energy, the seconds of each reason, and what went over NVLink and PCIe."""

    @property
    def pace(self) -> float:
        """How fast it computes, 1 at full clock."""
        return self._clock / self._board.max_sm_clock

    def step(self, busy: float, prefill: float, pace: float, cooling_lost: float) -> None:
        """One second. ``busy`` and ``prefill`` (the share of the work that is prefill) are the engine's, 0 to 1;
        ``pace`` is that of its slowest rank, for which the others wait; ``cooling_lost`` is 0 to 1."""
        board = self._board
        noise = self._noise = [0.85 * x + 0.53 * self._rng.gauss(0, 1) for x in self._noise]
        self._util = min(max(100 * busy + 0.9 * noise[0], 0.0), 100.0)
        self._mem_util = min(max(busy * (62 - 20 * prefill) + 0.8 * noise[1], 0.0), 100.0)
        # Waiting in a collective keeps a GPU 100 % busy, and yet it draws little.
        waiting = 0.45 + 0.55 * min(pace / self.pace, 1.0)
        work = busy * (0.5 + 0.46 * prefill) * waiting
        clock = min(board.max_sm_clock, self._cap)
        idle, limit = board.idle_watts, board.power_limit
        wanted = idle + self._leak + work * (limit - idle) * (clock / board.max_sm_clock) ** _CLOCK_POWER
        self._reasons = 0
        if wanted > limit:
            self._reasons |= SW_POWER_CAP
            clock *= ((limit - idle) / (wanted - idle)) ** (1 / _CLOCK_POWER)
            wanted = limit
        self._clock += 0.7 * (clock - self._clock)
        self._power += 0.6 * (wanted + 4 * noise[2] - self._power)
        resistance = board.resistance * self._cooled * (1 + 1.5 * cooling_lost)
        warming = (_AIR + resistance * self._power - self._temp) / _INERTIA
        self._temp += warming
        self._mem_temp += (0.78 * self._temp + 18.0 - self._mem_temp) / 12.0
        self._throttle(warming)
        self._count(busy * self.pace, prefill)

    def _count(self, work: float, prefill: float) -> None:
        """What follows from the second's work. Prefill computes, decoding reads memory; both add up over NVLink."""
        noise = self._noise
        self._tensor = min(max(work * (0.16 + 0.62 * prefill) + 0.008 * noise[0], 0.0), 1.0)
        self._nvlink = self._joined * max(work * (9e9 + 110e9 * prefill) * (1 + 0.02 * noise[1]), 0.0)
        self._pcie = max(work * (6e7 + 9e8 * prefill) * (1 + 0.05 * noise[2]), 2e4)
        reasons = self._reasons
        passed = (
            self._power,
            float(bool(reasons & SW_POWER_CAP)),
            float(bool(reasons & HW_THERMAL)),
            float(bool(reasons & SW_THERMAL)),
            self._nvlink,
            self._pcie,
        )
        self._counted = [one + more for one, more in zip(self._counted, passed, strict=True)]

    def _throttle(self, warming: float) -> None:
        """From the slowdown threshold on the hardware takes clocks until the temperature stands, and gives them back
        once it has fallen well below."""
        board = self._board
        if self._temp >= board.slowdown_temp:
            self._slowed = True
        elif self._temp < board.max_op_temp - 1:
            self._slowed = False
        if self._slowed:
            cap = self._cap - 6.0 * (self._temp - board.slowdown_temp - _HELD_ABOVE) - 130.0 * warming
            self._cap = max(min(cap, board.max_sm_clock), board.lowest_clock)
            self._reasons |= HW_SLOWDOWN | HW_THERMAL
        else:
            self._cap = min(self._cap + 40.0, board.max_sm_clock)
        if self._temp >= board.max_op_temp:
            self._reasons |= SW_THERMAL

    def state(self) -> GpuState:
        """Its readings now."""
        now = (self._util, self._mem_util, self._temp, self._mem_temp, self._power, self._clock)
        return GpuState._make((*now, self._tensor, self._nvlink, self._pcie, *self._counted, self._reasons))
