"""PromQL: what people, Grafana and rule files ask."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable
from pathlib import Path

from monitor.api.weight import weight
from monitor.promql.errors import Limits, PromQLError
from monitor.promql.evaluate import instant, latest, range_query
from monitor.promql.parse import parse_selector
from monitor.promql.plan import plan
from monitor.promql.signatures import AGGREGATIONS, FUNCTIONS
from monitor.rules.graph import comparisons_of
from monitor.rules.selector_text import selector_texts
from monitor.samples import labels_of
from monitor.selector import Matcher
from monitor.store.head import Head
from tests.fuzz.target import Broken, Target, text_of

_RULES = Path(__file__).resolve().parents[3] / "alerts.yaml"
_LIMITS = Limits(max_samples=50_000, max_bytes=4 << 20, max_points=100)
_NOW_MS = 600_000


def _store() -> Head:
    head = Head("j", "i")
    for name, labels in (
        ("x", {"a": "1", "b": "u"}),
        ("x", {"a": "2", "b": "v"}),
        ("y", {"a": "1"}),
        ("x_bucket", {"le": "0.5"}),
        ("x_bucket", {"le": "+Inf"}),
        ("n", {"a": "1"}),
    ):
        one = labels_of({"__name__": name, **labels})
        for k in range(61):
            value = float("nan") if name == "n" and k % 7 == 0 else (-1) ** k * 1e308 if name == "n" else k * 1.5
            head.append(one, k * 10_000, value)
    return head


_HEAD = _store()


def run(data: bytes) -> None:
    """Read it, and where it is a query evaluate it at one time and at several."""
    text = text_of(data)
    with contextlib.suppress(PromQLError):
        parse_selector(text)
    try:
        planned = plan(text)
    except PromQLError as error:
        if error.position is not None and not 0 <= error.position <= len(text):
            raise Broken(f"an error at {error.position} of {len(text)} characters: {error}") from None
        return
    comparisons_of(text)
    for one in selector_texts(text):
        if one.text not in text and not one.text:
            raise Broken(f"a selector that is not in the query: {one}")
    weight(planned.expr, 10, 100_000, _count)
    planned.earliest_ms(_NOW_MS)
    for ask in (_instant, _latest, _range):
        try:
            ask(text)
        except PromQLError:
            continue


def _count(matchers: Iterable[Matcher]) -> int:
    return len(_HEAD.select(list(matchers)))


def _instant(text: str) -> None:
    one = instant(plan(text), _HEAD, _NOW_MS, _LIMITS)
    two = instant(plan(text), _HEAD, _NOW_MS, _LIMITS)
    if repr(one) != repr(two):
        raise Broken("asked again, the answer is another")


def _latest(text: str) -> None:
    latest(plan(text), _HEAD, _NOW_MS, _LIMITS)


def _range(text: str) -> None:
    """Its last step is what an instant query gives at that time."""
    planned = plan(text)
    rows = range_query(planned, _HEAD, _NOW_MS - 30_000, _NOW_MS, 15_000, _LIMITS)
    if planned.type != "vector" or re.search(r"(?i)\b(start|end|limitk|limit_ratio)\b", text):
        return  # what is asked at the ends of a range is another question
    last = {labels: points[-1][1] for labels, points in rows if points and points[-1][0] == _NOW_MS}
    once = dict(instant(planned, _HEAD, _NOW_MS, _LIMITS).vector)
    if {k: repr(v) for k, v in last.items()} != {k: repr(v) for k, v in once.items()}:
        raise Broken(f"a range's last step {last!r}, an instant query {once!r}")


def seeds() -> Iterable[bytes]:
    """The shipped rules' expressions, and a few of each construct."""
    for expr in re.findall(r"expr: (?!\|)(.+)", _RULES.read_text()):
        yield expr.strip("'\" ").encode()
    for text in (
        'sum by (a) (rate(x{b=~"u|v"}[1m] offset -5s)) / on (a) group_left () y',
        "histogram_quantile(0.9, rate(x_bucket[5m])) or vector(1)",
        "topk(2, x) and ignoring (b) y unless x @ 100",
        "max_over_time((x + y * 2)[2m:15s] @ end())",
        'label_replace(x, "c", "$1-${b}", "a", "(.*)") == bool 1',
        'absent(z{a="1"}) and count_values("v", round(x, 0.1))',
        "-x ^ -2 ^ 3 % 2 > bool -1e3 atan2 0x1F",
        "x[1h:] offset 1d2h", "quantile_over_time(NaN, n[5m])", "predict_linear(n[1m], 1e300)", "time() - -Inf",
        'sort_by_label(x, "a")', "deriv(n[5m]) + stddev_over_time(n[5m])", 'x{"a"="1", a!~".+\\\\d"}', "day_of_year()",
    ):  # fmt: skip
        yield text.encode()


TARGET = Target(
    what="PromQL of people, Grafana and rule files",
    promise="an error's place is in the text; asked again it is the same; a range's last step is the instant query",
    modules=(
        "monitor.promql.lexer", "monitor.promql.parse", "monitor.promql.check", "monitor.promql.literals",
        "monitor.promql.cursor", "monitor.promql.plan", "monitor.promql.evaluate", "monitor.promql.binary",
        "monitor.promql.aggregate", "monitor.promql.functions", "monitor.promql.over_time", "monitor.promql.selectors",
        "monitor.promql.histograms", "monitor.promql.relabel", "monitor.promql.extrapolate", "monitor.promql.frame",
        "monitor.rules.graph", "monitor.rules.selector_text", "monitor.api.weight",
    ),
    run=run,
    seeds=seeds,
    words=(*FUNCTIONS, *AGGREGATIONS, " by (", " without (", " offset ", " @ ", " bool ", " on (", " group_left ",
           " ignoring (", "[5m]", "[5m:1m]", "=~", "!~", "atan2", "x", "y", "x_bucket", " or ", " unless ", "0x", "Inf"),
    longest=400,
)  # fmt: skip
