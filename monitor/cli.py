"""The commands. Each imports what it needs when it runs, so that ``--help`` is there at once: ``*_options`` has its
options and no more.

How they end stands in ``monitor.commands.exit_codes``.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from monitor import __version__
from monitor.commands.alert_options import alerts, notify, silence
from monitor.commands.completion_options import completion
from monitor.commands.config_options import config
from monitor.commands.dashboard_options import dashboards
from monitor.commands.exit_codes import CLOSED_PIPE, INTERRUPTED, PROBLEM
from monitor.commands.groups import InOrder
from monitor.commands.habits import hint
from monitor.commands.node_options import daemon, demo, doctor, tui
from monitor.commands.plan_options import plan
from monitor.commands.probe_options import probe
from monitor.commands.prometheusrule_options import prometheusrule
from monitor.commands.reading_options import dmon, export, processes, query, series, snapshot
from monitor.commands.report_options import report
from monitor.commands.rule_options import backtest, check, test
from monitor.commands.runbook_options import runbook
from monitor.commands.service_options import service
from monitor.commands.version_options import version

_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

_CLOSED = "gpumon: standard output is closed, so that nothing can be printed: leave it open, or send it to /dev/null"

_EPILOG = """Exits 0 when it is done, 1 where a problem was found or the work failed, 2 for a bad command line, 130 when
interrupted, 141 where the output's reader is gone. `gpumon COMMAND --help` says what differs."""


class _Root(InOrder):
    """Ends as the table of exit codes says where the output's reader is gone: click itself would end with 1."""

    def make_context(self, *args: Any, **more: Any) -> click.Context:
        try:
            return super().make_context(*args, **more)  # which prints the help that is asked for
        except BrokenPipeError:
            _leave_the_pipe()

    def invoke(self, ctx: click.Context) -> Any:
        try:
            try:
                return super().invoke(ctx)
            finally:
                sys.stdout.flush()
        except BrokenPipeError:
            _leave_the_pipe()


@click.group(cls=_Root, context_settings=_CONTEXT, epilog=_EPILOG)
@click.version_option(__version__, prog_name="gpumon")
def cli() -> None:
    """Monitor, alert on and probe a GPU node that serves models with vLLM.

    `gpumon tui` shows this node; `gpumon demo` shows what that looks like, without a GPU.
    """


# In the order of `--help`: the ones that people need first, first.
cli.add_command(tui)
cli.add_command(daemon)
cli.add_command(demo)
cli.add_command(snapshot)
cli.add_command(dmon)
cli.add_command(processes)
cli.add_command(query)
cli.add_command(export)
cli.add_command(report)
cli.add_command(alerts)
cli.add_command(runbook)
cli.add_command(silence)
cli.add_command(notify)
cli.add_command(check)
cli.add_command(test)
cli.add_command(backtest)
cli.add_command(prometheusrule)
cli.add_command(doctor)
cli.add_command(series)
cli.add_command(dashboards)
cli.add_command(config)
cli.add_command(probe)
cli.add_command(service)
cli.add_command(plan)
cli.add_command(completion)
cli.add_command(version)


def main() -> None:
    """Run the command line; a pipe that the reader closed and a Ctrl-C end it quietly."""
    can_print = sys.stdout is not None
    _open_what_is_closed()
    if not can_print and not _prints_nothing(sys.argv[1:]):
        click.echo(_CLOSED, err=True)
        sys.exit(PROBLEM)
    try:
        result: Any = cli.main(prog_name="gpumon", standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        if isinstance(error, click.UsageError) and (elsewhere := hint(error)):
            click.echo(elsewhere, err=True)
        sys.exit(error.exit_code)
    except click.Abort:
        sys.exit(INTERRUPTED)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        _leave_the_pipe()
    except OSError as error:
        if error.errno not in _DISK_FULL or error.filename is not None:
            raise
        click.echo(f"gpumon: the output cannot be written: {error.strerror}", err=True)
        _leave_the_pipe(1)
    sys.exit(result if isinstance(result, int) else 0)


def _open_what_is_closed() -> None:
    """Standard streams that nobody gave us are /dev/null's: the next file that is opened would have their numbers, and
    what a library prints would go into it."""
    if None not in (sys.stdin, sys.stdout, sys.stderr):
        return
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(number, True)
    os.close(number)
    sys.stdin = sys.stdin or open(0, closefd=False)  # noqa: SIM115 # for as long as the process is
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115


def _prints_nothing(arguments: Sequence[str]) -> bool:
    """Whether it is a daemon that is to run: it tells of itself on standard error, if anywhere."""
    return arguments[:1] == ["daemon"] and not {"-h", "--help"}.intersection(arguments)


def _leave_the_pipe(code: int = CLOSED_PIPE) -> NoReturn:
    # What is still buffered for the closed pipe, or the full disk, must not fail again at exit.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)
