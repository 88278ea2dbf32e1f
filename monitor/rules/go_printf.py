"""``print`` and ``printf`` as Go has them, with its ways of saying that a verb and a value do not fit:
``%!d(string=x)``."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

from monitor.digits import is_whole
from monitor.rules.go_format import (
    MOST_CHARACTERS,
    FormatError,
    Value,
    format_float,
    format_value,
    quote,
    type_name,
)
from monitor.rules.go_time import Duration, Named, Time

_VERB = re.compile(
    r"""%(?P<flags>[-+#\ 0]*)
    (?:(?P<width_index>\[[^\]]*\])?(?P<width_star>\*)|(?P<width>\d+))?
    (?:\.(?:(?P<precision_index>\[[^\]]*\])?(?P<precision_star>\*)|(?P<precision>\d*)))?
    (?P<index>\[[^\]]*\])?(?P<late>\d+)?
    (?P<verb>.|\n)?""",
    re.VERBOSE,
)
_WIDEST = 1_000
_BASES = {"d": "d", "v": "d", "x": "x", "X": "X", "o": "o", "O": "o", "b": "b"}
_PREFIXES = {"x": "0x", "X": "0X", "o": "0", "b": "0b"}


def sprint(values: Sequence[Value]) -> str:
    """``print``: a space between two values of which neither is a text."""
    out = ""
    for i, value in enumerate(values):
        if i and not isinstance(value, str) and not isinstance(values[i - 1], str):
            out += " "
        out += shown(value)
    return out


def shown(value: Value) -> str:
    """A value as ``%v`` writes it; nil as ``<nil>``, which is ``<no value>`` outside of functions."""
    return "<nil>" if value is None else format_value(value)


def sprintf(form: str, values: Sequence[Value]) -> str:
    """``printf``. Raises ``FormatError`` where it would become too large."""
    return _Printer(values).print(form)


class _Printer:
    def __init__(self, values: Sequence[Value]) -> None:
        self.values = values
        self.used = 0
        self.reordered = False
        self.good = True
        """Whether the indexes of this verb, ``%[2]d``, are those of values."""

    def print(self, form: str) -> str:
        out: list[str] = []
        position = length = 0
        while position < len(form):
            if form[position] == "%":
                match = _VERB.match(form, position)
                assert match is not None  # noqa: S101 # every part of the pattern but the sign may be empty
                position = match.end()
                piece = self.one(match)
            else:
                percent = form.find("%", position)
                piece = form[position : percent if percent >= 0 else len(form)]
                position += len(piece)
            out.append(piece)
            length += len(piece)
            if length > MOST_CHARACTERS:
                raise FormatError(f"the text grows beyond {MOST_CHARACTERS} characters")
        if self.used < len(self.values) and not self.reordered:
            rest = self.values[self.used :]
            extra = ", ".join("<nil>" if one is None else f"{type_name(one)}={shown(one)}" for one in rest)
            out.append(f"%!(EXTRA {extra})")
        return "".join(out)

    def one(self, match: re.Match[str]) -> str:
        self.good = True
        bad, flags = "", match["flags"]
        numbers: list[int | None] = []
        for name, wrong in (("width", "WIDTH"), ("precision", "PREC")):
            self.turn_to(match[f"{name}_index"])
            if match[f"{name}_star"]:
                star = self.values[self.used] if 0 <= self.used < len(self.values) else None
                self.used += 1
                if not isinstance(star, int) or isinstance(star, bool) or abs(star) > _WIDEST:
                    star = None
                if star is None or (name == "precision" and star < 0):
                    bad, star = f"{bad}%!(BAD{wrong})", None
                numbers.append(star)
            else:
                numbers.append(int(match[name] or 0) if match[name] is not None else None)
        width, precision = numbers
        if max(width or 0, precision or 0) > _WIDEST:
            raise FormatError(f"a width or precision over {_WIDEST} is refused")
        if width is not None and width < 0:
            flags, width = flags + "-", -width
        self.turn_to(match["index"])
        if match["late"]:
            self.good = False
        verb = match["verb"]
        if verb is None:
            return bad + "%!(NOVERB)"
        if verb == "%":
            return bad + "%"
        if not self.good:
            return f"{bad}%!{verb}(BADINDEX)"
        if self.used >= len(self.values):
            return f"{bad}%!{verb}(MISSING)"
        value = self.values[self.used]
        self.used += 1
        # With %v a plus asks for the names of fields, and for no sign.
        return bad + _one(verb, flags.replace("+", "") if verb == "v" else flags, width, precision, value)

    def turn_to(self, index: str | None) -> None:
        """Take the value of an index, ``[2]``, next."""
        if index is None:
            return
        self.reordered = True
        inside = index[1:-1]
        if is_whole(inside) and 1 <= int(inside) <= len(self.values):
            self.used = int(inside) - 1
        else:
            self.good = False


def _one(verb: str, flags: str, width: int | None, precision: int | None, value: Value) -> str:
    """One value by one verb, padded."""
    if isinstance(value, Mapping) and verb != "T":
        pairs = ((_one(verb, flags, width, precision, part) for part in (key, value[key])) for key in sorted(value))
        return f"map[{' '.join(map(':'.join, pairs))}]"
    if isinstance(value, Named | Duration) and verb not in "vsxXqT":
        value = value.number if isinstance(value, Named) else value.ns
    elif isinstance(value, Named | Duration | Time) and verb != "T":
        value = format_value(value)
    text = _plain(verb, flags, precision, value)
    if text is None:
        inside = "<nil>" if value is None else f"{type_name(value)}={_one('v', flags, width, precision, value)}"
        return f"%!{verb}({inside})"
    number = isinstance(value, int | float) and not isinstance(value, bool) and verb not in "cqUT"
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
        return _float(verb, flags, precision, value)
    if isinstance(value, str):
        return _text(verb, flags, precision, value)
    if value is None:
        return "<nil>" if verb == "v" else None
    return format_value(value) if verb in "sv" else None


def _text(verb: str, flags: str, precision: int | None, value: str) -> str | None:
    cut = value if precision is None else value[:precision]
    if verb in "sv":
        return cut
    if verb == "q":
        return f"`{cut}`" if "#" in flags and "`" not in cut else quote(cut, ascii_only="+" in flags)
    if verb in "xX":
        pairs = [f"{byte:02{verb}}" for byte in value.encode()[:precision]]
        prefix = f"0{verb}" if "#" in flags else ""
        return prefix + (f" {prefix}".join(pairs) if " " in flags else "".join(pairs)) if pairs else ""
    return None


def _float(verb: str, flags: str, precision: int | None, value: float) -> str | None:
    if verb in "xX" and math.isfinite(value):
        return _hexadecimal(value, precision, upper=verb == "X")
    if verb == "b" and math.isfinite(value):
        mantissa, exponent = math.frexp(value)
        return f"{int(mantissa * 2**53)}p{exponent - 53:+d}"
    if verb == "v":
        verb = "g"
    if verb not in "eEfFgG":
        return None
    if "#" in flags and verb in "gG" and math.isfinite(value):
        return f"%#.{6 if precision is None else precision}{verb}" % value
    if precision is None and verb not in "gG":
        precision = 6
    text = format_float(value, verb, precision)
    return text.lstrip("+") if "+" in flags or " " in flags else text


def _hexadecimal(value: float, precision: int | None, *, upper: bool) -> str:
    head, _, power = value.hex().partition("p")
    if precision is not None:
        mantissa, exponent = math.frexp(abs(value))
        scaled = round(mantissa * 2 * 16**precision)  # between 1 and 2, in units of the last digit
        if scaled >= 2 * 16**precision:
            scaled, exponent = scaled // 2, exponent + 1
        digits = f"{scaled:x}".rjust(precision + 1, "0")
        sign = "-" if value < 0 else ""
        head = f"{sign}0x{digits[:1]}" + (f".{digits[1:]}" if precision else "")
        power = str(exponent - 1 if value else 0)
    elif "." in head:
        head = head.rstrip("0").rstrip(".")
    text = f"{head}p{int(power):+03d}"
    return text.upper() if upper else text


def _integer(verb: str, flags: str, precision: int | None, value: int) -> str | None:
    if verb in _BASES:
        prefix = "0o" if verb == "O" else _PREFIXES.get(verb, "") if "#" in flags else ""
        digits = prefix + f"{abs(value):{_BASES[verb]}}".rjust(precision or 0, "0")
        return f"-{digits}" if value < 0 else digits
    if verb in "cqU":
        if not 0 <= value < 0x110000:
            return None
        if verb == "U":
            return f"U+{value:04X}" + (f" '{chr(value)}'" if "#" in flags and chr(value).isprintable() else "")
        return chr(value) if verb == "c" else f"'{quote(chr(value))[1:-1]}'"
    return None
