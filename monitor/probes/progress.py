"""How far a run is, and how long it still takes. Pure: time is passed in."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from statistics import fmean, median
from typing import Any, Literal, TypeAlias

import msgspec

from monitor.probes.context import Open, StepPlan
from monitor.probes.schema import FAILURES, Live, Progress, Record

Phase: TypeAlias = Literal["preparing", "warming up", "measuring", "pausing", "writing"]

_RECENT = 50
_RATE_S = 2.0
_FIELDS = frozenset(Live.__struct_fields__)


class Tracker:
    """Keeps what a run says of itself while it goes on. Moments are seconds of one monotonic clock."""

    def __init__(self, began: float, limit_s: float) -> None:
        """``limit_s``: the run ends by itself after so long."""
        self._began = began
        self._limit_s = limit_s
        self._steps: int | None = None
        self._seconds: float | None = None
        self._phase: Phase = "preparing"
        self._plan: StepPlan | None = None
        self._step_began = began
        self._done = 0
        self._took: list[float] = []
        self._fraction = 0.0
        self._running = 0
        self._completed = 0
        self._failed = 0
        self._recent: deque[Record] = deque(maxlen=_RECENT)
        self._ttfts: deque[float] = deque(maxlen=_RECENT)
        self._chunks: deque[tuple[float, int]] = deque()

    def planned(self, steps: int | None, seconds: float | None) -> None:
        """So many steps in the whole run, in about so many seconds."""
        self._steps, self._seconds = steps, seconds

    def phase(self, phase: Phase) -> None:
        """What it does now."""
        self._phase = phase

    def begin(self, plan: StepPlan, now: float) -> None:
        """A step begins, warm-up and all."""
        self._plan, self._step_began = plan, now
        self._completed = self._failed = 0
        self._recent.clear()
        self._ttfts.clear()

    def end(self, now: float) -> None:
        """The step is over."""
        self._plan = None
        self._done += 1
        self._running = 0
        self._took.append(now - self._step_began)
        self._phase = "preparing"

    def record(self, record: Record) -> None:
        """A request ended."""
        if record.outcome in FAILURES:
            self._failed += 1
        elif record.outcome == "ok":
            self._completed += 1
            self._recent.append(record)

    def first(self, ttft_s: float) -> None:
        """A first token came."""
        self._ttfts.append(ttft_s)

    def in_flight(self, count: int) -> None:
        """So many are on their way."""
        self._running = count

    def chunks(self, now: float, count: int) -> None:
        """So many chunks have come in all until now."""
        self._chunks.append((now, count))
        while len(self._chunks) > 2 and now - self._chunks[1][0] >= _RATE_S:
            self._chunks.popleft()

    def progress(self, now: float, at_ms: int, read: Mapping[str, Any] | None = None) -> Progress:
        """What to say now. ``read``: fields of ``Live`` that were read elsewhere; they count before our own."""
        fraction = self._whole(now)
        if fraction is not None:
            self._fraction = fraction = max(self._fraction, min(fraction, 1.0))
        return Progress(
            at_ms=at_ms,
            phase=self._phase,
            step=self._plan.name if self._plan is not None else "",
            step_index=self._done,
            steps=self._steps,
            fraction=fraction,
            seconds_left=self._left(now, fraction),
            live=self._live({name: value for name, value in (read or {}).items() if name in _FIELDS}),
        )

    def _live(self, read: dict[str, Any]) -> Live:
        gaps = [gap for record in list(self._recent)[-10:] for gap in record.itl_s]
        rate = None
        if len(self._chunks) > 1:
            (begin, before), (end, after) = self._chunks[0], self._chunks[-1]
            rate = (after - before) / (end - begin) if end > begin else None
        own = Live(
            running=self._running,
            completed=self._completed,
            failed=self._failed,
            output_per_s=rate,
            ttft_ms=1000 * median(self._ttfts) if self._ttfts else None,
            itl_ms=1000 * median(gaps) if gaps else None,
        )
        return msgspec.structs.replace(own, **{name: value for name, value in read.items() if value is not None})

    def _of_step(self, now: float) -> float:
        """How much of the step is done: 0–1."""
        plan = self._plan
        if plan is None or self._phase != "measuring":
            return 0.0
        elapsed = now - self._step_began
        shares = [0.0]
        done = self._completed + self._failed
        if plan.requests is not None and plan.enough is None:
            shares.append(done / max(plan.requests, 1))
        if isinstance(plan.load, Open) and plan.load.arrivals:
            shares.append(elapsed / max(plan.load.arrivals[-1], 1e-9))
        if plan.enough is not None and self._took:
            shares.append(elapsed / max(fmean(self._took), 1e-9))
        if plan.max_seconds is not None:
            shares.append(elapsed / plan.max_seconds)
        return min(max(shares), 0.95)

    def _whole(self, now: float) -> float | None:
        if self._phase == "writing":
            return 1.0
        if self._steps is not None and self._done <= self._steps:
            return (self._done + self._of_step(now)) / self._steps if self._steps else 1.0
        if self._seconds:
            return min((now - self._began) / self._seconds, 0.99)
        return None

    def _left(self, now: float, fraction: float | None) -> float | None:
        limit = max(0.0, self._limit_s - (now - self._began))
        if self._phase == "writing":
            return 0.0
        if self._steps is not None and self._took and self._done <= self._steps:
            each = fmean(self._took)
            here = self._of_step(now) if self._plan is not None else 0.0
            return min(limit, max(0.0, each * (self._steps - self._done - here)))
        if self._seconds:
            return min(limit, max(0.0, self._seconds - (now - self._began)))
        elapsed = now - self._step_began
        if fraction and self._plan is not None and fraction > 0.02:
            return min(limit, elapsed / fraction - elapsed)
        return None
