"""The events: alerts that fired and ended, XIDs, restarts, the clock, lines of logs. Enter goes there."""

from __future__ import annotations

from collections.abc import Sequence

from rich.style import Style

from monitor.client.format import clock
from monitor.client.snapshot import Happening
from monitor.tui.palette import CRITICAL, DIM, GOOD, NOTICE, PLAIN, STRONG
from monitor.tui.rows import Row, View
from monitor.tui.screens.listing import Column, Entry, ListScreen, words
from monitor.tui.screens.page import ELSEWHERE, MOVE

_COLUMNS = (Column("when", 21), Column("severity", 10), Column("what", 12), Column(""))


class EventsScreen(ListScreen):
    """What happened, the newest first, up to the moment that is looked at."""

    NAME = "events"
    HEEDS = True
    KEYS = (*MOVE, ("enter", "go there"), *ELSEWHERE)

    def columns(self, view: View) -> Sequence[Column]:
        return _COLUMNS

    def nothing(self, view: View) -> str:
        if view.events_refused:
            return f"events cannot be read: {view.events_refused}"
        return "reading …" if view.happened is None else "nothing has happened"

    def entries(self, view: View) -> list[Entry]:
        until_ms = view.at_ms if view.at_ms is not None else 1 << 60
        return [self._entry(one) for one in view.happened or () if one.at_ms <= until_ms]

    def _entry(self, one: Happening) -> Entry:
        ended = one.kind in ("resolved", "passed")
        cells = (
            (clock(one.at_ms, date=True), DIM),
            (one.severity, DIM if ended else _style(one.severity)),
            (one.kind, GOOD if ended else PLAIN),
            (one.title, DIM if ended else PLAIN),
        )
        text = f"{one.kind} {one.severity} {one.title} {_labels(one)}"
        return Entry(f"{one.at_ms} {text}", cells, text, (one.at_ms,), one, one.at_ms, one.title)

    def detail(self, entry: Entry, width: int, height: int) -> Sequence[Row]:
        one = entry.thing
        if not isinstance(one, Happening):
            return ()
        rows = [Row().put(f"  {one.title}", STRONG)]
        for label, text in (("", one.detail), ("labels", _labels(one))):
            if text:
                rows += words(label, [text], width)
        return rows


def _labels(one: Happening) -> str:
    return ", ".join(f"{key}={value}" for key, value in one.labels.items())


def _style(name: str) -> Style:
    return CRITICAL if name == "critical" else NOTICE if name == "warning" else DIM
