"""The lists: alerts, processes, events."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.style import Style
from textual.binding import Binding, BindingType
from textual.events import Key

from monitor.client.format import clock, cut, duration, fit, percent, size
from monitor.client.snapshot import Alert, Happening
from monitor.client.wire import ProcessRow
from monitor.tui.palette import CRITICAL, DIM, GOOD, NOTICE, PLAIN, STRONG, severity
from monitor.tui.rows import Row, View
from monitor.tui.screens.listing import Entry, ListScreen, words
from monitor.yaml_reader import parse_duration_ms

MOVE = (("↑ ↓", "move"), ("/", "filter"))
"""Keys that every list begins with."""
ELSEWHERE = (("1-7", "screens"), ("?", "help"), ("q", "quit"))
"""Keys that every list has."""
_MUTED = {"": "firing", "silenced": "silenced", "inhibited": "inhibited"}


class AlertsScreen(ListScreen):
    """What fires and what is pending, at the moment that is looked at, and what to do about it."""

    NAME = "alerts"
    KEYS = (*MOVE, ("s", "silence"), ("enter", "go to its begin"), *ELSEWHERE)
    BINDINGS: ClassVar[list[BindingType]] = [Binding("s", "silence", "silence")]

    def __init__(self) -> None:
        super().__init__()
        self._typed: str | None = None
        """What is typed while a silence is asked for: how long, and why."""
        self._about: Alert | None = None
        self._name_width = 6

    def action_silence(self) -> None:
        """Begin to ask for a silence of the alert under the cursor."""
        wanted = self.under.key if self.under is not None else ""
        snapshot = self._view.snapshot
        for alert in snapshot.alerts if snapshot is not None else ():
            if (alert.fingerprint or "") == wanted and alert.state == "firing":
                self._about, self._typed, self.said = alert, "1h ", ""
                self.draw()
                return
        self.tell("only what fires can be silenced from here")

    def tell(self, words: str) -> None:
        """Say what came of it."""
        self.said = words
        self.draw()

    def caption(self) -> str:
        if self._typed is None or self._about is None:
            return self.NAME
        return f"silence {self._about.name} for how long, and why: {self._typed}▏  (enter: do it, esc: not)"

    def on_key(self, event: Key) -> None:
        """While a silence is asked for, keys are its letters."""
        if self._typed is None or self._about is None:
            return
        event.stop()
        event.prevent_default()
        if event.key == "escape":
            self._typed = None
        elif event.key in ("backspace", "ctrl+h"):
            self._typed = self._typed[:-1]
        elif event.key == "enter":
            lasting, _, why = self._typed.strip().partition(" ")
            ms = parse_duration_ms(lasting)
            if not ms:
                self.said = f"“{lasting}” is no duration: 30m, 2h, 1d"
            elif not why.strip():
                self.said = "say why, so that others know: 1h fan is being replaced"
            else:
                self.app.silence(self, self._about.labels, ms / 1000, why.strip())  # type: ignore[attr-defined]
                self._typed, self.said = None, "asking …"
        elif event.character is not None and event.is_printable:
            self._typed += event.character
        self.draw()

    def heading(self, view: View) -> Row:
        return Row().put(
            f"   {'severity':10}{'state':10}{'since':9}{'alert':{self._name_width}}{'value':>8}  what", DIM
        )

    def nothing(self, view: View) -> str:
        return "no alert fires, and none is pending" if view.snapshot is not None else "nothing has been read yet"

    def entries(self, view: View) -> list[Entry]:
        if view.snapshot is None:
            return []
        now_ms, width = view.snapshot.now_ms, self.size.width
        # As narrow as the names allow: what it says has the rest.
        self._name_width = min(28, max((len(one.name) + 1 for one in view.snapshot.alerts), default=6))
        return [self._entry(alert, now_ms, width) for alert in view.snapshot.alerts]

    def _entry(self, alert: Alert, now_ms: int, width: int) -> Entry:
        quiet = alert.state != "firing" or bool(alert.muted)
        row = Row().put("  ").put(fit(alert.severity or "alert", 10), DIM if quiet else severity(alert.severity))
        row.put(fit(alert.state if alert.state != "firing" else _MUTED[alert.muted], 10), DIM if quiet else PLAIN)
        since = "" if alert.since_ms is None else duration(max(0, now_ms - alert.since_ms) / 1000)
        row.put(fit(since, 9), DIM).put(fit(alert.name, self._name_width), DIM if quiet else STRONG)
        row.put(fit(_short(alert.value), 8, right=True)).put("  ")
        row.put(cut(alert.summary, max(0, width - row.width - 2)), DIM if quiet else PLAIN)
        labels = ", ".join(f"{key}={value}" for key, value in alert.labels.items() if key != "alertname")
        detail = [Row().put(f"  {alert.name}", STRONG).put(f"  {alert.severity}", severity(alert.severity))]
        if alert.since_ms is not None:
            detail[0].put(f"  since {clock(alert.since_ms, date=True)}", DIM)
        for label, text in (("", alert.summary), ("why", alert.description), ("do", alert.action), ("labels", labels)):
            if text:
                detail += words(label, [text], width)
        text = " ".join((alert.name, alert.severity, alert.state, alert.muted, alert.summary, labels))
        copies = f'ALERTS{{alertname="{alert.name}"}}'
        return Entry(alert.fingerprint or text, row, text, tuple(detail), alert.since_ms, copies)


def _short(value: str) -> str:
    try:
        return f"{float(value):.4g}"
    except ValueError:
        return ""


class EventsScreen(ListScreen):
    """What happened, the newest first: alerts, XIDs, restarts, the clock, lines of logs. Enter goes there."""

    NAME = "events"
    KEYS = (*MOVE, ("enter", "go there"), *ELSEWHERE)

    def __init__(self) -> None:
        super().__init__()
        self.happened: Sequence[Happening] | None = None
        self.refused = ""

    def heading(self, view: View) -> Row:
        return Row().put(f"   {'when':21}{'severity':10}{'what':12}", DIM)

    def nothing(self, view: View) -> str:
        if self.refused:
            return f"events cannot be read: {self.refused}"
        return "reading …" if self.happened is None else "nothing has happened"

    def entries(self, view: View) -> list[Entry]:
        until_ms = view.at_ms if view.at_ms is not None else 1 << 60
        return [self._entry(one, number) for number, one in enumerate(self.happened or ()) if one.at_ms <= until_ms]

    def _entry(self, one: Happening, number: int) -> Entry:
        ended = one.kind in ("resolved", "passed")
        row = Row().put("  ").put(fit(clock(one.at_ms, date=True), 21), DIM)
        row.put(fit(one.severity, 10), DIM if ended else _style(one.severity))
        row.put(fit(one.kind, 12), GOOD if ended else PLAIN)
        row.put(cut(one.title, max(0, self.size.width - row.width - 2)), DIM if ended else PLAIN)
        labels = ", ".join(f"{key}={value}" for key, value in one.labels.items())
        detail = [Row().put(f"  {one.title}", STRONG)]
        for label, text in (("", one.detail), ("labels", labels)):
            if text:
                detail += words(label, [text], self.size.width)
        text = f"{one.kind} {one.severity} {one.title} {labels}"
        return Entry(f"{one.at_ms} {text}", row, text, tuple(detail), one.at_ms, one.title)


def _style(name: str) -> Style:
    return CRITICAL if name == "critical" else NOTICE if name == "warning" else DIM


class ProcessesScreen(ListScreen):
    """What runs on the GPUs now, and the engines' processes that are on none."""

    NAME = "processes"
    KEYS = (*MOVE, *ELSEWHERE)

    def __init__(self) -> None:
        super().__init__()
        self.processes: Sequence[ProcessRow] | None = None
        self.refused = ""

    def heading(self, view: View) -> Row:
        numbers = f"{'memory':>10}{'sm':>7}{'cpu':>8}{'rss':>10}"
        return Row().put(f"   {'gpu':4}{'pid':>9}  {'user':11}{numbers}  {'server':22}{'rank':5}command", DIM)

    def nothing(self, view: View) -> str:
        if view.at_ms is not None:
            return "processes are not stored: l shows those of now"
        if self.refused:
            return f"processes cannot be read: {self.refused}"
        return "reading …" if self.processes is None else "nothing runs on the GPUs"

    def entries(self, view: View) -> list[Entry]:
        if view.at_ms is not None:
            return []
        return [self._entry(one) for one in sorted(self.processes or (), key=_place)]

    def _entry(self, one: ProcessRow) -> Entry:
        row = Row().put("  ").put(fit(one.gpu or "–", 4), STRONG).put(fit(str(one.pid), 9, right=True)).put("  ")
        row.put(fit(one.user or "–", 11)).put(fit(size(one.memory_bytes), 10, right=True))
        row.put(fit(percent(one.sm_ratio), 7, right=True)).put(fit(percent(one.cpu_ratio), 8, right=True))
        row.put(fit(size(one.rss_bytes), 10, right=True)).put("  ").put(fit(one.server or "–", 22))
        row.put(fit(one.rank or "–", 5)).put(cut(one.command or one.name, max(0, self.size.width - row.width - 2)), DIM)
        detail = [Row().put(f"  {one.name or one.pid}", STRONG).put(f"  {one.kind}", DIM)]
        for label, text in (("command", one.command), ("container", one.container), ("engine", one.engine)):
            if text:
                detail += words(label, [text], self.size.width)
        text = " ".join((one.gpu, str(one.pid), one.user, one.server, one.name, one.command, one.container))
        return Entry(f"{one.gpu} {one.pid}", row, text, tuple(detail), copies=str(one.pid))


def _place(one: ProcessRow) -> tuple[bool, int, int]:
    """By GPU, those on none last; then who has most of its memory."""
    return one.gpu == "", int(one.gpu) if one.gpu.isdigit() else 1 << 30, -(one.memory_bytes or 0)
