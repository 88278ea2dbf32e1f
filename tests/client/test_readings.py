"""Every reading of a thing: what counts as a rate, what is absent as a hole, nothing that ended."""

from __future__ import annotations

import asyncio
import math

from monitor.client.past import Pictures
from monitor.client.snapshot import Reading
from monitor.samples import Family, Labels, Scrape, Shape, make_labels
from monitor.tui.plot import Plot
from tests.commands.serving import T0, head_of, serving

FAMILIES = {"done_total": Family("done_total", "counter", "Done."), "temp": Family("temp", "gauge", "Heat.")}


def asked(series: dict[Labels, list[float]], at_ms: int | None = None, range_seconds: int = 300) -> dict[str, Reading]:
    with serving(head_of(series, FAMILIES)) as target:

        async def main() -> tuple[Reading, ...]:
            pictures = Pictures(target)
            try:
                return await pictures.readings('{gpu="0"}', at_ms, range_seconds)
            finally:
                await pictures.close()

        found = asyncio.run(main())
    assert [one.name for one in found] == sorted(one.name for one in found)
    return {one.name: one for one in found}


def test_gauges_as_they_are_and_counters_as_rates() -> None:
    found = asked(
        {
            make_labels("temp", gpu="0", sensor="core"): [float(i) for i in range(600)],
            make_labels("done_total", gpu="0"): [5.0 * (i % 400) for i in range(600)],
            make_labels("other", gpu="1"): [1.0] * 600,
            make_labels("x_bucket", gpu="0", le="1"): [1.0] * 600,
        }
    )
    assert sorted(found) == ["done_total", "temp"]
    temp, done = found["temp"], found["done_total"]
    assert (temp.value, temp.counts, temp.help, dict(temp.labels)) == (599.0, False, "Heat.", {"sensor": "core"})
    assert (done.value, done.counts, done.help) == (5.0, True, "Done.")
    assert min(value for value in done.history.values if value == value) >= 0  # it began anew once
    assert len(temp.history.times) == len(temp.history.values) == 151
    assert temp.history.times[-1] == T0 - T0 % 2000


def test_what_is_infinite_is_a_hole_and_not_a_scale() -> None:
    gauge, swings = make_labels("temp", gpu="0"), make_labels("swings", gpu="0")
    values = [math.inf if i % 7 == 0 else -math.inf if i % 11 == 0 else float(i) for i in range(600)]
    found = asked({gauge: values, swings: [1.7e308 * (-1) ** (i // 4) for i in range(600)]})
    told = [value for value in found["temp"].history.values if value == value]
    assert told
    assert all(math.isfinite(value) for value in told)
    rows = Plot(line=True).rows(found["swings"].history, T0, 40, 3, 1.7e308, -1.7e308)
    assert len(rows) == 3


def test_a_moment_of_the_past_and_what_ended_before_it() -> None:
    gauge = make_labels("temp", gpu="0")
    found = asked({gauge: [float(i) for i in range(600)]}, T0 - 300_000)
    assert found["temp"].value == 299.0
    store = head_of({gauge: [1.0] * 10})
    store.ingest("test", Scrape(T0 + 1, Shape([make_labels("y")], {}), [1.0]))  # the gauge ends
    with serving(store) as target:

        async def main() -> tuple[Reading, ...]:
            pictures = Pictures(target)
            try:
                return await pictures.readings('{gpu="0"}', T0 + 60_000, 300)
            finally:
                await pictures.close()

        assert asyncio.run(main()) == ()


def test_a_hole_is_a_hole() -> None:
    values = [1.0] * 100 + [math.nan] * 100 + [1.0] * 100
    (reading,) = asked({make_labels("temp", gpu="0"): values}).values()
    assert any(value != value for value in reading.history.values)
    assert reading.value == 1.0
