"""Numbers, durations and strings of a query, as Go reads them."""

from __future__ import annotations

import math
import re

from monitor.promql.errors import PromQLError

_MILLISECONDS = {
    "y": 31_536_000_000,
    "w": 604_800_000,
    "d": 86_400_000,
    "h": 3_600_000,
    "m": 60_000,
    "s": 1000,
    "ms": 1,
}
MAX_SECONDS = 2**63 / 1e9
"""Prometheus keeps durations as nanoseconds in 64 bits: 292 years."""
_DURATION = re.compile(r"(\d+)([a-z]+)", re.ASCII)


def is_alphanumeric(char: str) -> bool:
    """Whether a character is one that a name or a number goes on with."""
    return bool(char) and char.isascii() and (char.isalnum() or char == "_")


def scan_number(text: str, at: int) -> tuple[int, bool]:
    """How far a number goes from here, and whether it is one as far as the tokens are concerned.

    ``number`` may still refuse it. Underscores part digits, dots and exponents come once, and a letter may not follow.
    """
    digits = "0123456789"
    end = at
    if text[end : end + 2].lower() == "0x":
        digits = "0123456789abcdefABCDEF"
        end += 3 if text[end + 2 : end + 3] == "_" else 2
    elif text[end] == "0":
        end += 1
    end += text[end : end + 1] == "."
    end += text[end : end + 1] != "" and text[end : end + 1] in digits
    seen: set[str] = set()
    while (char := text[end : end + 1]) and char in f"{digits}._eE":
        what = "e" if char in "eE" else char
        following = text[end + 1 : end + 2]
        if what in seen and what in ".e":
            return end + 1, False
        if what == ".":
            if following in ("_", ".") or len(digits) > 10:
                return end + 1, False
        elif what == "e":
            end += following != "" and following in "+-"
            following = text[end + 1 : end + 2]
            if following == "" or following in "._eE":
                return end + 1, False
        elif what == "_":
            if following == "" or following in "._eE":
                return end + 1, False
        else:
            while text[end + 1 : end + 2] and text[end + 1] in digits:
                end += 1
        seen.add(what)
        end += 1
    return end, not is_alphanumeric(text[end : end + 1])


def number(word: str, at: int, text: str) -> float:
    """A number as Go reads it: ``1e3``, ``0x1F``, ``017`` (octal), ``1_000``, ``inf``. Raises ``PromQLError``."""
    try:
        if re.fullmatch(r"0[xX](_?[0-9A-Fa-f])+", word):
            value = int(word, 16)
            if value >= 2**63:
                raise ValueError(word)
            return float(value)
        if re.fullmatch(r"0(_?[0-7])+", word) and (octal := int(word.replace("_", ""), 8)) < 2**63:
            return float(octal)
        if re.search(r"(?<![0-9])_|_(?![0-9])", word):
            raise ValueError(word)
        value_of = float(word)
    except ValueError as error:
        raise PromQLError(
            f'error parsing number: strconv.ParseFloat: parsing "{word}": invalid syntax', at, text=text
        ) from error
    if value_of == float("inf") and word.lower() != "inf":
        raise PromQLError(
            f'error parsing number: strconv.ParseFloat: parsing "{word}": value out of range', at, text=text
        )
    return value_of


def duration_seconds(word: str, at: int, text: str) -> float:
    """The length of ``1h30m`` in seconds. The units must come in the order of their size, each once. Raises
    ``PromQLError``."""
    seconds = end = 0.0
    units = list(_MILLISECONDS)
    for part in _DURATION.finditer(word):
        if part.start() != end or part[2] not in units:
            break
        units = units[units.index(part[2]) + 1 :]
        seconds += int(part[1]) * _MILLISECONDS[part[2]] / 1000
        end = part.end()
    if end != len(word) or not word:
        unknown = re.fullmatch(r"\d+(\D+).*", word, re.ASCII)
        if unknown and unknown[1] not in _MILLISECONDS:
            raise PromQLError(f'unknown unit "{unknown[1]}" in duration "{word}"', at, text=text)
        raise PromQLError(f'not a valid duration string: "{word}"', at, text=text)
    if seconds >= MAX_SECONDS:
        raise PromQLError("duration out of range", at, text=text)
    return seconds


_ESCAPE = re.compile(
    rb"\\(?:([abfnrtv\\\"'])|x([0-9A-Fa-f]{2})|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|([0-7]{3}))?", re.DOTALL
)
_PLAIN_ESCAPES = dict(zip(b"abfnrtv\\\"'", b"\a\b\f\n\r\t\v\\\"'", strict=True))


def unquote(word: str, at: int, text: str) -> str:
    """The value of a string literal, by Go's rules; nothing is an escape between backquotes. ``\\xff`` is a byte: what
    is no UTF-8 comes as surrogates. Raises ``PromQLError``."""
    inside = word[1:-1]
    if word[0] == "`" or "\\" not in inside:
        return inside

    def escape(found: re.Match[bytes]) -> bytes:
        if found[1]:
            return bytes((_PLAIN_ESCAPES[found[1][0]],))
        if found[2] or found[5]:
            code = int(found[2], 16) if found[2] else int(found[5], 8)
            if code < 256:
                return bytes((code,))
        elif found[3] or found[4]:
            code = int(found[3] or found[4], 16)
            if code <= 0x10FFFF:
                return chr(code).encode("utf-8", "surrogatepass")
        raise PromQLError("unknown escape sequence in a string", at, text=text)

    return _ESCAPE.sub(escape, inside.encode("utf-8", "surrogatepass")).decode("utf-8", "surrogateescape")


def rounded(value: float) -> int:
    """Go's ``math.Round``: halves go away from zero. What does not fit into 64 bits is the least number of them."""
    whole = math.floor(abs(value) + 0.5)
    if whole >= 2**63:
        return -(2**63)
    return whole if value >= 0 else -whole


def nanoseconds(seconds: float) -> int:
    """A duration as Prometheus keeps it. NaN is the least of them."""
    return -(2**63) if seconds != seconds else rounded(seconds * 1e9)


def milliseconds(length_ns: int) -> int:
    """Whole milliseconds of a duration in nanoseconds, cut towards zero."""
    return length_ns // 1_000_000 if length_ns >= 0 else -(-length_ns // 1_000_000)


def is_utf8(text: str) -> bool:
    """Whether a string that ``unquote`` gave is one for Go, too."""
    return not any("\ud800" <= char <= "\udfff" for char in text)
