"""Alertmanager's label matchers: ``severity="critical"``, ``gpu=~"0|1"``, ``server!=""``.

Read as Alertmanager 0.33 reads them: first in the classic syntax, whose values need no quotes, then in the one of
UTF-8, in which a name may be quoted. A regular expression is RE2's, matches the whole value, and its ``.`` no newline.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from monitor.go_regex import RegexError, to_python
from monitor.linear_regex import Pattern, TooMuch, compiled

Op = Literal["=", "!=", "=~", "!~"]

_OPS: tuple[Op, ...] = ("=", "!=", "=~", "!~")
_CLASSIC = re.compile(
    r"[ \t\n\f\r]*([a-zA-Z_:][a-zA-Z0-9_:]*)[ \t\n\f\r]*(=~|=|!=|!~)[ \t\n\f\r]*(.*?)[ \t\n\f\r]*", re.S
)
_RESERVED = frozenset("{}!=~,\\\"'`")
_GO_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\", '"': '"'}
_GO_QUOTED = {value: key for key, value in _GO_ESCAPES.items()}
_HEX_DIGITS = {"x": 2, "u": 4, "U": 8}


class MatcherError(ValueError):
    """A text that is no matcher, with what is wrong. ``position`` is where in the text, from 0, or None."""

    def __init__(self, message: str, position: int | None = None) -> None:
        super().__init__(message)
        self.position = position


@dataclass(frozen=True, slots=True)
class LabelMatcher:
    """What one label has to be. A label that is absent counts as empty. Raises ``MatcherError`` for a bad regular
    expression."""

    name: str
    op: Op
    value: str
    _regex: Pattern | None = field(init=False, repr=False, compare=False, default=None)

    def __post_init__(self) -> None:
        if self.op not in ("=~", "!~"):
            return
        try:
            to_python(self.value)  # alone, so that what it says shows the person's own text
            pattern = compiled(to_python(f"(?-s:{self.value})"))
        except (RegexError, re.error, OverflowError, RecursionError) as error:
            raise MatcherError(f"{self.name}{self.op}: {error}") from None
        object.__setattr__(self, "_regex", pattern)

    @property
    def positive(self) -> bool:
        """Whether it says what the label is, not what it is not."""
        return self.op in ("=", "=~")

    def accepts(self, value: str) -> bool:
        """Whether the label may have this value; "" for an absent one."""
        if self._regex is None:
            return (value == self.value) == (self.op == "=")
        try:
            return self._regex.fits(value) == (self.op == "=~")
        except TooMuch:
            return False  # what cannot be told silences nothing

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether these labels are meant."""
        return self.accepts(labels.get(self.name, ""))

    def sort_key(self) -> tuple[str, str, int]:
        """Alertmanager's order of a route's matchers, which is part of a group's key."""
        return self.name, self.value, _OPS.index(self.op)

    def __str__(self) -> str:
        name = quote(self.name) if any(c in _RESERVED or c.isspace() for c in self.name) else self.name
        value = self.value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
        return f'{name}{self.op}"{value}"'


def all_match(matchers: Iterable[LabelMatcher], labels: Mapping[str, str]) -> bool:
    """Whether every matcher accepts the labels; True for none."""
    return all(matcher.matches(labels) for matcher in matchers)


def format_matchers(matchers: Iterable[LabelMatcher]) -> str:
    """``{a="b",c=~"d"}``, as Alertmanager writes several."""
    return "{" + ",".join(map(str, matchers)) + "}"


def parse_matcher(text: str) -> LabelMatcher:
    """One matcher. Raises ``MatcherError``."""
    try:
        return _classic(text, 0)
    except MatcherError as classic:
        try:
            found = _Utf8(text).read()
        except MatcherError:
            raise classic from None
        if len(found) != 1:
            raise classic from None
        return found[0]


def parse_matchers(text: str) -> tuple[LabelMatcher, ...]:
    """Several matchers with commas between them, in braces or not; none for ``{}``. Raises ``MatcherError``."""
    try:
        return _classic_list(text)
    except MatcherError as classic:
        try:
            return _Utf8(text).read()
        except MatcherError:
            raise classic from None


def quote(text: str) -> str:
    """A text in double quotes, as Go writes it."""
    out = []
    for char in text:
        if char in _GO_QUOTED:
            out.append("\\" + _GO_QUOTED[char])
        elif char.isprintable():
            out.append(char)
        else:
            code = ord(char)
            width, letter = (2, "x") if code < 0x80 else (4, "u") if code < 0x10000 else (8, "U")
            out.append(f"\\{letter}{code:0{width}x}")
    return '"' + "".join(out) + '"'


# -- the classic syntax ----------------------------------------------------------------------------------------------


