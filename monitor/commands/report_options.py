"""The options of ``gpumon report``. What it does is in ``monitor.commands.report``, which is loaded when it runs."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from monitor.commands.access_options import reaching
from monitor.commands.option_types import FilePath, Name, Number


@click.command()
@reaching
@click.option("--since", default="24h", show_default=True, metavar="TIME", help="How far back: 24h, 7d, or a time.")
@click.option("--until", metavar="TIME", help="Until when: 08:00, 2026-11-21T18:00. Default: now.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["markdown", "html", "json"]),
    help="Default: what the name of -o ends with, else markdown.",
)
@click.option("-o", "--output", type=FilePath(path_type=Path), metavar="FILE", help="Default: standard output.")
@click.option(
    "--price",
    "prices",
    multiple=True,
    metavar="PRICE",
    help="Of electricity or of a GPU's hour: 0.30/kWh, '2.50 EUR/GPUh'; again for both.",
)
@click.option("--location", default="Local", metavar="ZONE", help="Where times are told: Europe/Berlin. Default: here.")
@click.option("--name", default="", metavar="NAME", help="What stands in the title.")
@click.option(
    "--send", "receiver", type=Name(), metavar="RECEIVER", help="Let the daemon send it to a receiver of its, now."
)
@click.option("--list", "listing", is_flag=True, help="The reports that the daemon sends by itself, and how they go.")
@click.option("--json", "as_json", is_flag=True, help="As --format json; of --send and --list, what came of it.")
@click.option("--timeout", type=Number(0.1, 3600), default=60.0, show_default=True, metavar="SECONDS")
def report(
    url: str | None,
    since: str,
    until: str | None,
    form: str | None,
    output: Path | None,
    prices: tuple[str, ...],
    location: str,
    name: str,
    receiver: str | None,
    listing: bool,
    as_json: bool,
    timeout: float,
) -> None:
    """Tell what a day was: utilization, tokens, latencies, energy, cost, alerts and incidents, on a node or a fleet.

    \b
    gpumon report --since 24h
    gpumon report --since 7d --price 0.30/kWh -o week.html

    Exits 1 where the period has no readings, too.
    """
    from monitor.commands.report import Wanted, run, send, show
    from monitor.reporting.words import zone_of

    if as_json and form not in (None, "json"):
        raise click.UsageError("--json or --format, not both")
    if receiver is not None and (output is not None or form is not None):
        raise click.UsageError("--send sends what the receiver takes: -o and --format are not for it")
    if location not in ("Local", "UTC") and zone_of(location) is None:
        raise click.UsageError(f'there is no time zone "{location}" here: write one such as Europe/Berlin')
    wanted = Wanted(since, until, prices, "json" if as_json else form, output, location, name)
    if listing:
        sys.exit(show(url, as_json=as_json))
    if receiver is not None:
        sys.exit(send(wanted, receiver, url, as_json=as_json))
    sys.exit(run(wanted, url, timeout=timeout))
