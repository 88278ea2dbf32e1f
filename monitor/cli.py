"""The commands. Each imports what it needs when it runs, so that ``--help`` is there at once.

Exit codes: 0 done, 1 a problem was found or the work failed, 2 the command line was wrong.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import click

from monitor import __version__
from monitor.commands.access_options import reaching, reaching_several
from monitor.commands.plan_options import plan

_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class _InOrder(click.Group):
    """Lists the commands as they stand in this file: the ones that people need first, first."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group(cls=_InOrder, context_settings=_CONTEXT)
@click.version_option(__version__, prog_name="gpumon")
def cli() -> None:
    """Monitor, alert on and probe a GPU node that serves models with vLLM.

    `gpumon tui` shows this node; `gpumon demo` shows what that looks like, without a GPU.
    """


@cli.command()
@reaching_several
@click.option(
    "--nodes",
    "nodes_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A fleet: names, addresses, how one gets in. Default: ~/.config/gpumon/nodes.yaml, where no daemon runs here.",
)
@click.option("--alertmanager", metavar="URL", help="The Alertmanager that keeps the silences of a Prometheus.")
@click.option("--readonly", is_flag=True, help="Let no process be ended and nothing be silenced from it.")
@click.option("--no-color", is_flag=True, help="No colours, as with $NO_COLOR.")
@click.option("--web", is_flag=True, help="In a browser instead; needs the extra `web`.")
@click.option("--listen", metavar="HOST:PORT", help="With --web: where. Default: 127.0.0.1:8765.")
def tui(
    urls: list[str],
    nodes_file: Path | None,
    alertmanager: str | None,
    readonly: bool,
    no_color: bool,
    web: bool,
    listen: str | None,
) -> None:
    """Show a node, live, in the terminal; or a fleet of them.

    Several --url, a file of --nodes, or a Prometheus that scrapes several nodes begin with a list of these. Without a
    daemon on this machine it starts a private one, which notifies nobody and ends ten minutes after you.
    """
    if listen is not None and not web:
        raise click.UsageError("--listen is for --web")
    if web:
        from monitor.commands import web as in_browser

        given = in_browser.without(sys.argv[sys.argv.index("tui") + 1 :])
        sys.exit(in_browser.run(given, listen or in_browser.DEFAULT, readonly=readonly))
    terminal = sys.stdin.isatty() and sys.stdout.isatty()
    if not terminal and "TEXTUAL_DRIVER" not in os.environ:
        raise click.ClickException("the TUI needs a terminal; without one, `gpumon snapshot` prints how the node is")
    from monitor.tui import run

    where = _where(urls, nodes_file)
    sys.exit(run(where, alertmanager=alertmanager, readonly=readonly, no_color=no_color))


def _where(urls: list[str], nodes_file: Path | None) -> Any:
    """What the terminal interface is to show: an address, several of them, or None for what is found here."""
    from monitor.client.access import address

    if urls and nodes_file is not None:
        raise click.UsageError("give --url or --nodes, not both")
    if urls:
        return urls[0] if len(urls) == 1 else tuple(address(one) for one in urls)
    from monitor.client.discover import find
    from monitor.client.errors import ClientError
    from monitor.client.nodes_file import nodes_path, read_nodes
    from monitor.yaml_reader import ConfigError

    path = nodes_file or nodes_path()
    try:
        if nodes_file is None and (not path.is_file() or find() is not None):
            return None
        return read_nodes(path)
    except ConfigError as error:
        raise click.ClickException(str(error)) from None
    except ClientError:
        return None  # a socket that refuses: the screen says so, with its cure


