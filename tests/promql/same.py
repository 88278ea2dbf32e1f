"""When two answers to an expression are the same, Prometheus' and ours: what may differ, and why.

``tests/live/test_promql_differential.py`` tells the reasons; the answers recorded in ``promtool_answers.json`` are
compared with the same measure."""

from __future__ import annotations

import math
import re

from monitor.promql.errors import PromQLError
from monitor.promql.evaluate import vector
from monitor.promql.plan import plan
from monitor.promql.signatures import AGGREGATIONS, FUNCTIONS
from tests.promql.generate import Made, store_of
from tests.promql.promtool import Outcome

APPROXIMATE = re.compile(
    r"\b(exp|ln|log2|log10|sin|cos|tan|asin|acos|atan|sinh|cosh|tanh|asinh|acosh|atanh|atan2)\b|\^", re.IGNORECASE
)
"""Go computes these itself and Python asks the C library: the last digits differ, and what is made of them."""

CHAOTIC = re.compile(
    r"\b(sin|cos|tan)\(.*(\^|exp|sinh|cosh)|(\^|exp\(|sinh|cosh).*%"
    r"|(%|round|floor|ceil|minute|hour|day|month|year|==|!=|[<>]).*(\^|exp|sinh|cosh)"
)
"""What turns a last digit into another value altogether: of these only the labels are compared."""

_INSIDE = r"(?:start\(\)|end\(\)|[^()])*"
FORGETFUL = re.compile(rf"\btimestamp\(\s*\(*{_INSIDE}(?:\boffset\b{_INSIDE}@|@{_INSIDE}\boffset\b)", re.IGNORECASE)
"""``timestamp`` of a selector that has both ``offset`` and ``@``: Prometheus forgets the offset."""

MISPLACED = re.compile(r"@.*\[[^\]]*:[^\]]*\][^\[]*@", re.DOTALL)
"""``@`` in a subquery that has one, too: where its first step is, by chance, the time of the query, Prometheus takes
the inner one for another time."""

UNORDERED = re.compile(r"\b(sum|avg|stddev|stdvar)\b", re.IGNORECASE)
"""Sums depend in their last digit on the order of what is added, and promtool's series are in that of a hash table."""


def ours(series: list[Made], queries: list[tuple[str, int]]) -> list[Outcome]:
    """What we give for each query, an expression and a time in milliseconds, over the series."""
    store = store_of(series)
    out: list[Outcome] = []
    for expr, at_ms in queries:
        try:
            out.append(dict(vector(plan(expr), store, at_ms)))
        except PromQLError as error:
            out.append(str(error))
    return out


def same_value(a: float, b: float, expr: str) -> bool:
    if a == b or (a != a and b != b):
        return True
    if CHAOTIC.search(expr):
        return True
    if APPROXIMATE.search(expr):
        return math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-12)
    return bool(UNORDERED.search(expr)) and math.isclose(a, b, rel_tol=1e-12, abs_tol=1e-12)


def same(a: Outcome, b: Outcome, expr: str) -> bool:
    if isinstance(a, str) and ("too many samples" in a or "unexpected all postings" in a):
        return True
    if FORGETFUL.search(expr) or MISPLACED.search(expr):
        return True
    if isinstance(a, str) or isinstance(b, str):
        # Which of several duplicates is named depends on their order, and which of two errors comes first on its.
        return isinstance(a, str) and isinstance(b, str) and "parse error" not in a + b
    return a.keys() == b.keys() and all(same_value(a[key], b[key], expr) for key in a)


def shown(outcome: Outcome) -> str:
    if isinstance(outcome, str):
        return f"error {outcome}"
    return ", ".join(f"{dict(key)} {value!r}" for key, value in sorted(outcome.items())) or "nothing"


def catalogue() -> list[str]:
    """Every function and every aggregation, alone."""
    samples = {"vector": ("x", "y > 2", "c_total"), "matrix": ("c_total[5m]", "x[1m]", "y[10m]", "sum(x)[5m:30s]"),
               "scalar": ("0.5", "3"), "string": ('"a"',)}  # fmt: skip
    out = []
    for name, signature in FUNCTIONS.items():
        if name in ("label_replace", "label_join"):
            continue
        for turn in range(4):
            arguments = [samples[kind][turn % len(samples[kind])] for kind in signature.arguments]
            out.append(f"{name}({', '.join(arguments)})")
    for name, parameter in AGGREGATIONS.items():
        first = "" if parameter is None else f"{samples[parameter][0]}, "
        out += [f"{name}{by}({first}{what})" for by in ("", " by (a) ", " without (b) ") for what in ("x", "c_total")]
    return out
