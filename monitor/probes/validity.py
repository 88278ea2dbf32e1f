"""Whether a step counts, and when to end one that goes on for nothing. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from monitor.probes.context import Closed, StepPlan
from monitor.probes.schema import FAILURES, Metrics, Readings, Record, Step

MOST_FAILED = 0.1
"""Of the requests: with more failures a step says more of them than of the server."""

CUT_BY_LIMIT = "the run came to its limit in the middle of it"
"""Of a step, not of the run: whoever gave it so many seconds meant that."""


def of_run(steps: Sequence[Step]) -> tuple[str, ...]:
    """Why a run does not count; () where it does. A step that the run's own limit cut short does not take the others
    with it, as long as there is one of its workload that counts."""
    whole = {step.workload for step in steps if not step.invalid}
    return tuple(
        dict.fromkeys(
            f"{step.workload}, {step.name}: {why}"
            for step in steps
            for why in step.invalid
            if why != CUT_BY_LIMIT or step.workload not in whole
        )
    )


def invalid(
    plan: StepPlan, records: Sequence[Record], made: Metrics, readings: Readings, *, asked: int | None, exact: bool
) -> tuple[str, ...]:
    """Why a step does not count; () where it does. ``asked``: tokens that each answer was to have, None where they
    differ; ``exact``: whether the server was told to write exactly so many."""
    why = []
    if not plan.may_cache:
        why += _cached(made, readings)
    tried = made.completed + made.failed
    if tried and made.failed > MOST_FAILED * tried:
        kinds = ", ".join(f"{count} {kind}" for kind, count in made.failures.items() if kind in FAILURES)
        why.append(f"{made.failed} of {tried} requests failed: {kinds}")
    if asked is not None and exact:
        short = [record for record in records if record.outcome == "ok" and (record.output_tokens or 0) < asked]
        if short:
            least = min(record.output_tokens or 0 for record in short)
            why.append(f"{len(short)} of {made.completed} answers are shorter than the {asked} tokens asked: {least}")
    if readings.server is not None and readings.server.restarted:
        why.append("the server was started anew in the middle")
    return tuple(why)


def _cached(made: Metrics, readings: Readings) -> list[str]:
    """Prompts are fresh: what came from a cache was not computed, and is no measure of it."""
    if made.cached_tokens:
        return [f"cached tokens: {made.cached_tokens} of {made.input_tokens}, by usage"]
    server = readings.server
    if made.cached_tokens is None and server is not None and server.prefix_hits:
        if server.other_requests:
            return []  # others have them, as far as one can tell
        return [f"cached tokens: {server.prefix_hits:.0f}, by the server's counter"]
    return []


class Guard:
    """Sees each request of a step as it ends, and says when the step is to end early: a server that is gone, or
    answers nothing but errors, is not asked a thousand times more."""

    def __init__(self, plan: StepPlan) -> None:
        self._at_once = plan.load.concurrency if isinstance(plan.load, Closed) else 50
        self._closed = isinstance(plan.load, Closed)
        self._streak: dict[str, int] = {}
        self._completed = 0
        self._failed = 0
        self.why = ""
        """Why it is to end; "" for as long as it may go on."""

    def saw(self, record: Record) -> bool:
        """Take the next that ended; True where the step is to end."""
        if record.outcome not in FAILURES:
            if record.outcome != "cancelled":
                self._streak.clear()
                self._completed += 1
            return False
        self._failed += 1
        kind = "connection" if record.outcome in ("refused", "broken") else record.outcome
        self._streak[kind] = self._streak.get(kind, 0) + 1
        if not self.why:
            self.why = self._judge(kind, record)
        return bool(self.why)

    def _judge(self, kind: str, record: Record) -> str:
        row = self._streak[kind]
        said = record.error or record.outcome
        if kind == "connection" and row >= self._at_once + 5:
            return f"{row} connections in a row failed: {said}"
        if kind in ("stalled", "late") and row >= max(3, self._at_once):
            return f"{row} requests in a row were given up: {said}"
        if kind in ("http", "malformed", "empty") and row >= max(20, 2 * self._at_once):
            return f"{row} requests in a row failed: {said}"
        # In an open loop, what a server turns away is what is measured; a closed one would ask again at once.
        if self._closed and self._failed >= max(100, 2 * self._at_once) and self._failed > self._completed:
            return f"{self._failed} requests failed and {self._completed} did not: {said}"
        return ""
