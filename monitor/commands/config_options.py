"""The options of ``gpumon config``. What its commands do is loaded when they run."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from monitor.commands.option_types import FilePath


@click.group()
def config() -> None:
    """The configuration, gpumon.yaml."""


@config.command("init")
@click.option(
    "-o",
    "--output",
    type=FilePath(path_type=Path),
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


@config.command("schema")
@click.option("--rules", is_flag=True, help="Of a rule file such as alerts.yaml, instead of gpumon.yaml.")
@click.option(
    "-o",
    "--output",
    type=FilePath(path_type=Path, dir_okay=False),
    default="-",
    show_default=True,
    metavar="FILE",
    help="Where to write it; - is standard output.",
)
def config_schema(rules: bool, output: Path) -> None:
    """Print the JSON Schema of gpumon.yaml, or of a rule file, by which an editor completes and explains each field."""
    from monitor.commands.config_schema import run_schema

    sys.exit(run_schema(output, rules=rules))


@config.command("reference")
@click.argument("sections", nargs=-1, metavar="[SECTION]...")
@click.option("--rules", is_flag=True, help="Of a rule file such as alerts.yaml, instead of gpumon.yaml.")
def config_reference(sections: tuple[str, ...], rules: bool) -> None:
    """Print the fields of gpumon.yaml as Markdown: of these sections, such as api or receivers, or of all."""
    from monitor.commands.config_schema import run_reference

    sys.exit(run_reference(sections, rules=rules))
