"""The options of ``gpumon dashboards``. What it does is in ``monitor.commands.dashboards``, loaded when it runs."""

from __future__ import annotations

import sys
from pathlib import Path
from urllib.parse import urlsplit

import click

from monitor.commands.option_types import FilePath
from monitor.dashboards import DEFAULT_PATH, DEFAULT_PROMETHEUS


def _url(context: click.Context, parameter: click.Parameter, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
    for each in (value,) if isinstance(value, str) else value:
        parts = urlsplit(each)
        if each and (parts.scheme not in ("http", "https") or not parts.hostname):
            raise click.BadParameter(f"{each!r} is no URL: http://HOST:PORT")
        if parts.username or parts.password:
            raise click.BadParameter("no name and password in the URL: the files are read by others")
    return value


@click.command()
@click.option(
    "-o", "--output", type=FilePath(path_type=Path, file_okay=False), metavar="DIR", help="Write files below DIR."
)
@click.option(
    "--prometheus",
    default=DEFAULT_PROMETHEUS,
    show_default=True,
    callback=_url,
    metavar="URL",
    help='The Prometheus, as Grafana reaches it; "" for no data source.',
)
@click.option(
    "--node", "nodes", multiple=True, callback=_url, metavar="URL", help="A gpumon node as a data source; repeatable."
)
@click.option(
    "--path",
    type=FilePath(),
    default=DEFAULT_PATH,
    show_default=True,
    metavar="DIR",
    help="Where Grafana will find the dashboards.",
)
@click.option("--force", is_flag=True, help="Replace provisioning that was changed by hand, too.")
def dashboards(output: Path | None, prometheus: str, nodes: tuple[str, ...], path: str, *, force: bool) -> None:
    """Write the Grafana dashboards and their provisioning; without -o, list the dashboards.

    \b
    gpumon dashboards -o grafana
    gpumon dashboards -o grafana --prometheus http://prom:9090 --path /srv/dashboards

    DIR/dashboards goes where --path says, DIR/provisioning into Grafana's provisioning directory.
    """
    from monitor.commands.dashboards import listing, write

    sys.exit(listing() if output is None else write(output, prometheus, nodes, path, force=force))
