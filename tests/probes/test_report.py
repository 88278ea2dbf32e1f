"""Reports: the answer first, every number there, and nothing of a stranger's in the markup."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import msgspec
import pytest

from monitor.paper import svg as drawing
from monitor.paper.chart import Axis, Chart, Line, Mark
from monitor.probes import report_html, report_markdown, report_tables
from monitor.probes.report_charts import charts
from monitor.probes.schema import WORKLOADS, Result, WorkloadName
from tests.probes.made_results import made, without_records

EVIL = "</style><script>alert(1)</script>\"'`|[x](javascript:1) $&<img src=x onerror=y>"
VOID = {"meta", "br", "link", "img", "input", "hr"}


class Page(HTMLParser):
    """Reads a page as a browser would, and holds it to its own policy."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: set[tuple[str, str]] = set()
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {(name, value or "") for name, value in attrs}
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {(name, value or "") for name, value in attrs}

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text.append(data)


def page_of(result: Result) -> Page:
    page = Page()
    page.feed(report_html.report(result))
    page.close()
    assert page.open == []
    return page


def evil(result: Result) -> Result:
    """Everything that comes from others, hostile."""
    step = result.steps[0]
    step = msgspec.structs.replace(
        step,
        name=EVIL,
        invalid=(EVIL,),
        metrics=msgspec.structs.replace(step.metrics, errors={EVIL: 3}, failures={"broken": 3}),
        groups={EVIL: step.metrics, "other": step.metrics},
        readings=msgspec.structs.replace(step.readings, notes=(EVIL,)),
    )
    finding = msgspec.structs.replace(result.findings[0], text=EVIL)
    return msgspec.structs.replace(
        result,
        id=EVIL,
        state="failed",
        error=EVIL,
        steps=(step, *result.steps[1:]),
        findings=(finding,),
        headline={EVIL: 1.0},
        facts=msgspec.structs.replace(
            result.facts, model=EVIL, server=EVIL, server_version=EVIL, gpus=(EVIL,), cache_config={EVIL: EVIL}
        ),
        spec=msgspec.structs.replace(result.spec, name=EVIL, labels={EVIL: EVIL}, options={EVIL: EVIL}),
        traces=(EVIL,),
    )


# -- the page -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workload", WORKLOADS)
def test_the_page_is_whole_and_asks_for_nothing(workload: WorkloadName) -> None:
    page = page_of(made(workload, few=True))
    assert not page.tags & {"script", "link", "img", "iframe", "object", "embed", "base", "form", "a", "foreignobject"}
    names = {name for name, _ in page.attributes}
    assert not names & {"src", "href", "xlink:href", "style", "action"}
    assert not any(name.startswith("on") for name in names)
    assert "url(" not in report_html.report(made(workload, few=True))


def test_the_policy_forbids_all_but_its_own_style() -> None:
    text = report_html.report(made("latency", few=True))
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', text)
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert text.count("<style>") == 1


def test_strangers_words_are_words() -> None:
    for workload in WORKLOADS:
        page = page_of(evil(made(workload, few=True)))
        assert not page.tags & {"script", "img"}
        assert "".join(page.text).count("<script>alert(1)</script>") > 10


def test_the_answer_comes_first() -> None:
    result = made("throughput", few=True)
    text = " ".join(page_of(result).text)
    places = [
        text.index(words)
        for words in ("output tokens", "More than 64 requests", "Can it be trusted?", "Plots", "Numbers", "seed")
    ]
    assert places == sorted(places)


def test_what_does_not_count_is_said_at_the_top() -> None:
    result = msgspec.structs.replace(made("latency", few=True), invalid=("cached tokens: 512",))
    text = "".join(page_of(result).text)
    assert text.index("This does not count: cached tokens: 512") < text.index("Plots")
    cancelled = made("latency", few=True, state="cancelled")
    assert "It was cancelled" in "".join(page_of(cancelled).text)


def test_a_simulated_server_is_called_so() -> None:
    result = made("latency", few=True)
    result = msgspec.structs.replace(result, facts=msgspec.structs.replace(result.facts, simulated=True))
    assert "Simulated:" in "".join(page_of(result).text)
    assert "**Simulated:**" in report_markdown.summary(result)


def test_nothing_measured_is_a_report_too() -> None:
    result = msgspec.structs.replace(
        made("latency", few=True), steps=(), findings=(), headline={}, accuracy=None, state="failed", error="gone"
    )
    assert "It failed: gone" in "".join(page_of(result).text)
    assert "**It failed: gone**" in report_markdown.summary(result)


# -- markdown -------------------------------------------------------------------------------------------------------


