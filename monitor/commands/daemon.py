"""``gpumon daemon``: from a command line to a running daemon."""

from __future__ import annotations

import contextlib
import ctypes
import resource
import sys
from collections.abc import Callable
from pathlib import Path

import click

from monitor import logs
from monitor.config import Config, ConfigError, loads, parse_listen, why_not_listen
from monitor.config import load as load_config
from monitor.records import replace
from monitor.sources.hardware import Hardware
from monitor.yaml_reader import Problem

_FILES = 4096
"""Files that the daemon may have open: its servers, its clients, and what it reads."""
_FEWEST_FILES = 64
_M_ARENA_MAX = -8
"""From <malloc.h>."""


def start(
    *,
    config_path: Path | None,
    rule_paths: tuple[Path, ...],
    vllm_urls: tuple[str, ...],
    socket_path: Path | None,
    listen: str | None,
    state_dir: Path | None,
    simulate: bool,
    speed: float,
    past_seconds: float,
    hardware: Hardware | None = None,
    mode: str,
    verbose: bool,
    log_format: str = "",
) -> None:
    """Run a daemon until it is told to end; exits 1 with what is wrong where it cannot."""
    try:
        logs.set_up(log_format, verbose=verbose)
    except ValueError as error:
        raise click.UsageError(str(error)) from None

    def read() -> Config:
        config = load_config(config_path) if config_path else loads("")
        config = _with_servers(config, vllm_urls)
        config = _with_places(config, mode, socket_path, listen, state_dir)
        return replace(config, rule_files=rule_paths) if rule_paths else config

    try:
        _run(read, str(config_path or "gpumon.yaml"), mode, simulate, speed, past_seconds, hardware)
    except ConfigError as error:
        for problem in error.problems:
            click.echo(problem, err=True)
        sys.exit(1)


def _run(
    read: Callable[[], Config],
    file: str,
    mode: str,
    simulate: bool,
    speed: float,
    past_seconds: float,
    hardware: Hardware | None,
) -> None:
    # httpx brings its own command line where rich is installed, as it is for our screens: 5 MB that a daemon never
    # needs. Where that module cannot be had, httpx goes on without.
    sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]
    # The loop gives the interpreter away with each call of the system, and a thread that computes a query for a
    # dashboard keeps it for the whole of the default of 5 ms: a scrape of four such calls then takes 20 ms.
    sys.setswitchinterval(0.0005)
    _keep_one_arena()
    _take_files()
    from monitor.api.server import CannotListen
    from monitor.daemon import Options, run
    from monitor.notify.outbox import OutboxRefused
    from monitor.reloading import said_if_slow
    from monitor.state_lock import StateInUse

    try:
        with said_if_slow(file):
            config = read()
        run(config, Options(mode, read, simulate, speed, past_seconds, hardware, file))
    except (CannotListen, StateInUse, OutboxRefused) as error:
        click.echo(f"gpumon: {error}", err=True)
        sys.exit(1)


def _keep_one_arena() -> None:
    """Have malloc serve all threads from one heap. glibc gives each another, up to eight for each core of the machine,
    and keeps what each had at its worst: threads here come and go, and a daemon of months would hold the peaks of all
    of them. They seldom run at the same time, so that one heap is enough."""
    with contextlib.suppress(OSError, AttributeError):  # a C library without it has no such heaps
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)


def _take_files() -> None:
    """Have as many files open as may be; exits 1 where those are too few to watch anything."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _FILES if hard == resource.RLIM_INFINITY else min(hard, _FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    if most < _FEWEST_FILES:
        click.echo(
            f"gpumon: at most {most} files may be open here, and it needs {_FEWEST_FILES}, and one more for each "
            "server and client: raise the limit (`ulimit -Hn`, or `LimitNOFILE=` of the unit)",
            err=True,
        )
        sys.exit(1)


def _with_servers(config: Config, urls: tuple[str, ...]) -> Config:
    """The configured servers and those of the command line."""
    if not urls:
        return config
    listed = ", ".join(f'"{url}"' for url in urls)
    more = loads(f"node: {{hostname: '{config.hostname}'}}\nsources: {{vllm: {{servers: [{listed}]}}}}", "--vllm")
    known = {server.server for server in config.vllm_servers}
    return replace(
        config,
        vllm_servers=(*config.vllm_servers, *(s for s in more.vllm_servers if s.server not in known)),
    )


def _with_places(
    config: Config, mode: str, socket_path: Path | None, listen: str | None, state_dir: Path | None
) -> Config:
    """Where the daemon answers and keeps its state: as the command line says, else as the configuration does, else, for
    a private one, in the user's own directories."""
    api = config.api
    if mode == "private":
        from monitor.client.discover import user_socket, user_state

        api = replace(api, socket=user_socket(), listen=None)
        config = replace(config, state_directory=user_state())
    if socket_path is not None:
        api = replace(api, socket=socket_path.absolute())
    if listen is not None:
        try:
            api = replace(api, listen=None if listen == "none" else parse_listen(listen))
        except ValueError as error:
            raise ConfigError([Problem("--listen", 1, 1, str(error))]) from None
        if why := why_not_listen(api):
            raise ConfigError([Problem("--listen", 1, 1, why)])
    if state_dir is not None:
        config = replace(config, state_directory=state_dir.absolute())
    return replace(config, api=api)
