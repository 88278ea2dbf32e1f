"""From the text of a query to its tree, checked as Prometheus checks it.

The grammar is promql-parser's; what it gets wrong, ``monitor.promql.lexer`` keeps from it. The checks of types and the
words of messages are ours, after Prometheus'.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import promql_parser

from monitor.promql.errors import PromQLError
from monitor.promql.lexer import Prepared, Token, prepare
from monitor.promql.regex import RegexError, to_python
from monitor.promql.signatures import AGGREGATIONS, FUNCTIONS
from monitor.promql.tree import (
    DOCUMENTED,
    Aggregate,
    Binary,
    Call,
    Expr,
    Matching,
    Negation,
    Number,
    Paren,
    Range,
    Selector,
    String,
    Subquery,
    ValueType,
    When,
    type_of,
)
from monitor.samples import NAME
from monitor.selector import Matcher, MatchOp

COMPARISONS = frozenset(("==", "!=", ">", "<", ">=", "<="))
SET_OPERATORS = frozenset(("and", "or", "unless"))

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


def parse(text: str) -> Expr:
    """Read a query. Raises ``PromQLError``, with a place where one is known."""
    prepared = prepare(text)
    try:
        raw = promql_parser.parse(prepared.text)
    except ValueError as error:
        raise _explain(str(error), prepared, text) from error
    except BaseException as error:
        # A panic of the native code is no Exception; all that is not one goes its way.
        if type(error).__name__ != "PanicException":
            raise
        raise PromQLError("the query cannot be read") from error
    return _Reader(prepared, text).read(raw)


def parse_selector(text: str) -> tuple[Matcher, ...]:
    """Read an instant selector without offset, as ``match[]`` of the API has it, and give its matchers."""
    expr = parse(text)
    if not isinstance(expr, Selector) or expr.when != When():
        raise PromQLError("expected a series selector: a metric's name, matchers in braces, or both", 0, text=text)
    return expr.matchers


class _Reader:
    """Turns the parser's tree into ours, children first, and checks each node."""

    def __init__(self, prepared: Prepared, text: str) -> None:
        self._prepared = prepared
        self._text = text

    def read(self, raw: Any) -> Expr:
        """``raw`` is a node of promql-parser, told apart by its class."""
        match raw:
            case promql_parser.NumberLiteral():
                return Number(float(raw.val))
            case promql_parser.StringLiteral():
                return String(raw.val)
            case promql_parser.ParenExpr():
                return Paren(self.read(raw.expr))
            case promql_parser.UnaryExpr():
                inner = self.read(raw.expr)
                if (got := type_of(inner)) not in ("scalar", "vector"):
                    raise self._error(
                        "unary expression only allowed on expressions of type scalar or instant vector, "
                        f'got "{DOCUMENTED[got]}"'
                    )
                return Negation(inner)
            case promql_parser.VectorSelector():
                return self._selector(raw)
            case promql_parser.MatrixSelector():
                return Range(self._selector(raw.vector_selector), _milliseconds(raw.range))
            case promql_parser.SubqueryExpr():
                inner = self.read(raw.expr)
                if (got := type_of(inner)) != "vector":
                    raise self._error(f"subquery is only allowed on instant vector, got {got} instead")
                step = _milliseconds(raw.step) if raw.step is not None else None
                return Subquery(inner, _milliseconds(raw.range or timedelta()), step, self._when(raw))
            case promql_parser.Call():
                return self._call(raw)
            case promql_parser.AggregateExpr():
                return self._aggregate(raw)
            case promql_parser.BinaryExpr():
                return self._binary(raw)
        raise self._error(f"{type(raw).__name__} is not supported")

    def _selector(self, raw: Any) -> Selector:
        if raw.matchers.or_matchers:
            raise self._error('unexpected "or" in label matching, expected "," or "}"')
        matchers = [self._matcher(m) for m in raw.matchers.matchers]
        if raw.name:
            # A name in quotes comes as a matcher too.
            matchers = [m for m in matchers if m.name != NAME]
            matchers.append(Matcher(NAME, "=", raw.name))
        if all(m.matches("") for m in matchers):
            raise self._error("vector selector must contain at least one non-empty matcher")
        return Selector(tuple(matchers), self._when(raw))

    def _matcher(self, raw: Any) -> Matcher:
        ops: dict[str, MatchOp] = {"Equal": "=", "NotEqual": "!=", "Re": "=~", "NotRe": "!~"}
        op = ops[str(raw.op).rpartition(".")[2]]
        if op not in ("=~", "!~"):
            return Matcher(raw.name, op, raw.value)
        pattern, at = self._prepared.patterns[int(raw.value)]
        try:
            return Matcher(raw.name, op, to_python(pattern))
        except RegexError as error:
            raise PromQLError(str(error), at, text=self._text) from error

    def _when(self, raw: Any) -> When:
        offset = _milliseconds(raw.offset) if raw.offset is not None else 0
        if raw.at is None:
            return When(offset)
        kind = str(raw.at.type).rpartition(".")[2]
        if kind == "Start":
            return When(offset, "start")
        if kind == "End":
            return When(offset, "end")
        at = raw.at.at
        index = (at - (_EPOCH if at.tzinfo else _EPOCH.replace(tzinfo=None))) // timedelta(seconds=1)
        return When(offset, self._prepared.times_ms[index])

    def _call(self, raw: Any) -> Call:
        name = raw.func.name
        signature = FUNCTIONS.get(name)
        if signature is None:
            raise self._error(f'function "{name}" is not supported', name)
        arguments = tuple(self.read(argument) for argument in raw.args)
        count, wanted = len(arguments), len(signature.arguments)
        if signature.variadic == 0 and count != wanted:
            raise self._error(f'expected {wanted} argument(s) in call to "{name}", got {count}', name)
        if signature.variadic and count < wanted - 1:
            raise self._error(f'expected at least {wanted - 1} argument(s) in call to "{name}", got {count}', name)
        if signature.variadic > 0 and count > wanted - 1 + signature.variadic:
            most = wanted - 1 + signature.variadic
            raise self._error(f'expected at most {most} argument(s) in call to "{name}", got {count}', name)
        for i, argument in enumerate(arguments):
            self._expect(argument, signature.arguments[min(i, wanted - 1)], f'call to function "{name}"', name)
        return Call(name, arguments, signature.returns)

    def _aggregate(self, raw: Any) -> Aggregate:
        op = str(raw.op)
        if op not in AGGREGATIONS:
            raise self._error(f'aggregation "{op}" is experimental in Prometheus: not supported', op)
        inner = self.read(raw.expr)
        self._expect(inner, "vector", "aggregation expression", op)
        wanted = AGGREGATIONS[op]
        parameter = self.read(raw.param) if raw.param is not None else None
        if wanted is not None:
            if parameter is None:
                raise self._error("wrong number of arguments for aggregate expression provided, expected 2, got 1", op)
            self._expect(parameter, wanted, "aggregation parameter", op)
        modifier = raw.modifier
        without = modifier is not None and str(modifier.type).endswith("Without")
        labels = self._label_names(modifier.labels) if modifier is not None else ()
        return Aggregate(op, inner, parameter, without, labels)

    def _binary(self, raw: Any) -> Binary:
        op = str(raw.op)
        left, right = self.read(raw.lhs), self.read(raw.rhs)
        for side in (left, right):
            if type_of(side) not in ("scalar", "vector"):
                raise self._error("binary expression must contain only scalar and instant vector types", op)
        vectors = type_of(left) == "vector" and type_of(right) == "vector"
        scalars = type_of(left) == "scalar" and type_of(right) == "scalar"
        modifier = raw.modifier
        with_bool = modifier is not None and bool(modifier.return_bool)
        if modifier is not None and (modifier.fill_values.lhs, modifier.fill_values.rhs) != (None, None):
            raise self._error("fill is experimental in Prometheus: not supported", "fill")
        if with_bool and op not in COMPARISONS:
            raise self._error("bool modifier can only be used on comparison operators", op)
        if scalars and op in COMPARISONS and not with_bool:
            raise self._error("comparisons between scalars must use BOOL modifier", op)
        if op in SET_OPERATORS and not vectors:
            raise self._error(f'set operator "{op}" not allowed in binary scalar expression', op)
        matching = self._matching(modifier, op)
        if not vectors and matching.labels:
            raise self._error("vector matching only allowed between instant vectors", op)
        return Binary(op, left, right, with_bool, matching)

    def _matching(self, modifier: Any, op: str) -> Matching:
        is_set = op in SET_OPERATORS
        if modifier is None:
            return Matching("many-to-many" if is_set else "one-to-one")
        on = modifier.matching is not None and str(modifier.matching.type).endswith("Include")
        labels = self._label_names(modifier.matching.labels) if modifier.matching is not None else ()
        card = str(modifier.card).rpartition(".")[2]
        if is_set:
            if card in ("ManyToOne", "OneToMany"):
                raise self._error(f'no grouping allowed for "{op}" operation', op)
            return Matching("many-to-many", on, labels)
        include = self._label_names(modifier.group_labels or ())
        for name in include:
            if on and name in labels:
                raise self._error(f'label "{name}" must not occur in ON and GROUP clause at once', op)
        if card == "ManyToOne":
            return Matching("many-to-one", on, labels, include)
        if card == "OneToMany":
            return Matching("one-to-many", on, labels, include)
        return Matching("one-to-one", on, labels)

    def _label_names(self, names: Sequence[str]) -> tuple[str, ...]:
        if "" in names:
            raise self._error('invalid label name for grouping: ""')
        return tuple(names)

    def _expect(self, expr: Expr, wanted: ValueType, context: str, word: str) -> None:
        if (got := type_of(expr)) != wanted:
            raise self._error(f"expected type {DOCUMENTED[wanted]} in {context}, got {DOCUMENTED[got]}", word)

    def _error(self, message: str, word: str = "") -> PromQLError:
        return PromQLError(message, _only_place(word, self._prepared.tokens), text=self._text)


