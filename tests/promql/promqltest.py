"""Runs Prometheus' own scripts of the language, ``promql/promqltest/testdata/*.test``, through our evaluation.

A script loads series, and says of expressions what they give, over an instant or a range. Whatever has native
histograms in it, or needs what Prometheus itself has behind a flag, is skipped, and the reason is counted.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from monitor.promql.errors import PromQLError
from monitor.promql.evaluate import Result, instant, range_query
from monitor.promql.literals import duration_seconds
from monitor.promql.parse import parse_selector
from monitor.promql.plan import Plan, plan
from monitor.samples import NAME, STALE, Labels, label, labels_of
from monitor.store.head import Head

EPSILON = 1e-6
"""How far apart two numbers are the same to Prometheus' own runner, relatively."""

Points = list["float | None"]
"""Values one step apart; None is a gap."""

_INSTANT = re.compile(r"eval(?:_(fail|warn|ordered|info))?\s+instant\s+at\s+(\S+)\s+(.+)")
_RANGE = re.compile(r"eval(?:_(fail|warn|info))?\s+range\s+from\s+(\S+)\s+to\s+(\S+)\s+step\s+(\S+)\s+(.+)")
_LOAD = re.compile(r"load(?:_(with_nhcb))?\s+(\S+)")
_EXPECT = re.compile(r"expect\s+(\w+)(?:\s+(?:regex|msg):(.+))?")
_SERIES = re.compile(r"""((?:[^\s{]+)?\s*(?:\{(?:[^"'`}]|"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|`[^`]*`)*\})?)\s+(.+)""")
_UNSIGNED = r"(?:\d+\.?\d*(?:e[+-]?\d+)?|\.\d+(?:e[+-]?\d+)?|Inf|NaN)"
_NUMBER = re.compile(rf"[+-]?{_UNSIGNED}", re.IGNORECASE)
_POINTS = re.compile(rf"(?:(_)|(stale)|([+-]?{_UNSIGNED})([+-]{_UNSIGNED})?)(?:x(\d+))?", re.IGNORECASE)

EXPERIMENTAL = re.compile(r"experimental in Prometheus")
NATIVE = re.compile(r"native histograms")


@dataclass
class Eval:
    """One expectation of a script."""

    line: int
    expr: str
    start_ms: int
    end_ms: int
    step_ms: int
    """0 for an instant."""
    fails: bool = False
    ordered: bool = False
    number: float | None = None
    """What a scalar gives."""
    series: list[tuple[Labels, Points]] = field(default_factory=list)
    is_native: bool = False
    """Whether a native histogram is expected."""


@dataclass
class Load:
    """Series that a script adds, ``native`` those that have native histograms among their samples."""

    step_ms: int
    series: list[tuple[Labels, Points]]
    native: list[Labels]


@dataclass
class Report:
    """What became of a script's expectations."""

    passed: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    failures: list[tuple[Eval, str]] = field(default_factory=list)


def run(text: str) -> Report:
    """Run a script."""
    report = Report()
    samples: dict[Labels, dict[int, float]] = {}
    native: set[Labels] = set()
    stores: tuple[Head, Head] | None = None
    for command in commands(text):
        if command is None:
            samples, native, stores = {}, set(), None
        elif isinstance(command, Load):
            stores = None
            native.update(command.native)
            for labels, points in command.series:
                kept = samples.setdefault(labels, {})
                kept.update({k * command.step_ms: v for k, v in enumerate(points) if v is not None})
        else:
            stores = stores or (_store(samples), _store({labels: {0: 1.0} for labels in native}))
            outcome = _judge(command, *stores)
            if outcome is None:
                report.passed += 1
            elif outcome in (_NATIVE, _EXPERIMENTAL):
                report.skipped[outcome] += 1
            else:
                report.failures.append((command, outcome))
    return report


_NATIVE = "native histograms"
_EXPERIMENTAL = "experimental in Prometheus"


