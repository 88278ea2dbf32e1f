"""The commands of ``gpumon probe``. Loaded when one of them is asked for: their options are those of the workloads.

Exit codes: 0 done; 1 it failed, or does not count; 2 the command line cannot be meant; 3 the server has other work and
nothing was sent; 130 cancelled.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from monitor.commands.access_options import addressed
from monitor.commands.option_types import FilePath, Name, Number
from monitor.probes.workloads import WORKLOADS, OptionField, Workload

_METAVARS = {
    "int": "N",
    "float": "NUMBER",
    "seconds": "SECONDS",
    "str": "TEXT",
    "ints": "N,N,…",
    "floats": "NUMBER,…",
    "strs": "NAME,…",
}

_DAEMON_HELP = "The daemon: unix:/PATH or http://HOST:PORT. Default: $GPUMON_URL, the system's, yours."

_DAEMON = (
    click.option(
        "--daemon",
        metavar="URL",
        help=_DAEMON_HELP,
    ),
    click.option(
        "--token-file",
        type=FilePath(),
        metavar="FILE",
        help="The token that a daemon over TCP wants. Default: $GPUMON_TOKEN.",
    ),
    click.option(
        "--daemon-ca",
        type=FilePath(),
        metavar="FILE",
        help="The certificates (PEM) that the daemon's has to come from.",
    ),
)

_ITS_DAEMON = (
    click.option("--daemon", "--url", "daemon", metavar="URL", help=_DAEMON_HELP),
    _DAEMON[1],
    click.option(
        "--ca",
        "daemon_ca",
        type=FilePath(),
        metavar="FILE",
        help="The certificates (PEM) that the daemon's has to come from.",
    ),
    click.option("--cert", type=FilePath(), metavar="FILE", help="Our own certificate, where the daemon wants one."),
    click.option("--key", type=FilePath(), metavar="FILE", help="The key of --cert."),
    click.option("--insecure", is_flag=True, help="Take any certificate for the daemon's."),
)
"""Where no other server is meant, ``--url`` is the daemon's, as everywhere, and so is the rest."""

_ACCESS = ("token_file", "daemon_ca", "cert", "key", "insecure")

_COMMON = (
    click.option(
        "--url", metavar="URL", help="The server's address: http://HOST:PORT. Default: the one that the daemon watches."
    ),
    click.option("--server", metavar="NAME", help="A server that the daemon watches, by its label HOST:PORT."),
    click.option("--model", metavar="NAME", default="", help="Default: the server's first."),
    click.option("--name", metavar="NAME", default="", help="What the result is kept as. Default: the workload."),
    click.option(
        "--slo", "slos", metavar="TARGETS", multiple=True, help="As ttft=500ms,tpot=50ms,p99; again for more."
    ),
    click.option("--repeats", type=click.IntRange(1, 100), help="How often each step is measured."),
    click.option(
        "--max-seconds", metavar="SECONDS", help="It ends by itself after so long, with what it has: 90s, 5m."
    ),
    click.option("--seed", type=int, help="Of prompts and arrivals, to repeat a run."),
    click.option("--endpoint", type=click.Choice(["completions", "chat"]), default="completions", show_default=True),
    click.option("--request-timeout", metavar="SECONDS", help="A request is given up after so long. Default: 600."),
    click.option("--stall", metavar="SECONDS", help="A stream without a byte for so long is given up. Default: 60."),
    click.option("-y", "--yes", is_flag=True, help="Load the server even if it has other work."),
    click.option(
        "--gpus", metavar="LIST", help="The server's GPUs, as 0,1 or UUIDs. Default: as the daemon sees them."
    ),
    click.option("--price", type=Number(0), metavar="NUMBER", help="What these GPUs cost in an hour, together."),
    click.option("--currency", metavar="TEXT", default="$", show_default=True),
    click.option("--profile", is_flag=True, help="Have the server's torch profiler run with it."),
    click.option("--profile-seconds", metavar="SECONDS", help="The profiler is stopped after so long. Default: 30."),
    click.option("--accuracy", is_flag=True, help="Ask for the perplexity of a fixed text, too."),
    click.option("--label", "labels", multiple=True, metavar="KEY=VALUE", help="Kept with the result; again for more."),
    click.option(
        "--api-key-file",
        type=FilePath(),
        metavar="FILE",
        help="The server's API key. Default: $OPENAI_API_KEY, where --url is given.",
    ),
    click.option(
        "--ca", type=FilePath(), metavar="FILE", help="The certificates (PEM) that the server's has to come from."
    ),
    click.option("--insecure", is_flag=True, help="Take any certificate for the server's."),
    click.option("--here", is_flag=True, help="In a process of this command's, without a daemon."),
    click.option("--detach", is_flag=True, help="Start it, print its id, and leave it to the daemon."),
    click.option(
        "-o",
        "--output",
        type=FilePath(path_type=Path),
        default=Path("results"),
        show_default=True,
        metavar="DIR",
        help="Where its folder is made.",
    ),
    click.option("--json", "as_json", is_flag=True, help="The result as JSON on standard output."),
    *_DAEMON,
)


