"""Go's templates as Prometheus uses them in labels and annotations, expanded by an interpreter of our own.

Values are texts, numbers, mappings, samples and times; a field is looked up in a mapping, of a sample or among the
methods that are declared, and nowhere else, so that no template reaches a Python attribute. Output and steps are
bounded. Errors are worded as Go words them, with the place that Go gives.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from monitor.rules.go_format import (
    MOST_CHARACTERS,
    Arguments,
    Data,
    FormatError,
    Sample,
    Value,
    format_value,
    quote,
    type_name,
)
from monitor.rules.go_time import TimeError
from monitor.rules.template_functions import FUNCTIONS, CallError, Context, Query, call, truth
from monitor.rules.template_kinds import NILABLE, TYPES, Declared, checked, fits, mismatch
from monitor.rules.template_lex import TemplateError
from monitor.rules.template_methods import FIELDS, METHODS
from monitor.rules.template_parse import parse
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
    Placed,
    Print,
    Text,
    Tree,
    Variable,
    written,
)

__all__ = ["Context", "Query", "Sample", "Template", "TemplateError"]

_MOST_STEPS = 20_000
_DEEPEST_INCLUDE = 50
_GIVEN = ("$labels", "$externalLabels", "$externalURL", "$value")
_PREAMBLE = len(
    "{{$labels := .Labels}}{{$externalLabels := .ExternalLabels}}{{$externalURL := .ExternalURL}}{{$value := .Value}}"
)
"""Prometheus puts this before a template's text: its errors count it in the columns of the first line."""


class _Left(Exception):  # a way out of a loop, not an error
    """``break`` or ``continue``."""

    def __init__(self, kind: str) -> None:
        self.kind = kind


class Template(msgspec.Struct, frozen=True):
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
        """Fill in a sample. ``labels`` may hold ``__name__``.

        Raises ``TemplateError`` in Prometheus' words: ``error executing template __alert_A: template: __alert_A:1:115:
        executing "__alert_A" at <gt $value 5>: error calling gt: …``.
        """
        if self._tree is None:
            return self.text
        data = Data(labels, external_labels or {}, context.external_url, value)
        return _Run(self.text, self._tree, context, data).text()


