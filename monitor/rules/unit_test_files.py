"""promtool's unit-test files for rules, into typed values."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TypeVar

import yaml

from monitor.rules.durations import duration_problem
from monitor.rules.unit_test_yaml import Decoder, Place, UnitTestError, load, place_of
from monitor.yaml_reader import parse_duration_ms

_T = TypeVar("_T")
_DEFAULT_INTERVAL_MS = 60_000
_MAX_BYTES = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class InputSeries:
    """A series that a test is given, as it is written."""

    series: str = ""
    values: str = ""
    place: Place = (1, 1)
    values_place: Place = (1, 1)


@dataclass(frozen=True, slots=True)
class ExpectedAlert:
    """An alert that is to fire."""

    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    place: Place = (1, 1)


@dataclass(frozen=True, slots=True)
class AlertTest:
    """``alert_rule_test``: what fires under a name at a time."""

    alertname: str
    eval_time_ms: int
    expected: tuple[ExpectedAlert, ...]
    place: Place


@dataclass(frozen=True, slots=True)
class ExpectedSample:
    """A sample that an expression is to give; ``labels`` as they are written."""

    labels: str = ""
    value: float = 0.0
    histogram: str = ""
    place: Place = (1, 1)


@dataclass(frozen=True, slots=True)
class ExprTest:
    """``promql_expr_test``: what an expression gives at a time."""

    expr: str
    eval_time_ms: int
    expected: tuple[ExpectedSample, ...]
    place: Place


@dataclass(frozen=True, slots=True)
class Case:
    """One item of ``tests``: series, and what is expected of the rules over them."""

    name: str
    interval_ms: int
    input_series: tuple[InputSeries, ...]
    alerts: tuple[AlertTest, ...]
    expressions: tuple[ExprTest, ...]
    external_labels: Mapping[str, str]
    external_url: str
    start_ms: int
    place: Place

    @property
    def last_ms(self) -> int:
        """The latest time, from the start, that something is expected at."""
        times = [one.eval_time_ms for one in self.alerts] + [one.eval_time_ms for one in self.expressions]
        return max(times, default=0)


@dataclass(frozen=True, slots=True)
class UnitTestFile:
    """A whole file. ``rule_files`` are as written, each with its place."""

    path: str
    rule_files: tuple[tuple[str, Place], ...]
    evaluation_interval_ms: int
    group_eval_order: tuple[tuple[str, Place], ...]
    fuzzy_compare: bool
    cases: tuple[Case, ...]


def read_file(path: str) -> UnitTestFile:
    """Read a test file. Raises ``UnitTestError``."""
    try:
        with open(path, "rb") as file:
            raw = file.read(_MAX_BYTES + 1)
    except OSError as error:
        what = (error.strerror or str(error)).lower()
        raise UnitTestError(f"{'read' if os.path.isdir(path) else 'open'} {path}: {what}") from error
    if len(raw) > _MAX_BYTES:
        raise UnitTestError(f"{path} has more than {_MAX_BYTES} bytes: that is refused")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = raw[: error.start]
        place = before.count(b"\n") + 1, error.start - (before.rfind(b"\n") + 1) + 1
        raise UnitTestError("yaml: invalid leading UTF-8 octet", place) from error
    return read_text(text, path)


def read_text(text: str, path: str) -> UnitTestFile:
    """Read a test file's text; ``path`` is what it is called. Raises ``UnitTestError``."""
    reader = _Reader()
    root = load(text)
    file = reader.file(root, path)
    reader.decoder.raise_if_any()
    return file


