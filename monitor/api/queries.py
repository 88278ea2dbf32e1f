"""Where a query of the API is evaluated: in the loop what is small and lies in memory, in a thread all else.

Rules and scrapes share the loop and never wait for a query. The thread works on copies of what memory has, and on the
history's file.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from monitor.api.weight import weight
from monitor.promql.errors import Limits, PromQLError
from monitor.promql.evaluate import Result, instant, range_query
from monitor.promql.plan import Plan
from monitor.samples import Event, Labels
from monitor.selector import Matcher, Storage
from monitor.store.chunk import ChunkError
from monitor.store.head import Head
from monitor.store.history_schema import HistoryError
from monitor.store.past import Past, Readable, Reader
from monitor.store.series import FrozenSeries

T = TypeVar("T")

QUERY_SECONDS = 15.0
"""A query that takes longer is refused."""
_IN_LOOP = 40_000
"""What a query may weigh that is evaluated in the loop: some milliseconds."""
_LOOP_SECONDS = 0.02
"""One that takes longer there all the same, for it was weighed wrongly, is done again in the thread."""
_AHEAD_MS = 400 * 86_400_000
"""What a query may look at after its last step: a negative offset."""


@dataclass(frozen=True, slots=True)
class Answer(Generic[T]):
    """What a query gave, and what a person should know of it."""

    value: T
    warnings: list[str] = field(default_factory=list)


class Queries:
    """Evaluates queries over memory and history. ``now_ms`` tells the node's time."""

    def __init__(self, head: Head, history: Readable | None, now_ms: Callable[[], int]) -> None:
        self._head = head
        self._history = history
        self._now_ms = now_ms
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="queries")
        self._reader: Reader | None = None
        self._closing = threading.Event()
        self._turn = asyncio.Lock()

    async def instant(self, plan: Plan, at_ms: int) -> Answer[Result]:
        """An instant query. Raises ``PromQLError``."""
        return await self.run(plan, at_ms, at_ms, lambda storage, limits: instant(plan, storage, at_ms, limits))

    async def range(
        self, plan: Plan, start_ms: int, end_ms: int, step_ms: int
    ) -> Answer[list[tuple[Labels, list[tuple[int, float]]]]]:
        """A range query. Raises ``PromQLError``."""

        def work(storage: Storage, limits: Limits) -> list[tuple[Labels, list[tuple[int, float]]]]:
            return range_query(plan, storage, start_ms, end_ms, step_ms, limits)

        return await self.run(plan, start_ms, end_ms, work, (end_ms - start_ms) // step_ms + 1)

    async def run(
        self,
        plan: Plan,
        start_ms: int,
        end_ms: int,
        work: Callable[[Storage, Limits], T],
        steps: int = 1,
        seconds: float = QUERY_SECONDS,
    ) -> Answer[T]:
        """Do ``work``, which evaluates ``plan`` at so many times from ``start_ms`` to ``end_ms``, over the store that
        holds them, in ``seconds`` and never more than ``QUERY_SECONDS``. Raises what it raises."""
        if seconds <= 0:
            raise PromQLError("query timed out in query execution", kind="timeout")
        earliest_ms = plan.earliest_ms(start_ms)
        in_memory = self._history is None or self.in_memory(earliest_ms)
        if in_memory and self.is_light(plan, steps, end_ms - start_ms):
            try:
                return Answer(work(self._head, self._limits(min(seconds, _LOOP_SECONDS))))
            except PromQLError as error:
                if error.kind != "timeout" or seconds <= _LOOP_SECONDS:
                    raise
        return await self.in_thread(plan.selectors, earliest_ms, end_ms + _AHEAD_MS, work, seconds)

    @property
    def has_history(self) -> bool:
        """Whether there is more than what memory has."""
        return self._history is not None

    def in_memory(self, earliest_ms: int) -> bool:
        """Whether memory has all that there is since a time."""
        return earliest_ms >= max(self._now_ms() - self._head.retention_ms, self._head.since_ms)

    async def in_thread(
        self,
        selectors: Sequence[Sequence[Matcher]],
        start_ms: int,
        end_ms: int,
        work: Callable[[Storage, Limits], T],
        seconds: float = QUERY_SECONDS,
    ) -> Answer[T]:
        """Do ``work`` in the thread, over what the selectors select between the two times. Raises what it raises."""
        limits = self._limits(seconds) if seconds < QUERY_SECONDS else None  # a client's time runs while it waits
        async with self._turn:  # only who is next has a copy of what memory has
            frozen = self._head.freeze(selectors)
            from_disk = self._history is not None and not self.in_memory(start_ms)
            return await asyncio.get_running_loop().run_in_executor(
                self._threads, self._work, frozen, from_disk, start_ms, end_ms, work, limits
            )

    async def labels(self, selectors: Sequence[Sequence[Matcher]], start_ms: int, end_ms: int) -> Answer[list[Labels]]:
        """The label sets, sorted, that any of the selectors selects and that have a sample with
        ``start_ms < t <= end_ms``."""

        def there(storage: Storage, limits: Limits) -> list[Labels]:
            found: set[Labels] = set()
            for matchers in selectors:
                for i, one in enumerate(storage.select(matchers)):
                    if not i % 16 and limits.expired is not None and limits.expired():
                        raise PromQLError("query timed out in expression evaluation", kind="timeout")
                    if one.last(start_ms, end_ms) is not None:
                        found.add(one.labels)
            return sorted(found)

        if self._history is None or self.in_memory(start_ms + 1):
            try:
                return Answer(there(self._head, self._limits(_LOOP_SECONDS)))
            except PromQLError as error:
                if error.kind != "timeout":
                    raise
        return await self.in_thread(selectors, start_ms, end_ms, there)

    async def events(self, newest: Sequence[Event], since_ms: int, until_ms: int, most: int) -> Answer[list[Event]]:
        """The newest events between two times, oldest first: those on disk, and ``newest``, which memory has."""
        recent = [event for event in newest if since_ms <= event.at_ms <= until_ms]
        recent.sort(key=lambda event: event.at_ms)
        if self._history is None or (newest and since_ms >= newest[0].at_ms):
            return Answer(recent[-most:])
        return await asyncio.get_running_loop().run_in_executor(
            self._threads, self._events, recent, since_ms, until_ms, most
        )

    def close(self) -> None:
        """End what runs, and let go of the history's file."""
        if not self._closing.is_set():
            self._closing.set()
            if self._reader is not None:
                self._threads.submit(self._close_reader)
            self._threads.shutdown(wait=False)

    # -- in the thread -----------------------------------------------------------------------------------------------

    def _work(
        self,
        frozen: Sequence[FrozenSeries],
        from_disk: bool,
        start_ms: int,
        end_ms: int,
        work: Callable[[Storage, Limits], T],
        limits: Limits | None,
    ) -> Answer[T]:
        warnings: list[str] = []
        if from_disk:
            try:
                reader = self._open_reader()
                damaged = reader.damaged
                with reader.snapshot():
                    value = work(Past(frozen, reader, start_ms, end_ms), limits or self._limits())
                if reader.damaged > damaged:
                    warnings.append(f"{reader.damaged - damaged} stretches were left out: {reader.damage}")
                return Answer(value, warnings)
            except (HistoryError, ChunkError) as error:
                self._close_reader()
                warnings.append(f"only what is in memory was read: {error}")
        return Answer(work(Past(frozen, None, start_ms, end_ms), limits or self._limits()), warnings)

    def _events(self, recent: Sequence[Event], since_ms: int, until_ms: int, most: int) -> Answer[list[Event]]:
        warnings = []
        stored: Sequence[Event] = ()
        try:
            stored = self._open_reader().events(since_ms, until_ms, most)
        except HistoryError as error:
            self._close_reader()
            warnings.append(f"only what is in memory was read: {error}")
        # The newest are in both, or not on disk yet; and what was told late is not where its time would have it.
        known = {_identity(event) for event in recent}
        found = [event for event in stored if _identity(event) not in known] + list(recent)
        found.sort(key=lambda event: event.at_ms)
        return Answer(found[-most:], warnings)

    def _open_reader(self) -> Reader:
        if self._reader is None:
            assert self._history is not None  # noqa: S101 # asked before
            self._reader = self._history.reader()
        return self._reader

    def _close_reader(self) -> None:
        if self._reader is not None:
            reader, self._reader = self._reader, None
            reader.close()

    # -- limits ------------------------------------------------------------------------------------------------------

    def _limits(self, seconds: float = QUERY_SECONDS) -> Limits:
        until = time.monotonic() + min(seconds, QUERY_SECONDS)
        return Limits(expired=lambda: self._closing.is_set() or time.monotonic() > until)

    def is_light(self, plan: Plan, steps: int = 1, span_ms: int = 0) -> bool:
        """Whether a query that memory can answer may be evaluated in the loop, at so many times over ``span_ms``."""
        return weight(plan.expr, steps, span_ms, lambda matchers: len(self._head.select(matchers))) <= _IN_LOOP


def _identity(event: Event) -> tuple[object, ...]:
    return event.at_ms, event.kind, event.title, tuple(sorted(event.labels.items()))
