"""Regular expressions in time that grows with the text and no faster.

A text may be a label's value, which anybody may have chosen, and it is looked at inside of the loop that evaluates
rules. Python's ``re`` can take ages over a few dozen characters. So a pattern is run here as Go runs it: all the ways
that it can match are followed side by side, a character at a time. ``monitor.go_regex`` reads the pattern first,
refuses what Prometheus refuses, and leaves few constructs to be read here.

``Pattern`` matches whole texts: with ``re`` where that cannot take long, and this way where it could.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Literal, TypeAlias

import msgspec

LONGEST_TEXT = 4_096
"""Characters that are looked at; a longer text is refused."""
_LARGEST_PROGRAM = 4_000
_QUICK = 200_000
"""What ``re`` may take for one text, in steps of backtracking: some milliseconds."""


class TooMuch(Exception):
    """A pattern is too large, or takes too many steps on a text. The message says which."""


_Kind = Literal["char", "split", "jump", "save", "assert", "match"]
_QUANTIFIER = re.compile(r"(?:([*+?])|\{(\d+)(,?)(\d*)\})(\??)")
_CLASS = re.compile(r"\[\^?\]?(?:\\.|[^\]\\])*\]", re.DOTALL)
_OPEN = re.compile(r"\((?:\?(?:P<(\w+)>|(-?i)?:))?")
_ZERO_WIDTH = {
    "(?:^)": "start",
    "^": "start",
    r"\A": "start",
    r"(?:\Z)": "end",
    r"\Z": "end",
    "(?:(?m:^))": "line start",
    "(?m:^)": "line start",
    "(?:(?m:$))": "line end",
    "(?m:$)": "line end",
    r"(?a:\b)": "border",
    r"(?a:\B)": "no border",
}
_WORD = frozenset("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_")


class _Step(msgspec.Struct):
    """One instruction: where it goes on, and for ``split`` the second choice."""

    kind: _Kind
    to: int = 0
    other: int = 0
    name: str = ""
    """Of an assertion."""
    fits: Callable[[str], object] | None = None
    known: dict[str, bool] = msgspec.field(default_factory=dict)

    def takes(self, character: str) -> bool:
        found = self.known.get(character)
        if found is None:
            assert self.fits is not None  # noqa: S101 # every step of kind char has it
            found = self.known[character] = self.fits(character) is not None
        return found


Groups: TypeAlias = tuple[int, ...]
_Node: TypeAlias = tuple[str, object]


class Program(msgspec.Struct, frozen=True):
    steps: list[_Step]
    groups: int
    names: dict[str, int]


class Compiler:
    """From the few constructs that the translation has into steps."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.groups = 0
        self.names: dict[str, int] = {}
        self.steps: list[_Step] = []

    def program(self) -> Program:
        node = self.alternatives(ignore_case=False)
        self.emit(_Step("save", 1, other=0))
        self.place(node)
        self.emit(_Step("save", len(self.steps) + 1, other=1))
        self.emit(_Step("match"))
        return Program(self.steps, self.groups, self.names)

    def alternatives(self, *, ignore_case: bool) -> _Node:
        choices = [self.sequence(ignore_case=ignore_case)]
        while self.text.startswith("|", self.at):
            self.at += 1
            choices.append(self.sequence(ignore_case=ignore_case))
        return choices[0] if len(choices) == 1 else ("any of", choices)

    def sequence(self, *, ignore_case: bool) -> _Node:
        parts: list[_Node] = []
        while self.at < len(self.text) and self.text[self.at] not in "|)":
            part = self.one(ignore_case=ignore_case)
            quantifier = _QUANTIFIER.match(self.text, self.at)
            if quantifier is not None:
                self.at = quantifier.end()
                sign, low, comma, high, lazy = quantifier.groups()
                least = {"*": 0, "+": 1, "?": 0}[sign] if sign else int(low)
                most = {"*": None, "+": None, "?": 1}[sign] if sign else int(high) if high else None if comma else least
                part = ("repeat", (part, least, most, bool(lazy)))
            parts.append(part)
        return ("sequence", parts)

    def one(self, *, ignore_case: bool) -> _Node:
        for text, name in _ZERO_WIDTH.items():
            if self.text.startswith(text, self.at):
                self.at += len(text)
                return ("assert", name)
        opened = _OPEN.match(self.text, self.at)
        if opened is not None:
            self.at = opened.end()
            number = None
            if "?:" not in opened[0] and opened[2] is None:
                self.groups += 1
                number = self.groups
                if opened[1]:
                    self.names[opened[1].removeprefix("_") if opened[1][1:2].isdigit() else opened[1]] = number
            inner = self.alternatives(ignore_case=ignore_case if opened[2] is None else opened[2] == "i")
            self.at += 1  # the closing parenthesis
            return inner if number is None else ("group", (number, inner))
        found = _CLASS.match(self.text, self.at)
        length = len(found[0]) if found is not None else 2 if self.text[self.at] == "\\" else 1
        written = self.text[self.at : self.at + length]
        self.at += length
        return ("char", re.compile(written, re.DOTALL | (re.IGNORECASE if ignore_case else 0)).fullmatch)

    def emit(self, step: _Step) -> int:
        if len(self.steps) >= _LARGEST_PROGRAM:
            raise TooMuch("error parsing regexp: expression too large")
        self.steps.append(step)
        return len(self.steps) - 1

    def place(self, node: _Node) -> None:
        """Write the steps of a node; they go on with the step behind them."""
        kind, inside = node
        if kind == "char":
            at = self.emit(_Step("char", fits=inside))  # type: ignore[arg-type] # as `one` made it
            self.steps[at].to = at + 1
        elif kind == "assert":
            at = self.emit(_Step("assert", name=str(inside)))
            self.steps[at].to = at + 1
        elif kind == "sequence":
            for part in inside:  # type: ignore[attr-defined] # as `sequence` made it
                self.place(part)
        elif kind == "any of":
            self.choices(inside)  # type: ignore[arg-type] # as `alternatives` made it
        elif kind == "group":
            number: int
            inner: _Node
            number, inner = inside  # type: ignore[misc] # as `one` made it
            self.emit(_Step("save", len(self.steps) + 1, other=2 * number))
            self.place(inner)
            self.emit(_Step("save", len(self.steps) + 1, other=2 * number + 1))
        else:
            self.repeat(*inside)  # type: ignore[misc] # as `sequence` made it

    def choices(self, choices: Sequence[_Node]) -> None:
        ends: list[int] = []
        for choice in choices[:-1]:
            split = self.emit(_Step("split", len(self.steps) + 1))
            self.place(choice)
            ends.append(self.emit(_Step("jump")))
            self.steps[split].other = len(self.steps)
        self.place(choices[-1])
        for end in ends:
            self.steps[end].to = len(self.steps)

    def repeat(self, node: _Node, least: int, most: int | None, lazy: bool) -> None:
        for _ in range(least if most is not None else max(0, least - 1)):
            self.place(node)
        if most is None:
            # What may match nothing is repeated at least once or left out, as in Go: its own choice comes first.
            skip = self.split(lazy) if least == 0 else None
            begin = len(self.steps)
            self.place(node)
            again = self.emit(_Step("split", begin, len(self.steps) + 1))
            if lazy:
                self.steps[again].to, self.steps[again].other = self.steps[again].other, self.steps[again].to
            if skip is not None:
                self.leave(skip, lazy)
            return
        skips = []
        for _ in range(most - least):
            skips.append(self.split(lazy))
            self.place(node)
        for skip in skips:
            self.leave(skip, lazy)

    def split(self, lazy: bool) -> int:
        at = self.emit(_Step("split"))
        self.steps[at].other = self.steps[at].to = at + 1
        return at

    def leave(self, split: int, lazy: bool) -> None:
        """Let a split's way past its node lead to here: the first choice of a lazy one, else the second."""
        if lazy:
            self.steps[split].to = len(self.steps)
        else:
            self.steps[split].other = len(self.steps)


