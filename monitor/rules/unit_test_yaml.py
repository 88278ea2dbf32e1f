"""YAML as promtool reads its test files: strict, by types, every problem in Go's words and with its place.

Unlike ``monitor.yaml_reader`` it knows anchors, aliases and merge keys, which test files use to share series.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TypeAlias, TypeVar

import yaml

from monitor.rules.go_format import quote

Place: TypeAlias = tuple[int, int]
"""Line and column, from 1."""

_T = TypeVar("_T")
_MAX_DEPTH = 64
_MOST_NODES = 2_000_000
"""Aliases may repeat what they name, but no file may grow beyond this."""

_NULLS = frozenset(("", "~", "null", "Null", "NULL"))
_TRUE = frozenset(["y", "Y", "yes", "Yes", "YES", "on", "On", "ON", "true", "True", "TRUE"])
_FALSE = frozenset(["n", "N", "no", "No", "NO", "off", "Off", "OFF", "false", "False", "FALSE"])
_INTEGER = re.compile(r"[+-]?(?:0[xX][0-9a-fA-F]+|0[oO]?[0-7]+|0b[01]+|0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_SPECIAL = {
    f"{sign}.{word}": value
    for sign, value in (("", math.inf), ("+", math.inf), ("-", -math.inf))
    for word in ("inf", "Inf", "INF")
} | dict.fromkeys((".nan", ".NaN", ".NAN"), math.nan)
_TIMESTAMP = re.compile(r"\d{4}-\d{1,2}-\d{1,2}(?:[Tt ].*)?")


class UnitTestError(Exception):
    """A test file that cannot be read, in promtool's words, with the places that are meant."""

    def __init__(self, message: str, *places: Place) -> None:
        self.message = message
        self.places = places
        super().__init__(message)


def load(text: str) -> yaml.Node | None:
    """The first document in ``text``; None where there is none. Raises ``UnitTestError``."""
    try:
        with suppress(yaml.YAMLError):  # the composer tells which error comes first
            _check_depth(text)
        loader = yaml.CSafeLoader(text)
        try:
            return loader.get_node() if loader.check_node() else None
        finally:
            loader.dispose()
    except yaml.composer.ComposerError as error:
        mark = error.problem_mark
        place = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        name = re.search(r"alias '?([^']*)'?", f"{error.context or ''} {error.problem or ''}")
        if "undefined alias" in str(error.problem):
            written = re.match(r"\*([^\s,\]}]*)", text.splitlines()[place[0] - 1][place[1] - 1 :])
            raise UnitTestError(
                f"yaml: unknown anchor '{written[1] if written else name[1] if name else ''}' referenced", place
            ) from error
        raise UnitTestError(f"yaml: {error.problem}", place) from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        # Go's reader counts the lines of its scanner's errors from 1, those of its parser's from 0, and tells
        # none of the first line.
        counted = mark.line + isinstance(error, yaml.scanner.ScannerError) if mark and mark.line else 0
        where = f"line {counted}: " if counted else ""
        message = f"yaml: {where}{error.problem or error.context}"
        raise UnitTestError(message, (mark.line + 1, mark.column + 1) if mark else (1, 1)) from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise UnitTestError("yaml: control characters are not allowed", (line, 1)) from error
    except UnicodeEncodeError as error:
        raise UnitTestError("yaml: invalid Unicode character", (1, 1)) from error


def _check_depth(text: str) -> None:
    """Before composing: the composer recurses in C, and a deep document would end the process."""
    depth = 0
    for token in yaml.scan(text, Loader=yaml.CSafeLoader):
        if isinstance(
            token,
            yaml.BlockMappingStartToken
            | yaml.BlockSequenceStartToken
            | yaml.FlowMappingStartToken
            | yaml.FlowSequenceStartToken,
        ):
            depth += 1
            if depth > _MAX_DEPTH:
                mark = token.start_mark
                raise UnitTestError(
                    f"yaml: line {mark.line + 1}: nested more than {_MAX_DEPTH} deep", (mark.line + 1, mark.column + 1)
                )
        elif isinstance(token, yaml.BlockEndToken | yaml.FlowMappingEndToken | yaml.FlowSequenceEndToken):
            depth -= 1
        elif isinstance(token, yaml.DocumentStartToken):
            depth = 0


def place_of(node: yaml.Node) -> Place:
    """Where a value begins."""
    return int(node.start_mark.line) + 1, int(node.start_mark.column) + 1


