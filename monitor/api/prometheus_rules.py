"""`/api/v1/rules` and `/api/v1/alerts`: what rules are and do now, filtered and in pages as in Prometheus."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from monitor.api.go_values import parse_truth, parse_whole, quoted
from monitor.api.http import BadRequest, first, go_float, parameters, rfc3339, seconds, success
from monitor.api.node import Node
from monitor.api.selectors import read_matchers
from monitor.rules.engine import RuleStatus
from monitor.rules.graph import Comparison, comparisons_of
from monitor.rules.templates import Template
from monitor.rules.transition import Alert
from monitor.selector import Matcher


def routes(node: Node) -> list[Route]:
    """The routes of rules and alerts."""

    async def rules(request: Request) -> Response:
        found = await parameters(request)
        wanted = Wanted(found)
        size, token = _page(found)
        groups = rules_json(node, wanted)
        if token:
            at = next((i for i, group in enumerate(groups) if _token(group) == token), None)
            if at is None:
                why = f"invalid group_next_token '{token[:80]}'. were rule groups changed?"
                raise BadRequest(f'invalid parameter "group_next_token": {why}')
            groups = groups[at:]
        if size and len(groups) > size:
            return success({"groups": groups[:size], "groupNextToken": _token(groups[size])})
        return success({"groups": groups})

    async def alerts(request: Request) -> Response:
        return success({"alerts": alerts_json(node)})

    return [Route("/api/v1/rules", rules), Route("/api/v1/alerts", alerts)]


class Wanted:
    """Which rules a request asks for: ``type``, ``rule_name[]``, ``rule_group[]``, ``file[]``, ``match[]``; and whether
    with their alerts: ``exclude_alerts``. Raises ``BadRequest``."""

    def __init__(self, found: dict[str, list[str]]) -> None:
        self._names = frozenset(found.get("rule_name[]", ()))
        self._groups = frozenset(found.get("rule_group[]", ()))
        self._files = frozenset(found.get("file[]", ()))
        self._matchers = [read_matchers(text) for text in found.get("match[]", ())]
        kind = first(found, "type").lower()
        if kind not in ("", "alert", "record"):
            raise BadRequest(f'invalid parameter "type": not supported value {quoted(kind)}')
        self._records = {"alert": False, "record": True}.get(kind)
        without = first(found, "exclude_alerts")
        try:
            self.with_alerts = not (without and parse_truth(without.lower()))
        except ValueError as error:
            raise BadRequest(f'invalid parameter "exclude_alerts": error converting exclude_alerts: {error}') from None

    @property
    def is_choosy(self) -> bool:
        """Whether groups without a rule that is asked for are left out."""
        return bool(self._names or self._matchers) or self._records is not None

    def takes_group(self, name: str, path: str) -> bool:
        """Whether a group may have rules that are asked for."""
        return (not self._groups or name in self._groups) and (not self._files or path in self._files)

    def takes(self, status: RuleStatus) -> bool:
        """Whether a rule is asked for."""
        rule = status.rule
        if self._records is not None and bool(rule.records) is not self._records:
            return False
        if self._names and rule.name not in self._names:
            return False
        return not self._matchers or any(
            all(_fits(matcher, rule.labels) for matcher in matchers) for matchers in self._matchers
        )


def _fits(matcher: Matcher, labels: Mapping[str, Template]) -> bool:
    """Whether a rule's labels have it, as they stand in the rule."""
    return matcher.matches(labels[matcher.name].text if matcher.name in labels else "")


def _page(found: dict[str, list[str]]) -> tuple[int, str]:
    """How many groups, 0 for all, and from which on."""
    text, token = first(found, "group_limit"), first(found, "group_next_token")
    if token and not text:
        why = "group_limit needs to be present in order to paginate over the groups"
        raise BadRequest(f'invalid parameter "group_next_token": {why}')
    if not text:
        return 0, ""
    try:
        size = parse_whole(text, 32, "ParseInt")
    except ValueError as error:
        raise BadRequest(f'invalid parameter "group_limit": group_limit needs to be a valid number: {error}') from None
    if size <= 0:
        raise BadRequest('invalid parameter "group_limit": group_limit needs to be greater than 0')
    return size, token


