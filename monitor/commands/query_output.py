"""A query's answer as a table, as JSON and as CSV. Numbers stay as the server wrote them: NaN, +Inf and all digits."""

from __future__ import annotations

import csv
import io
import time

from monitor.client.format import cells, clean
from monitor.client.graph import series_name
from monitor.client.prometheus import Evaluated
from monitor.client.sample_formats import rfc3339
from monitor.commands.for_programs import json_text


def as_table(answer: Evaluated) -> str:
    """A series a line; where series have many points, the points below each, in the reader's time."""
    if answer.kind == "matrix":
        blocks = []
        for one in answer.series:
            lines = [f"  {stamp(at)}  {clean(text)}" for at, text in one.values]
            blocks.append("\n".join([series_name(one.metric) or "{}", *lines]) + "\n")
        return "\n".join(blocks)
    rows = [(series_name(one.metric), clean(one.value[1], 10_000) if one.value else "") for one in answer.series]
    width = max((cells(name) for name, _ in rows), default=0)
    return "".join(f"{name}{' ' * (width - cells(name))}  {text}\n" if name else f"{text}\n" for name, text in rows)


def as_json(answer: Evaluated) -> str:
    """What the server gives under ``data``, indented."""
    return json_text(answer.data, indent=2) + "\n"


def as_csv(answer: Evaluated) -> str:
    """A sample a line: time in RFC 3339, value, then a column for each label, ``__name__`` first. An absent label is
    empty."""
    names = sorted({key for one in answer.series for key in one.metric} - {"__name__"})
    if any("__name__" in one.metric for one in answer.series):
        names.insert(0, "__name__")
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    table.writerow(["time", "value", *names])
    for one in answer.series:
        labels = [one.metric.get(name, "") for name in names]
        for at, text in one.values or ((one.value,) if one.value is not None else ()):
            table.writerow([rfc3339(round(at * 1000)), text, *labels])
    return out.getvalue()


def stamp(at: float) -> str:
    """A time where the reader is, with milliseconds where there are any."""
    at_ms = round(at * 1000)
    try:
        text = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at_ms // 1000))
    except (ValueError, OverflowError, OSError):
        return f"{at:.3f}"
    return f"{text}.{at_ms % 1000:03d}" if at_ms % 1000 else text
