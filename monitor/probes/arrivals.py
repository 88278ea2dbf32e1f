"""When requests arrive: drawn at a rate as ``vllm bench serve`` draws them, on a ramp, or replayed from a recording.

Times are in seconds from the beginning of a step and rise. Nothing here reads a clock; chance comes from the caller.
"""

from __future__ import annotations

import csv
import json
import math
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TypeAlias

from monitor.probes.errors import BadOptions

Strategy: TypeAlias = Literal["linear", "exponential"]
Unit: TypeAlias = Literal["s", "ms"]

MAX_BYTES = 64 << 20
MAX_ARRIVALS = 1_000_000
MAX_TOKENS = 10_000_000
"""Of one request: more is a wrong column."""


# -- drawn -----------------------------------------------------------------------------------------------------------


def spaced(count: int, rate: float, burstiness: float, rng: random.Random) -> list[float]:
    """``count`` arrivals at ``rate`` a second, as ``vllm bench serve --request-rate R --burstiness B`` makes them.

    Gaps are of a gamma distribution with the shape ``burstiness`` and the mean ``1/rate``: 1 is a Poisson process, less
    is more bursty, inf is even. They are rescaled so that the last arrival is at ``count / rate``. With the rate inf
    all arrive at 0."""
    _check_rate(rate)
    if math.isinf(rate):
        return [0.0] * count
    times = _cumulated([rate] * count, burstiness, rng)
    if times and times[-1] > 0:
        factor = count / rate / times[-1]
        times = [time * factor for time in times]
    return times


def ramped(
    count: int, begin: float, end: float, strategy: Strategy, burstiness: float, rng: random.Random
) -> list[float]:
    """``count`` arrivals whose rate goes from ``begin`` to ``end``, as ``vllm bench serve --ramp-up-strategy`` does it:
    the rate steps with each request, and nothing is rescaled."""
    _check_rate(begin)
    _check_rate(end)
    if math.isinf(begin) or math.isinf(end):
        raise BadOptions("a ramp needs two finite rates")
    return _cumulated(_ramp_rates(count, begin, end, strategy), burstiness, rng)


def ramp_count(seconds: float, begin: float, end: float, strategy: Strategy) -> int:
    """How many requests such a ramp takes to last about ``seconds``: one at least."""
    if begin == end:
        per_request = 1 / begin
    elif strategy == "linear":
        per_request = math.log(end / begin) / (end - begin)
    else:
        per_request = (1 / begin - 1 / end) / math.log(end / begin)
    return max(1, round(seconds / per_request))


def _check_rate(rate: float) -> None:
    if not rate > 0:
        raise BadOptions(f"a rate is more than 0 requests per second, not {rate:g}")


def _ramp_rates(count: int, begin: float, end: float, strategy: Strategy) -> list[float]:
    rates = []
    for index in range(count):
        progress = index / max(count - 1, 1)
        rates.append(begin + (end - begin) * progress if strategy == "linear" else begin * (end / begin) ** progress)
    return rates


def _cumulated(rates: Sequence[float], burstiness: float, rng: random.Random) -> list[float]:
    if not burstiness > 0:
        raise BadOptions(f"burstiness is more than 0, not {burstiness:g}: 1 is Poisson, less is more bursty")
    times, now = [], 0.0
    for rate in rates:
        now += 1 / rate if math.isinf(burstiness) else rng.gammavariate(burstiness, 1 / (rate * burstiness))
        times.append(now)
    return times


# -- recorded --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request of a recording."""

    time_s: float
    """From the first one."""
    input_len: int | None = None
    """Tokens; None where the recording does not say."""
    output_len: int | None = None


class BadFile(BadOptions):
    """A recording that cannot be read. The text begins with ``file:line:column``."""


TIME = ("time", "timestamp", "arrival", "arrival_time", "time_s", "time_ms")
INPUT = ("input_len", "input_length", "input_tokens", "prompt_tokens", "contexttokens")
OUTPUT = ("output_len", "output_length", "output_tokens", "completion_tokens", "generatedtokens")
"""Names that columns and keys may have, whatever their case: the first is ours, the others are of traces that are
passed around."""


def read(path: Path, *, unit: Unit = "s", limit: int = MAX_ARRIVALS) -> list[Arrival]:
    """The recording in a file. Raises ``BadOptions`` where it cannot be opened, ``BadFile`` where a line is wrong.

    What is wrong is told by its place, and never quoted: who asks for a replay may not be let to read the file."""
    try:
        if path.exists() and not path.is_file():
            raise BadOptions(f"{path}: not a file")  # a pipe would be waited for without end
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise BadOptions(f"{path}: {error.strerror or error}") from error
    if len(data) > MAX_BYTES:
        raise BadFile(f"{path}:1:1: larger than {MAX_BYTES >> 20} MiB: cut it first")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        line = before.count(b"\n") + 1
        column = error.start - (before.rfind(b"\n") + 1) + 1
        raise BadFile(f"{path}:{line}:{column}: not UTF-8") from error
    return parse(text, str(path), unit=unit, limit=limit)


