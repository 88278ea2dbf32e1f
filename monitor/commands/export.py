"""``gpumon export``: raw samples out of a daemon or a Prometheus, as OpenMetrics or CSV.

Exit codes: 1 where nothing matches, nobody answers or the file cannot be written; 2 where the command line cannot be
meant.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import click

from monitor.client import format as words
from monitor.client.discover import find
from monitor.client.errors import ClientError, Refused
from monitor.client.prometheus import Described, QueryClient
from monitor.client.raw_samples import names_of, samples_of
from monitor.client.sample_formats import Csv, Format, OpenMetrics
from monitor.commands.for_programs import output as output_of
from monitor.commands.times import BadTime, moment, span

DEFAULT_SINCE = "1h"


class Nothing(Exception):
    """No sample matches."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to export, as the person says it."""

    selectors: Sequence[str] = ()
    since: str | None = None
    start: str | None = None
    end: str | None = None
    form: str = "openmetrics"

    def range(self, now_ms: int) -> tuple[int, int]:
        """Start and end. Raises ``BadTime``."""
        if self.since is not None and self.start is not None:
            raise BadTime("give --since or --start, not both")
        end_ms = now_ms if self.end is None else moment(self.end, now_ms, "--end")
        if self.start is not None:
            start_ms = moment(self.start, now_ms, "--start", end_ms)
        else:
            start_ms = end_ms - span(self.since or DEFAULT_SINCE, "--since")
        if start_ms >= end_ms:
            raise BadTime("the start is not before the end")
        return start_ms, end_ms


def run(wanted: Wanted, url: str | None, output: Path | None, *, timeout: float = 60.0) -> int:
    """Write the samples to ``output``, or to standard output. A file has its name only when it is whole."""
    try:
        with _opened(output) as out:
            said = asyncio.run(_export(wanted, url, out, timeout))
    except BadTime as error:
        click.echo(f"gpumon export: {error}", err=True)
        return 2
    except Nothing:
        click.echo("gpumon export: no sample matches in that time", err=True)
        return 1
    except ClientError as error:
        click.echo(f"gpumon export: {error}", err=True)
        return 1
    except BrokenPipeError:
        raise
    except OSError as error:
        where = output or error.filename or "standard output"  # an error's own file may be the one with the other name
        click.echo(f"gpumon export: {where}: {error.strerror or error}", err=True)
        return 1
    if output is not None:
        click.echo(f"{output}: {said}", err=True)
    return 0


@contextmanager
def _opened(output: Path | None) -> Iterator[TextIO]:
    """Standard output, or a file that is under another name until all is written."""
    if output is None or str(output) == "-":
        yield output_of(sys.stdout)
        sys.stdout.flush()
        return
    if output.is_dir():
        raise IsADirectoryError(21, "is a directory", str(output))
    if output.exists() and not output.is_file():  # a pipe, a device
        with open(output, "w", encoding="utf-8") as out:
            yield out
        return
    if not output.parent.exists():
        raise FileNotFoundError(2, f"there is no directory {output.parent}", str(output))
    handle, name = tempfile.mkstemp(prefix=f".{output.name}.", suffix=".part", dir=output.parent)
    try:
        with open(handle, "w", encoding="utf-8", newline="\n") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(name, 0o666 & ~mask)
        os.replace(name, output)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


async def _export(wanted: Wanted, url: str | None, out: TextIO, timeout: float) -> str:
    found = find(url)
    if found is None:
        raise ClientError("no daemon runs here", "this node", "Start one with `gpumon daemon`, or name one with --url")
    async with QueryClient(found.target, timeout=timeout) as client:
        start_ms, end_ms = wanted.range(await client.now_ms(time.time_ns() // 1_000_000))
        names = await names_of(client, wanted.selectors, start_ms, end_ms)
        form: Format = Csv() if wanted.form == "csv" else OpenMetrics(names, await _metadata(client))
        progress = _Progress(len(names))
        for name in names:
            begun = False
            async for series in samples_of(client, name, wanted.selectors, start_ms, end_ms):
                if not progress.samples:
                    out.write(form.begin())
                if not begun:
                    out.write(form.family(name))
                    begun = True
                out.writelines(form.series(series))
                progress.wrote(len(series.times))
            progress.next()
        progress.end()
        if not progress.samples:
            raise Nothing
        out.write(form.end())
    return f"{progress.samples} samples of {words.count(progress.metrics, 'metric')}"


async def _metadata(client: QueryClient) -> dict[str, tuple[Described, ...]]:
    """Types and helps; none where the server does not tell them."""
    try:
        return await client.metadata()
    except Refused:
        return {}


class _Progress:
    """Counts, and tells a terminal."""

    def __init__(self, names: int) -> None:
        self.samples = self.metrics = 0
        self._names, self._done, self._told = names, 0, 0.0
        self._has_samples = False
        self._shown = sys.stderr.isatty()

    def wrote(self, samples: int) -> None:
        """Samples were written."""
        self.samples += samples
        self._has_samples = True
        self._tell()

    def next(self) -> None:
        """A metric is done."""
        self.metrics += self._has_samples
        self._has_samples = False
        self._done += 1
        self._tell()

    def end(self) -> None:
        """Nothing more is told."""
        if self._shown and self._told:
            click.echo("\r\x1b[K", nl=False, err=True)

    def _tell(self) -> None:
        if self._shown and time.monotonic() - self._told > 0.2:
            self._told = time.monotonic()
            text = f"{self._done} of {self._names} metrics, {words.number(float(self.samples))} samples"
            click.echo(f"\r{text}\x1b[K", nl=False, err=True)
