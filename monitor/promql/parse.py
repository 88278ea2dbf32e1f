"""From the text of a query to its tree, by the grammar of Prometheus.

Operators are read by their precedence, modifiers by what they may follow. What only the types of both sides can tell is
checked afterwards, by ``monitor.promql.check``, as Prometheus does: of two errors the same comes first.
"""

from __future__ import annotations

from monitor.go_regex import RegexError, to_python
from monitor.promql.check import COMPARISONS, SET_OPERATORS, Checker, why_not
from monitor.promql.cursor import Cursor
from monitor.promql.errors import PromQLError
from monitor.promql.lexer import Token
from monitor.promql.literals import (
    MAX_SECONDS,
    duration_seconds,
    is_utf8,
    milliseconds,
    nanoseconds,
    number,
    rounded,
    unquote,
)
from monitor.promql.signatures import AGGREGATIONS, FUNCTIONS
from monitor.promql.tree import (
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
    When,
    moved,
    when_of,
)
from monitor.records import replace
from monitor.samples import NAME
from monitor.selector import Matcher, MatchOp

__all__ = ["COMPARISONS", "SET_OPERATORS", "parse", "parse_selector"]
_PRECEDENCE = {
    "or": 1,
    **dict.fromkeys(("and", "unless"), 2),
    **dict.fromkeys(COMPARISONS, 3),
    **dict.fromkeys(("+", "-"), 4),
    **dict.fromkeys(("*", "/", "%", "atan2"), 5),
    "^": 6,
}
_UNARY = 5  # a sign binds as `*` does: `-x ^ 2` is `-(x ^ 2)`
_NAME_KEYWORDS = frozenset(("by", "offset", "without", "start", "end"))
"""Keywords that a metric may have for its name."""
_MATCH_OPS: dict[str, MatchOp] = {"=": "=", "!=": "!=", "=~": "=~", "!~": "!~"}


def parse(text: str) -> Expr:
    """Read a query. Raises ``PromQLError``, with its place."""
    return _Parser(text).whole()


def parse_selector(text: str) -> tuple[Matcher, ...]:
    """Read an instant selector without offset, as ``match[]`` of the API has it, and give its matchers."""
    return _Parser(text).selector_alone()


