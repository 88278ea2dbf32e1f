"""Prometheus rule files into typed values, judged as promtool judges them; every problem as file:line:column."""

from __future__ import annotations

import importlib.resources
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from monitor.promql.errors import PromQLError
from monitor.promql.plan import Plan, plan
from monitor.rules.durations import duration_problem
from monitor.rules.places import Place, place, places
from monitor.rules.rule_fields import FILE, GROUP, RULE
from monitor.rules.templates import Template, TemplateError
from monitor.samples import NAME
from monitor.yaml_reader import (
    ConfigError,
    Node,
    Problem,
    Problems,
    compose,
    parse_duration_ms,
    read_text,
    refuse_nothing,
)


@dataclass(frozen=True, slots=True)
class Rule:
    """An alerting rule, or a recording rule where ``records``."""

    name: str
    """Of the alert, or of the series that is recorded."""
    records: bool
    expr: str
    plan: Plan = field(repr=False, compare=False)
    for_ms: int = 0
    keep_firing_for_ms: int = 0
    labels: Mapping[str, Template] = field(default_factory=dict)
    """Of the group and of the rule, the rule's winning. A recording rule's are taken as they stand."""
    annotations: Mapping[str, Template] = field(default_factory=dict)
    path: str = ""
    line: int = 0
    expr_places: Sequence[Place] = field(default=(), repr=False, compare=False)

    def place_of(self, position: int) -> tuple[int, int]:
        """Line and column in the file of a character of ``expr``, counted from 0."""
        return place(self.expr_places, position) if self.expr_places else (self.line, 1)

    @property
    def identity(self) -> tuple[str, bool, tuple[tuple[str, str], ...]]:
        """What makes it the same rule after a reload: Prometheus' name and labels."""
        return self.name, self.records, tuple(sorted((name, text.text) for name, text in self.labels.items()))


class Group(msgspec.Struct, frozen=True):
    """Rules that are evaluated together, in order."""

    name: str
    path: str
    rules: tuple[Rule, ...]
    interval_ms: int | None = None
    """None for the default."""
    query_offset_ms: int = 0
    limit: int = 0
    """The most alerts or series of one of its rules; 0 for no limit."""


class RuleSet(msgspec.Struct, frozen=True):
    """All rules there are."""

    groups: tuple[Group, ...] = ()

    def __len__(self) -> int:
        return sum(len(group.rules) for group in self.groups)


def default_rules_path() -> Path:
    """The shipped rules: inside the package where it was installed from a wheel, else at the top of the tree.

    Raises ``ConfigError`` where they are in neither place.
    """
    inside = Path(str(importlib.resources.files("monitor"))) / "data" / "alerts.yaml"
    beside = Path(__file__).resolve().parents[2] / "alerts.yaml"
    for path in (inside, beside):
        if path.is_file():
            return path
    raise ConfigError([Problem(str(inside), 1, 1, "the shipped rules are missing: install gpumon again")])


def load_rules(paths: Iterable[Path | str], *, ignore_unknown_fields: bool = False) -> RuleSet:
    """Read rule files. ``ignore_unknown_fields`` passes over fields that Prometheus has not, as its option of that name
    does. Raises ``ConfigError`` with every problem of all of them."""
    found: list[Problem] = []
    groups: list[Group] = []
    for path in paths:
        problems = Problems(str(path))
        text = read_text(path, problems)
        refuse_nothing(text, problems, "where no rules are meant, write groups: []")
        if text:
            groups.extend(_File(text, problems, lenient=ignore_unknown_fields).groups())
        found.extend(problems.found)
    if found:
        raise ConfigError(found)
    return RuleSet(tuple(groups))


def read_rules(text: str, path: str = "alerts.yaml") -> RuleSet:
    """Read rules from a text; ``path`` is the name that problems carry. Raises ``ConfigError``."""
    problems = Problems(path)
    groups = _File(text, problems).groups()
    problems.raise_if_any()
    return RuleSet(tuple(groups))