def parse(text: str, name: str = "arrivals", *, unit: Unit = "s", limit: int = MAX_ARRIVALS) -> list[Arrival]:
    """The recording in a text: JSONL where its first line begins with ``{``, else CSV with a line of names. Needs
    ``time``; ``input_len`` and ``output_len`` may stand beside it, and whatever else stands there is passed over.

    A time is a number (in ``unit``, whatever it counts from; ``time_s`` and ``time_ms`` say their own) or a date, and
    the earliest becomes 0. Lines may be in any order. Raises ``BadFile``."""
    lines = text.split("\n")
    first = next((line for line in lines if line.strip()), "")
    reader = _jsonl if first.lstrip().startswith("{") else _csv
    found: list[Arrival] = []
    for number, arrival in reader(lines, name, unit):
        if len(found) == limit:
            raise BadFile(f"{name}:{number}:1: more than {limit} arrivals: cut it first")
        found.append(arrival)
    if not found:
        raise BadFile(f"{name}:1:1: no arrival in it")
    found.sort(key=lambda arrival: arrival.time_s)
    begin = found[0].time_s
    return [Arrival(arrival.time_s - begin, arrival.input_len, arrival.output_len) for arrival in found]


def _csv(lines: Sequence[str], name: str, unit: Unit) -> Iterator[tuple[int, Arrival]]:
    header: list[str] | None = None
    wanted: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        cells = _cells(line.rstrip("\r"), f"{name}:{number}")
        if header is None:
            header = [value.strip() for _, value in cells]
            wanted = _columns(header, f"{name}:{number}")
            continue
        if len(cells) != len(header):
            column = cells[min(len(cells), len(header) + 1) - 1][0]
            raise BadFile(f"{name}:{number}:{column}: {len(cells)} fields, where the first line names {len(header)}")
        yield number, _arrival(
            {key: (cells[index][1].strip(), cells[index][0]) for key, index in wanted.items()},
            header[wanted["time"]], f"{name}:{number}", unit,
        )  # fmt: skip


def _cells(line: str, where: str) -> list[tuple[int, str]]:
    """The fields of one line of CSV with the columns at which they begin, from 1."""
    cells: list[tuple[int, str]] = []
    try:
        values = next(csv.reader([line], strict=True))
    except csv.Error as error:
        raise BadFile(f"{where}:{len(line)}: {error}") from error
    # csv does not say where a field begins: a comma outside of quotes begins the next one.
    begins, quoted = [1], False
    for column, letter in enumerate(line, 1):
        if letter == '"' and line[begins[-1] - 1] == '"':  # in a field that begins otherwise it is a letter like others
            quoted = not quoted
        elif letter == "," and not quoted:
            begins.append(column + 1)
    cells.extend(zip(begins, values, strict=True))
    return cells


def _columns(header: Sequence[str], where: str) -> dict[str, int]:
    found: dict[str, int] = {}
    lower = [title.lower() for title in header]
    for key, names in (("time", TIME), ("input", INPUT), ("output", OUTPUT)):
        places = [index for index, title in enumerate(lower) if title in names]
        if len(places) > 1:
            raise BadFile(f"{where}:1: {lower[places[0]]} and {lower[places[1]]} are the same: leave one")
        if places:
            found[key] = places[0]
    if "time" not in found:
        raise BadFile(f"{where}:1: no column or key is named {TIME[0]} (or {', '.join(TIME[1:])})")
    return found


def _jsonl(lines: Sequence[str], name: str, unit: Unit) -> Iterator[tuple[int, Arrival]]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{name}:{number}"
        try:
            value = json.loads(line)
        except json.JSONDecodeError as error:
            raise BadFile(f"{where}:{error.colno}: no JSON: {error.msg}") from error
        except (RecursionError, ValueError) as error:
            raise BadFile(f"{where}:1: no JSON that can be read") from error
        if not isinstance(value, dict):
            raise BadFile(f"{where}:1: not an object")
        keys = list(value)
        wanted = _columns(keys, where)
        yield number, _arrival(
            {key: (value[keys[index]], _place(line, keys[index])) for key, index in wanted.items()},
            keys[wanted["time"]], where, unit,
        )  # fmt: skip


def _place(line: str, key: str) -> int:
    """The column at which the value of ``key`` begins, from 1."""
    found = re.search(re.escape(json.dumps(key)) + r"\s*:\s*", line)
    return found.end() + 1 if found else 1


def _arrival(values: dict[str, tuple[Any, int]], title: str, where: str, unit: Unit) -> Arrival:
    """``values``: what stands there and its column, by ``time``, ``input``, ``output``."""
    unit = {"time_s": "s", "time_ms": "ms"}.get(title.lower(), unit)  # type: ignore[assignment]
    value, column = values["time"]
    lengths: dict[str, int | None] = {"input": None, "output": None}
    for key in lengths:
        if key in values:
            lengths[key] = _length(*values[key], where)
    return Arrival(_time(value, f"{where}:{column}", unit), lengths["input"], lengths["output"])


def _time(value: Any, where: str, unit: Unit) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise BadFile(f"{where}: a time is a number or a date")
    try:
        time = float(value) / (1000 if unit == "ms" else 1)
    except (ValueError, OverflowError):
        return _date(str(value), where)
    if not math.isfinite(time):
        raise BadFile(f"{where}: a time is finite")
    return time


def _date(text: str, where: str) -> float:
    try:
        # Seven digits of a second stand in traces, and Python 3.11 takes them, cut to six.
        date = datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise BadFile(f"{where}: a time is a number or a date") from error
    return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()


def _length(value: Any, column: int, where: str) -> int | None:
    if value is None or value == "":
        return None
    number: float
    try:
        number = float(value) if not isinstance(value, bool) else math.nan
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not (number.is_integer() and 1 <= number <= MAX_TOKENS):
        raise BadFile(f"{where}:{column}: a length is a whole number of tokens from 1")
    return int(number)
