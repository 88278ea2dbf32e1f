"""The events on one line of time: alerts that fired and ended, faults, restarts, what came and went, reloads. Enter
takes everything to the moment of one."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType

from monitor.client.format import clock, duration
from monitor.client.snapshot import Happening
from monitor.tui.happenings import (
    GLYPHS,
    GROUPS,
    LEVEL_WORDS,
    NOTE,
    OVER,
    STYLES,
    Group,
    Span,
    group_of,
    level_of,
    name_of,
    run_of,
    spans,
    style_of,
    word_of,
)
from monitor.tui.palette import DIM, NOTICE, PLAIN, STRONG
from monitor.tui.panels.chart import Spot
from monitor.tui.panels.timeline import LABEL, Scale, Stretch, scale_of, strip
from monitor.tui.rows import Row, View
from monitor.tui.screens.listing import Column, Entry, ListScreen, words
from monitor.tui.screens.page import ELSEWHERE, MOVE

_RANGE = 600
_LANES_FROM = 34
"""Lines of the terminal from which on each group of kinds has a line of its own."""
_SMALL = 30
_AROUND_MS = 60_000
"""What happened so near to an event is told with it."""
_KINDS = ("all", *GROUPS)


class EventsScreen(ListScreen):
    """What happened, the newest first, up to the moment that is looked at. ``v`` chooses of what kinds."""

    NAME = "events"
    HEEDS = True
    KEYS = (*MOVE, ("enter", "go there"), ("v", "kinds"), ("[ ]", "range"), ("y", "copy"), *ELSEWHERE)
    WORDS = (
        ("faults", "what the driver, the kernel and the hardware say: XIDs, ECC, a GPU lost, memory that ran out"),
        ("sources", "what gpumon reads: a source that gave nothing for three of its intervals, and its return"),
        ("gpumon", "its own begin and end, reloads, its clock, its history"),
        ("probes", "load that was measured; enter opens the run"),
        ("lasted", "how long; “goes on” where nothing has ended it yet"),
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("v", "kinds(1)", "next kinds"),
        Binding("V", "kinds(-1)", "kinds before"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._kind = 0
        self._of: Sequence[Happening] | None = None
        self._lasting: Mapping[int, Span] = {}
        self._shown: Sequence[Happening] = ()
        self._stretches: list[Stretch] = []
        self._lanes: list[Group] = []
        """The groups that have a line each: probes only where there ever was one."""
        self._made: list[Entry] = []
        self._made_of: tuple[object, ...] = ()
        self._known: dict[int, tuple[str, Entry]] = {}
        """Entries by ``id`` of their happening, each with how long that lasted: of thousands seldom more than one is
        another than before."""
        self._scale: Scale | None = None
        self._line = 0

    # -- the list ----------------------------------------------------------------------------------------------------

    @property
    def kinds(self) -> str:
        """The kinds that are shown: ``all``, or a group."""
        return _KINDS[self._kind]

    def action_kinds(self, by: int) -> None:
        """Show the next kinds, or those before."""
        self._kind = (self._kind + by) % len(_KINDS)
        self.draw()

    def caption(self) -> str:
        return self.NAME if self.kinds == "all" else f"{self.NAME}: {self.kinds}"

    def columns(self, view: View) -> Sequence[Column]:
        wide = self.size.width >= 100
        return (
            Column("when", 20 if wide else 13),
            Column("severity", 11),
            Column("kind", 14, from_width=100),
            Column("lasted", 9, right=True),
            Column("what"),
        )

    def nothing(self, view: View) -> str:
        if view.events_refused:
            return f"events cannot be read: {view.events_refused}"
        if view.happened is None:
            return "reading …"
        if self.kinds != "all":
            return f"no event of this kind: {self.kinds}. v shows others"
        return "no alert has fired, as far as its ALERTS tell" if _plain(view) else "nothing has happened"

    def entries(self, view: View) -> list[Entry]:
        if view.happened is not self._of:
            self._of, self._lasting = view.happened, spans(view.happened or ())
        today = None if view.snapshot is None else clock(view.snapshot.now_ms, date=True)[:10]
        firing = frozenset(
            (one.name, tuple(sorted(one.labels.items())))
            for one in (view.snapshot.alerts if view.snapshot is not None else ())
            if one.state == "firing"
        )
        # Thousands are made anew only when one of these differs.
        made_of = (view.happened, view.at_ms, self._kind, self.size.width >= 100, today, firing)
        if len(made_of) != len(self._made_of) or any(
            a is not b and a != b for a, b in zip(made_of, self._made_of, strict=True)
        ):
            until_ms = view.at_ms if view.at_ms is not None else 1 << 60
            if made_of[3:5] != self._made_of[3:5]:
                self._known.clear()  # times look otherwise
            names = {name for name, _ in firing}
            happened = view.happened or ()
            self._shown = happened if self.kinds == "all" else [one for one in happened if group_of(one) == self.kinds]
            known = {}
            for one in self._shown:
                if one.at_ms <= until_ms:
                    known[id(one)] = self._known_entry(one, view, names)
            if self.kinds == "all" and view.at_ms is None:
                self._known = known
            self._made = [entry for _, entry in known.values()]
            there = {group_of(one) for one in self._shown}
            self._lanes = [one for one in GROUPS if one != "probes" or one in there]
            self._stretches = [
                Stretch(one.at_ms, span.until_ms, level_of(one), group_of(one))
                for one in self._shown
                if (span := self._lasting.get(id(one))) is not None
                and span.begin is one
                and (level_of(one) > NOTE or group_of(one) == "probes")
                and not _unrecorded(one, span, names)
            ]
            self._made_of = made_of
        return self._made

    def _known_entry(self, one: Happening, view: View, firing: set[str]) -> tuple[str, Entry]:
        span = self._lasting.get(id(one))
        lasted = _lasted(one, span, firing)
        known = self._known.get(id(one))
        if known is not None and known[0] == lasted and known[1].thing is one:
            return known
        return lasted, self._entry(one, span, lasted, view)

    def _entry(self, one: Happening, span: Span | None, lasted: str, view: View) -> Entry:
        level = level_of(one)
        quiet = DIM if level == OVER else style_of(one) if level != NOTE else PLAIN
        word = one.severity if level > NOTE else LEVEL_WORDS[level]
        cells = (
            (_when(one.at_ms, view, self.size.width >= 100), DIM),
            (f"{GLYPHS[level]} {word}", STYLES[level]),
            (word_of(one), quiet if level != NOTE else DIM),
            (lasted, DIM),
            (one.title, DIM if level == OVER else PLAIN),
        )
        labels = _labels(one)
        text = f"{one.kind} {word_of(one)} {group_of(one)} {one.severity} {one.title} {labels}"
        seconds = None if span is None or span.until_ms is None else (span.until_ms - span.begin.at_ms) / 1000
        sort = (one.at_ms, -level, word_of(one), seconds, one.title.lower())
        run = run_of(one)
        opens: tuple[str, dict[str, object]] | None = ("run", {"ident": run}) if run else None
        key = f"{one.at_ms} {one.kind} {one.title} {labels}"
        return Entry(key, cells, text, sort, one, one.at_ms, one.title, opens)

    # -- the line of time --------------------------------------------------------------------------------------------

    def detail_lines(self, height: int) -> int:
        return 6 if 20 <= height < _SMALL else super().detail_lines(height)

    def above(self, view: View, width: int) -> Sequence[Row]:
        rows = []
        self._scale = None
        if view.events_refused and view.happened is not None:
            rows.append(Row().put(f"  not read again: {view.events_refused}", NOTICE))
        if _plain(view):
            rows.append(Row().put("  a Prometheus keeps alerts alone; a gpumon daemon on the node tells the rest", DIM))
        if view.snapshot is None or view.happened is None or self.size.height < 16:
            return rows
        now_ms = view.at_ms if view.at_ms is not None else view.snapshot.now_ms
        self._scale = scale_of(now_ms, view.range_seconds or _RANGE, max(10, width - LABEL - 1))
        under = self.under.thing if self.under is not None else None
        drawn = strip(
            self._shown,
            self._stretches,
            self._scale,
            now_ms,
            under if isinstance(under, Happening) else None,
            self._lanes if self.size.height >= _LANES_FROM and self.kinds == "all" else (),
        )
        self._line = len(drawn) - 1
        return [*rows, *drawn]

    def spot_at(self, x: int, y: int) -> Spot | None:
        """The line of time is a graph for the mouse: a click goes to its moment."""
        scale, last = self._scale, self._first - 2  # the columns' titles are below it
        if scale is None:
            return None
        spot = Spot(LABEL, last - self._line, scale.width, self._line + 1, scale.end_ms, scale.cell_ms)
        return spot if spot.moment(x, y) is not None else None

    # -- one event ---------------------------------------------------------------------------------------------------

    def detail(self, entry: Entry, width: int, height: int) -> Sequence[Row]:
        one = entry.thing
        if not isinstance(one, Happening):
            return ()
        level = level_of(one)
        head = Row().put(f"  {GLYPHS[level]} ", STYLES[level]).put(one.title, STRONG)
        rows = [head, *words("when", [self._told_when(one)], width)]
        probe = "enter opens the run" if run_of(one) else ""
        for label, text in (("", one.detail), ("labels", _labels(one)), ("", probe)):
            if text:
                rows += words(label, [text], width)
        room = height - len(rows)
        near = self._around(one) if room >= 2 else []
        for number, other in enumerate(near[:room]):
            apart = (other.at_ms - one.at_ms) / 1000
            row = Row().put("  around       " if not number else " " * 15, DIM)
            row.put(f"{apart:+.0f} s".replace("+0 s", "then").replace("-0 s", "then"), DIM, 7)
            rows.append(row.put(f"{GLYPHS[level_of(other)]} ", STYLES[level_of(other)]).put(other.title))
        return rows

    def _told_when(self, one: Happening) -> str:
        parts = [clock(one.at_ms, date=True)]
        snapshot = self.view.snapshot
        if snapshot is not None and one.at_ms <= snapshot.now_ms:
            ago = duration((snapshot.now_ms - one.at_ms) / 1000)
            parts.append(f"{ago} ago" if self.view.at_ms is None else f"{ago} before the moment that is looked at")
        span = self._lasting.get(id(one))
        if span is None:
            return ", ".join(parts)
        until_ms = span.until_ms
        if until_ms is None:
            parts.append("nothing has ended it, as far as is known")
        elif span.begin is one:
            lasted = f"lasted {duration((until_ms - one.at_ms) / 1000)}, until {clock(until_ms)}"
            parts.append(lasted + _other_words(one, span.end))
        else:
            lasted = duration((until_ms - span.begin.at_ms) / 1000)
            parts.append(f"it began {clock(span.begin.at_ms)} and lasted {lasted}" + _other_words(one, span.begin))
        return ", ".join(parts)

    def _around(self, one: Happening) -> list[Happening]:
        """What happened near it, the nearest first."""
        until_ms = self.view.at_ms if self.view.at_ms is not None else 1 << 60
        happened = self.view.happened or ()
        first = bisect_left(happened, -min(until_ms, one.at_ms + _AROUND_MS), key=lambda other: -other.at_ms)
        last = bisect_right(happened, _AROUND_MS - one.at_ms, lo=first, key=lambda other: -other.at_ms)
        near = [other for other in happened[first:last] if other is not one]
        return sorted(near, key=lambda other: abs(other.at_ms - one.at_ms))


def _plain(view: View) -> bool:
    return view.snapshot is not None and view.snapshot.node.mode == "prometheus"


def _when(at_ms: int, view: View, wide: bool) -> str:
    told = clock(at_ms, date=True)
    if wide:
        return told
    today = view.snapshot is not None and clock(view.snapshot.now_ms, date=True)[:10] == told[:10]
    return told[11:] if today else told[5:16]


def _lasted(one: Happening, span: Span | None, firing: set[str]) -> str:
    """How long it lasted, or that it goes on."""
    if span is None:
        return ""
    if span.until_ms is not None:
        return duration((span.until_ms - span.begin.at_ms) / 1000)
    return "–" if _unrecorded(one, span, firing) else "goes on"


def _unrecorded(one: Happening, span: Span, firing: set[str]) -> bool:
    """Whether its end is not on record, though it is over: an alert that does not fire."""
    return span.until_ms is None and one.kind == "firing" and name_of(one) not in firing


def _other_words(one: Happening, other: Happening | None) -> str:
    """What the other end of a span says, where that is not the same again."""
    if other is None or name_of(one) == name_of(other):
        return ""
    return f": {other.title}"


def _labels(one: Happening) -> str:
    return ", ".join(f"{key}={value}" for key, value in one.labels.items())
