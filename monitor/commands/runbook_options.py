"""The options of ``gpumon runbook``. What it does is in ``monitor.commands.runbook``, which is loaded when it runs."""

from __future__ import annotations

import sys

import click


@click.command()
@click.argument("name", required=False, metavar="[ALERT]")
@click.option("--json", "as_json", is_flag=True, help="As JSON, for programs; the text is Markdown.")
def runbook(name: str | None, as_json: bool) -> None:
    """Say what to do about an alert that gpumon ships; without a name, list them.

    The text is in the package: it needs no daemon and no network.

    Exits 1 where there is no such runbook.
    """
    from monitor.commands.runbook import run

    sys.exit(run(name, as_json=as_json))
