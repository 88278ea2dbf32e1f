"""Random series and random expressions over them, for tests that compare two ways of evaluating the same."""

from __future__ import annotations

import json
import math
import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

from monitor.promql.functions import SIMPLE
from monitor.promql.signatures import FUNCTIONS, Signature
from monitor.samples import STALE, Labels, escape, make_labels
from monitor.store.head import Head

STEP_MS = 15_000
COUNT = 81
"""Samples a series: twenty minutes."""


@dataclass(frozen=True)
class Made:
    """A series: ``values[k]`` is at ``k * STEP_MS``; None is a gap, STALE ends it for the time being."""

    labels: Labels
    values: tuple[float | None, ...]


def make_series(rng: random.Random) -> list[Made]:
    """Gauges ``x`` and ``y``, a counter, a classic histogram and an info metric, sorted by their labels."""
    names: list[tuple[Labels, tuple[float | None, ...]]] = []
    for name, a, b in product("xy", "12", ("p", "q", "")):
        if rng.random() < 0.85:
            names.append((make_labels(name, a=a, b=b), _holes(rng, _gauge(rng))))
    for a, instance in product("123", "mn"):
        names.append((make_labels("c_total", a=a, instance=instance), _holes(rng, _counter(rng))))
    for a in "12":
        counts = _histogram(rng)
        names += [(make_labels("h_bucket", a=a, le=le), _holes(rng, v, rate=0.02)) for le, v in counts.items()]
        names.append((make_labels("i_info", a=a, v=f"v{rng.randrange(3)}"), (1.0,) * COUNT))
        odd = rng.sample(_ODD_BOUNDS, rng.randrange(1, 7))
        names += [(make_labels("g_bucket", a=a, le=le), _holes(rng, _odd_counts(rng), rate=0.02)) for le in odd]
    for k in range(5):
        many = {f"l{i}": rng.choice("xyz") for i in range(9)} | {"a.b": str(k), "a": rng.choice("12"), "b": 'é"\\\n'}
        names.append((make_labels("w", many), _holes(rng, _gauge(rng))))
    return [Made(*pair) for pair in sorted(names, key=lambda pair: pair[0])]


def _gauge(rng: random.Random) -> list[float]:
    kind = rng.randrange(5)
    if kind == 0:
        return [float(rng.randrange(-5, 6)) for _ in range(COUNT)]
    if kind == 1:
        return [rng.uniform(-100, 100) for _ in range(COUNT)]
    if kind == 2:
        return [float(rng.randrange(3))] * COUNT
    if kind == 3:
        odd = (math.nan, math.inf, -math.inf, 0.0, -0.0, 1e300, -1e-300)
        return [rng.choice(odd) if rng.random() < 0.3 else float(rng.randrange(9)) for _ in range(COUNT)]
    return [round(70 + 10 * math.sin(k / 7) + rng.random(), 2) for k in range(COUNT)]


def _counter(rng: random.Random) -> list[float]:
    total, out = float(rng.randrange(100)), []
    for _ in range(COUNT):
        if rng.random() < 0.04:
            total = float(rng.randrange(3))
        total += rng.choice((0.0, 1.0, 5.0, rng.random() * 10))
        out.append(total)
    return out


def _histogram(rng: random.Random) -> dict[str, list[float]]:
    bounds = ["0.1", "0.5", "1", "2.5", "+Inf"]
    out: dict[str, list[float]] = {le: [] for le in bounds}
    totals = [0.0] * len(bounds)
    for _ in range(COUNT):
        for _ in range(rng.randrange(4)):
            at = rng.randrange(len(bounds))
            for i in range(at, len(bounds)):
                totals[i] += 1
        for i, le in enumerate(bounds):
            out[le].append(totals[i] - (0.5 if rng.random() < 0.02 else 0.0))
    return out


_ODD_BOUNDS = ("-1", "0", "0.5", "1", "1.0", "1e0", "2", "+Inf", "inf", "bad", "-Inf")
"""Of a histogram that no client would make: negative and double bounds, no ``+Inf``, counts that fall."""


def _odd_counts(rng: random.Random) -> list[float]:
    if rng.random() < 0.2:
        return [rng.choice((math.nan, math.inf, -1.0, 0.0, 1.0)) for _ in range(COUNT)]
    return [float(rng.randrange(20) * k) for k in range(COUNT)]