class _Reader:
    def __init__(self) -> None:
        self.decoder = Decoder()

    def struct(self, node: yaml.Node, go_type: str, readers: Mapping[str, Callable[[yaml.Node], object]]) -> _Fields:
        """The values of a mapping's fields, each read by its reader."""
        found = _Fields()

        def keep(name: str) -> Callable[[yaml.Node], None]:
            def read(value: yaml.Node) -> None:
                found.values[name] = readers[name](value)
                found.places[name] = place_of(value)

            return read

        self.decoder.struct(node, go_type, {name: keep(name) for name in readers})
        return found

    def list_of(self, go_type: str, read: Callable[[yaml.Node], _T]) -> Callable[[yaml.Node], tuple[_T, ...]]:
        return lambda node: tuple(self.decoder.items(node, go_type, read))

    def named(self, node: yaml.Node) -> tuple[str, Place]:
        return self.decoder.text(node), place_of(node)

    def duration_ms(self, node: yaml.Node) -> int:
        known = len(self.decoder.problems)
        text = self.decoder.text(node)
        if len(self.decoder.problems) > known or (not text and isinstance(node, yaml.ScalarNode) and not node.style):
            return 0
        problem = duration_problem(text)
        if problem is not None:
            raise UnitTestError(problem, place_of(node))
        return parse_duration_ms(text) or 0

    def moment_ms(self, node: yaml.Node) -> int:
        """``start_timestamp``: seconds since the epoch or RFC 3339. Prometheus knows it from 3.9 on."""
        text = self.decoder.text(node)
        try:
            return round(float(text) * 1000)
        except (ValueError, OverflowError):
            pass
        try:
            moment = datetime.fromisoformat(text)
            if "T" in text.upper() and moment.tzinfo is not None:
                return round((moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1000)
        except ValueError:
            pass
        raise UnitTestError(f'cannot parse "{text}" to a valid timestamp', place_of(node))

    def file(self, root: yaml.Node | None, path: str) -> UnitTestFile:
        fields = _Fields()
        if root is not None:
            fields = self.struct(
                root,
                "main.unitTestFile",
                {
                    "rule_files": self.list_of("string", self.named),
                    "evaluation_interval": self.duration_ms,
                    "group_eval_order": self.list_of("string", self.named),
                    "tests": self.list_of("main.testGroup", self.case),
                    "fuzzy_compare": self.decoder.boolean,
                },
            )
        interval_ms = fields.get("evaluation_interval", 0) or _DEFAULT_INTERVAL_MS
        cases: tuple[_Case, ...] = fields.get("tests", ())
        return UnitTestFile(
            path=path,
            rule_files=fields.get("rule_files", ()),
            evaluation_interval_ms=interval_ms,
            group_eval_order=fields.get("group_eval_order", ()),
            fuzzy_compare=fields.get("fuzzy_compare", False),
            cases=tuple(make(interval_ms) for make in cases),
        )

    def case(self, node: yaml.Node) -> _Case:
        fields = self.struct(
            node,
            "main.testGroup",
            {
                "interval": self.duration_ms,
                "input_series": self.list_of("main.series", self.input_series),
                "alert_rule_test": self.list_of("main.alertTestCase", self.alert_test),
                "promql_expr_test": self.list_of("main.promqlTestCase", self.expr_test),
                "external_labels": self.decoder.mapping,
                "external_url": self.decoder.text,
                "name": self.decoder.text,
                "start_timestamp": self.moment_ms,
            },
        )
        return lambda interval_ms: Case(
            name=fields.get("name", ""),
            interval_ms=fields.get("interval", 0) or interval_ms,
            input_series=fields.get("input_series", ()),
            alerts=fields.get("alert_rule_test", ()),
            expressions=fields.get("promql_expr_test", ()),
            external_labels=fields.get("external_labels", {}),
            external_url=fields.get("external_url", ""),
            start_ms=fields.get("start_timestamp", 0),
            place=place_of(node),
        )

    def input_series(self, node: yaml.Node) -> InputSeries:
        fields = self.struct(node, "main.series", {"series": self.decoder.text, "values": self.decoder.text})
        place = fields.places.get("series", place_of(node))
        return InputSeries(
            fields.get("series", ""), fields.get("values", ""), place, fields.places.get("values", place)
        )

    def alert_test(self, node: yaml.Node) -> AlertTest:
        fields = self.struct(
            node,
            "main.alertTestCase",
            {
                "eval_time": self.duration_ms,
                "alertname": self.decoder.text,
                "exp_alerts": self.list_of("main.alert", self.expected_alert),
            },
        )
        return AlertTest(
            fields.get("alertname", ""), fields.get("eval_time", 0), fields.get("exp_alerts", ()), place_of(node)
        )

    def expected_alert(self, node: yaml.Node) -> ExpectedAlert:
        fields = self.struct(
            node, "main.alert", {"exp_labels": self.decoder.mapping, "exp_annotations": self.decoder.mapping}
        )
        return ExpectedAlert(fields.get("exp_labels", {}), fields.get("exp_annotations", {}), place_of(node))

    def expr_test(self, node: yaml.Node) -> ExprTest:
        fields = self.struct(
            node,
            "main.promqlTestCase",
            {
                "expr": self.decoder.text,
                "eval_time": self.duration_ms,
                "exp_samples": self.list_of("main.sample", self.expected_sample),
            },
        )
        return ExprTest(
            fields.get("expr", ""), fields.get("eval_time", 0), fields.get("exp_samples", ()), place_of(node)
        )

    def expected_sample(self, node: yaml.Node) -> ExpectedSample:
        fields = self.struct(
            node,
            "main.sample",
            {"labels": self.decoder.text, "value": self.decoder.number, "histogram": self.decoder.text},
        )
        return ExpectedSample(
            fields.get("labels", ""), fields.get("value", 0.0), fields.get("histogram", ""), place_of(node)
        )


_Case = Callable[[int], Case]
"""A case that still wants the file's ``evaluation_interval``, which may stand behind it."""


class _Fields:
    def __init__(self) -> None:
        self.values: dict[str, object] = {}
        self.places: dict[str, Place] = {}

    def get(self, name: str, default: _T) -> _T:
        """A field's value, which is of the type of ``default``."""
        return self.values.get(name, default)  # type: ignore[return-value] # each field has one reader


__all__ = [
    "AlertTest",
    "Case",
    "ExpectedAlert",
    "ExpectedSample",
    "ExprTest",
    "InputSeries",
    "UnitTestError",
    "UnitTestFile",
    "read_file",
    "read_text",
]
