"""What is told of unit tests of rules, as promtool writes it: labels, samples, alerts, differences, JUnit's XML."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from monitor.rules.go_format import format_float, quote
from monitor.rules.unit_test_yaml import Place
from monitor.samples import Labels

Told: TypeAlias = tuple[Labels, Labels]
"""Labels and annotations of an alert."""
Sampled: TypeAlias = tuple[Labels, float]

_PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ADDED, _REMOVED, _CHANGED, _NORMAL = "\x1b[0;32m", "\x1b[0;31m", "\x1b[0;33m", "\x1b[0m"


@dataclass(frozen=True, slots=True)
class Failure:
    """Something that is not as it should be: promtool's words, and the places in the test file that are meant."""

    message: str
    places: tuple[Place, ...] = ()

    def text(self, path: str) -> str:
        """The message with its places, each on a line of its own."""
        return "\n".join([self.message, *(f"        at: {path}:{line}:{column}" for line, column in self.places)])


@dataclass(frozen=True, slots=True)
class Outcome:
    """One expectation, with what was found."""

    case: str
    """The test's name, ``unnamed#<n>`` where it has none."""
    subject: str
    """The expression, or the alert's name."""
    at_ms: int
    expected: Sequence[Told] | Sequence[Sampled]
    found: Sequence[Told] | Sequence[Sampled]
    failure: Failure | None


@dataclass(slots=True)
class CaseReport:
    """How one test went."""

    name: str
    outcomes: list[Outcome] = field(default_factory=list)
    """Of alerts in the order of time, then of expressions in the order of the file; none after an error."""
    failures: list[Failure] = field(default_factory=list)
    """Those of the outcomes, and errors of rules and series among them."""


@dataclass(slots=True)
class FileReport:
    """How a test file went."""

    path: str
    cases: list[CaseReport] = field(default_factory=list)
    error: Failure | None = None
    """Why none of it was run."""
    started: str = ""
    """When, in local time, as ``2026-01-31T12:00:00``."""

    @property
    def failures(self) -> list[Failure]:
        """All that went wrong, in order; empty where all is well."""
        if self.error is not None:
            return [self.error]
        return [failure for case in self.cases for failure in case.failures]


def labels_text(labels: Labels) -> str:
    """``{a="1", b="2"}``; a name that is none in Prometheus 2 is in quotes."""
    return "{" + ", ".join(f"{_name(name)}={quote(value)}" for name, value in labels) + "}"


def _name(name: str) -> str:
    return name if _PLAIN_NAME.fullmatch(name) else quote(name)


def samples_text(samples: Sequence[Sampled]) -> str:
    """``{a="1"} 4E+00, {a="2"} 1.5E+01``, or ``nil``."""
    return ", ".join(f"{labels_text(labels)} {format_float(value, 'E')}" for labels, value in samples) or "nil"


def alerts_text(alerts: Sequence[Told]) -> str:
    """A numbered list over several lines, or ``[]``."""
    if not alerts:
        return "[]"
    margin = " " * 12
    items = [
        f"{margin}{i}:\n{margin}  Labels:{labels_text(labels)}\n{margin}  Annotations:{labels_text(annotations)}"
        for i, (labels, annotations) in enumerate(alerts)
    ]
    return "[\n" + ",\n".join(items) + f"\n{margin}]"


# -- the coloured difference -----------------------------------------------------------------------------------------


def difference(expected: Sequence[Told], found: Sequence[Told]) -> str:
    """What would have to change in the expected alerts, in a terminal's colours."""
    nothing: Told = ((), ())
    pairs: list[str] = []
    left, right = list(expected) or [nothing], list(found) or [nothing]
    for i in range(max(len(left), len(right))):
        if i >= len(right):
            pairs.append(_whole(left[i], _REMOVED))
        elif i >= len(left):
            pairs.append(_whole(right[i], _ADDED))
        else:
            pairs.append(_both(left[i], right[i]))
    text = "[\n" + ",\n".join(pairs) + "\n]"
    first, *rest = text.split("\n")
    return "\n".join([first, *(" " * 12 + line for line in rest)])


