"""Finds what somebody means by a few letters of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import TypeVar

T = TypeVar("T")


def fuzzy(wanted: str, choices: Iterable[T], text: Callable[[T], str]) -> list[T]:
    """Those in which all letters of ``wanted`` come in this order, the best first: what has a whole word of it, then
    where the letters begin words, or stand together. Equals stay in order."""
    words = wanted.lower().split()
    if not words:
        return list(choices)
    found = [(score, one) for one in choices if (score := _score(words, text(one).lower())) is not None]
    found.sort(key=lambda pair: pair[0])
    return [one for _, one in found]


def _place(text: str, begin: int, end: int) -> int:
    """What it costs to be found there: the least as a word of its own, or as the beginning of one."""
    if begin and text[begin - 1].isalnum():
        return 3
    return 1 if end < len(text) and text[end].isalnum() else 0


def _score(words: list[str], text: str) -> int | None:
    """The less the better; None where the text has not all of it."""
    total = 0
    for word in words:
        found = [_place(text, one.start(), one.end()) for one in re.finditer(re.escape(word), text)]
        if found:
            total += min(found)
            continue
        at, cost, before = -1, 10, -2
        for letter in word:
            at = text.find(letter, at + 1)
            if at < 0:
                return None
            begins = at == 0 or not text[at - 1].isalnum()
            cost += 0 if at == before + 1 or begins else 4
            before = at
        total += cost
    return total
