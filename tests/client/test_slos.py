"""Targets as a person writes them."""

from __future__ import annotations

import pytest

from monitor.client.slos import SloError, parse_slos, slos_text
from monitor.probes.schema import Slo


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", ()),
        ("ttft=500ms", (Slo("ttft", 500.0, 99.0),)),
        ("ttft=500ms,tpot=50ms,p90", (Slo("ttft", 500.0, 90.0), Slo("tpot", 50.0, 90.0))),
        ("p95, ITL=20 , e2el=1.5s", (Slo("itl", 20.0, 95.0), Slo("e2el", 1500.0, 95.0))),
        ("ttft=500ms@p50,itl=20ms@p99.9,p90", (Slo("ttft", 500.0, 50.0), Slo("itl", 20.0, 99.9))),
        ("e2el=3s@p100", (Slo("e2el", 3000.0, 100.0),)),
    ],
)
def test_what_is_meant(text: str, wanted: tuple[Slo, ...]) -> None:
    assert parse_slos(text) == wanted


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("first=5ms", "'first' is none of ttft, tpot, itl, e2el"),
        ("ttft=", "'nothing' is no time"),
        ("ttft=0", "'0' is no time"),
        ("ttft=5m", "'5m' is no time"),
        ("ttft=-5ms", "'-5ms' is no time"),
        ("ttft", "'ttft' is no percentile"),
        ("p49,ttft=1ms", "'p49' is no percentile of p50 to p100"),
        ("ttft=1ms@p101", "'p101' is no percentile"),
        ("ttft=1ms@", "'' is no percentile"),
    ],
)
def test_what_cannot_be_meant_is_named_with_what_can(text: str, said: str) -> None:
    with pytest.raises(SloError) as error:
        parse_slos(text)
    assert said in str(error.value)
    assert "p50 to p100" in said or "ttft=500ms,tpot=50ms,p99" in str(error.value)


def test_they_are_told_in_words() -> None:
    assert slos_text(parse_slos("ttft=0.5s,itl=20ms@p95")) == "ttft p99 ≤ 500 ms, itl p95 ≤ 20 ms"
