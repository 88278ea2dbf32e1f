"""Checks a tree that was read without error, as Prometheus does: types, numbers of arguments, matching."""

from __future__ import annotations

import difflib

from monitor.promql.errors import PromQLError
from monitor.promql.signatures import AGGREGATIONS, EXPERIMENTAL, FUNCTIONS, NATIVE_HISTOGRAMS
from monitor.promql.tree import (
    DOCUMENTED,
    Aggregate,
    Binary,
    Call,
    Expr,
    Negation,
    Paren,
    Range,
    Selector,
    Subquery,
    ValueType,
    type_of,
)
from monitor.samples import NAME

COMPARISONS = frozenset(("==", "!=", ">", "<", ">=", "<="))
SET_OPERATORS = frozenset(("and", "or", "unless"))


class Checker:
    """Knows where the nodes of a tree stand in its text. The tree must be kept while the checker is."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._starts: dict[int, tuple[Expr, int]] = {}
        self._operators: dict[int, tuple[Expr, int]] = {}
        self._signed: dict[int, list[int]] = {}
        self._named: dict[int, str] = {}
        """By the places of the selectors: modifiers make others of them."""

    # -- what the parser tells ---------------------------------------------------------------------------------------

    def began(self, expr: Expr, at: int) -> None:
        """A node begins at this offset."""
        self._starts[id(expr)] = (expr, at)

    def start(self, expr: Expr) -> int:
        """Where a node begins."""
        return self._starts[id(expr)][1]

    def operator(self, expr: Binary, at: int) -> None:
        """The operator of a node stands at this offset."""
        self._operators[id(expr)] = (expr, at)

    def signed(self, expr: Expr, at: int) -> None:
        """A sign stands before a node: a plus leaves no other trace."""
        self._signed.setdefault(id(expr), []).append(at)

    def named(self, expr: Selector, name: str) -> None:
        """A selector has a name before its braces."""
        self._named[expr.at or 0] = name

    # -- the check ---------------------------------------------------------------------------------------------------

    def check(self, expr: Expr) -> ValueType:
        """The type of a tree. Raises ``PromQLError`` for the first thing that is wrong."""
        match expr:
            case Paren(inner):
                self.check(inner)
            case Negation(inner):
                self.check(inner)
            case Range(selector):
                self.check(selector)
            case Subquery(inner):
                if (got := self.check(inner)) != "vector":
                    raise self._error(f"subquery is only allowed on instant vector, got {got} instead", expr)
            case Aggregate():
                self._aggregate(expr)
            case Binary():
                self._binary(expr)
            case Call():
                self._call(expr)
            case Selector():
                self._selector(expr)
        got = type_of(expr)
        for at in self._signed.get(id(expr), ()):
            if got not in ("scalar", "vector"):
                message = "unary expression only allowed on expressions of type scalar or instant vector"
                raise PromQLError(f'{message}, got "{DOCUMENTED[got]}"', at, text=self._text)
        return got

    def _error(self, message: str, expr: Expr) -> PromQLError:
        at = expr.at if isinstance(expr, Selector) else self.start(expr)
        return PromQLError(message, at, text=self._text)

    def _expect(self, expr: Expr, wanted: ValueType, context: str) -> None:
        if (got := self.check(expr)) != wanted:
            raise self._error(f"expected type {DOCUMENTED[wanted]} in {context}, got {DOCUMENTED[got]}", expr)

    def _aggregate(self, expr: Aggregate) -> None:
        self._expect(expr.inner, "vector", "aggregation expression")
        wanted = AGGREGATIONS[expr.op]
        if wanted is not None and expr.parameter is not None:
            self._expect(expr.parameter, wanted, "aggregation parameter")

    def _binary(self, expr: Binary) -> None:
        op, matching = expr.op, expr.matching
        left, right = self.check(expr.left), self.check(expr.right)
        at = self._operators[id(expr)][1]
        if expr.bool_modifier and op not in COMPARISONS:
            raise PromQLError("bool modifier can only be used on comparison operators", at, text=self._text)
        if op in COMPARISONS and not expr.bool_modifier and left == right == "scalar":
            raise PromQLError("comparisons between scalars must use BOOL modifier", at, text=self._text)
        for name in matching.labels:
            if matching.on and name in matching.include:
                message = f'label "{name}" must not occur in ON and GROUP clause at once'
                raise PromQLError(message, at, text=self._text)
        for side, got in ((expr.left, left), (expr.right, right)):
            if got not in ("scalar", "vector"):
                raise self._error("binary expression must contain only scalar and instant vector types", side)
        if not left == right == "vector":
            if matching.labels:
                raise self._error("vector matching only allowed between instant vectors", expr)
            if op in SET_OPERATORS:
                raise self._error(f'set operator "{op}" not allowed in binary scalar expression', expr)
        elif op in SET_OPERATORS and matching.card != "many-to-many":
            raise self._error(f'no grouping allowed for "{op}" operation', expr)

    def _call(self, expr: Call) -> None:
        name, signature = expr.name, FUNCTIONS[expr.name]
        count, wanted = len(expr.arguments), len(signature.arguments)
        if signature.variadic == 0:
            if count != wanted:
                raise self._error(f'expected {wanted} argument(s) in call to "{name}", got {count}', expr)
        elif count < wanted - 1:
            raise self._error(f'expected at least {wanted - 1} argument(s) in call to "{name}", got {count}', expr)
        elif 0 < signature.variadic < count - wanted + 1:
            most = wanted - 1 + signature.variadic
            raise self._error(f'expected at most {most} argument(s) in call to "{name}", got {count}', expr)
        for i, argument in enumerate(expr.arguments):
            self._expect(argument, signature.arguments[min(i, wanted - 1)], f'call to function "{name}"')

    def _selector(self, expr: Selector) -> None:
        if (name := self._named.get(expr.at or 0)) is not None:
            for matcher in expr.matchers[:-1]:
                if matcher.name == NAME:
                    message = f'metric name must not be set twice: "{name}" or "{matcher.value}"'
                    raise self._error(message, expr)
        elif all(matcher.matches("") for matcher in expr.matchers):
            raise self._error("vector selector must contain at least one non-empty matcher", expr)


def why_not(name: str) -> str:
    """Why a function cannot be called."""
    if name in EXPERIMENTAL:
        return f'function "{name}" is experimental in Prometheus: not supported'
    if name in NATIVE_HISTOGRAMS:
        return f'function "{name}" is for native histograms, which gpumon does not keep'
    if name == "holt_winters":
        return 'function "holt_winters" was removed in Prometheus 3'
    near = difflib.get_close_matches(name.lower(), [*FUNCTIONS, *AGGREGATIONS], n=1, cutoff=0.7)
    return f'unknown function with name "{name}"' + (f': did you mean "{near[0]}"?' if near else "")
