"""Regular expressions in templates: ``match`` and ``reReplaceAll``, in time that grows with the text and no faster.

The text is a label's value, which anybody may have chosen, and it is looked at inside of the loop that evaluates rules.
Python's ``re`` can take ages over a few dozen characters. So the pattern is run as Go runs it: all the ways that it can
match are followed side by side, a character at a time. ``monitor.go_regex`` reads the pattern first, refuses what
Prometheus refuses, and leaves few constructs to be read here.
"""

from __future__ import annotations

import re
from functools import lru_cache

from monitor.digits import is_whole
from monitor.go_regex import RegexError, to_python
from monitor.linear_regex import LONGEST_TEXT, Compiler, Groups, Program, Search, TooMuch

_MOST_STEPS = 150_000
_GO_DEFAULT = "(?-s)"  # where matchers of series have `.` match a newline, Go's functions do not


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
        return "true" if Search(_program(pattern), text, _MOST_STEPS).find(0) is not None else "false"
    except RegexError as error:
        return error
    except TooMuch as error:
        return RegexError(str(error))


@lru_cache(maxsize=512)
def _replaced(pattern: str, replacement: str, text: str) -> str | RegexError:
    try:
        program = _program(pattern)
        search = Search(program, text, _MOST_STEPS)
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
    except TooMuch as error:
        return RegexError(str(error))


def _expanded(replacement: str, text: str, groups: Groups, names: dict[str, int]) -> str:
    def group(found: re.Match[str]) -> str:
        name = found[1] or found[2]
        if name is None:
            return "$"
        number = int(name) if is_whole(name) else names.get(name, -1)
        if not 0 <= 2 * number < len(groups) or groups[2 * number] < 0:
            return ""
        return text[groups[2 * number] : groups[2 * number + 1]]

    return re.sub(r"\$(?:\{(\w+)\}|(\w+)|\$)", group, replacement)


# -- reading ---------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=128)
def _program(pattern: str) -> Program:
    try:
        translated = to_python(_GO_DEFAULT + pattern)
    except RegexError as error:
        raise RegexError(str(error).replace(f"`{_GO_DEFAULT}", "`")) from error
    return Compiler(translated).program()


__all__ = ["LONGEST_TEXT", "matches", "replace_all"]
