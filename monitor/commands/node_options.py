"""The options of ``gpumon tui``, ``daemon``, ``demo`` and ``doctor``. What they do is loaded when they run."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from monitor.commands.access_options import reaching, reaching_several
from monitor.commands.option_types import FilePath, Number

if TYPE_CHECKING:
    from monitor.sources.hardware import Hardware


def _hardware(context: click.Context, option: click.Parameter, value: str | None) -> Hardware | None:
    from monitor.sources.hardware import parse

    try:
        return None if value is None else parse(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@click.command()
@reaching_several
@click.option(
    "--nodes",
    "nodes_file",
    type=FilePath(path_type=Path),
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


@click.command()
@click.option("--config", "config_path", type=FilePath(path_type=Path), metavar="FILE", help="gpumon.yaml.")
@click.option(
    "--rules",
    "rule_paths",
    multiple=True,
    type=FilePath(path_type=Path),
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
@click.option("--socket", "socket_path", type=FilePath(path_type=Path), metavar="PATH", help="The unix socket.")
@click.option(
    "--listen",
    metavar="HOST:PORT",
    help="The TCP listener; `none` for none. Beyond loopback only where `api:` of the configuration has a token.",
)
@click.option("--state-dir", type=FilePath(path_type=Path), metavar="DIR", help="Where state is kept.")
@click.option("--simulate", is_flag=True, help="Simulated GPUs and a simulated vLLM; nothing real is read.")
@click.option(
    "--speed",
    type=Number(0.1, 100),
    default=1.0,
    show_default=True,
    help="With --simulate: how fast the node's clock runs.",
)
@click.option(
    "--past",
    type=Number(0, 3600),
    default=0.0,
    metavar="SECONDS",
    help="With --simulate: past to begin with.",
)
@click.option(
    "--hardware",
    callback=_hardware,
    metavar="NxMODEL",
    help="With --simulate: what GPUs, as 4xL40S. Default: 8xH200.",
)
@click.option("--private", is_flag=True, help="For one user's TUIs: no TCP, no notifications, ends by itself.")
@click.option("--mode", type=click.Choice(["system", "private", "demo"]), hidden=True)
@click.option("-v", "--verbose", is_flag=True, help="Log more.")
@click.option(
    "--log-format",
    type=click.Choice(["auto", "text", "json", "journal"]),
    help="Default: $GPUMON_LOG_FORMAT, else auto: text on a terminal, the journal's fields under systemd, else JSON.",
)
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
    hardware: Hardware | None,
    private: bool,
    mode: str | None,
    verbose: bool,
    log_format: str | None,
) -> None:
    """Watch this node: read, evaluate rules, notify, serve.

    SIGHUP reads the configuration again; a bad file changes nothing. SIGTERM and Ctrl-C end it.
    """
    from monitor.commands.daemon import start

    if (speed != 1.0 or past) and not simulate:
        raise click.UsageError("--speed and --past are for --simulate: a real node has the world's clock")
    if hardware is not None and not simulate:
        raise click.UsageError("--hardware is for --simulate: a real node has the GPUs that it has")
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
        hardware=hardware,
        mode=mode or ("private" if private else "system"),
        verbose=verbose,
        log_format=log_format or "",
    )


@click.command()
@click.option("--speed", type=Number(1, 60), default=10.0, show_default=True, help="How fast the clock runs.")
@click.option("--text", is_flag=True, help="Print instead of drawing, as where there is no terminal.")
@click.option("--hardware", callback=_hardware, metavar="NxMODEL", help="What GPUs, as 4xL40S. Default: 8xH200.")
def demo(speed: float, text: bool, hardware: Hardware | None) -> None:
    """The whole thing with simulated GPUs and a simulated vLLM. Needs nothing.

    In a terminal it opens the TUI. Without one it prints what the TUI would show, until a shipped rule has fired and
    resolved.
    """
    from monitor.commands.demo import run

    terminal = sys.stdin.isatty() and sys.stdout.isatty()
    sys.exit(run(speed, text=text or not terminal, hardware=str(hardware or "")))


@click.command()
@reaching
@click.option(
    "--config",
    "config_path",
    type=FilePath(path_type=Path),
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
