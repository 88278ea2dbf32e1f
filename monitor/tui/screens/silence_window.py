"""The editor of a silence: its matchers, each tried on the alerts that there are, for how long, why and by whom. And
the question whether one is to end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.style import Style
from textual.events import Key, Paste

from monitor.client.alertmanager_wire import SilenceRow
from monitor.client.errors import ClientError
from monitor.client.format import clean, count, cut, fit
from monitor.client.silences import (
    OPS,
    Draft,
    DraftError,
    LabelMatcher,
    MatcherError,
    Op,
    held,
    matchers_of,
    parse_matcher,
    user,
)
from monitor.client.snapshot import Alert
from monitor.durations import format_duration
from monitor.tui.palette import CRITICAL, CURSOR, DIM, FAINT, GOOD, NOTICE, PLAIN, STRONG
from monitor.tui.panels.wrapped import wrapped
from monitor.tui.rows import Row
from monitor.tui.screens.listing import ListScreen
from monitor.tui.screens.window import Window
from monitor.tui.typed import Typed

_NAME = 16
_LABEL = 12
"""Where a field's text begins."""
_KNOWN = 5
"""Names of alerts that are shown."""


class Line:
    """A matcher that is being written."""

    def __init__(self, name: str, op: Op, value: str, *, on: bool = True) -> None:
        self.name = name
        self.op: Op = op
        self.value = Typed(value)
        self.on = on

    def matcher(self) -> LabelMatcher:
        """What it says. Raises ``MatcherError``."""
        return LabelMatcher(self.name, self.op, self.value.text)


