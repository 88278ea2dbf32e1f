"""Roll-ups in the language: whatever is asked, the answer is to the last bit the one from the samples."""

from __future__ import annotations

import math
import random
import struct
from array import array
from bisect import bisect_right
from collections.abc import Sequence

import pytest

from monitor.promql.errors import Limits, PromQLError
from monitor.promql.evaluate import instant, range_query
from monitor.promql.plan import Plan, plan
from monitor.promql.rolled import ROLLED
from monitor.samples import STALE, Labels, label, labels_of, make_labels
from monitor.selector import MINUTE_MS, Matcher, Minutes
from monitor.store.minutes import decode, encode, join, minutes_of
from tests.promql.generate import Expressions

HOUR = 60 * MINUTE_MS
SPAN = 4 * HOUR

Answer = list[tuple[Labels, list[tuple[int, bytes]]]] | str


class Rolled:
    """A series of arrays, which offers roll-ups in hourly blocks where it is told to."""

    def __init__(self, labels: Labels, times: array[int], values: array[float], *, offers: bool) -> None:
        self.labels = labels
        self.times, self.values, self.offers = times, values, offers
        self.read = self.rolled = 0
        self._blocks = (
            [decode(encode(minutes_of(times, values, t, t + HOUR))) for t in range(-2 * HOUR, SPAN, HOUR)]
            if offers
            else []
        )

    def window(self, start_ms: int, end_ms: int) -> tuple[Sequence[int], Sequence[float]]:
        self.read += 1
        low, high = bisect_right(self.times, start_ms), bisect_right(self.times, end_ms)
        return self.times[low:high], self.values[low:high]

    def last(self, start_ms: int, end_ms: int) -> tuple[int, float] | None:
        i = bisect_right(self.times, end_ms) - 1
        return (self.times[i], self.values[i]) if i >= 0 and self.times[i] > start_ms else None

    def minutes(self, start_ms: int, end_ms: int) -> Minutes | None:
        if not self.offers:
            return None
        assert start_ms % MINUTE_MS == end_ms % MINUTE_MS == 0
        self.rolled += 1
        return join(self._blocks, start_ms, end_ms)


class Store:
    epoch = 1

    def __init__(self, series: Sequence[Rolled]) -> None:
        self.series = sorted(series, key=lambda one: one.labels)

    def select(self, matchers: Sequence[Matcher]) -> Sequence[Rolled]:
        return [s for s in self.series if all(m.matches(label(s.labels, m.name)) for m in matchers)]


def stores(series: Sequence[tuple[Labels, array[int], array[float]]], *, some: bool = False) -> tuple[Store, Store]:
    """The same series with and without roll-ups; with ``some``, not all have them."""
    plain = [Rolled(*one, offers=False) for one in series]
    rolled = [Rolled(*one, offers=not some or i % 5 != 0) for i, one in enumerate(series)]
    return Store(plain), Store(rolled)


def values_of(rng: random.Random, name: str, count: int) -> list[float]:
    kind = rng.randrange(6)
    level = float(rng.randrange(100))
    out: list[float] = []
    if name in ("c_total", "h_bucket") and kind > 0:
        rate, reset = rng.choice((0.0, 1.0, 0.1, 1e12)), rng.choice((0.0, 0.002, 0.02))
        for _ in range(count):
            level = rng.random() * rng.choice((0.0, 1.0, 50.0)) if rng.random() < reset else level
            level += rate * rng.choice((0, 0, 1, 3, 7))
            out.append(level)
        return out
    if kind == 0:
        odd = (math.nan, math.inf, -math.inf, 0.0, -0.0, 1e300, -1e-300, 3.0)
        return [rng.choice(odd) if rng.random() < 0.3 else float(rng.randrange(9)) for _ in range(count)]
    if kind == 1:
        return [rng.choice((0.0, -0.0)) for _ in range(count)]
    if kind == 2:
        return [float(rng.randrange(-50, 51)) for _ in range(count)]
    if kind == 3:
        return [round(690 + rng.gauss(0, 9), 2) for _ in range(count)]
    if kind == 4:
        return [2.0**47 * rng.randrange(4) for _ in range(count)]
    return [level] * count


