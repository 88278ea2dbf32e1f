"""Runs promtool's unit tests for rules through our own engine, step by step as promtool does.

``run_file`` gives what each expectation came to. Nothing is printed here, and no clock is read but for the time that a
test took.
"""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from monitor.go_regex import to_python
from monitor.promql.errors import PromQLError
from monitor.promql.evaluate import instant
from monitor.promql.plan import plan
from monitor.records import replace
from monitor.rules.engine import Engine
from monitor.rules.go_format import format_float, quote
from monitor.rules.go_time import Duration
from monitor.rules.rule_file import RuleSet, load_rules
from monitor.rules.unit_test_files import AlertTest, Case, ExprTest, InputSeries, UnitTestFile, read_file
from monitor.rules.unit_test_globs import PatternError, matching
from monitor.rules.unit_test_report import (
    CaseReport,
    Failure,
    FileReport,
    Outcome,
    Sampled,
    Told,
    alerts_text,
    difference,
    labels_text,
    samples_text,
)
from monitor.rules.unit_test_series import NO_HISTOGRAMS, SeriesError, parse_metric, parse_series
from monitor.rules.unit_test_store import Memory, MemorySeries
from monitor.rules.unit_test_yaml import Place, UnitTestError
from monitor.samples import Labels, is_stale, label
from monitor.yaml_reader import ConfigError, format_duration

_DEFAULT_STEP_MS = 60_000


def _silent(_: str) -> None:
    return


@dataclass(frozen=True, slots=True)
class Options:
    """How to run."""

    selected: Callable[[str], bool] = lambda _: True
    """Whether the test with this name (empty where it has none) is run."""
    diff: bool = False
    """Tell alerts that differ as a coloured difference."""
    ignore_unknown_fields: bool = False
    """In rule files; test files are always read strictly, as by promtool."""
    debug: Callable[[str], None] | None = None
    """Takes a line about each test's beginning and end, and all of its samples."""
    warn: Callable[[str], None] = field(default=_silent)
    """Takes what is no failure, and hardly meant."""
    timer: Callable[[], float] = time.perf_counter


def run_file(path: str, options: Options | None = None) -> FileReport:
    """Run the tests of a file. What is wrong with the file itself is told in the report, too."""
    options = options or Options()
    report = FileReport(path)
    try:
        file = read_file(path)
        rule_files = _rule_files(file, options.warn)
        order = _order(file)
    except UnitTestError as error:
        report.error = Failure(error.message, error.places)
        return report
    report.started = datetime.now().isoformat(timespec="seconds")
    rules = _Rules(rule_files, file.evaluation_interval_ms, order, options)
    for i, case in enumerate(file.cases):
        if options.selected(case.name):
            report.cases.append(_run_case(case, case.name or f"unnamed#{i}", file, rules, options))
    return report


def _rule_files(file: UnitTestFile, warn: Callable[[str], None]) -> list[str]:
    """The files that ``rule_files`` names, each once, in order."""
    folder = os.path.dirname(file.path)
    found: list[str] = []
    for written, place in file.rule_files:
        pattern = os.path.normpath(os.path.join(folder, written)) if written and written[0] != "/" else written
        try:
            names = matching(pattern)
        except PatternError as error:
            raise UnitTestError(str(error), place) from error
        if not names:
            warn(f"  WARNING: no file match pattern {pattern}\n        at: {file.path}:{place[0]}:{place[1]}")
        found += names
    return list(dict.fromkeys(found))


def _order(file: UnitTestFile) -> dict[str, int]:
    order: dict[str, int] = {}
    for i, (name, place) in enumerate(file.group_eval_order):
        if name in order:
            raise UnitTestError(f"group name repeated in evaluation order: {name}", place)
        order[name] = i
    return order


class _Rules:
    """The rules of a file, read when the first test wants them: evaluated at every step, in the given order."""

    def __init__(self, files: Sequence[str], step_ms: int, order: Mapping[str, int], options: Options) -> None:
        self.files, self.step_ms, self.order, self.options = files, step_ms, order, options
        self.read: RuleSet | ConfigError | None = None

    def get(self) -> RuleSet:
        """Raises ``ConfigError``."""
        if self.read is None:
            try:
                self.read = self.load()
            except ConfigError as error:
                self.read = error
        if isinstance(self.read, ConfigError):
            raise self.read
        return self.read

    def load(self) -> RuleSet:
        groups = []
        lenient = self.options.ignore_unknown_fields
        read = (load_rules([file], ignore_unknown_fields=lenient) for file in self.files)
        for group in (group for rule_set in read for group in rule_set.groups):
            rules = group.rules
            if self.step_ms != _DEFAULT_STEP_MS:  # it is the step of subqueries that say none, too
                rules = tuple(replace(rule, plan=plan(rule.expr, subquery_step_ms=self.step_ms)) for rule in rules)
            groups.append(replace(group, rules=rules, interval_ms=None))
        # Groups that are not named come first, as in promtool; among themselves they keep the order of the files.
        return RuleSet(tuple(sorted(groups, key=lambda group: self.order.get(group.name, 0))))


