"""Text that others wrote, made fit for a line of ours: a server's error, a receiver's answer, a redirect."""

from __future__ import annotations


def one_line(text: str, most: int | None = None) -> str:
    """On one line of at most ``most`` characters, and nothing in it that a terminal would take for a command: escape
    codes, and marks that turn the direction of writing around or show nothing at all."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())[:most]
