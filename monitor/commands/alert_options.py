"""The options of ``gpumon alerts``, ``silence`` and ``notify``. What they do is loaded when they run."""

from __future__ import annotations

import sys

import click

from monitor.commands.access_options import reaching
from monitor.commands.groups import InOrder
from monitor.commands.option_types import Name

_ALERTMANAGER = click.option(
    "--alertmanager", metavar="URL", help="An Alertmanager, http://HOST:9093, instead of a daemon's own silences."
)


@click.command()
@reaching
@_ALERTMANAGER
@click.option("--all", "everything", is_flag=True, help="With those that are silenced, inhibited or of severity none.")
@click.option("--json", "as_json", is_flag=True, help="All of them as JSON, for programs.")
def alerts(url: str | None, alertmanager: str | None, everything: bool, as_json: bool) -> None:
    """List what fires, what is about to, and what is kept back."""
    from monitor.commands.alerts import run

    sys.exit(run(url, alertmanager, everything=everything, as_json=as_json))


@click.group(cls=InOrder)
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
@click.option("--json", "as_json", is_flag=True, help="What was ended as JSON, for programs.")
def silence_expire(idents: tuple[str, ...], url: str | None, alertmanager: str | None, as_json: bool) -> None:
    """End silences now, by their ids or how those begin.

    Exits 1 where one could not be ended; the others are.
    """
    from monitor.commands.silence import Where, expire

    sys.exit(expire(Where(url, alertmanager), idents, as_json=as_json))


@click.group()
def notify() -> None:
    """Try whether notifications arrive."""


@notify.command("test")
@click.argument("receiver", type=Name(), required=False)
@reaching
@click.option("--json", "as_json", is_flag=True, help="As JSON, for programs.")
def notify_test(receiver: str | None, url: str | None, as_json: bool) -> None:
    """Send a test to RECEIVER, or to each, and say what came back.

    Exits 1 where a target did not take it.
    """
    from monitor.commands.notify import test

    sys.exit(test(url, receiver, as_json=as_json))
