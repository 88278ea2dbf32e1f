"""Go's template language: a text into pieces and tokens."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

import msgspec


class TemplateError(ValueError):
    """A template that cannot be read, or not be expanded. ``position`` counts characters from its start, or is None."""

    def __init__(self, message: str, position: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.position = position


class Token(msgspec.Struct, frozen=True):
    """A word or sign inside of an action."""

    kind: str
    text: str
    position: int
    spaced: bool
    """Whether space stands before it: ``$x .y`` are two operands, ``$x.y`` is one."""


_TOKEN = re.compile(
    r"""(?P<string>"(?:[^"\\\n]|\\.)*") | (?P<raw>`[^`]*`) | (?P<char>'(?:[^'\\\n]|\\.)+')
      | (?P<number>[+-]?(?:0[xX][0-9a-fA-F_.]*(?:[pP][+-]?\d+)?|0[bBoO][\d_]*
                        |(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][+-]?\d*)?))
      | (?P<variable>\$\w*) | (?P<field>\.[^\W\d]\w*) | (?P<word>[^\W\d]\w*)
      | (?P<declare>:=) | (?P<sign>[.|(),=])""",
    re.VERBOSE,
)
_ESCAPE = re.compile(
    r"\\(?:([abfnrtv\\'\"])|x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{3})|(.?))", re.S
)
_BEHIND_A_NAME = " \t\r\n.,|:()"
_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_KEYWORDS = {"if", "else", "end", "with", "range", "define", "template", "block", "break", "continue"}


def pieces(text: str) -> Iterator[tuple[str, int, bool]]:
    """Texts and the insides of actions, each with its position and whether it is an action; trimmed, without
    comments."""
    position, trim = 0, False
    while True:
        opened = text.find("{{", position)
        piece = text[position : opened if opened >= 0 else len(text)]
        start = opened + 2
        trims_before = opened >= 0 and re.match(r"-[ \t\r\n]", text[start:]) is not None
        if trim:
            position += len(piece) - len(piece.lstrip(" \t\r\n"))
            piece = piece.lstrip(" \t\r\n")
        if trims_before:
            piece = piece.rstrip(" \t\r\n")
            start += 1
        if piece:
            yield piece, position, False
        if opened < 0:
            return
        end = _action_end(text, start, opened)
        inside = text[start:end]
        trim = inside.endswith("-") and inside[-2:-1] in (" ", "\t", "\r", "\n")
        if trim:
            inside = inside[:-1]
        if not inside.lstrip().startswith("/*"):
            yield inside, start, True
        position = end + 2


def _action_end(text: str, start: int, opened: int) -> int:
    """Where the action's ``}}`` begins; one inside of a literal or a comment does not count."""
    position = start
    comment = re.compile(r"\s*/\*").match(text, start)
    if comment is not None:
        closed = text.find("*/", comment.end())
        if closed < 0:
            raise TemplateError("unclosed comment", opened)
        if re.compile(r"(?:\s+-)?\}\}").match(text, closed + 2) is None:
            raise TemplateError("comment ends before closing delimiter", opened)
        return text.index("}}", closed)
    while position < len(text):
        if text.startswith("}}", position):
            return position
        literal = None
        if text[position] in "\"`'":
            literal = _TOKEN.match(text, position)
            if literal is None:
                kind = {'"': "quoted string", "`": "raw quoted string", "'": "character constant"}[text[position]]
                raise TemplateError(f"unterminated {kind}", position)
        position = literal.end() if literal is not None else position + 1
    raise TemplateError("unclosed action", opened)


def tokenise(inside: str, offset: int) -> list[Token]:
    """The tokens of an action's inside; ``offset`` is where it begins."""
    tokens: list[Token] = []
    position = 0
    while position < len(inside):
        if inside[position] in " \t\r\n":
            position += 1
            continue
        spaced = position == 0 or inside[position - 1] in " \t\r\n"
        match = _TOKEN.match(inside, position)
        if match is None:
            context = "operand" if tokens and tokens[-1].text != "|" else "command"
            raise TemplateError(f'unexpected "{inside[position]}" in {context}', offset + position)
        kind = match.lastgroup or ""
        if kind == "word" and match[0] in _KEYWORDS:
            kind = "keyword"
        tokens.append(Token(kind, match[0], offset + position, spaced))
        position = match.end()
        if kind in ("word", "keyword", "variable", "field") and inside[position : position + 1].strip(_BEHIND_A_NAME):
            character = inside[position]
            raise TemplateError(f"bad character U+{ord(character):04X} {character!r}", offset + position)
        if kind == "number" and re.match(r"\w", inside[position:]):
            raise TemplateError(f'bad number syntax: "{inside[match.start() : position + 1]}"', offset + match.start())
    return tokens


def unquote(literal: str, position: int | None = None) -> str:
    """The text that a Go literal in double quotes stands for."""

    def one(match: re.Match[str]) -> str:
        simple, two, four, eight, octal, wrong = match.groups()
        if wrong is not None:
            raise TemplateError(f"invalid syntax in the literal {literal}", position)
        if simple is not None:
            if simple in "'\"" and simple != literal[0]:
                raise TemplateError(f"invalid syntax in the literal {literal}", position)
            return _ESCAPES.get(simple, simple)
        code = int(octal, 8) if octal else int(two or four or eight, 16)
        if code > 0x10FFFF or 0xD800 <= code < 0xE000:
            raise TemplateError(f"invalid syntax in the literal {literal}", position)
        return chr(code)

    return _ESCAPE.sub(one, literal[1:-1])


def number(text: str, position: int | None = None) -> int | float:
    """The number that a Go literal stands for: decimal, hexadecimal, octal or binary, whole or not."""
    # Where underscores may stand is the same in Go and in Python.
    plain = text.lower()
    digits = plain.lstrip("+-")
    try:
        if digits.startswith("0x"):
            return float.fromhex(plain.replace("_", "")) if "p" in digits or "." in digits else int(plain, 16)
        if digits.startswith(("0b", "0o")):
            return int(plain, 0)
        if not digits.replace("_", "").isdigit():
            found = float(plain)
            if math.isinf(found):
                raise ValueError(text)
            return found
        value = int(plain, 8 if len(digits) > 1 and digits.startswith("0") else 10)
    except (ValueError, OverflowError) as error:
        raise TemplateError(f'illegal number syntax: "{text}"', position) from error
    if abs(value) >= 2**63:
        raise TemplateError(f'integer overflow: "{text}"', position)
    return value
