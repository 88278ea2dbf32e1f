"""``gpumon probe report RUN --png DIR``: the plots of a run as PNG, by the extra ``report``."""

from __future__ import annotations

import asyncio
import os
import tempfile
from pathlib import Path

import click

from monitor.client.api import Client
from monitor.client.errors import ClientError
from monitor.client.probes import Probes
from monitor.commands.probe_run import Wrong, running, target
from monitor.probes import report_png
from monitor.probes.errors import ProbeError
from monitor.probes.results import METRICS_FILE, read
from monitor.probes.schema import Result


def run(daemon: str | None, name: str, folder: Path) -> int:
    """Draw them; 0, or 1 where they cannot be. ``name``: a folder or file of results, or what the daemon keeps."""
    words = report_png.missing()
    if words:
        click.echo(f"gpumon probe report: {words}", err=True)
        return 1
    try:
        path = Path(name)
        result = read(path) if os.path.exists(name) else asyncio.run(_fetched(daemon, name))
        drawn = report_png.draw(result, folder)
    except (Wrong, ClientError, ProbeError, OSError) as error:
        click.echo(f"gpumon probe report: {error}", err=True)
        return 1
    click.echo(f"{len(drawn)} plots: {folder}" if drawn else "there is nothing in it to draw")
    return 0


async def _fetched(daemon: str | None, name: str) -> Result:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / METRICS_FILE
        async with Client(target(daemon)) as client:
            probes = Probes(client)
            await probes.save((await running(probes, name)).id, METRICS_FILE, path)
        return await asyncio.to_thread(read, path)
