"""What each server says when it is asked, by its canary and by /health, and how long it took: a line for the screen of
the probes, and a screen with the graphs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.style import Style

from monitor.client.format import ABSENT, cut, number, seconds
from monitor.client.queries import selector
from monitor.client.results import Answers, Labels, Lens
from monitor.client.snapshot import History
from monitor.client.wire import Query
from monitor.tui.palette import CRITICAL, DIM, GOOD, LATENCY, NOTICE, PLAIN, STRONG
from monitor.tui.panels.chart import Chart
from monitor.tui.panels.wrapped import wrapped
from monitor.tui.plot import Plot, greatest, nice_ceiling
from monitor.tui.rows import Row, View, title
from monitor.tui.screens.page import ELSEWHERE
from monitor.tui.screens.selecting import SelectingScreen

_STATES = {"alive": GOOD, "idle": DIM, "frozen": CRITICAL, "overloaded": NOTICE, "unreadable": NOTICE}
_HEALTH = "/health"
_NO_CANARY = (
    "no server has a canary: `canary: true` at a server of gpumon.yaml gives it one. A private daemon sends none."
)


WORDS = (
    ("canary", "one token, asked of a server whose engine stands still: frozen looks like idle from outside"),
    ("alive", "the engine makes steps, or gave the token"),
    ("idle", "it stands still, and no canary has told yet"),
    ("frozen", "two canaries in a row got nothing, and no step was made"),
    ("overloaded", "a canary got nothing in time, while steps were made"),
    ("unreadable", "it cannot be asked: asleep, loading, or it refuses the request"),
)


@dataclass(frozen=True, slots=True)
class _Probe:
    """What is asked of one server in one way."""

    where: str
    kind: str
    """``canary``, ``/health``, or what a blackbox_exporter was told."""

    def of(self, labels: Labels) -> bool:
        """Whether a series is of it."""
        return _probe(labels) == self


def _probe(labels: Labels) -> _Probe:
    return _Probe(labels.get("server") or labels.get("instance", ""), labels.get("probe") or _HEALTH)


class CanariesScreen(SelectingScreen):
    """A line for each probe, then how long it took, as a graph."""

    NAME = "canaries"
    KEYS = (("tab", "choose"), ("y", "copy PromQL"), ("esc", "back"), ("[ ]", "range"), ("← →", "past"), *ELSEWHERE)
    WORDS = WORDS

    def __init__(self) -> None:
        super().__init__()
        self._plots: dict[_Probe, Plot] = {}

    def asked(self, lens: Lens) -> Sequence[Query]:
        took = selector("probe_duration_seconds", "", lens.node)
        return (*queries(lens), Query("took_h", took, lens.range_seconds, lens.step_seconds))

    def body(self, view: View, width: int, height: int) -> Sequence[Row]:
        answers = self.answers
        if answers is None:
            return [Row().put("  reading …", DIM)] if not self.refused else []
        probes = _probes(answers)
        rows = [title("what servers answer").rule(width)]
        if probes:
            rows.append(_heading(width))
        rows += [self._line(one, answers, view, width) for one in probes]
        if not probes:
            rows.append(
                Row().put("  no server is asked anything, as far as is known here: there are no probe_… series", DIM)
            )
        if not any(one.kind == "canary" for one in probes) and not _plain(view):
            rows += wrapped("", _NO_CANARY, width, DIM, indent=2)
        charts = [(self._chart(one, answers), _promql(one)) for one in probes if self._took(one, answers) is not None]
        if charts:
            rows.append(Row())
            across = max(1, min(len(charts), 3 if width >= 150 else 2 if width >= 100 else 1))
            room = height - len(rows)
            self.grid(rows, charts, view, answers.now_ms, width, room, across=across, indent=2)
        return rows

    def _line(self, one: _Probe, answers: Answers, view: View, width: int) -> Row:
        canary = one.kind == "canary"
        answered = _value(answers, "success", one)
        code = _value(answers, "code", one)
        states = (labels for labels, _, _ in answers.rows("state") if canary and one.of(_as_canary(labels)))
        state = next((labels.get("state", "") for labels in states), "")
        words, style = _answered(answered, code)
        row = Row().put("  ").put(one.where, STRONG, 26 if width < 120 else 34).put(one.kind, PLAIN, 10)
        row.put(words, style, 12).put(seconds(_value(answers, "took", one)), PLAIN, 9, right=True)
        if canary:
            failures = _value(answers, "failures", _Probe(one.where, _HEALTH))
            row.put("  ").put(state or ABSENT, _STATES.get(state, DIM), 11)
            row.put(f"{number(failures)} failed in a row  ", NOTICE if failures else DIM)
            why = self._why(one, view)
            row.put(cut(why, max(0, width - row.width - 1)), DIM)
        return row

    def _why(self, one: _Probe, view: View) -> str:
        """Why a canary is not sent, or what its last one got; of now alone."""
        if view.snapshot is None or view.at_ms is not None:
            return ""
        found = (each for each in view.snapshot.sources if each.name == "canary" and each.server == one.where)
        return next((each.facts.get("reason", "") for each in found), "")

    def _took(self, one: _Probe, answers: Answers) -> History | None:
        return next((past for labels, past in answers.histories.get("took_h", ()) if one.of(labels)), None)

    def _chart(self, one: _Probe, answers: Answers) -> Chart:
        history = self._took(one, answers)
        high = nice_ceiling(greatest(history), 0.01)
        what = "one token" if one.kind == "canary" else one.kind
        return Chart(
            self._plots.setdefault(one, Plot()),
            history,
            f"{one.where} {what}",
            seconds(_value(answers, "took", one)),
            f"0–{seconds(high)}",
            high,
            LATENCY,
        )


def queries(lens: Lens) -> tuple[Query, ...]:
    """What is asked of now, for ``summary`` and for the screen."""

    def of(name: str, matchers: str = "") -> str:
        return selector(name, matchers, lens.node)

    return (
        Query("state", f"{of('gpumon_canary_state')} == 1"),
        Query("failures", of("gpumon_canary_failures")),
        Query("success", of("probe_success")),
        Query("code", of("probe_http_status_code")),
        Query("took", of("probe_duration_seconds")),
    )


def summary(answers: Answers | None, width: int, most: int) -> list[Row]:
    """A line for each server, ``most`` of them, those that answer worst first: what it says to its canary and to
    /health, and how long that took. Nothing where none is asked anything."""
    if answers is None:
        return []
    every: dict[str, list[_Probe]] = {}
    for one in _probes(answers):
        every.setdefault(one.where, []).append(one)
    rows = []
    for where, probes in sorted(every.items(), key=lambda pair: (_well(pair[1], answers), pair[0])):
        row = Row().put("   ").put(where, STRONG, min(26, max(len(name) for name in every) + 2))
        for one in probes:
            words, style = _answered(_value(answers, "success", one), _value(answers, "code", one))
            more = Row().put(f"{one.kind} ", DIM).put(words, style)
            more.put(f" {seconds(_value(answers, 'took', one))}", PLAIN)
            if one.kind == "canary":
                states = (labels for labels, _, _ in answers.rows("state") if one.of(_as_canary(labels)))
                state = next((labels.get("state", "") for labels in states), "")
                more.put(f" {state}", _STATES.get(state, DIM))
            if row.width + more.width + 3 <= width:
                row.extend(more).put("   ")
        rows.append(row)
    hidden = len(rows) - most
    if hidden > 0:
        rows = rows[:most]
        others = f"{hidden} more: C"
        if rows[-1].width + len(others) <= width:
            rows[-1].put(others, DIM)
        else:
            rows[-1] = Row().put(f"   {hidden + 1} servers: C", DIM)
    return rows


def _well(probes: Sequence[_Probe], answers: Answers) -> bool:
    """Whether all of a server's probes were answered."""
    styles = [_answered(_value(answers, "success", one), _value(answers, "code", one))[1] for one in probes]
    return CRITICAL not in styles


