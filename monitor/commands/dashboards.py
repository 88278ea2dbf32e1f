"""``gpumon dashboards``: the Grafana dashboards, and the provisioning with which Grafana finds them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from monitor.dashboards.files import ALL, files


def listing() -> int:
    """Name the dashboards, a line each."""
    for each in ALL:
        click.echo(f"{each.uid:14} {each.title:16} {each.description}")
    return 0


def write(output: Path, prometheus: str, nodes: Sequence[str], path: str) -> int:
    """Write every file below ``output`` and print its place. Returns 1 where one cannot be written."""
    for place, text in files(prometheus, nodes, path).items():
        file = output / place
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        except OSError as error:
            click.echo(f"{file}: {error.strerror or error}", err=True)
            return 1
        click.echo(str(file))
    return 0