def _token(group: dict[str, Any]) -> str:
    """What a page ends with: a group's mark, as Prometheus makes it."""
    return hashlib.sha1(f"{group['file']};{group['name']}".encode(), usedforsecurity=False).hexdigest()


def alerts_json(node: Node) -> list[dict[str, Any]]:
    """Active alerts with Prometheus' fields, their fingerprint, and what keeps people from being told of them."""
    now_ms = node.clock.now_ms()
    found = []
    for alert in node.engine.alerts():
        body = _alert_json(alert)
        if node.notifier is not None and alert.state == "firing":
            kept = node.notifier.suppression(alert.labels, now_ms)
            if kept.silenced_by:
                body["silencedBy"] = kept.silenced_by
            if kept.inhibited_by:
                body["inhibitedBy"] = kept.inhibited_by
        found.append(body)
    return found


def rules_json(node: Node, wanted: Wanted | None = None) -> list[dict[str, Any]]:
    """The rule groups with Prometheus' fields. Two are our own: ``neverMatched``, nothing ever had the rule's series;
    and of an alerting rule ``graph``, what it compares with what, the leftmost comparison first. With ``wanted``, the
    rules that it takes, and the groups that have any."""
    found = []
    for group in node.engine.groups_status():
        if wanted is not None and not wanted.takes_group(group.name, group.path):
            continue
        rules = [status for status in group.rules if wanted is None or wanted.takes(status)]
        if wanted is not None and wanted.is_choosy and not rules:
            continue
        found.append(
            {
                "name": group.name,
                "file": group.path,
                "interval": seconds(group.interval_ms),
                "limit": group.limit,
                "rules": [_rule_json(status, wanted is None or wanted.with_alerts) for status in rules],
                "evaluationTime": group.duration_seconds,
                "lastEvaluation": rfc3339(group.last_evaluation_ms or 0),
            }
        )
    return found


def _rule_json(status: RuleStatus, with_alerts: bool) -> dict[str, Any]:
    rule = status.rule
    body: dict[str, Any] = {
        "name": rule.name,
        "query": rule.expr,
        "labels": {name: template.text for name, template in rule.labels.items()},
        "health": status.health,
        "lastError": status.last_error,
        "evaluationTime": status.duration_seconds,
        "lastEvaluation": rfc3339(status.last_evaluation_ms or 0),
        "neverMatched": status.never_matched,
        "type": "recording" if rule.records else "alerting",
    }
    if not rule.records:
        body |= {
            "state": status.state,
            "duration": seconds(rule.for_ms),
            "keepFiringFor": seconds(rule.keep_firing_for_ms),
            "annotations": {name: template.text for name, template in rule.annotations.items()},
            "alerts": [_alert_json(alert) for alert in status.alerts] if with_alerts else None,
            "graph": [_comparison_json(one) for one in comparisons_of(rule.expr)],
        }
    return body


def _comparison_json(one: Comparison) -> dict[str, Any]:
    """Value and threshold are PromQL, the threshold a number where it is one. ``on`` or ``ignoring`` are there where
    the two are not paired by all of their labels."""
    body: dict[str, Any] = {"expr": one.expr, "op": one.op, "threshold": one.threshold}
    if one.on is not None:
        body["on"] = one.on
    elif one.ignoring:
        body["ignoring"] = one.ignoring
    return body


def _alert_json(alert: Alert) -> dict[str, Any]:
    return {
        "labels": dict(alert.labels),
        "annotations": dict(alert.annotations),
        "state": alert.state,
        "activeAt": rfc3339(alert.active_at_ms),
        "value": go_exponent(alert.value),
        "fingerprint": alert.key,
    }


def go_exponent(value: float) -> str:
    """An alert's value as Prometheus writes it: ``9.1e+01``."""
    text = go_float(value)
    if text[-1].isalpha() or "e" in text:
        return text
    mantissa, _, exponent = f"{value:.17e}".partition("e")
    written = repr(value).partition("e")[0].lstrip("-").replace(".", "").strip("0")
    for digits in range(max(0, len(written) - 1), 17):  # with fewer it is not the same number
        shorter = f"{value:.{digits}e}"
        if float(shorter) == value:
            mantissa, _, exponent = shorter.partition("e")
            break
    return f"{mantissa}e{exponent}"
