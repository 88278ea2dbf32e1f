"""The probes: load that is measured. A list of runs, those that go on and those that were kept; above it, in short,
what servers answer to canaries and /health."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType

from monitor.client.errors import ClientError, Refused
from monitor.client.format import ABSENT, clean, clock, duration
from monitor.client.results import Lens
from monitor.client.wire import Query
from monitor.probes.schema import ENDED, RunRow
from monitor.records import replace
from monitor.tui.palette import DIM, FAINT, GOOD, KEY, NOTICE, PLAIN, STRONG
from monitor.tui.panels.probe_words import (
    STATES,
    bar,
    headline,
    headline_text,
    live_text,
    server_text,
    until_ms,
    where_text,
)
from monitor.tui.panels.wrapped import wrapped
from monitor.tui.rows import Row, View
from monitor.tui.screens import canaries
from monitor.tui.screens.listing import Column, Entry, ListScreen, words
from monitor.tui.screens.page import ELSEWHERE, MOVE
from monitor.tui.screens.probe_actions import ProbeActions
from monitor.tui.screens.silence_window import told
from monitor.tui.server import Asked

if TYPE_CHECKING:
    from monitor.client.probes import KnownServer, Listing

_DAY = 86_400
_GRAIN_MS = 5_000
"""How closely it is said how long ago something was."""


class ProbesScreen(ListScreen, ProbeActions):
    """``n`` begins a run, ``enter`` opens one, ``c`` compares two."""

    NAME = "probes"
    READ_SECONDS = 2.0
    KEYS = (
        *MOVE[:1],
        ("n", "new"),
        ("enter", "open"),
        ("x", "cancel"),
        ("c", "compare"),
        ("space", "mark"),
        ("b", "baseline"),
        ("d", "delete"),
        ("P", "profiler"),
        ("C", "canaries"),
        *MOVE[1:],
        *ELSEWHERE,
    )
    WORDS: ClassVar[tuple[tuple[str, str], ...]] = (
        ("valid", "nothing that was measured came from a cache, too few requests failed, the server was not restarted"),
        ("baseline", "later runs are held against it; it is kept for as long as it is one"),
        ("busy", "the server had other work, so nothing was sent"),
        ("TTFT", "time to the first token"),
        ("ITL, TPOT", "time between tokens; time per output token, of whole requests"),
        *canaries.WORDS,
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "mark", "mark, to compare"),
        Binding("C", "canaries", "canaries and /health"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._listing: Listing | None = None
        self._why_not = ""
        """Why the runs cannot be read, with what to do."""
        self._never = False
        """Whether there are none to be had here at all: of a Prometheus."""
        self._changes = 0
        """What was done from here to the runs, so that a list that was read before is not shown after it."""
        self._marked: list[str] = []
        self._made: list[Entry] = []
        self._made_of: tuple[object, ...] | None = None
        """What the entries were made of: there may be hundreds, and they seldom change."""

    def asked(self, lens: Lens) -> Sequence[Query]:
        return canaries.queries(lens)

    async def read(self, server: Asked, at_ms: int | None, range_seconds: int) -> None:
        changes = self._changes
        try:
            listing = await server.probing.listing()
            if changes == self._changes and listing != self._listing:
                self._listing = listing
            self._why_not, self._never = "", False
        except ClientError as error:
            self._why_not = told(error)
            self._never = isinstance(error, Refused) and error.status == 404

    # -- the list ----------------------------------------------------------------------------------------------------

    def caption(self) -> str:
        return "probes"

    def above(self, view: View, width: int) -> Sequence[Row]:
        most = 1 if self.size.height < 30 else 4 if self.size.height < 45 else 8
        rows = canaries.summary(self.answers, width, most)
        if self._why_not and self._listing is not None:
            rows += wrapped("", f"not read: {self._why_not}", width, NOTICE, indent=3)
        elif self._listing is not None and self._listing.refusal and view.at_ms is None:
            rows += wrapped("", f"only to look at: {self._listing.refusal}", width, DIM, indent=3)[:2]
        if view.at_ms is not None and self._listing is not None:
            rows.append(Row().put("   runs up to the moment that is looked at", DIM))
        if self._marked:
            names = " and ".join(self._title_of(one) for one in self._marked)
            rows.append(Row().put("   ◆ ", KEY).put(names).put("   c compares", DIM))
        return rows

    def columns(self, view: View) -> Sequence[Column]:
        wide = self.size.width
        rows = self._listing.runs if self._listing is not None else ()
        name = min(30 if wide >= 120 else 18, max([10, *(len(_called(one)) + 3 for one in rows)]))
        server = min(26, max([8, *(len(one.server) + 2 for one in rows)]))
        return (
            Column("state", 13),
            Column("workload", name),
            Column("server", server, from_width=70),
            Column("when", 12),
            Column("took", 10, from_width=130),
            Column("valid", 7, from_width=100),
            Column("baseline", 14, from_width=100 if any(one.baseline for one in rows) else 10_000),
            Column("figures"),
        )

    def nothing(self, view: View) -> str:
        if self._why_not:
            return self._why_not if self._never else f"probe runs cannot be read: {self._why_not}"
        if self._listing is None:
            return "reading …"
        if view.at_ms is not None:
            return "no probe had run by then"
        return "no probe has run. n begins one: how fast is a server, alone and under load, and when is it too much"

    def entries(self, view: View) -> list[Entry]:
        if self._listing is None or view.snapshot is None:
            return []
        now_ms = view.at_ms if view.at_ms is not None else view.snapshot.now_ms
        made_of = (self._listing, view.at_ms, self.size.width, tuple(self._marked), now_ms // _GRAIN_MS)
        if self._made_of is None or self._made_of[0] is not made_of[0] or self._made_of[1:] != made_of[1:]:
            self._made_of, self._made = made_of, self._all(self._listing, view, now_ms)
        return self._made

    def _all(self, listing: Listing, view: View, now_ms: int) -> list[Entry]:
        rows = [one for one in listing.runs if view.at_ms is None or one.began_ms <= view.at_ms]
        rows.sort(key=lambda one: (not _goes_on(one, view), -one.began_ms))
        wide = self.size.width
        taken = 5 + sum(one.width for one in self.columns(view) if wide >= one.from_width)
        return [self._entry(one, view, now_ms, max(12, wide - taken)) for one in rows]

    def _entry(self, row: RunRow, view: View, now_ms: int, room: int) -> Entry:
        goes_on = _goes_on(row, view)
        state, style = STATES["running" if goes_on and view.at_ms is not None else row.state]
        if row.state == "done" and not row.valid and not goes_on:
            state, style = "● not valid", NOTICE
        quiet = PLAIN if row.state in ("done", "running", "starting") else DIM
        until = now_ms
        if view.at_ms is None and view.snapshot is not None:
            until = until_ms(row, now_ms, view.snapshot.node)
        elif row.ended_ms is not None and not goes_on:
            until = row.ended_ms
        if goes_on:
            figures = _going(row) if view.at_ms is None else "it went on then"
        else:
            figures = headline_text(row.headline, room) or clean(row.error)
        mark = "◆ " if row.id in self._marked else ""
        valid = ABSENT if row.state != "done" else "yes" if row.valid else "NO"
        took = (until - row.began_ms) / 1000
        cells = (
            (state, style),
            (mark + _called(row), STRONG if goes_on else quiet),
            (row.server, quiet),
            (_when(row.began_ms, now_ms), DIM),
            (duration(took), DIM),
            (valid, GOOD if valid == "yes" else NOTICE if valid == "NO" else FAINT),
            (row.baseline, KEY),
            (figures, KEY if goes_on else quiet),
        )
        labels = " ".join(f"{name}={value}" for name, value in row.labels.items())
        text = " ".join(
            (row.state, row.workload, row.name, row.server, row.model, row.baseline, row.by, labels, row.id)
        )
        sort = (row.state, _called(row), row.server, row.began_ms, took, valid, row.baseline or None, figures)
        return Entry(row.id, cells, text, sort, row, copies=row.id, opens=("run", {"ident": row.id}))

    def detail(self, entry: Entry, width: int, height: int) -> Sequence[Row]:
        row = entry.thing
        if not isinstance(row, RunRow):
            return ()
        goes_on = _goes_on(row, self.view)
        state, style = STATES[row.state]
        head = Row().put("  ").put(state if not goes_on else STATES["running"][0], style)
        head.put(f"  {row.workload}", STRONG)
        head.put(f" of {row.server}" + (f", {row.model}" if row.model else ""), PLAIN)
        rows = [head]
        if goes_on and self.view.at_ms is None and row.progress is not None:
            line = Row().put("  ").extend(bar(row.progress.fraction, 12 if width < 100 else 24)).put("  ")
            if row.progress.seconds_left is not None:
                line.put(f"≈ {duration(row.progress.seconds_left)} left  ", STRONG)
            line.put(where_text(row.progress))
            rows.append(line)
            rows += [Row().put(f"  {text}") for text in (live_text(row.progress), server_text(row.progress)) if text]
        if row.error and not goes_on:
            rows += words("why", [clean(row.error)], width)
        if not row.valid and not goes_on:
            rows += words("not valid", ["enter says why it does not count"], width)
        if row.headline and not goes_on:
            rows += words("figures", [" · ".join(f"{name} {value}" for name, value in headline(row.headline))], width)
        began = f"{clock(row.began_ms, date=True)}" + (f" by {row.by}" if row.by else "")
        rows += words("began", [began + f"   {row.id}"], width)
        if row.baseline:
            rows += words("baseline", [row.baseline], width)
        if row.labels:
            rows += words("labels", [", ".join(f"{name}={value}" for name, value in row.labels.items())], width)
        return rows

    # -- keys --------------------------------------------------------------------------------------------------------

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """No key is offered that does nothing here."""
        if action in ("cancel", "compare", "mark", "baseline", "delete"):
            return bool(self._entries)
        if action in ("new", "profile"):
            return not self._never
        return super().check_action(action, parameters)

    def changed(self, row: RunRow) -> None:
        self._put(row.id, row)

    def deleted(self, row: RunRow) -> None:
        self._put(row.id)

    def _put(self, ident: str, *rows: RunRow) -> None:
        """Show a run as it is now, or no more: a key that is pressed at once is of what is shown."""
        self._changes += 1
        if self._listing is not None:
            runs = [one for old in self._listing.runs for one in ((old,) if old.id != ident else rows)]
            self._listing = replace(self._listing, runs=tuple(runs))

    def servers(self) -> Sequence[KnownServer]:
        return self._listing.servers if self._listing is not None else ()

    def refusal(self) -> str:
        return self._listing.refusal if self._listing is not None else self._why_not

    def run_row(self) -> RunRow | None:
        thing = self.under.thing if self.under is not None else None
        return thing if isinstance(thing, RunRow) else None

    def action_canaries(self) -> None:
        """What servers answer to canaries and to /health, with graphs."""
        self.shell.open("canaries")

    def action_mark(self) -> None:
        """Mark the run under the cursor, or take its mark off; of more than two the oldest mark goes."""
        row = self.run_row()
        if row is not None:
            if row.id in self._marked:
                self._marked.remove(row.id)
            else:
                self._marked = [*self._marked, row.id][-2:]
            self.draw()

    def action_compare(self) -> None:
        """Compare the two that are marked; the marked one with that under the cursor; or choose the other."""
        row = self.run_row()
        known = {one.id for one in self._listing.runs} if self._listing is not None else set()
        self._marked = [one for one in self._marked if one in known]
        if len(self._marked) == 2:
            self._compare(*self._marked)
        elif self._marked and row is not None and row.id != self._marked[0]:
            self._compare(self._marked[0], row.id)
        elif row is not None:
            self.choose_other(row, self._listing.runs if self._listing is not None else ())

    def _compare(self, one: str, other: str) -> None:
        rows = {row.id: row for row in self._listing.runs} if self._listing is not None else {}
        found = [rows[ident] for ident in (one, other) if ident in rows]
        if len(found) < 2:
            self.tell("one of them is there no more")
            return
        before, after = sorted(found, key=lambda row: row.began_ms)
        self.compare(before, after)

    def _title_of(self, ident: str) -> str:
        rows = self._listing.runs if self._listing is not None else ()
        return next((f"{_called(row)} of {clock(row.began_ms)}" for row in rows if row.id == ident), ident)


def _goes_on(row: RunRow, view: View) -> bool:
    """Whether it goes on, or did at the moment that is looked at."""
    if view.at_ms is None:
        return row.state not in ENDED
    return row.ended_ms is None or row.ended_ms > view.at_ms


def _going(row: RunRow) -> str:
    progress = row.progress
    if progress is None:
        return "beginning …"
    drawn = "".join(text for text, _ in bar(progress.fraction, 12).line())
    return f"{drawn}  {live_text(progress)}"


def _called(row: RunRow) -> str:
    """Its workload, with the name that somebody gave it."""
    return row.workload if row.name in ("", row.workload) else f"{row.workload} {clean(row.name)}"


def _when(at_ms: int, now_ms: int) -> str:
    ago = (now_ms - at_ms) / 1000
    if ago < _DAY:
        return f"{duration(ago)} ago"
    return clock(at_ms, date=True)[:10]
