"""What may be evaluated in the loop, and what a live query must ask for anew."""

from __future__ import annotations

import pytest

from monitor.api.weight import looks_ahead, weight
from monitor.promql.plan import plan

HOUR_MS = 3_600_000
MANY = 11_000


def weigh(text: str, steps: int = 1, span_ms: int = 0) -> int:
    return weight(plan(text).expr, steps, span_ms, lambda matchers: 10)


@pytest.mark.parametrize(
    "text", ["g", "sum(rate(g[5m])) > 0.5", "max_over_time(g[1m]) / g", "histogram_quantile(0.9, g)"]
)
def test_what_screens_and_rules_ask_is_light(text: str) -> None:
    assert weigh(text) < 4000
    assert weigh(text, 60, 600_000) < 60_000


def test_what_is_made_counts_though_nothing_is_read() -> None:
    assert weigh(" + ".join(["vector(time())"] * 60), MANY, HOUR_MS) > 1_000_000
    assert weigh("count_over_time(vector(1)[50m:1ms])") > 1_000_000
    assert weigh("quantile_over_time(0.9, g[5m])", MANY, HOUR_MS) > 1_000_000
    assert weigh("max_over_time(rate(g[1m])[50m:1s])") > 100_000
    assert weigh("quantile by (a) (-(0.5), g)", MANY, HOUR_MS) > 400_000
    assert weigh("sum_over_time(g[1h])") > weigh("sum_over_time(g[5m])") > weigh("g")


@pytest.mark.parametrize(
    "text", ["g @ end()", "sum(rate(g[5m] @ start()))", "1 + g offset -5m", "avg_over_time(g[5m:1m] offset -1m)"]
)
def test_what_is_another_later_on(text: str) -> None:
    assert looks_ahead(plan(text).expr)
    assert not looks_ahead(plan("topk(2, sum by (a) (rate(g[5m] offset 5m))) or -g").expr)
