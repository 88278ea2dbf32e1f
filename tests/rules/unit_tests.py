"""Runs promtool's unit-test files through our own engine: what CI has without a promtool."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from monitor.promql.evaluate import vector
from monitor.promql.parse import parse_selector
from monitor.promql.plan import plan
from monitor.rules.engine import Engine
from monitor.rules.rule_file import load_rules
from monitor.samples import STALE, Labels, label, labels_of
from monitor.store.head import Head
from monitor.yaml_reader import parse_duration_ms

_NUMBER = r"[\d.]+(?:e[+-]?\d+)?"
_RUN = re.compile(rf"(?P<first>-?{_NUMBER})(?P<step>[+-]{_NUMBER})?(?:x(?P<count>\d+))?")


@dataclass(frozen=True)
class Check:
    """One expectation of a unit-test file, with what was found."""

    test: str
    what: str
    expected: object
    found: object


def run(path: Path) -> Iterator[Check]:
    """Every expectation of a file, in order."""
    data = yaml.safe_load(path.read_text(encoding="utf-8"))
    files = [path.parent / name for name in data["rule_files"]]
    step_ms = _ms(data["evaluation_interval"])
    for test in data["tests"]:
        yield from _run_test(test, files, step_ms)


def _run_test(test: dict[str, Any], files: list[Path], step_ms: int) -> Iterator[Check]:
    head = Head("gpumon", "n:9519")
    for series in test["input_series"]:
        labels = series_labels(series["series"])
        for i, value in enumerate(values_of(str(series["values"]))):
            if value is not None:
                head.append(labels, i * _ms(test["interval"]), value)
    engine = Engine(load_rules(files), default_interval_ms=step_ms)
    checks = [
        (_ms(one["eval_time"]), one) for kind in ("promql_expr_test", "alert_rule_test") for one in test.get(kind, [])
    ]
    for now_ms in range(0, max(at for at, _ in checks) + 1, step_ms):
        engine.step(now_ms, head)
        for at_ms, one in checks:
            if at_ms == now_ms:
                yield (
                    _expression(test["name"], one, head, now_ms)
                    if "expr" in one
                    else _alerts(test["name"], one, engine)
                )
    failing = [(one.rule.name, one.last_error) for group in engine.groups_status() for one in group.rules]
    yield Check(
        test["name"], "rules that fail", [], [error for error in failing if error[1]] if engine.failures else []
    )


def _expression(name: str, one: dict[str, Any], head: Head, now_ms: int) -> Check:
    found = sorted(vector(plan(one["expr"]), head, now_ms))
    expected = sorted((series_labels(each["labels"]), float(each["value"])) for each in one["exp_samples"])
    return Check(name, f"{one['expr']} at {one['eval_time']}", expected, found)


def _alerts(name: str, one: dict[str, Any], engine: Engine) -> Check:
    expected = [
        (labels_of({"alertname": one["alertname"], **each.get("exp_labels", {})}), each.get("exp_annotations", {}))
        for each in one.get("exp_alerts", [])
    ]
    found = [
        (alert.labels, dict(alert.annotations))
        for alert in engine.alerts()
        if alert.state == "firing" and label(alert.labels, "alertname") == one["alertname"]
    ]
    return Check(name, f"{one['alertname']} at {one['eval_time']}", expected, found)


def series_labels(text: str) -> Labels:
    """The labels of ``name{label="value"}``."""
    if text == "{}":
        return ()
    return labels_of({matcher.name: matcher.value for matcher in parse_selector(text)})


def values_of(text: str) -> Iterator[float | None]:
    """promtool's notation: ``1x3`` is four times 1, ``0+5x2`` is 0 5 10, ``_`` is no sample, ``_x3`` three of them."""
    for word in text.split():
        if word.startswith("_"):
            yield from [None] * int(word[2:] or 1)
            continue
        if word == "stale":
            yield STALE
            continue
        match = _RUN.fullmatch(word)
        assert match is not None, word
        for i in range(int(match["count"] or 0) + 1):
            yield float(match["first"]) + i * float(match["step"] or 0)


def _ms(text: str) -> int:
    found = parse_duration_ms(str(text))
    assert found is not None, text
    return found


__all__ = ["Check", "run", "series_labels", "values_of"]