def _holes(rng: random.Random, values: list[float], rate: float = 0.06) -> tuple[float | None, ...]:
    out: list[float | None] = [None if rng.random() < rate else v for v in values]
    if rng.random() < 0.4:
        at = rng.randrange(len(out))
        out[at] = STALE
        if rng.random() < 0.5:
            out[at + 1 : at + 30] = [None] * len(out[at + 1 : at + 30])
    if rng.random() < 0.2:
        begin = rng.randrange(1, 40)
        out[:begin] = [None] * begin
    if out[0] is None:
        # Prometheus decides ties of topk in the order in which series were born: this one is born with the others.
        out[0] = STALE
    return tuple(out)


def store_of(series: list[Made]) -> Head:
    """A store that holds the series."""
    head = Head("j", "i")
    for one in series:
        for k, value in enumerate(one.values):
            if value is not None:
                head.append(one.labels, k * STEP_MS, value)
    return head


NAMES = ("x", "y", "x", "y", "c_total", "c_total", "h_bucket", "i_info", "w", "g_bucket")
_ELEMENTWISE = (*SIMPLE, "timestamp", "sort", "sort_desc")
_ARITHMETIC = ("+", "-", "*", "/", "%", "^", "atan2")
_COMPARISONS = ("==", "!=", ">", "<", ">=", "<=")
_QUANTILES = ("0", "0.5", "0.9", "0.99", "1", "-1", "2", "NaN", "-0.0", "Inf", "-Inf", "1e-9", "scalar(x)")
_DATES = tuple(name for name, takes in FUNCTIONS.items() if takes == Signature(("vector",), variadic=1))
_OVER_TIME = tuple(name for name, takes in FUNCTIONS.items() if takes == Signature(("matrix",)))
_LABELS = ("a", "b", "instance", "le", "v", "none", "__name__", '"a.b"', "l3")


def _capitals(found: re.Match[str]) -> str:
    return found[0].upper()


