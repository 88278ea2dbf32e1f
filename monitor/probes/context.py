"""What a workload is given, and what it asks for: requests, the load that they make, a step that is measured.

A workload knows no HTTP, no clock and no files. It makes ``StepPlan`` objects, has its ``Context`` measure them, looks
at what came, and makes the next one.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

from monitor.probes.schema import Facts, Level, Record, Slo, Spec, Step, WorkloadName


@dataclass(frozen=True, slots=True)
class Ask:
    """One request. ``prompt`` is token ids, or a text; exactly as many tokens as there are ids reach the model."""

    prompt: Sequence[int] | str
    max_tokens: int
    group: str = ""
    cache_salt: str | None = None
    priority: int | None = None
    hang_up_after_s: float | None = None
    """Close the connection so long after the first chunk."""
    extra: dict[str, Any] = field(default_factory=dict)
    """Further fields of the body."""
    keep_text: bool = False
    exact: bool = True
    """``ignore_eos`` and ``min_tokens = max_tokens``: the server writes exactly so many tokens."""


@dataclass(frozen=True, slots=True)
class Closed:
    """So many requests at once, each place refilled as soon as it is free."""

    concurrency: int


@dataclass(frozen=True, slots=True)
class Open:
    """A request at each of these times, in seconds from the beginning of the step, whatever has been answered."""

    arrivals: Sequence[float]
    max_concurrency: int | None = None
    """What is over waits here, and ``Record.waited_s`` says how long."""


Load: TypeAlias = Closed | Open


@dataclass(frozen=True, slots=True)
class StepPlan:
    """One load to be measured. It ends with its requests, after ``max_seconds``, or when the run is stopped; what is
    in flight then is given ``drain_s`` to end, and is ``cancelled`` after that."""

    workload: WorkloadName
    name: str
    parameters: dict[str, float | int | str]
    asks: Iterator[Ask]
    load: Load
    requests: int | None = None
    """How many of ``asks`` at most; None for all."""
    warmups: int = 0
    """Sent before, in the same way, and not measured."""
    max_seconds: float | None = None
    drain_s: float = 30.0
    slos: tuple[Slo, ...] = ()
    steady: bool = False
    """Look for the window in which at least 95 % of the concurrency was in flight."""
    repeat: int = 0
    may_cache: bool = False
    """Cached tokens are meant, and make nothing invalid."""
    enough: Callable[[int, float], bool] | None = None
    """Asked after each request with how many are done and the seconds since the beginning: True ends the step."""


class Context(Protocol):
    """What the run gives its workload."""

    @property
    def spec(self) -> Spec: ...

    @property
    def facts(self) -> Facts: ...

    @property
    def rng(self) -> random.Random:
        """Seeded: the only source of chance."""

    @property
    def stopping(self) -> bool:
        """Whether the run is to end: begin no more steps."""

    @property
    def seconds_left(self) -> float:
        """Until the run's own limit."""

    def tokens(self, count: int) -> list[int]:
        """A fresh random prompt of exactly so many token ids, with none that ends or begins a text."""

    async def measure(self, plan: StepPlan) -> Step:
        """Make the load, read everything with it, and give what came; the step goes to the result too. Raises
        ``monitor.probes.errors.CannotGoOn`` where the server is gone."""

    async def send(self, ask: Ask) -> Record:
        """One request beside all steps, and in none of them: to see whether the server takes such a one."""

    def planned(self, steps: int | None, seconds: float | None = None) -> None:
        """Say how many steps there will be, and about how long they take: for the bar."""

    def note(self, text: str, level: Level = "info") -> None:
        """Say something worth a line."""

    async def pause(self, seconds: float) -> None:
        """Let the server come to rest; ends at once when the run is stopped."""
