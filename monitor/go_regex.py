"""Regular expressions of Prometheus (Go's RE2 syntax) in terms of Python's.

The two differ where it hurts: ``(?i)`` in the middle, ``$`` before a last newline, ``\\d`` and ``\\w`` of other
scripts, POSIX classes, and what only Python knows (lookaround, backreferences, possessive repetition), which Prometheus
refuses and so must we: a rule that loads here must load there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TypeAlias

_MAX_REPEAT = 1000
_PERL_CLASSES = {"d": "0-9", "w": "0-9A-Za-z_", "s": r"\t\n\f\r "}
_POSIX_CLASSES = {
    "alnum": "0-9A-Za-z",
    "alpha": "A-Za-z",
    "ascii": r"\x00-\x7f",
    "blank": r"\t ",
    "cntrl": r"\x00-\x1f\x7f",
    "digit": "0-9",
    "graph": "!-~",
    "lower": "a-z",
    "print": " -~",
    "punct": r"!-/:-@\[-`{-~",
    "space": r"\t\n\v\f\r ",
    "upper": "A-Z",
    "word": "0-9A-Za-z_",
    "xdigit": "0-9A-Fa-f",
}
_CONTROLS = {"a": "\x07", "f": "\f", "t": "\t", "n": "\n", "r": "\r", "v": "\v"}
_REPEAT = re.compile(r"\{(\d+)(?:(,)(\d*))?\}")
_GROUP = re.compile(r"\(\?P?<([A-Za-z0-9_]+)>")
_FLAGS = re.compile(r"\(\?([imsU]*)(?:-([imsU]+))?([:)])")


_Saved: TypeAlias = tuple[frozenset[str], int, list[str], int]


class RegexError(ValueError):
    """A regular expression that Prometheus would not take, in words like its own."""


@lru_cache(maxsize=1024)
def to_python(pattern: str) -> str:
    """The same regular expression for Python's ``re``, to be compiled with ``re.DOTALL`` and matched in full.

    Raises ``RegexError`` where Prometheus would refuse it, and for what of RE2 Python lacks: classes of Unicode
    (``\\pL``).
    """
    translated = _Translator(pattern).translate()
    try:
        re.compile(f"(?:{translated})", re.DOTALL)
    except re.error as error:
        raise RegexError(f"error parsing regexp: {error}") from error
    return translated


class _Translator:
    def __init__(self, pattern: str) -> None:
        self.text = pattern
        self.at = 0
        self.out: list[str] = []
        self.flags = frozenset("s")
        self.opened = 0
        """Groups opened since the last ``(`` for flags set in the middle; they end with it."""
        self.stack: list[_Saved] = []
        self.inline: list[str] = []
        self.can_repeat = False
        self.names: set[str] = set()
        self.size = 1
        """How often counted repetitions, one in the other, repeat what stands just before."""
        self.largest = 1
        """The same, at most, in the group that is open."""

    def translate(self) -> str:
        while self.at < len(self.text):
            self._one()
        if self.stack:
            raise RegexError(f"error parsing regexp: missing closing ): `{self.text}`")
        return "".join(self.out) + ")" * self.opened

    def _one(self) -> None:
        char = self.text[self.at]
        if char == "(":
            self._open()
        elif char == ")":
            self._close()
        elif char == "|":
            # Flags set in the middle hold for the alternatives that follow, too.
            self._emit(")" * self.opened + "|" + "".join(self.inline), 1, repeatable=False)
        elif char in "*+?":
            self._repeat(char)
        elif char == "{" and (found := _REPEAT.match(self.text, self.at)):
            low, high = int(found[1]), int(found[3]) if found[3] else int(found[1])
            self._repeat(found[0], max(low, high) if high >= low else _MAX_REPEAT + 1)
        elif char == "[":
            self._class()
        elif char == "\\":
            self._escape()
        elif char == ".":
            self._emit("." if "s" in self.flags else r"[^\n]", 1)
        elif char == "^":
            self._anchor("(?m:^)" if "m" in self.flags else "^")
        elif char == "$":
            self._anchor("(?m:$)" if "m" in self.flags else r"\Z")
        else:
            self._emit("\\" + char if char in "{}]" else char, 1)

    def _emit(self, text: str, used: int, *, repeatable: bool = True) -> None:
        self.out.append(text)
        self.at += used
        self.can_repeat = repeatable
        self.size = 1

    def _anchor(self, text: str) -> None:
        # RE2 can repeat an anchor, Python only a group.
        repeated = self.text[self.at + 1 : self.at + 2] in ("*", "+", "?", "{")
        self._emit(f"(?:{text})" if repeated else text, 1)

    def _repeat(self, operator: str, times: int = 1) -> None:
        if not self.can_repeat:
            if self.at and self.text[self.at - 1] in "*+?}":
                raise RegexError(f"error parsing regexp: invalid nested repetition operator: `{operator}`")
            raise RegexError(f"error parsing regexp: missing argument to repetition operator: `{operator}`")
        size = self.size * max(times, 1)
        if size > _MAX_REPEAT:
            raise RegexError(f"error parsing regexp: invalid repeat count: `{operator}`")
        self.largest = max(self.largest, size)
        after = self.at + len(operator)
        marked = self.text[after : after + 1] == "?"
        # The flag U makes greedy what is not marked, and the other way round.
        lazy = "?" if marked != ("U" in self.flags) else ""
        self._emit(operator + lazy, len(operator) + marked, repeatable=False)

    def _open(self) -> None:
        saved = (self.flags, self.opened, self.inline, self.largest)
        if found := _GROUP.match(self.text, self.at):
            name = found[1]
            # Python's names may not begin with a digit; a prefix that no one writes keeps them apart.
            opening = f"(?P<_{name}>" if name[0].isdigit() else f"(?P<{name}>"
            self._push(saved, "(" if name in self.names else opening, len(found[0]))
            self.names.add(name)
        elif found := _FLAGS.match(self.text, self.at):
            on, off, end = frozenset(found[1]), frozenset(found[2] or ""), found[3]
            if end == ":":
                self._push(saved, "(?:", len(found[0]))
            flags = (self.flags | on) - off
            if ("i" in flags) != ("i" in self.flags):
                opening = "(?i:" if "i" in flags else "(?-i:"
                self.out.append(opening)
                self.opened += 1
                self.inline = [*self.inline, opening]
            self.flags = flags
            if end == ")":
                self.at += len(found[0])
                self.can_repeat = False
        elif self.text.startswith("(?", self.at):
            raise RegexError(
                f"error parsing regexp: invalid or unsupported Perl syntax: `{self.text[self.at : self.at + 3]}`"
            )
        else:
            self._push(saved, "(", 1)

    def _push(self, saved: _Saved, opening: str, used: int) -> None:
        self.stack.append(saved)
        self.opened, self.inline, self.largest = 0, [], 1
        self._emit(opening, used, repeatable=False)

    def _close(self) -> None:
        if not self.stack:
            raise RegexError(f"error parsing regexp: unexpected ): `{self.text}`")
        closing = ")" * (self.opened + 1)
        inside = self.largest
        self.flags, self.opened, self.inline, outside = self.stack.pop()
        self._emit(closing, 1)
        self.size, self.largest = inside, max(inside, outside)

    def _escape(self) -> None:
        following = self.text[self.at + 1 : self.at + 2]
        if not following:
            raise RegexError("error parsing regexp: trailing backslash at end of expression: ``")
        if following.lower() in _PERL_CLASSES:
            negated = "^" if following.isupper() else ""
            self._emit(f"[{negated}{_PERL_CLASSES[following.lower()]}]", 2)
        elif following in "bB":
            self._emit(f"(?a:\\{following})", 2)
        elif following == "A":
            self._emit(r"\A", 2)
        elif following == "z":
            self._emit(r"\Z", 2)
        elif following == "Q":
            end = self.text.find("\\E", self.at)
            quoted = self.text[self.at + 2 : end if end >= 0 else len(self.text)]
            self._emit(re.escape(quoted), len(quoted) + (4 if end >= 0 else 2), repeatable=bool(quoted))
        else:
            char, used = self._character_escape()
            self._emit(re.escape(char), used)

    def _character_escape(self) -> tuple[str, int]:
        """The character that the escape at this place stands for, and the length of the escape."""
        rest = self.text[self.at + 1 :]
        if rest[:1] in _CONTROLS:
            return _CONTROLS[rest[0]], 2
        if found := re.match(r"x\{([0-9A-Fa-f]+)\}|x([0-9A-Fa-f]{2})", rest):
            code = int(found[1] or found[2], 16)
            if code <= 0x10FFFF:
                return chr(code), 1 + len(found[0])
        elif found := re.match(r"0[0-7]{0,2}|[1-7][0-7]{1,2}", rest):
            return chr(int(found[0], 8)), 1 + len(found[0])
        elif rest[:1] in ("p", "P"):
            raise RegexError("classes of Unicode (\\p) are not supported in regular expressions")
        elif rest and rest[0] < "\x80" and not rest[0].isalnum():
            return rest[0], 2
        raise RegexError(f"error parsing regexp: invalid escape sequence: `\\{rest[:1]}`")

    def _class(self) -> None:
        start = self.at
        self.at += 1
        parts = ["["]
        if self.text.startswith("^", self.at):
            parts.append("^")
            self.at += 1
        first = True
        while first or not self.text.startswith("]", self.at):
            if self.at >= len(self.text):
                raise RegexError(f"error parsing regexp: missing closing ]: `{self.text[start:]}`")
            parts.append(self._class_item(start))
            first = False
        parts.append("]")
        self._emit("".join(parts), 1)

    def _class_item(self, start: int) -> str:
        if found := re.compile(r"\[:(\^?)([a-z]+):\]").match(self.text, self.at):
            if found[2] not in _POSIX_CLASSES:
                raise RegexError(f"error parsing regexp: invalid character class range: `{found[0]}`")
            self.at += len(found[0])
            return _complement(_POSIX_CLASSES[found[2]]) if found[1] else _POSIX_CLASSES[found[2]]
        if self.text[self.at] == "\\" and self.text[self.at + 1 : self.at + 2].lower() in _PERL_CLASSES:
            name = self.text[self.at + 1]
            self.at += 2
            return _complement(_PERL_CLASSES[name.lower()]) if name.isupper() else _PERL_CLASSES[name]
        low = self._class_character(start)
        if self.text.startswith("-", self.at) and self.text[self.at + 1 : self.at + 2] not in ("", "]"):
            self.at += 1
            high = self._class_character(start)
            if high < low:
                raise RegexError(f"error parsing regexp: invalid character class range: `{low}-{high}`")
            return f"{re.escape(low)}-{re.escape(high)}"
        return _class_literal(low)

    def _class_character(self, start: int) -> str:
        if self.at >= len(self.text):
            raise RegexError(f"error parsing regexp: missing closing ]: `{self.text[start:]}`")
        if self.text[self.at] == "\\":
            char, used = self._character_escape()
        else:
            char, used = self.text[self.at], 1
        self.at += used
        return char


def _class_literal(char: str) -> str:
    # Python gives a warning for what may become set operations: `[[`, `--`, `&&`, `||`, `~~`.
    return "\\" + char if char in "[]\\^-&|~" else char


def _complement(ranges: str) -> str:
    """What a negated class inside of a class stands for, as ranges."""
    inside = re.compile(f"[{ranges}]")
    codes = [code for code in range(256) if not inside.match(chr(code))]
    parts = "".join(f"\\x{code:02x}" for code in codes)
    return parts + "\\u0100-\\U0010ffff"


def expand(template: str, groups: Sequence[str | None], names: Mapping[str, int]) -> str:
    """Put the groups of a match into a template, as Go does: ``$1``, ``${1}``, ``$name``, ``$$``. A group that there is
    not is empty; ``$1x`` is the group of the name ``1x``. ``groups[0]`` is all that was matched."""

    def group(reference: re.Match[str]) -> str:
        name = reference[1] or reference[2]
        if name is None:
            return "$"
        number = int(name) if name.isdigit() else names.get(name, len(groups))
        return (groups[number] or "") if number < len(groups) else ""

    return re.sub(r"\$(?:\{(\w+)\}|(\w+)|\$)", group, template)
