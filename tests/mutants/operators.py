"""The small breakages that are tried: each is one edit of one node of a function's syntax tree."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass

_COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
}
_ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
}
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Mutant:
    """One breakage. ``number`` is its place in the file, the same for the same source."""

    number: int
    line: int
    column: int
    words: str  # what was done, as «a < b  →  a <= b»
    function: str  # the outermost function's qualified name
    first_line: int  # of that function's code object: the line of its first decorator
    lines: range  # what must run for a test to see it


def mutants(source: str) -> Iterator[tuple[Mutant, ast.Module]]:
    """Each breakage of ``source`` with the whole tree, which is broken until the next one is asked for."""
    tree = ast.parse(source)
    number = 0
    for outermost, name in _outermost(tree):
        first_line = min([outermost.lineno, *(decorator.lineno for decorator in outermost.decorator_list)])
        for node in _body(outermost):
            for edit in _edits(node):
                before = ast.unparse(node)
                undo = edit(node)
                after = ast.unparse(node)
                if after != before:
                    words = f"{_short(before)}  →  {_short(after)}"
                    yield Mutant(number, node.lineno, node.col_offset + 1, words, name, first_line, _lines(node)), tree
                    number += 1
                undo()


def _lines(node: ast.expr | ast.stmt) -> range:
    last = node.end_lineno if isinstance(node, ast.expr) else node.lineno
    return range(node.lineno, (last or node.lineno) + 1)


def _outermost(tree: ast.Module) -> Iterator[tuple[Function, str]]:
    """Functions and methods, less those inside another function, with their qualified names."""
    waiting: list[tuple[ast.stmt, str]] = [(statement, "") for statement in tree.body]
    while waiting:
        statement, prefix = waiting.pop(0)
        if isinstance(statement, Function):
            yield statement, prefix + statement.name
        elif isinstance(statement, ast.ClassDef):
            waiting.extend((inner, f"{prefix}{statement.name}.") for inner in statement.body)
        elif isinstance(statement, ast.If):
            waiting.extend((inner, prefix) for inner in statement.body + statement.orelse)


def _body(function: Function) -> Iterator[ast.expr | ast.stmt]:
    """Every node in the body. Not the signature: its defaults are worked out once, where the function is made; nor
    annotations, nor strings that stand alone."""
    waiting: list[ast.AST] = list(reversed(function.body))
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.expr | ast.stmt):
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                continue
            yield node
        children: list[ast.AST]
        if isinstance(node, Function | ast.Lambda):
            children = node.body if isinstance(node.body, list) else [node.body]  # type: ignore[assignment]
        elif isinstance(node, ast.AnnAssign):
            children = [node.value] if node.value is not None else []
        elif isinstance(node, ast.JoinedStr):
            children = []  # words for people
        else:
            children = list(ast.iter_child_nodes(node))
        waiting.extend(reversed(children))


Edit = Callable[[ast.AST], Callable[[], None]]


def _edits(node: ast.AST) -> Iterator[Edit]:
    """What can be done to this node. An edit changes it in place and gives back what undoes that."""
    match node:
        case ast.Compare(ops=[operator]):
            yield _set("ops", [_COMPARISONS[type(operator)]()])
        case ast.BoolOp(op=ast.And()):
            yield _set("op", ast.Or())
        case ast.BoolOp(op=ast.Or()):
            yield _set("op", ast.And())
        case ast.BinOp(op=operator, left=left) if type(operator) in _ARITHMETIC:
            if not (isinstance(operator, ast.Mod) and isinstance(left, ast.Constant | ast.JoinedStr)):
                yield _set("op", _ARITHMETIC[type(operator)]())
        case ast.AugAssign(op=operator) if type(operator) in _ARITHMETIC:
            yield _set("op", _ARITHMETIC[type(operator)]())
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            yield _become(ast.UnaryOp(op=ast.Not(), operand=ast.UnaryOp(op=ast.Not(), operand=operand)))
        case ast.UnaryOp(op=ast.USub()):
            yield _set("op", ast.UAdd())
        case ast.Constant(value=bool() as value):
            yield _set("value", not value)
        case ast.Constant(value=int() | float() as value):
            yield _set("value", value + 1)
        case ast.If() | ast.While() | ast.IfExp():
            yield _set("test", ast.Constant(value=False))
            if not isinstance(node, ast.While):
                yield _set("test", ast.Constant(value=True))
        case ast.Return(value=ast.expr() as value) if not (isinstance(value, ast.Constant) and value.value is None):
            yield _set("value", ast.Constant(value=None))
        case ast.Continue():
            yield _become(ast.Break())
        case ast.Break():
            yield _become(ast.Continue())
        case ast.Expr(value=ast.Call() | ast.Await()) | ast.Raise() | ast.Delete():
            yield _become(ast.Pass())
        case (
            ast.ListComp(generators=[ast.comprehension(ifs=[_, *_]) as first, *_])
            | ast.GeneratorExp(generators=[ast.comprehension(ifs=[_, *_]) as first, *_])
        ):
            yield _set_of(first, "ifs", [])
        case (
            ast.SetComp(generators=[ast.comprehension(ifs=[_, *_]) as first, *_])
            | ast.DictComp(generators=[ast.comprehension(ifs=[_, *_]) as first, *_])
        ):
            yield _set_of(first, "ifs", [])


def _set(field: str, value: object) -> Edit:
    def edit(node: ast.AST) -> Callable[[], None]:
        return _set_of(node, field, value)(node)

    return edit


def _set_of(target: ast.AST, field: str, value: object) -> Edit:
    def edit(_node: ast.AST) -> Callable[[], None]:
        before = getattr(target, field)
        setattr(target, field, value)
        return lambda: setattr(target, field, before)

    return edit


def _become(other: ast.AST) -> Edit:
    """The node turns into another one, in its place."""

    def edit(node: ast.AST) -> Callable[[], None]:
        kind, fields = type(node), {name: getattr(node, name) for name in node._fields}
        node.__class__ = type(other)
        for name in other._fields:
            setattr(node, name, getattr(other, name))

        def undo() -> None:
            node.__class__ = kind
            for name, value in fields.items():
                setattr(node, name, value)

        return undo

    return edit


def _short(text: str) -> str:
    first, _, rest = text.partition("\n")
    cut = first if len(first) <= 100 else first[:99] + "…"
    return cut + " …" if rest else cut
