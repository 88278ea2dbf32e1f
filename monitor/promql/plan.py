"""Plans: queries that are parsed once, and find their series once for as long as the store's set of series stays."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from monitor.promql.aggregate import CountValues, Extremes, Quantile, Reduced
from monitor.promql.binary import Matched, Numbers, SetOperation, WithNumber
from monitor.promql.errors import PromQLError
from monitor.promql.functions import (
    SIMPLE,
    WITH_NUMBERS,
    Absent,
    DateNow,
    Mapped,
    MappedWith,
    ScalarOf,
    Sorted,
    Time,
    Timestamp,
    VectorOf,
    date_function,
)
from monitor.promql.histograms import OfHistogram, bucket_fraction, bucket_quantile
from monitor.promql.nodes import (
    Constant,
    InvariantScalar,
    InvariantVector,
    Negated,
    NegatedScalar,
    ScalarNode,
    VectorNode,
)
from monitor.promql.over_time import ENDS, OVER_TIME, AbsentOverTime, OverTime
from monitor.promql.parse import SET_OPERATORS, parse
from monitor.promql.relabel import label_join, label_replace
from monitor.promql.selectors import Instant, RangeNode, RangeOf, Selection, SubqueryOf
from monitor.promql.signatures import TIME_DEPENDENT
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
    String,
    Subquery,
    ValueType,
    When,
    bare,
    type_of,
)
from monitor.samples import NAME, Labels, labels_of
from monitor.selector import Matcher

LOOKBACK_MS = 300_000
"""How old a sample may be for an instant selector to give it."""
SUBQUERY_STEP_MS = 60_000
"""The step of a subquery that says none: Prometheus' default ``evaluation_interval``."""


class Plan(msgspec.Struct, frozen=True):
    """A query that is ready to be evaluated, over and over. Keeps what it derived from the store it was last given;
    used from one thread."""

    text: str
    type: ValueType
    selectors: tuple[tuple[Matcher, ...], ...]
    """The matchers of every selector, in the order of the text."""
    lookback_ms: int
    reach_ms: int
    """How far before the time of an evaluation the query looks at most, ``@`` aside."""
    root: VectorNode | ScalarNode | RangeNode | str
    expr: Expr

    def earliest_ms(self, start_ms: int) -> int:
        """The oldest moment that the query may look at, where its first step is at ``start_ms``."""
        return _earliest_ms(self.expr, start_ms, self.lookback_ms)


def plan(text: str, *, lookback_ms: int = LOOKBACK_MS, subquery_step_ms: int = SUBQUERY_STEP_MS) -> Plan:
    """Parse a query and make it ready. Raises ``PromQLError``.

    ``subquery_step_ms`` is the step of subqueries that say none (Prometheus: the global ``evaluation_interval``).
    """
    return plan_of(parse(text), text, lookback_ms=lookback_ms, subquery_step_ms=subquery_step_ms)


def plan_of(
    expr: Expr, text: str = "", *, lookback_ms: int = LOOKBACK_MS, subquery_step_ms: int = SUBQUERY_STEP_MS
) -> Plan:
    """Make a query ready that was parsed, and perhaps changed since. ``text`` is what the plan is to be known by."""
    builder = _Builder(lookback_ms, subquery_step_ms)
    kind = type_of(expr)
    root: VectorNode | ScalarNode | RangeNode | str
    match kind:
        case "vector":
            root = builder.vector(expr, outer=True)
        case "scalar":
            root = builder.scalar(expr)
        case "matrix":
            root = builder.range(expr)
        case "string":
            root = builder.string(expr)
    reach = builder.reach(expr)
    return Plan(text, kind, tuple(builder.selectors), lookback_ms, reach, root, expr)


def absent_labels(expr: Expr) -> Labels:
    """The labels that ``absent`` gives its result: those that the selector fixes to one value."""
    inner = bare(expr)
    if isinstance(inner, Range):
        inner = inner.selector
    if not isinstance(inner, Selector):
        return ()
    # A matcher later on for the same label can undo it. Prometheus' storage has put them into an order of its own by
    # then: those that only exclude come last, where another demands the label; and of the other labels none is fixed.
    ordered = sorted(inner.matchers, key=lambda m: m.op in ("!=", "!~") and m.matches(""))
    fixed: dict[str, str] = {}
    seen: set[str] = set()
    for matcher in ordered:
        if matcher.name == NAME:
            continue
        if matcher.op == "=" and matcher.name not in seen:
            fixed[matcher.name] = matcher.value
            seen.add(matcher.name)
        else:
            fixed.pop(matcher.name, None)
    return labels_of(fixed)


