"""The notation of series in promtool's unit-test files: ``up{job="a"}`` and ``1+1x5 _x3 stale -Inf``.

Read as Prometheus reads it, and refused in its words. Native histograms are refused, as gpumon has none.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from monitor.rules.go_format import quote
from monitor.samples import NAME, STALE, Labels

MOST_SAMPLES = 1_000_000
"""No series of a test file may have more samples: promtool would take them, and never end."""

NO_HISTOGRAMS = "native histograms are not supported: gpumon evaluates numbers only"

_SPACE = re.compile(r"[ \t\r\n]+")
_SKIPPED = re.compile(r"(?:[ \t\r\n]|#[^\n]*)+")
_WORD = re.compile(r"[A-Za-z_:][A-Za-z0-9_:]*")
_INNER_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ESCAPE = re.compile(
    r"\\(?:([abfnrtv\\'\"])|x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{3})|(.?))", re.S
)
_SINGLE = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}

_KEYWORDS = frozenset(
    ("offset", "by", "without", "on", "ignoring", "group_left", "group_right", "bool", "start", "end")
)
_OPERATOR_WORDS = frozenset(("and", "or", "unless", "atan2"))
_AGGREGATIONS = frozenset(
    (
        *("avg", "bottomk", "count", "count_values", "group", "limit_ratio", "limitk", "max", "min", "quantile"),
        *("stddev", "stdvar", "sum", "topk"),
    )
)
_NO_NAMES = frozenset(("on", "ignoring", "group_left", "group_right", "bool", "atan2"))
"""Words of the language that cannot be a metric's name."""


class SeriesError(ValueError):
    """A notation that cannot be read. ``position`` counts characters from 0."""

    def __init__(self, message: str, text: str, position: int, *, first_line: int = 1) -> None:
        before = text[:position]
        line = before.count("\n") + first_line
        column = position - (before.rfind("\n") + 1) + 1
        self.position = position
        super().__init__(f"{line}:{column}: parse error: {message}")


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    """``name``, ``metric`` (a name with a colon), ``number``, ``string``, ``word`` (of the language), ``op``, ``space``
    or ``end``."""
    text: str
    at: int

    def __str__(self) -> str:
        """As Prometheus names it in an error."""
        lower = self.text.lower()
        if self.kind == "end":
            return "end of input"
        if self.kind == "word":
            if lower in _AGGREGATIONS:
                return f"<aggr:{self.text}>"
            return f"<op:{self.text}>" if lower in _OPERATOR_WORDS else f"<{self.text}>"
        if self.kind == "op" and self.text in ("+", "-", "!=", "=~", "!~"):
            return f"<op:{self.text}>"
        if self.kind in ("name", "metric"):
            return f"{'metric ' if self.kind == 'metric' else ''}identifier {quote(self.text)}"
        shown = f"{quote(self.text[:10])}..." if len(self.text) > 10 else quote(self.text)
        return f"{self.kind} {shown}" if self.kind in ("number", "string") else shown


def parse_metric(text: str) -> Labels:
    """The labels of ``name{label="value"}``, sorted; unlike a store's they may hold an empty value. Raises
    ``SeriesError``."""
    reader = _Reader(text, values=False)
    labels = reader.metric()
    if reader.next.kind != "end":
        raise reader.unexpected()
    return labels


def parse_series(text: str, *, line: int = 1) -> tuple[Labels, list[float | None]]:
    """The labels and the values of ``name{label="value"} 1+1x3 _ stale``: None where there is no sample.

    ``line`` is the number that errors give to the text's first line. Raises ``SeriesError``.
    """
    reader = _Reader(text, values=True, first_line=line)
    labels = reader.metric()
    return labels, reader.sequence()


