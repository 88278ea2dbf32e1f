"""The rules of a daemon or a Prometheus, and what an alert of theirs is about: the series that it compares, over time,
with the threshold that it compares them with."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from monitor.client.format import clean
from monitor.client.results import Answers, Lens
from monitor.client.snapshot import History
from monitor.client.wire import AlertRow, Query, parse_time
from monitor.records import replace

MOST_CURVES = 3
"""Comparisons of one rule that are drawn."""
_COMPARE: Mapping[str, Callable[[float, float], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
}
_NO_SERIES = "no series of it in this range"
_NOTHING = "this server does not say what the rule compares, and the whole of it held at none of the range's steps"


class Compared(msgspec.Struct, frozen=True):
    """One comparison of a rule, as a daemon tells it: two PromQL expressions, the second perhaps a number."""

    expr: str
    op: str = ""
    threshold: float | str | None = None
    on: tuple[str, ...] | None = None
    """The labels by which the two are paired; None for all."""
    ignoring: tuple[str, ...] = ()


class _RuleRow(msgspec.Struct, frozen=True, rename="camel"):
    name: str = ""
    type: str = ""
    query: str = ""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    health: str = ""
    last_error: str = ""
    last_evaluation: str = ""
    evaluation_time: float | None = None
    state: str = ""
    duration: float = 0.0
    keep_firing_for: float = 0.0
    alerts: tuple[AlertRow, ...] = ()
    never_matched: bool | None = None
    graph: tuple[Compared, ...] | None = None


class _GroupRow(msgspec.Struct, frozen=True):
    name: str = ""
    file: str = ""
    interval: float = 0.0
    rules: tuple[_RuleRow, ...] = ()


class _Groups(msgspec.Struct, frozen=True):
    groups: tuple[_GroupRow, ...] = ()


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule as it is now. Times are epoch milliseconds, lengths seconds; its words are cleaned, its PromQL is not."""

    group: str
    file: str
    interval_seconds: float
    name: str
    expr: str
    records: bool = False
    """Whether it records a series, and alerts nobody."""
    state: str = ""
    """``firing``, ``pending`` or ``inactive``; "" of one that records."""
    health: str = ""
    """``ok``, ``err`` or ``unknown``."""
    error: str = ""
    evaluated_ms: int | None = None
    took_seconds: float | None = None
    for_seconds: float = 0.0
    keep_seconds: float = 0.0
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    firing: int = 0
    pending: int = 0
    never_matched: bool | None = None
    """Whether nothing ever had the series that it asks for; None where nobody says, as with a Prometheus."""
    compared: tuple[Compared, ...] = ()
    """The leftmost first; empty where it compares nothing, and where nobody says."""

    @property
    def key(self) -> str:
        """What it is known by."""
        return "\0".join((self.file, self.group, self.name, self.expr, repr(sorted(self.labels.items()))))


@dataclass(frozen=True, slots=True)
class Drawn:
    """What an alert's rule compares: the series that is the alert's, and its threshold now."""

    expr: str
    history: History | None
    """None where no series is the alert's."""
    op: str = ""
    """"" where nothing is compared, or nobody says so."""
    threshold: float | None = None
    """As it is now."""
    limit: History | None = None
    """Its past, where the threshold is a reading, too."""
    problem: str = ""
    """Why there is nothing."""

    @property
    def holds(self) -> bool | None:
        """Whether it is so now; None where that is not known."""
        newest = self.history.newest if self.history is not None else None
        compare = _COMPARE.get(self.op)
        return None if newest is None or self.threshold is None or compare is None else compare(newest, self.threshold)


def rules_of(data: msgspec.Raw) -> tuple[Rule, ...]:
    """The rules of ``/api/v1/rules``. Raises ``msgspec.DecodeError``."""
    groups = msgspec.json.decode(bytes(data), type=_Groups).groups
    return tuple(_rule(group, row) for group in groups for row in group.rules)


