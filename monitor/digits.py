"""Whether a text is a whole number."""

from __future__ import annotations

_MOST_DIGITS = 18


def is_whole(text: str) -> bool:
    """Whether this is a number of ASCII's digits, 18 at most, as 64 bits hold it. ``str.isdigit`` is true of ``²``,
    too, which ``int`` refuses, as it does 5,000 digits."""
    return text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS


def by_number(text: str) -> tuple[int, str]:
    """A key that sorts whole numbers by their value, and after them what is none."""
    return (int(text), text) if is_whole(text) else (1 << 62, text)
