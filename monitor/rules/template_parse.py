"""Go's template language: a text into a tree. What Go refuses when it parses is refused here, with its place.

Supported is all of the language that rule files use: pipelines, variables, ``if``, ``with``, ``range``, ``define``,
``template``, ``block``, ``break`` and ``continue``, comments, trimming. The tree is plain data: ``templates.py`` walks
it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from monitor.rules.template_lex import TemplateError, Token, pieces, tokenise, unquote

_DEEPEST = 50


@dataclass(frozen=True, slots=True)
class Constant:
    """A literal: text, number, truth value or nil."""

    value: str | float | int | bool | None
    source: str


@dataclass(frozen=True, slots=True)
class Dot:
    """``.``"""

    source: str = "."


@dataclass(frozen=True, slots=True)
class Variable:
    """``$name``"""

    name: str

    @property
    def source(self) -> str:
        """As it was written."""
        return self.name


@dataclass(frozen=True, slots=True)
class Function:
    """A function's name, where it stands as a value: called without arguments."""

    name: str

    @property
    def source(self) -> str:
        """As it was written."""
        return self.name


@dataclass(frozen=True, slots=True)
class Chain:
    """``operand.Field.Field``"""

    operand: Operand
    fields: tuple[str, ...]
    source: str


@dataclass(frozen=True, slots=True)
class Command:
    """``first argument argument``"""

    operands: tuple[Operand, ...]
    source: str


@dataclass(frozen=True, slots=True)
class Pipeline:
    """``$a, $b := command | command``"""

    commands: tuple[Command, ...]
    source: str
    variables: tuple[str, ...] = ()
    assigns: bool = False
    """``=`` for a variable that is there, not ``:=`` for a new one."""


Operand: TypeAlias = Constant | Dot | Variable | Function | Chain | Pipeline


@dataclass(frozen=True, slots=True)
class Text:
    """What stands between the actions."""

    text: str


@dataclass(frozen=True, slots=True)
class Print:
    """``{{ pipeline }}``"""

    pipeline: Pipeline


@dataclass(frozen=True, slots=True)
class Branch:
    """``if``, ``with`` or ``range``, with what follows ``else``."""

    kind: Literal["if", "with", "range"]
    pipeline: Pipeline
    body: tuple[Node, ...]
    otherwise: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Leave:
    """``break`` or ``continue``"""

    kind: Literal["break", "continue"]


@dataclass(frozen=True, slots=True)
class Include:
    """``{{ template "name" pipeline }}``"""

    name: str
    pipeline: Pipeline | None


Node: TypeAlias = Text | Print | Branch | Leave | Include


@dataclass(frozen=True, slots=True)
class Tree:
    """A whole template: what it prints, and what it defines."""

    body: tuple[Node, ...]
    definitions: dict[str, tuple[Node, ...]] = field(default_factory=dict)


def parse(text: str, functions: Collection[str], variables: Collection[str] = ()) -> Tree:
    """Read a template. ``variables`` are those that are there from the start, besides ``$``.

    Raises ``TemplateError`` with a position for what Go refuses: an unknown function, an undefined variable, a missing
    ``end``.
    """
    return _Parser(text, functions, variables).tree()


