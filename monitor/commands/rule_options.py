"""The options of ``gpumon check``, ``test`` and ``backtest``. What they do is loaded when they run."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from monitor.commands.access_options import reaching
from monitor.commands.option_types import FilePath


@click.command()
@click.argument("files", nargs=-1, required=True, type=FilePath(path_type=Path), metavar="FILE…")
@click.option("--against", metavar="URL", help="A daemon or a Prometheus: has it the series that the rules select?")
@click.option("--strict", is_flag=True, help="Exit 1 for a warning, too.")
@click.option("--json", "as_json", is_flag=True, help="As JSON, for programs.")
def check(files: tuple[Path, ...], against: str | None, strict: bool, as_json: bool) -> None:
    """Check configurations and rule files; name every problem with its place.

    A file with `groups:` at its top is a rule file, any other a configuration. Exits 1 when there is a problem, 2 when
    the server of --against cannot be asked.
    """
    from monitor.commands.check import run

    sys.exit(run(files, against=against, strict=strict, as_json=as_json))


@click.group()
def test() -> None:
    """Try whether rules do what they should."""


@test.command("rules")
@click.argument("files", nargs=-1, required=True, type=FilePath(exists=True, dir_okay=False), metavar="FILE…")
@click.option("--run", "names", multiple=True, metavar="REGEX", help="Only tests with such a name; may be given again.")
@click.option("--diff", is_flag=True, help="Show alerts that differ as a coloured difference.")
@click.option("--debug", is_flag=True, help="Tell of each test how long it took, and all of its samples.")
@click.option("--junit", "junit_file", type=FilePath(path_type=Path), metavar="FILE", help="Write JUnit's XML, too.")
@click.option("--ignore-unknown-fields", is_flag=True, help="Pass over fields of rule files that Prometheus has not.")
def test_rules(
    files: tuple[str, ...],
    names: tuple[str, ...],
    diff: bool,
    debug: bool,
    junit_file: Path | None,
    ignore_unknown_fields: bool,
) -> None:
    """Run promtool's unit-test files for rules, as `promtool test rules` does.

    Exits 1 when a test fails.
    """
    from monitor.commands.rule_tests import run

    code = run(
        files,
        names=names,
        diff=diff,
        debug=debug,
        junit_file=junit_file,
        ignore_unknown_fields=ignore_unknown_fields,
    )
    sys.exit(code)


@click.command()
@click.argument("files", nargs=-1, required=True, type=FilePath(path_type=Path), metavar="RULES.yaml…")
@click.option("--since", default="24h", show_default=True, metavar="TIME", help="How far back: 24h, 7d, or a time.")
@click.option("--until", metavar="TIME", help="Until when: 18:00, 2026-11-21T18:00. Default: now.")
@click.option(
    "--rules",
    "old_files",
    multiple=True,
    type=FilePath(path_type=Path),
    metavar="OLD",
    help="Rules to compare with: tells the difference; may be given again.",
)
@click.option(
    "--interval",
    metavar="DURATION",
    help="How often groups are evaluated that say no interval of their own. Default: 15s.",
)
@reaching
@click.option(
    "--history",
    type=FilePath(path_type=Path),
    metavar="FILE",
    help="A daemon's history.sqlite. Default: this machine's, where it can be read, else the daemon's API.",
)
@click.option("--all", "everything", is_flag=True, help="List every firing.")
@click.option("--json", "as_json", is_flag=True, help="All of it as JSON, for programs.")
def backtest(
    files: tuple[Path, ...],
    since: str,
    until: str | None,
    old_files: tuple[Path, ...],
    interval: str | None,
    url: str | None,
    history: Path | None,
    everything: bool,
    as_json: bool,
) -> None:
    """Tell which alerts RULES would have fired over the stored past, and when.

    Exits 0 whatever would have fired, 1 where that could not be found out or a rule failed.
    """
    from monitor.commands.backtest import Range, run

    if url and history is not None:
        raise click.UsageError("give --url or --history, not both")

    code = run(
        files,
        asked=Range(since, until),
        old_files=old_files,
        interval=interval,
        url=url,
        history=history,
        everything=everything,
        as_json=as_json,
    )
    sys.exit(code)
