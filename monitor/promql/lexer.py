"""From the text of a query to its tokens, as Prometheus cuts it: with its states, its literals and its messages.

What stands in brackets is read by rules of its own, words are keywords only where it says so, and the first character
that fits nowhere ends the tokens with an error, which is raised when (and only if) the parser gets there.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Literal, TypeAlias

from monitor.promql.errors import PromQLError
from monitor.promql.literals import is_alphanumeric, scan_number
from monitor.promql.signatures import AGGREGATIONS

MAX_BYTES = 4096
MAX_DEPTH = 150
"""Brackets that are open at once and operators, together: so deep can a tree become."""

Kind: TypeAlias = Literal[
    "identifier", "metric", "number", "duration", "string", "keyword", "aggregation", "op", "end", "error"
]

KEYWORDS = frozenset(("offset", "by", "without", "on", "ignoring", "group_left", "group_right", "bool", "start", "end"))
WORD_OPERATORS = frozenset(("and", "or", "unless", "atan2"))
_AGGREGATIONS = frozenset((*AGGREGATIONS, "limitk", "limit_ratio"))
_NUMBERS = frozenset(("inf", "nan"))


_COMPARED = frozenset(("keyword", "aggregation", "op"))
_SPACE = re.compile(r"[ \t\r\n]+")
_WORD = re.compile(r"[A-Za-z_:][A-Za-z0-9_:]*")
_INNER_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_BLANK = re.compile(r"[ \t\r\n]+|#[^\r\n]*")
_OPERATORS = re.compile(r"==|!=|<=|>=|[-+*/%^<>=(),@]")
_MATCH_OPERATORS = re.compile(r"=~|!~|!=|=|,")
_REST_OF_DURATION = re.compile(r"[smhdwy]s?(?:[0-9]+[smhdw]s?)*")


class Token:
    """A token: what it is, its text, and the offset of its first character. Never changed once made."""

    __slots__ = ("at", "kind", "text", "word")

    def __init__(self, kind: Kind, text: str, at: int) -> None:
        self.kind = kind
        self.text = text
        self.at = at
        self.word = text.lower() if kind in _COMPARED else ""
        """Its text, as keywords, aggregations and operators are compared: they are the same in capitals."""

    def described(self) -> str:
        """How Prometheus names it in an error."""
        shown = _quoted(self.text)
        match self.kind:
            case "end":
                return "end of input"
            case "keyword":
                return f"<{self.text}>"
            case "aggregation":
                return f"<aggr:{self.text}>"
            case "op" if self.text.lower() in WORD_OPERATORS or self.text not in (
                "(",
                ")",
                "{",
                "}",
                "[",
                "]",
                ",",
                "@",
                ":",
                "=",
            ):
                return f"<op:{self.text}>"
            case "identifier":
                return f"identifier {shown}"
            case "metric":
                return f"metric identifier {shown}"
        if len(self.text) > 10:
            shown = _quoted(self.text[:10]) + "..."
        return shown if self.kind == "op" else f"{self.kind} {shown}"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t") + '"'


def tokens_of(text: str) -> list[Token]:
    """Cut a query into tokens; the last is an end or an error.

    Raises ``PromQLError`` for a query that is too long, or could be nested too deep, for it to be read at all.
    """
    if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise PromQLError(f"the query is longer than {MAX_BYTES} bytes")
    found = _Lexer(text).run()
    _check_depth(found, text)
    return found


def _check_depth(tokens: list[Token], text: str) -> None:
    opened = deepest = operators = 0
    in_braces = False
    for token in tokens:
        if token.kind != "op":
            continue
        if token.text in ("{", "}"):
            in_braces = token.text == "{"
        elif token.text in ("(", "["):
            opened += 1
            deepest = max(deepest, opened)
        elif token.text in (")", "]"):
            opened -= 1
        elif not in_braces and token.text not in (",", "@", ":"):
            operators += 1
        if deepest + operators > MAX_DEPTH:
            raise PromQLError(
                f"the query has more than {MAX_DEPTH} operators and levels of nesting", token.at, text=text
            )


class _Bad(Exception):
    """The text cannot be cut any further."""

    def __init__(self, message: str, at: int) -> None:
        super().__init__(message)
        self.at = at


class _Lexer:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.tokens: list[Token] = []
        self.parens: list[int] = []
        self.bracket: int | None = None
        """Where the bracket is that is open. There is never a second one."""
        self.got_colon = self.got_duration = False
        self.state: Callable[[], None] = self._statement

    def run(self) -> list[Token]:
        try:
            while self.at < len(self.text):
                self.state()
            if self.state == self._braces:
                raise _Bad("unexpected end of input inside braces", self.at)
            if self.parens:
                raise _Bad("unclosed left parenthesis", self.parens[-1])
            if self.bracket is not None:
                raise _Bad("unclosed left bracket", self.bracket)
            self.tokens.append(Token("end", "", self.at))
        except _Bad as bad:
            self.tokens.append(Token("error", str(bad), bad.at))
        finally:
            del self.state  # which refers to this lexer: those of a start's rules would never be let go
        return self.tokens

    def _emit(self, kind: Kind, text: str) -> None:
        self.tokens.append(Token(kind, text, self.at))
        self.at += len(text)

    def _peek(self, ahead: int = 0) -> str:
        return self.text[self.at + ahead : self.at + ahead + 1]

    def _skip(self) -> bool:
        """Go over white space or a comment; False where there is neither."""
        found = _BLANK.match(self.text, self.at) if self.text[self.at] in " \t\r\n#" else None
        if found:
            self.at = found.end()
        return bool(found)

    def _statement(self) -> None:
        """Outside of braces; in brackets, too, behind the first number."""
        if self._skip():
            return
        char = self.text[self.at]
        if char.isascii() and (char.isalpha() or char in "_:"):
            self._word()
        elif _is_number(self.text, self.at):
            self._number()
        elif char in "\"'`":
            self._string()
        elif char in "()":
            self._parenthesis(char)
        elif char == "{":
            self._emit("op", char)
            self.state = self._braces
        elif char == "[":
            self._open_bracket()
        elif char == "]":
            if self.bracket is None:
                raise _Bad("unexpected right bracket ']'", self.at)
            self._close_bracket()
        elif found := _OPERATORS.match(self.text, self.at):
            if char == "=" and self._peek(1) == "~":
                raise _Bad("unexpected character after '=': '~'", self.at)
            self._emit("op", found[0])
        elif char == "!":
            raise _Bad(f"unexpected character after '!': {_rune(self._peek(1))}", self.at)
        else:
            raise _Bad(f"unexpected character: {_rune(char)}", self.at)

    def _word(self) -> None:
        if self.bracket is not None:
            # Whatever letter stands here is taken for the colon of a subquery.
            if self.got_colon:
                raise _Bad(f"unexpected colon {_rune(self.text[self.at])}", self.at)
            self.got_colon = True
            self.tokens.append(Token("op", ":", self.at))
            self.at += 1
            return
        found = _WORD.match(self.text, self.at)
        assert found is not None  # noqa: S101 # its first character was looked at
        word = found[0]
        self._emit(_kind_of(word), word)

    def _parenthesis(self, char: str) -> None:
        if char == "(":
            self.parens.append(self.at)
        elif not self.parens:
            raise _Bad("unexpected right parenthesis ')'", self.at)
        else:
            self.parens.pop()
        self._emit("op", char)

    def _open_bracket(self) -> None:
        if self.bracket is not None:
            raise _Bad("unexpected left bracket '['", self.at)
        self.bracket = self.at
        self.got_colon = self.got_duration = False
        self._emit("op", "[")
        self.state = self._brackets

    def _close_bracket(self) -> None:
        self.bracket = None
        self._emit("op", "]")
        self.state = self._statement

    def _brackets(self) -> None:
        """Behind a left bracket, as far as the first number."""
        if found := _SPACE.match(self.text, self.at):
            self.at = found.end()
            return
        char = self.text[self.at]
        if char == "]":
            self._close_bracket()
        elif char == ":":
            if not self.got_duration:
                raise _Bad("unexpected colon before duration in duration expression", self.at)
            self.got_colon = True
            self._emit("op", char)
        elif char in "()":
            self._parenthesis(char)
        elif char in "+-*/%^":
            self._emit("op", char)
        elif _is_number(self.text, self.at):
            self.got_duration = True
            self.state = self._statement
            self._number()
        else:
            raise _Bad(f"unexpected character in duration expression: {_rune(char)}", self.at)

    def _braces(self) -> None:
        if self._skip():
            return
        char = self.text[self.at]
        if found := _INNER_WORD.match(self.text, self.at):
            self._emit("identifier", found[0])
        elif char in "\"'`":
            self._string()
        elif found := _MATCH_OPERATORS.match(self.text, self.at):
            self._emit("op", found[0])
        elif char == "}":
            self._emit("op", char)
            self.state = self._statement
        elif char == "!":
            raise _Bad(f"unexpected character after '!' inside braces: {_rune(self._peek(1))}", self.at)
        elif char == "{":
            raise _Bad("unexpected left brace '{'", self.at)
        else:
            raise _Bad(f"unexpected character inside braces: {_rune(char)}", self.at)

    def _number(self) -> None:
        end, is_number = scan_number(self.text, self.at)
        if is_number:
            self._emit("number", self.text[self.at : end])
            return
        found = _REST_OF_DURATION.match(self.text, end)
        if found is None or is_alphanumeric(self.text[found.end() : found.end() + 1]):
            end = found.end() + 1 if found else end
            raise _Bad(f"bad number or duration syntax: {_quoted(self.text[self.at : end])}", self.at)
        self._emit("duration", self.text[self.at : found.end()])

    def _string(self) -> None:
        quote = self.text[self.at]
        if quote == "`":
            end = self.text.find("`", self.at + 1)
            inside = self.text[self.at + 1 : end if end >= 0 else len(self.text)]
            if "\ufffd" in inside:
                raise _Bad("invalid UTF-8 rune", self.at)
            if end < 0:
                raise _Bad("unterminated raw string", self.at)
            self._emit("string", self.text[self.at : end + 1])
            return
        end = self.at + 1
        while (char := self.text[end : end + 1]) != quote:
            if char in ("", "\n"):
                raise _Bad("unterminated quoted string", self.at)
            if char == "\ufffd" or "\ud800" <= char <= "\udfff":
                raise _Bad("invalid UTF-8 rune", self.at)
            end += self._escape(end, quote) if char == "\\" else 1
        self._emit("string", self.text[self.at : end + 1])

    def _escape(self, at: int, quote: str) -> int:
        """The length of the escape sequence at this place."""
        char = self.text[at + 1 : at + 2]
        if char and char in "abfnrtv\\" + quote:
            return 2
        digits, base, most = {"x": (2, 16, 255), "u": (4, 16, 0x10FFFF), "U": (8, 16, 0x10FFFF)}.get(char, (3, 8, 255))
        if not char:
            raise _Bad("escape sequence not terminated", self.at)
        if base == 8 and char not in "01234567":
            raise _Bad(f"unknown escape sequence U+{ord(char):04X} '{char}'", self.at)
        start = at + 1 if base == 8 else at + 2
        word = self.text[start : start + digits]
        wrong = next((c for c in word if c not in "0123456789abcdefABCDEF"[: 8 if base == 8 else None]), None)
        if wrong is not None:
            raise _Bad(f"illegal character U+{ord(wrong):04X} '{wrong}' in escape sequence", self.at)
        if len(word) < digits:
            raise _Bad("escape sequence not terminated", self.at)
        code = int(word, base)
        if code > most or 0xD800 <= code < 0xE000:
            raise _Bad("escape sequence is an invalid Unicode code point", self.at)
        return start + digits - at


def _kind_of(word: str) -> Kind:
    small = word.lower()
    if small in KEYWORDS:
        return "keyword"
    if small in WORD_OPERATORS:
        return "op"
    if small in _AGGREGATIONS:
        return "aggregation"
    if small in _NUMBERS:
        return "number"
    return "metric" if ":" in word else "identifier"


def _rune(char: str) -> str:
    """A character as Go's ``%q`` shows it; -1 is the end of the text."""
    if not char:
        return "'\\ufffd'"
    return {"'": "'\\''", "\\": "'\\\\'", "\n": "'\\n'", "\t": "'\\t'"}.get(char, f"'{char}'")


def _is_number(text: str, at: int) -> bool:
    char = text[at]
    if char == ".":
        char = text[at + 1 : at + 2] or "."
    return char in "0123456789"
