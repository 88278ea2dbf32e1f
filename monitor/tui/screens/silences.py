"""The silences: which hold now, which are to come and which are over, with why and by whom, and how many alerts they
hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType

from monitor.client.alertmanager_wire import SilenceRow
from monitor.client.errors import ClientError
from monitor.client.format import ABSENT, clean, clock, duration
from monitor.client.silences import MatcherError, held, matchers_of
from monitor.client.snapshot import Alert
from monitor.tui.palette import DIM, FAINT, NOTICE, PLAIN, STRONG
from monitor.tui.panels.wrapped import wrapped
from monitor.tui.rows import Row, View
from monitor.tui.screens.listing import Column, Entry, ListScreen
from monitor.tui.screens.page import ELSEWHERE, MOVE
from monitor.tui.screens.silence_window import EndWindow, SilenceWindow, told
from monitor.tui.server import Asked

_ORDER = {"active": 0, "pending": 1, "expired": 2}
_NAMES = 8


class SilencesScreen(ListScreen):
    """``x`` ends the silence under the cursor, ``enter`` changes it, ``n`` begins another."""

    NAME = "silences"
    READ_SECONDS = 5.0
    KEYS = (*MOVE, ("enter", "change"), ("x", "end"), ("n", "new"), ("esc", "back"), *ELSEWHERE)
    WORDS: ClassVar[tuple[tuple[str, str], ...]] = (
        ("holds", "alerts of now that it keeps people from being told of"),
        ("expired", "it is over, and changed it becomes a new one"),
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("x", "end", "end the silence"),
        Binding("m", "go", "change the silence"),
        Binding("n", "new", "a new silence"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._silences: Sequence[SilenceRow] | None = None
        self._why_not = ""
        """Why they cannot be read, with what to do."""

    def about(self, **about: object) -> None:
        """Read anew."""
        super().about()
        self._silences, self._why_not, self.said = None, "", ""

    async def read(self, server: Asked, at_ms: int | None, range_seconds: int) -> None:
        try:
            self._silences, self._why_not = await server.alerting.silences(), ""
        except ClientError as error:
            self._why_not = told(error)

    # -- keys --------------------------------------------------------------------------------------------------------

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """What can be done now: a silence leads nowhere, and can be changed."""
        return True if action == "go" else super().check_action(action, parameters)

    def action_go(self) -> None:
        """Open the editor, filled in."""
        row = self._row_under()
        if row is None or self._may_not():
            return
        try:
            self.shell.cover(SilenceWindow.of_silence(self, row))
        except MatcherError as error:
            self.tell(f"it cannot be changed here: {clean(str(error))}")

    def action_new(self) -> None:
        """Open the editor, empty."""
        if not self._may_not():
            self.shell.cover(SilenceWindow.of_nothing(self))

    def action_end(self) -> None:
        """Ask whether it is to end."""
        row = self._row_under()
        if row is not None and row.state == "expired":
            self.tell("it is over already")
        elif row is not None and not self._may_not():
            self.shell.cover(EndWindow(self, row))

    def _may_not(self) -> bool:
        """Whether nothing may be changed from here; then it was said."""
        if self.shell.readonly:
            self.tell("the TUI was started with --readonly: no silence can be changed from it")
        return self.shell.readonly

    def _row_under(self) -> SilenceRow | None:
        thing = self.under.thing if self.under is not None else None
        return thing if isinstance(thing, SilenceRow) else None

    # -- the list ----------------------------------------------------------------------------------------------------

    def above(self, view: View, width: int) -> Sequence[Row]:
        if view.at_ms is not None:
            return (Row().put("   silences are those of now, not of the moment that is looked at", NOTICE),)
        if self._why_not and self._silences is not None:
            return wrapped("", f"not read: {self._why_not}", width, NOTICE, indent=3)
        return (
            wrapped("", f"silences cannot be read: {self._why_not}", width, NOTICE, indent=3) if self._why_not else ()
        )

    def columns(self, view: View) -> Sequence[Column]:
        wide = max(26, (self.size.width - 54) * 3 // 5)
        return (
            Column("state", 9),
            Column("until", 22),
            Column("holds", 8, right=True),
            Column("  matchers", wide + 2),
            Column("by", 12, from_width=100),
            Column("why"),
        )

    def nothing(self, view: View) -> str:
        if self._why_not:
            return "none is known"
        return "reading …" if self._silences is None else "no silence; n begins one, s on an alert silences that"

    def entries(self, view: View) -> list[Entry]:
        if view.snapshot is None or self._silences is None:
            return []
        now_ms = view.snapshot.now_ms if view.now_ms is None else view.now_ms
        alerts = view.snapshot.alerts if view.at_ms is None else None
        rows = sorted(self._silences, key=_rank)
        return [_entry(row, now_ms, None if alerts is None else _held(row, alerts)) for row in rows]

    def detail(self, entry: Entry, width: int, height: int) -> Sequence[Row]:
        row, snapshot = entry.thing, self.view.snapshot
        if not isinstance(row, SilenceRow) or snapshot is None:
            return ()
        rows = [Row().put(f"  {row.state}", STRONG).put(f"  {_span(row)}", DIM)]
        rows += wrapped("why", row.comment, width)
        rows += wrapped("by", f"{row.created_by}   (id {row.id})", width)
        for number, one in enumerate(row.matchers):
            rows += wrapped("" if number else "matchers", str(one), width, STRONG)
        if self.view.at_ms is None:
            found = _held(row, snapshot.alerts)
            if found is None:
                rows += wrapped("holds", "cannot be told: a matcher is none that is known here", width, NOTICE)
            elif row.state == "active":
                names = [f"{one.name} ({one.summary})" if one.summary else one.name for one in found]
                text = "; ".join(names[:_NAMES]) + (f"; and {len(names) - _NAMES} more" if len(names) > _NAMES else "")
                rows += wrapped("holds", text or "no alert of now", width)
        return rows


def _rank(row: SilenceRow) -> tuple[int, int]:
    """Those that hold first, the next to end first; then those to come; then those that are over, the last first."""
    order = _ORDER.get(row.state, 3)
    ends, begins = row.ends_at_ms or 0, row.starts_at_ms or 0
    return order, begins if row.state == "pending" else -ends if row.state == "expired" else ends


def _held(row: SilenceRow, alerts: Sequence[Alert]) -> list[Alert] | None:
    """The alerts that it would hold; None where that cannot be told."""
    try:
        return held(matchers_of(row), alerts)
    except MatcherError:
        return None


def _entry(row: SilenceRow, now_ms: int, found: list[Alert] | None) -> Entry:
    active = row.state == "active"
    style = PLAIN if active else DIM if row.state == "pending" else FAINT
    holds = len(found) if found is not None and active else None
    matchers = ", ".join(clean(str(one)) for one in row.matchers)
    cells = (
        (row.state or "unknown", STRONG if active else style),
        (_when(row, now_ms), style),
        (ABSENT if holds is None else str(holds), style),
        (f"  {matchers}", style),
        (row.created_by, style),
        (row.comment, style),
    )
    text = " ".join((row.state, matchers, row.created_by, row.comment, row.id))
    sort = (row.state, row.ends_at_ms, holds, matchers, row.created_by, row.comment)
    return Entry(row.id, cells, text, sort, row, copies=row.id)


def _when(row: SilenceRow, now_ms: int) -> str:
    begins, ends = row.starts_at_ms, row.ends_at_ms
    if begins is None or ends is None:
        return ABSENT
    if row.state == "pending":
        return f"begins in {duration((begins - now_ms) / 1000)}"
    if row.state == "expired":
        return f"{duration((now_ms - ends) / 1000)} ago"
    return f"{clock(ends)}, {duration((ends - now_ms) / 1000)}"


def _span(row: SilenceRow) -> str:
    begins, ends = row.starts_at_ms, row.ends_at_ms
    if begins is None or ends is None:
        return ""
    # The server takes its own clock for the begin, which is a little later than what it was asked for.
    return f"{clock(begins, date=True)} to {clock(ends, date=True)}, {duration((ends - begins) / 1000 + 1)}"
