"""``gpumon probe compare``: two results beside each other, from files, folders, or what a daemon keeps."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import click

from monitor.client.api import Client
from monitor.client.errors import ClientError, Refused
from monitor.client.probes import Probes
from monitor.commands.probe_run import Wrong, running, target
from monitor.probes.compare import compare
from monitor.probes.compare_text import as_json, markdown, text
from monitor.probes.conditions import violations
from monitor.probes.errors import ProbeError
from monitor.probes.results import METRICS_FILE, read
from monitor.probes.schema import Comparison


def run(
    daemon: str | None,
    before: str,
    after: str,
    conditions: Sequence[str],
    form: str,
    *,
    significant: bool,
    every: bool = False,
) -> int:
    """Print it; 0, 1 where a condition holds, 2 where it cannot be made."""
    try:
        here = [Path(name) if os.path.exists(name) else None for name in (before, after)]
        found = asyncio.run(_comparison(daemon, before, after, here))
        wrong = violations(found, conditions, significant=significant)
    except (Wrong, ClientError, ProbeError, OSError) as error:
        click.echo(f"gpumon probe compare: {error}", err=True)
        return 2
    match form:
        case "json":
            click.echo(as_json(found, wrong), nl=False)
        case "markdown":
            click.echo(markdown(found, every=every), nl=False)
        case _:
            click.echo(text(found, every=every), nl=False)
    for one in wrong:
        click.echo(f"--fail-if: {one}", err=True)
    return 1 if wrong else 0


async def _comparison(daemon: str | None, before: str, after: str, local: list[Path | None]) -> Comparison:
    """Both from here, or both from the daemon; of one of each, the daemon's is fetched."""
    if local[0] is not None and local[1] is not None:
        return compare(read(local[0]), read(local[1]))
    with ExitStack() as stack:
        async with Client(
            _target(daemon, [name for name, path in zip((before, after), local, strict=True) if not path])
        ) as client:
            probes = Probes(client)
            if local == [None, None]:
                return await probes.compare(before, after)
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            for number, name in enumerate((before, after)):
                if local[number] is None:
                    local[number] = await _fetch(probes, name, folder)
        assert local[0] is not None  # noqa: S101 # both are here now
        assert local[1] is not None  # noqa: S101
        return compare(read(local[0]), read(local[1]))


def _target(daemon: str | None, names: Sequence[str]) -> str:
    try:
        return target(daemon)
    except ClientError as error:
        raise ClientError(f"no such file or folder, and no daemon to ask: {error.what}", names[0], error.cure) from None


async def _fetch(probes: Probes, name: str, folder: Path) -> Path:
    row = await running(probes, name)
    path = folder / f"{row.id}.json"
    try:
        await probes.save(row.id, METRICS_FILE, path)
    except Refused as error:
        raise ClientError(f"it has no {METRICS_FILE}: {error.what}", row.id) from None
    return path