class Search:
    """A program on a text. All searches together take at most ``most`` steps. Raises ``TooMuch``."""

    def __init__(self, program: Program, text: str, most: int) -> None:
        if len(text) > LONGEST_TEXT:
            raise TooMuch(f"the text is longer than {LONGEST_TEXT} characters")
        self.steps = program.steps
        self.text = text
        self.nothing: Groups = (-1,) * (2 * program.groups + 2)
        self.taken = 0
        self.most = most

    def find(self, start: int) -> Groups | None:
        """The groups of the leftmost match from ``start`` on, of these the one that the pattern prefers; or None."""
        text, steps = self.text, self.steps
        ways: dict[int, Groups] = {}
        best: Groups | None = None
        for at in range(start, len(text) + 1):
            if best is None:
                self.follow(0, at, self.nothing, ways)
            following: dict[int, Groups] = {}
            for place, groups in ways.items():
                step = steps[place]
                if step.kind == "match":
                    best = groups
                    break  # those behind it are less preferred
                if step.kind == "char" and at < len(text) and step.takes(text[at]):
                    self.follow(step.to, at + 1, groups, following)
            ways = following
            if best is not None and not ways:
                break
        return best

    def follow(self, place: int, at: int, groups: Groups, ways: dict[int, Groups]) -> None:
        """Add what can be reached from a step without taking a character, in the order of preference."""
        todo = [(place, groups)]
        while todo:
            place, groups = todo.pop()
            if place in ways:
                continue
            self.taken += 1
            if self.taken > self.most:
                raise TooMuch(f"takes more than {self.most} steps on a text of {len(self.text)} characters")
            ways[place] = groups
            step = self.steps[place]
            if step.kind == "jump":
                todo.append((step.to, groups))
            elif step.kind == "split":
                todo.append((step.other, groups))
                todo.append((step.to, groups))
            elif step.kind == "save":
                todo.append((step.to, (*groups[: step.other], at, *groups[step.other + 1 :])))
            elif step.kind == "assert" and self.holds(step.name, at):
                todo.append((step.to, groups))

    def holds(self, name: str, at: int) -> bool:
        text = self.text
        if name == "start":
            return at == 0
        if name == "end":
            return at == len(text)
        if name == "line start":
            return at == 0 or text[at - 1] == "\n"
        if name == "line end":
            return at == len(text) or text[at] == "\n"
        before = at > 0 and text[at - 1] in _WORD
        after = at < len(text) and text[at] in _WORD
        return (before != after) == (name == "border")


