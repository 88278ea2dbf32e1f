"""All that is read while a step runs: the GPUs, the server and the machine of the probe.

Nothing of it ends a run: what cannot be had is None, and a note says why. It asks the server for ``/metrics`` once a
second, and takes of the probe's own process about 8 ms of CPU a second, which is 0.8 % of the core that it has: 3 for
the timers of the loop and the machine's counters, 3 for the lines of the process that reads one GPU, 1 for a page of
460 samples, and the request for it. The process that reads the GPUs takes 5 to 10 ms a second with one (H200), and the
end of a step waits 5 to 12 ms for its energy counter.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import psutil

from monitor.client.api import Client
from monitor.client.errors import ClientError
from monitor.probes import model_size
from monitor.probes.daemon_gpus import DaemonGpus, of_server
from monitor.probes.findings_base import SIMULATED_GPUS
from monitor.probes.gpu_readings import GpuReadings
from monitor.probes.host_watch import HostWatch
from monitor.probes.schema import Facts, GpuReading, Readings, Record, Spec
from monitor.probes.server_watch import ServerWatch

SIMULATED = "a simulated server has no GPU: nothing of one was read"
_RESOLVE_S = 2.0
_ASK_S = 2.0


class Watch:
    """Reads from ``open`` to ``close``; each step from ``begin`` to ``end``. ``order_socket`` is the daemon's unix
    socket, or "". ``metrics_fetch`` gives the text of the server's ``/metrics``, or None where it does not answer.
    ``clock`` is in seconds, and CLOCK_MONOTONIC, as ``time.monotonic`` and ``time.perf_counter`` are on Linux.
    ``environment`` is that of the process that asks the driver, for tests."""

    def __init__(
        self,
        spec: Spec,
        facts: Facts,
        order_socket: str,
        metrics_fetch: Callable[[], Awaitable[str | None]],
        clock: Callable[[], float] = time.monotonic,
        *,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._spec = spec
        self._server_label = spec.server or facts.server
        self._url = facts.url or spec.url
        self._environment = environment
        self._clock = clock
        self._client: Client | None = None
        self._socket = order_socket
        self._gpus: GpuReadings | DaemonGpus | None = None
        self._server = ServerWatch(metrics_fetch, clock=clock)
        self._host = HostWatch()
        self._notes: dict[str, None] = {}
        self._facts = facts
        self.weights_bytes: int | None = None
        """What the model weighs, where its files are on this machine; after ``open``."""

    @property
    def gpu_names(self) -> tuple[str, ...]:
        """What the GPUs are, after ``open``; () where none is read."""
        return self._gpus.names if self._gpus is not None else ()

    @property
    def driver(self) -> str:
        """The driver's version; "" where it was not asked."""
        return self._gpus.driver if isinstance(self._gpus, GpuReadings) else ""

    @property
    def notes(self) -> tuple[str, ...]:
        """What could not be had until now."""
        more = self._gpus.notes if self._gpus is not None else {}
        return tuple({**self._notes, **more, **self._server.notes})

    async def open(self) -> None:
        """Begin to read."""
        await asyncio.gather(self._host.open(), self._server.open(), self._open_gpus(), self._weigh())

    async def close(self) -> None:
        """Let go of everything."""
        await asyncio.gather(
            self._host.close(), self._server.close(), *([self._gpus.close()] if self._gpus is not None else [])
        )
        if self._client is not None:
            await self._client.close()
            self._client = None

    def begin(self) -> None:
        """A step begins; its warm-ups were sent before. A second call begins it anew."""
        self._host.begin()
        if self._gpus is not None:
            self._gpus.begin()
        self._server.begin()

    async def end(self, records: Sequence[Record], duration_s: float) -> Readings:
        """The step has ended: what was read since ``begin``. To be called as soon as its last request is over."""
        host = self._host.end()
        server, gpus = await asyncio.gather(self._server.end(records, duration_s), self._end_gpus(duration_s))
        return Readings(gpus=gpus, server=server, host=host, notes=self.notes)

    def live(self) -> dict[str, Any]:
        """What ``schema.Live`` has of the server and the GPUs: ``kv_usage``, ``waiting``, ``gpu_util``, ``power_w``."""
        page = self._server.live()
        util, power = self._gpus.live() if self._gpus is not None else (None, None)
        return {
            "kv_usage": page.kv_usage if page is not None else None,
            "waiting": page.waiting if page is not None else None,
            "gpu_util": util,
            "power_w": power,
        }

    async def _end_gpus(self, duration_s: float) -> tuple[GpuReading, ...]:
        return await self._gpus.end(duration_s) if self._gpus is not None else ()

    async def _weigh(self) -> None:
        if not self._spec.simulated and self._facts.weights_bytes is None and self._facts.model:
            self.weights_bytes = await model_size.look(self._facts.model)

    # -- which GPUs, and by whom ---------------------------------------------------------------------------------------

    async def _open_gpus(self) -> None:
        if self._spec.simulated:
            self._notes[SIMULATED] = None
            return
        wanted, daemon, simulated = await self._ask_daemon()
        unknown = not wanted
        if unknown and not simulated and not await is_here(self._url):
            self._notes[
                "the GPUs were not read: the server is on another machine (where it is not, name its GPUs: --gpus)"
            ] = None
            return
        if simulated and daemon is not None:
            self._notes[SIMULATED_GPUS] = None
            if await self._by_daemon(daemon, wanted):
                return
        reason = "a simulated node"
        if not simulated:
            local = GpuReadings(wanted, environment=self._environment, clock=self._clock)
            if await local.open():
                self._gpus = local
                self._say_which(unknown, len(local.names))
                return
            await local.close()
            self._notes |= local.notes
            reason = local.absent
            if daemon is not None and await self._by_daemon(daemon, wanted):
                self._notes[f"the GPUs were read by the daemon, once a second: {reason}"] = None
                self._say_which(unknown, len(self.gpu_names))
                return
        self._notes[f"no GPU was read: {reason}"] = None

    def _say_which(self, unknown: bool, count: int) -> None:
        if unknown and count > 1:
            self._notes[
                f"it is not known which GPUs the server uses: all {count} of this machine were read "
                "(name those of the server: --gpus)"
            ] = None

    async def _by_daemon(self, daemon: Client, wanted: Sequence[str]) -> bool:
        gpus = DaemonGpus(daemon, wanted, clock=self._clock)
        if await gpus.open():
            self._gpus = gpus
            return True
        self._notes |= gpus.notes
        return False

    async def _ask_daemon(self) -> tuple[tuple[str, ...], Client | None, bool]:
        """The GPUs that are meant, the daemon where there is one, and whether its node is simulated."""
        wanted = self._spec.gpus
        if not self._socket:
            return wanted, None, False
        self._client = Client(f"unix:{self._socket}", timeout=_ASK_S)
        try:
            simulated = (await self._client.capabilities()).simulated
            if not wanted and self._server_label:
                wanted = await of_server(self._client, self._server_label)
        except ClientError as error:
            self._notes[f"the daemon was not asked which GPUs the server uses: {error}"] = None
            return wanted, None, False
        return wanted, self._client, simulated


async def is_here(url: str) -> bool:
    """Whether a URL's host is this machine, by its addresses. One that cannot be resolved is not."""
    host = urlsplit(url).hostname
    if not host:
        return False
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(_RESOLVE_S):
            found = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, TimeoutError, UnicodeError):
        return False
    addresses = {str(row[4][0]).partition("%")[0] for row in found}
    own = {
        address.address.partition("%")[0] for addresses_of in psutil.net_if_addrs().values() for address in addresses_of
    }
    return any(address in own or ipaddress.ip_address(address).is_loopback for address in addresses)
