"""Regular expressions in templates: ``match`` and ``reReplaceAll``, in time that grows with the text and no faster.

The text is a label's value, which anybody may have chosen, and it is looked at inside of the loop that evaluates rules.
Python's ``re`` can take ages over a few dozen characters. So the pattern is run as Go runs it: all the ways that it can
match are followed side by side, a character at a time. ``monitor.promql.regex`` reads the pattern first, refuses what
Prometheus refuses, and leaves few constructs to be read here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal, TypeAlias

from monitor.promql.regex import RegexError, to_python

LONGEST_TEXT = 4_096
"""Characters that are looked at; a longer text is refused."""
_MOST_STEPS = 150_000
_LARGEST_PROGRAM = 4_000
_GO_DEFAULT = "(?-s)"  # where matchers of series have `.` match a newline, Go's functions do not

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


@dataclass(slots=True)
class _Step:
    """One instruction: where it goes on, and for ``split`` the second choice."""

    kind: _Kind
    to: int = 0
    other: int = 0
    name: str = ""
    """Of an assertion."""
    fits: Callable[[str], object] | None = None
    known: dict[str, bool] = field(default_factory=dict)

    def takes(self, character: str) -> bool:
        found = self.known.get(character)
        if found is None:
            assert self.fits is not None  # noqa: S101 # every step of kind char has it
            found = self.known[character] = self.fits(character) is not None
        return found


_Groups: TypeAlias = tuple[int, ...]
_Node: TypeAlias = tuple[str, object]


@dataclass(frozen=True, slots=True)
class _Program:
    steps: list[_Step]
    groups: int
    names: dict[str, int]


def matches(pattern: str, text: str) -> bool:
    """Whether a pattern matches anywhere in a text. Raises ``RegexError``."""
    return _given(_matches(pattern, text)) == "true"


def replace_all(pattern: str, replacement: str, text: str) -> str:
    """Replace every match, as Go does; ``$1`` and ``${name}`` are groups. Raises ``RegexError``."""
    return _given(_replaced(pattern, replacement, text))


def _given(result: str | RegexError) -> str:
    if isinstance(result, RegexError):
        raise RegexError(*result.args)
    return result


# An alert's labels are the same at every evaluation, and so is what is made of them: also where it takes too long.
@lru_cache(maxsize=512)
def _matches(pattern: str, text: str) -> str | RegexError:
    try:
        return "true" if _Search(_program(pattern), text).find(0) is not None else "false"
    except RegexError as error:
        return error


@lru_cache(maxsize=512)
def _replaced(pattern: str, replacement: str, text: str) -> str | RegexError:
    try:
        program = _program(pattern)
        search = _Search(program, text)
        out: list[str] = []
        copied = at = 0
        while at <= len(text) and (found := search.find(at)) is not None:
            start, end = found[0], found[1]
            out.append(text[copied:start])
            # An empty match right behind the last one is none.
            if end > copied or start == 0:
                out.append(_expanded(replacement, text, found, program.names))
            copied = end
            at = end if end > at else at + 1
        return "".join(out) + text[copied:]
    except RegexError as error:
        return error


def _expanded(replacement: str, text: str, groups: _Groups, names: dict[str, int]) -> str:
    def group(found: re.Match[str]) -> str:
        name = found[1] or found[2]
        if name is None:
            return "$"
        number = int(name) if name.isdigit() else names.get(name, -1)
        if not 0 <= 2 * number < len(groups) or groups[2 * number] < 0:
            return ""
        return text[groups[2 * number] : groups[2 * number + 1]]

    return re.sub(r"\$(?:\{(\w+)\}|(\w+)|\$)", group, replacement)


# -- reading ---------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=128)
def _program(pattern: str) -> _Program:
    try:
        translated = to_python(_GO_DEFAULT + pattern)
    except RegexError as error:
        raise RegexError(str(error).replace(f"`{_GO_DEFAULT}", "`")) from error
    return _Compiler(translated).program()


class _Compiler:
    """From the few constructs that the translation has into steps."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.groups = 0
        self.names: dict[str, int] = {}
        self.steps: list[_Step] = []

    def program(self) -> _Program:
        node = self.alternatives(ignore_case=False)
        self.emit(_Step("save", 1, other=0))
        self.place(node)
        self.emit(_Step("save", len(self.steps) + 1, other=1))
        self.emit(_Step("match"))
        return _Program(self.steps, self.groups, self.names)

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
            raise RegexError("error parsing regexp: expression too large")
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


# -- running ---------------------------------------------------------------------------------------------------------


class _Search:
    """A program on a text. What all searches take together is bounded."""

    def __init__(self, program: _Program, text: str) -> None:
        if len(text) > LONGEST_TEXT:
            raise RegexError(f"the text is longer than {LONGEST_TEXT} characters")
        self.steps = program.steps
        self.text = text
        self.nothing: _Groups = (-1,) * (2 * program.groups + 2)
        self.taken = 0

    def find(self, start: int) -> _Groups | None:
        """The groups of the leftmost match from ``start`` on, of these the one that the pattern prefers; or None."""
        text, steps = self.text, self.steps
        ways: dict[int, _Groups] = {}
        best: _Groups | None = None
        for at in range(start, len(text) + 1):
            if best is None:
                self.follow(0, at, self.nothing, ways)
            following: dict[int, _Groups] = {}
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

    def follow(self, place: int, at: int, groups: _Groups, ways: dict[int, _Groups]) -> None:
        """Add what can be reached from a step without taking a character, in the order of preference."""
        todo = [(place, groups)]
        while todo:
            place, groups = todo.pop()
            if place in ways:
                continue
            self.taken += 1
            if self.taken > _MOST_STEPS:
                raise RegexError(f"takes more than {_MOST_STEPS} steps on a text of {len(self.text)} characters")
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
