"""The life of a rule's alerts: inactive, pending, firing, and their end, as Prometheus has it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence

import msgspec

from monitor.rules.rule_file import Rule
from monitor.rules.templates import Context, Template, TemplateError
from monitor.rules.transition import Alert, State, Transition
from monitor.samples import NAME, Labels, labels_of

Gone = Callable[[Labels], str | None]
"""For an alert's labels, the source that its data would come from, where that source is down; else None."""


class RuleError(Exception):
    """An evaluation whose result cannot be used."""


class ActiveAlert(msgspec.Struct):
    """An alert that is pending or firing."""

    key: str
    labels: Labels
    annotations: dict[str, str]
    value: float
    active_at_ms: int
    state: State = "pending"
    fired_at_ms: int | None = None
    keep_firing_since_ms: int | None = None
    held_until_ms: int | None = None
    """After a restart: until then, the absence of its expression says nothing, as there may be no data yet."""

    def frozen(self, group: str, rule: str) -> Alert:
        """As the rest of the program sees it."""
        return Alert(
            self.key,
            group,
            rule,
            self.state,
            self.labels,
            self.annotations,
            self.value,
            self.active_at_ms,
            self.fired_at_ms,
            self.keep_firing_since_ms,
        )


def fingerprint(group: str, rule: str, ordinal: int, labels: Labels) -> str:
    """The same for the same alert over restarts and reloads: 16 hexadecimal digits.

    ``ordinal`` counts the rules of the same name and labels in groups of the same name: nearly always 0.
    """
    parts = [group, rule, str(ordinal), *(part for pair in labels for part in pair)]
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:16]


class Alerts(msgspec.Struct):
    """The alerts of one rule."""

    group: str
    rule: Rule
    ordinal: int = 0
    active: dict[Labels, ActiveAlert] = msgspec.field(default_factory=dict)
    ended: dict[Labels, Transition] = msgspec.field(default_factory=dict)
    """How the alerts ended that did so lately."""

    def frozen(self) -> list[Alert]:
        """Those that are pending or firing."""
        return [alert.frozen(self.group, self.rule.name) for alert in self.active.values()]

    @property
    def state(self) -> State:
        """The gravest state of its alerts."""
        states = {alert.state for alert in self.active.values()}
        return "firing" if "firing" in states else "pending" if states else "inactive"

    def key(self, labels: Labels) -> str:
        """The fingerprint of the alert with these labels."""
        return fingerprint(self.group, self.rule.name, self.ordinal, labels)

    def update(
        self,
        vector: Sequence[tuple[Labels, float]],
        now_ms: int,
        limit: int,
        context: Context,
        external_labels: Mapping[str, str],
        gone: Gone | None,
        retention_ms: int,
    ) -> tuple[list[Transition], str]:
        """Take the result of an evaluation. Gives what changed, and what is wrong where there are too many alerts.

        Raises ``RuleError`` where two samples make the same alert; then all stays as it was.
        """
        results = self._results(vector, context, external_labels)
        before = {labels: alert.state for labels, alert in self.active.items()}
        for labels, (texts, value) in results.items():
            known = self.active.get(labels)
            if known is None:
                self.active[labels] = ActiveAlert(self.key(labels), labels, texts, value, now_ms)
            else:
                known.annotations, known.value = texts, value
        ended: list[Transition] = []
        for labels, alert in list(self.active.items()):
            if labels in results:
                alert.keep_firing_since_ms = alert.held_until_ms = None
            elif not self._kept(alert, now_ms):
                source = gone(labels) if gone is not None else None
                reason = f"data gone: {source}" if source is not None else ""
                ended.append(self.end(alert, now_ms, reason))
                continue
            if labels in results or alert.state == "firing":
                self._advance(alert, now_ms)
        self.forget(now_ms - retention_ms)
        if 0 < limit < len(self.active):
            error = f"exceeded limit of {limit} with {len(self.active)} alerts"
            return [*ended, *self._drop(before, now_ms, error)], error
        return [*ended, *self._changed(before, now_ms)], ""

    def end(self, alert: ActiveAlert, now_ms: int, reason: str, before: State | None = None) -> Transition:
        """End an alert, whatever its expression says."""
        del self.active[alert.labels]
        last = alert.frozen(self.group, self.rule.name)
        transition = Transition(last, before or alert.state, "inactive", now_ms, reason)
        if transition.before == "firing":
            self.ended[alert.labels] = transition
        return transition

    def _results(
        self, vector: Sequence[tuple[Labels, float]], context: Context, external_labels: Mapping[str, str]
    ) -> dict[Labels, tuple[dict[str, str], float]]:
        results: dict[Labels, tuple[dict[str, str], float]] = {}
        for sample, value in vector:
            given = dict(sample)

            def expand(text: Template, given: dict[str, str] = given, value: float = value) -> str:
                try:
                    return text.expand(given, value, context, external_labels)
                except TemplateError as error:
                    return f"<error expanding template: {error.message}>"

            pairs = {name: text for name, text in sample if name != NAME}
            for name, template in self.rule.labels.items():
                pairs[name] = expand(template)
            pairs["alertname"] = self.rule.name
            labels = labels_of(pairs)
            if labels in results:
                raise RuleError("vector contains metrics with the same labelset after applying alert labels")
            annotations = {name: expand(template) for name, template in self.rule.annotations.items()}
            results[labels] = annotations, value
        return results

    def _kept(self, alert: ActiveAlert, now_ms: int) -> bool:
        """Whether an alert whose expression does not hold stays."""
        if alert.keep_firing_since_ms is None and alert.held_until_ms is not None and now_ms < alert.held_until_ms:
            return True
        if alert.state != "firing" or not self.rule.keep_firing_for_ms:
            return False
        if alert.keep_firing_since_ms is None or alert.keep_firing_since_ms > now_ms:  # or the clock went back
            alert.keep_firing_since_ms = now_ms
        return now_ms - alert.keep_firing_since_ms < self.rule.keep_firing_for_ms

    def _advance(self, alert: ActiveAlert, now_ms: int) -> None:
        if alert.active_at_ms > now_ms:  # the clock went back: what fires does so still
            alert.active_at_ms = now_ms if alert.state == "pending" else now_ms - self.rule.for_ms
        age = now_ms - alert.active_at_ms
        if alert.state == "pending" and age >= self.rule.for_ms:
            alert.state, alert.fired_at_ms = "firing", now_ms
        elif alert.state == "firing" and age < self.rule.for_ms:  # a reload raised it
            alert.state, alert.fired_at_ms, alert.keep_firing_since_ms = "pending", None, None

    def _changed(self, before: Mapping[Labels, State], now_ms: int) -> list[Transition]:
        out = []
        for labels, alert in self.active.items():
            was = before.get(labels, "inactive")
            if was != alert.state:
                self.ended.pop(labels, None)
                out.append(Transition(alert.frozen(self.group, self.rule.name), was, alert.state, now_ms))
        return out

    def _drop(self, before: Mapping[Labels, State], now_ms: int, reason: str) -> list[Transition]:
        """Forget all alerts, as Prometheus does over the limit. Those that there were end with the reason, so that
        nobody takes it for a recovery."""
        out = [
            self.end(alert, now_ms, reason, before[labels])
            for labels, alert in list(self.active.items())
            if labels in before
        ]
        self.active.clear()
        return out

    def forget(self, before_ms: int) -> None:
        """Let go of how alerts ended that did so before then."""
        for labels, transition in list(self.ended.items()):
            if transition.at_ms < before_ms:
                del self.ended[labels]
