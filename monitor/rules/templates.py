"""Go's templates as Prometheus uses them in labels and annotations, expanded by an interpreter of our own.

Values are texts, numbers, mappings and samples; a field is looked up in a mapping or of a sample, and nowhere else, so
that no template reaches a Python attribute. Output and steps are bounded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from monitor.rules.go_format import MOST_CHARACTERS, Sample, Value, format_value, type_name
from monitor.rules.template_functions import FUNCTIONS, CallError, Context, Query, call, truth
from monitor.rules.template_lex import TemplateError
from monitor.rules.template_parse import (
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
    parse,
)

__all__ = ["Context", "Query", "Sample", "Template", "TemplateError"]

_MOST_STEPS = 20_000
_DEEPEST_INCLUDE = 50
_GIVEN = ("$labels", "$externalLabels", "$externalURL", "$value")

_Scope: TypeAlias = list[list[Value]]


class _Left(Exception):  # a way out of a loop, not an error
    """``break`` or ``continue``."""

    def __init__(self, kind: str) -> None:
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Template:
    """A label's or annotation's text, read once and expanded at every evaluation."""

    text: str
    _tree: Tree | None
    """None for a text without actions, which is most labels."""

    @classmethod
    def parse(cls, text: str) -> Template:
        """Read a template. Raises ``TemplateError`` with the position of what is wrong."""
        return cls(text, parse(text, FUNCTIONS.keys(), _GIVEN) if "{{" in text else None)

    def expand(
        self,
        labels: Mapping[str, str],
        value: float,
        context: Context,
        external_labels: Mapping[str, str] | None = None,
    ) -> str:
        """Fill in a sample. ``labels`` may hold ``__name__``. Raises ``TemplateError``."""
        if self._tree is None:
            return self.text
        data: dict[str, Value] = {
            "Labels": labels,
            "ExternalLabels": external_labels or {},
            "ExternalURL": context.external_url,
            "Value": value,
        }
        return _Run(self._tree, context, data).text()


class _Run:
    """One expansion."""

    def __init__(self, tree: Tree, context: Context, data: dict[str, Value]) -> None:
        self.tree = tree
        self.context = context
        self.data = data
        self.out: list[str] = []
        self.length = 0
        self.steps = 0
        self.includes = 0
        # Names and values in the order of their declaration; a block's are cut off at its end.
        self.names = ["$", *_GIVEN]
        self.values: list[Value] = [
            data,
            data["Labels"],
            data["ExternalLabels"],
            data["ExternalURL"],
            data["Value"],
        ]

    def text(self) -> str:
        try:
            self.walk(self.tree.body, self.data)
        except RecursionError as error:
            raise TemplateError("nested too deeply") from error
        return "".join(self.out)

    def step(self) -> None:
        self.steps += 1
        if self.steps > _MOST_STEPS:
            raise TemplateError(f"takes more than {_MOST_STEPS} steps")

    def write(self, text: str) -> None:
        self.length += len(text)
        if self.length > MOST_CHARACTERS:
            raise TemplateError(f"the text grows beyond {MOST_CHARACTERS} characters")
        self.out.append(text)

    # -- nodes -------------------------------------------------------------------------------------------------------

    def walk(self, nodes: Sequence[Node], dot: Value) -> None:
        mark = len(self.names)
        try:
            for node in nodes:
                self.step()
                if isinstance(node, Text):
                    self.write(node.text)
                elif isinstance(node, Print):
                    value = self.pipeline(node.pipeline, dot)
                    if not node.pipeline.variables:
                        self.write(format_value(value))
                elif isinstance(node, Branch):
                    self.branch(node, dot)
                elif isinstance(node, Leave):
                    raise _Left(node.kind)
                else:
                    self.include(node, dot)
        finally:
            self.forget(mark)

    def forget(self, mark: int) -> None:
        del self.names[mark:]
        del self.values[mark:]

    def branch(self, node: Branch, dot: Value) -> None:
        mark = len(self.names)
        if node.kind == "range":
            self.loop(node, dot)
        else:
            value = self.pipeline(node.pipeline, dot)
            if truth(value):
                self.walk(node.body, value if node.kind == "with" else dot)
            else:
                self.walk(node.otherwise, dot)
        self.forget(mark)

    def loop(self, node: Branch, dot: Value) -> None:
        plain = Pipeline(node.pipeline.commands, node.pipeline.source)
        over = self.pipeline(plain, dot)
        pairs: list[tuple[Value, Value]]
        if isinstance(over, Mapping):
            pairs = [(key, over[key]) for key in sorted(over)]
        elif isinstance(over, Sequence) and not isinstance(over, str):
            pairs = list(enumerate(over))
        elif isinstance(over, int) and not isinstance(over, bool):
            pairs = [(i, i) for i in range(min(over, _MOST_STEPS + 1))]
        elif over is None:
            pairs = []
        else:
            raise TemplateError(f"range can't iterate over {format_value(over)}")
        mark = len(self.names)
        for key, item in pairs:
            self.step()
            names = node.pipeline.variables
            given = (item,) if len(names) == 1 else (key, item)[: len(names)]
            for name, value in zip(names, given, strict=True):
                self.bind(name, value, node.pipeline.assigns)
            try:
                self.walk(node.body, item)
            except _Left as left:
                if left.kind == "break":
                    break
            finally:
                self.forget(mark)
        if not pairs:
            self.walk(node.otherwise, dot)

    def include(self, node: Include, dot: Value) -> None:
        body = self.tree.definitions.get(node.name)
        if body is None:
            raise TemplateError(f'template "{node.name}" not defined')
        self.includes += 1
        if self.includes > _DEEPEST_INCLUDE:
            raise TemplateError(f"templates include each other more than {_DEEPEST_INCLUDE} deep")
        inner = self.pipeline(node.pipeline, dot) if node.pipeline is not None else None
        names, values = self.names, self.values
        self.names, self.values = ["$"], [inner]
        self.walk(body, inner)
        self.names, self.values = names, values
        self.includes -= 1

    # -- values ------------------------------------------------------------------------------------------------------

    def bind(self, name: str, value: Value, assigns: bool) -> None:
        if assigns:
            self.values[self.place(name)] = value
        else:
            self.names.append(name)
            self.values.append(value)

    def place(self, name: str) -> int:
        return len(self.names) - 1 - self.names[::-1].index(name)

    def pipeline(self, pipeline: Pipeline, dot: Value) -> Value:
        value: Value = None
        for i, command in enumerate(pipeline.commands):
            value = self.command(command, dot, (value,) if i else ())
        for name in pipeline.variables:
            self.bind(name, value, pipeline.assigns)
        return value

    def command(self, command: Command, dot: Value, piped: tuple[Value, ...]) -> Value:
        self.step()
        head, *operands = command.operands
        if not isinstance(head, Function):
            if operands or piped:
                raise TemplateError(f"can't give argument to non-function {head.source}")
            return self.operand(head, dot)
        arguments: list[Value]
        if head.name in ("and", "or"):
            arguments = self.deciding(head.name, operands, dot, piped)
        else:
            arguments = [self.operand(operand, dot) for operand in operands] + list(piped)
        return self.call(head.name, command.source, arguments)

    def deciding(self, name: str, operands: list[Operand], dot: Value, piped: tuple[Value, ...]) -> list[Value]:
        """The arguments of ``and`` and ``or`` up to the one that decides: the others are not evaluated."""
        arguments: list[Value] = []
        for operand in operands:
            arguments.append(self.operand(operand, dot))
            if truth(arguments[-1]) == (name == "or"):
                return arguments
        return [*arguments, *piped]

    def call(self, name: str, source: str, arguments: Sequence[Value]) -> Value:
        try:
            return call(name, self.context, arguments)
        except CallError as error:
            raise TemplateError(f"at <{source}>: {error}") from error

    def operand(self, operand: Operand, dot: Value) -> Value:
        if isinstance(operand, Constant):
            return operand.value
        if isinstance(operand, Dot):
            return dot
        if isinstance(operand, Variable):
            return self.values[self.place(operand.name)]
        if isinstance(operand, Function):
            return self.call(operand.name, operand.name, ())
        if isinstance(operand, Pipeline):
            mark = len(self.names)
            value = self.pipeline(operand, dot)
            self.forget(mark)
            return value
        return self.chain(operand, dot)

    def chain(self, chain: Chain, dot: Value) -> Value:
        value = self.operand(chain.operand, dot)
        for name in chain.fields:
            if value is self.data and name not in self.data:
                raise TemplateError(f"at <{chain.source}>: can't evaluate field {name}: there is no such data")
            if isinstance(value, Mapping):
                # A label that is absent is empty; an argument that was not given has no value.
                missing = None if "arg0" in value else ""
                value = value.get(name, missing)
            elif isinstance(value, Sample) and name in ("Labels", "Value"):
                value = value.labels if name == "Labels" else value.value
            elif value is None:
                raise TemplateError(f"at <{chain.source}>: nil data; no entry for key {name}")
            else:
                raise TemplateError(f"at <{chain.source}>: can't evaluate field {name} in type {type_name(value)}")
        return value
