"""The words of the notation of series in promtool's unit-test files, one after the other.

They are cut as Prometheus' own lexer cuts them, so that what is refused is refused at the same place in the same words.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from monitor.rules.go_format import quote

NO_HISTOGRAMS = "native histograms are not supported: gpumon evaluates numbers only"

_SPACE = re.compile(r"[ \t\r\n]+")
_SKIPPED = re.compile(r"(?:[ \t\r\n]|#[^\n]*)+")
_WORD = re.compile(r"[A-Za-z_:][A-Za-z0-9_:]*")
_INNER_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OUTER_OPERATOR = re.compile(r"==|!=|>=|<=|=(?!~)|[-+*/%^<>(\[,@]")
_ALPHANUMERIC = re.compile(r"[A-Za-z0-9_]")
_DURATION = re.compile(r"(?:[0-9]+(?:ms|[smhdwy]))+")
_ESCAPED = "abfnrtv\\xuU01234567"

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
_PUNCTUATION = frozenset("()[]{},=_x")


class SeriesError(ValueError):
    """A notation that cannot be read. ``position`` counts characters from 0."""

    def __init__(self, message: str, text: str, position: int, *, first_line: int = 1) -> None:
        before = text[:position]
        line = before.count("\n") + first_line
        column = len(before[before.rfind("\n") + 1 :].encode("utf-8", "surrogatepass")) + 1  # bytes, as Prometheus
        self.position = position
        super().__init__(f"{line}:{column}: parse error: {message}")


@dataclass(frozen=True, slots=True)
class Token:
    kind: str
    """``name``, ``metric`` (a name with a colon), ``number``, ``duration``, ``string``, ``word`` (of the language),
    ``op``, ``space`` or ``end``."""
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
        if self.kind == "op" and self.text not in _PUNCTUATION:
            return f"<op:{self.text}>"
        if self.kind in ("name", "metric"):
            return f"{'metric ' if self.kind == 'metric' else ''}identifier {quote(self.text)}"
        shown = f"{quote(self.text[:10])}..." if len(self.text) > 10 else quote(self.text)
        return f"{self.kind} {shown}" if self.kind in ("number", "string", "duration") else shown


class Lexer:
    """Gives tokens when they are asked for; which ones there are depends on where in a series it is."""

    def __init__(self, text: str, *, values: bool, first_line: int = 1) -> None:
        self.text = text
        self.values = values
        self.first_line = first_line
        self.at = 0
        self.lex: Callable[[], Token] = self.outside
        self.waiting: Token | None = None

    @property
    def next(self) -> Token:
        """The token that was not yet used. Read when it is asked for: of two errors the first one is told."""
        if self.waiting is None:
            self.waiting = self.lex()
        return self.waiting

    def error(self, message: str, position: int | None = None) -> SeriesError:
        at = self.next.at if position is None else position
        return SeriesError(message, self.text, at, first_line=self.first_line)

    def unexpected(self, where: str = "", expected: str = "") -> SeriesError:
        inside = f" in {where}" if where else ""
        wanted = f", expected {expected}" if expected else ""
        return self.error(f"unexpected {self.next}{inside}{wanted}")

    def take(self) -> Token:
        token, self.waiting = self.next, None
        return token

    # -- tokens ------------------------------------------------------------------------------------------------------

    def token(self, kind: str, length: int) -> Token:
        token = Token(kind, self.text[self.at : self.at + length], self.at)
        self.at += length
        return token

    def outside(self) -> Token:
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
            return self.number(outside=True)
        if char in "\"'`":
            return self.string()
        if found := _OUTER_OPERATOR.match(self.text, self.at):
            return self.token("op", len(found[0]))
        if char in "!=":
            raise self.error(f"unexpected character after '{char}': {rune(self.text[self.at + 1 :][:1])}", self.at)
        if char == "]":
            raise self.error("unexpected right bracket ']'", self.at)
        if char == ")":
            raise self.error("unexpected right parenthesis ')'", self.at + 1)
        raise self.error(f"unexpected character: {rune(char)}", self.at)

    def word(self, word: str) -> Token:
        lower = word.lower()
        if lower in ("inf", "nan"):
            return self.token("number", len(word))
        if lower in _KEYWORDS or lower in _OPERATOR_WORDS or lower in _AGGREGATIONS:
            return self.token("word", len(word))
        return self.token("metric" if ":" in word else "name", len(word))

    def braces(self) -> Token:
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
        raise self.error(f"unexpected character inside braces: {rune(char)}", self.at)

    def value_tokens(self) -> Token:
        if self.at >= len(self.text):
            return self.token("end", 0)
        char = self.text[self.at]
        if found := _SPACE.match(self.text, self.at):
            token = Token("space", char, self.at)
            self.at = found.end()
            return token
        if char in "+-x_":
            return self.token("op", 1)
        if char.isascii() and (char.isdigit() or (char == "." and self.text[self.at + 1 : self.at + 2].isdigit())):
            return self.number()
        if char != ":" and (found := _WORD.match(self.text, self.at)):
            return self.word(found[0])
        if self.text.startswith("{{", self.at):
            raise self.error(NO_HISTOGRAMS, self.at)
        raise self.error(f"unexpected character in series sequence: {rune(char)}", self.at)

    def number(self, *, outside: bool = False) -> Token:
        """Also a duration, where it is outside of values; there an x may follow."""
        end, good = self.number_end()
        behind = self.text[end : end + 1]
        if good and (not _ALPHANUMERIC.match(behind) or (self.values and behind == "x")):
            return self.token("number", end - self.at)
        if not outside:
            raise self.error(f"bad number syntax: {quote(self.text[self.at : end])}", self.at)
        if found := _DURATION.match(self.text, self.at):
            end = found.end()
            if not _ALPHANUMERIC.match(self.text[end : end + 1]):
                return self.token("duration", len(found[0]))
            end += 1
        raise self.error(f"bad number or duration syntax: {quote(self.text[self.at : end])}", self.at)

    def number_end(self) -> tuple[int, bool]:
        """How far a number goes, and whether it is a good one: ``_`` may stand between digits, and nothing twice."""
        text, at = self.text, self.at + self.text.startswith(".", self.at)  # a point before all does not count
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

    def string(self) -> Token:
        mark = self.text[self.at]
        end = self.at + 1
        while end < len(self.text) and self.text[end] != mark:
            if mark != "`" and self.text[end] == "\n":
                break
            escaped = self.text[end] == "\\" and mark != "`"
            if escaped and self.text[end + 1 : end + 2] not in _ESCAPED and self.text[end + 1 : end + 2] != mark:
                shown = self.text[end + 1]
                raise self.error(f"unknown escape sequence U+{ord(shown):04X} {rune(shown)}", self.at)
            end += 2 if escaped else 1
        if end >= len(self.text) or self.text[end] != mark:
            raise self.error(f"unterminated {'raw' if mark == '`' else 'quoted'} string", self.at)
        return self.token("string", end + 1 - self.at)


def rune(char: str) -> str:
    """A character as Go's ``%q`` writes it."""
    quoted = quote(char)[1:-1]
    return "'" + {"'": "\\'", '\\"': '"'}.get(quoted, quoted) + "'"
