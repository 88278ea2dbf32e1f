"""``gpumon notify test``: let the daemon send a test to its receivers, and say what came back."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence

import click

from monitor.client import format as words
from monitor.client.alertmanager import AlertClient, TestResult
from monitor.client.discover import find
from monitor.client.errors import ClientError, Refused
from monitor.commands.for_programs import json_text


def test(url: str | None, receiver: str | None, *, as_json: bool) -> int:
    """Send to ``receiver``, or to each; 0, or 1 where one target did not take it or none could be tried."""
    try:
        results = asyncio.run(_ask(url, receiver))
    except ClientError as error:
        click.echo(f"gpumon notify test: {error}", err=True)
        return 1
    if as_json:
        click.echo(json_text(results, indent=2))
    else:
        for line in _lines(results):
            click.echo(line, color=words.wants_color())
    return 0 if results and all(one.ok for one in results) else 1


async def _ask(url: str | None, receiver: str | None) -> tuple[TestResult, ...]:
    found = find(url)
    if found is None:
        raise ClientError("no daemon runs here", "this node", "Start one with `gpumon daemon`, or name one with --url")
    if sys.stderr.isatty():
        click.echo(f"sending to {receiver or 'every receiver'} …", err=True)
    async with AlertClient(found.target) as client:
        try:
            return await client.test_receivers(receiver)
        except Refused as error:
            if error.status in (404, 405) and error.cure:
                raise Refused(
                    "this server sends no tests", found.target, "It is no gpumon daemon, or an older one", error.status
                ) from None
            raise


def _lines(results: Sequence[TestResult]) -> list[str]:
    if not results:
        return ["nothing was sent: the receiver has no target"]
    rows = [[words.clean(one.receiver), words.clean(one.target)] for one in results]
    widths = [max(words.cells(row[column]) for row in rows) for column in range(2)]
    lines = []
    for row, one in zip(rows, results, strict=True):
        state = click.style("ok    ", fg="green") if one.ok else click.style("FAILED", fg="red")
        begin = "  ".join(words.fit(cell, size) for cell, size in zip(row, widths, strict=True))
        wait = f" (it asks to wait {words.duration(one.retry_after)})" if one.retry_after else ""
        said = f"  {words.clean(one.reason)}{wait}" if not one.ok else ""
        lines.append(f"{begin}  {state}  {words.seconds(one.seconds)}{said}")
    failed = sum(not one.ok for one in results)
    done = f"{len(results) - failed} of {words.count(len(results), 'target')} took it"
    return [*lines, done + ("" if failed else ": look whether it arrived")]
