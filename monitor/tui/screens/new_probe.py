"""The form of a new probe: which server, the workload's own options, and what every workload can be asked. Nothing is
sent before enter; a server that has other work is loaded only after one more."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from textual.events import Key, Paste

from monitor.client.errors import ClientError
from monitor.client.format import clean, cut, number
from monitor.client.slos import SloError, parse_slos
from monitor.digits import is_whole
from monitor.durations import parse_duration_ms
from monitor.probes.schema import Spec, WorkloadName
from monitor.tui.palette import CURSOR, DIM, GOOD, KEY, NOTICE, PLAIN, STRONG
from monitor.tui.panels.wrapped import wrapped
from monitor.tui.rows import Row
from monitor.tui.screens.page import Page
from monitor.tui.screens.probe_windows import AskingWindow
from monitor.tui.typed import Typed

if TYPE_CHECKING:
    from monitor.client.probes import KnownServer, OptionRow, WorkloadRow

_ELSEWHERE = "another address"
_YES_NO = ("no", "yes")
_LISTS = ("ints", "floats", "strs")
_LONGEST_TIME = 40
"""Characters of a length of time."""


class Field:
    """One line of the form: a text, or one of ``choices``. ``own`` is the name of the workload's option that it is; ""
    for what every workload has."""

    def __init__(
        self, name: str, text: str = "", help: str = "", choices: Sequence[str] = (), *, kind: str = "", own: str = "",
        usual: str = "",
    ) -> None:  # fmt: skip
        self.name = name
        self.help = help
        self.choices = tuple(choices)
        self.kind = kind
        self.own = own
        self.typed = Typed(text)
        self.usual = usual
        """What stands there where nobody says otherwise: that is not sent."""

    @property
    def text(self) -> str:
        """What it says."""
        return self.typed.text.strip()

    def turn(self, by: int) -> None:
        """The next choice."""
        place = self.choices.index(self.text) if self.text in self.choices else -by
        self.typed = Typed(self.choices[(place + by) % len(self.choices)])


class FormError(ValueError):
    """What was written cannot be meant; the text says why."""


class NewProbe(AskingWindow):
    """``over`` is the screen that is told of the run; it opens the run's page when it was begun."""

    WIDTH = 100
    KEYS = (("enter", "start"), ("↑ ↓", "lines"), ("space", "another choice"), ("esc", "do not"))

    def __init__(
        self,
        over: Page,
        workload: WorkloadRow,
        servers: Sequence[KnownServer],
        spec: Spec | None = None,
        server: str = "",
    ) -> None:
        super().__init__(_Told(over))
        self._page = over
        self._workload = workload
        self._servers = {one.server: one for one in servers}
        self._confirming = ""
        """What the person was asked to confirm: the server has other work."""
        self._from = 0
        known = [one.server for one in servers]
        wanted = spec.server if spec is not None and spec.server else server
        first = wanted if wanted in known else known[0] if known and (spec is None or spec.server) else _ELSEWHERE
        self._server = Field("server", first, "", [*known, _ELSEWHERE])
        self._url = Field(
            "address", spec.url if spec is not None and first == _ELSEWHERE else "http://", _HELP["address"]
        )
        options = spec.options if spec is not None else {}
        self._options = [_field(one, options.get(one.name, one.default)) for one in workload.options]
        self._common = _common(spec)
        self.at = 0

    def caption(self) -> str:
        return f"new probe: {self._workload.name}"

    def fields(self) -> list[Field]:
        """The lines as they are now: an address is asked for only where no known server is meant."""
        address = [self._url] if self._server.text == _ELSEWHERE else []
        return [self._server, *address, *self._options, *self._common.values()]

    @property
    def here(self) -> Field:
        """The line that keys are for."""
        fields = self.fields()
        self.at = max(0, min(self.at, len(fields) - 1))
        return fields[self.at]

    # -- what it says ------------------------------------------------------------------------------------------------

    def spec(self, *, yes: bool = False) -> Spec:
        """What would be sent. Raises ``FormError``."""
        server = "" if self._server.text == _ELSEWHERE else self._server.text
        known = self._servers.get(server)
        if not server and not self._url.text.removeprefix("http://").removeprefix("https://"):
            raise FormError("which server? Write its address, as http://127.0.0.1:8000")
        text = {name: field.text for name, field in self._common.items()}
        try:
            slos = parse_slos(text["targets"])
        except SloError as error:
            raise FormError(str(error)) from None
        name: WorkloadName = self._workload.name
        return Spec(
            workload=name,
            url="" if known is not None else self._url.text.rstrip("/"),
            server=server,
            name=text["name"],
            options={one.own: _value(one) for one in self._options if one.text != one.usual},
            slos=slos,
            repeats=_whole("repeats", text["repeats"]),
            max_seconds=_seconds("at most", text["at most"]),
            price_per_hour=_price(text["price an hour"]),
            profile=text["torch profile"] == "yes",
            accuracy=text["accuracy"] == "yes",
            yes=yes,
            simulated=known is not None and known.simulated,
        )

    def other_work(self) -> str:
        """What the chosen server does for others, by the picture; "" where it does nothing, or nobody knows."""
        snapshot = self._page.view.snapshot
        for one in snapshot.engines if snapshot is not None else ():
            if one.server == self._server.text and ((one.running or 0) >= 1 or (one.waiting or 0) >= 1):
                rate = f", {number(one.generation_rate)} tok/s" if one.generation_rate else ""
                return f"{number(one.running)} running, {number(one.waiting or 0)} waiting{rate}"
        return ""

    def rows(self, width: int, height: int) -> Sequence[Row]:
        above = wrapped("", self._workload.summary, width, PLAIN, indent=0)
        below = [Row().rule(width), *self._told(width)]
        fields = self.fields()
        here = self.here
        label = max(len(one.name) for one in fields) + 4
        lines = [self._line(one, one is here, label, width) for one in fields]
        heads = len(self.fields()) - len(self._common)
        lines.insert(heads, Row().put("  every workload", DIM).rule(width))
        at = self.at + (1 if self.at >= heads else 0)
        room = max(3, height - len(above) - len(below))
        self._from = max(0, min(self._from, at, len(lines) - room))
        self._from = max(self._from, at - room + 1)
        shown = lines[self._from : self._from + room]
        if self._from:
            shown[0] = Row().put(f"  ↑ {self._from + 1} more", DIM)
        hidden = len(lines) - self._from - room
        if hidden > 0:
            shown[-1] = Row().put(f"  ↓ {hidden + 1} more", DIM) if at < self._from + room - 1 else shown[-1]
        return [*above, *shown, *below]

    def _line(self, field: Field, here: bool, label: int, width: int) -> Row:
        row = Row().put("▌ " if here else "  ", CURSOR).put(field.name, PLAIN if here else DIM).to(label)
        if field.choices:
            row.put("‹ " if here else "  ", KEY).put(field.text, STRONG if here else PLAIN).put(
                " ›" if here else "", KEY
            )
        elif here:
            row.put("  ").extend(field.typed.row())
        else:
            row.put("  ").put(field.text, PLAIN)
            if not field.text:
                row.put("–", DIM)
        note = self._server_note() if field is self._server else "" if here else field.help
        room = width - max(row.width + 2, label + 24)
        if note and room >= 12:
            row.to(label + 24 if row.width < label + 22 else row.width + 2).put(cut(note, room), DIM)
        return row

    def _server_note(self) -> str:
        known = self._servers.get(self._server.text)
        if known is None:
            return "" if self._server.text == _ELSEWHERE else "not known any more"
        what = " ".join(one for one in (known.model, "(simulated)" if known.simulated else "") if one)
        busy = self.other_work()
        return f"{what}: {busy}" if busy else what

    def _told(self, width: int) -> list[Row]:
        help = self.here.help or ("←→ or space: another server" if self.here is self._server else "")
        rows = wrapped("", help, width, DIM, indent=0) if help else [Row()]
        rows += [Row()] * (2 - len(rows))  # so that it stands still from line to line
        told = self.verdict(width)
        if told:
            return rows + told
        if self._confirming:
            words = f"{self._server.text} has other work: {self._confirming}. It is slower for all while it is probed."
            rows += wrapped("", words, width, NOTICE, indent=0)
            return [*rows, Row().put("enter loads it all the same", NOTICE).put("   esc: do not", DIM)]
        try:
            self.spec()
        except FormError as error:
            return [*rows, *wrapped("", f"not yet: {error}", width, NOTICE, indent=0)]
        return [*rows, Row().put("enter starts it", GOOD)]

    # -- keys --------------------------------------------------------------------------------------------------------

    def on_key(self, event: Key) -> None:
        """Everything but escape is for the form."""
        if event.key == "escape":
            if self._confirming:
                self._confirming = ""
                event.stop()
                event.prevent_default()
                self.draw()
            return
        event.stop()
        event.prevent_default()
        if self.asking:
            return
        self.said = ""
        key, here = event.key, self.here
        if key == "enter":
            self._enter()
        else:
            self._confirming = ""
            if key in ("up", "shift+tab", "down", "tab"):
                self.at = (self.at + (1 if key in ("down", "tab") else -1)) % len(self.fields())
            elif here.choices and key in ("space", "right", "left"):
                here.turn(-1 if key == "left" else 1)
            elif not here.choices:
                here.typed.take(event)
        self.draw()

    def on_paste(self, event: Paste) -> None:
        """What is pasted goes into the text."""
        event.stop()
        if not self.here.choices and not self.asking:
            self.here.typed.paste(clean(event.text))
            self.draw()

    def picked(self, number_: int) -> None:
        """A click on a line goes there."""
        fields = self.fields()
        at = number_ - 1 + self._from
        heads = len(fields) - len(self._common)
        at -= 1 if at > heads else 0
        if 0 <= at < len(fields):
            if at == self.at and self.here.choices:
                self.here.turn(1)
            self.at = at
            self.draw()

    def wheel(self, by: int) -> None:
        """The next line, or the one before."""
        self.at = max(0, min(self.at + (1 if by > 0 else -1), len(self.fields()) - 1))
        self.draw()

    def _enter(self) -> None:
        try:
            spec = self.spec(yes=bool(self._confirming))
        except FormError as error:
            self.said = str(error)
            return
        busy = self.other_work()
        if busy and not self._confirming:
            self._confirming = busy
            return
        self.send(lambda: self._start(spec), "not started")

    async def _start(self, spec: Spec) -> str:
        server = self.shell.server
        if server is None:
            raise ClientError("there is nobody to ask")
        row = await server.probing.start(spec)
        return row.id

    def done(self, said: str) -> None:
        """It has begun: its page is opened, where its form was waited for."""
        if self.is_current:
            self.dismiss()
            self.app.call_later(lambda: self.shell.open("run", ident=said, begun=True))
        else:
            self.shell.refetch()