def series_of(rng: random.Random) -> list[tuple[Labels, array[int], array[float]]]:
    """Gauges, counters, a histogram; on and off the minutes, with gaps and ends of any length."""
    names = [make_labels(name, a=a, b=b) for name in "xy" for a, b in (("1", "p"), ("2", ""))]
    names += [make_labels("c_total", a=a, instance=i) for a, i in (("1", "m"), ("1", "n"), ("2", "m"))]
    names += [make_labels("h_bucket", a="1", le=le) for le in ("0.1", "2.5", "+Inf")]
    names += [make_labels("i_info", a=a, v="v1") for a in "12"]
    out = []
    for labels in names:
        spacing, phase = rng.choice(((15_000, 0), (15_000, 123), (20_000, 7), (60_000, 0), (61_000, 0), (130_000, 5)))
        at, times = phase - HOUR, array("q")
        while at <= SPAN:
            times.append(at + rng.choice((0, 0, 0, 1, -1)) * (spacing == 20_000))
            at += spacing
            if rng.random() < 0.004:
                at += rng.choice((MINUTE_MS, 5 * MINUTE_MS, rng.randrange(HOUR)))
        values = array("d", values_of(rng, label(labels, "__name__"), len(times)))
        for _ in range(rng.choice((0, 1, 8))):
            values[rng.randrange(len(values))] = STALE
        out.append((labels, times, values))
    return out


def bits(value: float) -> bytes:
    return b"NaN" if value != value else struct.pack("<d", value)


def answer(of: Plan, store: Store, start_ms: int, end_ms: int, step_ms: int) -> Answer:
    try:
        found = range_query(of, store, start_ms, end_ms, step_ms)
    except PromQLError as error:
        return str(error)
    return [(labels, [(t, bits(v)) for t, v in points]) for labels, points in found]


@pytest.mark.parametrize("seed", range(10))
def test_any_expression_gives_the_same_with_roll_ups(seed: int) -> None:
    rng = random.Random(seed)
    expressions = Expressions(rng)
    plain, rolled = stores(series_of(rng), some=seed % 2 == 1)
    answered = 0
    for _ in range(60):
        text = expressions.any()
        step_ms = rng.choice((1, 2, 5, 5, 5)) * MINUTE_MS
        start_ms = rng.randrange(60) * MINUTE_MS + rng.choice((0, 0, 0, 1, 30_000))
        end_ms = start_ms + rng.choice((70, 90, 120)) * MINUTE_MS
        made = plan(text)
        want = answer(made, plain, start_ms, end_ms, step_ms)
        assert answer(plan(text), rolled, start_ms, end_ms, step_ms) == want, (text, start_ms, end_ms, step_ms)
        answered += not isinstance(want, str) and bool(want)
    assert answered > 20
    assert sum(one.rolled for one in rolled.series) > 30


FUNCTIONS = (
    "avg_over_time",
    "changes",
    "count_over_time",
    "delta",
    "deriv",
    "idelta",
    "increase",
    "irate",
    "last_over_time",
    "max_over_time",
    "min_over_time",
    "present_over_time",
    "rate",
    "resets",
    "stddev_over_time",
    "stdvar_over_time",
    "sum_over_time",
)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_every_function_of_a_range_gives_the_same(function: str) -> None:
    rng = random.Random(function)
    for _ in range(2 if function in ROLLED else 1):
        series = [(labels_of({**dict(one[0]), "n": str(i)}), *one[1:]) for i, one in enumerate(series_of(rng))]
        plain, rolled = stores(series)
        for window in ("1m", "5m", "17m", "90m") if function in ROLLED else ("5m",):
            for when in ("", " offset 7m", " offset -3m", " offset 20s", " @ 7200", " @ end()"):
                text = f'{function}({{__name__=~".+"}}[{window}]{when})'
                for start_ms, step_ms in ((30 * MINUTE_MS, 5 * MINUTE_MS), (-20 * MINUTE_MS, MINUTE_MS)):
                    end_ms = start_ms + 75 * MINUTE_MS
                    want = answer(plan(text), plain, start_ms, end_ms, step_ms)
                    assert want
                    got = answer(plan(text), rolled, start_ms, end_ms, step_ms)
                    assert isinstance(got, list), got
                    assert got == want, (text, start_ms)


def regular(values: Sequence[float], name: str = "x") -> tuple[Labels, array[int], array[float]]:
    return make_labels(name), array("q", range(250, 250 + 1000 * len(values), 1000)), array("d", values)


