"""The story behind ``gpumon demo`` and ``--simulate``: GPUs and their engines, second by second.

A small model, not a recording: requests arrive and queue, engines batch them, GPUs draw power and warm up, and what
one does shows in the others. It is a function of the seed and of the node's time alone. It goes in ticks of a second;
between two ticks everything, counters too, is a straight line, so counters go forward at whatever pace they are read.

Every period of twelve minutes, from the start on, the first engine gets long prompts that share nothing, and one
of its GPUs loses its cooling. Before the start there were waves of load, and one milder incident.
"""

from __future__ import annotations

import itertools
import math
import random
from collections import deque
from typing import NamedTuple

from monitor.sources.hardware import Hardware
from monitor.sources.story_engine import Engine, EngineState, Load
from monitor.sources.story_gpu import Gpu, GpuState

TICK_MS = 1000
_KEPT = 30
"""Ticks that can be asked for again: sources are not read in step."""


class Rise(NamedTuple):
    """Something that comes and goes: 0 before ``begin``, 1 from ``full`` to ``ease``, 0 again from ``end`` on."""

    begin: float
    full: float
    ease: float
    end: float

    def at(self, seconds: float) -> float:
        """How far it has come, 0 to 1."""
        return _smooth((seconds - self.begin) / (self.full - self.begin)) - _smooth(
            (seconds - self.ease) / (self.end - self.ease)
        )


class Plot(NamedTuple):
    """When what happens, in seconds from the beginning of each period."""

    period: float = 720.0
    load: Rise = Rise(45, 95, 260, 320)
    """More requests to the first engine."""
    unshared: Rise = Rise(60, 95, 255, 290)
    """Their prompts grow long, and share nothing."""
    cooling: Rise = Rise(50, 160, 264, 290)
    """The hardware's ``hot`` GPU loses its cooling."""
    before: float = 1980.0
    """How long before the start the milder incident began."""
    before_strength: float = 0.5


class Moment(NamedTuple):
    """All that is so at one tick."""

    gpus: tuple[GpuState, ...]
    engines: tuple[EngineState, ...]


_CALM = (
    Load(arrivals=7.2, prompt=6000.0, generated=340.0, hit_rate=0.83),
    Load(arrivals=4.6, prompt=5200.0, generated=420.0, hit_rate=0.78),
)


class Story:
    """``start_ms`` is when the node's clock began; the story goes back ``past_seconds`` from there."""

    def __init__(
        self,
        start_ms: int,
        seed: int = 7,
        *,
        past_seconds: float = 3600.0,
        plot: Plot | None = None,
        hardware: Hardware | None = None,
    ) -> None:
        self.start_ms = start_ms
        self.seed = seed
        self.plot = plot or Plot()
        self.hardware = hardware or Hardware()
        self.engines = self.hardware.engines
        self._hot = self.hardware.hot
        self._calm = [
            calm._replace(arrivals=calm.arrivals * facts.scale)
            for facts, calm in zip(self.engines, itertools.cycle(_CALM), strict=False)
        ]
        self.origin_ms = start_ms - round(past_seconds * 1000)
        self._past_seconds = past_seconds
        self._begin()

    def at(self, now_ms: int) -> tuple[Moment, Moment, float]:
        """The tick at or before ``now_ms``, the one after it, and how far it is from the first to the second, 0 to 1.
        What is before the story's beginning is its beginning."""
        tick, rest = divmod(max(now_ms - self.origin_ms, 0), TICK_MS)
        if tick < self._newest + 1 - len(self._moments):
            self._begin()
        while self._newest < tick + 1:
            self._step()
        i = len(self._moments) - 1 - (self._newest - tick)
        return self._moments[i], self._moments[i + 1], rest / TICK_MS

    def _begin(self) -> None:
        """Go to the story's beginning: all GPUs warm, the engines up for days."""
        rng = random.Random(self.seed)
        self._rng = rng
        self._phases = [rng.uniform(0, math.tau) for _ in range(6)]
        board = self.hardware.board
        self._gpus = [Gpu(rng, board, alone=len(facts.gpus) == 1) for facts in self.engines for _ in facts.gpus]
        self._engines = [Engine(rng, calm, facts.scale) for facts, calm in zip(self.engines, self._calm, strict=True)]
        self._newest = -120  # a time in which the model finds its balance, which nobody sees
        self._moments: deque[Moment] = deque(maxlen=_KEPT)
        while self._newest < 0:
            self._step()
        self.up_seconds = tuple(float(rng.randrange(40 * 3600, 60 * 3600)) for _ in self.engines)
        """How long each engine was up when the story begins."""
        for engine, calm, seconds in zip(self._engines, self._calm, self.up_seconds, strict=True):
            engine.age(seconds, calm)
        self._moments.clear()
        self._newest = -1
        self._step()

    def _step(self) -> None:
        self._newest += 1
        seconds = self._newest * TICK_MS / 1000 - self._past_seconds
        load, unshared, cooling = self._trouble(seconds)
        wave = self._waves(seconds)
        first = self._calm[0]
        loads = [
            Load(
                first.arrivals * (1 + 0.9 * wave[0]) * (1 + 0.3 * load),
                first.prompt * (1 + 0.1 * unshared),
                first.generated,
                first.hit_rate * (1 - 0.77 * unshared),
            )
        ]
        # Some of those who wait too long at the first engine go to the others.
        loads += [Load(calm.arrivals * (1 + wave[1]) * (1 + 0.3 * load), *calm[1:]) for calm in self._calm[1:]]
        for engine, now, facts in zip(self._engines, loads, self.engines, strict=True):
            gpus = [self._gpus[i] for i in facts.gpus]
            pace = min(gpu.pace for gpu in gpus)
            engine.step(now, pace)
            for index, gpu in zip(facts.gpus, gpus, strict=True):
                gpu.step(engine.busy, engine.prefill_share, pace, cooling if index == self._hot else 0.0)
        self._moments.append(
            Moment(tuple(gpu.state() for gpu in self._gpus), tuple(engine.state() for engine in self._engines))
        )

    def _trouble(self, seconds: float) -> tuple[float, float, float]:
        """How strong load, unshared prompts and loss of cooling are, 0 to 1, so long after the start."""
        plot, strength = self.plot, 1.0
        if seconds < 0:
            seconds, strength = seconds + plot.before, plot.before_strength
        else:
            seconds %= plot.period
        return (
            strength * plot.load.at(seconds),
            strength * plot.unshared.at(seconds),
            # A GPU that runs a little warm draws no attention: cooling fails by less than the load grows.
            strength * strength * plot.cooling.at(seconds),
        )

    def _waves(self, seconds: float) -> tuple[float, float]:
        """How much more requests each engine gets than usual: a slow wave, a quicker one, and the time of day. They
        are lower in the story itself, which must be told alike each time."""
        depth = 0.14 + 0.2 * _smooth(-seconds / 600)
        a, b, c, d, e, f = self._phases
        first = 0.7 * math.sin(seconds / 260 + a) + 0.3 * math.sin(seconds / 71 + b) + 0.15 * math.sin(seconds / 23 + e)
        second = (
            0.7 * math.sin(seconds / 330 + c) + 0.3 * math.sin(seconds / 97 + d) + 0.15 * math.sin(seconds / 29 + f)
        )
        dawn = 0.25 * _smooth(-seconds / 3600)
        return depth * first - dawn, depth * second - dawn


def _smooth(x: float) -> float:
    """0 below 0, 1 above 1, and without a corner in between."""
    x = min(max(x, 0.0), 1.0)
    return x * x * (3 - 2 * x)
