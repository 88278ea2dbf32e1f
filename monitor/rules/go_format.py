"""How Go writes values: what ``{{ $value }}`` and ``printf`` give in a template."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeAlias, Union

MOST_CHARACTERS = 65_536
"""No text that a template makes, on the way or at the end, may grow beyond this."""

_VERB = re.compile(r"%([-+# 0]*)(\*|\d+)?(?:\.(\*|\d*))?(?:\[(\d+)\])?(.|\n)?")
_WIDEST = 1_000
_PLAIN_BELOW = 6  # a shortest %g of a million or more is written with an exponent


@dataclass(frozen=True, slots=True)
class Sample:
    """One element of what ``query`` gives."""

    labels: Mapping[str, str]
    value: float


@dataclass(frozen=True, slots=True)
class Time:
    """A moment, as ``toTime`` gives it: seconds since the epoch."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Duration:
    """A span, as ``toDuration`` gives it: seconds."""

    seconds: float


Value: TypeAlias = Union[bool, int, float, str, Sample, Time, Duration, "Sequence[Value]", "Mapping[str, Value]", None]
"""All that a template can hold. There is no object among them whose Python attributes it could reach."""


class FormatError(ValueError):
    """What cannot be written: out of range, or too large."""


def type_name(value: Value) -> str:
    """The name that Go gives to the type of a value."""
    if isinstance(value, str):
        return "string"
    if isinstance(value, Mapping):
        return "map[string]string"
    if isinstance(value, Sequence):
        return "template.queryResult"
    names = {bool: "bool", int: "int", float: "float64", Sample: "*template.sample"}
    return names.get(type(value)) or {Time: "*time.Time", Duration: "time.Duration"}.get(type(value), "<nil>")


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
    if isinstance(value, Time):
        return format_time(value.seconds)
    if isinstance(value, Duration):
        return format_duration(value.seconds)
    return "<no value>" if value is None else str(value)


def format_time(seconds: float) -> str:
    """A moment as Go writes it, in UTC: ``2006-01-02 15:04:05.5 +0000 UTC``."""
    try:
        moment = datetime.fromtimestamp(math.floor(seconds), UTC)
    except (OverflowError, ValueError, OSError) as error:
        raise FormatError(f"{format_float(seconds)} cannot be represented as a time") from error
    millis = int((seconds - math.floor(seconds)) * 1000)
    fraction = f".{millis:03d}".rstrip("0") if millis else ""
    return f"{moment:%Y-%m-%d %H:%M:%S}{fraction} +0000 UTC"


def format_duration(seconds: float) -> str:
    """A span as Go writes it: ``1m30.5s``."""
    try:
        whole = timedelta(seconds=abs(seconds))
    except (OverflowError, ValueError) as error:
        raise FormatError(f"{format_float(seconds)} cannot be represented as a duration") from error
    if not whole:
        return "0s"
    minutes, rest = divmod(whole / timedelta(seconds=1), 60)
    hours, minutes = divmod(int(minutes), 60)
    sign = "-" if seconds < 0 else ""
    if 0 < rest < 1 and not minutes and not hours:
        unit, scale = ("ms", 1e3) if rest >= 1e-3 else ("µs", 1e6)
        return f"{sign}{format_float(round(rest * scale, 6), 'f')}{unit}"
    head = f"{hours}h{minutes}m" if hours else f"{minutes}m" if minutes else ""
    return f"{sign}{head}{format_float(round(rest, 6), 'f')}s"


def sprint(values: Sequence[Value]) -> str:
    """``print``: a space between two values of which neither is a text."""
    out = ""
    for i, value in enumerate(values):
        if i and not isinstance(value, str) and not isinstance(values[i - 1], str):
            out += " "
        out += format_value(value)
    return out


