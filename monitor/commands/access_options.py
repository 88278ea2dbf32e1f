"""The options that say which server a command asks, and how one gets in to it. Secrets come from files and the
environment: what stands on a command line, everybody on the machine can read."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any, TypeVar

import click

from monitor.commands.option_types import FilePath

F = TypeVar("F", bound=Callable[..., Any])

URL_HELP = "A daemon or a Prometheus: http://HOST:PORT or unix:/PATH. Default: $GPUMON_URL, the system's daemon, yours."

_OPTIONS = (
    click.option(
        "--token-file", type=FilePath(), metavar="FILE", help="The token that the server wants. Default: $GPUMON_TOKEN."
    ),
    click.option("--user", metavar="NAME", help="For basic authentication; the password is $GPUMON_PASSWORD."),
    click.option("--password-file", type=FilePath(), metavar="FILE", help="The password of --user."),
    click.option(
        "--ca", type=FilePath(), metavar="FILE", help="The certificates (PEM) that the server's has to come from."
    ),
    click.option("--cert", type=FilePath(), metavar="FILE", help="Our own certificate, where the server wants one."),
    click.option("--key", type=FilePath(), metavar="FILE", help="The key of --cert."),
    click.option("--insecure", is_flag=True, help="Take any certificate for the server's."),
    click.option(
        "--header", "headers", multiple=True, metavar="'NAME: VALUE'", help="As X-Scope-OrgID; again for more."
    ),
)
_NAMES = ("token_file", "user", "password_file", "ca", "cert", "key", "insecure", "headers")


def reaching(command: F) -> F:
    """Give a command ``--url`` and these options; it gets ``url``, an address that knows how one gets in, or None."""

    @functools.wraps(command)
    def run(*args: Any, url: str | None, **given: Any) -> Any:
        access = {name: given.pop(name) for name in _NAMES}
        return command(*args, url=addressed(url, access), **given)

    return click.option("--url", metavar="URL", help=URL_HELP)(_with_options(run))  # type: ignore[return-value]


def reaching_several(command: F) -> F:
    """The same for a command that gets ``urls``, a list of addresses; empty where none was named."""

    @functools.wraps(command)
    def run(*args: Any, urls: tuple[str, ...], **given: Any) -> Any:
        access = {name: given.pop(name) for name in _NAMES}
        named: list[str | None] = [*dict.fromkeys(urls)] or [None]
        addresses = [one for url in named if (one := addressed(url, access)) is not None]
        return command(*args, urls=addresses, **given)

    several = click.option("--url", "urls", multiple=True, metavar="URL", help=URL_HELP + " Again for a fleet.")
    return several(_with_options(run))  # type: ignore[return-value]


def _with_options(run: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(_OPTIONS):
        run = option(run)
    return run


def addressed(url: str | None, access: dict[str, Any]) -> Any:
    """The address that was named, with its access. Raises ``click.ClickException``."""
    if not any(access.values()):
        return url
    from monitor.client.access import Address, load
    from monitor.client.errors import ClientError

    named = url or os.environ.get("GPUMON_URL")
    if not named:
        raise click.UsageError("these options are for a server over TCP: name it with --url")
    if named.startswith("unix:"):
        raise click.UsageError(f"{named}: a unix socket asks for none of these options: its file has the rights")
    try:
        files = {name: value or "" for name, value in access.items() if name not in ("insecure", "headers")}
        known = load(insecure=access["insecure"], headers=access["headers"], **files)
        known.tls()
        return Address(named, known)
    except ClientError as error:
        raise click.ClickException(str(error)) from None