class Expressions:
    """Makes expressions of given types, no deeper than asked."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    def any(self, depth: int = 3) -> str:
        """An expression of the type instant vector or, seldom, scalar."""
        text = self.scalar(depth) if self._rng.random() < 0.05 else self.vector(depth)
        return self._written(text) if self._rng.random() < 0.1 else text

    def _written(self, text: str) -> str:
        """The same in other letters: keywords in capitals, comments, white space, other ways to write a number."""
        rng = self._rng
        ways: tuple[Callable[[str], str], ...] = (
            lambda t: re.sub(r"\b(by|without|on|ignoring|and|or|unless|bool|sum|topk|offset)\b(?![\"'])", _capitals, t),
            lambda t: t.replace(" ", " # a comment\n"),
            lambda t: t.replace(" ", "\t\r\n "),
            lambda t: t.replace("[5m", "[300").replace("[1m]", "[0x3c]").replace("offset 1m", "offset 6_0"),
            lambda t: t.replace('"1"', "'1'").replace('"x|y"', "`x|y`").replace('"p', r'"\x70'),
            lambda t: t.replace("[", " [ ").replace("]", " ] ").replace("{", " {").replace("(", "( "),
        )
        return rng.choice(ways)(text)

    def vector(self, depth: int) -> str:
        if depth <= 0:
            return self.selector()
        kinds: list[tuple[int, Callable[[int], str]]] = [
            (3, lambda d: self.selector()),
            (6, self._over_time),
            (5, self._aggregate),
            (6, self._binary),
            (3, self._with_number),
            (2, self._set),
            (3, self._elementwise),
            (2, self._histogram),
            (2, self._labels),
            (1, self._rare),
            (1, lambda d: f"-{self._operand(d)}"),
            (1, lambda d: f"({self.vector(d)})"),
        ]
        total = sum(weight for weight, _ in kinds)
        at = self._rng.randrange(total)
        for weight, make in kinds:
            if at < weight:
                return make(depth - 1)
            at -= weight
        raise AssertionError

    def selector(self) -> str:
        return f"{self._plain()}{self._when()}"

    def _plain(self, name: str | None = None) -> str:
        rng = self._rng
        name = name or rng.choice(NAMES)
        if rng.random() < 0.05:
            return rng.choice(('{__name__=~"x|y"}', '{__name__=~"x|c_total",a="1"}', '{a="1",b!=""}'))
        if rng.random() < 0.6:
            return name
        # Two matchers of one label are not made: what `absent` says of them depends on Prometheus' storage.
        of_a = rng.choice(('a="1"', 'a!="1"', 'a=~"1|2"', 'a!~"2.*"'))
        of_b = rng.choice(('b=""', 'b!=""', 'b=~"p?"', 'instance="m"', 'le=~"0.*"'))
        if name == "w":
            of_b = rng.choice(('"a.b"="3"', '"a.b"=~"[0-2]"', 'l0="x"', 'l8!~"x|y"', r'b=~"é.*\n"'))
        matchers = rng.choice(((of_a,), (of_b,), (of_a, of_b)))
        return f"{name}{{{','.join(matchers)}}}"

    def _when(self) -> str:
        rng, out = self._rng, ""
        if rng.random() < 0.1:
            out += f" offset {rng.choice(('1m', '20s', '-30s', '7m'))}"
        if rng.random() < 0.06:
            out += f" @ {rng.choice(('300', '617.5', 'start()', 'end()', '-60'))}"
        return out

    def range(self, depth: int) -> str:
        rng = self._rng
        if depth > 0 and rng.random() < 0.25:
            step = rng.choice(("", "30s", "1m", "7s", "45s"))
            return f"{self._operand(depth)}[{rng.choice(('2m', '5m', '10m'))}:{step}]{self._when()}"
        name = "c_total" if rng.random() < 0.4 else None
        return f"{self._plain(name)}[{rng.choice(('15s', '30s', '1m', '100s', '5m', '10m'))}]{self._when()}"

    def scalar(self, depth: int) -> str:
        rng = self._rng
        at = rng.random()
        if depth > 0 and at < 0.15:
            return f"scalar({self.vector(depth - 1)})"
        if depth > 0 and at < 0.25:
            op = rng.choice((*_ARITHMETIC, *(f"{op} bool" for op in _COMPARISONS)))
            return f"({self.scalar(depth - 1)} {op} {self.scalar(depth - 1)})"
        if at < 0.3:
            return rng.choice(("time()", "pi()", "-1", "NaN", "Inf", "-Inf", "1e3", "5m", "0x10"))
        return rng.choice(("0", "1", "2", "3", "5", "0.5", "0.1", "10", "70", "-2"))

    def _operand(self, depth: int) -> str:
        return self.selector() if depth <= 0 or self._rng.random() < 0.3 else f"({self.vector(depth)})"

    def _over_time(self, depth: int) -> str:
        rng = self._rng
        at = rng.random()
        if at < 0.08:
            return f"quantile_over_time({self.scalar(depth)}, {self.range(depth)})"
        if at < 0.16:
            return f"predict_linear({self.range(depth)}, {self.scalar(depth)})"
        return f"{rng.choice(_OVER_TIME)}({self.range(depth)})"

    def _grouping(self) -> str:
        at = self._rng.random()
        if at < 0.3:
            return ""
        names = ",".join(self._rng.sample(_LABELS, self._rng.choice((0, 1, 1, 2))))
        return f" {'by' if at < 0.7 else 'without'} ({names}) "

    def _aggregate(self, depth: int) -> str:
        rng = self._rng
        at, grouping = rng.random(), self._grouping()
        if at < 0.12:
            return f"{rng.choice(('topk', 'bottomk'))}{grouping}({self.scalar(0)}, {self.vector(depth)})"
        if at < 0.2:
            return f"quantile{grouping}({self.scalar(0)}, {self.vector(depth)})"
        if at < 0.28:
            # The label has every digit: nothing whose last one may differ.
            inner = self.selector() if depth <= 0 else f"round({self._over_time(0)}, 0.5)"
            return f'count_values{grouping}("{rng.choice(("value", "a"))}", {inner})'
        op = rng.choice(("sum", "avg", "count", "min", "max", "stddev", "stdvar", "group"))
        return f"{op}{grouping}({self.vector(depth)})"

    def _binary(self, depth: int) -> str:
        rng = self._rng
        op = rng.choice((*_ARITHMETIC, *_COMPARISONS, *(f"{op} bool" for op in _COMPARISONS)))
        at = rng.random()
        matching = ""
        if at < 0.6:
            names = rng.sample(("a", "b", "instance", "le", "v", '"a.b"'), rng.choice((0, 1, 1, 2)))
            matching = f" {rng.choice(('on', 'ignoring'))}({','.join(names)})"
            if at < 0.35:
                rest = [n for n in ("v", "b", "none") if n not in names]
                include = rng.choice((" ()", f"({rest[0]})", "()"))
                matching += f" {rng.choice(('group_left', 'group_right'))}{include}"
        return f"{self._operand(depth)} {op}{matching} {self._operand(depth)}"

    def _set(self, depth: int) -> str:
        rng = self._rng
        matching = ""
        if rng.random() < 0.4:
            matching = f" {rng.choice(('on', 'ignoring'))}({rng.choice(('', 'a', 'b', 'a,b', 'instance'))})"
        return f"{self._operand(depth)} {rng.choice(('and', 'or', 'unless'))}{matching} {self._operand(depth)}"

    def _with_number(self, depth: int) -> str:
        rng = self._rng
        op = rng.choice((*_ARITHMETIC, *_COMPARISONS, *(f"{op} bool" for op in _COMPARISONS)))
        sides = [self._operand(depth), self.scalar(depth)]
        rng.shuffle(sides)
        return f"{sides[0]} {op} {sides[1]}"

    def _elementwise(self, depth: int) -> str:
        rng = self._rng
        at, inner = rng.random(), self.vector(depth)
        if at < 0.15:
            return f"clamp({inner}, {self.scalar(0)}, {self.scalar(0)})"
        if at < 0.3:
            return f"{rng.choice(('clamp_min', 'clamp_max', 'round'))}({inner}, {self.scalar(0)})"
        if at < 0.4:
            return f"round({inner})"
        if at < 0.6:
            return f"{rng.choice(_DATES)}({rng.choice(('', inner, f'{inner} * 1e7'))})"
        return f"{rng.choice(_ELEMENTWISE)}({inner})"

    def _histogram(self, depth: int) -> str:
        rng = self._rng
        inner = rng.choice(
            (
                "h_bucket",
                "rate(h_bucket[5m])",
                "sum by (le) (rate(h_bucket[2m]))",
                "increase(h_bucket[1m])",
                "h_bucket > 3",
                "g_bucket",
                "g_bucket",
                "delta(g_bucket[1m])",
                "h_bucket or g_bucket",
                'h_bucket{le!="+Inf"}',
                'h_bucket{le="+Inf"}',
            )
        )
        if rng.random() < 0.25:
            bounds = [rng.choice((self.scalar(0), "-Inf", "Inf", "NaN", "0.3", "-1")) for _ in range(2)]
            return f"histogram_fraction({', '.join(bounds)}, {inner})"
        return f"histogram_quantile({rng.choice(_QUANTILES)}, {inner})"

    def _labels(self, depth: int) -> str:
        rng = self._rng
        inner = self.vector(depth)
        if rng.random() < 0.3:
            return f'label_join({inner}, "{rng.choice(("j", "a"))}", "-", "a", "{rng.choice(("b", "none"))}")'
        to, source = rng.choice(("new", "a", "b")), rng.choice(("a", "b", "none", "__name__"))
        template, pattern = rng.choice(
            (("$1", "(.*)"), ("v-$1", "(1|p)"), ("", ".*"), ("${1}x$2", "(.)(.)?"), ("k", ""))
        )
        return f'label_replace({inner}, "{to}", "{template}", "{source}", "{pattern}")'

    def _rare(self, depth: int) -> str:
        rng = self._rng
        return rng.choice(
            (
                f"absent({self.vector(depth)})",
                'absent(nope{a="1",b=~"x",le="2"})',
                f"vector({self.scalar(depth)})",
                f"scalar({self.vector(depth)}) + {self.selector()}",
                'absent_over_time(nope{a="1"}[5m])',
                f"timestamp({self.selector()})",
            )
        )


def written(labels: Labels) -> str:
    """A series as promtool's input has it."""
    pairs = ", ".join(
        f'{name if name.isidentifier() else json.dumps(name)}="{escape(value)}"'
        for name, value in labels
        if name != "__name__"
    )
    return f"{dict(labels)['__name__']}{{{pairs}}}"
