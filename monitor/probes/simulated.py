"""The simulated server of a run that asks for one: a process of its own, so that it takes nothing from the client's
timing, and gone with the run however that ends."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from monitor.probes.errors import CannotStart

PACE = (
    "--prefill-ms", "12", "--prefill-per-token-us", "30", "--itl-ms", "8", "--itl-per-sequence-us", "150",
    "--max-batch", "32", "--kv-tokens", "65536", "--priority", "--profiler",
)  # fmt: skip
"""A middling GPU: 120 tokens a second for one, 2,500 for 32 at once, and more only wait."""
START_S = 30.0
END_S = 5.0
_PR_SET_PDEATHSIG = 1
_WORDS = b"simulated server: "


@asynccontextmanager
async def simulated_server() -> AsyncIterator[str]:
    """Its address. Raises ``CannotStart`` where it does not come up."""
    libc = ctypes.CDLL(None)

    def die_with_the_run() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)

    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "monitor.probes.pace", *PACE),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        preexec_fn=die_with_the_run,
    )
    try:
        yield await _address(process)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(END_S):
                await process.communicate()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.communicate()


async def _address(process: asyncio.subprocess.Process) -> str:
    line = b""
    try:
        async with asyncio.timeout(START_S):
            line = await process.stdout.readline() if process.stdout is not None else b""
    except TimeoutError:
        pass
    if not line.startswith(_WORDS):
        raise CannotStart("the simulated server did not come up: see the log of the run")
    return line.removeprefix(_WORDS).decode().strip()
