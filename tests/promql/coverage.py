"""Counts what stands in expressions, so that a test that makes them at random can say what it has tried."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from monitor.promql.check import COMPARISONS, SET_OPERATORS
from monitor.promql.signatures import AGGREGATIONS, FUNCTIONS
from monitor.promql.tree import (
    Aggregate,
    Binary,
    Call,
    Expr,
    Negation,
    Number,
    Paren,
    Range,
    Selector,
    Subquery,
    When,
    type_of,
)

ARITHMETIC = ("+", "-", "*", "/", "%", "^", "atan2")
MATCHING = (
    *("numbers", "vector-number", "number-vector", "one-to-one", "one-to-one on", "one-to-one ignoring"),
    *("many-to-one on", "many-to-one ignoring", "one-to-many on", "one-to-many ignoring"),
)
MODIFIERS = (
    *("offset", "negative offset", "@ time", "@ start", "@ end", "subquery", "subquery with a step"),
    *("subquery with offset", "subquery with @", "range with offset", "range with @"),
)


def children(expr: Expr) -> Iterator[Expr]:
    """The expressions that an expression is made of."""
    match expr:
        case Paren(inner) | Negation(inner) | Subquery(inner):
            yield inner
        case Range(selector):
            yield selector
        case Aggregate(inner=inner, parameter=parameter):
            if parameter is not None:
                yield parameter
            yield inner
        case Binary(left=left, right=right):
            yield from (left, right)
        case Call(arguments=arguments):
            yield from arguments


def depth(expr: Expr) -> int:
    """How many expressions stand in each other, parentheses aside."""
    inner = max((depth(child) for child in children(expr)), default=0)
    return inner if isinstance(expr, Paren) else inner + 1


class Coverage:
    """What was seen, by kind and name."""

    def __init__(self) -> None:
        self.seen: Counter[tuple[str, str]] = Counter()
        self.depths: Counter[int] = Counter()
        self.expressions = 0

    def add(self, expr: Expr) -> None:
        """Count an expression, and all that is in it."""
        self.expressions += 1
        self.depths[depth(expr)] += 1
        self._walk(expr)

    def _see(self, kind: str, name: str) -> None:
        self.seen[kind, name] += 1

    def _walk(self, expr: Expr) -> None:
        match expr:
            case Call(name=name):
                self._see("function", name)
            case Aggregate(op=op, without=without, grouping=grouping):
                self._see("aggregation", f"{op}{' without' if without else ' by' if grouping else ''}")
            case Binary():
                self._binary(expr)
            case Selector(matchers=matchers, when=when):
                self._when(when, "")
                for matcher in matchers:
                    self._see("matcher", matcher.op)
            case Range(selector=Selector(when=when)):
                self._when(when, "range with ")
            case Subquery(step_ms=step_ms, when=when):
                self._see("modifier", "subquery" if step_ms is None else "subquery with a step")
                self._when(when, "subquery with ")
            case Negation() | Number():
                self._see("other", type(expr).__name__)
        for child in children(expr):
            self._walk(child)

    def _when(self, when: When, where: str) -> None:
        if when.offset_ms:
            self._see("modifier", f"{where}offset" if where or when.offset_ms > 0 else "negative offset")
        if when.at is not None:
            self._see("modifier", f"{where}@" if where else f"@ {when.at if isinstance(when.at, str) else 'time'}")

    def _binary(self, expr: Binary) -> None:
        sides = tuple("number" if type_of(side) == "scalar" else "vector" for side in (expr.left, expr.right))
        matching = expr.matching
        if sides == ("number", "number"):
            kind = "numbers"
        elif "number" in sides:
            kind = "-".join(sides)
        else:
            said = " on" if matching.on else " ignoring" if matching.labels else ""
            kind = matching.card + (said or ("" if matching.card in ("one-to-one", "many-to-many") else " ignoring"))
        self._see("operator", f"{expr.op}{' bool' if expr.bool_modifier else ''} {kind}")

    def missing(self, at_least: int) -> list[str]:
        """What of the language was seen less often than so."""
        wanted = [("function", name) for name in FUNCTIONS]
        wanted += [("aggregation", op + how) for op in AGGREGATIONS for how in ("", " by", " without")]
        wanted += [("operator", f"{op} {kind}") for op in ARITHMETIC for kind in MATCHING]
        wanted += [
            ("operator", f"{op}{how} {kind}")
            for op in sorted(COMPARISONS)
            for how in ("", " bool")
            for kind in MATCHING
            if (how, kind) != ("", "numbers")
        ]
        kinds = ("many-to-many", "many-to-many on", "many-to-many ignoring")
        wanted += [("operator", f"{op} {kind}") for op in sorted(SET_OPERATORS) for kind in kinds]
        wanted += [("modifier", name) for name in MODIFIERS]
        wanted += [("matcher", op) for op in ("=", "!=", "=~", "!~")]
        return [f"{kind} {name}: {self.seen[kind, name]}" for kind, name in wanted if self.seen[kind, name] < at_least]

    def report(self) -> str:
        """The counts, a line for each kind."""
        lines = [f"{self.expressions:,} expressions"]
        lines.append("  by depth: " + ", ".join(f"{d}: {n:,}" for d, n in sorted(self.depths.items())))
        for kind in sorted({kind for kind, _ in self.seen}):
            counts = {name: n for (k, name), n in self.seen.items() if k == kind}
            least = sorted(counts.items(), key=lambda pair: pair[1])
            lines.append(
                f"  {kind}: {len(counts)} kinds, {sum(counts.values()):,} in all; the rarest "
                + ", ".join(f"{name} {n:,}" for name, n in least[:4])
            )
        return "\n".join(lines)
