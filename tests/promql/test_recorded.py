"""Answers and refusals of a real Prometheus, recorded by ``python -m tests.promql.record``, are ours too."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest

from monitor.promql.errors import PromQLError
from monitor.promql.plan import plan
from monitor.samples import STALE, Labels
from tests.promql.generate import Made
from tests.promql.promtool import Outcome
from tests.promql.record import RECORD
from tests.promql.same import ours, same, shown


@cache
def recorded() -> dict[str, Any]:
    return json.loads(RECORD.read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def as_labels(pairs: list[list[str]]) -> Labels:
    return tuple((name, value) for name, value in pairs)


# In parts, so that they say more of where a fault is than that there is one.
PARTS = 12


@pytest.mark.parametrize("part", range(PARTS))
def test_expressions_give_what_prometheus_gave(part: int) -> None:
    series = [
        Made(as_labels(labels), tuple(STALE if value == "stale" else value for value in values))
        for labels, values in recorded()["series"]
    ]
    rows = recorded()["answers"][part::PARTS]
    assert rows
    answers = ours(series, [(expr, at_ms) for expr, at_ms, _ in rows])
    for (expr, at_ms, theirs), mine in zip(rows, answers, strict=True):
        outcome: Outcome = theirs if isinstance(theirs, str) else {as_labels(pairs): value for pairs, value in theirs}
        assert same(outcome, mine, expr), f"{expr} at {at_ms}: Prometheus {shown(outcome)}, gpumon {shown(mine)}"


def test_what_prometheus_refused_is_refused_in_its_words_at_its_place() -> None:
    for text, words in recorded()["refusals"]:
        with pytest.raises(PromQLError) as caught:
            plan(text)
        assert str(caught.value) == words, text