class Decoder:
    """Reads values of the types that a test file has. What has the wrong type is noted in ``problems``, and reading
    goes on, so that all of them are told at once."""

    def __init__(self) -> None:
        self.problems: list[tuple[str, Place]] = []
        self._left = _MOST_NODES
        self._open: set[int] = set()

    def raise_if_any(self) -> None:
        """Raises ``UnitTestError`` with all problems that were noted."""
        if self.problems:
            lines = "".join(f"\n  line {place[0]}: {text}" for text, place in self.problems)
            raise UnitTestError(f"yaml: unmarshal errors:{lines}", *(place for _, place in self.problems))

    def text(self, node: yaml.Node) -> str:
        """A text; a number without quotes is taken as it is written, and nothing is the empty one."""
        if not isinstance(node, yaml.ScalarNode):
            self._mismatch(node, "string")
            return ""
        return "" if _kind(node) == "null" else str(node.value)

    def number(self, node: yaml.Node) -> float:
        """A number: whole, with a point, ``.inf``, ``.nan``; in quotes it is none."""
        kind = _kind(node)
        if kind == "null":
            return 0.0
        if kind not in ("int", "float") or not isinstance(node, yaml.ScalarNode):
            self._mismatch(node, "float64")
            return 0.0
        written = str(node.value)
        if written in _SPECIAL:
            return _SPECIAL[written]
        plain = written.replace("_", "")
        if kind == "float":
            return float(plain)
        sign = -1 if plain[0] == "-" else 1
        digits = plain.lstrip("+-")
        octal = len(digits) > 1 and digits[0] == "0" and digits[1] in "01234567"
        return float(sign * int("0o" + digits[1:] if octal else digits, 0))

    def boolean(self, node: yaml.Node) -> bool:
        """A truth value."""
        kind = _kind(node)
        if kind not in ("bool", "null"):
            self._mismatch(node, "bool")
        return isinstance(node, yaml.ScalarNode) and kind == "bool" and node.value in _TRUE

    def items(self, node: yaml.Node, go_type: str, read: Callable[[yaml.Node], _T]) -> list[_T]:
        """A list. ``go_type`` is the name of its items' type in an error."""
        if _kind(node) == "null":
            return []
        if not isinstance(node, yaml.SequenceNode):
            self._mismatch(node, f"[]{go_type}")
            return []
        with _Inside(self, node):
            return [read(item) for item in node.value]

    def mapping(self, node: yaml.Node) -> dict[str, str]:
        """A mapping of texts to texts."""
        out: dict[str, str] = {}
        self._mapping(node, out)
        return out

    def _mapping(self, node: yaml.Node, out: dict[str, str]) -> None:
        if _kind(node) == "null":
            return
        if not isinstance(node, yaml.MappingNode):
            self._mismatch(node, "map[string]string")
            return
        with _Inside(self, node):
            for key, value in node.value:
                if _is_merge(key):
                    self._merge(value, lambda merged: self._mapping(merged, out))
                    continue
                known = len(self.problems)
                name, text = self.text(key), self.text(value)
                if len(self.problems) > known:
                    continue
                if name in out:
                    self.problems.append((f"key {quote(name)} already set in map", place_of(key)))
                out[name] = text

    def struct(self, node: yaml.Node, go_type: str, fields: Mapping[str, Callable[[yaml.Node], None]]) -> None:
        """A mapping with known fields: calls each one's reader with its value, in the order of the file."""
        if _kind(node) == "null":
            return
        if not isinstance(node, yaml.MappingNode):
            self._mismatch(node, go_type)
            return
        done: set[str] = set()
        with _Inside(self, node):
            for key, value in node.value:
                if _is_merge(key):
                    self._merge(value, lambda merged: self.struct(merged, go_type, fields))
                    continue
                known = len(self.problems)
                name = self.text(key)
                if len(self.problems) > known:
                    continue
                if name not in fields:
                    self.problems.append((f"field {name} not found in type {go_type}", place_of(key)))
                elif name in done:
                    self.problems.append((f"field {name} already set in type {go_type}", place_of(key)))
                else:
                    done.add(name)
                    fields[name](value)

    def _merge(self, node: yaml.Node, read: Callable[[yaml.Node], None]) -> None:
        merged = list(reversed(node.value)) if isinstance(node, yaml.SequenceNode) else [node]
        for one in merged:
            if not isinstance(one, yaml.MappingNode):
                raise UnitTestError("yaml: map merge requires map or sequence of maps as the value", place_of(one))
            read(one)

    def _mismatch(self, node: yaml.Node, go_type: str) -> None:
        shown = ""
        if isinstance(node, yaml.ScalarNode):
            value = str(node.value)
            shown = f" `{value[:7]}...`" if len(value.encode("utf-8", "surrogatepass")) > 10 else f" `{value}`"
        self.problems.append((f"cannot unmarshal !!{_kind(node)}{shown} into {go_type}", place_of(node)))

    def enter(self, node: yaml.Node) -> None:
        """Count what is read, and refuse a value that contains itself."""
        self._left -= 1 + len(node.value)
        if self._left < 0:
            raise UnitTestError("yaml: document contains excessive aliasing", place_of(node))
        if id(node) in self._open:
            raise UnitTestError("yaml: an anchor's value contains itself", place_of(node))
        self._open.add(id(node))

    def leave(self, node: yaml.Node) -> None:
        """The counterpart of ``enter``."""
        self._open.discard(id(node))


class _Inside:
    def __init__(self, decoder: Decoder, node: yaml.Node) -> None:
        self.decoder, self.node = decoder, node

    def __enter__(self) -> None:
        self.decoder.enter(self.node)

    def __exit__(self, *_: object) -> None:
        self.decoder.leave(self.node)


def _is_merge(key: yaml.Node) -> bool:
    return isinstance(key, yaml.ScalarNode) and key.value == "<<" and not key.style


def _kind(node: yaml.Node) -> str:
    """The type that Go's YAML reader sees in a value, as its tag says it."""
    if isinstance(node, yaml.MappingNode):
        return "map"
    if isinstance(node, yaml.SequenceNode):
        return "seq"
    value = str(node.value)
    if not isinstance(node, yaml.ScalarNode) or node.style:
        return "str"
    if value in _NULLS:
        return "null"
    if value in _TRUE or value in _FALSE:
        return "bool"
    plain = value.replace("_", "")
    if value[0] in "+-.0123456789":
        if _INTEGER.fullmatch(plain):
            return "int"
        if value in _SPECIAL or (_FLOAT.fullmatch(plain) and not math.isinf(float(plain))):
            return "float"
        if _TIMESTAMP.fullmatch(value):
            return "timestamp"
    return "str"
