"""Torch profiles that are asked for by hand: at most one of a server at a time, each stopped after its time, and all of
them when the daemon ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any

import httpx

from monitor.probes.errors import BadOptions, ProbeError
from monitor.probes.profiler import MAX_SECONDS, STOP_SECONDS, Post, Profiler, stop
from monitor.probes.redact import without_secrets
from monitor.probes.schema import Secrets
from monitor.sources import vllm_http
from monitor.sources.source import SourceDown
from monitor.trust import Trust

_TEXT = 4_000
_WAIT_SECONDS = 40.0
"""For a trace to be written, before whoever stopped it is answered."""


@asynccontextmanager
async def posting(url: str, secrets: Secrets) -> AsyncIterator[Post]:
    """What a profiler sends its requests with. Raises ``ProbeError`` for a certificate that cannot be used."""
    try:
        client = await vllm_http.make_client(
            url,
            Trust(secrets.ca_file, insecure_skip_verify=secrets.insecure_skip_verify),
            deadline=STOP_SECONDS,
            api_key=secrets.api_key,
        )
    except SourceDown as error:
        raise ProbeError(str(error)) from None

    async def post(path: str) -> tuple[int, str]:
        body = b""
        try:
            async with client.stream("POST", f"{url}{path}", headers=secrets.headers) as response:
                async for chunk in response.aiter_bytes():
                    body += chunk
                    if len(body) > _TEXT:
                        break
        except httpx.HTTPError as error:
            raise ProbeError(f"{url} cannot be asked: {vllm_http.reason(error, STOP_SECONDS)}") from None
        return response.status_code, without_secrets(body.decode("utf-8", "replace"), secrets)[:_TEXT]

    async with client:
        yield post


class Profiles:
    """Those that this process has started."""

    def __init__(self, posting: Callable[[str, Secrets], AbstractAsyncContextManager[Post]] = posting) -> None:
        self._posting = posting
        self._running: dict[str, tuple[Profiler, AsyncExitStack]] = {}
        self._starting: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def running(self, server: str) -> bool:
        """Whether one of ours runs, or is being written."""
        return server in self._running

    async def start(self, server: str, url: str, secrets: Secrets, seconds: float) -> str:
        """Start one; gives a sentence. Raises ``ProbeError``."""
        if not 0 < seconds <= MAX_SECONDS:
            raise BadOptions(f"a profile takes from 1 to {MAX_SECONDS:g} seconds")
        if server in self._running or server in self._starting:
            raise ProbeError(f"{server} is being profiled already: end it with `gpumon probe profile stop`")
        self._starting.add(server)
        try:
            return await self._start(server, url, secrets, seconds)
        finally:
            self._starting.discard(server)

    async def _start(self, server: str, url: str, secrets: Secrets, seconds: float) -> str:
        said: list[str] = []
        async with AsyncExitStack() as stack:
            post = await stack.enter_async_context(self._posting(url, secrets))
            profiler = Profiler(post, seconds, url, said=lambda text, level: said.append(text))
            await profiler.begin()
            self._running[server] = profiler, stack.pop_all()
        self._spawn(self._watch(server), f"profile of {server}")
        return " ".join(said)

    async def _watch(self, server: str) -> None:
        profiler, stack = self._running[server]
        try:
            await profiler.wait()
        finally:
            async with stack:
                self._running.pop(server, None)

    async def stop(self, server: str, url: str, secrets: Secrets) -> str:
        """Stop one, ours or anybody's; gives a sentence, with the traces where they are known. Raises
        ``ProbeError``."""
        ours = self._running.get(server)
        if ours is None:
            async with self._posting(url, secrets) as post:
                text = await stop(post)
            return text.strip()[:_TEXT] or f"{server} is not profiled any more; its own log says where the trace is"
        profiler, _ = ours
        ending = self._spawn(profiler.end(), f"ending the profile of {server}")
        await asyncio.wait([ending], timeout=_WAIT_SECONDS)
        if not ending.done():
            return "it traces no more, and the server writes what it traced, which may take minutes"
        if profiler.error:
            raise ProbeError(profiler.error)
        return profiler.told or ", ".join(profiler.traces) or "stopped"

    async def close(self) -> None:
        """Stop all; the servers write their traces without us."""
        ending = [self._spawn(one.end(), f"ending the profile of {name}") for name, (one, _) in self._running.items()]
        if ending:
            await asyncio.wait(ending, timeout=3)  # each was told; writing a trace takes its time
        for task in list(self._tasks):
            task.cancel()

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