def _heading(width: int) -> Row:
    row = Row().put("  ").put("server", DIM, 26 if width < 120 else 34).put("asked", DIM, 10)
    return row.put("answered", DIM, 12).put("took", DIM, 9, right=True).put("  canary", DIM)


def _probes(answers: Answers) -> list[_Probe]:
    """Every probe there is, the canaries first."""
    found = {_probe(labels) for id in ("took", "success") for labels, _, _ in answers.rows(id)}
    found |= {_probe(_as_canary(labels)) for labels, _, _ in answers.rows("state")}
    return sorted(found, key=lambda one: (one.kind != "canary", one.where, one.kind))


def _as_canary(labels: Labels) -> Labels:
    """The canary's own series do not say what probe they are of."""
    return {**labels, "probe": "canary"}


def _value(answers: Answers, id: str, one: _Probe) -> float | None:
    return next((value for labels, _, value in answers.rows(id) if one.of(labels)), None)


def _answered(success: float | None, code: float | None) -> tuple[str, Style]:
    if success is not None:
        return ("yes", GOOD) if success == 1 else ("NO", CRITICAL)
    if code is None:
        return ABSENT, DIM
    return (f"HTTP {code:.0f}", GOOD if code < 400 else CRITICAL) if code else ("no answer", CRITICAL)


def _promql(one: _Probe) -> str:
    probe = f'probe="{one.kind}"' if one.kind != _HEALTH else 'probe=""'
    return f'probe_duration_seconds{{server="{one.where}",{probe}}}'


def _plain(view: View) -> bool:
    return view.snapshot is not None and view.snapshot.node.mode == "prometheus"
