"""The alerts: what fires, what is pending, what is kept back and what is over, at the moment that is looked at; why,
and what to do about it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType

from monitor.client.alertmanager_wire import SilenceRow
from monitor.client.ended import Ended, is_same
from monitor.client.errors import ClientError
from monitor.client.format import clean
from monitor.client.results import Lens
from monitor.client.rules import Drawn, Rule, curve_queries, curves_of, rule_of
from monitor.client.silences import LabelMatcher, held, holding
from monitor.client.snapshot import Alert
from monitor.client.wire import Query
from monitor.records import replace
from monitor.tui.compositor import is_whole
from monitor.tui.palette import DIM, GOOD, NOTICE, PLAIN, severity
from monitor.tui.panels.alert_detail import Known, runbook_of, told
from monitor.tui.panels.chart import Spot
from monitor.tui.panels.compared import LEAST, ComparedCharts
from monitor.tui.rows import Row, View
from monitor.tui.screens.alert_entries import entry_of, key_of, over_entry, state_of
from monitor.tui.screens.listing import Column, Entry, ListScreen
from monitor.tui.screens.page import ELSEWHERE, MOVE
from monitor.tui.screens.silence_window import SilenceWindow
from monitor.tui.server import Asked

_STATES = ("", "firing", "pending", "silenced", "resolved")
_SAID = {"": "alerts", "silenced": "alerts, silenced or inhibited only"}
_RULES_EVERY = 12
"""Rules change seldom: they are read each so many times."""
_NEVER = 10_000
_SIDE_BY_SIDE = 150
"""From so many columns on graphs stand beside the words."""


class AlertsScreen(ListScreen):
    """``s`` silences the alert under the cursor, Enter goes to where it began."""

    NAME = "alerts"
    READ_SECONDS = 5.0
    KEYS = (
        *MOVE,
        ("s", "silence"),
        ("r", "runbook"),
        ("v", "by state"),
        ("S", "silences"),
        ("R", "rules"),
        ("enter", "go to its begin"),
        *ELSEWHERE,
    )
    WORDS: ClassVar[tuple[tuple[str, str], ...]] = (
        ("pending", "its expression holds, but not for as long as the rule wants"),
        ("silenced", "it fires, and a silence keeps people from being told"),
        ("inhibited", "it fires, and a graver alert speaks for it"),
        ("resolved", "it fired within the last day, and is over"),
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("s", "silence", "silence this alert"),
        Binding("r", "runbook", "what to do about this alert"),
        Binding("v", "next_state", "those of one state alone"),
        Binding("S", "silences", "all silences"),
        Binding("R", "rules", "all rules"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.shown = ""
        """The state that is shown alone; "" for all."""
        self._wanted = ""
        """The alert that the cursor is to be on, by its fingerprint."""
        self._lost = ""
        """What the cursor was on and is gone: it comes back as over, some seconds later."""
        self._rules: Sequence[Rule] | None = None
        self._rules_refused = ""
        self._ended: Sequence[Ended] = ()
        self._ended_of: int | None = None
        self._ended_refused = ""
        self._silences: Sequence[tuple[SilenceRow, Sequence[LabelMatcher]]] = ()
        """Those that hold now."""
        self._reads = 0
        self._rule: Rule | None = None
        """Of the alert under the cursor: its series are watched."""
        self._charts = ComparedCharts()
        self._charted = ""
        self._spots: list[Spot] = []
        """Where graphs are, in lines of the detail."""

    def about(self, **about: object) -> None:
        """``under`` is the fingerprint of the alert that the cursor is to be on."""
        self._wanted = str(about.pop("under", ""))
        super().about(**about)
        self.shown = ""

    # -- what is read beside the picture -----------------------------------------------------------------------------

    async def read(self, server: Asked, at_ms: int | None, range_seconds: int) -> None:
        if self._rules is None or self._reads % _RULES_EVERY == 0:
            try:
                self._rules, self._rules_refused = await server.alerting.rules(), ""
            except ClientError as error:
                self._rules_refused = clean(error.what)
        self._reads += 1
        try:
            self._ended, self._ended_of = await server.alerting.ended(at_ms), at_ms
            self._ended_refused = ""
        except ClientError as error:
            self._ended_refused = clean(error.what)
        try:
            self._silences = holding(await server.alerting.silences())
        except ClientError:  # as of a Prometheus whose Alertmanager was not named
            self._silences = ()

    def asked(self, lens: Lens) -> Sequence[Query]:
        return curve_queries(self._rule, lens) if self._rule is not None else ()

    def draw(self) -> None:
        self._spots = []
        under = self._cursor
        super().draw()
        if under and self._cursor != under and not self._lost:
            self._lost = under
        # The series of the alert under the cursor are watched: of another rule's, others.
        alert = self._alert_under()
        rule = rule_of(self._rules or (), alert.labels) if alert is not None else None
        if is_whole(self) and (rule.key if rule else "") != (self._rule.key if self._rule else ""):
            self._rule, self.answers = rule, None
            self.shell.refetch()

    def _alert_under(self) -> Alert | None:
        thing = self.under.thing if self.under is not None else None
        return thing.alert if isinstance(thing, Ended) else thing if isinstance(thing, Alert) else None

    def action_move(self, by: int) -> None:
        """Move the cursor."""
        self._lost = ""
        super().action_move(by)

    # -- keys --------------------------------------------------------------------------------------------------------

    def action_silence(self) -> None:
        """Open the editor of a silence of the alert under the cursor."""
        alert = self._alert_under()
        if self.shell.readonly:
            self.tell("the TUI was started with --readonly: nothing can be silenced from it")
        elif self.view.at_ms is not None:
            self.tell("a silence begins now: go to where now is first (l)")
        elif alert is None:
            self.tell("there is no alert here to silence")
        else:  # one that is over may come again
            self.shell.cover(SilenceWindow.of_alert(self, alert))

    def action_runbook(self) -> None:
        """Open the runbook of the alert under the cursor."""
        alert = self._alert_under()
        if alert is None:
            self.tell("there is no alert here that a runbook could be of")
        else:
            self.shell.open("runbook", name=alert.name, url=runbook_of(alert, self._rule))

    def action_next_state(self) -> None:
        """Show the alerts of one state alone, then of the next, then all."""
        self.shown = _STATES[(_STATES.index(self.shown) + 1) % len(_STATES)]
        self.said = ""
        self.draw()

    def action_silences(self) -> None:
        """Open the silences."""
        self.shell.open("silences")

    def action_rules(self) -> None:
        """Open the rules, at that of the alert under the cursor."""
        self.shell.open("rules", rule=self._rule.key if self._rule is not None else "")

    # -- the list ----------------------------------------------------------------------------------------------------

    def caption(self) -> str:
        return _SAID.get(self.shown, f"alerts, {self.shown} only")

    def above(self, view: View, width: int) -> Sequence[Row]:
        rows = []
        if self.size.height >= 30 and view.snapshot is not None:
            active = [state_of(one) for one in self._active(view)]
            row = Row().put("   ")
            for word, number, style in (
                ("firing", active.count("firing"), severity("warning")),
                ("silenced or inhibited", active.count("silenced") + active.count("inhibited"), DIM),
                ("pending", active.count("pending"), PLAIN),
                ("resolved in the last day", len(self._over(view)), GOOD),
            ):
                row.put(f"{number} ", style if number else DIM).put(f"{word}   ", DIM)
            rows.append(row)
        if self._ended_refused:
            rows.append(Row().put(f"   what is over is not known: {self._ended_refused}", NOTICE))
        return rows

    def columns(self, view: View) -> Sequence[Column]:
        # As narrow as the names allow: what it says has the rest.
        alerts = view.snapshot.alerts if view.snapshot is not None else ()
        names = [one.name for one in alerts] + [one.alert.name for one in self._ended]
        name = min(28, max((len(one) + 1 for one in names), default=6))
        return (
            Column("severity", 10),
            Column("state", 10),
            Column("lasts", 11),
            Column("ended", 13, from_width=110 if self._ended and self.shown in ("", "resolved") else _NEVER),
            Column("alert", name),
            Column("value", 9, right=True),
            Column("  what"),
        )

    def nothing(self, view: View) -> str:
        if view.snapshot is None:
            return "nothing has been read yet"
        if self.shown:
            return f"none is {'silenced or inhibited' if self.shown == 'silenced' else self.shown}"
        return "no alert fires, none is pending, and none was in the last day"

    def _active(self, view: View) -> Sequence[Alert]:
        """What fires and what is pending. A Prometheus does not say what its Alertmanager's silences hold."""
        snapshot = view.snapshot
        if snapshot is None or view.at_ms is not None or not self._silences or snapshot.node.mode != "prometheus":
            return snapshot.alerts if snapshot is not None else ()
        known = [
            replace(one, muted="silenced") if one.state == "firing" and self._silence_of(one) is not None else one
            for one in snapshot.alerts
        ]
        return sorted(known, key=lambda one: (one.state != "firing", bool(one.muted)))

    def _silence_of(self, alert: Alert) -> SilenceRow | None:
        """The silence that holds an alert now."""
        return next((row for row, matchers in self._silences if held(matchers, (alert,))), None)

    def _over(self, view: View) -> list[Ended]:
        """What is over, and does not fire again, as far as it was read for this moment."""
        if view.snapshot is None or (self._ended_of is None) != (view.at_ms is None):
            return []
        active: dict[str, list[Alert]] = {}
        for alert in view.snapshot.alerts:
            active.setdefault(alert.name, []).append(alert)
        return [
            one
            for one in self._ended
            if not any(is_same(one.alert.labels, other.labels) for other in active.get(one.alert.name, ()))
        ]

    def entries(self, view: View) -> list[Entry]:
        if view.snapshot is None:
            return []
        now_ms = view.snapshot.now_ms
        wanted = next((one for one in view.snapshot.alerts if self._wanted and one.fingerprint == self._wanted), None)
        if wanted is not None:
            self._wanted, self._cursor = "", key_of(wanted)
        if self._lost and any(key_of(one.alert) == self._lost for one in self._over(view)):
            self._lost, self._cursor = "", self._lost
        found = [entry_of(one, now_ms) for one in self._active(view) if self._takes(state_of(one))]
        if self._takes("resolved"):
            found += [over_entry(one, now_ms) for one in self._over(view)]
        return found

    def _takes(self, state: str) -> bool:
        return self.shown in ("", state) or (self.shown == "silenced" and state == "inhibited")

    # -- the alert under the cursor ----------------------------------------------------------------------------------

    def detail_lines(self, height: int) -> int:
        if height < 30:
            return super().detail_lines(height)
        # What the list does not need, in steps, so that it does not jump with each alert that comes and goes.
        rows = -(-max(1, len(self._entries)) // 5) * 5
        return max(height // 2, height - 9 - rows)

    def detail(self, entry: Entry, width: int, height: int) -> Sequence[Row]:
        alert = self._alert_under()
        snapshot = self.view.snapshot
        if alert is None or snapshot is None:
            return ()
        ended = entry.thing if isinstance(entry.thing, Ended) else None
        before = next(
            (one for one in self._ended if one is not ended and is_same(one.alert.labels, alert.labels)), None
        )
        rule = rule_of(self._rules or (), alert.labels)
        silence = self._silence_of(alert) if alert.muted == "silenced" and self.view.at_ms is None else None
        if entry.key != self._charted:
            self._charts.forget()
            self._charted = entry.key
        drawn = self._drawn(alert, rule)
        known = Known(rule, ended, before, silence, passed=drawn[0].holds is False)
        marks, now_ms = self.view.marks, snapshot.now_ms
        if width >= _SIDE_BY_SIDE:
            left = width * 9 // 20
            words = told(alert, known, now_ms, left)[:height]
            charts = self._charts.rows(drawn, now_ms, width - left - 2, height, marks)
            self._spots = [replace(one, x=one.x + left) for one in self._charts.spots]
            return [
                (words[n] if n < len(words) else Row()).to(left).extend(charts[n] if n < len(charts) else Row())
                for n in range(max(len(words), len(charts)))
            ]
        words = told(alert, known, now_ms, width)
        least = LEAST if any(one.history is not None for one in drawn) else 1
        words = words[: max(3, height - max(least, height // 2 if height >= 14 else least))]
        charts = self._charts.rows(drawn, now_ms, width, height - len(words), marks)
        self._spots = [replace(one, y=one.y + len(words)) for one in self._charts.spots]
        return [*words, *charts]

    def spot_at(self, x: int, y: int) -> Spot | None:
        """The graphs below the list: a click goes to its moment."""
        begins = self._first + self._room + 1  # behind the line that ends the list
        found = (replace(one, y=one.y + begins) for one in self._spots)
        return next((one for one in found if one.moment(x, y) is not None), None)

    def _drawn(self, alert: Alert, rule: Rule | None) -> list[Drawn]:
        if rule is None:
            why = self._rules_refused or ("its rule is not there any more" if self._rules is not None else "reading …")
            return [Drawn("", None, problem=why)]
        if self.answers is None:
            return [Drawn("", None, problem=self.refused or "reading …")]
        return curves_of(rule, self.answers, alert.labels)
