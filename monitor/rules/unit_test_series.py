"""The notation of series in promtool's unit-test files: ``up{job="a"}`` and ``1+1x5 _x3 stale -Inf``.

Read as Prometheus reads it, and refused in its words. Native histograms are refused, as gpumon has none.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from monitor.rules.go_format import quote
from monitor.rules.unit_test_tokens import NO_HISTOGRAMS, Lexer, SeriesError, Token, rune
from monitor.samples import NAME, STALE, Labels

MOST_SAMPLES = 1_000_000
"""No series of a test file may have more samples: promtool would take them, and never end."""

_ESCAPE = re.compile(
    r"\\(?:([abfnrtv\\'\"])|x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{3})|(.?))", re.S
)
_SINGLE = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_NO_NAMES = frozenset(("on", "ignoring", "group_left", "group_right", "bool", "atan2"))
"""Words of the language that cannot be a metric's name."""


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


class _Reader(Lexer):
    """Reads the tokens by the grammar."""

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
                raise self.unexpected("label set", '"="' if key.kind == "name" else '"," or "}"')
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

    def unquoted(self, token: Token) -> str:
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
                shown = f"U+{ord(other):04X} {rune(other)}" if other else "U+0000"
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

    def float(self, token: Token) -> float:
        """The value of a number: whole ones may be octal, as Go reads them."""
        if token.text[0] not in "0123456789.":
            return math.inf if token.text.lower() == "inf" else math.nan
        if re.fullmatch("0(?:_?[0-7])+", token.text):
            return float(int(token.text.replace("_", ""), 8))
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


__all__ = ["MOST_SAMPLES", "NO_HISTOGRAMS", "SeriesError", "parse_metric", "parse_series"]
