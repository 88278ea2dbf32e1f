"""``gpumon query``: one instant query against a daemon or a Prometheus, as a table or as JSON."""

from __future__ import annotations

import asyncio

import click
import msgspec

from monitor.client.api import Client
from monitor.client.discover import find
from monitor.client.errors import ClientError
from monitor.client.format import clean
from monitor.client.wire import Series, parse_time


def run(expr: str, url: str | None, *, at: str | None, as_json: bool) -> int:
    """Evaluate ``expr`` and print what it gives, a series a line; 0, or 1 where it could not be evaluated."""
    try:
        at_ms = _moment(at)
        rows = asyncio.run(_ask(expr, url, at_ms))
    except (ClientError, ValueError) as error:
        click.echo(f"gpumon query: {error}", err=True)
        return 1
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(rows)).decode())
        return 0
    if not rows:
        click.echo("no series", err=True)
    lines = [(_name(row.metric), row.value[1] if row.value else "") for row in rows]
    width = max((len(name) for name, _ in lines), default=0)
    for name, value in lines:
        click.echo(f"{name:{width}}  {value}" if name else value)
    return 0


async def _ask(expr: str, url: str | None, at_ms: int | None) -> tuple[Series, ...]:
    found = find(url)
    if found is None:
        raise ClientError("no daemon runs here", "this node", "Start one with `gpumon daemon`, or name one with --url")
    async with Client(found.target) as client:
        return await client.query(expr, at_ms)


def _moment(text: str | None) -> int | None:
    if text is None:
        return None
    try:
        return round(float(text) * 1000)
    except (ValueError, OverflowError):
        moment = parse_time(text)
    if moment is None:
        raise ValueError(f'"{text}" is no time: give seconds since the epoch or RFC 3339, 2026-01-31T12:00:00Z')
    return moment


def _name(metric: dict[str, str]) -> str:
    name = metric.get("__name__", "")
    pairs = ", ".join(f'{key}="{clean(value)}"' for key, value in sorted(metric.items()) if key != "__name__")
    return f"{name}{{{pairs}}}" if pairs else name