def sprintf(form: str, values: Sequence[Value]) -> str:
    """``printf``, with Go's ways of saying that a verb and a value do not fit: ``%!d(string=x)``."""
    out: list[str] = []
    length = position = used = 0
    reordered = False
    while position < len(form):
        percent = form.find("%", position)
        if percent != position:
            piece = form[position : percent if percent >= 0 else len(form)]
            position += len(piece)
        else:
            match = _VERB.match(form, position)
            assert match is not None  # noqa: S101 # every part of the pattern but the sign may be empty
            position = match.end()
            flags, width, precision, index, verb = match.groups()
            explicit = re.match(r"%\[(\d+)\](.|\n)?", match.string[match.start() :])
            if explicit is not None:  # the index before flags: %[2]d
                flags, width, precision, index, verb = "", None, None, explicit[1], explicit[2]
                position = match.start() + explicit.end()
            numbers: list[int | None] = []
            bad = ""
            for name, written in (("WIDTH", width), ("PREC", precision)):
                if written == "*":
                    star = values[used] if used < len(values) else None
                    used += 1
                    if not isinstance(star, int) or isinstance(star, bool) or abs(star) > _WIDEST:
                        bad += f"%!(BAD{name})"
                        star = None
                    numbers.append(star)
                else:
                    numbers.append(None if written is None else int(written or 0))
            if any(number is not None and abs(number) > _WIDEST for number in numbers):
                raise FormatError(f"a width or precision over {_WIDEST} is refused")
            if numbers[0] is not None and numbers[0] < 0:
                flags, numbers[0] = flags + "-", -numbers[0]
            if index is not None:
                used, reordered = int(index) - 1, True
            if verb is None:
                piece = "%!(NOVERB)"
            elif verb == "%":
                piece = "%"
            elif not 0 <= used < len(values):
                piece = f"%!{verb}({'BADINDEX' if index is not None else 'MISSING'})"
            else:
                piece = _one(verb, flags, numbers[0], numbers[1], values[used])
                used += 1
            piece = bad + piece
        out.append(piece)
        length += len(piece)
        if length > MOST_CHARACTERS:
            raise FormatError(f"the text grows beyond {MOST_CHARACTERS} characters")
    if used < len(values) and not reordered:
        extra = ", ".join(
            f"{type_name(value)}={format_value(value)}" if value is not None else "<nil>" for value in values[used:]
        )
        out.append(f"%!(EXTRA {extra})")
    return "".join(out)


def quote(text: str) -> str:
    """A text in double quotes, as ``%q`` writes it."""
    return json.dumps(text, ensure_ascii=False)


def _one(verb: str, flags: str, width: int | None, precision: int | None, value: Value) -> str:
    """One value by one verb, padded."""
    text = _plain(verb, flags, precision, value)
    if text is None:
        shown = "<nil>" if value is None else f"{type_name(value)}={format_value(value)}"
        return f"%!{verb}({shown})"
    number = isinstance(value, int | float) and not isinstance(value, bool) and verb not in "cqU"
    if number and not text.startswith(("-", "+")):
        text = ("+" if "+" in flags else " " if " " in flags else "") + text
    missing = (width or 0) - len(text)
    if missing <= 0:
        return text
    if "-" in flags:
        return text + " " * missing
    if "0" in flags and not (number and isinstance(value, float) and not math.isfinite(value)):
        sign = text[:1] if text[:1] in "+- " and number else ""
        return sign + "0" * missing + text[len(sign) :]
    return " " * missing + text


def _plain(verb: str, flags: str, precision: int | None, value: Value) -> str | None:
    """The value without sign and padding; None where the verb does not fit its type."""
    if verb == "T":
        return type_name(value)
    if isinstance(value, bool):
        return format_value(value) if verb in "tv" else None
    if isinstance(value, int):
        return _integer(verb, flags, precision, value)
    if isinstance(value, float):
        if verb == "v":
            verb = "g"
        if verb not in "eEfFgG":
            return None
        if precision is None and verb not in "gG":
            precision = 6
        text = format_float(value, verb, precision)
        return text.lstrip("+") if "+" in flags or " " in flags else text
    if isinstance(value, str):
        if verb in "sv":
            return value if precision is None else value[:precision]
        if verb == "q":
            return f"`{value}`" if "#" in flags and "`" not in value else quote(value)
        if verb in "xX":
            digits = value.encode().hex()
            return digits.upper() if verb == "X" else digits
        return None
    if value is None:
        return "<nil>" if verb == "v" else None
    return format_value(value) if verb in "sv" else None


def _integer(verb: str, flags: str, precision: int | None, value: int) -> str | None:
    if verb in "dv":
        digits = str(abs(value)).rjust(precision or 0, "0")
        return f"-{digits}" if value < 0 else digits
    if verb in "xXob":
        prefix = {"x": "0x", "X": "0X", "o": "0", "b": "0b"}[verb] if "#" in flags else ""
        digits = f"{abs(value):{verb}}".rjust(precision or 0, "0")
        return f"-{prefix}{digits}" if value < 0 else prefix + digits
    if verb in "cqU":
        if not 0 <= value < 0x110000:
            return None
        if verb == "U":
            return f"U+{value:04X}"
        return chr(value) if verb == "c" else f"'{chr(value)}'"
    return None