def _milliseconds(length: timedelta) -> int:
    return length // _MILLISECOND


def _only_place(word: str, tokens: tuple[Token, ...]) -> int | None:
    """The offset of a word, where it stands in the query once: the parser gives no positions."""
    places = [at for kind, value, at in tokens if kind in ("name", "op") and value.lower() == word]
    return places[0] if len(places) == 1 else None


_DOCUMENTED_TYPES = re.compile(r"(expected type |got |between |scalar or |preceded by an )(vector|matrix)\b")


def _explain(message: str, prepared: Prepared, text: str) -> PromQLError:
    """The parser's message, in Prometheus' words where they are known, with a place where one can be found."""
    if message == "invalid promql query":
        return _syntax_error(prepared, text)
    words = _DOCUMENTED_TYPES.sub(
        lambda found: found[1] + ("instant vector" if found[2] == "vector" else "range vector"),
        re.sub(r"'([^']*)'", r'"\1"', message),
    )
    at = None
    for word in reversed(re.findall(r'"([^"]+)"', words)):
        at = at if at is not None else _only_place(word.lower(), prepared.tokens)
    return PromQLError(words, at, text=text)


_OPERATOR_WORDS = frozenset(("and", "or", "unless", "atan2"))
_BINARY = frozenset(("+", "-", "*", "/", "%", "^", *COMPARISONS))


