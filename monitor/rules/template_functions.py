"""The functions of rule templates: Go's own, and those that Prometheus adds. A new one is one entry of ``FUNCTIONS``.

Each takes the context and its arguments, whose kinds are declared beside it and checked before it is called.
"""

from __future__ import annotations

import html
import ipaddress
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote_plus, urlsplit

from monitor.rules.go_format import (
    MOST_CHARACTERS,
    Duration,
    FormatError,
    Sample,
    Time,
    Value,
    format_float,
    format_time,
    format_value,
    sprint,
    sprintf,
    type_name,
)
from monitor.yaml_reader import parse_duration_ms

Query = Callable[[str], Sequence[Sample]]
_UP = ("k", "M", "G", "T", "P", "E", "Z", "Y")
_UP_1024 = ("ki", "Mi", "Gi", "Ti", "Pi", "Ei", "Zi", "Yi")
_DOWN = ("m", "u", "n", "p", "f", "a", "z", "y")


class CallError(ValueError):
    """A function that could not do what it was called for."""


@dataclass(frozen=True, slots=True)
class Context:
    """What functions may know besides their arguments."""

    query: Query
    now_ms: int
    external_url: str = ""


@dataclass(frozen=True, slots=True)
class Declared:
    """A function with the kinds of its arguments: ``any``, ``string``, ``int``, ``number`` (also a text that reads as
    one), ``sample`` or ``vector``. ``rest`` is the kind of any further ones."""

    call: Callable[..., Any]
    kinds: tuple[str, ...] = ()
    rest: str = ""


def call(name: str, context: Context, arguments: Sequence[Value]) -> Value:
    """Call a function. Raises ``CallError`` where the arguments do not fit or the function fails."""
    declared = FUNCTIONS[name]
    least = len(declared.kinds)
    if len(arguments) < least or (len(arguments) > least and not declared.rest):
        wanted = f"at least {least}" if declared.rest else str(least)
        raise CallError(f"wrong number of args for {name}: want {wanted} got {len(arguments)}")
    kinds = declared.kinds + (declared.rest,) * (len(arguments) - least)
    fitted = [_fit(name, kind, value) for kind, value in zip(kinds, arguments, strict=True)]
    try:
        result: Value = declared.call(context, *fitted)
    except (CallError, FormatError, OverflowError, re.error) as error:
        raise CallError(f"error calling {name}: {error}") from error
    if isinstance(result, str) and len(result) > MOST_CHARACTERS:
        raise CallError(f"error calling {name}: its text grows beyond {MOST_CHARACTERS} characters")
    return result


def truth(value: Value) -> bool:
    """What ``if`` takes for true: not zero, not empty, not nil."""
    if isinstance(value, Time | Duration | Sample):
        return True
    return bool(value) or (isinstance(value, float) and math.isnan(value))


def _fit(name: str, kind: str, value: Value) -> Value:
    if kind == "any":
        return value
    if kind == "number":
        return _number(name, value)
    fits = {
        "string": isinstance(value, str),
        "int": isinstance(value, int) and not isinstance(value, bool),
        "sample": isinstance(value, Sample),
        "vector": isinstance(value, Sequence) and not isinstance(value, str),
    }[kind]
    if not fits:
        wanted = {"sample": "*template.sample", "vector": "template.queryResult"}.get(kind, kind)
        raise CallError(f"wrong type for the arguments of {name}: expected {wanted}; found {type_name(value)}")
    return value


def _number(name: str, value: Value) -> float:
    if isinstance(value, str):
        try:
            return float(value.replace("_", "x"))
        except ValueError:
            raise CallError(f'error calling {name}: strconv.ParseFloat: parsing "{value}": invalid syntax') from None
    if isinstance(value, Duration):
        return value.seconds
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise CallError(f"error calling {name}: can't convert {type_name(value)} to float")
    return float(value)


# -- numbers for people ----------------------------------------------------------------------------------------------


def _short(value: float) -> str:
    return format_float(value, "g", 4)


def _shrunk(value: float) -> tuple[float, str]:
    prefix = ""
    for prefix_ in _DOWN:
        if abs(value) >= 1:
            break
        prefix, value = prefix_, value * 1000
    return value, prefix


def humanize(_: Context, value: float) -> str:
    """``1234567`` as ``1.235M``, ``0.0012`` as ``1.2m``."""
    if value == 0 or not math.isfinite(value):
        return _short(value)
    if abs(value) >= 1:
        return _grown(value, 1000, _UP)
    small, prefix = _shrunk(value)
    return _short(small) + prefix


def _grown(value: float, step: int, prefixes: Sequence[str]) -> str:
    prefix = ""
    for prefix_ in prefixes:
        if abs(value) < step:
            break
        prefix, value = prefix_, value / step
    return _short(value) + prefix


def humanize1024(_: Context, value: float) -> str:
    """``1048576`` as ``1Mi``."""
    if abs(value) <= 1 or not math.isfinite(value):
        return _short(value)
    return _grown(value, 1024, _UP_1024)


