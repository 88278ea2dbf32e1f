"""``gpumon probe latency`` and the others: have a run done by a daemon, or by a process of our own where there is none
that may be asked; show it; and bring its files here."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import msgspec

from monitor.client.access import secret
from monitor.client.api import Client
from monitor.client.discover import find
from monitor.client.errors import ClientError, Refused
from monitor.client.probes import Listing, Probes
from monitor.client.slos import SloError, parse_slos
from monitor.commands import probe_view
from monitor.commands.for_programs import json_text
from monitor.commands.probe_following import Daemons, Following, Own
from monitor.commands.probe_view import View
from monitor.durations import parse_duration_ms
from monitor.probes.errors import BadOptions
from monitor.probes.kept import NoSuchRun
from monitor.probes.names import resolve
from monitor.probes.schema import ENDED, RunDetail, Secrets, Slo, Spec, WorkloadName
from monitor.probes.servers import address
from monitor.probes.workloads import workload

DONE, FAILED, WRONG, BUSY, CANCELLED = 0, 1, 2, 3, 130
_DEFAULT_URL = "http://127.0.0.1:8000"


class Wrong(Exception):
    """A command line that cannot be meant."""


class Left(Exception):
    """Somebody went, and the run goes on."""


@dataclass(frozen=True, slots=True)
class Asked:
    """The command line."""

    workload: WorkloadName
    options: dict[str, Any]
    url: str | None = None
    server: str | None = None
    model: str = ""
    name: str = ""
    slos: tuple[str, ...] = ()
    repeats: int | None = None
    max_seconds: str | None = None
    seed: int | None = None
    endpoint: str = "completions"
    request_timeout: str | None = None
    stall: str | None = None
    yes: bool = False
    gpus: str | None = None
    price: float | None = None
    currency: str = "$"
    profile: bool = False
    profile_seconds: str | None = None
    accuracy: bool = False
    labels: tuple[str, ...] = ()
    api_key_file: str | None = None
    ca: str | None = None
    insecure: bool = False
    here: bool = False
    detach: bool = False
    output: Path = Path("results")
    as_json: bool = False
    daemon: str | None = None

    def spec(self) -> Spec:
        """What is to be run. Raises ``Wrong``."""
        options = dict(self.options)
        if replay := options.get("replay"):
            options["replay"] = os.path.abspath(str(replay))  # a daemon stands elsewhere
        try:
            parsed = msgspec.to_builtins(workload(self.workload).parse(options))
            url = address(self.url) if self.url else ""
            slos: tuple[Slo, ...] = tuple(slo for text in self.slos for slo in parse_slos(text))
        except (BadOptions, SloError) as error:
            raise Wrong(str(error)) from None
        if self.url and self.server:
            raise Wrong("give --url or --server, not both")
        spec = Spec(
            self.workload,
            url,
            self.server or "",
            self.model,
            self.name,
            {name: parsed[name] for name in options},
            slos,
            self.repeats,
            _seconds("--max-seconds", self.max_seconds),
            self.seed,
            endpoint="chat" if self.endpoint == "chat" else "completions",
            yes=self.yes,
            gpus=tuple(part.strip() for part in (self.gpus or "").split(",") if part.strip()),
            price_per_hour=self.price,
            currency=self.currency,
            profile=self.profile,
            accuracy=self.accuracy,
            labels=dict(map(_label, self.labels)),
        )
        for field, option, text in (
            ("request_timeout_s", "--request-timeout", self.request_timeout),
            ("stall_s", "--stall", self.stall),
            ("profile_seconds", "--profile-seconds", self.profile_seconds),
        ):
            if (value := _seconds(option, text)) is not None:
                spec = msgspec.structs.replace(spec, **{field: value})
        return spec

    def secrets(self) -> Secrets:
        """What lets one in to the server. Raises ``ClientError``. The environment's key is for an address that was
        named: a server that the daemon knows has its own."""
        key = secret(self.api_key_file) if self.api_key_file else None
        if key is None and self.url:
            key = os.environ.get("OPENAI_API_KEY") or None
        return Secrets(key, ca_file=os.path.abspath(self.ca) if self.ca else None, insecure_skip_verify=self.insecure)


def _seconds(option: str, text: str | None) -> float | None:
    if text is None:
        return None
    ms = parse_duration_ms(text)
    try:
        value = ms / 1000 if ms is not None else float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < 1e9:
        raise Wrong(f"{option}: {text!r} is no length of time: write 90, 90s or 5m")
    return value


def _label(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise Wrong(f"--label: {text!r} is not KEY=VALUE")
    return key.strip(), value.strip()


def run(asked: Asked) -> int:
    """Have it run; the exit code."""
    return _guarded(_run(asked), asked.workload)


def attach(daemon: str | None, name: str | None, output: Path | None) -> int:
    """Show a run of the daemon's until it has ended; the exit code."""
    return _guarded(_attach(daemon, name, output), "attach")


