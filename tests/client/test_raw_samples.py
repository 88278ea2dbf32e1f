"""Raw samples slice by slice: all of them, once, however few a server gives at a time."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence

import pytest

from monitor.client.errors import Refused
from monitor.client.prometheus import Evaluated, QueryClient
from monitor.client.raw_samples import RawSeries, samples_of
from monitor.client.wire import Point, Series

END = 1_790_000_000_000


class Source(QueryClient):
    """Series a second apart that end at ``END``; a query of more than ``limit`` samples is refused. ``closed`` has
    windows that hold both ends, as those of Prometheus 2."""

    def __init__(self, series: int, count: int, *, limit: int = 10**9, gap: int = 0, closed: bool = False) -> None:
        super().__init__("http://nowhere:1")
        begin = END - (count - 1) * 1000
        self.times = [begin + i * 1000 for i in range(count) if not gap or not count // 3 <= i < count // 3 + gap]
        self.labels = [{"__name__": "x", "n": str(i), **({"more": "1"} if i % 2 else {})} for i in range(series)]
        self.limit = limit
        self.closed = closed
        self.greatest = 0
        self.queries = 0

    async def evaluate(self, expr: str, at_ms: int | None = None, **more: str) -> Evaluated:
        self.queries += 1
        found = re.fullmatch(r"(sum\(count_over_time\()?\{(.*)\}\[(\d+)ms\](\)\))?", expr)
        assert found is not None, expr
        assert at_ms is not None
        wanted = dict(re.findall(r'(\w+)="([^"]*)"', found[2]))
        start_ms = at_ms - int(found[3]) - self.closed
        times = [at for at in self.times if start_ms < at <= at_ms]
        chosen = [one for one in self.labels if all(one.get(key, "") == value for key, value in wanted.items())]
        if len(times) * len(chosen) > self.limit:
            raise Refused("too many samples", self.target, status=422)
        if found[1]:
            count = len(times) * len(chosen)
            return _evaluated([Series({}, (at_ms / 1000, str(count)))] if count else [])
        self.greatest = max(self.greatest, len(times) * len(chosen))
        points: tuple[Point, ...] = tuple((at / 1000, str(at % 1000)) for at in times)
        return _evaluated([Series(one, None, points) for one in chosen if points])

    async def series(
        self, matches: Sequence[str], start_ms: int | None = None, end_ms: int | None = None
    ) -> tuple[dict[str, str], ...]:
        return tuple(self.labels)


def _evaluated(series: list[Series]) -> Evaluated:
    return Evaluated("matrix", tuple(series), b"")


def fetch(source: Source, *, start_ms: int, slice_samples: int = 1000, held_samples: int = 10**9) -> list[RawSeries]:
    async def work() -> list[RawSeries]:
        async with source:
            found = samples_of(
                source, "x", ['{__name__=~"x"}'], start_ms, END, slice_samples=slice_samples, held_samples=held_samples
            )
            return [one async for one in found]

    return asyncio.run(work())


def joined(found: list[RawSeries]) -> dict[str, list[int]]:
    """The times of each series by its label ``n``, as they came."""
    times: dict[str, list[int]] = {}
    for one in found:
        times.setdefault(dict(one.labels)["n"], []).extend(one.times)
    return times


@pytest.mark.parametrize("closed", [False, True])
@pytest.mark.parametrize("gap", [0, 3000])
@pytest.mark.parametrize(("limit", "held"), [(10**9, 10**9), (500, 10**9), (10**9, 2000), (150, 300)])
def test_every_sample_comes_once_in_order(limit: int, held: int, gap: int, closed: bool) -> None:
    source = Source(4, 6000, limit=limit, gap=gap, closed=closed)
    found = fetch(source, start_ms=END - 6_000_000, held_samples=held)
    assert joined(found) == {str(i): source.times for i in range(4)}
    assert source.greatest <= min(limit, 2000)
    # A series' pieces follow each other.
    order = [dict(one.labels)["n"] for one in found]
    assert len([name for i, name in enumerate(order) if i == 0 or order[i - 1] != name]) == 4


def test_emptiness_before_the_data_is_passed_quickly() -> None:
    source = Source(1, 100)
    assert len(fetch(source, start_ms=END - 365 * 86_400_000)[0].times) == 100
    assert source.queries < 60


def test_a_server_that_refuses_a_second_is_given_up() -> None:
    with pytest.raises(Refused, match="too many samples"):
        fetch(Source(100, 100, limit=10), start_ms=END - 100_000)


def test_other_refusals_are_not_tried_again() -> None:
    class Closed(Source):
        async def evaluate(self, expr: str, at_ms: int | None = None, **more: str) -> Evaluated:
            self.queries += 1
            raise Refused("who are you?", self.target, status=401)

    source = Closed(1, 1)
    with pytest.raises(Refused):
        fetch(source, start_ms=END - 1000)
    assert source.queries == 1
