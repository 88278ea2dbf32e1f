"""YAML with positions: every value knows its line and column, and every problem says where it is.

``config.py`` and the rule files are read through this. Problems are collected, so that a person sees all of them at
once; whoever reads a file refuses it whole when there is one.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec
import yaml

from monitor.durations import format_duration as format_duration
from monitor.durations import parse_duration_ms as parse_duration_ms

_MAX_BYTES = 4 * 1024 * 1024
_MAX_DEPTH = 64


class Problem(msgspec.Struct, frozen=True, order=True):
    """One thing that is wrong in a file: where, and what to do about it. Lines and columns start at 1."""

    path: str
    line: int
    column: int
    message: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}:{self.column}: {self.message}"


class ConfigError(Exception):
    """A file that is refused. ``problems`` has everything that was found, in the order of the file."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(problems))
        super().__init__("\n".join(str(problem) for problem in self.problems))


class Problems:
    """Collects the problems of one file."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.found: list[Problem] = []

    def add(self, message: str, line: int = 1, column: int = 1) -> None:
        """Note a problem at a place. What it quotes of the file cannot command a terminal."""
        shown = "".join(c if c.isprintable() else "\N{MIDDLE DOT}" for c in message)
        self.found.append(Problem(self.path, line, column, shown))

    def raise_if_any(self) -> None:
        """Refuse the file where something was found. Raises ``ConfigError``."""
        if self.found:
            raise ConfigError(self.found)


def parse_size(text: str) -> int | None:
    """A size such as ``500MB`` or ``2GiB``: bytes, or None for what is none."""
    match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,3})?) ?([kKMGT]i?)?B?", text)
    if match is None:
        return None
    unit = match[2] or ""
    factor: int = (1024 if unit.endswith("i") else 1000) ** " KMGT".index(unit[:1].upper() or " ")
    return round(float(match[1]) * factor)


def suggestion(word: str, known: Iterable[str]) -> str:
    """`` (did you mean "x"?)`` where a known word is near, else nothing."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f' (did you mean "{near[0]}"?)' if near else ""


