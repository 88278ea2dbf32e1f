"""``gpumon probe list``, ``show``, ``cancel``, ``baseline``, ``report``, ``delete``: runs that a daemon keeps."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import click

from monitor.client import format as words
from monitor.client.api import Client
from monitor.client.errors import ClientError
from monitor.client.format import ABSENT, clean, clock, fit
from monitor.client.probes import Probes
from monitor.commands.for_programs import json_text
from monitor.commands.probe_following import free_folder, save_files
from monitor.commands.probe_run import Wrong, running, target
from monitor.commands.probe_view import headline
from monitor.probes.schema import ENDED, RunDetail, RunRow

_SUMMARY, _HTML = "summary.md", "report.html"


def _asking(what: str, daemon: str | None, work: Callable[[Probes], Awaitable[int]]) -> int:
    """Ask a daemon; the exit code, 1 with a sentence where that goes wrong."""

    async def ask() -> int:
        async with Client(target(daemon), timeout=20) as client:
            return await work(Probes(client))

    try:
        return asyncio.run(ask())
    except Wrong as error:
        click.echo(f"gpumon probe {what}: {error}", err=True)
        return 2
    except (ClientError, OSError) as error:
        click.echo(f"gpumon probe {what}: {error}", err=True)
        return 1


def show_list(daemon: str | None, last: int, *, as_json: bool) -> int:
    """The newest ``last`` runs; 0, or 1 where they cannot be had."""

    async def work(probes: Probes) -> int:
        listing = await probes.listing()
        rows = listing.runs[:last]
        if as_json:
            click.echo(json_text(rows))
            return 0
        if not rows:
            click.echo("no run is kept here: `gpumon probe suite --quick` makes one")
            return 0
        width = max(len(row.id) for row in rows)
        servers = max(6, min(30, max(len(clean(row.server)) for row in rows)))
        click.echo(f"{fit('run', width)}  {fit('server', servers)}  {fit('state', 10)}  {fit('baseline', 10)}  figures")
        for row in rows:
            cells = (fit(row.id, width), fit(clean(row.server), servers), fit(row.state, 10), fit(row.baseline, 10))
            click.echo("  ".join((*cells, _figures(row))).rstrip())
        if len(listing.runs) > last:
            click.echo(f"and {len(listing.runs) - last} older: --last")
        return 0

    return _asking("list", daemon, work)


def _figures(row: RunRow) -> str:
    if row.state not in ENDED and row.progress is not None:
        part = "" if row.progress.fraction is None else f" {words.percent(row.progress.fraction)}"
        return f"{row.progress.phase}{part}"
    said = "" if row.valid else "DOES NOT COUNT  "
    figures = headline(dict(list(row.headline.items())[:4]))
    return said + (figures or clean(row.error, 80) or ABSENT)


def show(daemon: str | None, name: str, *, as_json: bool) -> int:
    """One run; 0, or 1 where it cannot be had."""

    async def work(probes: Probes) -> int:
        detail = await probes.detail((await running(probes, name)).id)
        if as_json:
            click.echo(json_text(detail))
            return 0
        _print(detail)
        return 0

    return _asking("show", daemon, work)


def _print(detail: RunDetail) -> None:
    from monitor.commands import probe_view

    row, spec = detail.row, detail.spec
    click.echo(f"{row.id}  {clock(row.began_ms, date=True)}{f'  by {clean(row.by)}' if row.by else ''}")
    if row.baseline:
        click.echo(f"baseline {row.baseline}")
    said = [f"{name}={_value(value)}" for name, value in spec.options.items()]
    said += [f"{key}={clean(value)}" for key, value in spec.labels.items()]
    if said:
        click.echo("  ".join(said))
    probe_view.summary(detail)
    for note in detail.notes:
        click.echo(f"{clock(note.at_ms)} {clean(note.text)}")
    if detail.files:
        click.echo(f"files: {', '.join(detail.files)}")


def _value(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def cancel(daemon: str | None, name: str | None) -> int:
    """End a run, without a name the only one; 0, or 1 where that cannot be."""

    async def work(probes: Probes) -> int:
        row = await running(probes, name)
        await probes.cancel(row.id)
        click.echo(f"{row.id} was told to end; it keeps what it has")
        return 0

    return _asking("cancel", daemon, work)


def baseline(daemon: str | None, run: str, name: str) -> int:
    """Name a result; 0, or 1 where that cannot be."""

    async def work(probes: Probes) -> int:
        row = await probes.baseline((await running(probes, run)).id, name)
        if row.baseline:
            click.echo(f"{row.id} is the baseline {row.baseline}: later runs that ask the same are held against it")
        else:
            click.echo(f"{row.id} is no baseline")
        return 0

    return _asking("baseline", daemon, work)


def delete(daemon: str | None, names: Sequence[str]) -> int:
    """Delete results; 0, or 1 where one cannot be."""

    async def work(probes: Probes) -> int:
        for name in names:
            row = await running(probes, name)
            if name not in (row.id, row.baseline) and not row.id.startswith(name):
                raise Wrong(f"{name!r} is the name of several runs, one day: delete {row.id} by its id")
            await probes.delete(row.id)
            click.echo(f"{row.id} is deleted")
        return 0

    return _asking("delete", daemon, work)


def report(daemon: str | None, run: str, output: Path | None, *, html: bool) -> int:
    """Print a report, or copy a run's files; 0, or 1 where it cannot be had."""
    name = _HTML if html else _SUMMARY
    if Path(run).is_dir():
        try:
            click.echo((Path(run) / name).read_bytes(), nl=False)
        except OSError as error:
            click.echo(f"gpumon probe report: {Path(run) / name}: {error.strerror}", err=True)
            return 1
        return 0

    async def work(probes: Probes) -> int:
        detail = await probes.detail((await running(probes, run)).id)
        if not detail.files:
            raise ClientError(f"it left no files: it is {detail.row.state}", detail.row.id)
        if output is not None:
            folder = await save_files(probes, detail, free_folder(output, detail.row.id))
            click.echo(f"files: {folder}")
            return 0
        if name not in detail.files:
            raise ClientError(f"it has no {name}", detail.row.id)
        with tempfile.TemporaryDirectory() as folder_name:
            path = Path(folder_name) / name
            await probes.save(detail.row.id, name, path)
            click.echo(await asyncio.to_thread(path.read_bytes), nl=False)
        return 0

    return _asking("report", daemon, work)
