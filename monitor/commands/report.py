"""``gpumon report``: what a period was, as Markdown, one HTML page or JSON; or sent to a receiver now.

Exit codes: 1 where nobody answers, the report cannot be written or sent, or the period has no readings at all (it is
written all the same); 2 where the command line cannot be meant.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from monitor.client import format as words
from monitor.client.discover import find
from monitor.client.errors import ClientError, Refused
from monitor.client.prometheus import QueryClient
from monitor.client.reports import ReportRow, Reports, SendReport, Sent
from monitor.commands.for_programs import json_text, shown
from monitor.commands.times import BadTime, moment, span
from monitor.reporting import price
from monitor.reporting.asked import Asked
from monitor.reporting.collect import collect, period_of
from monitor.reporting.html import html
from monitor.reporting.make import report as make
from monitor.reporting.markdown import markdown
from monitor.reporting.schema import Period, Report

_ENDINGS = {".html": "html", ".htm": "html", ".json": "json"}
_MARKDOWN = {"", ".md", ".markdown", ".txt"}
_LONGEST_MS = 366 * 86_400_000
"""As of a report that the daemon sends."""


class BadName(ValueError):
    """A file's name promises what a report cannot be."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be reported, as the person says it."""

    since: str = "24h"
    until: str | None = None
    prices: Sequence[str] = ()
    form: str | None = None
    output: Path | None = None
    zone: str = "Local"
    name: str = ""

    def period(self, now_ms: int) -> Period:
        """The period in whole minutes. Raises ``BadTime``."""
        end_ms = now_ms if self.until is None else moment(self.until, now_ms, "--until")
        try:
            start_ms = end_ms - span(self.since, "--since")
        except BadTime:
            try:
                start_ms = moment(self.since, now_ms, "--since", end_ms)
            except BadTime:
                raise BadTime(f'--since "{words.clean(self.since, 60)}" is no length of time and no time') from None
        if start_ms >= end_ms:
            raise BadTime("--since is not before --until")
        if end_ms - start_ms > _LONGEST_MS:
            raise BadTime("a report is of 366 days at most")
        return period_of(start_ms, end_ms)

    @property
    def format(self) -> str:
        """As it was said, else by the file's name, else Markdown. Raises ``BadName`` where the name says another."""
        if self.form is not None or self.output is None:
            return self.form or "markdown"
        ending = self.output.suffix.lower()
        if ending not in _ENDINGS and ending not in _MARKDOWN and ending[1:].isalpha():
            raise BadName(f"{self.output}: {ending} is none of .md, .html and .json: name it so, or give --format")
        return _ENDINGS.get(ending, "markdown")

    def priced(self) -> tuple[price.Price, ...]:
        """Raises ``price.BadPrice``."""
        found = tuple(price.parse(one) for one in self.prices)
        if why := price.check(found):
            raise price.BadPrice(why)
        return found


def run(wanted: Wanted, url: str | None, *, timeout: float) -> int:
    """Write the report."""
    try:
        form = wanted.format
        found = asyncio.run(_make(wanted, url, timeout))
        _write(_written(found, form), wanted.output)
    except (BadTime, BadName, price.BadPrice) as error:
        click.echo(f"gpumon report: {error}", err=True)
        return 2
    except ClientError as error:
        click.echo(f"gpumon report: {error}", err=True)
        return 1
    except BrokenPipeError:
        raise
    except OSError as error:
        if wanted.output is None:  # standard output, of which the command line tells
            raise
        click.echo(f"gpumon report: {error.filename or wanted.output}: {error.strerror or error}", err=True)
        return 1
    if not found.has_data:
        click.echo(f"gpumon report: {_nothing(found)}", err=True)
    return 0 if found.has_data else 1


def _nothing(found: Report) -> str:
    if found.failed:
        return "nothing was learnt of this period, as queries failed: the remarks say why"
    return "there are no readings in this period"


def send(wanted: Wanted, receiver: str, url: str | None, *, as_json: bool) -> int:
    """Let the daemon make one and send it to a receiver, now."""
    try:
        results = asyncio.run(_send(wanted, receiver, url))
    except (BadTime, price.BadPrice) as error:
        click.echo(f"gpumon report: {error}", err=True)
        return 2
    except ClientError as error:
        click.echo(f"gpumon report: {error}", err=True)
        return 1
    if as_json:
        click.echo(json_text(results, indent=2))
    else:
        for one in results:
            state = "sent" if one.ok else f"FAILED: {words.clean(one.reason)}"
            click.echo(f"{words.clean(one.receiver)}  {words.clean(one.target)}  {state}")
    return 0 if results and all(one.ok for one in results) else 1


