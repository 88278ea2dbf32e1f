"""Go's template language: a text into a tree. What Go refuses when it parses is refused here, with its place.

Supported is all of the language that rule files use: pipelines, variables, ``if``, ``with``, ``range``, ``define``,
``template``, ``block``, ``break`` and ``continue``, comments, trimming. The tree is plain data: ``templates.py`` walks
it.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

from monitor.rules.go_format import quote
from monitor.rules.template_lex import TemplateError, Token, number, pieces, tokenise, unquote
from monitor.rules.template_tree import (
    Branch,
    Chain,
    Command,
    Constant,
    Dot,
    Function,
    Include,
    Leave,
    Node,
    Operand,
    Pipeline,
    Print,
    Text,
    Tree,
    Variable,
)

_DEEPEST = 50


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
                self.finish("command")
                continue
            self.at += 1
            if first.text in ("end", "else"):
                if first.text == "end":
                    self.finish("end")
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
            self.finish(f"{{{{{word.text}}}}}")
            if not self.loops:
                raise TemplateError(f"{{{{{word.text}}}}} outside {{{{range}}}}", word.position)
            return Leave("break" if word.text == "break" else "continue")
        name_token = self.take()
        if name_token is None or name_token.kind not in ("string", "raw"):
            clause = f"{word.text} clause"
            if name_token is None:
                raise TemplateError(f'unexpected "}}}}" in {clause}', word.position)
            raise TemplateError(f"unexpected {quote(name_token.text)} in {clause}", name_token.position)
        name = self.literal(name_token)
        assert isinstance(name, str)  # noqa: S101 # it is of kind string or raw
        if word.text == "template":
            pipeline = self.pipeline("template clause") if self.peek() is not None else None
            self.finish("template clause")
            return Include(name, pipeline, name_token.position)
        pipeline = self.pipeline("block clause") if word.text == "block" else None
        self.finish(f"{word.text} clause")
        outside, self.known = self.known, ["$"]
        loops, self.loops = self.loops, 0
        self.definitions[name] = self.body(word)
        self.known, self.loops = outside, loops
        return Include(name, pipeline, name_token.position) if word.text == "block" else None

    def branch(self, word: Token) -> Branch:
        mark = len(self.known)
        pipeline = self.pipeline(word.text, loop=word.text == "range")
        self.finish(word.text)
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
            self.finish("else")
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

    def finish(self, context: str) -> None:
        """Nothing may follow in this action."""
        token = self.peek()
        if token is not None:
            if token.text == ")":
                raise TemplateError("unexpected right paren", token.position)
            shown = f"<{token.text}>" if token.kind == "keyword" else quote(token.text)
            raise TemplateError(f"unexpected {shown} in {context}", token.position)

    def place(self) -> int:
        token = self.peek()
        if token is not None:
            return token.position
        return self.tokens[-1].position + len(self.tokens[-1].text)

    def pipeline(self, context: str, *, loop: bool = False) -> Pipeline:
        begin = self.place()
        variables, assigns = self.declaration(loop)
        if not assigns:
            self.known.extend(variables)  # as in Go, its own value may name it, and fails when it is expanded
        commands: list[Command] = []
        while True:
            place = self.place()
            if commands and (self.peek() is None or self.tokens[self.at].text == ")"):
                break  # Go takes a pipe with nothing behind it
            command = self.command(context)
            if commands and isinstance(command.operands[0], Constant | Dot):
                raise TemplateError(f"non executable command in pipeline stage {len(commands) + 1}", place)
            commands.append(command)
            token = self.peek()
            if token is None or token.text != "|":
                break
            self.at += 1
        return Pipeline(tuple(commands), begin, variables, assigns)

    def declaration(self, loop: bool) -> tuple[tuple[str, ...], bool]:
        """``$x :=``, ``$x =`` and, for a range, ``$i, $x :=``."""
        names: list[Token] = []
        ahead = 0
        while (token := self.peek(ahead)) is not None and token.kind == "variable":
            names.append(token)
            follows = self.peek(ahead + 1)
            if follows is not None and follows.text == ",":
                if not loop or len(names) > 1:
                    raise TemplateError("too many declarations in command", follows.position)
                ahead += 2
                continue
            if follows is not None and follows.text in (":=", "="):
                self.at += ahead + 2
                return tuple(name.text for name in names), follows.text == "="
            break
        return (), False

    def command(self, context: str) -> Command:
        position = self.place()
        operands: list[Operand] = []
        while (token := self.peek()) is not None and token.text not in ("|", ")"):
            if operands and not token.spaced:
                raise TemplateError(f"unexpected {quote(token.text)} in operand", token.position)
            operands.append(self.operand(context if not operands else "operand"))
        if not operands:
            if token is not None and token.text == "|":
                raise TemplateError(f'unexpected "|" in {context}', position)
            if token is not None and context != "parenthesized pipeline":
                raise TemplateError("unexpected right paren", position)
            raise TemplateError(f"missing value for {context}", position)
        return Command(tuple(operands), position)

    def operand(self, context: str) -> Operand:
        token = self.tokens[self.at]
        self.at += 1
        operand: Operand
        if token.kind == "variable":
            operand = self.defined(token)
        elif token.kind == "field":
            operand = Dot(token.position)
            self.at -= 1
        elif token.text == ".":
            operand = Dot(token.position)
        elif token.text == "(":
            operand = self.parenthesised(token)
        elif token.kind == "word":
            operand = self.named(token)
        elif token.kind in ("string", "raw", "char", "number"):
            operand = Constant(self.literal(token), token.text, token.position)
        else:
            shown = f"<{token.text}>" if token.kind == "keyword" else quote(token.text)
            raise TemplateError(f"unexpected {shown} in {context}", token.position)
        fields: list[Token] = []
        while (follows := self.peek()) is not None and follows.kind == "field":
            if follows.spaced and follows is not token:
                break
            fields.append(follows)
            self.at += 1
        if not fields:
            return operand
        if isinstance(operand, Constant) or token.text == ".":
            raise TemplateError(f"unexpected . after term {quote(token.text)}", token.position)
        # As Go has it: fields of the dot are one word, and what comes after the first begins a chain.
        begin = fields[1] if isinstance(operand, Dot) and len(fields) > 1 else fields[0]
        return Chain(operand, tuple(field.text[1:] for field in fields), begin.position)

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
            return Constant(constants[token.text], token.text, token.position)
        if token.text not in self.functions:
            raise TemplateError(f'function "{token.text}" not defined', token.position)
        return Function(token.text, token.position)

    def defined(self, token: Token) -> Variable:
        if token.text not in self.known:
            raise TemplateError(f'undefined variable "{token.text}"', token.position)
        return Variable(token.text, token.position)

    @staticmethod
    def literal(token: Token) -> str | int | float:
        if token.kind == "raw":
            return token.text[1:-1]
        if token.kind == "string":
            return unquote(token.text, token.position)
        if token.kind == "char":
            character = unquote(token.text, token.position)
            if len(character) != 1:
                raise TemplateError(f"malformed character constant: {token.text}", token.position)
            return ord(character)
        return number(token.text, token.position)