class Node:
    """A value of the file with its place. The readers below note a problem and give None where it is not what was
    asked for, so that reading goes on to the next problem."""

    __slots__ = ("_node", "problems")

    def __init__(self, node: yaml.Node, problems: Problems) -> None:
        self._node = node
        self.problems = problems

    @property
    def line(self) -> int:
        """Where the value begins, from 1."""
        return int(self._node.start_mark.line) + 1

    @property
    def column(self) -> int:
        """Where the value begins, from 1."""
        return int(self._node.start_mark.column) + 1

    @property
    def kind(self) -> str:
        """``map``, ``list`` or ``scalar``."""
        if isinstance(self._node, yaml.MappingNode):
            return "map"
        return "list" if isinstance(self._node, yaml.SequenceNode) else "scalar"

    @property
    def is_null(self) -> bool:
        """Whether nothing stands here: ``key:`` or ``key: null``."""
        return self._node.tag == "tag:yaml.org,2002:null"

    @property
    def is_false(self) -> bool:
        """Whether ``false`` stands here."""
        return self._node.tag == "tag:yaml.org,2002:bool" and self._node.value.lower() in ("false", "no", "off")

    @property
    def block_indent(self) -> int | None:
        """For a text in block style (``|`` or ``>``) 1, else None: its lines start below its place."""
        return 1 if isinstance(self._node, yaml.ScalarNode) and self._node.style in ("|", ">") else None

    def problem(self, message: str) -> None:
        """Note a problem at this value's place."""
        self.problems.add(message, self.line, self.column)

    def text(self) -> str | None:
        """A text. A number or a truth value without quotes is taken as it is written."""
        if not isinstance(self._node, yaml.ScalarNode) or self.is_null:
            self.problem(f"expected a text, found {self._said()}")
            return None
        return str(self._node.value)

    def boolean(self) -> bool | None:
        """``true`` or ``false``."""
        if isinstance(self._node, yaml.ScalarNode) and self._node.tag == "tag:yaml.org,2002:bool":
            return str(self._node.value).lower() in ("true", "yes", "on")
        self.problem(f"expected true or false, found {self._said()}")
        return None

    def number(self, least: float = -math.inf, most: float = math.inf) -> float | None:
        """A number between two bounds."""
        try:
            value = float(self._node.value) if isinstance(self._node, yaml.ScalarNode) else math.nan
        except ValueError:
            value = math.nan
        if math.isnan(value):
            self.problem(f"expected a number, found {self._said()}")
            return None
        if not least <= value <= most:
            self.problem(f"{value:g} is out of range: {least:g} to {most:g}")
            return None
        return value

    def integer(self, least: int = 0, most: int = 2**63) -> int | None:
        """A whole number between two bounds."""
        value = self.number(least, most)
        if value is not None and value != int(value):
            self.problem(f"expected a whole number, found {self._said()}")
            return None
        return None if value is None else int(value)

    def duration_ms(self, least_ms: int = 0, most_ms: int = 2**62) -> int | None:
        """A duration as Prometheus writes it, in milliseconds."""
        value = parse_duration_ms(str(self._node.value)) if isinstance(self._node, yaml.ScalarNode) else None
        if value is None:
            self.problem(f"expected a duration such as 30s or 5m, found {self._said()}")
            return None
        if not least_ms <= value <= most_ms:
            bounds = f"{format_duration(least_ms)} to {format_duration(most_ms)}"
            self.problem(f"{format_duration(value)} is out of range: {bounds}")
            return None
        return value

    def size(self, least: int, most: int = 2**62) -> int | None:
        """A size in bytes, such as ``500MB`` or ``2GiB``."""
        value = parse_size(str(self._node.value)) if isinstance(self._node, yaml.ScalarNode) else None
        if value is None:
            self.problem(f"expected a size such as 500MB or 2GiB, found {self._said()}")
            return None
        if not least <= value <= most:
            self.problem(f"{self._node.value} is out of range: at least {least >> 20}MiB")
            return None
        return value

    def choice(self, *choices: str) -> str | None:
        """One of a few words."""
        value = self.text()
        if value is not None and value not in choices:
            self.problem(f'"{value}" is none of {", ".join(choices)}{suggestion(value, choices)}')
            return None
        return value

    @property
    def is_empty_list(self) -> bool:
        """Whether it is a list without an item."""
        return isinstance(self._node, yaml.SequenceNode) and not self._node.value

    def items(self) -> list[Node]:
        """The items of a list; nothing for ``null``."""
        if isinstance(self._node, yaml.SequenceNode):
            return [Node(item, self.problems) for item in self._node.value]
        if not self.is_null:
            self.problem(f"expected a list, found {self._said()}")
        return []

    def fields(self, known: Iterable[str]) -> dict[str, Node]:
        """The fields of a mapping, each known one; an unknown one or a repeated one is a problem."""
        names = list(known)
        out: dict[str, Node] = {}
        for key, value in self.pairs():
            name = key.text()
            if name is None:
                continue
            if name not in names:
                key.problem(f'unknown field "{name}"{suggestion(name, names)}')
            elif name in out:
                key.problem(f'the field "{name}" stands here a second time')
            else:
                out[name] = value
        return out

    def pairs(self) -> Iterator[tuple[Node, Node]]:
        """Keys and values of a mapping, as they stand; nothing for ``null``."""
        if isinstance(self._node, yaml.MappingNode):
            for key, value in self._node.value:
                yield Node(key, self.problems), Node(value, self.problems)
        elif not self.is_null:
            self.problem(f"expected a mapping, found {self._said()}")

    def _said(self) -> str:
        if isinstance(self._node, yaml.MappingNode):
            return "a mapping"
        if isinstance(self._node, yaml.SequenceNode):
            return "a list"
        return "nothing" if self.is_null else f'"{self._node.value}"'


def read_text(path: Path | str, problems: Problems) -> str | None:
    """A file's text; None with a problem noted where it cannot be had."""
    try:
        raw = Path(path).read_bytes()
    except OSError as error:
        problems.add(f"cannot be read: {error.strerror or error}")
        return None
    if len(raw) > _MAX_BYTES:
        problems.add(f"has {len(raw)} bytes; more than {_MAX_BYTES} are refused")
        return None
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = raw[: error.start]
        line = before.count(b"\n") + 1
        problems.add("is not UTF-8 text", line, error.start - (before.rfind(b"\n") + 1) + 1)
        return None