@cli.command()
@click.option("--config", "config_path", type=click.Path(path_type=Path), metavar="FILE", help="gpumon.yaml.")
@click.option(
    "--rules",
    "rule_paths",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A rule file instead of the configured ones; may be given again.",
)
@click.option(
    "--vllm",
    "vllm_urls",
    multiple=True,
    metavar="URL",
    help="A vLLM server to watch, beside the configured ones; may be given again.",
)
@click.option("--socket", "socket_path", type=click.Path(path_type=Path), metavar="PATH", help="The unix socket.")
@click.option("--listen", metavar="HOST:PORT", help="The read-only TCP listener, loopback only; `none` for none.")
@click.option("--state-dir", type=click.Path(path_type=Path), metavar="DIR", help="Where state is kept.")
@click.option("--simulate", is_flag=True, help="Simulated GPUs and a simulated vLLM; nothing real is read.")
@click.option(
    "--speed",
    type=click.FloatRange(0.1, 100),
    default=1.0,
    show_default=True,
    help="With --simulate: how fast the node's clock runs.",
)
@click.option(
    "--past",
    type=click.FloatRange(0, 3600),
    default=0.0,
    metavar="SECONDS",
    help="With --simulate: past to begin with.",
)
@click.option("--private", is_flag=True, help="For one user's TUIs: no TCP, no notifications, ends by itself.")
@click.option("--mode", type=click.Choice(["system", "private", "demo"]), hidden=True)
@click.option("-v", "--verbose", is_flag=True, help="Log more.")
def daemon(
    config_path: Path | None,
    rule_paths: tuple[Path, ...],
    vllm_urls: tuple[str, ...],
    socket_path: Path | None,
    listen: str | None,
    state_dir: Path | None,
    simulate: bool,
    speed: float,
    past: float,
    private: bool,
    mode: str | None,
    verbose: bool,
) -> None:
    """Watch this node: read, evaluate rules, notify, serve.

    SIGHUP reads the configuration again; a bad file changes nothing. SIGTERM and Ctrl-C end it.
    """
    from monitor.commands.daemon import start

    if (speed != 1.0 or past) and not simulate:
        raise click.UsageError("--speed and --past are for --simulate: a real node has the world's clock")
    start(
        config_path=config_path,
        rule_paths=rule_paths,
        vllm_urls=vllm_urls,
        socket_path=socket_path,
        listen=listen,
        state_dir=state_dir,
        simulate=simulate,
        speed=speed,
        past_seconds=past,
        mode=mode or ("private" if private else "system"),
        verbose=verbose,
    )


@cli.command()
@click.option("--speed", type=click.FloatRange(1, 60), default=10.0, show_default=True, help="How fast the clock runs.")
@click.option("--text", is_flag=True, help="Print instead of drawing, as where there is no terminal.")
def demo(speed: float, text: bool) -> None:
    """The whole thing with simulated GPUs and a simulated vLLM. Needs nothing.

    In a terminal it opens the TUI. Without one it prints what the TUI would show, until a shipped rule has fired and
    resolved.
    """
    from monitor.commands.demo import run

    terminal = sys.stdin.isatty() and sys.stdout.isatty()
    sys.exit(run(speed, text=text or not terminal))


@cli.command()
@reaching
@click.option("--json", "as_json", is_flag=True, help="As JSON, for programs.")
@click.option("--prom", "as_prom", is_flag=True, help="As a Prometheus scrapes it.")
def snapshot(url: str | None, as_json: bool, as_prom: bool) -> None:
    """Print how the node is, once."""
    from monitor.commands.snapshot import print_exposition, run

    if as_json and as_prom:
        raise click.UsageError("--json or --prom, not both")
    sys.exit(print_exposition(url) if as_prom else run(url, as_json=as_json))


@cli.command()
@reaching
@click.option("-i", "--gpu", "gpus", metavar="LIST", help="These GPUs alone: 0,1,3.")
@click.option(
    "-d",
    "--delay",
    type=click.FloatRange(0.5, 60),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="Between two moments.",
)
@click.option("-c", "--count", type=click.IntRange(0), default=0, help="Moments, then end. Default: until interrupted.")
@click.option("--csv", "as_csv", is_flag=True, help="As CSV; what is absent is empty.")
def dmon(url: str | None, gpus: str | None, delay: float, count: int, as_csv: bool) -> None:
    """Print a line for each GPU each second, as nvidia-smi dmon does, with what its vLLM server does."""
    from monitor.commands.dmon import run

    sys.exit(run(url, gpus=gpus, delay=delay, count=count, as_csv=as_csv))


