"""The functions of rule templates: Go's own, and those that Prometheus adds. A new one is one entry of ``FUNCTIONS``.

Each takes the context and its arguments, whose kinds are declared beside it and checked before it is called.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import quote_plus, urlsplit

import msgspec

from monitor.go_regex import RegexError
from monitor.rules import template_numbers as numbers
from monitor.rules import template_regex as regex
from monitor.rules import template_texts as texts
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
from monitor.rules.go_printf import shown, sprint, sprintf
from monitor.rules.go_time import Duration, Named, Time, TimeError, duration_of, time_of
from monitor.rules.template_kinds import Declared

Query = Callable[[str], Sequence[Sample]]


class CallError(ValueError):
    """A function that could not do what it was called for."""


class Context(msgspec.Struct, frozen=True):
    """What functions may know besides their arguments."""

    query: Query
    now_ms: int
    external_url: str = ""
    name: str = ""
    """Of the template, for errors: ``__alert_`` and the rule's name."""


def call(name: str, declared: Declared, subject: object, arguments: Sequence[Value]) -> Value:
    """Call a function whose arguments fit. Raises ``CallError`` where it fails."""
    try:
        result: Value = declared.call(subject, *arguments)
    except (CallError, FormatError, TimeError, RegexError, OverflowError) as error:
        raise CallError(f"error calling {name}: {error}") from error
    if isinstance(result, str) and len(result) > MOST_CHARACTERS:
        raise CallError(f"error calling {name}: its text grows beyond {MOST_CHARACTERS} characters")
    return result


def truth(value: Value) -> bool:
    """What ``if`` takes for true: not zero, not empty, not nil."""
    if isinstance(value, Time | Sample | Data):
        return True
    if isinstance(value, Duration):
        return value.ns != 0
    if isinstance(value, Named):
        return value.number != 0
    return bool(value) or (isinstance(value, float) and math.isnan(value))


def number_of(value: Value) -> float:
    """A number, also where a text says it. Raises ``CallError``."""
    if isinstance(value, str):
        try:
            if value.strip() != value:
                raise ValueError(value)
            hexadecimal = "0x" in value.lower() and "p" in value.lower()
            return float.fromhex(value) if hexadecimal else float(value)
        except ValueError:
            raise CallError(f"strconv.ParseFloat: parsing {quote(value)}: invalid syntax") from None
    if isinstance(value, Duration):
        return value.seconds
    if isinstance(value, Named):
        return float(value.number)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise CallError(f"can't convert {type_name(value)} to float")
    return float(value)


def _of_number(function: Callable[[float], Value]) -> Declared:
    return Declared(lambda _, value: function(number_of(value)), ("any",))


def _of_text(function: Callable[[str], Value]) -> Declared:
    return Declared(lambda _, text: function(text), ("string",))


def _parse_duration(text: str) -> float:
    try:
        return texts.parse_duration(text)
    except ValueError as error:
        raise CallError(str(error)) from error


def _replace_all(pattern: str, replacement: str, text: str) -> str:
    try:
        return regex.replace_all(pattern, replacement, text)
    except RegexError as error:
        if not str(error).startswith("error parsing"):
            raise
        shown = quote(pattern) if "`" in pattern or "\n" in pattern else f"`{pattern}`"
        raise CallError(f"regexp: Compile({shown}): {error}") from error


def _of_sample(sample: Sample | None) -> Sample:
    if sample is None:
        raise CallError("runtime error: invalid memory address or nil pointer dereference")
    return sample


# -- vectors and collections -----------------------------------------------------------------------------------------


def first(_: Context, vector: Sequence[Sample] | None) -> Sample:
    """The first element of a query's result."""
    if not vector:
        raise CallError("first() called on vector with no elements")
    return vector[0]