def _classic_list(text: str) -> tuple[LabelMatcher, ...]:
    start = 1 if text.startswith("{") else 0
    end = len(text) - 1 if text.endswith("}") and len(text) > start else len(text)
    pieces: list[tuple[int, str]] = []
    begin, quoted, escaped = start, False, False
    for at in range(start, end):
        char = text[at]
        if char == "," and not quoted:
            pieces.append((begin, text[begin:at]))
            begin = at + 1
            continue
        if char == '"' and not escaped:
            quoted = not quoted
        escaped = char == "\\" and not escaped
    if text[begin:end].strip():
        pieces.append((begin, text[begin:end]))
    return tuple(_classic(piece, at) for at, piece in pieces)


def _classic(text: str, offset: int) -> LabelMatcher:
    found = _CLASSIC.fullmatch(text)
    if found is None:
        said = f'"{text.strip()}" is no matcher' if text.strip() else "a matcher is missing"
        raise MatcherError(f'{said}: write LABEL="VALUE", or with !=, =~ or !~ for =', offset)
    name, op, raw = found[1], found[2], found[3]
    quoted = raw.startswith('"')
    value = _unescape(raw[1:] if quoted else raw, quoted, offset + found.start(3) + quoted)
    return _matcher(name, op, value, offset + found.start(3))


def _unescape(raw: str, quoted: bool, offset: int) -> str:
    """The value behind its first quote, if it has one. Only ``\\n``, ``\\"`` and ``\\\\`` are escapes here."""
    out: list[str] = []
    escaped = False
    for at, char in enumerate(raw):
        last = at == len(raw) - 1
        if escaped:
            escaped = False
            out.append({"n": "\n", '"': '"', "\\": "\\"}.get(char, "\\" + char))
        elif char == "\\" and not last:
            escaped = True
        elif char == '"':
            if not (quoted and last):
                raise MatcherError(f"a double quote in the value needs a \\ before it: {raw}", offset + at)
            return "".join(out)
        else:
            out.append(char)
    if quoted:
        raise MatcherError(f'the value has no closing double quote: "{raw}', offset - 1)
    return "".join(out)


# -- the syntax of UTF-8 ---------------------------------------------------------------------------------------------


class _Utf8:
    """``{"a b"="c", d=~e}``: names and values bare or quoted, the braces not needed."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def read(self) -> tuple[LabelMatcher, ...]:
        self._space()
        braces = self._take("{")
        out: list[LabelMatcher] = []
        while not self._ended(braces):
            name, _ = self._word("a label's name")
            op = next((one for one in ("=~", "!~", "!=", "=") if self._take(one)), None)
            if op is None:
                raise MatcherError(f"expected =, !=, =~ or !~ after {name}", self.at)
            value, place = self._word("a value")
            if not name:
                raise MatcherError("a label's name is empty", place)
            out.append(_matcher(name, op, value, place))
            if not self._take(","):
                if not self._ended(braces):
                    raise MatcherError("expected a comma", self.at)
                break
        if braces and not self._take("}"):
            raise MatcherError("the closing } is missing", self.at)
        if self.at < len(self.text):
            raise MatcherError("expected nothing more", self.at)
        return tuple(out)

    def _ended(self, braces: bool) -> bool:
        return self.at >= len(self.text) or (braces and self.text[self.at] == "}")

    def _space(self) -> None:
        while self.at < len(self.text) and self.text[self.at].isspace():
            self.at += 1

    def _take(self, word: str) -> bool:
        if not self.text.startswith(word, self.at):
            return False
        self.at += len(word)
        self._space()
        return True

    def _word(self, what: str) -> tuple[str, int]:
        start = self.at
        if self.text.startswith('"', start):
            self.at += 1
            word = self._quoted(start)
        else:
            while self.at < len(self.text) and not self._reserved(self.text[self.at]):
                self.at += 1
            word = self.text[start : self.at]
            if not word:
                raise MatcherError(f"expected {what}", start)
        self._space()
        return word, start

    def _reserved(self, char: str) -> bool:
        return char in _RESERVED or char.isspace()

    def _quoted(self, start: int) -> str:
        out: list[str] = []
        while self.at < len(self.text):
            char = self.text[self.at]
            self.at += 1
            if char == '"':
                return "".join(out)
            if char == "\n":
                break
            out.append(self._escape(start) if char == "\\" else char)
        raise MatcherError("the closing double quote is missing", start)

    def _escape(self, start: int) -> str:
        letter = self.text[self.at : self.at + 1]
        self.at += 1
        if letter in _GO_ESCAPES:
            return _GO_ESCAPES[letter]
        digits = self.text[self.at : self.at + _HEX_DIGITS.get(letter, 0)]
        if letter and letter in _HEX_DIGITS and re.fullmatch(rf"[0-9a-fA-F]{{{_HEX_DIGITS[letter]}}}", digits):
            code = int(digits, 16)
            self.at += len(digits)
            if code < 0x80 or (letter != "x" and code <= 0x10FFFF and not 0xD800 <= code < 0xE000):
                return chr(code)
        raise MatcherError(f"\\{letter} is no escape here", start)


def _matcher(name: str, op: str, value: str, position: int) -> LabelMatcher:
    kind: Op = next(one for one in _OPS if one == op)
    try:
        return LabelMatcher(name, kind, value)
    except MatcherError as error:
        raise MatcherError(str(error), position) from None