class _File:
    def __init__(self, text: str, problems: Problems, *, lenient: bool = False) -> None:
        self.lenient = lenient
        self.lines = text.splitlines()
        self.problems = problems
        self.root = compose(text, problems)

    def fields(self, node: Node, known: Sequence[str]) -> dict[str, Node]:
        """The fields of a mapping; an unknown one is a problem, unless it is to be passed over."""
        if not self.lenient:
            return node.fields(known)
        others = [str(name) for key, _ in node.pairs() if key.kind == "scalar" and (name := key.text()) not in known]
        found = node.fields((*known, *others))
        return {name: value for name, value in found.items() if name in known}

    def groups(self) -> list[Group]:
        if self.root is None:
            return []
        groups: list[Group] = []
        names: set[str] = set()
        top = self.fields(self.root, FILE.names)
        for node in top["groups"].items() if "groups" in top else []:
            group = self.group(node)
            if group is None:
                continue
            if group.name in names:
                node.problem(f'groupname: "{group.name}" is repeated in the same file')
            names.add(group.name)
            groups.append(group)
        return groups

    def group(self, node: Node) -> Group | None:
        if node.kind != "map":
            node.problem(f"expected a group: a mapping with name and rules, found {_said(node)}")
            return None
        fields = self.fields(node, GROUP.names)
        name = self.name(fields.get("name"))
        if not name:
            (fields.get("name") or node).problem("Groupname must not be empty")
        interval = self.duration(fields.get("interval"))
        offset = self.duration(fields.get("query_offset"))
        limit = self.limit(fields.get("limit"))
        labels = self.texts(fields.get("labels"), "label", templates=False)
        items = fields["rules"].items() if "rules" in fields else []
        rules = [rule for item in items if (rule := self.rule(item, labels)) is not None]
        return Group(name or "", self.problems.path, tuple(rules), interval or None, offset or 0, limit)

    def rule(self, node: Node, group_labels: Mapping[str, Template]) -> Rule | None:
        if node.kind != "map":
            node.problem(f"expected a rule: a mapping with alert or record, and expr, found {_said(node)}")
            return None
        before = len(self.problems.found)
        fields = self.fields(node, RULE.names)
        told = len(self.problems.found)
        alert = self.name(fields.get("alert"))
        record = self.name(fields.get("record"))
        if alert and record:
            fields["record"].problem("only one of 'record' and 'alert' must be set")
        elif not alert and not record and told == len(self.problems.found):
            node.problem("one of 'record' or 'alert' must be set")
        expr, planned = self.expression(fields.get("expr"), node)
        hold = self.duration(fields.get("for"))
        keep = self.duration(fields.get("keep_firing_for"))
        labels = self.texts(fields.get("labels"), "label", templates=bool(alert))
        annotations = self.texts(fields.get("annotations"), "annotation", templates=bool(alert))
        if record:
            for name, given in (("annotations", annotations), ("for", hold), ("keep_firing_for", keep)):
                if given:
                    fields[name].problem(f"invalid field '{name}' in recording rule")
            if "{" in record or "}" in record:
                words = "braces present in the recording rule name; should it be in expr?"
                fields["record"].problem(f"{words}: {record}")
        if planned is None or len(self.problems.found) > before:
            return None
        return Rule(
            alert or record or "",
            records=not alert,
            expr=expr,
            plan=planned,
            for_ms=hold or 0,
            keep_firing_for_ms=keep or 0,
            labels={**group_labels, **labels},
            annotations=annotations,
            path=self.problems.path,
            line=node.line,
            expr_places=places(fields["expr"], expr, self.lines),
        )

    @staticmethod
    def duration(node: Node | None) -> int | None:
        """Milliseconds; None for what does not stand there, and for what is none, which is a problem."""
        if node is None or node.is_null:
            return None
        text = node.text()
        problem = duration_problem(text) if text is not None else None
        if text is None or problem is not None:
            if problem is not None:
                node.problem(f"{problem}: write it as 30s, 5m or 1h30m")
            return None
        return parse_duration_ms(text)

    def limit(self, node: Node | None) -> int:
        """A number as YAML writes it, also hexadecimal; nothing and less than nothing are no limit."""
        if node is None or node.is_null:
            return 0
        text = node.text()
        if text is None:
            return 0
        try:
            value = float(int(text, 0) if text[:2] in ("0x", "0o", "0b") else float(text))
        except ValueError:
            value = math.nan
        if self.is_quoted(node) or not abs(value) < 2**63:
            node.problem(f'cannot take "{text}" for a limit: expected a whole number')
            return 0
        return max(0, int(value))

    def is_quoted(self, node: Node) -> bool:
        return self.lines[node.line - 1][node.column - 1 : node.column] in ("'", '"')

    @staticmethod
    def name(node: Node | None) -> str | None:
        return node.text() if node is not None and not node.is_null else None

    def expression(self, node: Node | None, rule: Node) -> tuple[str, Plan | None]:
        if node is None or node.is_null:
            (node or rule).problem("field 'expr' must be set in rule")
            return "", None
        text = node.text()
        if not text:
            if text is not None:
                node.problem("field 'expr' must be set in rule")
            return "", None
        try:
            planned = plan(text)
            if planned.type in ("vector", "scalar"):
                return text, planned
            node.problem("a rule needs an expression that gives an instant vector or a number")
            return text, None
        except PromQLError as error:
            line, column = self.place(node, text, error.position)
            # A space that is none, pasted from a web page, has to be seen.
            said = "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in error.message)
            self.problems.add(f"could not parse expression: {said}", line, column)
            return text, None

    def texts(self, node: Node | None, what: str, *, templates: bool) -> dict[str, Template]:
        """Labels or annotations. Where they are no templates, they are taken as they stand."""
        out: dict[str, Template] = {}
        for key, value in node.pairs() if node is not None else ():
            name = key.text()
            text = "" if value.is_null else value.text()
            if name is None or text is None:
                continue
            if not name or (name == NAME and what == "label"):
                key.problem(f"invalid {what} name: " + (name or '""'))
            elif name in out:
                key.problem(f'the {what} "{name}" is already defined: it stands here a second time')
            elif not templates:
                out[name] = Template(text, None)
            else:
                try:
                    out[name] = Template.parse(text)
                except TemplateError as error:
                    line, column = self.place(value, text, error.position)
                    self.problems.add(f'{what} "{name}": {error.message}', line, column)
        return out

    def place(self, node: Node, text: str, position: int | None) -> tuple[int, int]:
        """Line and column in the file of a character of a value."""
        return (node.line, node.column) if position is None else place(places(node, text, self.lines), position)


def _said(node: Node) -> str:
    return "nothing" if node.is_null else "a list" if node.kind == "list" else f'"{node.text()}"'
