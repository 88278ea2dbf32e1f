"""What ``gpumon backtest --json`` prints: one object.

Times are epoch milliseconds, an absent one is null. Values are text, as in Prometheus' JSON: NaN and infinities are
among them.

    {"schema": 1, "rules": [file…], "past": "where it came from", "start_ms", "end_ms",
     "oldest_ms", "newest_ms": of the samples that were found, "gaps": [{"start_ms", "end_ms"}…],
     "evaluations", "series", "samples",
     "results": [{"name", "type": "alerting" | "recording", "group", "file", "line",
                  "errors": count, "error": the first, "absent": [selector…], "could_fire",
                  "firings": [firing…], "pending_only": [firing…]}…],
     "old": {"rules", "evaluations", "series", "samples", "results"},
     "difference": {"only_new": [firing…], "only_old": [firing…], "same": count,
                    "moved": [{"new", "old", "begins_later_ms", "ends_later_ms"}…]}}

    firing: {"name", "labels", "severity", "annotations", "pending_ms", "fired_ms", "ended_ms", "value", "low", "high"}

``old`` and ``difference`` are there with ``--rules`` only.
"""

from __future__ import annotations

from typing import Any

from monitor.commands.backtest_difference import Pair
from monitor.commands.backtest_replay import Episode, Outcome, RuleResult
from monitor.commands.backtest_report import Report, said_selector
from monitor.samples import label

SCHEMA = 1


def as_json(report: Report) -> dict[str, Any]:
    """The whole as one object; times are epoch milliseconds."""
    past = report.past
    body: dict[str, Any] = {
        "schema": SCHEMA,
        "rules": list(report.files),
        "past": report.place,
        "start_ms": past.start_ms,
        "end_ms": past.end_ms,
        "oldest_ms": past.oldest_ms,
        "newest_ms": past.newest_ms,
        "gaps": [{"start_ms": start, "end_ms": end} for start, end in past.gaps],
        **_outcome(report.outcome),
    }
    if report.old is not None and report.difference is not None:
        found = report.difference
        body["old"] = {"rules": list(report.old_files), **_outcome(report.old)}
        body["difference"] = {
            "only_new": [_episode(one) for one in found.only_new],
            "only_old": [_episode(one) for one in found.only_old],
            "moved": [_pair(one) for one in found.moved],
            "same": len(found.same),
        }
    return body


def _outcome(outcome: Outcome) -> dict[str, Any]:
    return {
        "evaluations": outcome.evaluations,
        "series": outcome.series,
        "samples": outcome.samples,
        "results": [_result(one) for one in outcome.results],
    }


def _result(one: RuleResult) -> dict[str, Any]:
    body: dict[str, Any] = {
        "name": one.rule.name,
        "type": "recording" if one.rule.records else "alerting",
        "group": one.group,
        "file": one.rule.path,
        "line": one.rule.line,
        "errors": one.errors,
        "error": one.error,
        "absent": [said_selector(matchers) for matchers in one.absent],
        "could_fire": one.could_fire,
    }
    if not one.rule.records:
        body["firings"] = [_episode(each) for each in one.fired]
        body["pending_only"] = [_episode(each) for each in one.pending_only]
    return body


def _episode(one: Episode) -> dict[str, Any]:
    return {
        "name": one.rule,
        "labels": dict(one.labels),
        "severity": label(one.labels, "severity"),
        "annotations": dict(one.annotations),
        "pending_ms": one.pending_ms,
        "fired_ms": one.fired_ms,
        "ended_ms": one.ended_ms,
        "value": _number(one.value),
        "low": _number(one.low),
        "high": _number(one.high),
    }


def _pair(pair: Pair) -> dict[str, Any]:
    return {
        "new": _episode(pair.new),
        "old": _episode(pair.old),
        "begins_later_ms": pair.begins_later_ms,
        "ends_later_ms": pair.ends_later_ms,
    }


def _number(value: float) -> str:
    """As text, as Prometheus' JSON has values: NaN and infinities are among them."""
    if value != value:
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "+Inf" if value > 0 else "-Inf"
    return repr(value).removesuffix(".0")
