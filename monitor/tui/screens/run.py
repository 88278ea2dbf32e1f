"""One probe run, opened. While it goes on: how far it is, each step as it is measured, and the graphs of server and
GPUs with it. When it is over: what was found, the steps, the plots, what the server is, and its files."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from msgspec.structs import replace as changed
from textual.binding import Binding, BindingType

from monitor.client import engine_queries
from monitor.client.errors import ClientError
from monitor.client.format import clean, cut
from monitor.client.results import Lens
from monitor.client.wire import Query
from monitor.probes.schema import ENDED, RunDetail, RunRow, Step
from monitor.records import replace
from monitor.tui.palette import CURSOR, DIM, NOTICE, PLAIN, STRONG, TITLE
from monitor.tui.panels import probe_facts, probe_plots, probe_steps, xy
from monitor.tui.panels.engine_charts import Charts
from monitor.tui.panels.probe_words import LEVELS
from monitor.tui.panels.wrapped import wrapped
from monitor.tui.rows import Row, View, title
from monitor.tui.screens.page import ELSEWHERE
from monitor.tui.screens.probe_actions import ProbeActions
from monitor.tui.screens.probe_windows import Question, lines
from monitor.tui.screens.selecting import SelectingScreen, across_of
from monitor.tui.screens.silence_window import told
from monitor.tui.server import Asked

if TYPE_CHECKING:
    from monitor.client.probes import KnownServer, Listing

_GRAPHS = ("generation_h", "load_h", "kv_h", "ttft_h", "itl_h", "profile_h", "power_h")
"""What is drawn of the server while it is probed."""
_ORDER = {"bad": 0, "warning": 1, "good": 2, "info": 2}


class RunScreen(SelectingScreen, ProbeActions):
    """``about`` says which one."""

    NAME = "probe"
    READ_SECONDS = 1.0
    KEYS = (
        ("↑ ↓", "scroll"),
        ("tab", "choose"),
        ("y", "copy"),
        ("v", "more columns"),
        ("x", "cancel"),
        ("c", "compare"),
        ("b", "baseline"),
        ("a", "again"),
        ("w", "its time"),
        ("d", "delete"),
        ("P", "profiler"),
        ("esc", "back"),
        *ELSEWHERE,
    )
    WORDS: ClassVar[tuple[tuple[str, str], ...]] = (
        ("TTFT", "from the request to the first token"),
        ("ITL", "the gaps between tokens; TPOT: their mean in each request"),
        ("E2E", "from the request to its last token"),
        ("knee", "the smallest concurrency that reaches 90 % of the peak: more waits longer and gets no more"),
        ("good/s", "requests a second that met every target"),
        ("batch", "sequences in a step of the engine"),
        ("tok/J", "generated tokens for each joule of its GPUs"),
        ("client cores", "what the probe itself took: near 1 it is what holds the result down"),
        ("others", "tokens that the server made for others meanwhile"),
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("v", "columns", "other columns of the steps"),
        Binding("a", "again", "run it again"),
        Binding("w", "when", "go to its time"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.ident = ""
        self._detail: RunDetail | None = None
        self._listing: Listing | None = None
        self._why_not = ""
        self._charts = Charts()
        self._queries: Sequence[Query] = ()
        self._part = 0
        self._parts = 1
        self._begun = False
        """Whether it was begun from here, just now: then a server that is busy is asked about."""

    def about(self, **about: object) -> None:
        """``ident`` is the run; ``begun`` whether it was begun from here."""
        super().about(**about)
        ident = str(about["ident"])
        self._begun = about.get("begun") is True
        self._why_not = self.said = ""
        if ident != self.ident:
            self.ident, self._detail, self._charts, self._part = ident, None, Charts(), 0
            self.top, self.selected = 0, ""

    async def read(self, server: Asked, at_ms: int | None, range_seconds: int) -> None:
        ident, before = self.ident, self._detail
        if before is not None and before.row.state in ENDED and self._listing is not None:
            return  # nothing of it changes any more but its name as a baseline: see ``changed``
        try:
            self._listing = await server.probing.listing()
            async with aclosing(server.probing.watch(ident)) as details:
                async for detail in details:
                    if ident != self.ident:
                        return
                    self._take(detail)
        except ClientError as error:
            self._why_not = told(error)

    def _take(self, detail: RunDetail) -> None:
        before, self._detail, self._why_not = self._detail, detail, ""
        over = detail.row.state in ENDED
        if before is None or (before.row.state in ENDED) != over:
            self.shell.refetch()  # its queries are others
        if before is None or over:
            self.draw()
        if over and self._begun:
            self._begun = False
            if detail.row.state == "busy" and self.view.at_ms is None:
                self._ask_busy(detail)

    def asked(self, lens: Lens) -> Sequence[Query]:
        detail = self._detail
        self._queries = (Query("probe", "gpumon_probe_running"),)
        if detail is None or not detail.row.server:
            return self._queries
        engines = self.view.snapshot.engines if self.view.snapshot is not None else ()
        key = next((one.key for one in engines if one.server == detail.row.server), None)
        if key is not None and (detail.row.state not in ENDED or self.view.at_ms is not None):
            graphs = engine_queries.graphs(engine_queries.selector_of(*key), lens)
            wanted = [Query(id, graphs[id], lens.range_seconds, lens.step_seconds) for id in _GRAPHS]
            self._queries = (*self._queries, *wanted)
        return self._queries

    # -- what it shows -----------------------------------------------------------------------------------------------

    def heading(self) -> Row:
        row = Row().put("probe  ", TITLE)
        detail = self._detail
        if detail is None:
            return row.put(self.ident, DIM)
        row.put(f"{detail.row.workload}", STRONG)
        named = detail.row.name if detail.row.name not in ("", detail.row.workload) else ""
        row.put(f" {clean(named)}" if named else "", STRONG).put(f" of {probe_facts.server_of(detail)}", PLAIN)
        return row

    def nothing(self, view: View) -> str:
        return self._why_not or "reading …"

    def body(self, view: View, width: int, height: int) -> Sequence[Row]:
        detail = self._detail
        if detail is None or view.snapshot is None:
            return []
        rows: list[Row] = []
        if self._why_not:
            rows += wrapped("", f"not read: {self._why_not}", width, NOTICE, indent=2)
        at_ms = view.at_ms
        over = detail.row.state in ENDED
        if at_ms is not None and (detail.row.ended_ms is None or at_ms < detail.row.ended_ms):
            # What it knew at that moment, and no more.
            over = False
            steps = tuple(one for one in detail.steps if one.ended_ms <= at_ms)
            notes = tuple(one for one in detail.notes if one.at_ms <= at_ms)
            detail = RunDetail(detail.row, detail.spec, detail.facts, steps, notes)
        if over:
            rows += probe_facts.ended(detail, width)
            rows += self._findings(detail, rows, width)
        else:
            rows += probe_facts.going(detail, view, width)
        self._steps(detail, rows, width, height, over)
        if not over or at_ms is not None:
            self._graphs(rows, view, width, height)
        if over:
            rows += probe_facts.facts(detail, width)
            self._files(detail, rows, width)
        return rows

    def _findings(self, detail: RunDetail, above: Sequence[Row], width: int) -> list[Row]:
        if not detail.findings:
            return []
        rows = [title("what was found").rule(width)]
        for place, one in enumerate(sorted(detail.findings, key=lambda each: _ORDER.get(each.level, 2)), 1):
            glyph, style = LEVELS[one.level]
            name = f"finding {place}"
            begin = len(above) + len(rows)
            label = {"good": "good", "bad": "BAD", "warning": "warning", "info": ""}[one.level]
            mark = Row().put("▸ " if name == self.selected else "  ", CURSOR).put(glyph, style).put(" ")
            text = wrapped("", one.text, width - 25, STRONG if one.level == "bad" else PLAIN, indent=0)
            for line, part in enumerate(text):
                row = mark if not line else Row()
                row.to(4).put(one.topic if not line else "", DIM, 11).put(label if not line else "", style)
                rows.append(row.to(24).extend(part))
            self.choosable(name, one.text, begin, len(above) + len(rows))
        return rows

    def _steps(self, detail: RunDetail, rows: list[Row], width: int, height: int, over: bool) -> None:
        """The table and the plots of each workload: a suite has several."""
        if not detail.steps:
            rows.append(title("steps").rule(width))
            rows.append(Row().put("  none was measured" + ("" if over else " yet"), DIM))
            return
        self._parts = 1
        progress = None if over or self.view.at_ms is not None else detail.row.progress
        for workload in dict.fromkeys(step.workload for step in detail.steps):
            steps = [step for step in detail.steps if step.workload == workload]
            name = f"steps: {workload}" if detail.row.workload == "suite" else "steps"
            table, parts = probe_steps.table(steps, width, self._part)
            self._parts = max(self._parts, parts)
            head = Row().put("▸ " if name == self.selected else "", CURSOR).put(name, TITLE)
            if parts > 1:
                head.put(f"  v: columns {self._part % parts + 1} of {parts}", DIM)
            begin = len(rows)
            rows += [head.rule(width), *table]
            for one in [step for step in steps if step.invalid]:
                rows += wrapped("", f"! {one.name}: {clean('; '.join(one.invalid))}", width, NOTICE, indent=2)
            self.choosable(name, probe_steps.tsv(steps), begin, len(rows))
            self._drawn(detail, steps, rows, width, height, progress is not None and steps[-1] is detail.steps[-1])

    def _drawn(
        self, detail: RunDetail, steps: Sequence[Step], rows: list[Row], width: int, height: int, live: bool
    ) -> None:
        plots = probe_plots.plots(steps, detail.spec.slos, detail.findings, detail.row.progress if live else None)
        if not plots:
            bars = probe_plots.groups(steps) or probe_plots.percentiles(steps[-1])
            if bars:
                rows += [Row(), *xy.bars(bars, width, probe_steps.ms)]
            return
        across = max(1, min(len(plots), 1 if width < 84 else 2 if width < 150 else 3 if len(plots) != 4 else 4))
        each = (width - 2 - 3 * (across - 1)) // across
        tall = max(xy.LEAST + 1, min(13, height // 2 if height >= 26 else height - 8))
        rows.append(Row())
        for first in range(0, len(plots), across):
            band = [Row() for _ in range(tall)]
            for place, plot in enumerate(plots[first : first + across]):
                name = plot.title if detail.row.workload != "suite" else f"{steps[0].workload}: {plot.title}"
                drawn = xy.draw(replace(plot, chosen=name == self.selected), each, tall)
                for row, part in zip(band, drawn, strict=True):
                    row.to(2 + place * (each + 3)).extend(part)
                self.choosable(name, plot.table(), len(rows), len(rows) + tall)
            rows += band

    def _graphs(self, rows: list[Row], view: View, width: int, height: int) -> None:
        """Server and GPUs while it is probed, with its begin and end marked."""
        answers = self.answers
        if answers is None or len(self._queries) < 2:
            return
        expressions = {one.id: one.expr for one in self._queries}
        charts = [
            (chart, promql)
            for chart, promql in self._charts.made(answers, {}, (), expressions, stale=False)
            if promql and chart.history is not None
        ]
        if not charts:
            return
        rows.append(title("the server and its GPUs").rule(width))
        across = across_of(len(charts), width - 2)
        down = -(-len(charts) // across)
        room = max(6 * down, height - len(rows))
        self.grid(rows, charts, view, answers.now_ms, width, room, across=across, indent=2)

    def _files(self, detail: RunDetail, rows: list[Row], width: int) -> None:
        if not detail.files:
            return
        rows.append(title("files").rule(width))
        for name in detail.files:
            path = self._path(detail, name)
            mark = Row().put("▸ " if name == self.selected else "  ", CURSOR)
            rows.append(mark.put(cut(clean(path), width - 3), PLAIN))
            self.choosable(name, path, len(rows) - 1, len(rows))

    @staticmethod
    def _path(detail: RunDetail, name: str) -> str:
        return f"{detail.folder or detail.row.id}/{name}"

    # -- keys --------------------------------------------------------------------------------------------------------

    def tell(self, words: str) -> None:
        self.said = words
        self.draw()

    def run_row(self) -> RunRow | None:
        return None if self._detail is None else self._detail.row

    def servers(self) -> Sequence[KnownServer]:
        return self._listing.servers if self._listing is not None else ()

    def refusal(self) -> str:
        return self._listing.refusal if self._listing is not None else self._why_not

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """No key is offered that does nothing here."""
        over = self._detail is not None and self._detail.row.state in ENDED
        if action == "cancel":
            return self._detail is not None and not over
        if action in ("compare", "baseline", "delete", "again"):
            return over
        if action == "columns":
            return self._parts > 1
        return super().check_action(action, parameters)

    def keys(self) -> Sequence[tuple[str, str]]:
        hidden = {"x"} if self._detail is not None and self._detail.row.state in ENDED else {"c", "b", "a", "d", "w"}
        return [one for one in self.KEYS if one[0] not in hidden]

    def copies(self) -> str:
        folder = self._detail.folder if self._detail is not None else ""
        return dict(self.charts).get(self.selected, "") or folder or self.ident

    def action_copy(self) -> None:
        """Give the terminal's clipboard what is chosen: a graph's PromQL, a plot's or the table's numbers, a sentence,
        a path; else that of all files."""
        text = self.copies()
        self.shell.copy(text)
        many = len(text.splitlines())
        self.said = f"copied {many} lines, for a spreadsheet" if many > 1 else f"copied {text}"
        self.draw()

    def action_columns(self) -> None:
        """The next columns of the table."""
        self._part = (self._part + 1) % max(1, self._parts)
        self.draw()

    def action_when(self) -> None:
        """Take everything to the end of the run, where the graphs have it."""
        detail = self._detail
        if detail is not None:
            snapshot = self.view.snapshot
            end_ms = detail.row.ended_ms or (snapshot.now_ms if snapshot is not None else 0)
            self.shell.travel_to(end_ms)

    def action_compare(self) -> None:
        """Choose what it is compared with."""
        row = self.run_row()
        if row is not None:
            self.shell.do(self._choose_other(row), "probes")

    async def _choose_other(self, row: RunRow) -> None:
        try:
            listing = await self.probing().listing()
        except ClientError as error:
            self.tell(told(error))
            return
        if self.is_current:
            self.choose_other(row, listing.runs)

    def action_again(self) -> None:
        """The form of the same run; where the server was busy, whether to load it all the same."""
        detail = self._detail
        if detail is None or self.may_not():
            return
        if detail.row.state == "busy":
            self._ask_busy(detail)
        else:
            self.shell.do(self._again(detail), "probes")

    async def _again(self, detail: RunDetail) -> None:
        try:
            workloads = await self.probing().workloads()
        except ClientError as error:
            self.tell(told(error))
            return
        found = next((one for one in workloads if one.name == detail.row.workload), None)
        if found is None:
            self.tell(f"this daemon knows no {detail.row.workload}")
        elif self.is_current:
            self.fill_in(found, self.servers(), detail.spec)

    def _ask_busy(self, detail: RunDetail) -> None:
        texts = lines(
            f"{probe_facts.server_of(detail)} has other work",
            clean(detail.row.error),
            "Nothing was sent. A probe makes it slower for everybody, and what they do makes the result worth less.",
        )
        self.shell.cover(Question(self, "load it all the same?", texts, partial(self._load, detail), "not started"))

    async def _load(self, detail: RunDetail) -> str:
        row = await self.probing().start(changed(detail.spec, yes=True))
        self.about(ident=row.id, begun=True)
        return f"{row.workload} begins"

    def changed(self, row: RunRow) -> None:
        if self._detail is not None and row.id == self._detail.row.id:
            self._detail = changed(self._detail, row=row)

    def deleted(self, row: RunRow) -> None:
        self.app.call_later(self._leave)  # when the window that asked is closed

    def _leave(self) -> None:
        if self.is_current:
            self.shell.back()