def _rule(group: _GroupRow, row: _RuleRow) -> Rule:
    return Rule(
        group=clean(group.name),
        file=clean(group.file),
        interval_seconds=group.interval,
        name=clean(row.name),
        expr=row.query,
        records=row.type == "recording",
        state=clean(row.state),
        health=clean(row.health),
        error=clean(row.last_error),
        evaluated_ms=parse_time(row.last_evaluation),
        took_seconds=row.evaluation_time,
        for_seconds=row.duration,
        keep_seconds=row.keep_firing_for,
        labels={clean(key): clean(value) for key, value in row.labels.items()},
        annotations={clean(key): clean(value, 2_000) for key, value in row.annotations.items()},
        firing=sum(one.state == "firing" for one in row.alerts),
        pending=sum(one.state == "pending" for one in row.alerts),
        never_matched=row.never_matched,
        compared=row.graph or (),
    )


def rule_of(rules: Sequence[Rule], labels: Mapping[str, str]) -> Rule | None:
    """The rule that an alert with these labels is of. Several may share a name; the labels that they set tell them
    apart."""
    named = [one for one in rules if not one.records and one.name == labels.get("alertname")]
    for one in named:
        if all("{{" in value or labels.get(name) == value for name, value in one.labels.items()):
            return one
    return named[0] if named else None


def curve_queries(rule: Rule, lens: Lens) -> list[Query]:
    """What has to be watched to draw what a rule compares."""
    if not rule.compared:
        return [Query("whole_h", rule.expr, lens.range_seconds, lens.step_seconds)]
    asked = []
    for number, one in enumerate(rule.compared[:MOST_CURVES]):
        asked.append(Query(f"value{number}_h", one.expr, lens.range_seconds, lens.step_seconds))
        if isinstance(one.threshold, str):
            asked.append(Query(f"threshold{number}_h", one.threshold, lens.range_seconds, lens.step_seconds))
    return asked


def curves_of(rule: Rule, answers: Answers, labels: Mapping[str, str]) -> list[Drawn]:
    """What the alert with these labels compares, from the answers to ``curve_queries``. Of several comparisons those
    that the alert has series of, or the first."""
    given = {name: value for name, value in labels.items() if name not in rule.labels and name != "alertname"}
    if not rule.compared:
        whole = _curve(answers, "whole_h", rule.expr, given)
        return [replace(whole, problem=_NOTHING) if whole.problem == _NO_SERIES else whole]
    found = []
    for number, one in enumerate(rule.compared[:MOST_CURVES]):
        curve = _curve(answers, f"value{number}_h", one.expr, given)
        threshold, limit = one.threshold, None
        if isinstance(threshold, str):
            paired = {k: v for k, v in given.items() if (k in one.on if one.on is not None else k not in one.ignoring)}
            limit = series_of(answers.histories.get(f"threshold{number}_h", ()), paired)
            threshold = limit.newest if limit is not None else None
        found.append(Drawn(one.expr, curve.history, one.op, threshold, limit, curve.problem))
    drawn = [one for one in found if one.history is not None]
    return drawn or found[:1]


def _curve(answers: Answers, id: str, expr: str, given: Mapping[str, str]) -> Drawn:
    problem = answers.problems.get(id, "")
    if id not in answers.histories and not problem:
        return Drawn(expr, None, problem="reading …")
    history = series_of(answers.histories.get(id, ()), given)
    if history is None and not problem:
        problem = _NO_SERIES
    return Drawn(expr, history, problem=problem)


def series_of(found: Sequence[tuple[Mapping[str, str], History]], wanted: Mapping[str, str]) -> History | None:
    """Of several series the one for which most of the wanted labels speak, and against which none does."""
    best, history = -1, None
    for labels, one in found:
        if all(labels.get(name, value) == value for name, value in wanted.items()):
            speaking = sum(name in labels for name in wanted)
            if speaking > best and any(value == value for value in one.values):
                best, history = speaking, one
    return history