# An expression may begin with a minus.
@cli.command(context_settings={"ignore_unknown_options": True})
@click.argument("expr")
@reaching
@click.option("--at", "--time", "at", metavar="TIME", help="When: 18:00, 2026-11-21T18:00Z, -1h, epoch. Default: now.")
@click.option("--since", metavar="DURATION", help="Over the last 30m, 6h, 7d.")
@click.option("--start", metavar="TIME", help="Over a range: from when.")
@click.option("--end", metavar="TIME", help="Until when. Default: now.")
@click.option("--step", metavar="DURATION", help="The range's resolution. Default: what fits.")
@click.option("--graph", "output", flag_value="graph", help="Draw it; of the last hour, unless you say.")
@click.option("--json", "output", flag_value="json", help="As JSON: what Prometheus' API has under `data`.")
@click.option("--csv", "output", flag_value="csv", help="As CSV: a sample a line, a column for each label.")
@click.option("--timeout", type=click.FloatRange(0.1, 3600), default=30.0, show_default=True, metavar="SECONDS")
def query(
    expr: str,
    url: str | None,
    at: str | None,
    since: str | None,
    start: str | None,
    end: str | None,
    step: str | None,
    output: str | None,
    timeout: float,
) -> None:
    """Evaluate a PromQL expression: now, at a time, or over a range."""
    from monitor.commands.query import Asked, run

    sys.exit(run(expr, url, Asked(at, since, start, end, step), output or "table", timeout))


@cli.command()
@click.argument("selectors", nargs=-1, metavar="[SELECTOR…]")
@reaching
@click.option("--since", metavar="DURATION", help="The last 30m, 24h, 7d. Default: 1h.")
@click.option("--start", metavar="TIME", help="From when: 18:00, 2026-11-21T18:00Z, -1h, epoch.")
@click.option("--end", metavar="TIME", help="Until when. Default: now.")
@click.option("--format", "form", type=click.Choice(["openmetrics", "csv"]), default="openmetrics", show_default=True)
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="FILE", help="Default: standard output.")
@click.option("--timeout", type=click.FloatRange(0.1, 3600), default=60.0, show_default=True, metavar="SECONDS")
def export(
    selectors: tuple[str, ...],
    url: str | None,
    since: str | None,
    start: str | None,
    end: str | None,
    form: str,
    output: Path | None,
    timeout: float,
) -> None:
    """Write raw samples, of all series or of those that SELECTORs mean.

    What it writes as OpenMetrics, `promtool tsdb create-blocks-from openmetrics` makes blocks for a Prometheus of.
    """
    from monitor.commands.export import Wanted, run

    sys.exit(run(Wanted(selectors, since, start, end, form), url, output, timeout=timeout))


_ALERTMANAGER = click.option(
    "--alertmanager", metavar="URL", help="An Alertmanager, http://HOST:9093, instead of a daemon's own silences."
)


@cli.command()
@reaching
@_ALERTMANAGER
@click.option("--all", "everything", is_flag=True, help="With those that are silenced, inhibited or of severity none.")
@click.option("--json", "as_json", is_flag=True, help="All of them as JSON, for programs.")
def alerts(url: str | None, alertmanager: str | None, everything: bool, as_json: bool) -> None:
    """List what fires, what is about to, and what is kept back."""
    from monitor.commands.alerts import run

    sys.exit(run(url, alertmanager, everything=everything, as_json=as_json))


@cli.group(cls=_InOrder)
def silence() -> None:
    """Tell the daemon, or an Alertmanager, to tell nobody of some alerts for a while."""


@silence.command("add")
@click.argument("matchers", nargs=-1, required=True, metavar="MATCHER...")
@click.option("-d", "--for", "lasting", metavar="DURATION", help="How long: 30m, 2h, 1d12h. Default: 1h.")
@click.option("--until", metavar="TIME", help="Until when instead: 18:00, 2026-11-21T18:00, or with a time zone.")
@click.option("--start", metavar="TIME", help="From when. Default: now.")
@click.option("-c", "--comment", metavar="TEXT", help="Why. Required.")
@click.option("-a", "--by", metavar="NAME", help="Who. Default: you.")
@reaching
@_ALERTMANAGER
@click.option("--json", "as_json", is_flag=True, help="The id as JSON, for programs.")
def silence_add(
    matchers: tuple[str, ...],
    lasting: str | None,
    until: str | None,
    start: str | None,
    comment: str | None,
    by: str | None,
    url: str | None,
    alertmanager: str | None,
    as_json: bool,
) -> None:
    """Silence the alerts that all MATCHERs mean.

    A MATCHER is LABEL=VALUE, or with !=, =~ or !~; the first may be an alert's name alone:

    \b
    gpumon silence add GpuTooHot gpu=3 --for 2h --comment "fan is replaced"
    """
    from monitor.commands.silence import Where, add

    code = add(
        Where(url, alertmanager),
        matchers,
        comment=comment,
        by=by,
        lasting=lasting,
        until=until,
        start=start,
        as_json=as_json,
    )
    sys.exit(code)