def humanize_duration(_: Context, value: float) -> str:
    """Seconds as ``1d 2h 3m 4s``, less than one as ``12ms``."""
    if not math.isfinite(value):
        return _short(value)
    if value == 0:
        return "0s"
    if abs(value) < 1:
        small, prefix = _shrunk(value)
        return f"{_short(small)}{prefix}s"
    sign, value = ("-", -value) if value < 0 else ("", value)
    minutes, seconds = divmod(int(value), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{sign}{days}d {hours}h {minutes}m {seconds}s"
    if hours:
        return f"{sign}{hours}h {minutes}m {seconds}s"
    return f"{sign}{minutes}m {seconds}s" if minutes else f"{sign}{_short(value)}s"


def humanize_percentage(_: Context, value: float) -> str:
    """``0.123`` as ``12.3%``."""
    return _short(value * 100) + "%"


def humanize_timestamp(_: Context, value: float) -> str:
    """Seconds since the epoch as a date."""
    return format_time(value) if math.isfinite(value) else _short(value)


# -- texts -----------------------------------------------------------------------------------------------------------


def title(_: Context, text: str) -> str:
    """Every word with a capital."""
    out, before = "", " "
    for letter in text:
        word = before.isalnum() or before == "_" or (not before.isascii() and not before.isspace())
        out += letter if word else letter.title()
        before = letter
    return out


def re_replace_all(_: Context, pattern: str, replacement: str, text: str) -> str:
    """Replace every match; ``$1`` and ``${name}`` are groups."""
    compiled = re.compile(pattern)

    def expand(match: re.Match[str]) -> str:
        def group(found: re.Match[str]) -> str:
            if found[0] == "$$":
                return "$"
            name = found[1] or found[2]
            key: int | str = int(name) if name.isdigit() else name
            known = key <= compiled.groups if isinstance(key, int) else key in compiled.groupindex
            return (match[key] or "") if known else ""

        return re.sub(r"\$\$|\$\{(\w+)\}|\$(\w+)", group, replacement)

    return compiled.sub(expand, text)


def strip_port(_: Context, text: str) -> str:
    """``host:9519`` without its port."""
    host, port = _host_port(text)
    return host if port is not None else text


def strip_domain(_: Context, text: str) -> str:
    """``gpu1.example.org:9519`` as ``gpu1:9519``; an address stays."""
    host, port = _host_port(text)
    try:
        ipaddress.ip_address(host)
    except ValueError:
        short = host.split(".")[0]
        return f"{short}:{port}" if port else short
    return text


def _host_port(text: str) -> tuple[str, str | None]:
    bracketed = re.fullmatch(r"\[([^\]]*)\]:([^:]*)", text)
    if bracketed is not None:
        return bracketed[1], bracketed[2]
    if text.count(":") == 1:
        host, port = text.split(":")
        return host, port
    return text, None


def _link(expr: str, tab: int) -> str:
    return f"/graph?g0.expr={quote_plus(expr)}&g0.tab={tab}"


def _js(text: str) -> str:
    escapes = {"\\": "\\\\", "'": "\\'", '"': '\\"', "\n": "\\u000A", "\r": "\\u000D", "\t": "\\u0009"}
    escapes |= {"<": "\\u003C", ">": "\\u003E", "&": "\\u0026", "=": "\\u003D"}
    return "".join(escapes.get(letter, letter) for letter in text)


def _html(text: str) -> str:
    return html.escape(text).replace("&quot;", "&#34;").replace("&#x27;", "&#39;")


def parse_duration(_: Context, text: str) -> float:
    """Prometheus' ``1m30s`` in seconds."""
    ms = parse_duration_ms(text)
    if ms is None:
        raise CallError(f"not a valid duration string: {text!r}")
    return ms / 1000


# -- vectors and collections -----------------------------------------------------------------------------------------


def first(_: Context, vector: Sequence[Sample]) -> Sample:
    """The first element of a query's result."""
    if not vector:
        raise CallError("first() called on vector with no elements")
    return vector[0]


def index(_: Context, collection: Value, *keys: Value) -> Value:
    """``index $labels "gpu"``; of a mapping "" where there is none."""
    for key in keys:
        if isinstance(collection, Mapping):
            if not isinstance(key, str):
                raise CallError(f"value has type {type_name(key)}; should be string")
            collection = collection.get(key, "")
        elif isinstance(collection, Sequence):
            if not isinstance(key, int) or isinstance(key, bool):
                raise CallError(f"cannot index slice/array with type {type_name(key)}")
            if not 0 <= key < len(collection):
                raise CallError(f"index out of range: {key}")
            collection = collection[key] if not isinstance(collection, str) else ord(collection[key])
        else:
            raise CallError(f"can't index item of type {type_name(collection)}")
    return collection


def cut(_: Context, collection: Value, *bounds: int) -> Value:
    """``slice "abcdef" 1 3``"""
    if not isinstance(collection, Sequence):
        raise CallError(f"can't slice item of type {type_name(collection)}")
    if len(bounds) > 2:
        raise CallError(f"too many slice indexes: {len(bounds)}")
    low = bounds[0] if bounds else 0
    high = bounds[1] if len(bounds) > 1 else len(collection)
    if not 0 <= low <= high <= len(collection):
        raise CallError(f"index out of range: {low}, {high}")
    return collection[low:high]


def length(_: Context, collection: Value) -> int:
    """Of a text (in bytes), a vector or a mapping."""
    if isinstance(collection, str):
        return len(collection.encode())
    if not isinstance(collection, Mapping | Sequence):
        raise CallError(f"len of type {type_name(collection)}")
    return len(collection)


# -- comparison ------------------------------------------------------------------------------------------------------


def _basic(value: Value) -> str:
    if isinstance(value, bool):
        return "bool"
    kinds: dict[type, str] = {int: "int", float: "float", str: "string", Duration: "int"}
    kind = kinds.get(type(value))
    if kind is None:
        raise CallError("invalid type for comparison")
    return kind


def _equal(one: Value, other: Value) -> bool:
    if one is None or other is None:
        return one is other
    if _basic(one) != _basic(other):
        raise CallError(f"incompatible types for comparison: {type_name(one)} and {type_name(other)}")
    return one == other


def _less(one: Any, other: Any) -> bool:
    if _basic(one) != _basic(other):
        raise CallError(f"incompatible types for comparison: {type_name(one)} and {type_name(other)}")
    if isinstance(one, bool):
        raise CallError("invalid type for comparison")
    if isinstance(one, Duration) and isinstance(other, Duration):
        return one.seconds < other.seconds
    return bool(one < other)


def equals(_: Context, one: Value, *others: Value) -> bool:
    """Whether the first equals any of the others."""
    if not others:
        raise CallError("missing argument for comparison")
    return any(_equal(one, other) for other in others)


def _external_path(context: Context) -> str:
    return urlsplit(context.external_url).path


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
    "html": Declared(lambda _, *values: _html(sprint(values)), (), "any"),
    "index": Declared(index, ("any",), "any"),
    "js": Declared(lambda _, *values: _js(sprint(values)), (), "any"),
    "len": Declared(length, ("any",)),
    "print": Declared(lambda _, *values: sprint(values), (), "any"),
    "printf": Declared(lambda _, form, *values: sprintf(form, values), ("string",), "any"),
    "println": Declared(lambda _, *values: " ".join(map(format_value, values)) + "\n", (), "any"),
    "slice": Declared(cut, ("any",), "int"),
    "urlquery": Declared(lambda _, *values: quote_plus(sprint(values)), (), "any"),
    # Prometheus'
    "args": Declared(lambda _, *values: {f"arg{i}": value for i, value in enumerate(values)}, (), "any"),
    "externalURL": Declared(lambda context: context.external_url),
    "first": Declared(first, ("vector",)),
    "graphLink": Declared(lambda _, expr: _link(expr, 0), ("string",)),
    "humanize": Declared(humanize, ("number",)),
    "humanize1024": Declared(humanize1024, ("number",)),
    "humanizeDuration": Declared(humanize_duration, ("number",)),
    "humanizePercentage": Declared(humanize_percentage, ("number",)),
    "humanizeTimestamp": Declared(humanize_timestamp, ("number",)),
    "label": Declared(lambda _, name, sample: sample.labels.get(name, ""), ("string", "sample")),
    "match": Declared(lambda _, pattern, text: re.search(pattern, text) is not None, ("string", "string")),
    "now": Declared(lambda context: context.now_ms / 1000),
    "parseDuration": Declared(parse_duration, ("string",)),
    "pathPrefix": Declared(_external_path),
    "query": Declared(lambda context, text: list(context.query(text)), ("string",)),
    "reReplaceAll": Declared(re_replace_all, ("string", "string", "string")),
    "safeHtml": Declared(lambda _, text: text, ("string",)),
    "sortByLabel": Declared(
        lambda _, name, vector: sorted(vector, key=lambda sample: sample.labels.get(name, "")), ("string", "vector")
    ),
    "stripDomain": Declared(strip_domain, ("string",)),
    "stripPort": Declared(strip_port, ("string",)),
    "strvalue": Declared(lambda _, sample: sample.labels.get("__value__", ""), ("sample",)),
    "tableLink": Declared(lambda _, expr: _link(expr, 1), ("string",)),
    "title": Declared(title, ("string",)),
    "toDuration": Declared(lambda _, seconds: Duration(seconds), ("number",)),
    "toLower": Declared(lambda _, text: text.lower(), ("string",)),
    "toTime": Declared(lambda _, seconds: Time(seconds), ("number",)),
    "toUpper": Declared(lambda _, text: text.upper(), ("string",)),
    "urlQueryEscape": Declared(lambda _, text: quote_plus(text), ("string",)),
    "value": Declared(lambda _, sample: sample.value, ("sample",)),
}