def index(_: Context, collection: Value, *keys: Value) -> Value:
    """``index $labels "gpu"``; of a mapping "" where there is none."""
    if collection is None:
        raise CallError("index of untyped nil")
    for key in keys:
        if isinstance(collection, Mapping):
            if not isinstance(key, str):
                raise CallError(f"value has type {type_name(key)}; should be string")
            collection = collection.get(key, None if isinstance(collection, Arguments) else "")
        elif isinstance(collection, Sequence):
            items = collection.encode() if isinstance(collection, str) else collection
            collection = items[_place(key, len(items) - 1)]
        else:
            raise CallError(f"can't index item of type {type_name(collection).removeprefix('*')}")
    return collection


def _place(key: Value, most: int) -> int:
    if not isinstance(key, int) or isinstance(key, bool):
        raise CallError(f"cannot index slice/array with type {type_name(key)}")
    if not 0 <= key <= most:
        raise CallError(f"index out of range: {key}")
    return key


def cut(_: Context, collection: Value, *bounds: Value) -> Value:
    """``slice "abcdef" 1 3``; texts are cut by bytes."""
    if collection is None:
        raise CallError("slice of untyped nil")
    if len(bounds) > 3:
        raise CallError(f"too many slice indexes: {len(bounds)}")
    if not isinstance(collection, Sequence):
        raise CallError(f"can't slice item of type {type_name(collection).removeprefix('*')}")
    if isinstance(collection, str) and len(bounds) == 3:
        raise CallError("cannot 3-index slice a string")
    items = collection.encode() if isinstance(collection, str) else collection
    places = [_place(bound, len(items)) for bound in bounds]
    low = places[0] if places else 0
    high = places[1] if len(places) > 1 else len(items)
    if low > high:
        raise CallError(f"invalid slice index: {low} > {high}")
    part = items[low:high]
    return part.decode(errors="replace") if isinstance(part, bytes) else part


def length(_: Context, collection: Value) -> int:
    """Of a text (in bytes), a vector or a mapping."""
    if isinstance(collection, str):
        return len(collection.encode())
    if collection is None:
        raise CallError("len of nil pointer")
    if not isinstance(collection, Mapping | Sequence):
        raise CallError(f"len of type {type_name(collection).removeprefix('*')}")
    return len(collection)


# -- comparison ------------------------------------------------------------------------------------------------------


def _basic(value: Value) -> tuple[str, Any]:
    """The kind by which a value is compared, and what is compared."""
    match value:
        case bool():
            return "bool", value
        case Duration():
            return "int", value.ns
        case Named():
            return "int", value.number
        case int() | float() | str():
            return type(value).__name__, value
    return "", value


def _equal(one: Value, other: Value) -> bool:
    if one is None or other is None:
        return one is other
    (kind, left), (other_kind, right) = _basic(one), _basic(other)
    for value in (one, other):
        if isinstance(value, Mapping | Sequence) and not isinstance(value, str):
            raise CallError(f"non-comparable type {format_value(value)}: {type_name(value)}")
    if kind != other_kind:
        raise CallError(f"incompatible types for comparison: {type_name(one)} and {type_name(other)}")
    return bool(left == right) if kind else one is other  # Go compares these by their addresses


def _less(one: Value, other: Value) -> bool:
    (kind, left), (other_kind, right) = _basic(one), _basic(other)
    if not kind or not other_kind or kind == other_kind == "bool":
        raise CallError("invalid type for comparison")
    if kind != other_kind:
        raise CallError(f"incompatible types for comparison: {type_name(one)} and {type_name(other)}")
    return bool(left < right)


def equals(_: Context, one: Value, *others: Value) -> bool:
    """Whether the first equals any of the others."""
    if not others:
        raise CallError("missing argument for comparison")
    return any(_equal(one, other) for other in others)


def _printed(values: Sequence[Value]) -> str:
    """The one text that ``html``, ``js`` and ``urlquery`` make of their arguments."""
    return sprint(["<no value>" if value is None else value for value in values])


def _called(_: Context, function: Value, *__: Value) -> Value:
    # No value of a template is a function.
    raise CallError("call of nil" if function is None else f"non-function of type {type_name(function)}")