def _run_case(case: Case, name: str, file: UnitTestFile, rules: _Rules, options: Options) -> CaseReport:
    started = options.timer()
    if options.debug is not None:
        options.debug(f"DEBUG: Starting test {name}")
    run = _CaseRun(case, name, file, options)
    try:
        run.play(rules)
    except ConfigError as error:
        run.report.failures += [Failure(str(problem)) for problem in error.problems]
    except UnitTestError as error:
        run.report.failures.append(Failure(error.message, error.places))
    if options.debug is not None:
        options.debug(f"DEBUG: Test {name} finished, took {Duration(int((options.timer() - started) * 1e9))}")
    return run.report


class _CaseRun:
    """One test on its way. ``play`` does all of it."""

    def __init__(self, case: Case, name: str, file: UnitTestFile, options: Options) -> None:
        self.case = case
        self.file = file
        self.options = options
        self.report = CaseReport(name)
        self.store = Memory()

    def play(self, rules: _Rules) -> None:
        """Raises ``ConfigError`` for rules and ``UnitTestError`` for series that cannot be read."""
        case, step_ms = self.case, self.file.evaluation_interval_ms
        feeds = self.feeds()
        engine = Engine(
            rules.get(),
            default_interval_ms=step_ms,
            external_labels=case.external_labels,
            external_url=case.external_url,
            timer=lambda: 0.0,
        )
        for test in case.alerts:
            if not test.alertname:
                raise UnitTestError(
                    "an item under alert_rule_test misses required attribute alertname at eval_time "
                    f"{format_duration(test.eval_time_ms)}" + (f" (in TestGroup {case.name})" if case.name else ""),
                    test.place,
                )
        # An alert is looked for at the last evaluation that is not after its time.
        due = sorted(case.alerts, key=lambda test: test.eval_time_ms)
        for since_ms in range(0, case.last_ms + 1, step_ms):
            for feed in feeds:
                feed.until(case.start_ms + since_ms, self.store)
            engine.step(case.start_ms + since_ms, self.store)
            if self.rules_failed(engine, case.start_ms + since_ms):
                return
            while due and due[0].eval_time_ms < since_ms + step_ms:
                self.alerts(due.pop(0), engine)
        for expression in case.expressions:
            self.expression(expression)
        if self.options.debug is not None:
            self.dump(self.options.debug)

    # -- series ------------------------------------------------------------------------------------------------------

    def feeds(self) -> list[_Feed]:
        """The input series. As in promtool, one that is given twice counts as it is last given."""
        feeds: dict[Labels, _Feed] = {}
        line = 1
        for number, given in enumerate(self.case.input_series):
            for written in f"{given.series} {given.values}".split("\n"):
                line += 1
                text = written.strip()
                if not text or text.startswith("#"):
                    self.left_out(self.case.input_series[number + 1 :])
                    return list(feeds.values())
                labels, values = self.read(text, line, given)
                feeds[labels] = _Feed(labels, values, self.case.start_ms, self.case.interval_ms)
        return list(feeds.values())

    def read(self, text: str, line: int, given: InputSeries) -> tuple[Labels, list[float | None]]:
        try:
            labels, values = parse_series(text, line=line)
        except SeriesError as error:
            inside = error.position < len(given.series.strip())
            raise UnitTestError(str(error), given.place if inside else given.values_place) from error
        names = [name for name, _ in labels]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise UnitTestError(f"label name {quote(twice)} is not unique: invalid sample", given.place)
        labels = tuple(pair for pair in labels if pair[1])
        if not labels:
            raise UnitTestError("empty labelset: invalid sample", given.place)
        return labels, values

    def left_out(self, rest: Sequence[InputSeries]) -> None:
        """promtool reads no further than an empty line, without a word."""
        if rest:
            line, column = rest[0].place
            self.options.warn(
                "  WARNING: the series from here on are left out, as an empty line (or a # that begins one) ends the "
                f"series: write the values above on one line, without |\n        at: {self.file.path}:{line}:{column}"
            )

    # -- what is found -----------------------------------------------------------------------------------------------

    def rules_failed(self, engine: Engine, now_ms: int) -> bool:
        """Note the rules that failed. Then the test ends."""
        refused = self.store.refused
        if not engine.failures and not refused:
            return False
        failures = []
        for group in engine.groups_status():
            for status in group.rules:
                error = status.last_error or refused.pop(status.rule.name, "")
                if error:
                    text = f"    rule: {status.rule.name}, time: {Duration(now_ms * 1_000_000)}, err: {error}"
                    failures.append(Failure(text, (self.case.place,)))
        self.report.failures += failures
        return bool(failures)

    def alerts(self, test: AlertTest, engine: Engine) -> None:
        found = sorted(
            (alert.labels, tuple(sorted(alert.annotations.items())))
            for alert in engine.alerts()
            if alert.state == "firing" and label(alert.labels, "alertname") == test.alertname
        )
        expected = sorted(
            (
                tuple(sorted({**each.labels, "alertname": test.alertname}.items())),
                tuple(sorted(each.annotations.items())),
            )
            for each in test.expected
        )
        failure = None if expected == found else Failure(self.alerts_differ(test, expected, found), (test.place,))
        self.note(Outcome(self.report.name, test.alertname, test.eval_time_ms, expected, found, failure))

    def alerts_differ(self, test: AlertTest, expected: Sequence[Told], found: Sequence[Told]) -> str:
        name = f"    name: {self.case.name},\n" if self.case.name else ""
        head = f"{name}    alertname: {test.alertname}, time: {format_duration(test.eval_time_ms)}, \n"
        if self.options.diff:
            return f"{head}        diff: {difference(expected, found)}"
        return f"{head}        exp:{alerts_text(expected)}, \n        got:{alerts_text(found)}"

    def expression(self, test: ExprTest) -> None:
        head = f"    expr: {quote(test.expr)}, time: {format_duration(test.eval_time_ms)},"
        expected: list[Sampled] = []
        found: list[Sampled] = []
        place: Place = test.place
        try:
            found = sorted(self.query(test.expr, self.case.start_ms + test.eval_time_ms), key=lambda one: one[0])
            for each in test.expected:
                place = each.place
                try:
                    labels = parse_metric(each.labels)
                except SeriesError as error:
                    raise PromQLError(f"labels {quote(each.labels)}: {error}", kind="execution") from error
                if each.histogram:
                    raise PromQLError(f"labels {quote(each.labels)}: {NO_HISTOGRAMS}", kind="execution")
                expected.append((labels, each.value))
            expected.sort(key=lambda one: one[0])
            failure = None
            if not self.equal(expected, found):
                text = f"{head}\n        exp: {samples_text(expected)}\n        got: {samples_text(found)}"
                failure = Failure(text, (test.place,))
        except PromQLError as error:
            failure = Failure(f"{head} err: {error}", (place,))
        self.note(Outcome(self.report.name, test.expr, test.eval_time_ms, expected, found, failure))

    def query(self, expr: str, at_ms: int) -> list[Sampled]:
        result = instant(plan(expr, subquery_step_ms=self.file.evaluation_interval_ms), self.store, at_ms)
        if result.type == "vector":
            return result.vector
        if result.type == "scalar":
            return [((), result.scalar)]
        raise PromQLError("rule result is not a vector or scalar", kind="execution")

    def equal(self, expected: Sequence[Sampled], found: Sequence[Sampled]) -> bool:
        return [labels for labels, _ in expected] == [labels for labels, _ in found] and all(
            x == y or (self.file.fuzzy_compare and y in (math.nextafter(x, -math.inf), math.nextafter(x, math.inf)))
            for (_, x), (_, y) in zip(expected, found, strict=True)
        )

    def note(self, outcome: Outcome) -> None:
        self.report.outcomes.append(outcome)
        if outcome.failure is not None:
            self.report.failures.append(outcome.failure)

    def dump(self, debug: Callable[[str], None]) -> None:
        """All samples, of the input and of the rules."""
        span_ms = (self.case.last_ms + 1000) // 1000 * 1000
        debug(f"DEBUG: Dump of all data (input_series and rules) at {Duration(span_ms * 1_000_000)}:")
        lines = []
        for series in sorted(self.store.every(), key=lambda one: one.labels):
            times, values = series.window(self.case.start_ms, self.case.start_ms + span_ms)
            points = [
                f"{format_float(value, 'f')} @[{at}]"
                for at, value in zip(times, values, strict=True)
                if not is_stale(value)
            ]
            if points:
                lines += [f"{labels_text(series.labels)} =>", *points]
        debug("\n".join(lines))


class _Feed:
    """The samples of an input series that are still to come."""

    def __init__(self, labels: Labels, values: Sequence[float | None], start_ms: int, interval_ms: int) -> None:
        self.labels, self.values = labels, values
        self.start_ms, self.interval_ms = start_ms, interval_ms
        self.next = 0
        self.series: MemorySeries | None = None

    def until(self, now_ms: int, store: Memory) -> None:
        """Add the samples up to a time."""
        last = min((now_ms - self.start_ms) // self.interval_ms + 1, len(self.values))
        while self.next < last:
            value = self.values[self.next]
            if value is not None:
                self.series = self.series or store.series(self.labels)
                self.series.push(self.start_ms + self.next * self.interval_ms, value)
            self.next += 1


def name_pattern(patterns: Sequence[str]) -> Callable[[str], bool]:
    """What ``--run`` selects: a test whose name one of the patterns is found in. Raises ``RegexError``."""
    if not patterns:
        return lambda _: True
    compiled = re.compile(to_python("|".join(patterns)))
    return lambda name: compiled.search(name) is not None


__all__ = ["Options", "name_pattern", "run_file"]
