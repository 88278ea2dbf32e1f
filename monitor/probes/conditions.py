"""``--fail-if``: conditions on a comparison, as ``ttft_p99 > +10%``.

    ttft_p99 > +10%                     the figure rose by more than a tenth
    output_throughput < -5%             it fell by more than a twentieth
    ttft_p99 > +20ms                    it rose by more than 20 ms
    ttft_p99 > 500ms                    after, it is more than that, whatever it was before
    ttft_p99@concurrency 8 > +10%       in that step; ``@*``: in any step; without ``@`` of the whole run

A sign makes it a change. The change itself counts, as measured: a run in CI is to say the same of the same numbers.
``significant`` takes only changes that are more than noise; one that has no interval then counts still, since nothing
shows that it is noise.
"""

from __future__ import annotations

import difflib
import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from monitor.probes.errors import ProbeError
from monitor.probes.figures import FIGURES
from monitor.probes.schema import Change, Comparison

_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}
_UNITS: dict[str, dict[str, float]] = {
    "ms": {"ms": 1, "s": 1000, "us": 0.001, "µs": 0.001},
    "B": {"B": 1, "KB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30},
    "tok/s": {"tok/s": 1},
    "req/s": {"req/s": 1},
    "J/tok": {"J/tok": 1, "J": 1},
    "tok/J": {"tok/J": 1},
}
_FIGURE = re.compile(r"\s*([A-Za-z][A-Za-z0-9_]*)")
_STEP = re.compile(r"\s*@\s*([^<>]*[^<>\s])")
_OPERATOR = re.compile(r"\s*([<>]=?)")
_NUMBER = re.compile(r"\s*([+-])?\s*(\d+(?:\.\d+)?(?:[eE][+-]?\d+)?|\.\d+)")
_UNIT = re.compile(r"\s*(\S*)\s*$")


class BadCondition(ProbeError):
    """A condition that says nothing, with the place."""


@dataclass(frozen=True, slots=True)
class Condition:
    """``ttft_p99@concurrency 8 > +10%``. ``limit`` is a share where ``relative``, else in the figure's unit."""

    text: str
    figure: str
    step: str
    """"" for the whole run, ``*`` for each step."""
    sign: str
    limit: float
    is_change: bool
    relative: bool

    def holds(self, value: float) -> bool:
        """Whether it is so."""
        return _OPERATORS[self.sign](value, self.limit)


def parse(text: str, known: Sequence[str] = ()) -> Condition:
    """A condition of words. ``known``: figures there are beside those that every step has. Raises ``BadCondition``."""

    def bad(at: int, words: str) -> BadCondition:
        return BadCondition(f"--fail-if {text!r}, column {at + 1}: {words}")

    def skip(at: int) -> int:
        return at + len(text[at:]) - len(text[at:].lstrip())

    figure = _FIGURE.match(text)
    if figure is None:
        raise bad(skip(0), "it begins with a figure, as in 'ttft_p99 > +10%'")
    name = figure[1]
    names = {*FIGURES, *known}
    if name not in names and name.removesuffix("_ms") in names:
        name = name.removesuffix("_ms")
    if name not in names:
        near = difflib.get_close_matches(name, sorted(names), 3, 0.5)
        hint = f"; did you mean {' or '.join(near)}?" if near else f"; there are {', '.join(sorted(names))}"
        raise bad(figure.start(1), f"there is no figure {name!r}{hint}")
    at = figure.end()
    step = _STEP.match(text, at)
    at = step.end() if step else at
    sign = _OPERATOR.match(text, at)
    if sign is None:
        raise bad(skip(at), "here is to be > or < (or >=, <=)")
    at = sign.end()
    number = _NUMBER.match(text, at)
    if number is None:
        raise bad(skip(at), "here is to be a number: +10%, -5%, +20ms, or 500ms for a limit that is no change")
    limit = float(number[2]) * (-1 if number[1] == "-" else 1)
    at = number.end()
    unit = _UNIT.match(text, at)
    word = unit[1] if unit else ""
    own = FIGURES[name].unit if name in FIGURES else ("ms" if name.endswith("_ms") else "")
    if unit is None:
        raise bad(skip(at), "nothing may follow the unit")
    if word == "%":
        if not number[1] and name != "failed_share":
            raise bad(
                number.start(2), f"is it a change? Then say +{number[2]}% or -{number[2]}%; {name} itself has no %"
            )
        limit /= 100
    elif word:
        factors = _UNITS.get(own, {})
        if word not in factors:
            units = ", ".join((*factors, "%")) if factors else "%, or none"
            raise bad(unit.start(1), f"{name} has no unit {word!r}: it has {units}")
        limit *= factors[word]
    is_change = number[1] is not None
    relative = is_change and word == "%"
    return Condition(text, name, step[1] if step else "", sign[1], limit, is_change, relative)


def violations(comparison: Comparison, conditions: Sequence[str], *, significant: bool = False) -> list[str]:
    """A sentence for each condition that holds, and for each that cannot be told: a figure that was not measured, a
    step that is not there. [] when all is well. Raises ``BadCondition``, of the first one that says nothing."""
    known = sorted({change.figure for change in comparison.changes})
    return [
        words
        for condition in [parse(text, known) for text in conditions]
        for words in _of(comparison, condition, significant)
    ]


def _of(comparison: Comparison, condition: Condition, significant: bool) -> list[str]:
    rows = [change for change in comparison.changes if change.figure == condition.figure]
    if condition.step == "*":
        rows = [change for change in rows if change.step]
    else:
        rows = [change for change in rows if condition.step in (change.step, f"{change.workload}/{change.step}")]
    if not rows:
        where = f" in {condition.step!r}" if condition.step not in ("", "*") else ""
        return [f"{condition.text}: {condition.figure} was not measured{where}, so it cannot be told"]
    return [words for change in rows if (words := _one(change, condition, significant))]


def _one(change: Change, condition: Condition, significant: bool) -> str:
    where = f" in {change.step}" if change.step else ""
    before, after = change.before, change.after
    if after is None:
        return f"{condition.text}: {change.figure} was not measured after{where}, so it cannot be told"
    if not condition.is_change:
        said = f"it is {_shown(after, change.unit)}"
        return f"{condition.text}: {said}{where}" if condition.holds(after) else ""
    if before is None:
        return f"{condition.text}: {change.figure} was not measured before{where}, so it cannot be told"
    if condition.relative and change.change is None:
        if after == before:
            return ""
        return f"{condition.text}: {change.figure} was 0 before{where}, and {_shown(after, change.unit)} after"
    value = change.change if condition.relative else after - before
    if value is None or not condition.holds(value):
        return ""
    if significant and change.verdict == "noise":
        return ""
    share = f"{change.change:+.1%}" if change.change is not None else ""
    interval = ""
    if change.low is not None and change.high is not None:
        interval = f", with 95 % between {change.low:+.1%} and {change.high:+.1%}"
    elif significant:
        interval = ", which has no interval to tell it from noise by"
    shown = f"{_shown(before, change.unit)} before, {_shown(after, change.unit)} after"
    return f"{condition.text}: {share or shown}{f' ({shown})' if share else ''}{interval}{where}"


def _shown(value: float, unit: str) -> str:
    return f"{value:,.4g} {unit}".strip() if abs(value) < 1e5 else f"{value:,.0f} {unit}".strip()
