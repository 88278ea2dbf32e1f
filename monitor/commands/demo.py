"""``gpumon demo``: a daemon with simulated GPUs and a simulated vLLM, and a look at it.

In a terminal that is the TUI. Elsewhere what the TUI would show is printed, until one of the shipped rules has fired
and resolved. Daemon, socket and state live in a temporary directory and end with the command.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import click

PAST_SECONDS = 3600
_START_SECONDS = 20.0
_TEXT_SECONDS = 85.0
"""Of the world; the story's first trouble is over long before."""


class DemoFailed(Exception):
    """The demo's daemon did not come up, or went away. The text has what it said last."""


def run(speed: float, *, text: bool, hardware: str = "") -> int:
    """Run the demo, of ``hardware`` such as ``4xL40S``; its exit code."""
    try:
        with _daemon(speed, hardware) as url:
            if text:
                return asyncio.run(_print_story(url, speed))
            from monitor.tui import run as run_tui

            return run_tui(url)
    except DemoFailed as error:
        click.echo(f"gpumon demo: {error}", err=True)
        return 1


@contextlib.contextmanager
def _daemon(speed: float, hardware: str) -> Iterator[str]:
    """A simulated daemon for as long as the block runs; its URL."""
    with tempfile.TemporaryDirectory(prefix="gpumon-demo-") as folder:
        socket = Path(folder) / "gpumon.sock"
        log = Path(folder) / "daemon.log"
        command = [sys.executable, "-m", "monitor", "daemon", "--simulate", "--mode", "demo", "--log-format", "text"]
        command += ["--speed", f"{speed:g}", "--past", str(PAST_SECONDS)]
        command += ["--socket", str(socket), "--listen", "none", "--state-dir", folder]
        command += ["--hardware", hardware] if hardware else []
        with log.open("wb") as out:
            # It ends when this pipe closes, also where nothing of ours can run any more: a terminal that went away.
            child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=out, stderr=out, start_new_session=True)
        try:
            _wait_for(socket, child, log)
            yield f"unix:{socket}"
        finally:
            if child.poll() is None:
                child.send_signal(signal.SIGTERM)  # first: so that it leaves the folder to us
                try:
                    child.wait(10)
                except subprocess.TimeoutExpired:
                    child.kill()
                    child.wait()
            if child.stdin is not None:
                child.stdin.close()


def _wait_for(socket: Path, child: subprocess.Popen[bytes], log: Path) -> None:
    limit = time.monotonic() + _START_SECONDS
    while not socket.exists():
        if child.poll() is not None or time.monotonic() > limit:
            last = "\n".join(log.read_text(errors="replace").splitlines()[-8:])
            raise DemoFailed(f"the simulated daemon did not start:\n{last}")
        time.sleep(0.02)


async def _print_story(url: str, speed: float) -> int:
    """Print the node, then each alert as it changes, until a warning or critical one has fired and resolved."""
    from monitor.client.api import Client
    from monitor.client.feed import take_snapshot
    from monitor.commands.snapshot import render_text

    width = min(shutil.get_terminal_size((100, 24)).columns, 120)
    click.echo(f"gpumon demo: simulated GPUs and a simulated vLLM; the clock runs {speed:g} times as fast.\n")
    # What was simulated of the past is taken in before the first answer, which is as long as a start.
    async with Client(url, timeout=_START_SECONDS) as client:
        click.echo(render_text(await take_snapshot(client), width))
        click.echo("Waiting for trouble (alerts.yaml as it is shipped):\n")
        fired: dict[str, int] = {}
        seen = 0
        limit = time.monotonic() + _TEXT_SECONDS
        while time.monotonic() < limit:
            for one in (await client.transitions())[seen:]:
                seen += 1
                name = one.labels.get("alertname", "")
                if one.labels.get("severity") in (None, "none"):
                    continue
                click.echo(_line(one.at_ms, one.before, one.after, one.labels, one.annotations.get("summary", "")))
                key = repr(sorted(one.labels.items()))
                if one.after == "firing":
                    fired[key] = one.at_ms
                elif one.before == "firing" and key in fired:
                    lasted = (one.at_ms - fired[key]) / 1000
                    click.echo(f"\n{name} fired at {_clock(fired[key])} and resolved at {_clock(one.at_ms)},")
                    click.echo(f"after {lasted:.0f} s of the node's clock ({lasted / speed:.0f} s of yours).\n")
                    click.echo(render_text(await take_snapshot(client), width))
                    click.echo("In a terminal, `gpumon demo` draws this live.")
                    return 0
            await asyncio.sleep(0.2)
    raise DemoFailed(f"no alert fired and resolved in {_TEXT_SECONDS:.0f} s: is this machine very busy?")


def _line(at_ms: int, before: str, after: str, labels: dict[str, str], summary: str) -> str:
    said = {"pending": "pending ", "firing": "FIRING  ", "inactive": "resolved"}[after]
    if before == "pending" and after == "inactive":
        said = "passed  "
    return f"{_clock(at_ms)}  {said}  {labels.get('severity', ''):8}  {labels.get('alertname', '')}: {summary}"


def _clock(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000).astimezone().strftime("%H:%M:%S")
