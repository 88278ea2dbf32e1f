"""The alerts: what fires and what is pending, at the moment that is looked at, and what to do about it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.events import Key

from monitor.client.errors import ClientError
from monitor.client.format import clean, clock, duration
from monitor.client.snapshot import Alert
from monitor.tui.palette import DIM, PLAIN, STRONG, severity
from monitor.tui.rows import Row, View
from monitor.tui.screens.listing import Column, Entry, ListScreen, words
from monitor.tui.screens.page import ELSEWHERE, MOVE
from monitor.yaml_reader import parse_duration_ms

_MUTED = {"": "firing", "silenced": "silenced", "inhibited": "inhibited"}


class AlertsScreen(ListScreen):
    """``s`` silences the alert under the cursor, Enter goes to where it began."""

    NAME = "alerts"
    KEYS = (*MOVE, ("s", "silence"), ("enter", "go to its begin"), *ELSEWHERE)
    BINDINGS: ClassVar[list[BindingType]] = [Binding("s", "silence", "silence")]

    def __init__(self) -> None:
        super().__init__()
        self._typed: str | None = None
        """What is typed while a silence is asked for: how long, and why."""
        self._about: Alert | None = None

    def action_silence(self) -> None:
        """Begin to ask for a silence of the alert under the cursor."""
        alert = self.under.thing if self.under is not None else None
        if isinstance(alert, Alert) and alert.state == "firing":
            self._about, self._typed, self.said = alert, "1h ", ""
            self.draw()
        else:
            self.tell("only what fires can be silenced from here")

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
                self.shell.do(self._ask(self._about, ms / 1000, why.strip()), "silence")
                self._typed, self.said = None, "asking …"
        elif event.character is not None and event.is_printable:
            self._typed += event.character
        self.draw()

    async def _ask(self, alert: Alert, seconds: float, comment: str) -> None:
        if self.shell.server is None:
            return
        try:
            self.tell(await self.shell.server.silence(alert.labels, seconds, comment))
        except ClientError as error:
            self.tell(f"not silenced: {clean(error.what)}")

    def columns(self, view: View) -> Sequence[Column]:
        # As narrow as the names allow: what it says has the rest.
        alerts = view.snapshot.alerts if view.snapshot is not None else ()
        name = min(28, max((len(one.name) + 1 for one in alerts), default=6))
        return (
            Column("severity", 10),
            Column("state", 10),
            Column("since", 9),
            Column("alert", name),
            Column("value", 9, right=True),
            Column("what"),
        )

    def nothing(self, view: View) -> str:
        return "no alert fires, and none is pending" if view.snapshot is not None else "nothing has been read yet"

    def entries(self, view: View) -> list[Entry]:
        if view.snapshot is None:
            return []
        return [self._entry(alert, view.snapshot.now_ms) for alert in view.snapshot.alerts]

    def _entry(self, alert: Alert, now_ms: int) -> Entry:
        quiet = alert.state != "firing" or bool(alert.muted)
        style = DIM if quiet else PLAIN
        since = "" if alert.since_ms is None else duration(max(0, now_ms - alert.since_ms) / 1000)
        cells = (
            (alert.severity or "alert", DIM if quiet else severity(alert.severity)),
            (alert.state if alert.state != "firing" else _MUTED[alert.muted], style),
            (since, DIM),
            (alert.name, DIM if quiet else STRONG),
            (_short(alert.value), PLAIN),
            (alert.summary, style),
        )
        text = " ".join((alert.name, alert.severity, alert.state, alert.muted, alert.summary, _labels(alert)))
        copies = f'ALERTS{{alertname="{alert.name}"}}'
        return Entry(alert.fingerprint or text, cells, text, thing=alert, at_ms=alert.since_ms, copies=copies)

    def detail(self, entry: Entry, width: int, height: int) -> Sequence[Row]:
        alert = entry.thing
        if not isinstance(alert, Alert):
            return ()
        rows = [Row().put(f"  {alert.name}", STRONG).put(f"  {alert.severity}", severity(alert.severity))]
        if alert.since_ms is not None:
            rows[0].put(f"  since {clock(alert.since_ms, date=True)}", DIM)
        told = (("", alert.summary), ("why", alert.description), ("do", alert.action), ("labels", _labels(alert)))
        for label, text in told:
            if text:
                rows += words(label, [text], width)
        return rows


def _labels(alert: Alert) -> str:
    return ", ".join(f"{key}={value}" for key, value in alert.labels.items() if key != "alertname")


def _short(value: str) -> str:
    try:
        return f"{float(value):.4g}"
    except ValueError:
        return ""