COUNTER = [float(k // 3) for k in range(14_000)]
NOISE = [math.sin(k) for k in range(14_000)]
GAUGE = [float(k * 7919 % 101) for k in range(14_000)]


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("x", NOISE),
        ("x offset 10m", NOISE),
        ("timestamp(x)", NOISE),
        ("rate(x[5m])", COUNTER),
        ("rate(x[1m] offset 1m)", COUNTER),
        ("increase(x[1h])", [*COUNTER[:5000], *COUNTER[:9000]]),
        ("resets(x[1h])", [*COUNTER[:5000], *COUNTER[:9000]]),
        ("delta(x[5m])", NOISE),
        ("max_over_time(x[5m])", NOISE),
        ("min_over_time(x[5m])", NOISE),
        ("count_over_time(x[5m])", NOISE),
        ("last_over_time(x[5m])", NOISE),
        ("present_over_time(x[5m])", NOISE),
        ("avg_over_time(x[5m])", GAUGE),
        ("sum_over_time(x[5m])", GAUGE),
        ("avg_over_time(x[2h:1m])", NOISE),
        ("max_over_time(rate(x[5m])[2h:1m])", COUNTER),
        ('count_values("v", x)', GAUGE),
        ("quantile(0.5, rate(x[5m]) > 0.1)", COUNTER),
    ],
)
def test_what_roll_ups_can_answer_reads_no_samples(text: str, values: list[float]) -> None:
    plain, rolled = stores([regular(values)])
    got = answer(plan(text), rolled, HOUR, 3 * HOUR, 5 * MINUTE_MS)
    assert got == answer(plan(text), plain, HOUR, 3 * HOUR, 5 * MINUTE_MS)
    assert isinstance(got, list)
    assert sum(len(points) for _, points in got) == 25
    (one,) = rolled.series
    assert one.rolled == 1
    assert one.read == 0


@pytest.mark.parametrize(
    ("text", "values", "start_ms", "step_ms"),
    [
        ("avg_over_time(x[5m])", NOISE, HOUR, 5 * MINUTE_MS),  # sums that are rounded
        ("sum_over_time(x[5m])", [2.0**50] * 14_000, HOUR, 5 * MINUTE_MS),
        ("sum_over_time(x[5m])", [2.0**46] * 14_000, HOUR, 5 * MINUTE_MS),  # exact in each minute, but not in five
        ("avg_over_time(x[5m])", [2.0**46 + 1] * 14_000, HOUR, 5 * MINUTE_MS),
        ("sum_over_time(x[5m])", [-(2.0**46) - 1] * 14_000, HOUR, 5 * MINUTE_MS),
        ("avg_over_time(x[5m])", [-(2.0**46) - 1, 3.0] * 7000, HOUR, 5 * MINUTE_MS),
        ("rate(x[5m])", GAUGE, HOUR, 5 * MINUTE_MS),  # resets in every minute
        ("irate(x[5m])", COUNTER, HOUR, 5 * MINUTE_MS),
        ("changes(x[5m])", COUNTER, HOUR, 5 * MINUTE_MS),
        ("quantile_over_time(0.5, x[5m])", NOISE, HOUR, 5 * MINUTE_MS),
        ("x", NOISE, HOUR + 1, 5 * MINUTE_MS),
        ("x", NOISE, HOUR, 90_000),
        ("x offset 20s", NOISE, HOUR, 5 * MINUTE_MS),
        ("rate(x[5m])", COUNTER, HOUR + 1, 5 * MINUTE_MS),
        ("rate(x[100s])", COUNTER, HOUR, 5 * MINUTE_MS),
        ("rate(x[5m])", COUNTER, HOUR, 90_000),
        ("rate(x[5m] offset 20s)", COUNTER, HOUR, 5 * MINUTE_MS),
    ],
)
def test_what_roll_ups_cannot_answer_reads_samples(text: str, values: list[float], start_ms: int, step_ms: int) -> None:
    plain, rolled = stores([regular(values)])
    got = answer(plan(text), rolled, start_ms, 3 * HOUR, step_ms)
    assert got == answer(plan(text), plain, start_ms, 3 * HOUR, step_ms)
    assert isinstance(got, list)
    assert len(got[0][1]) > 1
    assert rolled.series[0].read == 1


def test_a_long_window_at_one_moment_is_answered_from_roll_ups_too() -> None:
    plain, rolled = stores([regular(COUNTER)])
    for text in ("increase(x[2h])", "max_over_time(x[3h] @ 10800)"):
        want = instant(plan(text), plain, 3 * HOUR).vector
        assert want
        assert instant(plan(text), rolled, 3 * HOUR).vector == want
    assert rolled.series[0].read == 0
    assert rolled.series[0].rolled == 2


def test_a_short_lookback_reads_samples() -> None:
    plain, rolled = stores([regular(NOISE)])
    for lookback_ms, read in ((30_000, 1), (60_000, 0), (61_000, 0)):
        made = plan("x", lookback_ms=lookback_ms)
        rolled.series[0].read = 0
        want = answer(made, plain, HOUR, 3 * HOUR, 5 * MINUTE_MS)
        assert answer(plan("x", lookback_ms=lookback_ms), rolled, HOUR, 3 * HOUR, 5 * MINUTE_MS) == want
        assert rolled.series[0].read == read