class _Told:
    """A page that has nothing to be told: the run's page is opened instead."""

    def __init__(self, page: Page) -> None:
        self.page = page

    def tell(self, words: str) -> None:
        """Nothing."""


_HELP = {
    "address": "of an OpenAI-compatible server, as http://127.0.0.1:8000, without a key: one that wants a key has to "
    "be in gpumon.yaml",
    "name": "what the result is kept as; the workload's name without one",
    "targets": "what is to be met, as ttft=500ms,tpot=50ms,p99: of ttft, tpot, itl, e2el",
    "repeats": "how often each step is measured, to tell a change from noise; empty: the workload's own habit",
    "at most": "it ends by itself after so long, with what it has: 90s, 10m; empty: the workload's own limit",
    "price an hour": "of the server's GPUs together, to say what a million tokens cost",
    "torch profile": "have the server's torch profiler run with it, for 30 s at most; it slows the server down",
    "accuracy": "ask for the perplexity of a fixed text too, to hold quantizations against each other",
}


def _common(spec: Spec | None) -> dict[str, Field]:
    """What every workload can be asked."""
    known = spec if spec is not None else Spec("latency", "")
    slos = ",".join(f"{one.metric}={one.limit_ms:g}ms@p{one.percentile:g}" for one in known.slos)
    texts = {
        "name": known.name,
        "targets": slos,
        "repeats": "" if known.repeats is None else str(known.repeats),
        "at most": "" if known.max_seconds is None else f"{known.max_seconds:g}s",
        "price an hour": "" if known.price_per_hour is None else f"{known.price_per_hour:g}",
        "torch profile": "yes" if known.profile else "no",
        "accuracy": "yes" if known.accuracy else "no",
    }
    chosen = ("torch profile", "accuracy")
    return {name: Field(name, text, _HELP[name], _YES_NO if name in chosen else ()) for name, text in texts.items()}


