"""The options of ``gpumon version``. What it does is in ``monitor.commands.version``, which is loaded when it runs."""

from __future__ import annotations

import sys

import click

from monitor.commands.access_options import reaching


@click.command()
@reaching
@click.option("--json", "as_json", is_flag=True, help="As JSON, for programs.")
def version(url: str | None, as_json: bool) -> None:
    """Print the versions that a report of a fault needs: gpumon, Python, system, driver, daemon, dependencies.

    Exits 1 where a daemon was named, by --url or $GPUMON_URL, that does not answer; the rest is printed all the same.
    """
    from monitor.commands.version import run

    sys.exit(run(url, as_json=as_json))
