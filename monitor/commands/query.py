"""``gpumon query``: an instant or a range query against a daemon or a Prometheus, as a table, JSON, CSV or a graph.

Exit codes: 0 also where nothing matches; 1 where the query is refused or nobody answers in time; 2 where the command
line cannot be meant.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import time
from dataclasses import dataclass

import click

from monitor.client.discover import find
from monitor.client.errors import ClientError, Refused
from monitor.client.format import cells, clean, wants_color
from monitor.client.graph import draw
from monitor.client.prometheus import QUERY_SECONDS, Evaluated, QueryClient
from monitor.commands.for_programs import shown
from monitor.commands.query_output import as_csv, as_json, as_table
from monitor.commands.times import BadTime, moment, span, step_for

MAX_POINTS = 11_000
"""Steps of a range query that Prometheus, and a daemon, give."""
_TABLE_POINTS = 60
_DEFAULT_POINTS = 250
_GRAPH_MS = 3_600_000
_COLOURS = (74, 179, 140, 72, 175, 203, 67, 214)
_POSITION = re.compile(r"\b(\d+):(\d+): parse error")


@dataclass(frozen=True, slots=True)
class Asked:
    """When to evaluate, as the person says it."""

    at: str | None = None
    since: str | None = None
    start: str | None = None
    end: str | None = None
    step: str | None = None

    @property
    def is_range(self) -> bool:
        """Whether it is a range query."""
        return any(part is not None for part in (self.since, self.start, self.end, self.step))

    @property
    def needs_clock(self) -> bool:
        """Whether the server's time has to be known."""
        return self.is_range or self.at is not None

    def moment(self, now_ms: int) -> int | None:
        """Of an instant query; None for the server's now. Raises ``BadTime``."""
        return None if self.at is None else moment(self.at, now_ms, "--at")

    def range(self, now_ms: int, points: int) -> tuple[int, int, int, str]:
        """Start, end and step in milliseconds, and a remark or "". Without a step, one is chosen that gives at most
        ``points`` steps, and start and end are put on whole steps. Raises ``BadTime``."""
        end_ms = now_ms if self.end is None else moment(self.end, now_ms, "--end")
        if self.start is not None:
            start_ms = moment(self.start, now_ms, "--start", end_ms)
        else:
            start_ms = end_ms - (_GRAPH_MS if self.since is None else span(self.since, "--since"))
        if start_ms > end_ms:
            raise BadTime("the start is after the end")
        if self.step is None:
            step_ms = step_for(end_ms - start_ms, points)
            return start_ms // step_ms * step_ms, end_ms // step_ms * step_ms, step_ms, ""
        step_ms = span(self.step, "--step")
        if (end_ms - start_ms) // step_ms < MAX_POINTS:
            return start_ms, end_ms, step_ms, ""
        wider = step_for(end_ms - start_ms, MAX_POINTS - 1)
        words = (
            f"{(end_ms - start_ms) // step_ms + 1} points a series are too many: a step of {wider // 1000}s is taken"
        )
        return start_ms, end_ms, wider, words


def run(expr: str, url: str | None, asked: Asked, output: str = "table", timeout: float = QUERY_SECONDS) -> int:
    """Evaluate ``expr`` and print what it gives, as ``output`` says: ``table``, ``json``, ``csv`` or ``graph``."""
    try:
        if asked.at is not None and asked.is_range:
            raise BadTime("--at is for one moment; --since, --start, --end and --step are for a range: give either")
        if asked.since is not None and asked.start is not None:
            raise BadTime("give --since or --start, not both")
        return asyncio.run(_run(expr, url, asked, output, timeout))
    except BadTime as error:
        click.echo(f"gpumon query: {error}", err=True)
        return 2
    except ClientError as error:
        click.echo(f"gpumon query: {error}", err=True)
        if isinstance(error, Refused):
            click.echo(_pointed(expr, error.what), err=True, nl=False)
        return 1


async def _run(expr: str, url: str | None, asked: Asked, output: str, timeout: float) -> int:
    found = find(url)
    if found is None:
        raise ClientError("no daemon runs here", "this node", "Start one with `gpumon daemon`, or name one with --url")
    width, height = shutil.get_terminal_size((80, 24))
    async with QueryClient(found.target, timeout=timeout) as client:
        now_ms = time.time_ns() // 1_000_000
        if asked.needs_clock or output == "graph":
            now_ms = await client.now_ms(now_ms)
        if not asked.is_range and output != "graph":
            answer = await client.evaluate(expr, asked.moment(now_ms), timeout=f"{timeout:g}s")
            _print(answer, output)
            return 0
        if asked.at is not None:
            raise BadTime("a graph is of a range: give --since, or --start and --end")
        points = {"graph": 2 * width, "table": _TABLE_POINTS}.get(output, _DEFAULT_POINTS)
        start_ms, end_ms, step_ms, remark = asked.range(now_ms, points)
        if remark:
            click.echo(remark, err=True)
        answer = await client.evaluate_range(expr, start_ms, end_ms, step_ms, timeout=f"{timeout:g}s")
        if output != "graph":
            _print(answer, output)
            return 0
    _remark(answer)
    if not answer.series:
        return 0
    for row in draw(expr, answer.series, start_ms, end_ms, step_ms, width, height - 1):
        line = "".join(text if owner is None else _coloured(text, owner) for text, owner in row)
        click.echo(line.rstrip(), color=wants_color())
    return 0


def _coloured(text: str, owner: int) -> str:
    return click.style(text, fg=_COLOURS[owner % len(_COLOURS)])


def _print(answer: Evaluated, output: str) -> None:
    _remark(answer)
    text = {"json": as_json, "csv": as_csv}.get(output, as_table)(answer)
    click.echo(shown(text), nl=False)


def _remark(answer: Evaluated) -> None:
    for remark in answer.remarks:
        click.echo(f"warning: {clean(remark)}", err=True)
    if not answer.series:
        click.echo("no series", err=True)


def _pointed(expr: str, message: str) -> str:
    """The line of the query that an error names, with a mark below the place; "" where it names none."""
    found = _POSITION.search(message)
    lines = expr.split("\n")
    if found is None or not 1 <= int(found[1]) <= len(lines):
        return ""
    line = lines[int(found[1]) - 1]
    before = clean(line[: max(0, int(found[2]) - 1)], len(line))
    return f"  {clean(line, len(line))}\n  {' ' * cells(before)}^\n"