def is_invariant(expr: Expr) -> bool:
    """Whether an expression is the same at every step: all of its selectors are bound to a time by ``@``."""
    match expr:
        case Number() | String():
            return True
        case Paren(inner) | Negation(inner) | Aggregate(inner=inner):
            return is_invariant(inner)
        case Selector(when=when) | Range(selector=Selector(when=when)) | Subquery(when=when):
            return when.at is not None
        case Call(name=name, arguments=arguments):
            return name not in TIME_DEPENDENT and all(map(is_invariant, arguments))
        case Binary(left=left, right=right):
            return is_invariant(left) and is_invariant(right)
    raise AssertionError(expr)  # no other node


class _Builder:
    def __init__(self, lookback_ms: int, subquery_step_ms: int) -> None:
        self._lookback_ms = lookback_ms
        self._subquery_step_ms = subquery_step_ms
        self.selectors: list[tuple[Matcher, ...]] = []

    def vector(self, expr: Expr, *, outer: bool = False) -> VectorNode:
        """The node of an expression of type vector. ``outer``: nothing around it is invariant itself."""
        inner = bare(expr)
        node = self._vector(inner)
        # What is a mere selector is cheap, and must be seen as one by what is around it.
        return InvariantVector(node) if outer and is_invariant(inner) and not isinstance(inner, Selector) else node

    def _vector(self, expr: Expr) -> VectorNode:
        match expr:
            case Selector():
                return Instant(self._selection(expr), self._lookback_ms)
            case Negation(inner):
                return Negated(self._child(inner, expr))
            case Aggregate():
                return self._aggregate(expr)
            case Binary():
                return self._binary(expr)
            case Call():
                return self._call(expr)
        raise AssertionError(expr)  # the types were checked when it was parsed

    def scalar(self, expr: Expr, *, outer: bool = True) -> ScalarNode:
        """The node of an expression of type scalar."""
        inner = bare(expr)
        node = self._scalar(inner)
        return InvariantScalar(node) if outer and is_invariant(inner) and not isinstance(inner, Number) else node

    def _scalar(self, expr: Expr) -> ScalarNode:
        match expr:
            case Number(value):
                return Constant(value)
            case Negation(inner):
                return NegatedScalar(self.scalar(inner, outer=False))  # as invariant as this is
            case Binary(op, left, right):
                outer = not is_invariant(expr)
                return Numbers(op, self.scalar(left, outer=outer), self.scalar(right, outer=outer))
            case Call("time"):
                return Time()
            case Call("pi"):
                return Constant(3.141592653589793)
            case Call("scalar", (inner,)):
                return ScalarOf(self._child(inner, expr))
        raise AssertionError(expr)  # the types were checked when it was parsed

    def range(self, expr: Expr, *, resets: bool = False) -> RangeNode:
        """The node of an expression of type matrix."""
        inner = bare(expr)
        if isinstance(inner, Range):
            return RangeOf(self._selection(inner.selector), inner.range_ms, resets=resets)
        assert isinstance(inner, Subquery)  # noqa: S101 # the other of the two
        if inner.step_ms == 0:
            raise PromQLError("the step of a subquery must be a millisecond at least", kind="execution")
        step_ms = inner.step_ms or self._subquery_step_ms
        return SubqueryOf(self.vector(inner.inner, outer=True), inner.range_ms, step_ms, inner.when)

    def string(self, expr: Expr) -> str:
        inner = bare(expr)
        assert isinstance(inner, String)  # noqa: S101 # there is no other expression of this type
        return inner.value

    def _child(self, expr: Expr, parent: Expr) -> VectorNode:
        return self.vector(expr, outer=not is_invariant(parent))

    def _number(self, expr: Expr, parent: Expr) -> ScalarNode:
        return self.scalar(expr, outer=not is_invariant(parent))

    def _selection(self, selector: Selector) -> Selection:
        self.selectors.append(selector.matchers)
        return Selection(selector)

    def _aggregate(self, expr: Aggregate) -> VectorNode:
        op, without, names = expr.op, expr.without, expr.grouping
        if expr.parameter is None:
            return Reduced(op, self._child(expr.inner, expr), without, names)
        if op == "count_values":
            return CountValues(self._child(expr.inner, expr), self.string(expr.parameter), without, names)
        parameter = self._number(expr.parameter, expr)
        inner = self._child(expr.inner, expr)
        if op == "quantile":
            return Quantile(inner, parameter, without, names)
        return Extremes(inner, parameter, without, names, largest=op == "topk")

    def _binary(self, expr: Binary) -> VectorNode:
        op, with_bool = expr.op, expr.bool_modifier
        if type_of(expr.right) == "scalar":
            vector = self._child(expr.left, expr)
            return WithNumber(op, vector, self._number(expr.right, expr), swapped=False, bool_modifier=with_bool)
        if type_of(expr.left) == "scalar":
            number = self._number(expr.left, expr)
            return WithNumber(op, self._child(expr.right, expr), number, swapped=True, bool_modifier=with_bool)
        left, right = self._child(expr.left, expr), self._child(expr.right, expr)
        if op in SET_OPERATORS:
            return SetOperation(op, left, right, expr.matching)
        return Matched(op, left, right, expr.matching, bool_modifier=with_bool)

    def _call(self, expr: Call) -> VectorNode:
        name, arguments = expr.name, expr.arguments
        if name in OVER_TIME or name in ENDS:
            return self._over_time(expr)
        match name:
            case "absent_over_time":
                return AbsentOverTime(self.range(arguments[0]), absent_labels(arguments[0]))
            case "vector":
                return VectorOf(self._number(arguments[0], expr))
            case "histogram_quantile":
                quantile = self._number(arguments[0], expr)
                return OfHistogram(bucket_quantile, self._child(arguments[1], expr), quantile)
            case "histogram_fraction":
                borders = [self._number(argument, expr) for argument in arguments[:2]]
                return OfHistogram(bucket_fraction, self._child(arguments[2], expr), *borders)
        if not arguments:
            return DateNow(name)
        # All others take their vector first.
        return self._of_vector(name, self._child(arguments[0], expr), expr)

    def _of_vector(self, name: str, inner: VectorNode, expr: Call) -> VectorNode:
        rest = expr.arguments[1:]
        if name in SIMPLE:
            return Mapped(SIMPLE[name], inner)
        if name in WITH_NUMBERS:
            return MappedWith(WITH_NUMBERS[name], inner, *(self._number(argument, expr) for argument in rest))
        match name:
            case "absent":
                return Absent(inner, absent_labels(expr.arguments[0]))
            case "timestamp":
                return Timestamp(inner)
            case "sort" | "sort_desc":
                return Sorted(inner, descending=name == "sort_desc")
            case "label_replace":
                to, template, source, pattern = map(self.string, rest)
                return label_replace(inner, to, template, source, pattern)
            case "label_join":
                to, separator, *sources = map(self.string, rest)
                return label_join(inner, to, separator, sources)
        return Mapped(date_function(name), inner)

    def _over_time(self, expr: Call) -> VectorNode:
        matrix = next(argument for argument in expr.arguments if type_of(argument) == "matrix")
        numbers = [argument for argument in expr.arguments if argument is not matrix]
        over = self.range(matrix, resets=expr.name in ("rate", "increase"))
        return OverTime(expr.name, over, self._number(numbers[0], expr) if numbers else None)

    def reach(self, expr: Expr) -> int:
        """How far before its time an expression looks."""
        match expr:
            case Selector(when=when):
                return 0 if when.at is not None else self._lookback_ms + when.offset_ms
            case Range(selector, range_ms):
                return 0 if selector.when.at is not None else range_ms + selector.when.offset_ms
            case Subquery(inner, range_ms, _, when):
                return 0 if when.at is not None else range_ms + when.offset_ms + self.reach(inner)
        return max((self.reach(child) for child in _children(expr)), default=0)


def _earliest_ms(expr: Expr, start_ms: int, lookback_ms: int) -> int:
    def moment(when: When) -> int:
        return (when.at if isinstance(when.at, int) else start_ms) - when.offset_ms

    match expr:
        case Selector(when=when):
            return moment(when) - lookback_ms
        case Range(selector, range_ms):
            return moment(selector.when) - range_ms
        case Subquery(inner, range_ms, _, when):
            return _earliest_ms(inner, moment(when) - range_ms, lookback_ms)
    return min((_earliest_ms(child, start_ms, lookback_ms) for child in _children(expr)), default=start_ms)


def _children(expr: Expr) -> Sequence[Expr]:
    match expr:
        case Paren(inner) | Negation(inner):
            return (inner,)
        case Aggregate(inner=inner, parameter=parameter):
            return (inner,) if parameter is None else (parameter, inner)
        case Binary(left=left, right=right):
            return (left, right)
        case Call(arguments=arguments):
            return arguments
    return ()