def _both(left: Told, right: Told) -> str:
    parts = []
    for title, before, after in (("Annotations", left[1], right[1]), ("Labels", left[0], right[0])):
        lines = [_pair(name, dict(before).get(name), dict(after).get(name)) for name in _names(before, after)]
        inside = "{\n" + ",\n".join(f"            {line}" for line in lines) + "\n        }" if lines else "{}"
        parts.append(f'        "{title}": {inside}')
    return "    {\n" + ",\n".join(parts) + "\n    }"


def _names(before: Labels, after: Labels) -> list[str]:
    return sorted({name for name, _ in before} | {name for name, _ in after})


def _pair(name: str, before: str | None, after: str | None) -> str:
    key = quote(name)
    if before is None and after is not None:
        return f"{_ADDED}{key}: {quote(after)}{_NORMAL}"
    if after is None and before is not None:
        return f"{_REMOVED}{key}: {quote(before)}{_NORMAL}"
    if before != after:
        return f"{key}: {_CHANGED}{quote(before or '')} => {quote(after or '')}{_NORMAL}"
    return f"{key}: {quote(before or '')}"


def _whole(alert: Told, colour: str) -> str:
    """An alert that only one side has: each line is coloured."""
    lines = ["    {"]
    for title, pairs, comma in (("Annotations", alert[1], ","), ("Labels", alert[0], "")):
        if not pairs:
            lines.append(f'        "{title}": {{}}{comma}')
            continue
        lines.append(f'        "{title}": {{')
        lines += [f"            {quote(name)}: {quote(value)}," for name, value in pairs]
        lines[-1] = lines[-1][:-1]
        lines.append(f"        }}{comma}")
    lines.append("    }")
    return "\n".join(_coloured(line, colour) for line in lines)


def _coloured(line: str, colour: str) -> str:
    text = line.lstrip()
    return f"{line[: len(line) - len(text)]}{colour}{text}{_NORMAL}"


# -- JUnit -----------------------------------------------------------------------------------------------------------

_XML = {'"': "&#34;", "'": "&#39;", "&": "&amp;", "<": "&lt;", ">": "&gt;", "\t": "&#x9;", "\n": "&#xA;", "\r": "&#xD;"}


def junit(reports: Iterable[FileReport]) -> str:
    """The reports as JUnit's XML."""
    return "<testsuites>" + "".join(_suite(report) for report in reports) + "</testsuites>"


def _suite(report: FileReport) -> str:
    cases = [_case(case.name, "failure", [one.text(report.path) for one in case.failures]) for case in report.cases]
    if report.error is not None:
        cases = [_case("unknown", "error", [report.error.text(report.path)])]
    attributes: Mapping[str, object] = {
        "name": report.path,
        "tests": len(cases),
        "failures": 0 if report.error else len(report.failures),
        "errors": 1 if report.error else 0,
        "skipped": 0,
        "timestamp": report.started,
    }
    shown = "".join(f' {name}="{_escape(str(value))}"' for name, value in attributes.items())
    return f"<testsuite{shown}>{''.join(cases)}</testsuite>"


def _case(name: str, element: str, texts: Sequence[str]) -> str:
    inside = "".join(f"<{element}>{_escape(text)}</{element}>" for text in texts)
    return f'<testcase name="{_escape(name)}">{inside}</testcase>'


def _escape(text: str) -> str:
    return "".join(_escaped(text))


def _escaped(text: str) -> Iterator[str]:
    for char in text:
        code = ord(char)
        legal = code in (0x9, 0xA, 0xD) or 0x20 <= code <= 0xD7FF or 0xE000 <= code <= 0xFFFD or code >= 0x10000
        yield _XML.get(char, char) if legal else "\N{REPLACEMENT CHARACTER}"


__all__ = [
    "CaseReport",
    "Failure",
    "FileReport",
    "Outcome",
    "Sampled",
    "Told",
    "alerts_text",
    "difference",
    "junit",
    "labels_text",
    "samples_text",
]