def _field(option: OptionRow, value: Any) -> Field:
    choices = _YES_NO if option.kind == "bool" else tuple(str(one) for one in option.choices)
    name, usual = option.name.replace("_", " "), _text(option.default)
    return Field(name, _text(value), clean(option.help), choices, kind=option.kind, own=option.name, usual=usual)


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ",".join(_text(one) for one in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _value(field: Field) -> Any:
    """As the workload takes it: it reads texts itself, and knows best what they must be."""
    if not field.text:
        return None if field.kind not in ("str", *_LISTS) else field.text
    return field.text == "yes" if field.kind == "bool" else field.text


def _whole(name: str, text: str) -> int | None:
    if not text:
        return None
    if not is_whole(text) or not int(text):
        raise FormError(f"{name}: a whole number, or nothing")
    return int(text)


def _seconds(name: str, text: str) -> float | None:
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        ms = parse_duration_ms(text) if len(text) <= _LONGEST_TIME else None
        if ms is None:
            raise FormError(f"{name}: a time as 90s or 10m, or nothing") from None
        seconds = ms / 1000
    if not 0 < seconds < math.inf:
        raise FormError(f"{name}: a time as 90s or 10m, or nothing")
    return seconds


def _price(text: str) -> float | None:
    if not text:
        return None
    try:
        price = float(text)
    except ValueError:
        raise FormError("price an hour: a number, or nothing") from None
    if not 0 < price < math.inf:
        raise FormError("price an hour: a number above 0, or nothing")
    return price