def _guarded(work: Any, what: str) -> int:
    try:
        code: int = asyncio.run(work)
    except Wrong as error:
        click.echo(f"gpumon probe {what}: {error}", err=True)
        return WRONG
    except Left:
        return CANCELLED
    except ClientError as error:
        click.echo(f"gpumon probe {what}: {error}", err=True)
        return WRONG if isinstance(error, Refused) and error.status == 400 else FAILED
    except OSError as error:
        click.echo(f"gpumon probe {what}: {error.filename or 'a file'}: {error.strerror or error}", err=True)
        return FAILED
    return code


async def _run(asked: Asked) -> int:
    spec, secrets = asked.spec(), asked.secrets()
    async with contextlib.AsyncExitStack() as stack:
        following: Following
        client = None if asked.here else await _daemon(asked, stack)
        if client is None:
            if asked.detach:
                raise Wrong("--detach leaves a run to a daemon, and there is none: start one with `gpumon daemon`")
            if spec.server:
                raise Wrong("--server names one that a daemon watches, and there is none here: give --url")
            if not spec.url:
                spec = msgspec.structs.replace(spec, url=_DEFAULT_URL)
            if not asked.url and secrets.api_key is None:
                secrets = msgspec.structs.replace(secrets, api_key=os.environ.get("OPENAI_API_KEY") or None)
            following = Own(spec, secrets, asked.output)
        else:
            following = Daemons(client, spec, secrets)
        while True:
            await following.start()
            if asked.detach:
                click.echo(following.id)
                return DONE
            detail = await _follow(following, quiet=asked.as_json)
            if detail.row.state != "busy" or spec.yes or not _load_it_all_the_same(detail):
                break
            following = following.again()
        return await _finish(detail, following, asked)


def _load_it_all_the_same(detail: RunDetail) -> bool:
    if not probe_view.is_terminal():
        return False
    click.echo(detail.row.error, err=True)
    return click.confirm("Load it all the same?", default=False, err=True)


async def _attach(daemon: str | None, name: str | None, output: Path | None) -> int:
    async with contextlib.AsyncExitStack() as stack:
        client = await stack.enter_async_context(Client(target(daemon)))
        row = await running(Probes(client), name)
        following = Daemons(client, Spec(row.workload, ""), Secrets())
        following.id = row.id
        detail = await _follow(following, quiet=False, leave=True)
        probe_view.summary(detail)
        if output is not None and (folder := await following.bring(detail, output)) is not None:
            click.echo(f"files: {folder}")
        return exit_code(detail)


async def running(probes: Probes, name: str | None) -> Any:
    """The row of a run by its name; the only one that runs where there is no name: an empty one is a mistake.
    Raises ``Wrong``."""
    if name is not None and not name.strip():
        raise Wrong("the name is empty: write a run's id or name")
    rows = (await probes.listing()).runs
    if name is not None:
        try:
            return resolve(rows, name)
        except NoSuchRun as error:
            raise Wrong(str(error)) from None
    going = [row for row in rows if row.state not in ENDED]
    if len(going) != 1:
        names = ", ".join(row.id for row in going)
        raise Wrong(f"say which run: {names}" if going else "no run is going on")
    return going[0]


def target(daemon: str | None) -> str:
    """The daemon's address. Raises ``ClientError`` where there is none."""
    found = find(daemon)
    if found is None:
        raise ClientError(
            "no daemon runs here", "this node", "Start one with `gpumon daemon`, or name one with --daemon"
        )
    return found.target


