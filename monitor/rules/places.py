"""Where the characters of a YAML value stand in its file: in blocks, folded or not, in quotes, over several lines."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from typing import TypeAlias

from monitor.yaml_reader import Node

Place: TypeAlias = tuple[int, int, int]
"""Where a piece of a value begins: its offset in the value, its line and its column in the file. The characters of a
piece stand in the file as they stand in the value."""

_ESCAPE = re.compile(r"\\(?:x[0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4}|U[0-9A-Fa-f]{8}|.)|[^\\]")
_PLAIN_ESCAPES = {
    **dict(zip('abtnvfre"\\/ 0', '\a\b\t\n\v\f\r\x1b"\\/ \0', strict=True)),
    "N": "\x85",
    "_": "\xa0",
    "L": "\u2028",
    "P": "\u2029",
}


def places(node: Node, text: str, lines: Sequence[str]) -> list[Place]:
    """The pieces of ``text``, which is the value of ``node``, in the order of the text. ``lines`` are the file's.

    What stands in quotes over several lines, with escapes, is not followed: it is all told at its beginning.
    """
    first = lines[node.line - 1][node.column - 1 :] if node.line <= len(lines) else ""
    quote = first[:1] if first[:1] in ("'", '"') and node.block_indent is None else ""
    pieces = _in_quotes(first[1:], quote, text) if quote else []
    if pieces:
        return [(at, node.line, node.column + 1 + offset) for at, offset in pieces]
    found: list[Place] = []
    cursor = 0
    for row, start, written in _chunks(node, lines):
        at = text.find(written, cursor)
        if at < 0 and written.startswith(rest := text[cursor:].strip()) and rest:
            at = text.index(rest, cursor)  # a quote or a comment stands behind the value's end
        if at < 0 or text[cursor:at].strip():
            break
        found.append((at, row, start))
        cursor = at + len(written)
        if cursor >= len(text.rstrip()):
            return found
    return [(sys.maxsize, node.line, node.column)]  # behind every position: all are told at the beginning


def place(pieces: Sequence[Place], position: int) -> tuple[int, int]:
    """Line and column of a character, by its offset in the value."""
    at, line, column = next((one for one in reversed(pieces) if one[0] <= position), pieces[0])
    return line, column + max(0, position - at)


def _in_quotes(written: str, quote: str, text: str) -> list[tuple[int, int]]:
    """Where the pieces between escapes begin, in the value and behind the opening quote; nothing where the value does
    not end in this line."""
    pieces = [(0, 0)]
    read: list[str] = []
    at = 0
    while at < len(written):
        if written[at] == quote and not (quote == "'" and written[at + 1 : at + 2] == "'"):
            return pieces if "".join(read) == text else []
        found = _ESCAPE.match(written, at) if quote == '"' else None
        length = len(found[0]) if found else 2 if written[at] == "'" == quote else 1
        read.append(_unescaped(written[at : at + length]) if length > 1 and quote == '"' else written[at])
        at += length
        if length > 1:
            pieces.append((len(read), at))
    return []


def _unescaped(escape: str) -> str:
    if len(escape) > 2:
        code = int(escape[2:], 16)
        return chr(code) if code <= 0x10FFFF else ""
    return _PLAIN_ESCAPES.get(escape[1], "")


def _chunks(node: Node, lines: Sequence[str]) -> Iterator[tuple[int, int, str]]:
    """The lines that a value stands on, from its place to the end of the file: line, column, text without the
    indent."""
    if node.block_indent is None and node.line <= len(lines):
        first = lines[node.line - 1][node.column - 1 :]
        quotes = 1 if first[:1] in ("'", '"') else 0
        yield node.line, node.column + quotes, first[quotes:].rstrip()
    for row in range(node.line, len(lines)):
        written = lines[row].strip()
        if written:
            yield row + 1, len(lines[row]) - len(lines[row].lstrip()) + 1, written
