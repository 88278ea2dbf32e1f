"""Where the selectors of a query stand in its text, and how much weight each has.

The text is known to be good: the parser has read it. So a light scan is enough: brackets, words and the operator `or`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from monitor.records import replace
from monitor.yaml_reader import parse_duration_ms

_TOKEN = re.compile(
    r"""(?P<space>[\s]+|\#[^\n]*)
      | (?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|`[^`]*`)
      | (?P<name>[A-Za-z_:][A-Za-z0-9_:]*)
      | (?P<number>[0-9.][0-9A-Za-z_.]*)
      | (?P<mark>.)""",
    re.VERBOSE | re.DOTALL,
)
_LISTS = frozenset(("by", "without", "on", "ignoring", "group_left", "group_right"))
_WORDS = frozenset((*_LISTS, "and", "or", "unless", "atan2", "bool", "inf", "nan"))
_AGGREGATED = frozenset(("by", "without"))
_ABSENT = frozenset(("absent", "absent_over_time"))


@dataclass(frozen=True, slots=True)
class SelectorText:
    """A selector without its range and offset. ``start`` is its offset in the query."""

    text: str
    start: int
    range_ms: int = 0
    """Of ``selector[5m]``, else 0."""
    past: bool = False
    """Whether an ``offset`` or an ``@`` has it look at another time."""
    absent: bool = False
    """Whether it stands in ``absent(…)``: it is to match nothing."""
    excepted: bool = False
    """Whether it stands behind ``unless``: it takes away what it matches."""
    choices: tuple[tuple[int, int], ...] = ()
    """The alternatives of ``a or b`` that it stands in: which ``or``, and which of its sides."""


@dataclass(slots=True)
class _Level:
    """A pair of parentheses, or the whole query."""

    number: int
    absent: bool = False
    side: int = 0
    excepted: bool = False
    found: list[int] = field(default_factory=list)
    """The selectors in it, those of inner levels too, by their number."""


def selector_texts(query: str) -> list[SelectorText]:
    """The selectors of a good query, in the order of its text."""
    tokens = [(m.lastgroup or "", m[0], m.start()) for m in _TOKEN.finditer(query) if m.lastgroup != "space"]
    found: list[SelectorText] = []
    levels = [_Level(0)]
    opened = 1
    i = 0
    while i < len(tokens):
        kind, word, _at = tokens[i]
        lower = word.lower()
        following = tokens[i + 1][1] if i + 1 < len(tokens) else ""
        if kind == "name" and lower in _LISTS and following == "(":
            i = _behind(tokens, i + 1, ")")
            continue
        if (kind == "mark" and word == "(") or (kind == "name" and following == "(" and lower not in _WORDS):
            levels.append(_Level(opened, levels[-1].absent or lower in _ABSENT))
            opened += 1
            i += 1 if word == "(" else 2
            continue
        if word == ")" and kind == "mark":
            _close(levels.pop(), levels[-1], found)
        elif kind == "name" and lower == "or":
            levels[-1].side += 1
            levels[-1].excepted = False
        elif kind == "name" and lower == "unless":
            levels[-1].excepted = True
        elif kind == "mark" and word == "[":
            i = _behind(tokens, i, "]")
            continue
        elif (kind == "mark" and word == "@") or (kind == "name" and lower == "offset"):
            i += 2 + (following in ("-", "+"))
            if following in ("start", "end"):
                i += 2
            continue
        elif word == "{" or (kind == "name" and lower not in _WORDS and following.lower() not in _AGGREGATED):
            end = _behind(tokens, i + (word != "{"), "}") if "{" in (word, following) else i + 1
            levels[-1].found.append(len(found))
            found.append(_read(query, tokens, i, end, levels))
            i = end
            continue
        i += 1
    _close(levels[0], None, found)
    return found


def _behind(tokens: list[tuple[str, str, int]], i: int, closing: str) -> int:
    """The token behind the bracket that closes the one at ``i``; there are none inside of it."""
    while i < len(tokens) and tokens[i][:2] != ("mark", closing):
        i += 1
    return i + 1


def _read(query: str, tokens: list[tuple[str, str, int]], begin: int, end: int, levels: list[_Level]) -> SelectorText:
    start = tokens[begin][2]
    _, last, at = tokens[end - 1]
    range_ms, past, i = 0, False, end
    while i < len(tokens):
        kind, word, _ = tokens[i]
        if kind == "mark" and word == "[" and not range_ms:
            inside = tokens[i + 1 : _behind(tokens, i, "]") - 1]
            if any(token[1] == ":" for token in inside):
                break  # a subquery evaluates it at many times
            text = "".join(token[1] for token in inside)
            range_ms = parse_duration_ms(text) or _milliseconds(text)
            i = _behind(tokens, i, "]")
        elif (kind == "mark" and word == "@") or (kind == "name" and word.lower() == "offset"):
            past = True
            break
        else:
            break
    return SelectorText(
        text=query[start : at + len(last)],
        start=start,
        range_ms=range_ms,
        past=past,
        absent=levels[-1].absent,
        excepted=any(level.excepted for level in levels),
        choices=tuple((level.number, level.side) for level in levels),
    )


def _milliseconds(text: str) -> int:
    try:
        return round(float(text) * 1000)
    except (ValueError, OverflowError):
        return 0


def _close(level: _Level, outer: _Level | None, found: list[SelectorText]) -> None:
    """A level without any ``or`` gives no choice."""
    if not level.side:
        for number in level.found:
            one = found[number]
            found[number] = replace(one, choices=tuple(choice for choice in one.choices if choice[0] != level.number))
    if outer is not None:
        outer.found.extend(level.found)
