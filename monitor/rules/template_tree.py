"""Go's template language: the tree that a text is read into, and how Go writes a part of it in an error.

Positions count characters from the template's start. They are where Go counts them: a chain's is that of its last
operand's first field, a call's that of the function.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from monitor.rules.go_format import quote


class Constant(msgspec.Struct, frozen=True):
    """A literal: text, number, truth value or nil."""

    value: str | float | int | bool | None
    text: str
    """As it was written."""
    position: int


class Dot(msgspec.Struct, frozen=True):
    """``.``"""

    position: int


class Variable(msgspec.Struct, frozen=True):
    """``$name``"""

    name: str
    position: int


class Function(msgspec.Struct, frozen=True):
    """A function's name."""

    name: str
    position: int


class Chain(msgspec.Struct, frozen=True):
    """``operand.Field.Field``"""

    operand: Operand
    fields: tuple[str, ...]
    position: int


class Command(msgspec.Struct, frozen=True):
    """``first argument argument``"""

    operands: tuple[Operand, ...]
    position: int


class Pipeline(msgspec.Struct, frozen=True):
    """``$a, $b := command | command``"""

    commands: tuple[Command, ...]
    position: int
    variables: tuple[str, ...] = ()
    assigns: bool = False
    """``=`` for a variable that is there, not ``:=`` for a new one."""


Operand: TypeAlias = Constant | Dot | Variable | Function | Chain | Pipeline


class Text(msgspec.Struct, frozen=True):
    """What stands between the actions."""

    text: str


class Print(msgspec.Struct, frozen=True):
    """``{{ pipeline }}``"""

    pipeline: Pipeline


class Branch(msgspec.Struct, frozen=True):
    """``if``, ``with`` or ``range``, with what follows ``else``."""

    kind: Literal["if", "with", "range"]
    pipeline: Pipeline
    body: tuple[Node, ...]
    otherwise: tuple[Node, ...]


class Leave(msgspec.Struct, frozen=True):
    """``break`` or ``continue``"""

    kind: Literal["break", "continue"]


class Include(msgspec.Struct, frozen=True):
    """``{{ template "name" pipeline }}``"""

    name: str
    pipeline: Pipeline | None
    position: int


Node: TypeAlias = Text | Print | Branch | Leave | Include
Placed: TypeAlias = Operand | Command | Include
"""What an error can be at."""


class Tree(msgspec.Struct, frozen=True):
    """A whole template: what it prints, and what it defines."""

    body: tuple[Node, ...]
    definitions: dict[str, tuple[Node, ...]] = msgspec.field(default_factory=dict)


def written(part: Placed) -> str:
    """A part of a template as Go writes it: ``gt $value 5``."""
    match part:
        case Constant():
            return part.text
        case Dot():
            return "."
        case Variable() | Function():
            return part.name
        case Chain():
            fields = "".join(f".{name}" for name in part.fields)
            return fields if isinstance(part.operand, Dot) else f"{_enclosed(part.operand)}{fields}"
        case Command():
            return " ".join(map(_enclosed, part.operands))
        case Pipeline():
            sign = "=" if part.assigns else ":="
            declared = f"{', '.join(part.variables)} {sign} " if part.variables else ""
            return declared + " | ".join(map(written, part.commands))
        case Include():
            given = f" {written(part.pipeline)}" if part.pipeline is not None else ""
            return f"{{{{template {quote(part.name)}{given}}}}}"


def _enclosed(operand: Operand) -> str:
    return f"({written(operand)})" if isinstance(operand, Pipeline) else written(operand)
