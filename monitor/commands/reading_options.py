"""The options of the commands that read: ``snapshot``, ``dmon``, ``processes``, ``query``, ``export``, ``series``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from monitor.commands.access_options import reaching
from monitor.commands.option_types import FilePath, Number


@click.command()
@reaching
@click.option("--json", "as_json", is_flag=True, help="As JSON, for programs.")
@click.option("--prom", "as_prom", is_flag=True, help="As a Prometheus scrapes it.")
def snapshot(url: str | None, as_json: bool, as_prom: bool) -> None:
    """Print how the node is, once."""
    from monitor.commands.snapshot import print_exposition, run

    if as_json and as_prom:
        raise click.UsageError("--json or --prom, not both")
    sys.exit(print_exposition(url) if as_prom else run(url, as_json=as_json))


@click.command()
@reaching
@click.option("-i", "--gpu", "gpus", metavar="LIST", help="These GPUs alone: 0,1,3.")
@click.option(
    "-d",
    "--delay",
    type=Number(0.5, 60),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="Between two moments.",
)
@click.option("-c", "--count", type=click.IntRange(0), default=0, help="Moments, then end. Default: until interrupted.")
@click.option("--csv", "form", flag_value="csv", help="As CSV; what is absent is empty.")
@click.option("--json", "form", flag_value="json", help="As JSON, an object a line; what is absent is not in it.")
def dmon(url: str | None, gpus: str | None, delay: float, count: int, form: str | None) -> None:
    """Print a line for each GPU each second, as nvidia-smi dmon does, with what its vLLM server does."""
    from monitor.commands.dmon import run

    sys.exit(run(url, gpus=gpus, delay=delay, count=count, form=form or "table"))


@click.command()
@reaching
@click.option("--json", "as_json", is_flag=True, help="As JSON, for programs.")
def processes(url: str | None, as_json: bool) -> None:
    """List what runs on the GPUs: user, memory, share of the time, and the server that it works for."""
    from monitor.commands.processes import run

    sys.exit(run(url, as_json=as_json))


# An expression may begin with a minus.
@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("expr")
@reaching
@click.option("--at", "--time", "at", metavar="TIME", help="When: 18:00, 2026-11-21T18:00Z, -1h, epoch. Default: now.")
@click.option("--since", metavar="DURATION", help="Over the last 30m, 6h, 7d.")
@click.option("--start", metavar="TIME", help="Over a range: from when.")
@click.option("--end", metavar="TIME", help="Until when. Default: now.")
@click.option("--step", metavar="DURATION", help="The range's resolution. Default: what fits.")
@click.option("--graph", "output", flag_value="graph", help="Draw it; of the last hour, unless you say.")
@click.option("--json", "output", flag_value="json", help="As JSON: what Prometheus' API has under `data`.")
@click.option("--csv", "output", flag_value="csv", help="As CSV: a sample a line, a column for each label.")
@click.option("--timeout", type=Number(0.1, 3600), default=30.0, show_default=True, metavar="SECONDS")
def query(
    expr: str,
    url: str | None,
    at: str | None,
    since: str | None,
    start: str | None,
    end: str | None,
    step: str | None,
    output: str | None,
    timeout: float,
) -> None:
    """Evaluate a PromQL expression: now, at a time, or over a range."""
    from monitor.commands.query import Asked, run

    sys.exit(run(expr, url, Asked(at, since, start, end, step), output or "table", timeout))


@click.command()
@click.argument("selectors", nargs=-1, metavar="[SELECTOR…]")
@reaching
@click.option("--since", metavar="DURATION", help="The last 30m, 24h, 7d. Default: 1h.")
@click.option("--start", metavar="TIME", help="From when: 18:00, 2026-11-21T18:00Z, -1h, epoch.")
@click.option("--end", metavar="TIME", help="Until when. Default: now.")
@click.option("--format", "form", type=click.Choice(["openmetrics", "csv"]), default="openmetrics", show_default=True)
@click.option("-o", "--output", type=FilePath(path_type=Path), metavar="FILE", help="Default: standard output.")
@click.option("--timeout", type=Number(0.1, 3600), default=60.0, show_default=True, metavar="SECONDS")
def export(
    selectors: tuple[str, ...],
    url: str | None,
    since: str | None,
    start: str | None,
    end: str | None,
    form: str,
    output: Path | None,
    timeout: float,
) -> None:
    """Write raw samples, of all series or of those that SELECTORs mean.

    What it writes as OpenMetrics, `promtool tsdb create-blocks-from openmetrics` makes blocks for a Prometheus of.
    """
    from monitor.commands.export import Wanted, run

    sys.exit(run(Wanted(selectors, since, start, end, form), url, output, timeout=timeout))


@click.command()
@click.option("--markdown", "form", flag_value="markdown", help="The page docs/series.md.")
@click.option("--json", "form", flag_value="json", help="As JSON, for programs.")
def series(form: str | None) -> None:
    """List every series that gpumon exports: name, type, unit and labels."""
    from monitor.commands.series import run

    sys.exit(run(form or "table"))
