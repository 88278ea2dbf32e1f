"""A trend and its interval: found where it is, and not where there is only noise."""

from __future__ import annotations

import random

import pytest

from monitor.probes import drift
from monitor.probes.figures import Better
from monitor.probes.schema import GpuReading, Latency, Metrics, Readings, Step


def _points(values: list[float]) -> list[tuple[float, float]]:
    return [(60.0 * minute, value) for minute, value in enumerate(values)]


def test_an_exact_line_is_its_own_interval() -> None:
    found = drift.drift("ttft_p50", "ms", _points([100.0 + minute for minute in range(11)]), "lower")
    assert found is not None
    assert (found.begin, found.end, found.seconds, found.n) == pytest.approx((100.0, 110.0, 600.0, 11))
    assert (found.change, found.low, found.high) == pytest.approx((0.1, 0.1, 0.1))
    assert found.real
    assert found.worse


def test_a_known_line_by_hand() -> None:
    # x = 0, 1, 2, 3, 4, 5, 6; residuals +1 -1 -1 +2 -1 -1 +1 around 100 + 4x: orthogonal to 1 and to x, each unlike
    # the one before it. Squares 10, freedom 5, spread 28: the slope's error is sqrt(10 / 5 / 28), t is 2.571.
    values = [100 + 4 * x + left for x, left in enumerate([1, -1, -1, 2, -1, -1, 1])]
    found = drift.drift("f", "", [(float(x), float(value)) for x, value in enumerate(values)])
    assert found is not None
    half = 2.571 * (10 / 5 / 28) ** 0.5 * 6 / 100
    assert found.change == pytest.approx(0.24)
    assert found.high - found.change == pytest.approx(half, rel=0.01)
    assert found.change - found.low == pytest.approx(half, rel=0.01)


@pytest.mark.parametrize(
    ("freedom", "t"), [(1, 12.706), (2, 4.303), (3.5, 2.979), (5, 2.571), (10, 2.228), (30, 2.042), (1000, 1.962)]
)
def test_students_quantile_is_as_in_the_tables(freedom: float, t: float) -> None:
    assert drift.quantile(freedom) == pytest.approx(t, rel=0.01)


def _share_found(make: object, times: int = 200) -> float:
    found = 0
    for seed in range(times):
        rng = random.Random(seed)
        one = drift.drift("f", "", _points(make(rng)), "lower")  # type: ignore[operator]
        assert one is not None
        found += one.low > 0 or one.high < 0
    return found / times


def test_noise_is_seldom_taken_for_a_drift() -> None:
    assert _share_found(lambda rng: [100 + rng.gauss(0, 5) for _ in range(60)]) < 0.1


def test_minutes_that_resemble_each_other_are_seldom_taken_for_a_drift() -> None:
    def walk(rng: random.Random) -> list[float]:
        values, off = [], 0.0
        for _ in range(60):
            off = 0.6 * off + rng.gauss(0, 4)
            values.append(100 + off)
        return values

    assert _share_found(walk) < 0.12


def test_a_drift_as_large_as_the_noise_is_found() -> None:
    assert _share_found(lambda rng: [100 + minute / 6 + rng.gauss(0, 5) for minute in range(60)]) > 0.9


def test_what_is_sure_and_tiny_is_no_drift() -> None:
    found = drift.drift("f", "", _points([1000.0 + minute for minute in range(11)]), "lower")
    assert found is not None
    assert found.low > 0
    assert not found.real
    assert not found.worse


@pytest.mark.parametrize(
    ("better", "slope", "worse"),
    [("lower", 1, True), ("lower", -1, False), ("higher", -1, True), ("higher", 1, False), ("", 1, False)],
)
def test_worse_is_by_the_figure(better: Better, slope: int, worse: bool) -> None:
    found = drift.drift("f", "", _points([100.0 + slope * minute for minute in range(11)]), better)
    assert found is not None
    assert found.real
    assert found.worse is worse


@pytest.mark.parametrize(
    "points",
    [_points([1.0, 2, 3, 4]), [(5.0, 1.0)] * 6, _points([0.0] * 6), []],
    ids=["too few", "at one moment", "from nothing", "none"],
)
def test_what_has_no_trend_has_none(points: list[tuple[float, float]]) -> None:
    assert drift.drift("f", "", points) is None


def _step(minute: int, ttft: float, memory: float | None) -> Step:
    gpus = () if memory is None else (GpuReading("0", memory_used_bytes=memory),)
    metrics = Metrics(60.0, 10, 0, 100, 100, 1 / 6, 100 / 60, 200 / 60, ttft=Latency(10, median=ttft, p99=None))
    return Step("soak", f"minute {minute}", {"minute": minute}, minute * 60_000, minute * 60_000 + 60_000, metrics,
                readings=Readings(gpus=gpus))  # fmt: skip


def test_each_figure_that_was_measured_has_its_trend() -> None:
    steps = [_step(minute, 20.0 + minute, 1e9 + 1e8 * minute) for minute in range(6)]
    found = {one.figure: one for one in drift.drifts(list(reversed(steps)))}
    assert set(found) == {"ttft_p50", "output_throughput", "memory_used_bytes"}
    assert found["ttft_p50"].change == pytest.approx(0.25)
    assert found["memory_used_bytes"].change == pytest.approx(0.5)
    assert found["output_throughput"].change == pytest.approx(0)
    assert found["ttft_p50"].worse
    assert drift.drifts(steps[:4]) == ()