def _store(samples: dict[Labels, dict[int, float]]) -> Head:
    head = Head("j", "i", retention_ms=2**52)
    for labels in sorted(samples):
        for at_ms, value in sorted(samples[labels].items()):
            head.append(labels, at_ms, value)
    return head


def _judge(command: Eval, store: Head, native: Head) -> str | None:
    """Why an expectation is not met, or None."""
    if command.is_native:
        return _NATIVE
    try:
        made = plan(command.expr)
    except PromQLError as error:
        if NATIVE.search(str(error)):
            return _NATIVE
        if EXPERIMENTAL.search(str(error)):
            return _EXPERIMENTAL
        return None if command.fails else f"refused: {error}"
    if any(native.select(matchers) for matchers in made.selectors):
        return _NATIVE
    try:
        problem = _compare_range(command, made, store) if command.step_ms else _compare_instant(command, made, store)
    except PromQLError as error:
        return None if command.fails else f"failed: {error}"
    return "expected to fail" if command.fails else problem


def _compare_instant(command: Eval, made: Plan, store: Head) -> str | None:
    at_ms = command.start_ms
    result = instant(made, store, at_ms)
    if command.number is not None:
        return None if _same(result.scalar, command.number) else f"{result.scalar} instead of {command.number}"
    if result.type not in ("vector", "scalar"):
        return f"a {result.type}"
    expected = [(labels, points[0]) for labels, points in command.series]
    if command.ordered and [labels for labels, _ in result.vector] != [labels for labels, _ in expected]:
        return f"order {result.vector}"
    problem = _compare({k: [v] for k, v in result.vector}, {k: [v] for k, v in expected})
    if problem is None and not command.ordered:
        problem = _compare_as_range(made, store, at_ms, result)
    return problem


def _compare_as_range(made: Plan, store: Head, at_ms: int, result: Result) -> str | None:
    """An instant query is what a range query gives at that step, unless the query's borders are in it."""
    if "start()" in made.text or "end()" in made.text:
        return None
    minute = 60_000
    try:
        found = range_query(made, store, at_ms - minute, at_ms + minute, minute)
    except PromQLError:
        return None  # another step of it may be an error
    here: dict[Labels, Points] = {labels: [dict(points)[at_ms]] for labels, points in found if at_ms in dict(points)}
    problem = _compare(here, {labels: [value] for labels, value in result.vector})
    return problem and f"as a range: {problem}"


def _compare_range(command: Eval, made: Plan, store: Head) -> str | None:
    steps = range(command.start_ms, command.end_ms + 1, command.step_ms)
    found = range_query(made, store, command.start_ms, command.end_ms, command.step_ms)
    if command.number is not None:
        return None if found and all(_same(v, command.number) for _, v in found[0][1]) else f"{found}"
    got: dict[Labels, Points] = {labels: [dict(points).get(t) for t in steps] for labels, points in found}
    wanted: dict[Labels, Points] = {
        labels: [*points, *[None] * (len(steps) - len(points))] for labels, points in command.series
    }
    return _compare(got, wanted)


def _compare(got: dict[Labels, Points], wanted: dict[Labels, Points]) -> str | None:
    if got.keys() != wanted.keys():
        return f"series {sorted(got)} instead of {sorted(wanted)}"
    for labels, points in wanted.items():
        if len(got[labels]) != len(points) or not all(map(_same, got[labels], points)):
            return f"{labels}: {got[labels]} instead of {points}"
    return None


def _same(a: float | None, b: float | None) -> bool:
    if a is None or b is None:
        return a is b
    if a == b or (a != a and b != b):
        return True
    if math.isinf(a) or math.isinf(b) or a != a or b != b:
        return False
    both = abs(a) + abs(b)
    if a == 0 or b == 0 or both < 2.2250738585072014e-308:
        return abs(a - b) < EPSILON * 2.2250738585072014e-308
    return abs(a - b) / min(both, 1.7976931348623157e308) < EPSILON


# -- reading -----------------------------------------------------------------------------------------------------------


