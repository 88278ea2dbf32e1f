"""``gpumon dashboards``: the Grafana dashboards, and the provisioning with which Grafana finds them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from monitor.dashboards.files import ALL, as_written, files


def listing() -> int:
    """Name the dashboards, a line each."""
    for each in ALL:
        click.echo(f"{each.uid:14} {each.title:16} {each.description}")
    return 0


def write(output: Path, prometheus: str, nodes: Sequence[str], path: str, *, force: bool = False) -> int:
    """Write every file below ``output`` and print its place. Returns 1 where one cannot be written.

    Provisioning that was changed by hand is kept unless ``force``: intervals, certificates and tokens are put into it.
    The dashboards are ours alone.
    """
    for place, text in files(prometheus, nodes, path).items():
        file = output / place
        try:
            if not force and _is_kept(file, text):
                click.echo(f"{file}: kept: changed by hand, or of an older gpumon; --force replaces it", err=True)
                continue
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        except OSError as error:
            click.echo(f"{file}: {error.strerror or error}", err=True)
            return 1
        click.echo(str(file))
    return 0


def _is_kept(file: Path, text: str) -> bool:
    if file.suffix != ".yaml" or not file.exists():
        return False
    there = file.read_text(encoding="utf-8", errors="replace")
    return there != text and not as_written(there)
