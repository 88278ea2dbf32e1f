"""The options of ``gpumon prometheusrule``. What it does is in ``monitor.commands.prometheusrule``, which is loaded
when it runs."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from monitor.commands.option_types import FilePath


@click.command()
@click.argument("file", required=False, type=FilePath(path_type=Path), metavar="[FILE]")
@click.option("--name", default="gpumon", show_default=True, help="Of the object.")
@click.option("--namespace", metavar="NAMESPACE", help="Of the object; by default kubectl's own.")
@click.option(
    "--label",
    "labels",
    multiple=True,
    metavar="NAME=VALUE",
    help="What the Prometheus' ruleSelector asks for, such as release=prometheus; may be given again.",
)
def prometheusrule(file: Path | None, name: str, namespace: str | None, labels: tuple[str, ...]) -> None:
    """Write a rule file as the PrometheusRule that the Prometheus Operator takes; by default the shipped rules.

    \b
    gpumon prometheusrule --namespace gpumon --label release=prometheus | kubectl apply -f -

    Comments stay. Exits 1 where the file cannot be read or has a problem.
    """
    from monitor.commands.prometheusrule import run

    sys.exit(run(file, name=name, namespace=namespace, labels=labels))
