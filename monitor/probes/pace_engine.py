"""A simulated engine whose pace is known exactly: what a server of tokens would do, without a model.

A request waits for a place, is prefilled, then gets a token after each gap. Its times are counted from those before,
never from a timer that was late, so that they do not drift:

    TTFT = waiting + prefill_s + prefill_per_token_s × (prompt tokens that are not cached)
    gap  = itl_s + itl_per_sequence_s × (requests in the batch)
"""

from __future__ import annotations

import asyncio
import itertools
import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from monitor.probes.pace_metrics import Tally


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast it is, and how much it holds."""

    prefill_s: float = 0.01
    prefill_per_token_s: float = 0.0
    itl_s: float = 0.01
    itl_per_sequence_s: float = 0.0
    max_batch: int = 256
    """Requests that get tokens at once; the others wait."""
    kv_tokens: int = 1 << 20
    block_size: int = 16
    max_model_len: int = 32_768
    prefix_caching: bool = True
    priority: bool = False
    """Lower numbers first, of those that wait."""

    def itl(self, batch: int) -> float:
        """Seconds between two tokens of a request with so many in the batch."""
        return self.itl_s + self.itl_per_sequence_s * batch


@dataclass(eq=False)
class Generation:
    """A request on its way through the engine."""

    prompt: Sequence[int]
    max_tokens: int
    emit: Callable[[Generation], None]
    """Called with each token; ``generated`` counts it already."""
    ended: asyncio.Future[str]
    """``length``, or ``abort``."""
    salt: str = ""
    priority: int = 0
    number: int = 0
    generated: int = 0
    cached: int = 0
    arrived_s: float = 0.0
    admitted_s: float = 0.0
    first_s: float = 0.0
    last_s: float = 0.0
    due_s: float = 0.0
    preempted: int = 0
    timer: asyncio.TimerHandle | None = None
    keys: list[int] = field(default_factory=list)
    """Of the blocks of the prompt that are full."""
    shared: list[int] = field(default_factory=list)
    """Those that it holds in the prefix cache."""
    private: int = 0
    """Blocks of its own."""

    @property
    def order(self) -> tuple[int, int]:
        """Before which others it goes."""
        return self.priority, self.number


class Blocks:
    """The KV cache: blocks that belong to a request, blocks of prompts that several may share, and those that nobody
    holds, kept until they are needed, the oldest first."""

    def __init__(self, total: int) -> None:
        self.total = total
        self._private = 0
        self._held: dict[int, int] = {}
        self._idle: OrderedDict[int, None] = OrderedDict()

    @property
    def used(self) -> int:
        """Blocks that somebody holds."""
        return self._private + len(self._held)

    def known(self, keys: Sequence[int]) -> list[int]:
        """Those at the beginning that are in the cache."""
        return list(itertools.takewhile(lambda key: key in self._held or key in self._idle, keys))

    def hold(self, keys: Sequence[int]) -> None:
        """Take shared ones that are known."""
        for key in keys:
            self._idle.pop(key, None)
            self._held[key] = self._held.get(key, 0) + 1

    def take(self, count: int) -> bool:
        """Take private ones; False where there are not so many."""
        if self.used + count > self.total:
            return False
        self._private += count
        self._shrink()
        return True

    def share(self, keys: Sequence[int]) -> list[int]:
        """Turn private ones into shared ones, where nobody was faster: their keys."""
        fresh = [key for key in keys if key not in self._held and key not in self._idle]
        self._private -= len(fresh)
        self.hold(fresh)
        return fresh

    def free(self, private: int, shared: Sequence[int]) -> None:
        """Give them back; shared ones stay known while there is room."""
        self._private -= private
        for key in reversed(shared):
            self._held[key] -= 1
            if not self._held[key]:
                del self._held[key]
                self._idle[key] = None
        self._shrink()

    def forget(self) -> None:
        """Empty the cache of what nobody holds."""
        self._idle.clear()

    def _shrink(self) -> None:
        while self._idle and self.used + len(self._idle) > self.total:
            self._idle.popitem(last=False)


class Engine:
    """Gives tokens at its pace. All in one event loop."""

    def __init__(self, pace: Pace) -> None:
        self.pace = pace
        self.tally = Tally()
        self.blocks = Blocks(pace.kv_tokens // pace.block_size)
        self.waiting: list[Generation] = []
        self.running: list[Generation] = []
        self._numbers = itertools.count(1)

    @property
    def kv_usage(self) -> float:
        """0–1."""
        return self.blocks.used / self.blocks.total

    def submit(self, sequence: Generation) -> None:
        """Take a request. It must fit by itself: ``fits``."""
        sequence.number = next(self._numbers)
        sequence.arrived_s = asyncio.get_running_loop().time()
        sequence.keys = self._keys(sequence)
        self.waiting.append(sequence)
        if self.pace.priority:
            self.waiting.sort(key=lambda one: one.order)
        self._admit(sequence.arrived_s)

    def fits(self, tokens: int) -> bool:
        """Whether a request of so many, with what it writes, can be held at all."""
        return tokens <= self.pace.max_model_len and self._count(tokens) <= self.blocks.total

    def abort(self, sequence: Generation) -> None:
        """Nobody waits for it any more."""
        if sequence.ended.done():
            return
        if sequence in self.waiting:
            self.waiting.remove(sequence)
        self._finish(sequence, "abort", asyncio.get_running_loop().time())

    # -- inside -------------------------------------------------------------------------------------------------------

    def _keys(self, sequence: Generation) -> list[int]:
        if not self.pace.prefix_caching:
            return []
        size = self.pace.block_size
        keys: list[int] = []
        key = hash(sequence.salt)
        for begin in range(0, len(sequence.prompt) - size + 1, size):
            key = hash((key, *sequence.prompt[begin : begin + size]))
            keys.append(key)
        return keys

    def _count(self, tokens: int) -> int:
        return math.ceil(tokens / self.pace.block_size)

    def _admit(self, now: float) -> None:
        while self.waiting and len(self.running) < self.pace.max_batch:
            sequence = self.waiting[0]
            tokens = len(sequence.prompt) + sequence.generated
            known = self.blocks.known(sequence.keys)
            if len(known) * self.pace.block_size >= tokens:
                known = known[:-1]  # the last token is computed in any case
            self.blocks.hold(known)
            private = self._count(tokens) - len(known)
            if not self.blocks.take(private):
                self.blocks.free(0, known)
                return
            self.waiting.pop(0)
            sequence.shared, sequence.private = known, private
            self._start(sequence, len(known) * self.pace.block_size, tokens, now)

    def _start(self, sequence: Generation, cached: int, tokens: int, now: float) -> None:
        self.running.append(sequence)
        if not sequence.preempted:
            sequence.cached, sequence.admitted_s = cached, now
            self.tally.admitted(len(sequence.prompt), cached, self.pace.prefix_caching)
        sequence.due_s = now + self.pace.prefill_s + self.pace.prefill_per_token_s * (tokens - cached)
        self._later(sequence)

    def _later(self, sequence: Generation) -> None:
        sequence.timer = asyncio.get_running_loop().call_at(sequence.due_s, self._token, sequence)

    def _token(self, sequence: Generation) -> None:
        """One more for this request."""
        now = sequence.due_s
        if not sequence.generated:
            sequence.first_s = now
            fresh = self.blocks.share(sequence.keys[len(sequence.shared) :])
            sequence.shared += fresh
            sequence.private -= len(fresh)
        elif not self._grow(sequence, now):
            return
        sequence.generated += 1
        self.tally.token(sequence, now, len(self.running))
        sequence.last_s = now
        sequence.emit(sequence)
        if sequence.ended.done():
            return
        if sequence.generated >= sequence.max_tokens:
            self._finish(sequence, "length", now)
        else:
            sequence.due_s = now + self.pace.itl(len(self.running))
            self._later(sequence)

    def _grow(self, sequence: Generation, now: float) -> bool:
        """Hold the token that was written last; others, or itself, lose their place where there is no room."""
        needed = self._count(len(sequence.prompt) + sequence.generated) - len(sequence.shared) - sequence.private
        while needed > 0 and not self.blocks.take(needed):
            victim = max(self.running, key=lambda one: one.order if self.pace.priority else (0, one.number))
            self._preempt(victim)
            if victim is sequence:
                self._admit(now)
                return False
        sequence.private += max(needed, 0)
        return True

    def _preempt(self, sequence: Generation) -> None:
        self.tally.preemptions += 1
        sequence.preempted += 1
        self._release(sequence)
        self.waiting.insert(0, sequence)
        if self.pace.priority:
            self.waiting.sort(key=lambda one: one.order)

    def _release(self, sequence: Generation) -> None:
        if sequence.timer is not None:
            sequence.timer.cancel()
        if sequence in self.running:
            self.running.remove(sequence)
            self.blocks.free(sequence.private, sequence.shared)
        sequence.private, sequence.shared = 0, []

    def _finish(self, sequence: Generation, reason: str, now: float) -> None:
        self._release(sequence)
        self.tally.finished(sequence, reason, now)
        if not sequence.ended.done():
            sequence.ended.set_result(reason)
        self._admit(now)