def commands() -> dict[str, click.Command]:
    """All of them, in the order in which people need them."""
    found: dict[str, click.Command] = {name: _run_command(one) for name, one in WORKLOADS.items()}
    kept = (_list, _show, _attach, _cancel, _compare, _baseline, _report, _delete, _profile)
    return found | {str(one.name): one for one in kept}


def _with(options: Sequence[Callable[[Any], Any]], command: Any) -> Any:
    for option in reversed(options):
        command = option(command)
    return command


# -- running ---------------------------------------------------------------------------------------------------------


def _run_command(workload: Workload[Any]) -> click.Command:
    fields = workload.fields()

    def run(**given: Any) -> None:
        from monitor.commands.probe_run import Asked, run

        options = {field.name: value for field in fields if (value := given.pop(_key(field))) is not None}
        given["daemon"] = _reached(given.pop("daemon"), token_file=given.pop("token_file"), ca=given.pop("daemon_ca"))
        sys.exit(run(Asked(workload=workload.name, options=options, **given)))

    help_text = f"{workload.summary[0].upper()}{workload.summary[1:]}.\n\n" + _RUN_HELP
    command = click.command(workload.name, help=help_text)(_with([*map(_option, fields), *_COMMON], run))
    assert isinstance(command, click.Command)  # noqa: S101 # it is what click makes
    return command


_RUN_HELP = """A daemon runs it where there is one that may be written to, and goes on where the connection breaks:
`gpumon probe attach` shows it again. Ctrl-C ends it with what it has. Exits 0 when it is done, 1 where it failed or
does not count, 2 for a bad command line, 3 where the server has other work and nothing was sent, 130 when
cancelled."""


def _key(field: OptionField) -> str:
    return f"option_{field.name}"


def _option(field: OptionField) -> Callable[[Any], Any]:
    flag = "--" + field.name.replace("_", "-")
    words = field.help[:1].upper() + field.help[1:] + "."
    if field.kind == "bool":
        words += f" Default: {'yes' if field.default else 'no'}."
        return click.option(f"{flag}/--no{flag[1:]}", _key(field), default=None, help=words)
    default = field.default
    if isinstance(default, list | tuple):
        default = ",".join(f"{one:g}" if isinstance(one, float) else str(one) for one in default)
    elif isinstance(default, float):
        default = f"{default:g}"
    if default not in (None, ""):
        words += f" Default: {default}."
    kind: click.ParamType[Any] | type[str] = click.Choice(field.choices) if field.kind == "choice" else str
    if field.name == "replay":
        kind = FilePath()
    metavar = None if field.kind == "choice" else _METAVARS.get(field.kind, "TEXT")
    return click.option(flag, _key(field), type=kind, default=None, metavar=metavar, help=words)


def _reached(daemon: str | None, **access: Any) -> Any:
    """The daemon that was named, with what it wants to be shown, or None."""
    names = ("token_file", "user", "password_file", "ca", "cert", "key")
    return addressed(daemon, {**dict.fromkeys(names), "insecure": False, "headers": (), **access})


# -- what is kept ----------------------------------------------------------------------------------------------------


def _kept(name: str, *options: Callable[[Any], Any]) -> Callable[[Callable[..., int]], click.Command]:
    """A command on what a daemon keeps: its function gets ``daemon``, and gives the exit code."""

    def make(function: Callable[..., int]) -> click.Command:
        def run(daemon: str | None, **given: Any) -> None:
            access = {name.removeprefix("daemon_"): given.pop(name) for name in _ACCESS if name in given}
            sys.exit(function(_reached(daemon, **access), **given))

        run.__doc__ = function.__doc__
        daemon_options = _DAEMON if name == "profile" else _ITS_DAEMON
        command = click.command(name)(_with([*options, *daemon_options], run))
        assert isinstance(command, click.Command)  # noqa: S101 # it is what click makes
        return command

    return make


_RUN = click.argument("run", type=Name(), metavar="RUN")
_RUN_OR_THE_ONLY_ONE = click.argument("run", type=Name(), required=False, metavar="[RUN]")
_JSON = click.option("--json", "as_json", is_flag=True, help="As JSON, for programs.")


@_kept("list", click.option("-n", "--last", type=click.IntRange(1), default=30, show_default=True), _JSON)
def _list(daemon: Any, *, last: int, as_json: bool) -> int:
    """List the runs: those that are going on, and those that are kept."""
    from monitor.commands import probe_kept

    return probe_kept.show_list(daemon, last, as_json=as_json)


