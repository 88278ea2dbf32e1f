"""The rules: what each asks, whether it could be evaluated, when and how fast, and which have never matched
anything."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import ClassVar

from rich.style import Style
from textual.binding import Binding, BindingType

from monitor.client.format import ABSENT, duration, seconds
from monitor.client.rules import Rule
from monitor.durations import format_duration
from monitor.tui.palette import CRITICAL, DIM, FAINT, GOOD, NOTICE, PLAIN, STRONG, severity
from monitor.tui.panels.alert_detail import told_runbook
from monitor.tui.panels.wrapped import LABEL, wrapped
from monitor.tui.rows import Row, View
from monitor.tui.screens.listing import Column, Entry, ListScreen
from monitor.tui.screens.page import ELSEWHERE, MOVE
from monitor.tui.server import Asked

_TEMPLATE = re.compile(r"\{\{.*?\}\}")
_LABELS = {"description": "why", "action": "do", "runbook_url": "runbook", "dashboard_url": "board"}
_GROUP_FROM = 140
"""Columns of the terminal."""
_STATES = ("", "fails", "firing", "pending", "never matched")
_ORDER = {"fails": 0, "firing": 1, "pending": 2}
_WORKS = {"ok": "ok", "err": "fails", "unknown": "not yet"}


class RulesScreen(ListScreen):
    """``y`` copies the expression of the rule under the cursor."""

    NAME = "rules"
    READ_SECONDS = 5.0
    KEYS = (*MOVE, ("v", "by state"), ("r", "runbook"), ("y", "copy PromQL"), ("esc", "back"), *ELSEWHERE)
    WORDS: ClassVar[tuple[tuple[str, str], ...]] = (
        ("never matched", "no series that the rule asks for was ever there: it cannot fire as things are"),
        ("recording", "it gives a series of its own, and alerts nobody"),
        ("evaluated", "how long ago, and how long it took"),
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("v", "next_state", "those of one state alone"),
        Binding("r", "runbook", "what to do about its alerts"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.shown = ""
        self._rules: Sequence[Rule] | None = None
        self._wanted = ""
        """The rule that the cursor is to be on, by its key."""

    def about(self, **about: object) -> None:
        """``rule`` is the key of the rule that the cursor is to be on."""
        super().about()
        self.shown, self._wanted = "", str(about.get("rule", ""))

    async def read(self, server: Asked, at_ms: int | None, range_seconds: int) -> None:
        self._rules = await server.alerting.rules()

    def action_next_state(self) -> None:
        """Show the rules of one state alone, then of the next, then all."""
        self.shown = _STATES[(_STATES.index(self.shown) + 1) % len(_STATES)]
        self.draw()

    def action_runbook(self) -> None:
        """Open the runbook of the rule under the cursor."""
        rule = self.under.thing if self.under is not None else None
        if isinstance(rule, Rule) and not rule.records:
            self.shell.open("runbook", name=rule.name, url=told_runbook(rule))
        else:
            self.tell("a runbook is of an alert: this rule records a series")

    # -- the list ----------------------------------------------------------------------------------------------------

    def caption(self) -> str:
        return f"rules, {self.shown} only" if self.shown else "rules"

    def above(self, view: View, width: int) -> Sequence[Row]:
        rows = []
        if view.at_ms is not None:
            rows.append(Row().put("   rules are those of now, not of the moment that is looked at", NOTICE))
        if self._rules is not None and self.refused:
            rows.append(Row().put(f"   not read: {self.refused}", NOTICE))
        if self._rules and self.size.height >= 30:
            counts = {state: sum(_is(one, state) for one in self._rules) for state in _STATES[1:]}
            if all(one.never_matched is None for one in self._rules):
                del counts["never matched"]  # a Prometheus does not say
            row = Row().put("   ")
            for state, number in counts.items():
                bad = CRITICAL if state == "fails" else PLAIN
                row.put(f"{number} ", bad if number else DIM).put(f"{_words(state, number)}   ", DIM)
            rows.append(row)
        return rows

    def columns(self, view: View) -> Sequence[Column]:
        longest = max((len(one.name) for one in self._rules or ()), default=30)
        name = max(20, min(longest + 1, self.size.width - 50 if self.size.width < 110 else self.size.width - 85))
        return (
            Column("rule", name),
            Column("kind", 10, from_width=110),
            Column("state", 10),
            Column("works", 9),
            Column("for", 6, right=True),
            Column("active", 8, right=True),
            Column("evaluated", 11, right=True, from_width=100),
            Column("took", 9, right=True, from_width=100),
            Column("  group", 18, from_width=_GROUP_FROM),
            Column("remark" if self.size.width >= _GROUP_FROM else "  remark"),  # behind a number there is a gap
        )

    def nothing(self, view: View) -> str:
        if self.refused:
            return f"rules cannot be read: {self.refused}"
        if self._rules is None:
            return "reading …"
        return f"no rule {_words(self.shown, 1)}" if self.shown else "there are no rules"

    def entries(self, view: View) -> list[Entry]:
        now_ms = view.snapshot.now_ms if view.snapshot is not None else 0
        now_ms = now_ms if view.now_ms is None else view.now_ms
        known = [one for one in self._rules or () if not self.shown or _is(one, self.shown)]
        known.sort(key=lambda one: 3 if one.labels.get("severity") == "none" else _ORDER.get(_state(one), 3))
        if self._wanted and any(one.key == self._wanted for one in known):
            self._cursor, self._wanted = self._wanted, ""
        return [_entry(one, now_ms) for one in known]

    # -- the rule under the cursor -----------------------------------------------------------------------------------

    def detail_lines(self, height: int) -> int:
        return super().detail_lines(height) if height < 30 else height * 2 // 5

    def detail(self, entry: Entry, width: int, height: int) -> Sequence[Row]:
        rule = entry.thing
        if not isinstance(rule, Rule):
            return ()
        rows = [Row().put(f"  {rule.name}", STRONG).put("  recording" if rule.records else "  alerting", DIM)]
        if rule.health == "err":
            rows += wrapped("fails", rule.error or "it is not said why", width, CRITICAL)
        if rule.never_matched:
            rows += wrapped("", _NEVER, width, NOTICE)
        rows += [
            row
            for number, line in enumerate(rule.expr.strip("\n").splitlines() or [""])
            for row in _code("" if number else "expr", line, width)
        ]
        terms = [] if rule.records else [f"after {_length(rule.for_seconds)}" if rule.for_seconds else "at once"]
        if rule.keep_seconds:
            terms.append(f"kept up for {_length(rule.keep_seconds)}")
        labels = ", ".join(f"{key}={value}" for key, value in rule.labels.items())
        for label, text in (("fires", ", ".join(terms)), ("labels", labels)):
            if text:
                rows += wrapped(label, text, width)
        for name, text in rule.annotations.items():
            rows += wrapped(_LABELS.get(name, name[: LABEL - 3]), text, width)
        where = f"group {rule.group}, every {_length(rule.interval_seconds)}, {rule.file}"
        return [*rows, *wrapped("file", where, width, DIM)]


_NEVER = "never matched: no series that it asks for was ever there. As things are it cannot fire, or record anything"


def _code(label: str, line: str, width: int) -> list[Row]:
    """A line of PromQL, as far in as it was written."""
    begin = LABEL + min(len(line) - len(line.lstrip()), 20)
    return wrapped(label, line.strip(), width, STRONG, indent=begin)


def _length(value: float) -> str:
    return format_duration(round(value * 1000))


def _took(rule: Rule) -> str:
    took = rule.took_seconds
    if took is None or rule.evaluated_ms is None:
        return ABSENT
    return f"{took * 1000:.2f} ms" if took < 0.00095 else seconds(took)


def _state(rule: Rule) -> str:
    return "fails" if rule.health == "err" else rule.state


def _is(rule: Rule, state: str) -> bool:
    return bool(rule.never_matched) if state == "never matched" else _state(rule) == state


def _words(state: str, number: int) -> str:
    one = number == 1
    return {
        "fails": "fails" if one else "fail",
        "firing": "fires" if one else "fire",
        "pending": "is pending" if one else "are pending",
        "never matched": "never matched any series",
    }[state]


def _remark(rule: Rule) -> tuple[str, Style]:
    if rule.health == "err":
        return rule.error or "fails", CRITICAL
    if rule.never_matched:
        return "never matched any series", NOTICE
    return _TEMPLATE.sub("…", rule.annotations.get("summary", "")), FAINT


def _entry(rule: Rule, now_ms: int) -> Entry:
    ago = None if rule.evaluated_ms is None else max(0, now_ms - rule.evaluated_ms) / 1000
    works = _WORKS.get(rule.health, rule.health)
    fires = rule.state == "firing"
    style = severity(rule.labels.get("severity", "")) if fires else PLAIN if rule.state == "pending" else DIM
    active = rule.firing + rule.pending
    remark, remark_style = _remark(rule)
    cells = (
        (rule.name, STRONG if fires or rule.state == "pending" else PLAIN),
        ("recording" if rule.records else "alerting", DIM),
        (rule.state or ABSENT, style),
        (works, CRITICAL if rule.health == "err" else GOOD if rule.health == "ok" else DIM),
        (_length(rule.for_seconds) if rule.for_seconds else ABSENT, DIM),
        (ABSENT if rule.records else str(active), PLAIN if active else DIM),
        (ABSENT if ago is None else f"{duration(ago)} ago", DIM),
        (_took(rule), DIM),
        (f"  {rule.group}", DIM),
        (remark, remark_style),
    )
    text = " ".join((rule.name, rule.group, cells[1][0], rule.state, works, remark, rule.expr))
    took = rule.took_seconds if rule.evaluated_ms is not None else None
    sort = (rule.name, cells[1][0], rule.state, works, rule.for_seconds, active, ago, took, rule.group, remark)
    return Entry(rule.key, cells, text, sort, rule, copies=" ".join(rule.expr.split()))