FUNCTIONS: Mapping[str, Declared] = {
    # Go's own; `and` and `or` are evaluated by the interpreter, which stops at the first that decides.
    "and": Declared(lambda _, *values: values[-1], ("any",), "any"),
    "or": Declared(lambda _, *values: values[-1], ("any",), "any"),
    "not": Declared(lambda _, value: not truth(value), ("any",)),
    "eq": Declared(equals, ("any",), "any"),
    "ne": Declared(lambda _, a, b: not _equal(a, b), ("any", "any")),
    "lt": Declared(lambda _, a, b: _less(a, b), ("any", "any")),
    "le": Declared(lambda _, a, b: _less(a, b) or _equal(a, b), ("any", "any")),
    "gt": Declared(lambda _, a, b: not (_less(a, b) or _equal(a, b)), ("any", "any")),
    "ge": Declared(lambda _, a, b: not _less(a, b), ("any", "any")),
    "call": Declared(_called, ("any",), "any"),
    "html": Declared(lambda _, *values: texts.escape_html(_printed(values)), (), "any"),
    "index": Declared(index, ("any",), "any"),
    "js": Declared(lambda _, *values: texts.js(_printed(values)), (), "any"),
    "len": Declared(length, ("any",)),
    "print": Declared(lambda _, *values: sprint(values), (), "any"),
    "printf": Declared(lambda _, form, *values: sprintf(form, values), ("string",), "any"),
    "println": Declared(lambda _, *values: " ".join(map(shown, values)) + "\n", (), "any"),
    "slice": Declared(cut, ("any",), "any"),
    "urlquery": Declared(lambda _, *values: quote_plus(_printed(values)), (), "any"),
    # Prometheus'
    "args": Declared(lambda _, *values: Arguments((f"arg{i}", value) for i, value in enumerate(values)), (), "any"),
    "externalURL": Declared(lambda context: context.external_url),
    "first": Declared(first, ("vector",)),
    "graphLink": _of_text(lambda expr: texts.link(expr, 0)),
    "humanize": _of_number(numbers.humanize),
    "humanize1024": _of_number(numbers.humanize1024),
    "humanizeDuration": _of_number(numbers.humanize_duration),
    "humanizePercentage": _of_number(numbers.humanize_percentage),
    "humanizeTimestamp": _of_number(numbers.humanize_timestamp),
    "label": Declared(lambda _, name, sample: _of_sample(sample).labels.get(name, ""), ("string", "sample")),
    "match": Declared(lambda _, pattern, text: regex.matches(pattern, text), ("string", "string")),
    "now": Declared(lambda context: context.now_ms / 1000),
    "parseDuration": _of_text(_parse_duration),
    "pathPrefix": Declared(lambda context: urlsplit(context.external_url).path),
    "query": Declared(lambda context, text: list(context.query(text)), ("string",)),
    "reReplaceAll": Declared(lambda _, *given: _replace_all(*given), ("string", "string", "string")),
    "safeHtml": _of_text(lambda text: text),
    "sortByLabel": Declared(
        lambda _, name, vector: sorted(vector or (), key=lambda sample: sample.labels.get(name, "")),
        ("string", "vector"),
    ),
    "stripDomain": _of_text(texts.strip_domain),
    "stripPort": _of_text(texts.strip_port),
    "strvalue": Declared(lambda _, sample: _of_sample(sample).labels.get("__value__", ""), ("sample",)),
    "tableLink": _of_text(lambda expr: texts.link(expr, 1)),
    "title": _of_text(texts.title),
    "toDuration": _of_number(duration_of),
    "toLower": _of_text(texts.lower),
    "toTime": _of_number(time_of),
    "toUpper": _of_text(texts.upper),
    "urlQueryEscape": _of_text(quote_plus),
    "value": Declared(lambda _, sample: _of_sample(sample).value, ("sample",)),
}
