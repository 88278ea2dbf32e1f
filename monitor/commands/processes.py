"""``gpumon processes``: what runs on the GPUs, for whom. They are never series: a daemon lists them, as they are now.

The JSON is what the API has, times in epoch milliseconds, an absent value null:

    {"at_ms": …, "processes": [{"gpu", "uuid", "pid", "memory_bytes", "kind", "name", "user", "command", "sm_ratio",
     "cpu_ratio", "rss_bytes", "started_ms", "container", "server", "engine", "rank", …}…]}
"""

from __future__ import annotations

import asyncio
import shutil
import sys

import click

from monitor.client import format as words
from monitor.client.api import Client
from monitor.client.discover import find
from monitor.client.errors import ClientError, Refused
from monitor.client.wire import Processes, ProcessRow
from monitor.commands.for_programs import json_text
from monitor.digits import is_whole

_HEAD = ("GPU", "PID", "user", "memory MiB", "SM", "CPU", "for", "command")
_RIGHT = {"GPU", "PID", "memory MiB", "SM", "CPU"}


def run(target: str | None, *, as_json: bool) -> int:
    """Print them. Returns the exit code."""
    try:
        found = find(target)
        if found is None:
            cure = "Start one with `gpumon daemon`, or name one with --url"
            raise ClientError("no daemon runs here", "this node", cure)
        answer = asyncio.run(_ask(found.target))
    except ClientError as error:
        click.echo(f"gpumon processes: {error}", err=True)
        return 1
    if as_json:
        click.echo(json_text(answer))
        return 0
    if not answer.processes:
        click.echo("nothing runs on the GPUs")
        return 0
    for line in table(sorted(answer.processes, key=_order), terminal=sys.stdout.isatty()):
        click.echo(line)
    return 0


async def _ask(target: str) -> Processes:
    async with Client(target) as client:
        try:
            return await client.processes()
        except Refused as error:
            if error.status != 404:
                raise
            cure = "A gpumon daemon does: name that of a node with --url"
            raise ClientError("this server knows no processes", client.target, cure) from None


def _order(one: ProcessRow) -> tuple[bool, int, int]:
    """By GPU; those on none are last."""
    return (not one.gpu, int(one.gpu) if is_whole(one.gpu) else 0, one.pid)


def table(rows: list[ProcessRow], *, terminal: bool) -> list[str]:
    """A line for each, below a heading; as wide as it is, and not wider than a terminal."""
    cells = [list(_HEAD), *([words.clean(cell) for cell in _cells(one)] for one in rows)]
    widths = [max(words.cells(line[at]) for line in cells) for at in range(len(_HEAD) - 1)]
    lines = [
        "  ".join(
            [
                words.fit(cell, width, right=name in _RIGHT)
                for name, cell, width in zip(_HEAD, line, widths, strict=False)
            ]
            + [line[-1]]
        ).rstrip()
        for line in cells
    ]
    if not terminal:
        return lines
    columns = shutil.get_terminal_size().columns
    return [words.cut(line, columns).rstrip() for line in lines]


def _cells(one: ProcessRow) -> list[str]:
    role = one.server and f"{one.server}{f' rank {one.rank}' if one.rank else ''}"
    return [
        one.gpu or "–",
        str(one.pid),
        one.user or "–",
        "–" if one.memory_bytes is None else str(round(one.memory_bytes / (1 << 20))),
        words.percent(one.sm_ratio),
        words.percent(one.cpu_ratio),
        role or one.container or "–",
        one.command or one.name or "–",
    ]
