"""The kinds of arguments that functions and methods of templates take, and Go's words for one that does not fit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from monitor.rules.go_format import Sample, Value, type_name
from monitor.rules.go_time import Duration, Time
from monitor.rules.template_lex import TemplateError


class Declared(msgspec.Struct, frozen=True):
    """A function with the kinds of its arguments: ``any``, ``string``, ``int``, ``sample``, ``vector``, ``time`` or
    ``duration``. ``rest`` is the kind of any further ones."""

    call: Callable[..., Any]
    kinds: tuple[str, ...] = ()
    rest: str = ""


TYPES: Mapping[str, str] = {
    "string": "string",
    "int": "int",
    "sample": "*template.sample",
    "vector": "template.queryResult",
    "time": "time.Time",
    "duration": "time.Duration",
}
"""How Go calls the types of arguments."""
NILABLE = frozenset(("any", "sample", "vector"))
"""The kinds that may be nil."""


def fits(kind: str, value: Value) -> bool:
    """Whether a value can be an argument of a kind."""
    match kind:
        case "any":
            return True
        case "string":
            return isinstance(value, str)
        case "int":
            return isinstance(value, int) and not isinstance(value, bool)
        case "sample":
            return value is None or isinstance(value, Sample)
        case "vector":
            return value is None or (isinstance(value, Sequence) and not isinstance(value, str))
        case "time":
            return isinstance(value, Time)
    return isinstance(value, Duration) or (isinstance(value, int) and not isinstance(value, bool))


def mismatch(kind: str, text: str) -> str:
    """What is wrong with a literal that cannot be an argument of a kind."""
    if kind in ("sample", "vector", "time"):
        return f"can't handle {text} for arg of type {TYPES[kind]}"
    return f"expected {'string' if kind == 'string' else 'integer'}; found {text}"


def checked(value: Value, kind: str) -> Value:
    """The value, which was worked out. Raises ``TemplateError`` where it is not of the kind."""
    if value is None and kind not in NILABLE:
        raise TemplateError(f"invalid value; expected {TYPES[kind]}")
    if not fits(kind, value):
        raise TemplateError(f"wrong type for value; expected {TYPES[kind]}; got {type_name(value)}")
    return value