def test_tables_in_markdown_have_one_width() -> None:
    for workload in WORKLOADS:
        text = report_markdown.summary(evil(made(workload, few=True)))
        assert not re.search(r"(?<!\\)<(script|img)", text)
        width = 0
        for line in text.splitlines():
            cells = line.replace("\\|", "").count("|")
            assert not (line.startswith("|") and width) or cells == width, line
            width = cells if line.startswith("|") else 0


def test_every_number_of_the_sweep_is_in_the_summary() -> None:
    result = made("throughput", few=True)
    text = report_markdown.summary(result)
    for step in result.steps:
        assert report_tables.number(step.metrics.output_throughput) in text
        assert report_tables.number(step.metrics.ttft.p99) in text
    assert "× 3.8" in text, "the factor against 1"
    assert "met" in text


# -- texts ----------------------------------------------------------------------------------------------------------


def test_numbers() -> None:
    texts = {
        None: "–", 0.0: "0", 0.012345: "0.0123", 1.2345: "1.23", 12.345: "12.3", 123.45: "123", 12345.6: "12,346",
        1e-9: "1.00e-09", -2.5: "-2.50", float("nan"): "–", 100.0: "100",
    }  # fmt: skip
    assert {value: report_tables.number(value) for value in texts} == texts


def test_durations_and_shares() -> None:
    assert [report_tables.duration(value) for value in (0.5, 59.6, 60, 200, 3900)] == [
        "0.5 s", "1 min", "1 min", "3 min 20 s", "1 h 5 min",
    ]  # fmt: skip
    assert [report_tables.share(value) for value in (None, 0, 0.031, 0.31, 1)] == ["–", "0 %", "3.1 %", "31 %", "100 %"]
    assert report_tables.spread([100, 101, 98]) == "± 2.0 %"
    assert report_tables.spread([100]) == ""


def test_repeats_stand_in_one_line() -> None:
    table = report_tables.tables(made("latency"))[0]
    assert len(table.rows) == 1
    cells = dict(zip(table.columns, table.rows[0], strict=True))
    assert cells["requests"] == "60"
    assert cells["spread"].startswith("± ")


def test_steps_that_do_not_count_say_why() -> None:
    result = made("throughput", few=True)
    steps = (msgspec.structs.replace(result.steps[0], invalid=("cached tokens: 3",)), *result.steps[1:])
    table = report_tables.tables(msgspec.structs.replace(result, steps=steps))[0]
    assert table.rows[0][-1] == "does not count: cached tokens: 3"


# -- plots ----------------------------------------------------------------------------------------------------------


def keys(result: Result) -> list[str]:
    return [chart.key for chart in charts(result)]


def test_each_workload_has_its_plots() -> None:
    assert keys(made("throughput", few=True)) == [
        "throughput", "throughput-ttft", "throughput-tpot", "throughput-e2el", "throughput-total", "decode", "gpu",
        "gpu-power", "gpu-energy", "gpu-clock", "gpu-kv-cache", "queue", "cdf-ttft", "cdf-itl",
    ]  # fmt: skip
    assert keys(made("lengths", few=True))[:3] == ["prefill", "decode-length", "e2el-length"]
    assert keys(made("prefix", few=True))[:2] == ["prefix", "prefix-hits"]
    assert keys(made("rate", few=True))[:4] == ["rate", "rate-ttft", "rate-tpot", "rate-e2el"]
    assert keys(made("priority", few=True))[:2] == ["priority-ttft", "priority-e2el"]
    assert keys(made("soak", few=True))[:3] == ["drift-ttft", "drift-tpot", "drift-throughput"]
    assert keys(made("latency", few=True)) == ["cdf-ttft", "cdf-itl"]
    found = keys(made("suite", few=True))
    assert len(found) == len(set(found)) > 20


def test_no_data_no_plot() -> None:
    result = without_records(made("latency", few=True))
    assert keys(result) == []
    sweep = made("throughput", few=True)
    bare = tuple(msgspec.structs.replace(step, readings=type(step.readings)(), records=None) for step in sweep.steps)
    assert keys(msgspec.structs.replace(sweep, steps=bare)) == [
        "throughput", "throughput-ttft", "throughput-tpot", "throughput-e2el", "throughput-total", "decode",
    ]  # fmt: skip
    one = msgspec.structs.replace(sweep, steps=sweep.steps[:1])
    assert keys(one) == ["cdf-ttft", "cdf-itl"]


def test_steps_that_do_not_count_are_not_drawn() -> None:
    sweep = made("throughput", few=True)
    steps = (*sweep.steps[:2], msgspec.structs.replace(sweep.steps[2], invalid=("cached",)))
    chart = charts(msgspec.structs.replace(sweep, steps=steps))[0]
    assert chart.x.ticks == (1, 4)


