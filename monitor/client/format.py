"""Numbers and words for people: always a unit, ``–`` for what is absent, nothing that a terminal would obey."""

from __future__ import annotations

import functools
import os
import time
import unicodedata

from monitor.digits import is_whole

ABSENT = "–"


def clean(text: str, limit: int = 400) -> str:
    """Text from elsewhere (a label, a process's name) made harmless: control characters, escape codes, line breaks and
    marks that turn the direction of writing or have no width each become ``·``; cut at ``limit``."""
    text = text[:limit]
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if _harmless(c) else "·" for c in text)


def _harmless(character: str) -> bool:
    # Cc control, Cf format (direction, zero width), Cs surrogate, Co private, Cn unassigned, Zl/Zp separators, M marks.
    category = unicodedata.category(character)
    return category[0] not in "CM" and category not in ("Zl", "Zp")


def cells(text: str) -> int:
    """How many cells of a terminal cleaned text takes."""
    return len(text) if text.isascii() else _cells(text)


# A live screen measures the same graphs and the same "°C" over and over.
@functools.lru_cache(4096)
def _cells(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def fit(text: str, width: int, *, right: bool = False) -> str:
    """Text in exactly ``width`` cells: padded, or cut with ``…``. ``right`` puts it to the right."""
    length = cells(text)
    if length > width:
        return cut(text, width)
    pad = " " * (width - length)
    return pad + text if right else text + pad


def cut(text: str, width: int) -> str:
    """Text in ``width`` cells at most, cut with ``…``; what is cut is padded to the full width."""
    if cells(text) <= width:
        return text
    if width <= 0:
        return ""
    out, used = [], 0
    for character in text:
        size = cells(character)
        if used + size > width - 1:
            break
        out.append(character)
        used += size
    return "".join(out) + "…" + " " * (width - used - 1)


def percent(ratio: float | None) -> str:
    """A ratio of 0 to 1 as ``42 %``; below ten with a decimal where it says something."""
    if ratio is None:
        return ABSENT
    value = ratio * 100
    if 0 < value < 0.95:
        return f"{value:.1f} %"
    return f"{value:.0f} %"


def number(value: float | None) -> str:
    """A count or a rate in at most five characters: ``0``, ``3.4``, ``48``, ``912``, ``1.2k``, ``34k``, ``5.6M``."""
    if value is None:
        return ABSENT
    sign, value = ("-", -value) if value < 0 else ("", value)
    if value < 9.95:
        return sign + f"{value:.1f}".removesuffix(".0")
    for suffix in ("", "k", "M", "G", "T"):
        if value < 999.5:
            return f"{sign}{value:.0f}{suffix}"
        value /= 1000
        if value < 9.95:
            following = {"": "k", "k": "M", "M": "G", "G": "T", "T": "P"}[suffix]
            return sign + f"{value:.1f}".removesuffix(".0") + following
    return f"{sign}{value:.0f}P"


def figure(value: float | None) -> str:
    """A value whose unit and size nobody knows, in at most four digits: ``0.05``, ``91``, ``12k``, ``200G``."""
    if value is None:
        return ABSENT
    size = abs(value)
    if value != value or value == 0 or size == float("inf"):
        return "NaN" if value != value else f"{value:+g}" if value else "0"
    if size < 1e-4:
        return f"{value:.1e}"
    return f"{value:.4g}" if size < 9999.5 else number(value)


def rate(value: float | None, unit: str) -> str:
    """A rate with its unit: ``1.2k tok/s``. One that is small is not 0: ``0.03 /s``, ``<0.01 /s``."""
    if value is not None and 0 < value < 0.05:
        return f"{value:.2f} {unit}" if value >= 0.01 else f"<0.01 {unit}"
    return ABSENT if value is None else f"{number(value)} {unit}"


def seconds(value: float | None) -> str:
    """A latency: ``8.4 ms``, ``210 ms``, ``1.24 s``, ``38 s``, ``4 min``."""
    if value is None:
        return ABSENT
    milliseconds = value * 1000
    if milliseconds < 9.95:
        return f"{milliseconds:.1f} ms"
    if milliseconds < 999.5:
        return f"{milliseconds:.0f} ms"
    if value < 9.995:
        return f"{value:.2f} s"
    if value < 119.5:
        return f"{value:.0f} s"
    return duration(value)


def duration(value: float | None) -> str:
    """A length of time in its one or two greatest units: ``12 s``, ``4 min``, ``2 h 10 min``, ``12 d``."""
    if value is None:
        return ABSENT
    whole = max(0, int(value))
    if whole < 120:
        return f"{whole} s"
    minutes = whole // 60
    if minutes < 120:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes and hours < 10 else f"{hours} h"
    return f"{hours // 24} d"


_BINARY = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def size(value: float | None) -> str:
    """Bytes: ``512 MiB``, ``1.8 TiB``."""
    if value is None:
        return ABSENT
    step = 0
    while value >= 999.5 and step < len(_BINARY) - 1:
        value /= 1024
        step += 1
    return f"{value:.1f} {_BINARY[step]}" if value < 9.95 and step else f"{value:.0f} {_BINARY[step]}"


def throughput(value: float | None) -> str:
    """Bytes a second, decimal as networks and disks count: ``12 MB/s``, ``1.2 GB/s``."""
    if value is None:
        return ABSENT
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 999.5 or unit == "TB":
            break
        value /= 1000
    return f"{value:.1f} {unit}/s" if 0 < value < 9.95 and unit != "B" else f"{value:.0f} {unit}/s"


def used_of(used: float | None, total: float | None, unit: str, decimals: int = 0) -> str:
    """Two numbers of one unit: ``412/700 W``; a half that is absent is ``–``."""
    if used is None and total is None:
        return ABSENT
    left = ABSENT if used is None else f"{used:.{decimals}f}"
    return f"{left} {unit}" if total is None else f"{left}/{total:.{decimals}f} {unit}"


def celsius(value: float | None) -> str:
    """``87 °C``."""
    return ABSENT if value is None else f"{value:.0f} °C"


def megahertz(value: float | None) -> str:
    """``1980 MHz``."""
    return ABSENT if value is None else f"{value:.0f} MHz"


def clock(at_ms: int, *, date: bool = False, utc: bool = False) -> str:
    """Time of day where the reader is, or UTC; ``?`` for what no calendar has."""
    try:
        moment = time.gmtime(at_ms / 1000) if utc else time.localtime(at_ms / 1000)
    except (OverflowError, ValueError, OSError):  # no time: somebody else's clock, or somebody else's joke
        return "?"
    return time.strftime("%Y-%m-%d %H:%M:%S" if date else "%H:%M:%S", moment)


def wants_color() -> bool | None:
    """For ``click.echo``: no colours where ``$NO_COLOR`` is set; else None, and the terminal decides."""
    return False if os.environ.get("NO_COLOR") else None


def count(quantity: int, noun: str) -> str:
    """``1 GPU``, ``8 GPUs``."""
    return f"{quantity} {noun}" if quantity == 1 else f"{quantity} {noun}s"


def short_range(names: list[str]) -> str:
    """Indices in few characters: ``0-3,6``; names that are no numbers as they are."""
    if not all(is_whole(name) for name in names):
        return ",".join(names)
    numbers = sorted({int(name) for name in names})
    parts: list[str] = []
    start = previous = None
    for value in [*numbers, None]:
        if start is None:
            start = previous = value
        elif previous is not None and value == previous + 1:
            previous = value
        else:
            parts.append(f"{start}" if start == previous else f"{start}-{previous}")
            start = previous = value
    return ",".join(parts)