class _Parser:
    def __init__(self, text: str, functions: Collection[str], variables: Collection[str]) -> None:
        self.pieces = list(pieces(text))
        self.next = 0
        self.functions = functions
        self.known = ["$", *variables]
        self.definitions: dict[str, tuple[Node, ...]] = {}
        self.tokens: list[Token] = []
        self.at = 0
        self.end = len(text)
        self.depth = 0
        self.loops = 0

    def tree(self) -> Tree:
        body, ended = self.nodes()
        if ended is not None:
            raise TemplateError(f"unexpected {{{{{ended.text}}}}}", ended.position)
        return Tree(body, self.definitions)

    # -- the parts of a template -------------------------------------------------------------------------------------

    def nodes(self) -> tuple[tuple[Node, ...], Token | None]:
        """Everything to the next ``end`` or ``else``, which is given too, or to the end of the text."""
        self.depth += 1
        if self.depth > _DEEPEST:
            raise TemplateError(f"nested more than {_DEEPEST} deep", self.pieces[self.next - 1][1])
        out: list[Node] = []
        while self.next < len(self.pieces):
            piece, position, action = self.pieces[self.next]
            self.next += 1
            if not action:
                out.append(Text(piece))
                continue
            self.tokens, self.at = tokenise(piece, position), 0
            first = self.peek()
            if first is None:
                raise TemplateError("missing value for command", position)
            if first.kind != "keyword":
                out.append(Print(self.pipeline("command")))
                self.finish()
                continue
            self.at += 1
            if first.text in ("end", "else"):
                if first.text == "end":
                    self.finish()
                self.depth -= 1
                return tuple(out), first
            node = self.keyword(first)
            if node is not None:
                out.append(node)
        self.depth -= 1
        return tuple(out), None

    def keyword(self, word: Token) -> Node | None:
        if word.text in ("if", "with", "range"):
            return self.branch(word)
        if word.text in ("break", "continue"):
            self.finish()
            if not self.loops:
                raise TemplateError(f"{{{{{word.text}}}}} outside {{{{range}}}}", word.position)
            return Leave("break" if word.text == "break" else "continue")
        name_token = self.take()
        if name_token is None or name_token.kind not in ("string", "raw"):
            raise TemplateError(f"{word.text} needs a name in quotes", word.position)
        name = self.literal(name_token)
        assert isinstance(name, str)  # noqa: S101 # it is of kind string or raw
        if word.text == "template":
            pipeline = self.pipeline("template clause") if self.peek() is not None else None
            self.finish()
            return Include(name, pipeline)
        pipeline = self.pipeline("block clause") if word.text == "block" else None
        self.finish()
        outside, self.known = self.known, ["$"]
        loops, self.loops = self.loops, 0
        self.definitions[name] = self.body(word)
        self.known, self.loops = outside, loops
        return Include(name, pipeline) if word.text == "block" else None

    def branch(self, word: Token) -> Branch:
        mark = len(self.known)
        pipeline = self.pipeline(word.text, loop=word.text == "range")
        self.finish()
        self.loops += word.text == "range"
        body, ended = self.nodes()
        self.loops -= word.text == "range"
        otherwise: tuple[Node, ...] = ()
        if ended is not None and ended.text == "else":
            chained = self.peek()
            if chained is not None and chained.kind == "keyword" and chained.text == word.text != "range":
                self.at += 1
                self.depth += 1
                if self.depth > _DEEPEST:
                    raise TemplateError(f"nested more than {_DEEPEST} deep", chained.position)
                otherwise = (self.branch(chained),)
                self.depth -= 1
                del self.known[mark:]
                return self.built(word, pipeline, body, otherwise)
            self.finish()
            otherwise, ended = self.nodes()
            if ended is not None and ended.text == "else":
                raise TemplateError("expected end; found {{else}}", ended.position)
        if ended is None:
            raise TemplateError(f"unexpected EOF: {{{{{word.text}}}}} has no {{{{end}}}}", word.position)
        del self.known[mark:]
        return self.built(word, pipeline, body, otherwise)

    @staticmethod
    def built(word: Token, pipeline: Pipeline, body: tuple[Node, ...], otherwise: tuple[Node, ...]) -> Branch:
        kind: Literal["if", "with", "range"] = "if" if word.text == "if" else "with" if word.text == "with" else "range"
        return Branch(kind, pipeline, body, otherwise)

    def body(self, word: Token) -> tuple[Node, ...]:
        body, ended = self.nodes()
        if ended is None:
            raise TemplateError(f"unexpected EOF: {{{{{word.text}}}}} has no {{{{end}}}}", word.position)
        if ended.text == "else":
            raise TemplateError(f"unexpected {{{{else}}}} in {word.text}", ended.position)
        return body

    # -- the inside of an action -------------------------------------------------------------------------------------

    def peek(self, ahead: int = 0) -> Token | None:
        i = self.at + ahead
        return self.tokens[i] if i < len(self.tokens) else None

    def take(self) -> Token | None:
        token = self.peek()
        self.at += token is not None
        return token

    def finish(self) -> None:
        token = self.peek()
        if token is not None:
            raise TemplateError(f"unexpected {token.text!r}", token.position)

    def place(self) -> int:
        token = self.peek()
        if token is not None:
            return token.position
        return self.tokens[-1].position + len(self.tokens[-1].text) if self.tokens else self.end

    def pipeline(self, context: str, *, loop: bool = False) -> Pipeline:
        start = self.at
        variables, assigns = self.declaration(loop)
        commands: list[Command] = []
        while True:
            place = self.place()
            command = self.command(context)
            if commands and isinstance(command.operands[0], Constant | Dot):
                raise TemplateError(f"non executable command in pipeline stage {len(commands) + 1}", place)
            commands.append(command)
            token = self.peek()
            if token is None or token.text != "|":
                break
            self.at += 1
        if not assigns:
            self.known.extend(variables)
        return Pipeline(tuple(commands), self.written(start), variables, assigns)

    def declaration(self, loop: bool) -> tuple[tuple[str, ...], bool]:
        """``$x :=``, ``$x =`` and, for a range, ``$i, $x :=``."""
        names: list[Token] = []
        ahead = 0
        while (token := self.peek(ahead)) is not None and token.kind == "variable":
            names.append(token)
            follows = self.peek(ahead + 1)
            if follows is not None and follows.text == "," and loop and len(names) == 1:
                ahead += 2
                continue
            if follows is not None and follows.text in (":=", "="):
                self.at += ahead + 2
                if follows.text == "=":
                    for name in names:
                        self.defined(name)
                return tuple(name.text for name in names), follows.text == "="
            break
        return (), False

    def command(self, context: str) -> Command:
        start = self.at
        operands: list[Operand] = []
        while (token := self.peek()) is not None and token.text not in ("|", ")"):
            if operands and not token.spaced:
                raise TemplateError(f"unexpected {token.text!r}", token.position)
            operands.append(self.operand())
        if not operands:
            raise TemplateError(f"missing value for {context}", self.place())
        if operands[0] == Constant(None, "nil"):
            raise TemplateError("nil is not a command", self.tokens[start].position)
        if len(operands) > 1 and isinstance(operands[0], Constant | Dot | Pipeline):
            raise TemplateError(
                f"can't give argument to non-function {operands[0].source}", self.tokens[start].position
            )
        return Command(tuple(operands), self.written(start))

    def operand(self) -> Operand:
        start = self.at
        token = self.tokens[self.at]
        self.at += 1
        operand: Operand
        if token.kind == "variable":
            operand = self.defined(token)
        elif token.kind == "field":
            operand = Dot()
            self.at -= 1
        elif token.text == ".":
            operand = Dot()
        elif token.text == "(":
            operand = self.parenthesised(token)
        elif token.kind == "word":
            operand = self.named(token)
        elif token.kind in ("string", "raw", "char", "number"):
            operand = Constant(self.literal(token), token.text)
        else:
            raise TemplateError(f"unexpected {token.text!r} in operand", token.position)
        fields: list[str] = []
        while (follows := self.peek()) is not None and follows.kind == "field":
            if follows.spaced and follows is not token:
                break
            fields.append(follows.text[1:])
            self.at += 1
        if not fields:
            return operand
        if isinstance(operand, Constant):
            raise TemplateError(f"unexpected . after term {token.text!r}", token.position)
        return Chain(operand, tuple(fields), self.written(start))

    def parenthesised(self, opened: Token) -> Pipeline:
        self.depth += 1
        if self.depth > _DEEPEST:
            raise TemplateError(f"nested more than {_DEEPEST} deep", opened.position)
        pipeline = self.pipeline("parenthesized pipeline")
        self.depth -= 1
        closed = self.take()
        if closed is None or closed.text != ")":
            raise TemplateError("unclosed left paren", opened.position)
        return pipeline

    def named(self, token: Token) -> Constant | Function:
        constants: dict[str, bool | None] = {"true": True, "false": False, "nil": None}
        if token.text in constants:
            return Constant(constants[token.text], token.text)
        if token.text not in self.functions:
            raise TemplateError(f'function "{token.text}" not defined', token.position)
        return Function(token.text)

    def defined(self, token: Token) -> Variable:
        if token.text not in self.known:
            raise TemplateError(f'undefined variable "{token.text}"', token.position)
        return Variable(token.text)

    def literal(self, token: Token) -> str | int | float:
        if token.kind == "raw":
            return token.text[1:-1]
        if token.kind == "string":
            return unquote(token.text, token.position)
        if token.kind == "char":
            character = unquote(token.text, token.position)
            if len(character) != 1:
                raise TemplateError(f"malformed character constant: {token.text}", token.position)
            return ord(character)
        plain = token.text.replace("_", "")
        try:
            return (
                int(plain, 0)
                if plain.lstrip("+-").lower().startswith("0x") or plain.lstrip("+-").isdigit()
                else float(plain)
            )
        except ValueError as error:
            raise TemplateError(f"bad number syntax: {token.text!r}", token.position) from error

    def written(self, start: int) -> str:
        """The tokens from ``start`` to here, as a person would write them."""
        out = ""
        for i in range(start, self.at):
            token = self.tokens[i]
            out += (" " if token.spaced and i > start else "") + token.text
        return out