class _Parser(Cursor):
    """Goes through the tokens once, one token ahead."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._checker = Checker(text)

    def whole(self) -> Expr:
        if self.peek().kind == "end":
            raise PromQLError("no expression found in input", 0, text=self.text)
        expr = self._expression(0)
        if self.peek().kind != "end":
            self.unexpected()
        self._checker.check(expr)
        return expr

    def selector_alone(self) -> tuple[Matcher, ...]:
        """A selector and nothing after it. Raises ``PromQLError``."""
        token = self.peek()
        if token.kind == "end":
            raise PromQLError("unexpected end of input", 0, text=self.text)
        is_name = token.kind in ("identifier", "metric", "aggregation") or token.word in _NAME_KEYWORDS
        if not is_name and token.word not in SET_OPERATORS and token.text != "{":
            self.unexpected()
        expr = self._selector()
        if self.peek().kind != "end":
            self.unexpected()
        self._checker.check(expr)
        assert isinstance(expr, Selector)  # noqa: S101 # what was read
        return expr.matchers

    def _began(self, expr: Expr, at: int) -> Expr:
        self._checker.began(expr, at)
        return expr

    # -- expressions -------------------------------------------------------------------------------------------------

    def _expression(self, at_least: int) -> Expr:
        """An expression whose operators bind at least so tightly."""
        left = self._operand()
        while True:
            token = self.peek()
            precedence = _PRECEDENCE.get(token.word, -1) if token.kind == "op" else -1
            if precedence < max(at_least, 1):
                return left
            ended = self.end
            left = self._binary(left, ended, self.take(), precedence)

    def _binary(self, left: Expr, ended: int, token: Token, precedence: int) -> Expr:
        op = token.text.lower()
        with_bool = self.accept("bool") is not None
        on = False
        labels: tuple[str, ...] = ()
        include: tuple[str, ...] = ()
        card = ""
        if clause := self.accept("on", "ignoring"):
            on = clause.word == "on"
            labels = self._labels()
            if group := self.accept("group_left", "group_right"):
                card = group.word
                include = self._labels() if self.stands("(") else ()
        # Of equal operators the left comes first, but for powers.
        begins = self._checker.start(left), self.peek().at
        right = self._expression(precedence if op == "^" else precedence + 1)
        spans = (begins[0], ended), (begins[1], self.end)
        if op in SET_OPERATORS and not card:
            matching = Matching("many-to-many", on, labels)
        elif card:
            matching = Matching("many-to-one" if card == "group_left" else "one-to-many", on, labels, include)
        else:
            matching = Matching("one-to-one", on, labels)
        expr = Binary(op, left, right, with_bool, matching, spans)
        self._checker.operator(expr, token.at)
        return self._began(expr, self._checker.start(left))

    def _operand(self) -> Expr:
        if sign := self.accept("-", "+"):
            inner = self._expression(_UNARY + 1)
            if isinstance(inner, Number):
                return self._began(Number(-inner.value) if sign.text == "-" else inner, sign.at)
            self._checker.signed(inner, sign.at)
            return self._began(Negation(inner), sign.at) if sign.text == "-" else inner
        return self._modified(self._primary())

    def _primary(self) -> Expr:
        token = self.peek()
        following = self.following()
        match token.kind:
            case "number" | "duration":
                return self._began(Number(self._seconds(self.take())), token.at)
            case "string":
                self.take()
                return self._began(String(unquote(token.text, token.at, self.text)), token.at)
            case "identifier" if following.text == "(" and following.kind == "op":
                return self._call()
            case "aggregation" if following.word in ("(", "by", "without"):
                return self._aggregate()
            case "identifier" | "metric" | "aggregation":
                return self._selector()
        if token.word in _NAME_KEYWORDS or token.word in SET_OPERATORS or token.text == "{":
            return self._selector()
        if not self.accept("("):
            self.unexpected()
        inner = self._expression(0)
        self.expect(")")
        return self._began(Paren(inner), token.at)

    def _seconds(self, token: Token) -> float:
        read = duration_seconds if token.kind == "duration" else number
        return read(token.text, token.at, self.text)

    def _arguments(self) -> list[Expr]:
        self.expect("(")
        arguments: list[Expr] = []
        if self.accept(")"):
            return arguments
        while True:
            arguments.append(self._expression(0))
            if self.accept(")"):
                return arguments
            comma = self.expect(",")
            if self.stands(")", ","):
                raise self.error("trailing commas not allowed in function call args", comma.at)

    def _call(self) -> Expr:
        token = self.take()
        name = token.text
        arguments = self._arguments()
        signature = FUNCTIONS.get(name)
        if signature is None:
            raise self.error(why_not(name), token.at)
        return self._began(Call(name, tuple(arguments), signature.returns), token.at)

    def _aggregate(self) -> Expr:
        token = self.take()
        op = token.text.lower()
        self.contexts.append("aggregation")
        without, names, said = self._grouping()
        arguments = self._arguments()
        if not said:
            without, names, _ = self._grouping()
        self.contexts.pop()
        if not arguments:
            raise self.error("no arguments for aggregate expression provided", token.at)
        if op not in AGGREGATIONS:
            raise self.error(f"{op}() is experimental in Prometheus: not supported", token.at)
        wanted = 1 if AGGREGATIONS[op] is None else 2
        if len(arguments) != wanted:
            message = "wrong number of arguments for aggregate expression provided"
            raise self.error(f"{message}, expected {wanted}, got {len(arguments)}", token.at)
        parameter = arguments[0] if wanted == 2 else None
        return self._began(Aggregate(op, arguments[-1], parameter, without, names), token.at)

    def _grouping(self) -> tuple[bool, tuple[str, ...], bool]:
        clause = self.accept("by", "without")
        if clause is None:
            return False, (), False
        return clause.word == "without", self._labels(), True

    def _labels(self) -> tuple[str, ...]:
        """``(a, b)``: names of labels, which may be keywords, too."""
        self.expect("(", "grouping opts", '"("')
        names: list[str] = []
        if self.accept(")"):
            return ()
        while True:
            names.append(self._label())
            if self.accept(")"):
                return tuple(names)
            self.expect(",", "grouping opts", '"," or ")"')
            if self.accept(")"):
                return tuple(names)

    def _label(self) -> str:
        token = self.peek()
        is_word = token.kind in ("identifier", "metric", "aggregation") or (
            token.kind in ("keyword", "op") and token.text[0].isalpha() and token.word != "without"
        )
        if not is_word and token.kind != "string":
            self.unexpected("grouping opts", "label")
        self.take()
        name = unquote(token.text, token.at, self.text) if token.kind == "string" else token.text
        if not name or not is_utf8(name):
            raise self.error(f'invalid label name for grouping: "{name}"', token.at)
        return name

    # -- selectors ---------------------------------------------------------------------------------------------------

    def _selector(self) -> Expr:
        token = self.peek()
        name = self.take().text if token.text != "{" else ""
        matchers: list[Matcher] = []
        if self.accept("{"):
            while not self.accept("}"):
                matchers.append(self._matcher())
                if not self.stands("}"):
                    self.expect(",", "label matching", '"," or "}"')
        expr = Selector((*matchers, Matcher(NAME, "=", name)) if name else tuple(matchers), When(), token.at)
        if name:
            self._checker.named(expr, name)
        return self._began(expr, token.at)

    def _matcher(self) -> Matcher:
        token = self.peek()
        if token.kind not in ("identifier", "string"):
            self.unexpected("label matching", 'identifier or "}"')
        self.take()
        name = unquote(token.text, token.at, self.text) if token.kind == "string" else token.text
        if token.kind == "string" and self.stands(",", "}"):
            return Matcher(NAME, "=", name)
        operator = self.accept(*_MATCH_OPS)
        if operator is None:
            if token.kind == "string":
                self.unexpected("label matching", '"," or "}"')
            self.unexpected("label matching", "label matching operator")
        written = self.peek()
        if written.kind != "string":
            self.unexpected("label matching", "string")
        self.take()
        value = unquote(written.text, written.at, self.text)
        op = _MATCH_OPS[operator.text]
        if op in ("=", "!="):
            return Matcher(name, op, value)
        try:
            return Matcher(name, op, to_python(value))
        except RegexError as error:
            raise self.error(str(error), written.at) from error

    # -- modifiers ---------------------------------------------------------------------------------------------------

    def _modified(self, expr: Expr) -> Expr:
        """What stands behind an operand: ranges, ``offset`` and ``@``."""
        at = self._checker.start(expr)
        offset_ns = 0
        while True:
            if self.accept("offset"):
                if offset_ns and when_of(expr) is not None:
                    raise self.error("offset may not be set multiple times", at)
                offset_ns = self._offset()
                expr = self._with_offset(expr, offset_ns, at)
            elif self.accept("@"):
                expr = self._with_time(expr, at)
            elif bracket := self.accept("["):
                expr = self._range(expr, bracket, shifted=bool(offset_ns))
                offset_ns = 0
            else:
                return expr
            self._began(expr, at)

    def _duration(self) -> float:
        """A length of time in brackets, in seconds, as far as it is not experimental."""
        start = self.peek()
        sign = 1.0
        while token := self.accept("-", "+"):
            sign = -sign if token.text == "-" else sign
        if self.stands("("):
            raise self._experimental(start.at)
        token = self.peek()
        if token.kind not in ("number", "duration"):
            self.unexpected("subquery selector", "number or duration")
        seconds = sign * self._seconds(self.take())
        if self.stands("+", "-", "*", "/", "%", "^"):
            raise self._experimental(start.at)
        if abs(seconds) > MAX_SECONDS:
            raise self.error("duration out of range", start.at)
        if seconds <= 0:
            raise self.error("duration must be greater than 0", start.at)
        return seconds

    def _experimental(self, at: int) -> PromQLError:
        return self.error("arithmetic of durations is experimental in Prometheus: not supported", at)

    def _range(self, expr: Expr, bracket: Token, *, shifted: bool) -> Expr:
        range_ms = milliseconds(nanoseconds(self._duration()))
        if self.accept(":"):
            step_ms = None
            if not self.stands("]"):
                if not self.stands("-", "+", "(") and self.peek().kind not in ("number", "duration"):
                    self.unexpected("subquery selector", 'number or duration or "]"')
                # One that is no whole nanosecond is none.
                step_ns = nanoseconds(self._duration())
                step_ms = milliseconds(step_ns) if step_ns else None
            self.expect("]", "subquery selector", '"]"')
            return Subquery(expr, range_ms, step_ms, When())
        self.expect("]", "subquery or range", '":" or "]"')
        if not isinstance(expr, Selector):
            raise self.error("ranges only allowed for vector selectors", bracket.at)
        if shifted:
            raise self.error("no offset modifiers allowed before range", bracket.at)
        if isinstance(expr.when.at, int):
            raise self.error("no @ modifiers allowed before range", bracket.at)
        return Range(expr, range_ms)

    def _offset(self) -> int:
        """The length behind ``offset``, in nanoseconds."""
        start = self.peek()
        signs = 0
        sign = 1.0
        while token := self.accept("-", "+"):
            signs += 1
            sign = -sign if token.text == "-" else sign
        if self.stands("("):
            raise self._experimental(start.at)
        token = self.peek()
        if token.kind not in ("number", "duration"):
            self.unexpected("offset", "number or duration")
        seconds = sign * self._seconds(self.take())
        if signs > 1 and self.stands("+", "-", "*", "/", "%", "^"):
            raise self._experimental(start.at)
        if abs(seconds) > MAX_SECONDS:
            raise self.error("duration out of range", start.at)
        return nanoseconds(seconds)

    def _with_offset(self, expr: Expr, offset_ns: int, at: int) -> Expr:
        when = when_of(expr)
        if when is None:
            what = "an instant vector selector or range vector selector or a subquery"
            raise self.error(f"offset modifier must be preceded by {what}", at)
        return moved(expr, replace(when, offset_ms=milliseconds(offset_ns)))

    def _with_time(self, expr: Expr, at: int) -> Expr:
        border = self.accept("start", "end")
        seconds = 0.0
        if border:
            self.expect("(", "@", "timestamp")
            self.expect(")", "@", "timestamp")
        else:
            sign = self.accept("-", "+")
            token = self.peek()
            if token.kind not in ("number", "duration"):
                self.unexpected("@", "timestamp")
            seconds = self._seconds(self.take()) * (-1 if sign and sign.text == "-" else 1)
            if not abs(seconds) < 2**63:
                raise self.error(f"timestamp out of bounds for @ modifier: {seconds:f}".replace("nan", "NaN"), at)
        when = when_of(expr)
        if when is None:
            what = "an instant vector selector or range vector selector or a subquery"
            raise self.error(f"@ modifier must be preceded by {what}", at)
        if when.at is not None:
            raise self.error("@ <timestamp> may not be set multiple times", at)
        if border:
            return moved(expr, replace(when, at="start" if border.word == "start" else "end"))
        return moved(expr, replace(when, at=rounded(seconds * 1000)))