# -- whole texts -----------------------------------------------------------------------------------------------------

_WITHOUT = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]", re.DOTALL)
_MOST_STEPS = 500_000


class Pattern:
    """A regular expression that ``monitor.go_regex`` has translated, and that has to match all of a text."""

    __slots__ = ("_fast", "_gave_up", "_program", "_quick_up_to", "_text")

    def __init__(self, translated: str) -> None:
        """Raises ``re.error``."""
        self._text = translated
        self._fast = re.compile(f"(?:{translated})", re.DOTALL)
        self._quick_up_to = _quick_up_to(_WITHOUT.sub("x", translated))
        self._program: Program | None = None
        self._gave_up: TooMuch | None = None

    def groups(self, text: str) -> tuple[str | None, ...] | None:
        """The whole text and the groups of the match; None where there is none. Raises ``TooMuch``."""
        if self.is_quick(text):
            found = self._fast.fullmatch(text)
            return None if found is None else (found[0], *found.groups())
        spans = self._slowly(text)
        if spans is None:
            return None
        pairs = zip(spans[::2], spans[1::2], strict=True)
        return tuple(text[begin:end] if begin >= 0 else None for begin, end in pairs)

    def fits(self, text: str) -> bool:
        """Whether all of a text matches. Raises ``TooMuch``."""
        if self.is_quick(text):
            return self._fast.fullmatch(text) is not None
        return self._slowly(text) is not None

    def is_quick(self, text: str) -> bool:
        """Whether ``re`` cannot take long: whatever it tries, it comes to the end of all the ways soon."""
        return len(text) <= self._quick_up_to

    @property
    def names(self) -> dict[str, int]:
        """The numbers of the groups that have names."""
        return dict(self._fast.groupindex)

    def _slowly(self, text: str) -> Groups | None:
        if self._program is None:
            self._program = Compiler(rf"\A(?:{self._text})\Z").program()
        if self._gave_up is not None:
            raise self._gave_up  # a rule asks each second: once is enough
        try:
            return Search(self._program, text, _MOST_STEPS).find(0)
        except TooMuch as error:
            self._gave_up = error
            raise


def _quick_up_to(plain: str) -> int:
    """The length of the longest text on which ``re`` takes less than ``_QUICK`` steps; -1 where there is none.
    ``plain`` has no escapes and no classes."""
    low, high = -1, LONGEST_TEXT
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if _ways(plain, middle) <= _QUICK else (low, middle - 1)
    return low


def _ways(plain: str, length: int) -> float:
    """In how many ways a pattern can be tried on a text of that length, at the most: of what follows each other the
    product, of choices the sum, and no end of them where something is repeated that has a choice in it."""
    sums, products = [0.0], [1.0]
    at = 0
    while at < len(plain):
        char = plain[at]
        at += 1
        if char == "(":
            sums.append(0.0)
            products.append(1.0)
            at += plain[at : at + 1] == "?"
            continue
        if char == "|":
            sums[-1] += products[-1]
            products[-1] = 1.0
            continue
        ways = 1.0
        if char == ")" and len(sums) > 1:
            ways = sums.pop() + products.pop()
        if found := _QUANTIFIER.match(plain, at):
            at = found.end()
            sign, least, comma, most = found[1], int(found[2] or 0), found[3], found[4]
            if sign == "?":
                ways += 1
            elif ways > 1:
                return math.inf
            elif sign or comma:
                ways = float((int(most) if most else length + least) - least + 1)
        products[-1] *= ways
    return sums[0] + products[0]


@lru_cache(maxsize=512)
def compiled(translated: str) -> Pattern:
    """The pattern, compiled once. Raises ``re.error``."""
    return Pattern(translated)
