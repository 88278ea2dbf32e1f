"""``gpumon test rules``: promtool's unit tests of rules, through our own engine, told as promtool tells them."""

from __future__ import annotations

from pathlib import Path

import click

from monitor.go_regex import RegexError
from monitor.rules.unit_test_report import FileReport, junit
from monitor.rules.unit_tests import Options, name_pattern, run_file


def run(
    files: tuple[str, ...],
    *,
    names: tuple[str, ...] = (),
    diff: bool = False,
    debug: bool = False,
    junit_file: Path | None = None,
    ignore_unknown_fields: bool = False,
) -> int:
    """Run the tests of each file; 0 where all pass, else 1. Raises ``click.UsageError`` for a bad ``--run``."""
    try:
        selected = name_pattern(names)
    except RegexError as error:
        raise click.UsageError(f"--run {'|'.join(names)}: {error}") from error
    options = Options(
        selected=selected,
        diff=diff,
        ignore_unknown_fields=ignore_unknown_fields,
        debug=_to_stderr if debug else None,
        warn=_to_stderr,
    )
    reports = []
    for path in files:
        report = run_file(path, options)
        reports.append(report)
        _tell(report)
    if junit_file is not None:
        try:
            junit_file.write_text(junit(reports), encoding="utf-8", errors="backslashreplace")
        except OSError as error:
            click.echo(f"{junit_file}: cannot be written: {error.strerror or error}", err=True)
            return 1
    return 1 if any(report.failures for report in reports) else 0


def _to_stderr(line: str) -> None:
    click.echo(line, err=True)


def _tell(report: FileReport) -> None:
    """Failures go to standard error and the empty lines between them to standard output, as promtool has it."""
    failures = report.failures
    if failures:
        click.echo("  FAILED:", err=True)
    else:
        click.echo("  SUCCESS")
    for failure in failures:
        click.echo(failure.text(report.path), err=True, color=True)  # with --diff: promtool colours a file, too
        click.echo()
    click.echo()