def _syntax_error(prepared: Prepared, text: str) -> PromQLError:
    """Find the token that cannot follow the one before it: the parser only says that there is one."""
    tokens = prepared.tokens
    kind, value, at = tokens[-1]
    if value in _BINARY or value in (",", "@") or value.lower() in NOT_LAST:
        return PromQLError("unexpected end of input", len(text), text=text)
    previous: Token = ("op", "(", 0)
    for token in tokens:
        kind, value, at = token
        if _ends_operand(previous) and _begins_operand(token):
            what = "identifier" if kind == "name" else kind
            shown = value if kind == "string" else f'"{value}"'
            return PromQLError(f"unexpected {what} {shown}", at, text=text)
        if not _ends_operand(previous) and previous[1] != "(" and (value in (")", ",") or _only_binary(token)):
            return PromQLError(f'unexpected "{value}"', at, text=text)
        previous = token
    return PromQLError("the query cannot be read", text=text)


NOT_LAST = frozenset(("by", "without", "on", "ignoring", "bool", "offset", "group_left", "group_right", "atan2"))
_MODIFIERS = NOT_LAST | _OPERATOR_WORDS | {"by", "without", "start", "end"}


def _ends_operand(token: Token) -> bool:
    kind, value, _ = token
    if kind == "name":
        return value.lower() not in _MODIFIERS and value.lower() not in AGGREGATIONS
    return kind in ("number", "duration", "string") or value in ("]", "}")


def _begins_operand(token: Token) -> bool:
    kind, value, _ = token
    return kind in ("number", "duration", "string") or (kind == "name" and value.lower() not in _MODIFIERS)


def _only_binary(token: Token) -> bool:
    kind, value, _ = token
    return (kind == "op" and value in _BINARY and value not in ("+", "-")) or (
        kind == "name" and value.lower() in _OPERATOR_WORDS
    )