def refuse_nothing(text: str | None, problems: Problems, cure: str) -> None:
    """Note a problem for a file of no text at all: it was cut off, or is still being written, and to take it for what
    is meant would end what it held. A file of comments is meant so."""
    if text is not None and not text.strip():
        problems.add(f"is empty: {cure}")


def compose(text: str, problems: Problems) -> Node | None:
    """The document in ``text``; None where it is empty, or (with a problem noted) not YAML. Aliases are refused:
    nothing that is read here needs them, and a few can grow to gigabytes. So is what is nested too deeply."""
    try:
        # Looked at before composing: the composer recurses in C, and a deep document would end the process.
        refusal = _refusal(text)
        if refusal is not None:
            problems.add(*refusal)
            return None
        node = yaml.compose(text, Loader=yaml.CSafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        message = f"not valid YAML: {error.problem or error.context}{_cure(error, text)}"
        problems.add(message, mark.line + 1 if mark else 1, mark.column + 1 if mark else 1)
        return None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        problems.add(f"not valid YAML: {error.reason} (character {error.character!r})", line)
        return None
    return Node(node, problems) if node is not None else None


def _cure(error: yaml.MarkedYAMLError, text: str) -> str:
    """What to do about the slips that are common, else ""."""
    mark = error.problem_mark
    lines = text.splitlines()
    if mark is None:
        return ""
    lines.extend([""] * (mark.line + 1 - len(lines)))  # the end of the text is a place, too
    found = lines[mark.line][mark.column : mark.column + 1]
    if found == "\t":
        return ": this is a tab, and YAML is indented with blanks"
    if "alias" in str(error.context) or "anchor" in str(error.context):
        found = "*" if "alias" in str(error.context) else "&"
    elif found not in ("@", "`", "%") or "cannot start any token" not in str(error.problem):
        return _cure_of_place(error, mark, lines)
    return f': a text that begins with {found} stands in quotes, "{found}…"'


def _cure_of_place(error: yaml.MarkedYAMLError, mark: yaml.Mark, lines: list[str]) -> str:
    """The same, where the parser says only what it would have expected."""
    problem, begun = str(error.problem), error.context_mark
    before = lines[mark.line][: mark.column]
    if "mapping values are not allowed" in problem:
        if before.strip(" -").count(":"):
            return ': a text with ": " in it stands in quotes'
        return ": is this line indented as far as those that it belongs with?"
    if begun is None:
        return ""
    if "block" in str(error.context) and "did not find expected" in problem:
        if before.strip(" "):
            return ": a text with quotes in it stands as a whole in the others, or in none"
        if mark.column != begun.column:
            above = f"line {begun.line + 1}, by {begun.column}"
            return f": this line is indented by {mark.column}, and those that it goes on from, in {above}"
        if lines[mark.line][mark.column : mark.column + 1] == "-":
            return ": is this item of a list indented as those before it?"
        return f": line {begun.line + 1} begins a list here, and this is no item of it: is it indented right?"
    if "flow" in str(error.context):
        opened = lines[begun.line][begun.column : begun.column + 1]
        if opened not in ("{", "["):  # the parser tells of what it wanted there, as at the end of the text
            return ": is each { and [ before it closed?"
        return f": is the {opened} of line {begun.line + 1}, column {begun.column + 1} closed?"
    if "unexpected end of stream" in problem:
        return f": the quote of line {begun.line + 1}, column {begun.column + 1} is not closed"
    return ""


def _refusal(text: str) -> tuple[str, int, int] | None:
    """Why a document is not even composed, with its line and column; None for a good one."""
    opening = (
        yaml.BlockMappingStartToken,
        yaml.BlockSequenceStartToken,
        yaml.FlowMappingStartToken,
        yaml.FlowSequenceStartToken,
    )
    closing = (yaml.BlockEndToken, yaml.FlowMappingEndToken, yaml.FlowSequenceEndToken)
    depth = 0
    for token in yaml.scan(text, Loader=yaml.CSafeLoader):
        mark = token.start_mark
        if isinstance(token, yaml.AliasToken):
            return "YAML aliases are not supported here: write the value out", mark.line + 1, mark.column + 1
        if isinstance(token, opening):
            depth += 1
            if depth > _MAX_DEPTH:
                return f"nested more than {_MAX_DEPTH} deep", mark.line + 1, mark.column + 1
        elif isinstance(token, closing):
            depth -= 1
    return None
