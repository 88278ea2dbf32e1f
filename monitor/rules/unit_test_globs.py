"""The file patterns of ``rule_files``, as Go's ``filepath.Glob`` reads them."""

from __future__ import annotations

import os
import re


class PatternError(ValueError):
    """A pattern that cannot be read."""


def matching(pattern: str) -> list[str]:
    """The paths that a pattern names, in the order of their names. ``*`` and ``?`` stop at a slash and take a leading
    dot; ``[a-c]``, ``[^a-c]`` and a backslash before a character are known. Raises ``PatternError``."""
    _compiled(pattern)
    if not pattern:
        return []
    if not any(char in pattern for char in "*?[\\"):
        return [pattern] if os.path.lexists(pattern) else []
    folder, _, name = pattern.rpartition("/")
    above = "/" if pattern.startswith("/") and not folder else folder
    folders = matching(above) if any(char in above for char in "*?[\\") else [above]
    wanted = _compiled(name)
    out = []
    for one in folders:
        try:
            names = sorted(os.listdir(one or "."))
        except OSError:
            continue
        out += [os.path.join(one, found) if one else found for found in names if wanted.fullmatch(found)]
    return out


def _compiled(pattern: str) -> re.Pattern[str]:
    out = []
    i = 0
    while i < len(pattern):
        char = pattern[i]
        i += 1
        if char == "*":
            out.append("[^/]*")
        elif char == "?":
            out.append("[^/]")
        elif char == "[":
            i, piece = _class(pattern, i)
            out.append(piece)
        elif char == "\\":
            if i >= len(pattern):
                raise PatternError("syntax error in pattern")
            out.append(re.escape(pattern[i]))
            i += 1
        else:
            out.append(re.escape(char))
    return re.compile("".join(out), re.DOTALL)


def _class(pattern: str, i: int) -> tuple[int, str]:
    """A class of characters whose bracket is behind us: where it ends, and what it is in Python."""
    negated = pattern[i : i + 1] == "^"
    i += negated
    ranges: list[str] = []
    while not (pattern[i : i + 1] == "]" and ranges):
        i, low = _member(pattern, i)
        high = low
        if pattern[i : i + 1] == "-":
            i, high = _member(pattern, i + 1)
        if low <= high:
            ranges.append(f"{re.escape(low)}-{re.escape(high)}")
        else:
            ranges.append("")
    inside = "".join(ranges)
    if not inside:
        return i + 1, "[^/]" if negated else "(?!)"
    return i + 1, f"(?!/)[{'^' if negated else ''}{inside}]"


def _member(pattern: str, i: int) -> tuple[int, str]:
    if i >= len(pattern) or pattern[i] in "-]":
        raise PatternError("syntax error in pattern")
    if pattern[i] == "\\":
        i += 1
    if i >= len(pattern) or i + 1 >= len(pattern):
        raise PatternError("syntax error in pattern")
    return i + 1, pattern[i]