@silence.command("list")
@click.option("--expired", is_flag=True, help="With those that are over; they are kept for five days.")
@reaching
@_ALERTMANAGER
@click.option("--json", "as_json", is_flag=True, help="As JSON, for programs.")
def silence_list(expired: bool, url: str | None, alertmanager: str | None, as_json: bool) -> None:
    """List the silences."""
    from monitor.commands.silence import Where, show

    sys.exit(show(Where(url, alertmanager), expired=expired, as_json=as_json))


@silence.command("expire")
@click.argument("idents", nargs=-1, required=True, metavar="ID...")
@reaching
@_ALERTMANAGER
def silence_expire(idents: tuple[str, ...], url: str | None, alertmanager: str | None) -> None:
    """End silences now, by their ids or how those begin."""
    from monitor.commands.silence import Where, expire

    sys.exit(expire(Where(url, alertmanager), idents))


@cli.group()
def notify() -> None:
    """Try whether notifications arrive."""


@notify.command("test")
@click.argument("receiver", required=False)
@reaching
@click.option("--json", "as_json", is_flag=True, help="As JSON, for programs.")
def notify_test(receiver: str | None, url: str | None, as_json: bool) -> None:
    """Send a test to RECEIVER, or to each, and say what came back.

    Exits 1 where a target did not take it.
    """
    from monitor.commands.notify import test

    sys.exit(test(url, receiver, as_json=as_json))


@cli.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE…")
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


@cli.group()
def test() -> None:
    """Try whether rules do what they should."""


@test.command("rules")
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False), metavar="FILE…")
@click.option("--run", "names", multiple=True, metavar="REGEX", help="Only tests with such a name; may be given again.")
@click.option("--diff", is_flag=True, help="Show alerts that differ as a coloured difference.")
@click.option("--debug", is_flag=True, help="Tell of each test how long it took, and all of its samples.")
@click.option("--junit", "junit_file", type=click.Path(path_type=Path), metavar="FILE", help="Write JUnit's XML, too.")
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


@cli.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RULES.yaml…")
@click.option("--since", default="24h", show_default=True, metavar="TIME", help="How far back: 24h, 7d, or a time.")
@click.option("--until", metavar="TIME", help="Until when: 18:00, 2026-11-21T18:00. Default: now.")
@click.option(
    "--rules",
    "old_files",
    multiple=True,
    type=click.Path(path_type=Path),
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
    type=click.Path(path_type=Path),
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


@cli.command()
@reaching
@click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="gpumon.yaml. Default: the service's, where there is one.",
)
@click.option("--json", "as_json", is_flag=True, help="As JSON, for programs.")
def doctor(url: str | None, config_path: Path | None, as_json: bool) -> None:
    """Look at driver, rights, vLLM, receivers, clock, disk and ports; say what to do about each.

    Exits 1 when there is a problem; a warning is none.
    """
    from monitor.commands.doctor import run

    sys.exit(run(config_path, url, as_json=as_json))


@cli.command()
@click.option("--markdown", is_flag=True, help="The page docs/series.md.")
def series(markdown: bool) -> None:
    """List every series that gpumon exports: name, type, unit and labels."""
    from monitor.commands.series import run

    sys.exit(run(markdown=markdown))


@cli.group()
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


class _Probes(click.Group):
    """Its commands are made from the workloads, when one is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._made())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return self._made().get(cmd_name)

    def _made(self) -> dict[str, click.Command]:
        from monitor.commands.probe_group import commands

        return commands()


@cli.group(cls=_Probes)
def probe() -> None:
    """Load a server and measure it: how fast can it go, and why no faster.

    `gpumon probe suite --quick` gives a baseline in two minutes. Exits 0 done, 1 failed or does not count, 2 a bad
    command line, 3 the server has other work and nothing was sent, 130 cancelled.
    """


@cli.group()
def service() -> None:
    """The daemon as a systemd service."""


_PREFIX = click.option(
    "--prefix",
    type=click.Path(path_type=Path),
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
def service_status() -> None:
    """Say how it is. Exits 1 where it does not run."""
    from monitor.commands.service import System, status

    sys.exit(status(System()))


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


cli.add_command(plan)


def main() -> None:
    """Run the command line; a pipe that the reader closed and a Ctrl-C end it quietly."""
    try:
        result: Any = cli.main(prog_name="gpumon", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort:
        sys.exit(130)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # What is still buffered for the closed pipe must not fail again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    sys.exit(result if isinstance(result, int) else 0)