class _Run:
    """One expansion."""

    def __init__(self, source: str, tree: Tree, context: Context, data: Data) -> None:
        self.source = source
        self.tree = tree
        self.context = context
        self.data = data
        self.executing = context.name
        """The template that is being expanded: the text itself, or one that it defines."""
        self.at: Placed | None = None
        """What is being worked on, as Go keeps it: where an error is."""
        self.out: list[str] = []
        self.length = 0
        self.steps = 0
        self.includes = 0
        # Names and values in the order of their declaration; a block's are cut off at its end.
        self.names = ["$", *_GIVEN]
        self.values: list[Value] = [data, data.labels, data.external_labels, data.external_url, data.value]

    def text(self) -> str:
        try:
            self.walk(self.tree.body, self.data)
        except RecursionError as error:
            raise self.placed("nested too deeply") from error
        except (CallError, FormatError, TemplateError, TimeError) as error:
            raise self.placed(str(error)) from error
        return "".join(self.out)

    def placed(self, message: str) -> TemplateError:
        """An error with Go's account of its place."""
        name = self.context.name
        where, position = "", None
        if self.at is not None:
            position = self.at.position
            before = self.source[:position]
            line = before.rpartition("\n")[2]
            column = len(line.encode()) + (0 if "\n" in before else _PREAMBLE)
            where = f"{before.count(chr(10)) + 1}:{column}: executing {quote(self.executing)} at <{written(self.at)}>: "
        return TemplateError(f"error executing template {name}: template: {name}:{where}{message}", position)

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
        over = self.commands(node.pipeline, dot)
        if node.pipeline.assigns:
            for name in node.pipeline.variables:
                self.place(name)
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
        self.at = node
        body = self.tree.definitions.get(node.name)
        if body is None:
            raise TemplateError(f"template {quote(node.name)} not defined")
        self.includes += 1
        if self.includes > _DEEPEST_INCLUDE:
            raise TemplateError(f"exceeded maximum template depth ({_DEEPEST_INCLUDE})")
        inner = self.pipeline(node.pipeline, dot) if node.pipeline is not None else None
        names, values, executing = self.names, self.values, self.executing
        self.names, self.values, self.executing = ["$"], [inner], node.name
        self.walk(body, inner)
        self.names, self.values, self.executing = names, values, executing
        self.includes -= 1

    # -- values ------------------------------------------------------------------------------------------------------

    def bind(self, name: str, value: Value, assigns: bool) -> None:
        if assigns:
            self.values[self.place(name)] = value
        else:
            self.names.append(name)
            self.values.append(value)

    def place(self, name: str) -> int:
        if name not in self.names:
            raise TemplateError(f"undefined variable: {name}")
        return len(self.names) - 1 - self.names[::-1].index(name)

    def pipeline(self, pipeline: Pipeline, dot: Value) -> Value:
        value = self.commands(pipeline, dot)
        for name in pipeline.variables:
            self.bind(name, value, pipeline.assigns)
        return value

    def commands(self, pipeline: Pipeline, dot: Value) -> Value:
        self.at = pipeline
        value: Value = None
        for i, command in enumerate(pipeline.commands):
            value = self.command(command, dot, (value,) if i else ())
        return value

    def command(self, command: Command, dot: Value, piped: tuple[Value, ...]) -> Value:
        self.step()
        head, *operands = command.operands
        if isinstance(head, Function):
            return self.function(head, command, operands, dot, piped)
        if isinstance(head, Chain):
            return self.chain(head, dot, operands, piped)
        if not isinstance(head, Pipeline):
            self.at = head
        if operands or piped:
            raise TemplateError(f"can't give argument to non-function {written(head)}")
        if isinstance(head, Constant) and head.value is None:
            raise TemplateError("nil is not a command")
        return self.operand(head, dot)

    def operand(self, operand: Operand, dot: Value) -> Value:
        """A value that stands by itself: an argument, or a command without any."""
        if isinstance(operand, Pipeline):
            mark = len(self.names)
            value = self.pipeline(operand, dot)
            self.forget(mark)
            return value
        self.at = operand
        if isinstance(operand, Constant):
            return operand.value
        if isinstance(operand, Dot):
            return dot
        if isinstance(operand, Variable):
            return self.values[self.place(operand.name)]
        if isinstance(operand, Function):
            return self.function(operand, operand, (), dot, ())
        return self.chain(operand, dot, (), ())

    def chain(self, chain: Chain, dot: Value, operands: Sequence[Operand], piped: tuple[Value, ...]) -> Value:
        self.at = chain
        value = dot if isinstance(chain.operand, Dot) else self.operand(chain.operand, dot)
        if not isinstance(chain.operand, Pipeline | Function):
            self.at = chain
        static = ""
        for i, name in enumerate(chain.fields):
            last = i == len(chain.fields) - 1
            value, static = self.field(value, static, name, operands if last else (), piped if last else (), dot)
        return value

    def field(
        self,
        value: Value,
        static: str,
        name: str,
        operands: Sequence[Operand],
        piped: tuple[Value, ...],
        dot: Value,
    ) -> tuple[Value, str]:
        """A field of a value, or what a method of it gives, with the type that Go knows beforehand where it is other
        than the value's. ``static`` is the same of ``value``."""
        method = METHODS.get(type(value), {}).get(name)
        if method is not None:
            return self.invoke(name, method, value, None, operands, dot, piped), ""
        if isinstance(value, Mapping):
            if operands or piped:
                raise TemplateError(f"{name} is not a method but has arguments")
            if isinstance(value, Arguments):
                return value.get(name), "interface {}"
            return value.get(name, ""), ""  # a label that is absent is empty
        if value is None:
            if static:
                raise TemplateError(f"nil pointer evaluating {static}.{name}")
            return None, ""
        found = FIELDS.get((type(value), name))
        if found is None:
            raise TemplateError(f"can't evaluate field {name} in type {static or type_name(value)}")
        if operands or piped:
            raise TemplateError(f"{name} has arguments but cannot be invoked as function")
        take, static = found
        return take(value), static

    # -- calls -------------------------------------------------------------------------------------------------------

    def function(
        self,
        function: Function,
        whole: Command | Function,
        operands: Sequence[Operand],
        dot: Value,
        piped: tuple[Value, ...],
    ) -> Value:
        self.at = function
        return self.invoke(function.name, FUNCTIONS[function.name], self.context, whole, operands, dot, piped)

    def invoke(
        self,
        name: str,
        declared: Declared,
        subject: object,
        whole: Command | Function | None,
        operands: Sequence[Operand],
        dot: Value,
        piped: tuple[Value, ...],
    ) -> Value:
        """Call a function or a method, its arguments evaluated and checked one after the other."""
        least, given = len(declared.kinds), len(operands) + len(piped)
        if given < least or (given > least and not declared.rest):
            wanted = f"at least {least}" if declared.rest else str(least)
            raise TemplateError(f"wrong number of args for {name}: want {wanted} got {given}")
        kinds = declared.kinds + (declared.rest,) * (given - least)
        arguments: list[Value] = []
        for operand, kind in zip(operands, kinds, strict=False):
            arguments.append(self.argument(operand, kind, dot))
            # `and` and `or` stop at the first that decides.
            if whole is not None and name in ("and", "or") and truth(arguments[-1]) == (name == "or"):
                return arguments[-1]
        if piped:
            arguments.append(checked(piped[0], kinds[-1]))
        try:
            if name == "call" and operands and arguments[0] is not None:
                raise CallError(
                    f"error calling call: non-function {written(operands[0])} of type {type_name(arguments[0])}"
                )
            return call(name, declared, subject, arguments)
        except CallError:
            self.at = whole or self.at
            raise

    def argument(self, operand: Operand, kind: str, dot: Value) -> Value:
        """Evaluate an argument, which must be of a kind."""
        if isinstance(operand, Constant):
            self.at = operand
            if operand.value is None:
                if kind not in NILABLE:
                    raise TemplateError(f"cannot assign nil to {TYPES[kind]}")
            elif not fits(kind, operand.value):
                raise TemplateError(mismatch(kind, operand.text))
            return operand.value
        return checked(self.operand(operand, dot), kind)