class SilenceWindow(Window):
    """``over`` is the screen that is told what came of it."""

    NAME = "silence"
    WIDTH = 100
    KEYS = (
        ("enter", "send"),
        ("↑ ↓", "lines"),
        ("space", "on, off"),
        ("tab", "operator, value"),
        ("esc", "do not"),
    )
    CELLS: ClassVar[int] = 3
    """Of a matcher's line: on or off, the operator, the value."""

    def __init__(self, over: ListScreen, lines: Sequence[Line], comment: str, lasting: str) -> None:
        super().__init__()
        self._over = over
        self.lines = list(lines)
        self.new = Typed()
        self.lasting = Typed(lasting)
        self.comment = Typed(comment)
        self.creator = Typed(user())
        self.at = len(self.lines) + 2
        """The line that keys are for: a matcher's, or behind those the new one, how long, why, by whom."""
        self.cell = 0
        self.said = ""
        self.asking = False
        self.ident = ""
        self.starts_at = ""

    @classmethod
    def of_alert(cls, over: ListScreen, alert: Alert) -> SilenceWindow:
        """For one alert: all of its labels, and why is asked for."""
        names = sorted(alert.labels, key=lambda name: (name != "alertname", name))
        return cls(over, [Line(name, "=", alert.labels[name]) for name in names], "", "2h")

    @classmethod
    def of_silence(cls, over: ListScreen, row: SilenceRow) -> SilenceWindow:
        """To change a silence that there is; one that is over is made anew. Raises ``MatcherError``."""
        lines = [Line(one.name, one.op, one.value) for one in matchers_of(row)]
        snapshot, ends_ms = over.view.snapshot, row.ends_at_ms
        left = "2h"
        if row.state != "expired" and snapshot is not None and ends_ms is not None:
            left_ms = ends_ms - max(snapshot.now_ms, row.starts_at_ms or 0)
            left = format_duration(-(-max(1, left_ms) // 60_000) * 60_000)
        window = cls(over, lines, clean(row.comment), left)
        if row.state != "expired":
            window.ident, window.starts_at = row.id, row.starts_at
        window.at = len(lines) + 1
        return window

    @classmethod
    def of_nothing(cls, over: ListScreen) -> SilenceWindow:
        """For alerts to come: every matcher is typed."""
        window = cls(over, [], "", "2h")
        window.at = 0
        return window

    # -- what it says ------------------------------------------------------------------------------------------------

    def draft(self) -> Draft:
        """What would be sent. Raises ``DraftError`` and ``MatcherError``."""
        matchers = tuple(line.matcher() for line in self.lines if line.on)
        draft = Draft(matchers, self.lasting.text, self.comment.text, self.creator.text, self.ident, self.starts_at)
        if self.new.text.strip():
            raise DraftError("a matcher was typed and not added: enter on its line adds it")
        draft.check()
        return draft

    def rows(self, width: int, height: int) -> Sequence[Row]:
        fields = [
            self._field("for", self.lasting, len(self.lines) + 1, "from now on: 30m, 2h, 1d12h"),
            self._field("why", self.comment, len(self.lines) + 2, "so that others know"),
            self._field("by", self.creator, len(self.lines) + 3, "who you are"),
        ]
        below = [*self._new(), Row(), *fields, Row(), *self._verdict(width)]
        room = max(1, height - len(below) - 1)
        top = max(0, min(self.at - room + 1, len(self.lines) - room)) if self.at < len(self.lines) else 0
        shown = [self._matcher(number, width) for number in range(len(self.lines))][top : top + room]
        said = "every alert that all of these match is kept from people"
        more = len(self.lines) - len(shown)
        return [Row().put(said + (f"; {more} more matchers: ↑ ↓" if more else ""), DIM), *shown, *below]

    def _mark(self, at: int) -> Row:
        return Row().put("▌ ", CURSOR) if at == self.at else Row().put("  ")

    def _matcher(self, number: int, width: int) -> Row:
        line = self.lines[number]
        here = number == self.at
        style = PLAIN if line.on else FAINT
        row = self._mark(number)
        row.put("[x]" if line.on else "[ ]", STRONG if here and self.cell == 0 else style).put(" ")
        row.put(fit(line.name, max(_NAME, *(len(one.name) + 1 for one in self.lines))), style)
        row.put(fit(line.op, 2), STRONG if here and self.cell == 1 else style).put(" ")
        if here and self.cell == 2:
            row.extend(line.value.row())
        else:
            row.put(cut(line.value.text, max(8, width - row.width - 1)), style)
        if here and self.cell == 1 and row.width + 24 <= width:
            row.put("   space: = != =~ !~", DIM)
        return row

    def _new(self) -> list[Row]:
        at = len(self.lines)
        row = self._mark(at).put("+ ", DIM)
        if at == self.at:
            row.extend(self.new.row()).put("   label=value, or != =~ !~; enter adds it", DIM)
        else:
            row.put(self.new.text or "another matcher", PLAIN if self.new.text else DIM)
        return [row]

    def _field(self, name: str, typed: Typed, at: int, hint: str) -> Row:
        row = self._mark(at).put(name, DIM).to(_LABEL)
        if at == self.at:
            row.extend(typed.row())
        else:
            row.put(typed.text, PLAIN)
        return row if typed.text else row.put(("   " if at == self.at else "") + hint, DIM)

    def _verdict(self, width: int) -> list[Row]:
        rows = [self._meant(width)]
        try:
            self.draft()
            problem = ""
        except (DraftError, MatcherError) as error:
            problem = str(error)
        if self.asking:
            rows.append(Row().put("asking …", DIM))
        elif self.said:
            rows += _broken(self.said, width, CRITICAL)
        elif problem:
            rows += _broken(f"not yet: {problem}", width, NOTICE)
        else:
            rows.append(Row().put("enter sends it", GOOD))
        return rows

    def _meant(self, width: int) -> Row:
        """Which of the alerts that there are it would hold."""
        snapshot = self._over.view.snapshot
        alerts = snapshot.alerts if snapshot is not None else ()
        try:
            matchers = [line.matcher() for line in self.lines if line.on]
        except MatcherError:
            return Row().put("which alerts that would be cannot be told", DIM)
        found = held(matchers, alerts)
        if not found:
            return Row().put(
                f"holds none of the {count(len(alerts), 'alert')} that there are; those to come, if they match", DIM
            )
        names: dict[str, int] = {}
        for one in found:
            names[one.name] = names.get(one.name, 0) + 1
        some = ", ".join(f"{name} ×{many}" if many > 1 else name for name, many in list(names.items())[:_KNOWN])
        some += ", …" if len(names) > _KNOWN else ""
        row = Row().put(f"holds {len(found)} of {count(len(alerts), 'alert')}: ", DIM)
        return row.put(cut(some, max(8, width - row.width)), STRONG)

    # -- keys --------------------------------------------------------------------------------------------------------

    @property
    def _typed(self) -> Typed | None:
        """The text that keys go to."""
        at = self.at - len(self.lines)
        if at < 0:
            return self.lines[self.at].value if self.cell == 2 else None
        return (self.new, self.lasting, self.comment, self.creator)[at]

    def on_key(self, event: Key) -> None:
        """Everything but escape is for what is written."""
        if event.key == "escape":
            return
        event.stop()
        event.prevent_default()
        if self.asking:
            return
        self.said = ""
        key = event.key
        if key in ("up", "shift+tab") and not (key == "shift+tab" and self._step(-1)):
            self._move(-1)
        elif key in ("down", "tab") and not (key == "tab" and self._step(1)):
            self._move(1)
        elif key == "enter":
            self._enter()
        elif self.at < len(self.lines) and self.cell < 2:
            self._turn(event)
        elif self._typed is not None:
            self._typed.take(event)
        self.draw()

    def on_paste(self, event: Paste) -> None:
        """What is pasted goes into the text."""
        event.stop()
        if self._typed is not None and not self.asking:
            self._typed.paste(clean(event.text))
            self.draw()

    def _move(self, by: int) -> None:
        self.at = (self.at + by) % (len(self.lines) + 4)
        self.cell = 0

    def _step(self, by: int) -> bool:
        """Go to the next cell of a matcher's line; whether there is one."""
        if self.at >= len(self.lines) or not 0 <= self.cell + by < self.CELLS:
            return False
        self.cell += by
        return True

    def _turn(self, event: Key) -> None:
        """A key on a matcher's box or operator."""
        line = self.lines[self.at]
        if event.key in ("right", "left"):
            self._step(1 if event.key == "right" else -1)
        elif event.key in ("delete", "backspace"):
            del self.lines[self.at]
        elif event.key == "space" and self.cell == 0:
            line.on = not line.on
        elif event.key == "space" or event.character in ("=", "!", "~"):
            line.op = OPS[(OPS.index(line.op) + 1) % len(OPS)]
        elif event.character is not None and event.is_printable:
            self.cell = 2
            line.value.at = len(line.value.text)
            line.value.take(event)

    def _enter(self) -> None:
        if self.at == len(self.lines) and self.new.text.strip():
            self._add()
            return
        try:
            draft = self.draft()
        except (DraftError, MatcherError) as error:
            self.said = str(error)
            return
        self.asking = True
        self.shell.do(self._send(draft), "silence")

    def _add(self) -> None:
        try:
            found = parse_matcher(self.new.text)
        except MatcherError as error:
            self.said = str(error)
            return
        self.lines.append(Line(found.name, found.op, found.value))
        self.new = Typed()
        self.at = len(self.lines)

    async def _send(self, draft: Draft) -> None:
        server = self.shell.server
        try:
            if server is None:
                raise ClientError("there is nobody to ask")
            said = await server.alerting.silence(draft)
        except (ClientError, DraftError) as error:
            self.asking = False
            self.said = "not silenced: " + told(error)
            self.draw()
            return
        self.action_close()
        self._over.tell(said)
        self.shell.refetch()


class EndWindow(Window):
    """Asks whether a silence is to end."""

    NAME = "end this silence?"
    KEYS = (("enter", "end it"), ("esc", "do not"))

    def __init__(self, over: ListScreen, row: SilenceRow) -> None:
        super().__init__()
        self._over = over
        self._row = row
        self.said = ""
        self.asking = False

    def rows(self, width: int, height: int) -> Sequence[Row]:
        rows = [Row().put(cut(clean(str(one)), width), STRONG) for one in self._row.matchers]
        rows += _broken(clean(f"{self._row.created_by}: {self._row.comment}"), width, DIM)
        rows += [Row(), Row().put("people are told again of the alerts that it holds", PLAIN)]
        if self.asking or self.said:
            rows += _broken(self.said or "asking …", width, CRITICAL if self.said else DIM)
        return rows

    def on_key(self, event: Key) -> None:
        """Enter ends it."""
        if event.key == "escape":
            return
        event.stop()
        event.prevent_default()
        if event.key == "enter" and not self.asking:
            self.asking, self.said = True, ""
            self.shell.do(self._end(), "silence")
            self.draw()

    async def _end(self) -> None:
        server = self.shell.server
        try:
            if server is None:
                raise ClientError("there is nobody to ask")
            said = await server.alerting.expire(self._row.id)
        except ClientError as error:
            self.asking, self.said = False, "not ended: " + told(error)
            self.draw()
            return
        self.action_close()
        self._over.tell(said)
        self.shell.refetch()


def told(error: Exception) -> str:
    """What went wrong, and what to do."""
    if not isinstance(error, ClientError):
        return clean(str(error))
    return clean(error.what + (f". {error.cure}" if error.cure else ""), 600)


def _broken(text: str, width: int, style: Style) -> list[Row]:
    return wrapped("", text, width, style, indent=0)
