"""A light lexer: where the tokens of a query are, and whether the query is one that the parser may be shown.

The parser is native code. It crashes on input that is nested too deep, panics on a negative ``@``, takes more than
Prometheus does and says no positions. So the text is cut into tokens first, refused here where it can be, and what the
parser reads wrongly (numbers, regular expressions, the times of ``@``) is put in its hands as plain numbers and names,
and put back afterwards.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import Literal

from monitor.promql.errors import PromQLError
from monitor.promql.signatures import AGGREGATIONS, EXPERIMENTAL, FUNCTIONS, NATIVE_HISTOGRAMS, NOT_CALLS

MAX_BYTES = 4096
MAX_DEPTH = 150
"""Brackets that are open at once and operators, together: so deep can a tree become."""

_SECONDS = {"y": 31_536_000, "w": 604_800, "d": 86_400, "h": 3600, "m": 60, "s": 1}
_MAX_SECONDS = 2**63 / 1e9
"""Prometheus keeps durations as nanoseconds in 64 bits: 292 years."""

_TOKEN = re.compile(
    r"""(?P<space>[\x20\t\r\n]+|\#[^\n]*)
      | (?P<string>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|`[^`]*`)
      | (?P<number>0[xX][0-9A-Fa-f_]+|(?:\d[\d_]*(?:\.[\d_]*)?|\.\d[\d_]*)(?:[eE][+-]?\d+)?(?![0-9A-Za-z_.]))
      | (?P<duration>(?:\d+(?:ms|[smhdwy]))+(?![0-9A-Za-z_.]))
      | (?P<name>[A-Za-z_:][A-Za-z0-9_:]*)
      | (?P<op>=~|!~|==|!=|>=|<=|[-+*/%^=<>(){}\[\],@:])""",
    re.VERBOSE,
)
_INNER_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_DURATION = re.compile(r"(?:(\d+)y)?(?:(\d+)w)?(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?(?:(\d+)ms)?")
_CLOSES = {")": "(", "]": "[", "}": "{"}
_BRACKETS = {"(": "parenthesis", "[": "bracket", "{": "brace"}

Token = tuple[Literal["string", "number", "duration", "name", "op"], str, int]
"""Kind, text and offset."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A query as the parser is shown it, and what stands behind the plain numbers and names in it."""

    text: str
    patterns: tuple[tuple[str, int], ...]
    """The regular expressions, each with its offset: the matcher with the value ``"3"`` has the fourth."""
    times_ms: tuple[int, ...]
    """The times of ``@``: ``@ 3`` is the fourth."""
    tokens: tuple[Token, ...]


def prepare(text: str) -> Prepared:
    """Check a query's tokens and make it ready for the parser. Raises ``PromQLError``, nearly always with a place."""
    if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise PromQLError(f"the query is longer than {MAX_BYTES} bytes")
    tokens = _tokens(text)
    if not tokens:
        raise PromQLError("no expression found in input", 0, text=text)
    _check_brackets(tokens, text)
    _check_names(tokens, text)
    return _rewrite(tokens, text)


def _tokens(text: str) -> list[Token]:
    tokens: list[Token] = []
    inside: list[str] = []
    at = 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            raise _bad_character(text, at, inside)
        kind, value = found.lastgroup, found[0]
        # A colon belongs to a metric's name, but between brackets it parts a range from its step.
        if kind == "name" and ":" in value and inside and inside[-1] in "[{":
            short = _INNER_NAME.match(text, at)
            kind, value = ("name", short[0]) if short else ("op", ":")
        if kind == "op" and value == ":" and (not inside or inside[-1] != "["):
            where = " inside braces" if inside and inside[-1] == "{" else ""
            raise PromQLError(f"unexpected character{where}: ':'", at, text=text)
        if kind == "op" and value in "([{":
            inside.append(value)
        elif kind == "op" and value in ")]}" and inside:
            inside.pop()
        if kind is not None and kind != "space":
            tokens.append((kind, value, at))  # type: ignore[arg-type] # the names of the pattern's groups
        at += len(value)
    return tokens


def _bad_character(text: str, at: int, inside: list[str]) -> PromQLError:
    char = text[at]
    if char in "\"'`":
        return PromQLError(f"unterminated {'raw' if char == '`' else 'quoted'} string", at, text=text)
    if char.isdigit() or (char == "." and text[at + 1 : at + 2].isdigit()):
        word = re.match(r"[0-9A-Za-z_.]+", text[at:])
        return PromQLError(f'bad number or duration syntax: "{word[0] if word else char}"', at, text=text)
    if char == "!":
        return PromQLError('unexpected character after "!"', at, text=text)
    where = {"{": " inside braces", "[": " inside brackets"}.get(inside[-1] if inside else "", "")
    return PromQLError(f"unexpected character{where}: {char!r}", at, text=text)


def _check_brackets(tokens: list[Token], text: str) -> None:
    opened: list[Token] = []
    deepest = operators = 0
    for token in tokens:
        kind, value, at = token
        if kind == "name":
            operators += value.lower() in ("and", "or", "unless", "atan2")
        elif kind != "op":
            continue
        elif value in "([{":
            opened.append(token)
            deepest = max(deepest, len(opened))
        elif value in _CLOSES:
            if not opened:
                raise PromQLError(f'unexpected right {_BRACKETS[_CLOSES[value]]} "{value}"', at, text=text)
            if opened[-1][1] != _CLOSES[value]:
                where = opened[-1]
                raise PromQLError(f"unclosed left {_BRACKETS[where[1]]}", where[2], text=text)
            opened.pop()
        elif not (opened and opened[-1][1] == "{") and value not in ",@:":
            operators += 1
        if deepest + operators > MAX_DEPTH:
            raise PromQLError(f"the query has more than {MAX_DEPTH} operators and levels of nesting", at, text=text)
    if opened:
        where = opened[-1]
        raise PromQLError(f"unclosed left {_BRACKETS[where[1]]}", where[2], text=text)


def _check_names(tokens: list[Token], text: str) -> None:
    """Refuse calls of what is not a function of stable Prometheus, and the words of its experimental syntax."""
    braces = 0
    for i, (kind, value, at) in enumerate(tokens):
        if kind == "op":
            braces += (value == "{") - (value == "}")
            continue
        if kind != "name":
            continue
        if braces:
            if value == "or" and i + 1 < len(tokens) and tokens[i - 1][1] not in ("{", ","):
                message = 'unexpected identifier "or" in label matching, expected "," or "}"'
                raise PromQLError(message, at, text=text)
            continue
        following = tokens[i + 1][1] if i + 1 < len(tokens) else ""
        before = tokens[i - 1][1] if i else ""
        if following == "(" and not (before == "@" and value in ("start", "end")):
            _check_call(value, at, text)
        elif value in ("smoothed", "anchored") and before in (")", "]", "}"):
            raise PromQLError(f'the modifier "{value}" is experimental in Prometheus: not supported', at, text=text)


def _check_call(name: str, at: int, text: str) -> None:
    if name in FUNCTIONS or name.lower() in AGGREGATIONS or name.lower() in NOT_CALLS:
        return
    if name in EXPERIMENTAL:
        raise PromQLError(f'function "{name}" is experimental in Prometheus: not supported', at, text=text)
    if name in NATIVE_HISTOGRAMS:
        raise PromQLError(f'function "{name}" is for native histograms, which gpumon does not keep', at, text=text)
    if name.startswith("fill"):
        raise PromQLError(f'"{name}" is experimental in Prometheus: not supported', at, text=text)
    if name == "holt_winters":
        raise PromQLError('function "holt_winters" was removed in Prometheus 3', at, text=text)
    near = difflib.get_close_matches(name.lower(), [*FUNCTIONS, *AGGREGATIONS], n=1, cutoff=0.7)
    hint = f': did you mean "{near[0]}"?' if near else ""
    raise PromQLError(f'unknown function with name "{name}"{hint}', at, text=text)


def _rewrite(tokens: list[Token], text: str) -> Prepared:
    """Replace what the parser would misread. All else, the gaps between tokens too, stays as it is."""
    out: list[str] = []
    patterns: list[tuple[str, int]] = []
    times: list[int] = []
    end = 0
    skip = False
    for i, (kind, value, at) in enumerate(tokens):
        out.append(" " if skip else text[end:at])
        end = at + len(value)
        before = tokens[i - 1][1] if i else ""
        signed = before in ("-", "+") and i > 1 and tokens[i - 2][1] == "@"
        if kind == "string" and before in ("=~", "!~"):
            out.append(f'"{len(patterns)}"')
            patterns.append((unquote(value, at, text), at))
        elif kind in ("number", "duration"):
            seconds = number(value, at, text) if kind == "number" else duration_seconds(value, at, text)
            if before == "@" or signed:
                out.append(str(len(times)))
                times.append(_time_ms(-seconds if before == "-" else seconds, at, text))
            else:
                _check_length(tokens, i, seconds, text)
                out.append(_plain(value, seconds))
        elif value in ("-", "+") and before == "@" and tokens[i + 1 : i + 2] and tokens[i + 1][0] == "number":
            skip = True
            continue
        elif value == "+" and before in ("[", ":"):
            out.append(" ")  # a sign that the parser does not know there
        else:
            out.append(value)
        skip = False
    out.append(text[end:])
    return Prepared("".join(out), tuple(patterns), tuple(times), tuple(tokens))


def _plain(text: str, value: float) -> str:
    """A number as the parser reads it: it knows no ``1_000``, an octal ``017`` it takes for 17, and ``offset 0s`` it
    refuses."""
    return repr(value) if value == 0 or "_" in text or re.fullmatch(r"0\d+", text) else text


def _time_ms(seconds: float, at: int, text: str) -> int:
    if not abs(seconds) < 2**63:
        raise PromQLError(f"timestamp out of bounds for @ modifier: {seconds:f}", at, text=text)
    # Go's math.Round: halves go away from zero.
    return int(abs(seconds) * 1000 + 0.5) * (-1 if seconds < 0 else 1)


def _check_length(tokens: list[Token], i: int, seconds: float, text: str) -> None:
    """Refuse a range, a step or an offset of over 292 years."""
    before = tokens[i - 1][1].lower() if i else ""
    if before in ("-", "+") and i > 1:
        before = tokens[i - 2][1].lower()
    if before in ("[", ":", "offset") and seconds >= _MAX_SECONDS:
        raise PromQLError("duration out of range", tokens[i][2], text=text)


def number(word: str, at: int, text: str) -> float:
    """A number as Go reads it: ``1e3``, ``0x1F``, ``017`` (octal), ``1_000``."""
    try:
        if re.fullmatch(r"0[xX](_?[0-9A-Fa-f])+", word):
            return float(int(word, 16))
        if re.fullmatch(r"0(_?[0-7])+", word):
            return float(int(word.replace("_", ""), 8))
        if "_" in word and not re.fullmatch(r"[1-9](_?\d)*", word):
            raise ValueError(word)
        return float(word)
    except (ValueError, OverflowError) as error:
        raise PromQLError(f'bad number or duration syntax: "{word}"', at, text=text) from error


def duration_seconds(word: str, at: int, text: str) -> float:
    """The length of ``1h30m`` in seconds. The units must come in the order of their size, each once."""
    found = _DURATION.fullmatch(word)
    if found is None:
        raise PromQLError(f'not a valid duration string: "{word}"', at, text=text)
    total = sum(int(part) * unit for part, unit in zip(found.groups(), _SECONDS.values(), strict=False) if part)
    seconds = total + (int(found[7]) / 1000 if found[7] else 0)
    if seconds >= _MAX_SECONDS:
        raise PromQLError("duration out of range", at, text=text)
    return seconds


_ESCAPE = re.compile(r"\\(?:([abfnrtv\\\"'])|x([0-9A-Fa-f]{2})|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|([0-7]{3}))?")
_PLAIN_ESCAPES = dict(zip("abfnrtv\\\"'", "\a\b\f\n\r\t\v\\\"'", strict=True))


def unquote(word: str, at: int, text: str) -> str:
    """The value of a string literal, by Go's rules; nothing is an escape between backquotes."""
    inside = word[1:-1]
    if word[0] == "`" or "\\" not in inside:
        return inside

    def escape(found: re.Match[str]) -> str:
        if found[1]:
            return _PLAIN_ESCAPES[found[1]]
        digits = found[2] or found[3] or found[4]
        code = int(digits, 16) if digits else int(found[5], 8) if found[5] else -1
        if not 0 <= code <= 0x10FFFF:
            raise PromQLError("unknown escape sequence in a string", at + 1 + found.start(), text=text)
        return chr(code)

    return _ESCAPE.sub(escape, inside)