class _Reader:
    """Lexer and parser in one: ``next`` is the token that was not yet used."""

    def __init__(self, text: str, *, values: bool, first_line: int = 1) -> None:
        self.text = text
        self.values = values
        self.first_line = first_line
        self.at = 0
        self.lex: Callable[[], _Token] = self.outside
        self.next = self.lex()

    def error(self, message: str, position: int | None = None) -> SeriesError:
        at = self.next.at if position is None else position
        return SeriesError(message, self.text, at, first_line=self.first_line)

    def unexpected(self, where: str = "", expected: str = "") -> SeriesError:
        inside = f" in {where}" if where else ""
        wanted = f", expected {expected}" if expected else ""
        return self.error(f"unexpected {self.next}{inside}{wanted}")

    def take(self) -> _Token:
        token = self.next
        self.next = self.lex()
        return token

    # -- tokens ------------------------------------------------------------------------------------------------------

    def token(self, kind: str, length: int) -> _Token:
        token = _Token(kind, self.text[self.at : self.at + length], self.at)
        self.at += length
        return token

    def outside(self) -> _Token:
        """Before and behind the braces of a metric."""
        if skipped := _SKIPPED.match(self.text, self.at):
            self.at = skipped.end()
        if self.at >= len(self.text):
            return self.token("end", 0)
        char = self.text[self.at]
        if found := _WORD.match(self.text, self.at):
            token = self.word(found[0])
            if self.values and not self.text.startswith("{", self.at):
                self.lex = self.value_tokens
            return token
        if char == "{":
            self.lex = self.braces
            return self.token("op", 1)
        if char.isascii() and (char.isdigit() or (char == "." and self.text[self.at + 1 : self.at + 2].isdigit())):
            return self.number()
        if char in "\"'`":
            return self.string()
        if char in "+-*/%^=<>()[],@":
            return self.token("op", 1)
        raise self.error(f"unexpected character: {_rune(char)}", self.at)

    def word(self, word: str) -> _Token:
        lower = word.lower()
        if lower in ("inf", "nan"):
            return self.token("number", len(word))
        if lower in _KEYWORDS or lower in _OPERATOR_WORDS or lower in _AGGREGATIONS:
            return self.token("word", len(word))
        return self.token("metric" if ":" in word else "name", len(word))

    def braces(self) -> _Token:
        if skipped := _SKIPPED.match(self.text, self.at):
            self.at = skipped.end()
        if self.at >= len(self.text):
            raise self.error("unexpected end of input inside braces", self.at)
        char = self.text[self.at]
        if found := _INNER_WORD.match(self.text, self.at):
            return self.token("name", len(found[0]))
        if char in "\"'`":
            return self.string()
        if self.text[self.at : self.at + 2] in ("!=", "=~", "!~"):
            return self.token("op", 2)
        if char in ",=":
            return self.token("op", 1)
        if char == "}":
            self.lex = self.value_tokens if self.values else self.outside
            return self.token("op", 1)
        if char == "{":
            raise self.error("unexpected left brace '{'", self.at)
        raise self.error(f"unexpected character inside braces: {_rune(char)}", self.at)

    def value_tokens(self) -> _Token:
        if self.at >= len(self.text):
            return self.token("end", 0)
        char = self.text[self.at]
        if found := _SPACE.match(self.text, self.at):
            token = _Token("space", " ", self.at)
            self.at = found.end()
            return token
        if char in "+-x_":
            return self.token("op", 1)
        if char.isascii() and (char.isdigit() or (char == "." and self.text[self.at + 1 : self.at + 2].isdigit())):
            return self.number()
        if found := _WORD.match(self.text, self.at):
            return self.word(found[0])
        if self.text.startswith("{{", self.at):
            raise self.error(NO_HISTOGRAMS, self.at)
        raise self.error(f"unexpected character in series sequence: {_rune(char)}", self.at)

    def number(self) -> _Token:
        end, good = self.number_end()
        behind = self.text[end : end + 1]
        if good and not (_WORD.match(behind) and not (self.values and behind == "x")):
            return self.token("number", end - self.at)
        what = "number" if self.values else "number or duration"
        raise self.error(f"bad {what} syntax: {quote(self.text[self.at : end])}", self.at)

    def number_end(self) -> tuple[int, bool]:
        """How far a number goes, and whether it is a good one: ``_`` may stand between digits, and nothing twice."""
        text, at = self.text, self.at
        seen = ""
        while at < len(text) and text[at] in "0123456789._eE":
            char = text[at].lower()
            at += 1
            if char in ".e":
                if char in seen:
                    return at, False
                seen += char
            if char == "e" and text[at : at + 1] in ("+", "-"):
                at += 1
            if char in "._e" and text[at : at + 1] in (("_", ".") if char == "." else (".", "_", "e", "E")):
                return at + 1, False
            if char in "_e" and at >= len(text):
                return at, False
        return at, True

    def string(self) -> _Token:
        mark = self.text[self.at]
        end = self.at + 1
        while end < len(self.text) and self.text[end] != mark:
            if mark != "`" and self.text[end] == "\n":
                break
            end += 2 if self.text[end] == "\\" and mark != "`" else 1
        if end >= len(self.text) or self.text[end] != mark:
            raise self.error(f"unterminated {'raw' if mark == '`' else 'quoted'} string", self.at)
        return self.token("string", end + 1 - self.at)

    # -- a metric ----------------------------------------------------------------------------------------------------

    def metric(self) -> Labels:
        where = "series values" if self.values else ""
        name = ""
        lower = self.next.text.lower()
        if self.next.kind in ("name", "metric") or (self.next.kind == "word" and lower not in _NO_NAMES):
            name = self.take().text
        elif not self.is_op("{") and (self.values or self.next.kind != "end"):
            raise self.unexpected(where)
        pairs: list[tuple[str, str]] = []
        if self.is_op("{"):
            self.take()
            pairs = self.pairs()
        if name:  # a name before the braces wins, and then empty values are left out
            pairs = [(key, value) for key, value in pairs if key != NAME and value] + [(NAME, name)]
        return tuple(sorted(pairs))

    def pairs(self) -> list[tuple[str, str]]:
        out: list[tuple[str, str]] = []
        while not self.is_op("}"):
            if self.next.kind not in ("name", "string"):
                raise self.unexpected("label set", 'identifier or "}"')
            key = self.take()
            name = self.unquoted(key) if key.kind == "string" else key.text
            if key.kind == "string" and (self.is_op(",") or self.is_op("}")):
                out.append((NAME, name))
            elif not self.is_op("="):
                raise self.unexpected("label set", '"="')
            else:
                self.take()
                if self.next.kind != "string":
                    raise self.unexpected("label set", "string")
                out.append((name, self.unquoted(self.take())))
            if self.is_op(","):
                self.take()
            elif not self.is_op("}"):
                raise self.unexpected("label set", '"," or "}"')
        self.take()
        return out

    def is_op(self, text: str) -> bool:
        return self.next.kind == "op" and self.next.text == text

    def unquoted(self, token: _Token) -> str:
        inside = token.text[1:-1]
        if token.text[0] == "`":
            return inside

        def escape(found: re.Match[str]) -> str:
            single, *codes, octal, other = found.groups()
            if single:
                return _SINGLE.get(single, single)
            if octal:
                return chr(int(octal, 8))
            if other is not None:
                shown = f"U+{ord(other):04X} {_rune(other)}" if other else "U+0000"
                raise self.error(f"unknown escape sequence {shown}", token.at)
            return chr(int(next(code for code in codes if code), 16))

        return _ESCAPE.sub(escape, inside)

    # -- values ------------------------------------------------------------------------------------------------------

    def sequence(self) -> list[float | None]:
        out: list[float | None] = []
        if self.next.kind not in ("space", "end"):
            raise self.unexpected("series values")
        while self.next.kind == "space":
            self.take()
            if self.next.kind != "end":
                out += self.item(MOST_SAMPLES - len(out))
        if self.next.kind != "end":
            raise self.unexpected()
        return out

    def item(self, room: int) -> Sequence[float | None]:
        """One word of the values: a gap, a value, or a run of either."""
        if self.is_op("_"):
            self.take()
            return [None] * (self.times(room) if self.is_op("x") else 1)
        first = self.value()
        if self.is_op("x"):
            return [first] * (self.times(room) + 1)
        if not (self.is_op("+") or self.is_op("-")):
            return [first]
        step = self.signed()
        if not self.is_op("x"):
            raise self.unexpected("series values")
        out = []
        for _ in range(self.times(room) + 1):
            out.append(first)
            first += step  # added up, and not multiplied: rounding is Prometheus', too
        return out

    def value(self) -> float:
        if self.next.kind == "name":
            if self.next.text != "stale":
                raise self.unexpected("series values", 'number or "stale"')
            self.take()
            return STALE
        if self.next.kind == "number":
            return self.float(self.take())
        if self.is_op("+") or self.is_op("-"):
            return self.signed()
        raise self.unexpected()

    def signed(self) -> float:
        sign = -1.0 if self.take().text == "-" else 1.0
        if self.next.kind != "number":
            raise self.unexpected("series values")
        return sign * self.float(self.take())

    def times(self, room: int) -> int:
        self.take()
        if self.next.kind != "number":
            raise self.unexpected("series values")
        word = self.next.text
        if not (word.isascii() and word.isdigit()):
            raise self.error(
                f"invalid repetition in series values: strconv.ParseUint: parsing {quote(word)}: invalid syntax"
            )
        if len(word) > 7 or int(word) + 1 > room:
            raise self.error(f"a series has at most {MOST_SAMPLES:,} values here")
        self.take()
        return int(word)

    def float(self, token: _Token) -> float:
        """The value of a number: whole ones may be octal, as Go reads them."""
        if token.text[0] not in "0123456789.":
            return math.inf if token.text.lower() == "inf" else math.nan
        word = token.text.replace("_", "")
        if re.fullmatch("0[0-7]+", word):
            return float(int(word, 8))
        problem = "value out of range"
        value = math.inf
        try:
            value = float(token.text)  # Python, too, wants a digit on each side of _
        except ValueError:
            problem = "invalid syntax"
        if math.isinf(value):
            shown = quote(token.text)
            raise self.error(f"error parsing number: strconv.ParseFloat: parsing {shown}: {problem}", token.at)
        return value


def _rune(char: str) -> str:
    """A character as Go's ``%q`` writes it."""
    quoted = quote(char)[1:-1]
    return "'" + {"'": "\\'", '\\"': '"'}.get(quoted, quoted) + "'"


__all__ = ["MOST_SAMPLES", "NO_HISTOGRAMS", "SeriesError", "parse_metric", "parse_series"]