def test_knee_and_targets_are_marked() -> None:
    marks = charts(made("throughput"))[0].marks
    assert [(mark.axis, mark.value, mark.label) for mark in marks] == [
        ("x", 64, "knee: 64"), ("x", 64, "targets met up to 64"),
    ]  # fmt: skip


def test_a_long_step_is_cut_into_time() -> None:
    result = made("soak")
    records = []
    for minute, step in enumerate(result.steps):
        for one in step.records or ():
            records.append(msgspec.structs.replace(one, start_s=one.start_s + 60 * minute))  # noqa: PERF401
    whole = msgspec.structs.replace(
        result.steps[0],
        records=tuple(records),
        metrics=msgspec.structs.replace(result.steps[0].metrics, duration_s=1200.0, completed=len(records)),
    )
    chart = charts(msgspec.structs.replace(result, steps=(whole,)))[0]
    assert chart.key == "drift-ttft"
    points = chart.lines[0].points
    assert len(points) == 60
    assert points[0][0] == pytest.approx(1 / 6, abs=0.01)
    assert points[-1][1] > points[0][1], "it drifts"


def svg(chart: Chart) -> str:
    return drawing.svg(chart)


CHART = Chart(
    "x", "A title", Axis("requests", ticks=(1, 2, 4), log=True), Axis("time", "ms", least=0),
    (Line("p50", ((1, 10), (2, 20), (4, 40))), Line("p99", ((1, 20), (2, 30), (4, 80)), dots=((1, 19),))),
    (Mark("x", 2, "knee: 2"), Mark("y", 50, "target")),
)  # fmt: skip


def test_points_lie_where_they_should() -> None:
    text = svg(CHART)
    places = {
        (name, float(value)): (float(x), float(y))
        for x, y, name, value in re.findall(
            r'<circle cx="([\d.]+)" cy="([\d.]+)"[^>]*><title>(\w+), \w+ ?: ([\d.]+) ms', text
        )
    }
    (x1, y1), (x2, y2), (x4, y4) = (places["p50", value] for value in (10, 20, 40))
    assert x2 - x1 == pytest.approx(x4 - x2, abs=0.2), "the axis is logarithmic"
    assert y1 - y2 == pytest.approx((y2 - y4) / 2, abs=0.2), "this one is not"
    zero = float(re.findall(r'y="([\d.]+)" text-anchor="end">0<', text)[0]) - 4
    assert zero - y1 == pytest.approx(y1 - y2, abs=0.2), "it begins at 0"


def test_lines_differ_by_more_than_colour() -> None:
    text = svg(CHART)
    assert text.count('class="c0f"><title>') == 3
    assert len(re.findall(r'<rect x[^>]*class="c1f"><title>', text)) == 3
    assert ">p50</text>" in text
    assert ">p99</text>" in text
    assert ">time (ms)</text>" in text


def test_a_plot_alone_is_a_file() -> None:
    text = drawing.svg(CHART, alone=True)
    assert text.startswith('<svg xmlns="http://www.w3.org/2000/svg"')
    assert "<style>" in text


@pytest.mark.parametrize(
    "points",
    [
        ((1.0, 0.0), (2.0, 0.0)),
        ((1.0, 5.0), (1.0, 5.0)),
        ((1e-9, 1e-9), (1e9, 1e9)),
        ((3.0, -5.0), (4.0, 1e-300)),
    ],
)
@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("least", [None, 0.0])
def test_strange_values_are_drawn_within_the_frame(
    points: tuple[tuple[float, float], ...], log: bool, least: float | None
) -> None:
    chart = Chart("x", "t", Axis("x"), Axis("y", log=log, least=None if log else least), (Line("a", points),))
    for name, value in re.findall(r' (cx|cy|x|y)="([^"]*)"', svg(chart)):
        limit = chart.width if name in ("cx", "x") else chart.height
        assert -1 <= float(value) <= limit, (name, value)
    assert "nan" not in svg(chart)
    assert "inf" not in svg(chart)


def test_ticks_are_round() -> None:
    scale = drawing.Scale(0, 97, 0, 100, False)
    assert drawing.ticks(scale, Axis("x")) == [0, 20, 40, 60, 80]
    scale = drawing.Scale(30, 2000, 0, 100, True)
    assert drawing.ticks(scale, Axis("x", log=True)) == [30, 100, 300, 1000]
    assert [drawing.tick_text(value) for value in (0.5, 2000, 50_000, 2.5e6, 0.1 + 0.2)] == [
        "0.5", "2,000", "50k", "2.5M", "0.3",
    ]  # fmt: skip
