"""The options of ``gpumon service``. What its commands do is loaded when they run."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from monitor.commands.option_types import FilePath


@click.group()
def service() -> None:
    """The daemon as a systemd service."""


_PREFIX = click.option(
    "--prefix",
    type=FilePath(path_type=Path),
    metavar="DIR",
    help="Where its environment is. Default: gpumon/ in the directory for add-on software.",
)
_DRY_RUN = click.option("--dry-run", is_flag=True, help="Print every command and file, and do nothing.")


@service.command("install")
@_PREFIX
@click.option("--package", metavar="SPEC", help="What to install: a version, a wheel, a tree. Default: this one.")
@click.option("--operator", metavar="NAME", help="Who may use the daemon. Default: who called sudo.")
@_DRY_RUN
def service_install(prefix: Path | None, package: str | None, operator: str | None, dry_run: bool) -> None:
    """Install or upgrade it: environment, user, group, directories, configuration, unit; then start it.

    Needs root. Doing it again changes nothing but the version.
    """
    from monitor.commands.service import DEFAULT_PREFIX, System, default_package, install
    from monitor.commands.service_steps import Doer

    system = System()
    code = install(
        system,
        Doer(),
        prefix=prefix or DEFAULT_PREFIX,
        package=package or default_package(),
        operator=system.operator if operator is None else operator,
        dry_run=dry_run,
    )
    sys.exit(code)


@service.command("status")
@click.option("--json", "as_json", is_flag=True, help="As JSON, for programs.")
def service_status(as_json: bool) -> None:
    """Say how it is. Exits 1 where it does not run."""
    from monitor.commands.service import System, status

    sys.exit(status(System(), as_json=as_json))


@service.command("uninstall")
@_PREFIX
@click.option("--purge", is_flag=True, help="Configuration, state, user and group, too.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@_DRY_RUN
def service_uninstall(prefix: Path | None, purge: bool, yes: bool, dry_run: bool) -> None:
    """Remove it. Configuration and state stay, unless --purge."""
    from monitor.commands.service import System, uninstall
    from monitor.commands.service_steps import Doer

    sys.exit(uninstall(System(), Doer(), prefix=prefix, purge=purge, yes=yes, dry_run=dry_run))
