"""The options of ``gpumon config``. What its commands do is loaded when they run."""

from __future__ import annotations

import sys
from pathlib import Path

import click


@click.group()
def config() -> None:
    """The configuration, gpumon.yaml."""


@config.command("init")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default="gpumon.yaml",
    show_default=True,
    metavar="FILE",
    help="Where to write it; - is standard output.",
)
@click.option("--force", is_flag=True, help="Write over a file that is there.")
def config_init(output: Path, force: bool) -> None:
    """Write a commented gpumon.yaml from what is on this node: its GPUs, its vLLM servers."""
    from monitor.commands.config_init import run

    sys.exit(run(output, force=force))