async def _daemon(asked: Asked, stack: contextlib.AsyncExitStack) -> Client | None:
    """A client of the daemon that is to run it; None where there is none that may be asked, and none was named. Raises
    ``ClientError`` where the one that was named cannot."""
    found = None
    try:
        found = find(asked.daemon)
        if found is None:
            return None
        client = await stack.enter_async_context(Client(found.target))
        if "probes" not in (await client.capabilities()).features:
            raise ClientError("it runs no probes", found.target, "It is a Prometheus, or an older gpumon: --here does")
        listing: Listing = await Probes(client).listing()
        if listing.refusal:
            raise ClientError(listing.refusal, found.target)
    except ClientError as error:
        if asked.server or asked.detach or (found is None and asked.daemon) or _named(asked.daemon):
            raise
        click.echo(f"it runs here, in a process of this command's, since the daemon cannot be asked: {error}", err=True)
        return None
    return client


def _named(daemon: str | None) -> bool:
    return bool(daemon or os.environ.get("GPUMON_URL"))


# -- following it ----------------------------------------------------------------------------------------------------


async def _follow(following: Following, *, quiet: bool, leave: bool = False) -> RunDetail:
    """Show it until it has ended. Ctrl-C cancels it, the second one leaves; ``leave``: the first does. Raises
    ``Left``."""
    loop = asyncio.get_running_loop()
    interrupts = 0
    tasks: set[asyncio.Task[None]] = set()
    left = asyncio.Event()

    with probe_view.view(quiet=quiet) as view:

        def interrupt() -> None:
            nonlocal interrupts
            interrupts += 1
            if leave or interrupts > 1:
                left.set()
                return
            view.say("cancelling: it keeps what it has; Ctrl-C again leaves", "warning")
            tasks.add(asyncio.create_task(following.cancel()))

        def hang_up() -> None:
            if following.owned:
                interrupt()
            else:
                left.set()

        loop.add_signal_handler(signal.SIGINT, interrupt)
        loop.add_signal_handler(signal.SIGTERM, hang_up)
        loop.add_signal_handler(signal.SIGHUP, hang_up)
        watching = asyncio.create_task(_watch(following, view))
        leaving = asyncio.create_task(left.wait())
        try:
            await asyncio.wait([watching, leaving], return_when=asyncio.FIRST_COMPLETED)
            if watching.done():
                return watching.result()
        finally:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                loop.remove_signal_handler(number)
            for task in (watching, leaving, *tasks):
                task.cancel()
            await asyncio.gather(watching, leaving, *tasks, return_exceptions=True)
    if following.owned:
        click.echo("left: it was told to end, and keeps what it has", err=True)
        sys.stdout.flush()
        # At once: an orderly end would kill the process, which writes what it has when its standard input ends.
        os._exit(CANCELLED)
    else:
        said = "it goes on" if not interrupts or leave else "it was told to end"
        click.echo(f"left: {said}; see it with `gpumon probe attach {following.id}`", err=True)
    raise Left


async def _watch(following: Following, view: View) -> RunDetail:
    detail: RunDetail | None = None
    async for detail in following.details(view):
        view.show(detail)
    assert detail is not None  # noqa: S101 # its end comes at least
    return detail


async def _finish(detail: RunDetail, following: Following, asked: Asked) -> int:
    folder = await following.bring(detail, asked.output)
    if asked.as_json:
        told = msgspec.to_builtins(detail) | {"folder": str(folder) if folder is not None else None}
        click.echo(json_text(told))
    else:
        probe_view.summary(detail)
        if folder is not None:
            click.echo(f"\nfiles: {folder}")
            if not following.owned:
                click.echo(f"kept as {following.id}: gpumon probe show {following.id}")
    return exit_code(detail)


def exit_code(detail: RunDetail) -> int:
    """What a run's end is for a shell."""
    row = detail.row
    if row.state == "done":
        # Without files they could not be written, on a full disk: what was asked for is lost.
        return DONE if row.valid and detail.files else FAILED
    return {"busy": BUSY, "cancelled": CANCELLED}.get(row.state, FAILED)
