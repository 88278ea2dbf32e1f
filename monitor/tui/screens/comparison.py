"""Two results beside each other: each figure with its change, the interval in which that lies, and whether it is more
than noise. Everything is a word too, so that it can be read without colour."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.style import Style
from textual.binding import Binding, BindingType

from monitor.client.errors import ClientError
from monitor.client.format import ABSENT, clean, clock, count, cut
from monitor.probes.schema import Change, Comparison, RunRow
from monitor.tui.palette import DIM, FAINT, NOTICE, PLAIN, STRONG
from monitor.tui.panels.probe_words import VERDICTS, change_text, interval_text, name_of, unit_value
from monitor.tui.rows import Row, View
from monitor.tui.screens.listing import Column, Entry, ListScreen, words
from monitor.tui.screens.page import ELSEWHERE, MOVE
from monitor.tui.screens.silence_window import told
from monitor.tui.server import Asked

_VIEWS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("", ("better", "worse", "noise", "unknown", "missing")),
    ("changed only", ("better", "worse")),
    ("worse only", ("worse",)),
)
_BAND = 23
"""Cells of the drawn interval."""
_BAND_SPAN = 0.3
"""What half of it stands for: a change of 30 %."""


class ComparisonScreen(ListScreen):
    """``v`` shows what changed, what got worse, and all; ``s`` turns the two round."""

    NAME = "compare"
    READ_SECONDS = 3600.0
    KEYS = (*MOVE, ("v", "changed, worse, all"), ("s", "turn round"), ("y", "copy"), ("esc", "back"), *ELSEWHERE)
    WORDS: ClassVar[tuple[tuple[str, str], ...]] = (
        ("interval", "in which the change lies with 95 %, by how the single requests spread"),
        ("better, worse", "the interval does not hold 0, so it is more than noise"),
        ("noise", "the interval holds 0: two runs of the same would differ as much"),
        ("no interval", "it is one number of each run, whose spread nobody knows"),
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("v", "verdicts", "changed, worse, all"),
        Binding("s", "swap", "turn the two round"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._before: RunRow | None = None
        self._after: RunRow | None = None
        self._comparison: Comparison | None = None
        self._why_not = ""
        self._shown = 0

    def about(self, **about: object) -> None:
        """``before`` and ``after`` are the runs."""
        super().about(**about)
        before, after = about["before"], about["after"]
        assert isinstance(before, RunRow)  # noqa: S101 - what a list of them opens
        assert isinstance(after, RunRow)  # noqa: S101
        self._before, self._after, self._comparison, self._why_not, self.said = before, after, None, "", ""

    async def read(self, server: Asked, at_ms: int | None, range_seconds: int) -> None:
        before, after = self._before, self._after
        if self._comparison is not None or before is None or after is None:
            return  # what is kept does not change
        try:
            made = await server.probing.compare(before.id, after.id)
        except ClientError as error:
            self._why_not = told(error)
            return
        if before is self._before and after is self._after:
            self._comparison, self._why_not = made, ""

    # -- the list ----------------------------------------------------------------------------------------------------

    def caption(self) -> str:
        return "compare" + (f", {_VIEWS[self._shown][0]}" if self._shown else "")

    def above(self, view: View, width: int) -> Sequence[Row]:
        if self._before is None or self._after is None:
            return ()
        rows = []
        for label, row in (("before", self._before), ("after", self._after)):
            line = Row().put(f"   {label:7}", DIM).put(_named(row), STRONG)
            line.put(f"  {clock(row.began_ms, date=True)[:16]}  {row.server}  {row.model}", PLAIN)
            line.put(f"  baseline {row.baseline}" if row.baseline else "", PLAIN).put(
                "" if row.valid else "  not valid", NOTICE
            )
            rows.append(line)
        made = self._comparison
        if made is None:
            return rows
        counts = {verdict: sum(one.verdict == verdict for one in made.changes) for verdict in VERDICTS}
        line = Row().put("   ")
        for verdict, (text, style) in VERDICTS.items():
            if counts[verdict]:
                line.put(f"{counts[verdict]} ", STRONG).put(f"{text}   ", style)
        rows.append(line)
        most = 2 if self.size.height < 30 else 6
        told_ = [f"▲ {clean(note)}" for note in made.notes]
        told_ += [f"{name}: {clean(a) or ABSENT} → {clean(b) or ABSENT}" for name, (a, b) in made.differences.items()]
        for text, style in [(one, NOTICE if one.startswith("▲") else DIM) for one in told_][:most]:
            rows.append(Row().put("   " + cut(text, width - 4), style))
        if len(told_) > most:
            rows.append(Row().put(f"   and {count(len(told_) - most, 'more difference')}", DIM))
        return rows

    def columns(self, view: View) -> Sequence[Column]:
        changes = self._comparison.changes if self._comparison is not None else ()
        wide = self.size.width
        step = min(24 if wide < 120 else 34, max([8, *(len(_step(one)) + 2 for one in changes)]))
        figure = min(22, max([8, *(len(name_of(one.figure)) + 2 for one in changes)]))
        return (
            Column("step", step),
            Column("figure", figure),
            Column("before", 13, right=True, from_width=90),
            Column("after", 13, right=True, from_width=90),
            Column("change", 9, right=True),
            Column("interval (95 %)", 19, right=True, from_width=78),
            Column(f"{'-30 %':<{_BAND // 2 - 1}}0{'+30 %':>{_BAND // 2}}", _BAND + 2, right=True, from_width=150),
            Column("verdict"),
        )

    def nothing(self, view: View) -> str:
        if self._why_not:
            return f"they cannot be compared: {self._why_not}"
        if self._comparison is None:
            return "comparing …"
        return "nothing of it: v shows the others" if self._shown else "they have nothing in common that was measured"

    def entries(self, view: View) -> list[Entry]:
        made = self._comparison
        if made is None:
            return []
        wanted = _VIEWS[self._shown][1]
        changes = sorted(made.changes, key=lambda one: bool(one.step))  # those of the whole run first
        return [_entry(one, place) for place, one in enumerate(changes) if one.verdict in wanted]

    def detail(self, entry: Entry, width: int, height: int) -> Sequence[Row]:
        one = entry.thing
        if not isinstance(one, Change):
            return ()
        glyph, style = VERDICTS[one.verdict]
        head = Row().put("  ").put(glyph, style).put(f"  {name_of(one.figure)}", STRONG)
        head.put(f" of {_step(one)}" if _step(one) else " of the whole run", PLAIN)
        before, after = unit_value(one.before, one.unit), unit_value(one.after, one.unit)
        rows = [head, *words("before", [f"{before} (n {one.n_before})" if one.n_before else before], width)]
        rows += words("after", [f"{after} (n {one.n_after})" if one.n_after else after], width)
        text = change_text(one.change)
        if one.low is not None:
            text += f", with 95 % between {interval_text(one).replace(' to ', ' and ')}"
        rows += words("change", [text], width)
        rows += words("meaning", [_meaning(one)], width)
        return rows

    # -- keys --------------------------------------------------------------------------------------------------------

    def action_verdicts(self) -> None:
        """What changed, what got worse, all."""
        self._shown = (self._shown + 1) % len(_VIEWS)
        self.draw()

    def action_swap(self) -> None:
        """The one before as the one after."""
        if self._before is not None and self._after is not None:
            self.about(before=self._after, after=self._before)
            self.draw()
            self.shell.refetch()


def _named(row: RunRow) -> str:
    return row.workload if row.name in ("", row.workload) else f"{row.workload} {clean(row.name)}"


def _step(one: Change) -> str:
    return clean(one.step)


def _meaning(one: Change) -> str:
    return {
        "better": "better, and more than noise: the interval does not hold 0",
        "worse": "worse, and more than noise: the interval does not hold 0",
        "noise": "no more than noise: two runs of the same would differ as much",
        "unknown": "whether that is more than noise cannot be told from one number of each",
        "missing": "only one of the two has it",
    }[one.verdict]


def _entry(one: Change, place: int) -> Entry:
    verdict, style = VERDICTS[one.verdict]
    quiet: Style = PLAIN if one.verdict in ("better", "worse") else DIM
    cells = (
        (_step(one) or "the whole run", quiet),
        (name_of(one.figure), quiet),
        (unit_value(one.before, one.unit), quiet),
        (unit_value(one.after, one.unit), quiet),
        (change_text(one.change), STRONG if one.verdict in ("better", "worse") else quiet),
        (interval_text(one), DIM),
        (_band(one), style if one.verdict in ("better", "worse") else FAINT),
        ("  " + verdict, style),
    )
    text = " ".join((one.workload, _step(one), one.figure, name_of(one.figure), one.verdict))
    sort = (_step(one), name_of(one.figure), one.before, one.after, one.change, one.low, one.change, one.verdict)
    values = (
        unit_value(one.before, one.unit),
        unit_value(one.after, one.unit),
        change_text(one.change),
        interval_text(one),
    )
    copied = "\t".join((_step(one), one.figure, *values, one.verdict))
    return Entry(f"{place} {one.step} {one.figure}", cells, text, sort, one, copies=copied)


def _band(one: Change) -> str:
    """The interval on a scale of -30 to +30 %, with the change in it: ``──┃ ├─●─┤``."""
    if one.change is None:
        return ""
    middle = _BAND // 2

    def at(value: float) -> int:
        return max(0, min(_BAND - 1, middle + round(value / _BAND_SPAN * middle)))

    text = ["·"] * _BAND
    text[middle] = "┊"
    if one.low is not None and one.high is not None:
        low, high = at(one.low), at(one.high)
        for x in range(low, high + 1):
            text[x] = "─"
        text[low], text[high] = "├", "┤"
    text[at(one.change)] = "●"
    return "".join(text)
