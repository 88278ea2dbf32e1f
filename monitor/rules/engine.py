"""Evaluates rule groups when they are due, as Prometheus does. Time is passed in, and nothing is sent from here."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from typing import Literal

import msgspec

from monitor.promql.errors import PromQLError
from monitor.promql.evaluate import vector
from monitor.promql.frame import Shared
from monitor.promql.plan import Plan, plan
from monitor.rules.alerting import ActiveAlert, Alerts, Gone, RuleError
from monitor.rules.reach import ALERTS
from monitor.rules.rule_file import Group, Rule, RuleSet
from monitor.rules.template_functions import CallError
from monitor.rules.templates import Context, Sample
from monitor.rules.transition import Alert, State, Transition
from monitor.samples import NAME, STALE, Labels, labels_of
from monitor.selector import Appendable

Health = Literal["ok", "err", "unknown"]
_NEVER = 2**62
_MOST_QUERIES = 200


class RuleStatus(msgspec.Struct, frozen=True):
    """A rule as ``/api/v1/rules`` shows it."""

    rule: Rule
    state: State
    health: Health
    last_error: str
    last_evaluation_ms: int | None
    duration_seconds: float
    never_matched: bool
    """Whether none of its selectors has ever found a series: it cannot fire as it stands, or its source is absent."""
    alerts: tuple[Alert, ...]


class GroupStatus(msgspec.Struct, frozen=True):
    """A group as ``/api/v1/rules`` shows it."""

    name: str
    path: str
    interval_ms: int
    limit: int
    last_evaluation_ms: int | None
    duration_seconds: float
    rules: tuple[RuleStatus, ...]


class _RuleState(msgspec.Struct):
    alerts: Alerts
    series: set[Labels] = msgspec.field(default_factory=set)
    """What the last evaluation gave: what is not in the next one ends there."""
    recorded: dict[Labels, Labels] = msgspec.field(default_factory=dict)
    """Of a recording rule, the series that each sample of its last evaluation became."""
    matched: bool = False
    health: Health = "unknown"
    last_error: str = ""
    last_evaluation_ms: int | None = None
    duration_seconds: float = 0.0

    @property
    def rule(self) -> Rule:
        return self.alerts.rule


class _GroupState(msgspec.Struct):
    group: Group
    interval_ms: int
    rules: list[_RuleState]
    due_ms: int | None = None
    last_evaluation_ms: int | None = None
    duration_seconds: float = 0.0
    begun: bool = False
    """Whether some of its rules are evaluated, and the rest not yet."""


class Engine:
    """All rules with their state. Used from one thread."""

    def __init__(
        self,
        rules: RuleSet,
        *,
        default_interval_ms: int = 60_000,
        external_labels: Mapping[str, str] | None = None,
        external_url: str = "",
        resolved_retention_ms: int = 900_000,
        restore_hold_ms: int = 60_000,
        timer: Callable[[], float] = time.perf_counter,
    ) -> None:
        """``resolved_retention_ms`` is for how long ``resolved`` tells of an alert that ended; ``restore_hold_ms`` for
        how long after ``restore`` an alert stays whose expression gives nothing, as sources may not have answered yet.
        ``timer`` gives seconds, and only measures how long evaluations take."""
        self.failures = 0
        """Evaluations of rules that failed, since the start."""
        self.evaluations = 0
        """Evaluations of groups, since the start."""
        self.late = 0
        """Those among them that came an interval late or more, so that others were left out."""
        self._default_interval_ms = default_interval_ms
        self._external_labels = dict(external_labels or {})
        self._external_url = external_url
        self._retention_ms = resolved_retention_ms
        self._hold_ms = restore_hold_ms
        self._timer = timer
        self._groups: list[_GroupState] = []
        self._removed: list[tuple[Alerts, ActiveAlert]] = []
        self._orphans: set[Labels] = set()
        self._queries: dict[str, Plan] = {}
        self.reload(rules)

    # -- evaluation --------------------------------------------------------------------------------------------------

    @property
    def next_due_ms(self) -> int:
        """When the next evaluation is due; 0 for at once."""
        if self._removed or self._orphans:
            return 0
        return min((group.due_ms or 0 for group in self._groups), default=_NEVER)

    def step(self, now_ms: int, storage: Appendable, gone: Gone | None = None) -> list[Transition]:
        """Evaluate each group that is due, its rules in order, and give what changed.

        Results of recording rules, ``ALERTS`` and ``ALERTS_FOR_STATE`` are in ``storage`` before the next rule is
        evaluated. A rule that fails keeps its state, and the others go on.
        """
        return [one for changed in self.steps(now_ms, storage, gone) for one in changed]

    def steps(
        self, now_ms: int, storage: Appendable, gone: Gone | None = None
    ) -> Generator[list[Transition], None, None]:
        """What ``step`` does, a rule at a time, for who has other things to do between two of them. It ends early where
        it is left, or at a ``reload``: what is still due stays so, but for the rest of a group that was begun; after a
        ``reload`` that group is due as a whole."""
        yield [alerts.end(alert, now_ms, "rule removed") for alerts, alert in self._take_removed()]
        groups = self._groups
        shared = Shared()
        for group in groups:
            late = now_ms - group.due_ms if group.due_ms is not None else 0
            if late < -group.interval_ms:  # the clock went back
                group.due_ms, late = now_ms, 0
            if late >= 0:
                # Evaluations that were missed are left out; the others stay on the group's own beat.
                group.due_ms = now_ms + group.interval_ms - late % group.interval_ms
                self.evaluations += 1
                self.late += late >= group.interval_ms
                for changed in self._evaluate_group(group, now_ms, storage, gone, shared):
                    yield changed
                    if groups is not self._groups:
                        return
        if self._orphans:
            # A rule that only moved to another group has gone on with its series by now.
            for labels in self._orphans.difference(*(state.series for state in self._states())):
                storage.append(labels, now_ms, STALE)
            self._orphans.clear()

    def _take_removed(self) -> list[tuple[Alerts, ActiveAlert]]:
        removed, self._removed = self._removed, []
        return removed

    def _evaluate_group(
        self, group: _GroupState, now_ms: int, storage: Appendable, gone: Gone | None, shared: Shared
    ) -> Iterator[list[Transition]]:
        at_ms = now_ms - group.group.query_offset_ms
        took = 0.0
        group.begun = True
        for state in group.rules:
            started = self._timer()
            changed: list[Transition] = []
            try:
                result = vector(state.rule.plan, storage, at_ms, shared=shared)
                changed, error_text = self._apply(state, result, now_ms, at_ms, group.group.limit, storage, gone)
                if error_text:
                    self._failed(state, error_text)
                else:
                    state.health, state.last_error = "ok", ""
            except (PromQLError, RuleError) as error:
                self._failed(state, str(error))
                self._hold(state, at_ms, storage)
            except Exception as error:  # whatever it is, the other rules must go on
                self._failed(state, f"{type(error).__name__}: {error}")
                self._hold(state, at_ms, storage)
            for name in (state.rule.name,) if state.rule.records else ALERTS:
                shared.forget(name)
            state.duration_seconds = self._timer() - started
            state.last_evaluation_ms = now_ms
            took += state.duration_seconds  # and nothing of what is done between two rules
            if state is not group.rules[-1]:
                yield changed
        group.duration_seconds = took
        group.last_evaluation_ms = now_ms
        group.begun = False
        if group.rules:
            yield changed

    def _failed(self, state: _RuleState, error: str) -> None:
        state.health, state.last_error = "err", error
        self.failures += 1

    def _hold(self, state: _RuleState, at_ms: int, storage: Appendable) -> None:
        """Alerts stay as they are while their rule fails, and so do their series: in Prometheus those end with the
        lookback, five minutes after the last evaluation that went well."""
        if not state.rule.records:
            self._append(state, _alert_series(state.alerts.active.values()), at_ms, storage)

    def _apply(
        self,
        state: _RuleState,
        result: Sequence[tuple[Labels, float]],
        now_ms: int,
        at_ms: int,
        limit: int,
        storage: Appendable,
        gone: Gone | None,
    ) -> tuple[list[Transition], str]:
        rule = state.rule
        if not state.matched:
            selectors = rule.plan.selectors
            state.matched = not selectors or any(storage.select(matchers) for matchers in selectors)
        if rule.records:
            self._append(state, _recorded(state, result, limit), at_ms, storage)
            return [], ""
        if not result and not state.alerts.active and not state.series:  # as nearly always
            if state.alerts.ended:
                state.alerts.forget(now_ms - self._retention_ms)
            return [], ""
        # As in Prometheus, templates ask at the time itself, whatever the group's query_offset is.
        context = Context(
            lambda text: self._query(text, storage, now_ms), now_ms, self._external_url, f"__alert_{rule.name}"
        )
        changed = state.alerts.update(result, now_ms, limit, context, self._external_labels, gone, self._retention_ms)
        self._append(state, _alert_series(state.alerts.active.values()), at_ms, storage)
        return changed

    def _append(
        self, state: _RuleState, samples: Iterable[tuple[Labels, float]], at_ms: int, storage: Appendable
    ) -> None:
        given: set[Labels] = set()
        for labels, value in samples:
            storage.append(labels, at_ms, value)
            given.add(labels)
        for labels in state.series - given:
            storage.append(labels, at_ms, STALE)
        state.series = given

    def _query(self, text: str, storage: Appendable, at_ms: int) -> Sequence[Sample]:
        """What ``query`` gives in a template."""
        try:
            planned = self._queries.get(text)
            if planned is None:
                if len(self._queries) >= _MOST_QUERIES:  # a template can make a text of its own for every alert
                    self._queries.clear()
                planned = self._queries[text] = plan(text)
            return [Sample(dict(labels), value) for labels, value in vector(planned, storage, at_ms)]
        except PromQLError as error:
            raise CallError(str(error)) from error

    # -- state -------------------------------------------------------------------------------------------------------

    def alerts(self) -> list[Alert]:
        """The alerts that are pending or firing, in the order of the rules."""
        return [alert for state in self._states() for alert in state.alerts.frozen()]

    def resolved(self) -> list[Transition]:
        """How firing alerts ended that did so lately, and are not active again."""
        return [transition for state in self._states() for transition in state.alerts.ended.values()]

    def failing(self) -> list[tuple[str, str]]:
        """Group and name of every rule whose last evaluation failed: its alerts are held as they are."""
        failing = [(state.alerts.group, state.rule.name) for state in self._states() if state.health == "err"]
        return list(dict.fromkeys(failing))

    def groups_status(self) -> list[GroupStatus]:
        """Groups and rules with their health, in the order of the files."""
        return [
            GroupStatus(
                name=state.group.name,
                path=state.group.path,
                interval_ms=state.interval_ms,
                limit=state.group.limit,
                last_evaluation_ms=state.last_evaluation_ms,
                duration_seconds=state.duration_seconds,
                rules=tuple(_status(rule) for rule in state.rules),
            )
            for state in self._groups
        ]

    def saved(self) -> list[Alert]:
        """What to keep over a restart, for ``restore``."""
        return self.alerts()

    def restore(self, alerts: Iterable[Alert], now_ms: int, saved_at_ms: int | None = None) -> None:
        """Take up the alerts of the last run. Unlike in Prometheus, a firing alert goes on firing, and so does its
        ``keep_firing_for``. One whose rule is gone ends at the next step.

        With ``saved_at_ms``, the time that nobody looked does not count towards a pending alert's ``for``.
        """
        down_ms = max(0, now_ms - saved_at_ms) if saved_at_ms is not None else 0
        states = list(self._states())
        for saved in alerts:
            alert = ActiveAlert(
                key=saved.key,
                labels=saved.labels,
                annotations=dict(saved.annotations),
                value=saved.value,
                active_at_ms=saved.active_at_ms + (down_ms if saved.state == "pending" else 0),
                state=saved.state,
                fired_at_ms=saved.fired_at_ms,
                keep_firing_since_ms=saved.keep_firing_since_ms,
                held_until_ms=now_ms + self._hold_ms,
            )
            if saved.state == "inactive":
                continue
            home = next(
                (
                    state.alerts
                    for state in states
                    if not state.rule.records
                    and (state.alerts.group, state.rule.name) == (saved.group, saved.rule)
                    and state.alerts.key(saved.labels) == saved.key
                ),
                None,
            )
            if home is not None:
                home.active[alert.labels] = alert
            else:
                lost = Alerts(saved.group, _removed_rule(saved.rule))
                lost.active[alert.labels] = alert
                self._removed.append((lost, alert))

    def hold(self, now_ms: int) -> None:
        """Let no alert end for a while for want of samples: the store begins anew, as after a start."""
        for state in self._states():
            for alert in state.alerts.active.values():
                alert.held_until_ms = now_ms + self._hold_ms

    def configure(self, external_labels: Mapping[str, str], external_url: str) -> None:
        """Take over what templates call ``$externalLabels`` and ``externalURL``."""
        self._external_labels = dict(external_labels)
        self._external_url = external_url

    def reload(self, rules: RuleSet) -> None:
        """Take other rules. A rule that is the same by group, name and labels keeps its alerts, as in Prometheus; the
        alerts of one that is gone end at the next step."""
        old = {self._identity(state): state for state in self._states()}
        beats = {
            (group.group.path, group.group.name, group.interval_ms): None if group.begun else group.due_ms
            for group in self._groups
        }
        counts: Counter[tuple[str, str, bool, tuple[tuple[str, str], ...]]] = Counter()
        groups: list[_GroupState] = []
        for group in rules.groups:
            states = []
            for rule in group.rules:
                ordinal = counts[(group.name, *rule.identity)]
                counts[(group.name, *rule.identity)] += 1
                state = _RuleState(Alerts(group.name, rule, ordinal))
                before = old.pop(self._identity(state), None)
                if before is not None:
                    _inherit(state, before)
                states.append(state)
            interval_ms = group.interval_ms or self._default_interval_ms
            due_ms = beats.get((group.path, group.name, interval_ms))
            groups.append(_GroupState(group, interval_ms, states, due_ms))
        for state in old.values():
            self._orphans |= state.series
            self._removed += [(state.alerts, alert) for alert in state.alerts.active.values()]
        # A series that a remaining rule makes goes on: that rule ends it when it does.
        self._orphans -= {labels for group_state in groups for state in group_state.rules for labels in state.series}
        self._groups = groups

    @staticmethod
    def _identity(state: _RuleState) -> tuple[str, int, tuple[str, bool, tuple[tuple[str, str], ...]]]:
        return state.alerts.group, state.alerts.ordinal, state.rule.identity

    def _states(self) -> Iterator[_RuleState]:
        for group in self._groups:
            yield from group.rules


def _inherit(state: _RuleState, before: _RuleState) -> None:
    state.alerts.active = before.alerts.active
    state.alerts.ended = before.alerts.ended
    state.series = before.series
    if state.rule.expr == before.rule.expr:
        state.matched = before.matched
        state.health, state.last_error = before.health, before.last_error
        state.last_evaluation_ms, state.duration_seconds = before.last_evaluation_ms, before.duration_seconds


def _status(state: _RuleState) -> RuleStatus:
    return RuleStatus(
        rule=state.rule,
        state=state.alerts.state,
        health=state.health,
        last_error=state.last_error,
        last_evaluation_ms=state.last_evaluation_ms,
        duration_seconds=state.duration_seconds,
        never_matched=state.last_evaluation_ms is not None and not state.matched,
        alerts=tuple(state.alerts.frozen()),
    )


def _removed_rule(name: str) -> Rule:
    """Stands for the rule of an alert that outlived it."""
    return Rule(name, records=False, expr="vector(0)", plan=plan("vector(0)"))


def _recorded(state: _RuleState, result: Sequence[tuple[Labels, float]], limit: int) -> list[tuple[Labels, float]]:
    """The series that a recording rule makes."""
    rule, before = state.rule, state.recorded
    state.recorded = known = {}
    out: dict[Labels, float] = {}
    for sample, value in result:
        labels = before.get(sample)
        if labels is None:
            pairs = dict(sample)
            pairs.update((name, template.text) for name, template in rule.labels.items())
            pairs[NAME] = rule.name
            labels = labels_of(pairs)
        known[sample] = labels
        if labels in out:
            raise RuleError("vector contains metrics with the same labelset after applying rule labels")
        out[labels] = value
    if 0 < limit < len(out):
        raise RuleError(f"exceeded limit of {limit} with {len(out)} series")
    return list(out.items())


def _alert_series(alerts: Iterable[ActiveAlert]) -> Iterator[tuple[Labels, float]]:
    """``ALERTS`` and ``ALERTS_FOR_STATE``."""
    for alert in alerts:
        pairs = dict(alert.labels)
        yield labels_of(pairs | {NAME: "ALERTS", "alertstate": alert.state}), 1.0
        yield labels_of(pairs | {NAME: "ALERTS_FOR_STATE"}), float(alert.active_at_ms // 1000)
