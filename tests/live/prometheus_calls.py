"""HTTP calls to Prometheus' API: those that Grafana's data source makes, and what people get wrong.

Grafana's are those of its backend (grafana/grafana, pkg/promlib: health check, heuristics, queries by POST and by GET,
resources) and of its front end (npm @grafana/prometheus 13.2.3), with the parameters that they have there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import parse_qsl

import httpx

Parameters = Sequence[tuple[str, str]]

GPUS = "DCGM_FI_DEV_GPU_TEMP"
FORM = "application/x-www-form-urlencoded"


@dataclass(frozen=True)
class Call:
    """One request. ``form`` goes in the body of a POST, ``query`` in the address."""

    method: str
    path: str
    query: Parameters = ()
    form: Parameters | None = None
    kind: str = FORM

    def __str__(self) -> str:
        shown = "&".join(f"{key}={value}" for key, value in self.query)
        body = "&".join(f"{key}={value}" for key, value in self.form or ())
        return f"{self.method} {self.path}{'?' + shown if shown else ''}{' < ' + body if body else ''}"

    def send(self, client: httpx.Client) -> httpx.Response:
        """The answer of the server that ``client`` is of."""
        content = str(httpx.QueryParams(list(self.form))) if self.form is not None else None
        headers = {"Content-Type": self.kind} if self.form is not None else {}
        return client.request(
            self.method, f"/api/v1/{self.path}", params=list(self.query), content=content, headers=headers
        )


def both_ways(path: str, *parameters: tuple[str, str]) -> Iterator[Call]:
    """By GET, and by POST with a form."""
    yield Call("GET", path, parameters)
    yield Call("POST", path, form=parameters)


def get(path: str, query: str = "") -> Call:
    """By GET, with a query string."""
    return Call("GET", path, tuple(parse_qsl(query, keep_blank_values=True)))


def of_grafana(now: float) -> Iterator[Call]:
    """What Grafana asks: "Save & test", panels, Explore, the query builder, variables, annotations, alert rules."""
    start, end = f"{now - 2:.3f}", f"{now:.3f}"
    span = (("start", f"{now - 2:.0f}"), ("end", f"{now:.0f}"))
    # The health check is an instant query at the end of a range from 1 to 4; then what application this is.
    yield from both_ways("query", ("query", "1+1"), ("time", "4"))
    yield Call("GET", "status/buildinfo")
    for timeout in ((), (("timeout", "60s"),)):  # set in the data source, or not
        yield from both_ways("query", ("query", f"count by (gpu) ({GPUS})"), ("time", end), *timeout)
        query = ("query", f"count({GPUS})")
        yield from both_ways("query_range", query, ("start", end), ("end", end), ("step", "1"), *timeout)
        yield from both_ways("query_range", query, ("start", start), ("end", end), ("step", "0.5"), *timeout)
    yield from both_ways("query_exemplars", ("query", GPUS), ("start", start), ("end", end))
    # Whether there are exemplars: the front end asks with milliseconds for seconds.
    yield Call("GET", "query_exemplars", (("query", "test"), ("start", f"{now * 1000 - 18e5:.0f}"),
                                          ("end", f"{now * 1000:.0f}")))  # fmt: skip
    # The front end's limit is 40000 where nothing else is set, and 0 for none.
    for limit in ("40000", "0", "1000"):
        yield from both_ways("labels", ("limit", limit), *span, ("match[]", GPUS))
        yield Call("GET", "label/gpu/values", (("limit", limit), *span, ("match[]", GPUS)))
        yield from both_ways("series", *span, ("match[]", GPUS), ("limit", limit))
    yield Call("GET", "label/__name__/values", (("limit", "40000"), *span, ("match[]", '{__name__=~"DCGM_.*TEMP"}')))
    yield Call("GET", "label/U__gpu/values", (*span, ("match[]", GPUS)))
    yield Call("GET", "label/none/values", (*span, ("limit", "40000")))
    yield from both_ways("series", ("match[]", '{gpu!="",__name__="DCGM_FI_DEV_GPU_TEMP"}'), *span, ("limit", "40000"))
    yield from both_ways("series", ("match[]", GPUS), *span)
    yield from both_ways("query", ("query", f"count({GPUS})"), ("time", f"{now:.0f}"))
    for metric in (GPUS, "vllm:time_to_first_token_seconds", "gpus:count", "none"):
        yield Call("GET", "metadata", (("metric", metric), ("limit", "40000")))
    for asked in (
        "", "type=alert", "type=record", "type=ALERT", "rule_name[]=Always", "rule_name[]=Always&rule_name[]=Never",
        "rule_group[]=two", "rule_group[]=none", "file[]=none", "exclude_alerts=true", "exclude_alerts=0",
        'match[]={severity="warning"}', 'match[]={made="yes"}', 'match[]={team="x"}',
        'match[]={severity=~"w.*",team=""}', 'match[]={severity=~"w.*",team!="x"}',
        'match[]={severity=~"w.*",team=~".*"}', 'match[]={severity!="x",no=""}',
        'match[]=x{severity="warning"}', 'match[]={made="yes"}&match[]={severity="critical"}', "rule_name[]=",
        "group_limit=1", "group_limit=1&type=record", "group_limit=2", "group_limit=9",
    ):  # fmt: skip
        yield get("rules", asked)
    yield Call("GET", "alerts")
    # What there is not is looked for, too: then Grafana does without.
    for path in ("search/metric_names", "suggestions", "features"):
        yield Call("GET", path)


TIMES = (
    "NaN", "nan", "+NaN", "Inf", "+Inf", "-Inf", "inf", "infinity", "1e3", "1E3", "1.5e3", "0x10", "0x1p4", "1_000",
    "1__0",
    "+5", "-5", ".5", "5.", "1e13", "1e18", "1e20", "9223372036854775", "92233720368547758", "1700000000.0005",
    "1700000000.9999", "1e400", "-1e400", "1d", "now", " 1", "2024-01-01", "2024-01-01T00:00:00Z",
    "2024-01-01T00:00:00z",
    "2024-01-01t00:00:00Z", "2024-01-01T00:00:00", "2024-01-01T00:00:00.123456789Z", "2024-01-01T00:00:00.1234567891Z",
    "2024-01-01T00:00:00,5Z", "2024-01-01T0:00:00Z", "2024-01-01T00:00:00+01:00", "2024-01-01T00:00:00-23:59",
    "2024-01-01T00:00:00+0100", "2024-01-01T24:00:00Z", "2024-02-29T00:00:00Z", "2024-02-30T00:00:00Z",
    "2023-02-29T00:00:00Z", "20240101T000000Z", "2024-01-01T00:00Z", "2024-W01-1T00:00:00Z", "2024-01-01T00:00:60Z",
    "0000-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "-292273086-05-16T16:47:06Z",
    "292277025-08-18T07:12:54.999999999Z",
)  # fmt: skip
STEPS = (
    "NaN", "Inf", "-Inf", "0", "-1", "1e3", "5", "5.5", "1s", "1h30m", "1h30", "-5s", "0s", "", "x", "1.5h", "1y",
    "1e30",
    "9223372037", "9223372036", "5ms", "1w2d", "1d1w", "0x10", "1_0", "1ns", "10m5s",
)  # fmt: skip
LIMITS = ("0", "-1", "3", "+3", "1.5", "a", "", "1e2", "99999999999999999999", "0x1", "1_0", " 1")
SELECTORS = (
    "", "{}", '{a=""}', '{a=~".*"}', "sum(x)", "{", "x y", "none", '{__name__=~"gpus:.*"}', '{"gpus:count"}',
    'x{a="b" or c="d"}', "x offset 5m", "x[5m]", "(x)", "1", "x{a=1}", '{a="b"', "gpus:count # why",
)  # fmt: skip


def of_people(now: float) -> Iterator[Call]:
    """What is odd, and what is wrong."""
    span = (("start", f"{now - 2:.0f}"), ("end", f"{now:.0f}"))
    for text in TIMES:
        yield Call("GET", "query", (("query", "time()"), ("time", text)))
        yield Call("GET", "query_range", (("query", "1"), ("start", text), ("end", "5"), ("step", "1000000000")))
    for text in STEPS:
        yield Call("GET", "query_range", (("query", "1"), ("start", "0"), ("end", "1"), ("step", text)))
        yield Call("GET", "query", (("query", "1"), ("time", "0"), ("lookback_delta", text)))
    for text in ("x", "1h30", "Inf", "1ns", "60", "1m", ""):
        yield from both_ways("query", ("query", "1"), ("time", "0"), ("timeout", text))
    for text in LIMITS:
        yield Call("GET", "labels", (("limit", text), ("match[]", GPUS), *span))
        yield Call("GET", "query", (("limit", text), ("query", "vector(1)"), ("time", "1")))
        yield Call("GET", "metadata", (("limit", text), ("metric", GPUS)))
        yield Call("GET", "metadata", (("limit_per_metric", text), ("metric", GPUS)))
        yield Call("GET", "rules", (("group_limit", text),))
        if text not in ("3", "+3", ""):
            yield Call("GET", "status/tsdb", (("limit", text),))
    for text in SELECTORS:
        yield from both_ways("labels", ("match[]", text), *span)
        yield from both_ways("series", ("match[]", text), *span)
        yield Call("GET", "label/gpu/values", (("match[]", text), *span))
        yield Call("GET", "rules", (("match[]", text),))
    for path in ("labels", "series", "label/gpu/values"):
        for query in ("start=x", "end=x", "start=NaN", "end=", "start=", "start=-5", "start=5&end=1", "start=5&end=10"):
            yield get(path, f"match[]={GPUS}&{query}")
    for query in (
        "query=1&end=1&step=1", "query=1&start=1&end=1", "query=1&start=5&end=1&step=0", "start=1&end=1&step=1",
        "query={&start=1&end=1&step=1", f"query={GPUS}[5m]&start=1&end=1&step=1", "query='x'&start=1&end=1&step=1",
        "query=1&start=0&end=11000&step=1", "query=1&start=0&end=11000.999&step=1", "query=1&start=0&end=11001&step=1",
        "query=1&start=-1e30&end=5&step=1&limit=x",
    ):  # fmt: skip
        yield from both_ways("query_range", *parse_qsl(query))
    for query in ("", "query=", "query=sum(1)", "query=rate(x)", "query='x'&time=1.5", "query=vector(1)&time=1.5",
                  "query=1/0&time=1.5", f"query={GPUS} > 1e9", "query=1&query=2&time=1", "query=%23 no"):  # fmt: skip
        yield from both_ways("query", *parse_qsl(query, keep_blank_values=True))
    for query in ("query=1", "query=", "query=x&start=a", "query=x&end=NaN", "query=x&start=1&end=0", "query=rate(x)"):
        yield from both_ways("query_exemplars", *parse_qsl(query, keep_blank_values=True))
    for query in ("type=odd", "exclude_alerts=odd", "group_next_token=x", "group_limit=1&group_next_token=x"):
        yield get("rules", query)
    for name in ("in-valid", "U__in_2d_valid", "U__gp_75_", "U__gp_75", "1x", "%22gpu%22", "ü", "a b"):
        yield Call("GET", f"label/{name}/values", (("match[]", GPUS), *span))
    yield Call("POST", "query", (("query", "2"), ("time", "1")), form=(("query", "1"),))
    yield Call("POST", "query", (("query", "2"), ("time", "1")), form=(("query", "1"),), kind="application/json")
    yield Call("POST", "query", form=(("query", "1"),), kind="text/plain")
    yield Call("POST", "query", form=(("query", "1"), ("time", "1")), kind=f"{FORM}; charset=utf-8")
    yield Call("POST", "series", (("match[]", GPUS), *span), form=(("match[]", "gpus:count"),))
    for method, path in (("PUT", "query"), ("HEAD", "query"), ("HEAD", "labels"), ("POST", "status/buildinfo"),
                         ("POST", "metadata"), ("POST", "rules"), ("POST", "alerts"), ("POST", "label/gpu/values"),
                         ("DELETE", "labels")):  # fmt: skip
        yield Call(method, path)
    for path in ("nothing", "status/nothing", "", "label/a%2Fb/values"):
        yield Call("GET", path)