def commands(text: str) -> Iterator[Load | Eval | None]:
    """The commands of a script in their order; None is ``clear``. Raises ``ValueError`` where it cannot be read."""
    lines = [line.strip() for line in text.split("\n")]
    lines = ["" if line.startswith("#") else line for line in lines]
    at = 0
    while at < len(lines):
        line, first = lines[at], at + 1
        at += 1
        if not line:
            continue
        body: list[str] = []
        if line != "clear":
            while at < len(lines) and lines[at]:
                body.append(lines[at])
                at += 1
        if line == "clear":
            yield None
        elif found := _LOAD.fullmatch(line):
            yield _load(_milliseconds(found[2]), body, with_native=bool(found[1]))
        elif found := _INSTANT.fullmatch(line):
            yield _eval(Eval(first, found[3], _milliseconds(found[2]), _milliseconds(found[2]), 0), found[1], body)
        elif found := _RANGE.fullmatch(line):
            start, end, step = map(_milliseconds, found.group(2, 3, 4))
            yield _eval(Eval(first, found[5], start, end, step), found[1], body)
        else:
            raise ValueError(f"line {first}: {line}")


def _load(step_ms: int, body: Sequence[str], *, with_native: bool) -> Load:
    load = Load(step_ms, [], [])
    for line in body:
        labels, written = _described(line)
        if "{{" in written:
            load.native.append(labels)
            written = re.sub(r"\{\{.*?\}\}(?:[+-]\{\{.*?\}\})?(?:x\d+)?", "_", written)
        else:
            load.series.append((labels, _points(written)))
        if with_native and (found := re.fullmatch(r"(.+)_(?:bucket|count|sum)", label(labels, NAME))):
            load.native.append(labels_of({**dict(labels), NAME: found[1], "le": ""}))
    return load


def _eval(made: Eval, mode: str | None, body: Sequence[str]) -> Eval:
    made.fails, made.ordered = mode == "fail", mode == "ordered"
    for line in body:
        if line.startswith("expected_fail_"):
            break
        if line.startswith("expect ") and (found := _EXPECT.fullmatch(line)):
            made.fails = made.fails or found[1] == "fail"
            made.ordered = made.ordered or found[1] == "ordered"
        elif (value := _number(line)) is not None:
            made.number = value
            break
        elif "{{" in line:
            made.is_native = True
        else:
            labels, written = _described(line)
            made.series.append((labels, _points(written)))
    return made


def _described(line: str) -> tuple[Labels, str]:
    """A series and what stands behind it."""
    found = _SERIES.fullmatch(line)
    if found is None:
        raise ValueError(f"not a series: {line}")
    name = found[1].strip()
    if re.sub(r"[\s{}]", "", name) == "":
        return (), found[2]
    inside = re.fullmatch(r"(?P<name>[^{\s]*)\s*\{(?P<pairs>.*)\}", name)
    # An empty label value is an absent label, but a selector needs one that is not.
    matchers = parse_selector(f"{inside['name']}{{{inside['pairs'].rstrip(' ,')}}}" if inside else name)
    return labels_of({matcher.name: matcher.value for matcher in matchers}), found[2]


def _points(written: str) -> Points:
    out: Points = []
    for word in written.split():
        found = _POINTS.fullmatch(word)
        if found is None:
            raise ValueError(f"not a value: {word}")
        gap, stale, first, step, times = found.groups()
        if gap:
            out += [None] * int(times or 1)
        elif stale:
            out += [STALE] * int(times or 1)
        else:
            value, more = float(_number(first) or 0.0), float(_number(step or "0") or 0.0)
            for _ in range(int(times or 0) + 1):
                out.append(value)
                value += more
    return out


def _number(text: str) -> float | None:
    return float(text) if _NUMBER.fullmatch(text) else None


def _milliseconds(text: str) -> int:
    if text.isdigit():
        return int(text) * 1000
    return round(duration_seconds(text, 0, text) * 1000)