@_kept("show", _RUN, _JSON)
def _show(daemon: Any, *, run: str, as_json: bool) -> int:
    """Show a run: its steps, what was found, its files.

    RUN is an id, how one begins, a baseline's name, or the name that it was kept as: the newest of that name.
    """
    from monitor.commands import probe_kept

    return probe_kept.show(daemon, run, as_json=as_json)


@_kept(
    "attach",
    _RUN_OR_THE_ONLY_ONE,
    click.option(
        "-o", "--output", type=FilePath(path_type=Path), metavar="DIR", help="Copy its files there at the end."
    ),
)
def _attach(daemon: Any, *, run: str | None, output: Path | None) -> int:
    """Show a run that is going on, live; without RUN the only one.

    Ctrl-C leaves it running.
    """
    from monitor.commands import probe_run

    return probe_run.attach(daemon, run, output)


@_kept("cancel", _RUN_OR_THE_ONLY_ONE)
def _cancel(daemon: Any, *, run: str | None) -> int:
    """End a run that is going on; it keeps what it has. Without RUN the only one."""
    from monitor.commands import probe_kept

    return probe_kept.cancel(daemon, run)


@_kept(
    "compare",
    click.argument("before", type=Name(), metavar="A"),
    click.argument("after", type=Name(), metavar="B"),
    click.option(
        "--fail-if",
        "conditions",
        multiple=True,
        metavar="CONDITION",
        help="Exit 1 where it holds, as 'ttft_p99 > +10%'; again for more.",
    ),
    click.option("--significant", is_flag=True, help="With --fail-if: what may be noise does not count."),
    click.option("--json", "form", flag_value="json", help="As JSON, for programs."),
    click.option("--markdown", "form", flag_value="markdown", help="As Markdown, for a pull request."),
    click.option("--all", "every", is_flag=True, help="Every figure of each step, not only the main ones."),
)
def _compare(
    daemon: Any,
    *,
    before: str,
    after: str,
    conditions: tuple[str, ...],
    form: str | None,
    significant: bool,
    every: bool,
) -> int:
    """Compare two results: each figure, its change, and whether it is more than noise.

    A and B are folders of results, files that `vllm bench serve` wrote, or what the daemon keeps: ids, names of
    baselines, names of runs. Exits 1 where a --fail-if holds, 2 where A or B is nothing that can be compared.
    """
    from monitor.commands import probe_compare

    return probe_compare.run(daemon, before, after, conditions, form or "text", significant=significant, every=every)


@_kept("baseline", _RUN, click.argument("name", type=Name(), required=False, metavar="[NAME]"))
def _baseline(daemon: Any, *, run: str, name: str | None) -> int:
    """Make a result the baseline NAME, which later runs are held against; without NAME, none any more."""
    from monitor.commands import probe_kept

    return probe_kept.baseline(daemon, run, name or "")


@_kept(
    "report",
    _RUN,
    click.option("-o", "--output", type=FilePath(path_type=Path), metavar="DIR", help="Copy all of its files there."),
    click.option("--html", is_flag=True, help="The report as HTML, on standard output."),
    click.option(
        "--png",
        type=FilePath(path_type=Path),
        metavar="DIR",
        help="Draw the plots as PNG there; needs the extra: pip install 'gpumon-node[report]'.",
    ),
)
def _report(daemon: Any, *, run: str, output: Path | None, html: bool, png: Path | None) -> int:
    """Print a run's report, Markdown, or copy its files.

    RUN is a folder of results, or what the daemon keeps.
    """
    if png is not None:
        from monitor.commands import probe_png

        return probe_png.run(daemon, run, png)
    from monitor.commands import probe_kept

    return probe_kept.report(daemon, run, output, html=html)


@_kept("delete", click.argument("runs", type=Name(), metavar="RUN…", nargs=-1, required=True))
def _delete(daemon: Any, *, runs: tuple[str, ...]) -> int:
    """Delete results that the daemon keeps, with their files."""
    from monitor.commands import probe_kept

    return probe_kept.delete(daemon, runs)


@_kept(
    "profile",
    click.argument("action", type=click.Choice(["start", "stop"])),
    click.option("--url", metavar="URL", default="", help="The server's address."),
    click.option("--server", metavar="NAME", default="", help="A server that the daemon watches."),
    click.option("--seconds", type=Number(1, 600), default=30.0, show_default=True, help="It is stopped then."),
    click.option(
        "--api-key-file",
        type=FilePath(),
        metavar="FILE",
        help="The server's API key. Default: $OPENAI_API_KEY, with --url.",
    ),
    click.option("--here", is_flag=True, help="From this command, which then waits; without a daemon."),
)
def _profile(
    daemon: Any, *, action: str, url: str, server: str, seconds: float, api_key_file: str | None, here: bool
) -> int:
    """Start or stop a server's torch profiler, which has to be switched on in it."""
    from monitor.commands import probe_profile

    return probe_profile.run(daemon, action, url, server, seconds, api_key_file, here=here)
