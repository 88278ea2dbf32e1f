"""The expression tree: what a query says, checked and typed, free of the parser that read it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import msgspec

from monitor.records import replace
from monitor.selector import Matcher

ValueType = Literal["scalar", "vector", "matrix", "string"]

DOCUMENTED: dict[ValueType, str] = {
    "scalar": "scalar",
    "vector": "instant vector",
    "matrix": "range vector",
    "string": "string",
}
"""The types by the names that Prometheus' documentation and messages use."""


class When(msgspec.Struct, frozen=True):
    """The ``offset`` and ``@`` of a selector or a subquery. ``at`` is epoch milliseconds, or a border of the query."""

    offset_ms: int = 0
    at: int | Literal["start", "end"] | None = None


class Number(msgspec.Struct, frozen=True):
    value: float


class String(msgspec.Struct, frozen=True):
    value: str


class Paren(msgspec.Struct, frozen=True):
    inner: Expr


class Negation(msgspec.Struct, frozen=True):
    """Unary minus; a unary plus leaves no trace."""

    inner: Expr


@dataclass(frozen=True, slots=True)
class Selector:
    """An instant selector. The metric's name is a matcher of ``__name__`` like any other."""

    matchers: tuple[Matcher, ...]
    when: When
    at: int | None = field(default=None, compare=False)
    """The offset of its first character in the text; None where it was not read from one."""


class Range(msgspec.Struct, frozen=True):
    """``selector[5m]``."""

    selector: Selector
    range_ms: int


class Subquery(msgspec.Struct, frozen=True):
    """``expr[1h:5m]``; ``step_ms`` is None where the text has none."""

    inner: Expr
    range_ms: int
    step_ms: int | None
    when: When


class Call(msgspec.Struct, frozen=True):
    name: str
    arguments: tuple[Expr, ...]
    returns: ValueType


class Aggregate(msgspec.Struct, frozen=True):
    """``sum by (a) (expr)``. ``parameter`` is the k, the quantile or the label's name where the operator takes one."""

    op: str
    inner: Expr
    parameter: Expr | None
    without: bool
    grouping: tuple[str, ...]


class Matching(msgspec.Struct, frozen=True):
    """How a binary operator pairs the samples of two vectors."""

    card: Literal["one-to-one", "many-to-one", "one-to-many", "many-to-many"] = "one-to-one"
    on: bool = False
    """Whether ``labels`` are those that are compared (``on``) or those that are not (``ignoring``)."""
    labels: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    """Labels of ``group_left(...)`` or ``group_right(...)``, taken from the side of the one."""


@dataclass(frozen=True, slots=True)
class Binary:
    op: str
    left: Expr
    right: Expr
    bool_modifier: bool
    matching: Matching
    spans: tuple[tuple[int, int], tuple[int, int]] | None = field(default=None, compare=False)
    """Where its two sides begin and end in the text; None where it was not read from one."""


Expr: TypeAlias = Number | String | Paren | Negation | Selector | Range | Subquery | Call | Aggregate | Binary


def type_of(expr: Expr) -> ValueType:
    """The type of an expression's value."""
    match expr:
        case Number():
            return "scalar"
        case String():
            return "string"
        case Paren(inner) | Negation(inner):
            return type_of(inner)
        case Selector() | Aggregate():
            return "vector"
        case Range() | Subquery():
            return "matrix"
        case Call():
            return expr.returns
        case Binary():
            scalars = type_of(expr.left) == "scalar" and type_of(expr.right) == "scalar"
            return "scalar" if scalars else "vector"


def bare(expr: Expr) -> Expr:
    """The expression without the parentheses around it."""
    while isinstance(expr, Paren):
        expr = expr.inner
    return expr


def when_of(expr: Expr) -> When | None:
    """The time of what can have one: selectors, ranges and subqueries."""
    match expr:
        case Selector(when=when) | Range(selector=Selector(when=when)) | Subquery(when=when):
            return when
    return None


def moved(expr: Expr, when: When) -> Expr:
    """The same at another time; only for what has one."""
    if isinstance(expr, Range):
        return replace(expr, selector=replace(expr.selector, when=when))
    assert isinstance(expr, Selector | Subquery)  # noqa: S101 # what else has a time was refused
    return replace(expr, when=when)