def test_lookback_ends_between_minutes() -> None:
    """A gap after 00:30:00.250: the sample is found up to five minutes later, to the millisecond."""
    times = array("q", (t for t in range(250, 3 * HOUR, 1000) if not 1_800_250 < t < 2 * HOUR))
    one = (make_labels("x"), times, array("d", range(len(times))))
    plain, rolled = stores([one])
    for lookback_ms in (5 * MINUTE_MS, 299_749, 299_750, 299_751):
        want = answer(plan("x", lookback_ms=lookback_ms), plain, 0, 3 * HOUR, MINUTE_MS)
        assert answer(plan("x", lookback_ms=lookback_ms), rolled, 0, 3 * HOUR, MINUTE_MS) == want
    assert rolled.series[0].read == 0


@pytest.mark.parametrize("text", ["x", "timestamp(x)", "x offset 7m", "timestamp(x offset 7m)"])
@pytest.mark.parametrize("after_ms", [-1, 0, 1, 30_000])
def test_a_series_that_stops_is_found_just_as_long(text: str, after_ms: int) -> None:
    """Its last sample, and a staleness marker where there is one, in any minute about the first one that is asked."""
    for minute in range(45, 63):
        for marker_ms in (None, 1, MINUTE_MS - 1, MINUTE_MS, 3 * MINUTE_MS):
            last_ms = minute * MINUTE_MS + after_ms
            times = array("q", range(last_ms - 30 * MINUTE_MS, last_ms + 1, 20_000))
            values = array("d", range(len(times)))
            if marker_ms is not None:
                times.append(last_ms + marker_ms)
                values.append(STALE)
            plain, rolled = stores([(make_labels("x"), times, values)])
            want = answer(plan(text), plain, HOUR, 2 * HOUR, MINUTE_MS)
            assert answer(plan(text), rolled, HOUR, 2 * HOUR, MINUTE_MS) == want, (minute, marker_ms)
            assert rolled.series[0].read == 0


@pytest.mark.parametrize(
    "text", ["rate(x[1m])", "increase(x[3m])", "max_over_time(x[3m])", "min_over_time(x[3m])", "last_over_time(x[1m])"]
)
def test_what_has_holes_is_answered_from_roll_ups_too(text: str) -> None:
    labels, times, values = regular(COUNTER)
    there = [k for k in range(len(times)) if times[k] // MINUTE_MS % 11 not in (3, 4, 5, 6, 8)]
    holes = labels, array("q", (times[k] for k in there)), array("d", (values[k] for k in there))
    plain, rolled = stores([holes])
    want = answer(plan(text), plain, HOUR, 3 * HOUR, MINUTE_MS)
    assert isinstance(want, list)
    assert 40 < len(want[0][1]) < 121
    assert answer(plan(text), rolled, HOUR, 3 * HOUR, MINUTE_MS) == want
    assert rolled.series[0].read == 0


@pytest.mark.parametrize(("text", "minutes"), [("x", 60), ("timestamp(x)", 60), ("rate(x[5m])", 55)])
def test_what_reaches_over_an_hour_is_worth_roll_ups(text: str, minutes: int) -> None:
    for more, read in ((-1, 1), (0, 0)):
        _, rolled = stores([regular(COUNTER)])
        assert isinstance(answer(plan(text), rolled, HOUR, HOUR + (minutes + more) * MINUTE_MS, MINUTE_MS), list)
        assert rolled.series[0].read == read


@pytest.mark.parametrize(
    ("text", "values", "samples"),
    [
        ("x", NOISE, 25 + 125),
        ("timestamp(x)", NOISE, 25 + 125),
        ("rate(x[5m])", COUNTER, 25 + 125),
        ("sum_over_time(x[5m])", NOISE, 25 + 125 + 125 * 60),  # which they cannot answer
    ],
)
def test_the_minutes_that_a_query_reads_are_limited(text: str, values: list[float], samples: int) -> None:
    _, rolled = stores([regular(values)])
    assert range_query(plan(text), rolled, HOUR, 3 * HOUR, 5 * MINUTE_MS, Limits(max_samples=samples))
    with pytest.raises(PromQLError, match="too many samples"):
        range_query(plan(text), rolled, HOUR, 3 * HOUR, 5 * MINUTE_MS, Limits(max_samples=samples - 1))


def test_roll_ups_count_less_against_the_limit_of_samples() -> None:
    plain, rolled = stores([regular(COUNTER)])
    tight = Limits(max_samples=2000)
    with pytest.raises(PromQLError, match="too many samples"):
        range_query(plan("rate(x[5m])"), plain, HOUR, 3 * HOUR, 5 * MINUTE_MS, tight)
    assert range_query(plan("rate(x[5m])"), rolled, HOUR, 3 * HOUR, 5 * MINUTE_MS, tight)
