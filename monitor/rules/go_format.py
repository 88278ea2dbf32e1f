"""The values that a template can hold, and how Go writes them: what ``{{ $value }}`` gives."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TypeAlias, Union

import msgspec

from monitor.rules.go_time import Duration, Named, Time

MOST_CHARACTERS = 65_536
"""No text that a template makes, on the way or at the end, may grow beyond this."""

_DATA_TYPE = (
    "struct { Labels map[string]string; ExternalLabels map[string]string; ExternalURL string; Value interface {} }"
)
_ESCAPES = {
    "\a": r"\a",
    "\b": r"\b",
    "\f": r"\f",
    "\n": r"\n",
    "\r": r"\r",
    "\t": r"\t",
    "\v": r"\v",
    "\\": r"\\",
    '"': r"\"",
}
_PLAIN_BELOW = 6  # a shortest %g of a million or more is written with an exponent


class Sample(msgspec.Struct, frozen=True):
    """One element of what ``query`` gives."""

    labels: Mapping[str, str]
    value: float


class Data(msgspec.Struct, frozen=True):
    """What a template is given: its ``.``."""

    labels: Mapping[str, str]
    external_labels: Mapping[str, str]
    external_url: str
    value: float


class Arguments(dict[str, "Value"]):
    """What ``args`` gives. Unlike a label, one that is not there has no value."""


Value: TypeAlias = Union[
    bool, int, float, str, Sample, Data, Time, Duration, Named, "Sequence[Value]", "Mapping[str, Value]", None
]
"""All that a template can hold. There is no object among them whose Python attributes it could reach."""


class FormatError(ValueError):
    """What cannot be written: out of range, or too large."""


_TYPES: Mapping[type, str] = {
    bool: "bool",
    int: "int",
    float: "float64",
    Sample: "*template.sample",
    Data: _DATA_TYPE,
    Time: "*time.Time",
    Duration: "time.Duration",
}


def type_name(value: Value) -> str:
    """The name that Go gives to the type of a value."""
    if isinstance(value, str):
        return "string"
    if isinstance(value, Mapping):
        return "map[string]interface {}" if isinstance(value, Arguments) else "map[string]string"
    if isinstance(value, Sequence):
        return "template.queryResult"
    if isinstance(value, Named):
        return value.type
    return _TYPES.get(type(value), "<nil>")


def format_float(value: float, verb: str = "g", precision: int | None = None) -> str:
    """A float as Go writes it. Without a precision: the fewest digits that read back the same."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    if precision is not None:
        return f"%.{precision}{verb}" % value
    # repr has the shortest digits; only where the point stands is Go's own rule.
    mantissa, _, power = repr(abs(value)).partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).strip("0") or "0"
    leading = len(whole + fraction) - len((whole + fraction).lstrip("0"))
    point = len(whole) + int(power or 0) - leading if value else 1
    sign = "-" if math.copysign(1, value) < 0 else ""
    exponent = point - 1
    if verb in "eE" or (verb in "gG" and not -4 <= exponent < _PLAIN_BELOW):
        return _scientific(sign, digits, exponent, verb)
    if point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    if point >= len(digits):
        return sign + digits + "0" * (point - len(digits))
    return f"{sign}{digits[:point]}.{digits[point:]}"


def _scientific(sign: str, digits: str, exponent: int, verb: str) -> str:
    rest = f".{digits[1:]}" if len(digits) > 1 else ""
    letter = "E" if verb in "EG" else "e"
    return f"{sign}{digits[0]}{rest}{letter}{'-' if exponent < 0 else '+'}{abs(exponent):02d}"


def format_value(value: Value) -> str:
    """A value as ``%v`` writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return format_float(value)
    if isinstance(value, Mapping):
        return "map[" + " ".join(f"{key}:{format_value(value[key])}" for key in sorted(value)) + "]"
    if isinstance(value, Sequence):
        return "[" + " ".join(format_value(item) for item in value) + "]"
    if isinstance(value, Sample):
        return f"{{{format_value(value.labels)} {format_float(value.value)}}}"
    if isinstance(value, Data):
        parts: tuple[Value, ...] = (value.labels, value.external_labels, value.external_url, value.value)
        return "{" + " ".join(map(format_value, parts)) + "}"
    if isinstance(value, Named):
        return value.name
    return "<no value>" if value is None else str(value)


def quote(text: str, *, ascii_only: bool = False) -> str:
    """A text in double quotes, as ``%q`` writes it."""
    return '"' + "".join(_quoted(letter, ascii_only) for letter in text) + '"'


def _quoted(letter: str, ascii_only: bool) -> str:
    if letter in _ESCAPES:
        return _ESCAPES[letter]
    code = ord(letter)
    if letter.isprintable() and (code < 0x80 or not ascii_only):
        return letter
    return f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