def show(url: str | None, *, as_json: bool) -> int:
    """List the scheduled reports, and how they go."""
    try:
        rows = asyncio.run(_list(url))
    except ClientError as error:
        click.echo(f"gpumon report: {error}", err=True)
        return 1
    if as_json:
        click.echo(json_text(rows, indent=2))
        return 0
    if not rows:
        click.echo("no report is scheduled: they stand in gpumon.yaml, below `reports:`")
    for row in rows:
        click.echo(_row(row))
    return 0


def _row(row: ReportRow) -> str:
    parts = [f"{words.clean(row.name)}  {row.schedule} to {words.clean(row.receiver)}"]
    if row.next_ms is not None:
        parts.append(f"next {_when(row.next_ms)}")
    if row.last_sent_ms is not None:
        parts.append(f"last sent {_when(row.last_sent_ms)}")
    if row.waiting:
        parts.append(f"not sent yet: {words.clean(row.last_error) or 'it is being made'}")
    return ", ".join(parts)


def _when(at_ms: int) -> str:
    """With the zone: it stands beside a schedule that may be of another."""
    return f"{words.clock(at_ms, date=True)} {time.strftime('%Z', time.localtime(at_ms / 1000))}"


async def _make(wanted: Wanted, url: str | None, timeout: float) -> Report:
    prices = wanted.priced()
    async with QueryClient(_target(url), timeout=timeout) as client:
        now_ms = await client.now_ms(time.time_ns() // 1_000_000)
        asked = Asked(wanted.period(now_ms), prices, wanted.name, wanted.zone)
        if sys.stderr.isatty():
            click.echo("asking …", err=True, nl=False)
        answers = await collect(client, asked)
        if sys.stderr.isatty():
            click.echo("\r\x1b[K", err=True, nl=False)
        return make(asked, answers)


async def _send(wanted: Wanted, receiver: str, url: str | None) -> tuple[Sent, ...]:
    prices = wanted.priced()
    async with QueryClient(_target(url)) as client:
        period = wanted.period(await client.now_ms(time.time_ns() // 1_000_000))
        body = SendReport(
            receiver, period.start_ms, period.end_ms, wanted.name, wanted.zone, tuple(str(one) for one in prices)
        )
        if sys.stderr.isatty():
            click.echo(f"making it, and sending it to {receiver} …", err=True)
        try:
            return await Reports(client).send(body)
        except Refused as error:
            if error.status != 404 or "receiver" in error.what:  # which a daemon says
                raise
            raise _no_daemon(client) from None


async def _list(url: str | None) -> tuple[ReportRow, ...]:
    async with QueryClient(_target(url)) as client:
        try:
            return await Reports(client).listing()
        except Refused as error:
            if error.status != 404:
                raise
            raise _no_daemon(client) from None


def _no_daemon(client: QueryClient) -> ClientError:
    return ClientError("this server sends no reports", client.target, "A gpumon daemon does")


def _target(url: str | None) -> str:
    found = find(url)
    if found is None:
        raise ClientError("no daemon runs here", "this node", "Start one with `gpumon daemon`, or name one with --url")
    return found.target


def _written(found: Report, form: str) -> str:
    if form == "json":
        return json_text(found, indent=2) + "\n"
    return html(found) if form == "html" else markdown(found)


def _write(text: str, output: Path | None) -> None:
    """To standard output, or to a file that has its name only when it is whole."""
    if output is None or str(output) == "-":
        click.echo(shown(text), nl=False)
        return
    if output.is_dir():
        raise IsADirectoryError(21, "is a directory", str(output))
    if not output.parent.is_dir():
        raise FileNotFoundError(2, "there is no such directory", str(output.parent))
    if output.exists() and not output.is_file():  # a pipe, a device
        output.write_text(text, encoding="utf-8")
        return
    try:
        handle, name = tempfile.mkstemp(prefix=f".{output.name}.", suffix=".part", dir=output.parent)
    except OSError as error:  # which names a file that nobody asked for
        raise OSError(error.errno, error.strerror, str(output)) from None
    try:
        with open(handle, "w", encoding="utf-8", newline="\n") as out:
            out.write(text)
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(name, 0o666 & ~mask)
        os.replace(name, output)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
