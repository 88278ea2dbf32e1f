"""``gpumon probe profile``: a server's torch profiler, by the daemon, or from here where there is none."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal

import click

from monitor.client.access import secret
from monitor.client.api import Client
from monitor.client.discover import find
from monitor.client.errors import ClientError
from monitor.client.probes import Probes, ProfileRequest
from monitor.probes.errors import ProbeError
from monitor.probes.profiler import Profiler, stop
from monitor.probes.profiles import posting
from monitor.probes.schema import Secrets
from monitor.probes.servers import address


def run(
    daemon: str | None, action: str, url: str, server: str, seconds: float, api_key_file: str | None, *, here: bool
) -> int:
    """Start or stop it; 0, or 1 where that cannot be."""
    try:
        key = secret(api_key_file) if api_key_file else (os.environ.get("OPENAI_API_KEY") if url else None)
        found = None if here else find(daemon)
        if found is None:
            if server or not url:
                raise ClientError("without a daemon the server's address is needed", "--url", "http://127.0.0.1:8000")
            return asyncio.run(_here(action, address(url), Secrets(key), seconds))
        asked = ProfileRequest(action, server, url, seconds, Secrets(key))
        return asyncio.run(_ask(found.target, asked))
    except (ClientError, ProbeError) as error:
        click.echo(f"gpumon probe profile {action}: {error}", err=True)
        return 1


async def _ask(target: str, asked: ProfileRequest) -> int:
    async with Client(target) as client:
        answer = await Probes(client).profile(asked)
    click.echo(f"{answer.server}: {answer.text}")
    return 0


async def _here(action: str, url: str, secrets: Secrets, seconds: float) -> int:
    async with posting(url, secrets) as post:
        if action == "stop":
            click.echo((await stop(post)).strip() or "stopped; the server's log says where the trace is")
            return 0
        profiler = Profiler(post, seconds, url, said=lambda text, level: click.echo(text, err=True))
        loop = asyncio.get_running_loop()
        over = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, over.set)
        await profiler.begin()
        waiting = asyncio.create_task(over.wait())
        ended = asyncio.create_task(profiler.wait())
        await asyncio.wait({waiting, ended}, return_when=asyncio.FIRST_COMPLETED)
        await profiler.end()
        waiting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await waiting
        await ended
        if profiler.error:
            raise ProbeError(profiler.error)
        click.echo(profiler.told or "stopped")
        return 0
