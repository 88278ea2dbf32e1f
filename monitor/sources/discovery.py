"""Finds the servers of this node by itself: processes that serve a model and listen, here or in a container.

Nothing but such a process's own port is ever asked, and a server is reported once it has answered as one. SGLang and
TGI are found like vLLM. Containers with a network of their own are reached through the ports that docker or podman
publishes, where we may use its socket, else at the address of their own network, as pods of Kubernetes are.
"""

from __future__ import annotations

import asyncio
import logging
import re
import shlex
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path

import httpx
import msgspec

from monitor.sources import containers
from monitor.sources.command_line import Kind, Launch, launch_of
from monitor.sources.containers import Published
from monitor.sources.node_scan import Server
from monitor.sources.processes import ProcessTable

log = logging.getLogger(__name__)

DEADLINE = 1.0
"""Seconds that a server has to answer."""
MAX_ASKED_AT_ONCE = 16
_MAX_ANSWER = 256 * 1024
_CONTAINERS_PAUSE = 60.0
"""Seconds between lists of containers while no process is in one that is not known yet."""

_VERSION_PATHS: dict[Kind, tuple[str, ...]] = {
    "vllm": ("/version", "/metrics"),
    "sglang": ("/get_model_info", "/metrics"),
    "tgi": ("/info", "/metrics"),
}
_FAMILY: dict[Kind, re.Pattern[bytes]] = {
    "vllm": re.compile(rb"^(# \w+ )?vllm[:_]", re.MULTILINE),
    "sglang": re.compile(rb"^(# \w+ )?sglang[:_]", re.MULTILINE),
    "tgi": re.compile(rb"^(# \w+ )?tgi_", re.MULTILINE),
}
_KEY: dict[Kind, str] = {"vllm": "version", "sglang": "model_path", "tgi": "model_id"}


class Found(msgspec.Struct, frozen=True):
    """A server that answered."""

    url: str
    """Scheme, host and port."""
    server: str
    """The label ``server``: the configuration's where it names this server, else ``<host>:<port>``; the host is a
    container's own address where it is reached there."""
    pid: int | None
    """None where the process is not to be seen from here."""
    container: str
    """As in ``GpuProcess``, or ``docker:<name>`` where the process is not to be seen."""
    how: str
    """For a person: ``process 4242 listens``, ``published by docker``."""
    kind: Kind = "vllm"


class ServerFinder:
    """Looks for the servers of the node whose processes ``table`` knows. ``sockets`` gives those of docker and podman;
    it and ``clock`` are for tests."""

    def __init__(
        self,
        table: ProcessTable,
        *,
        deadline: float = DEADLINE,
        sockets: Callable[[], Sequence[Path]] = containers.sockets,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._table = table
        self._deadline = deadline
        self._sockets = sockets
        self._clock = clock
        self._answered: dict[tuple[int, int], Found] = {}
        self._published: list[Published] = []
        self._listed_at: float | None = None
        self._listed_for: frozenset[str] = frozenset()
        self._said: set[str] = set()

    async def find(self) -> list[Found]:
        """The servers that run now, ordered by label. Call it after ``table.refresh``; it waits about as long as the
        deadline at most; a server whose process is seen is asked until it has answered once."""
        servers = self._table.servers
        alive = {(server.pid, server.start) for server in servers}
        self._answered = {key: found for key, found in self._answered.items() if key in alive}
        await self._list_containers(servers)
        asked = [server for server in servers if (server.pid, server.start) not in self._answered]
        limit = asyncio.Semaphore(MAX_ASKED_AT_ONCE)
        results = await asyncio.gather(*(_within(limit, self._ask_process(server)) for server in asked))
        for server, result in zip(asked, results, strict=True):
            if result is not None:
                self._answered[server.pid, server.start] = result
        for server in servers:
            if (found := self._answered.get((server.pid, server.start))) is not None:
                self._table.learn(server, found.server)
        unseen = await asyncio.gather(*(_within(limit, self._ask_container(p)) for p in self._unseen(servers)))
        by_label: dict[str, Found] = {}
        for one in (*self._answered.values(), *unseen):
            if one is not None:
                by_label.setdefault(one.server, one)
        return sorted(by_label.values(), key=lambda found: found.server)

    async def _ask_process(self, server: Server) -> Found | None:
        """The first of a server's addresses that answers as one."""
        how = f"process {server.pid} listens"
        addresses = server.addresses
        if not server.reachable:
            addresses, how = self._mapped(server)
            if not addresses:
                return await self._ask_inside(server)
        for address, port in addresses:
            url = _url(server.launch, address, port)
            if await answers(url, server.launch.kind, self._deadline):
                label = self._table.label_of(server, port)
                return Found(url, label, server.pid, str(server.container or ""), how, server.launch.kind)
        return None

    async def _ask_inside(self, server: Server) -> Found | None:
        """The first that answers of the addresses of a container's own network. All at once: who may not pass there
        gets no answer, not even a refusal."""
        addresses = self._table.inner_addresses(server)
        urls = [_url(server.launch, address, port) for address, port in addresses]
        answered = await asyncio.gather(*(answers(url, server.launch.kind, self._deadline) for url in urls))
        for (address, port), url, one in zip(addresses, urls, answered, strict=True):
            if one:
                # The port alone would be that of every pod on the node.
                label = self._table.label_inside(_dialled(address), port)
                how = f"process {server.pid} listens in its own network"
                return Found(url, label, server.pid, str(server.container or ""), how, server.launch.kind)
        return None

    # -- containers --------------------------------------------------------------------------------------------------

    async def _list_containers(self, servers: Iterable[Server]) -> None:
        """Ask docker and podman, when a server is in a container that is not known yet, else seldom."""
        hidden = frozenset(s.container.id for s in servers if not s.reachable and s.container is not None)
        due = self._listed_at is None or self._clock() - self._listed_at >= _CONTAINERS_PAUSE
        if not due and hidden <= self._listed_for:
            return
        self._listed_at, self._listed_for = self._clock(), hidden
        self._published = []
        for socket in self._sockets():
            try:
                self._published += await containers.published(socket, self._deadline)
            except (httpx.HTTPError, ValueError) as error:
                if str(socket) not in self._said:
                    log.info("containers are not looked at: %s: %s", socket, error)
                    self._said.add(str(socket))

    def _mapped(self, server: Server) -> tuple[tuple[tuple[str, int], ...], str]:
        """Where the ports of a server in a container are published on this machine."""
        for one in self._published:
            if server.container is not None and one.id == server.container.id:
                ports = tuple(one.ports[port] for port in server.ports if port in one.ports)
                return ports, f"process {server.pid}, published by {server.container.runtime}"
        return (), ""

    def _unseen(self, servers: Iterable[Server]) -> list[Published]:
        """Containers that serve a model and whose processes are not to be seen from here."""
        seen = {server.container.id for server in servers if server.container is not None}
        return [one for one in self._published if one.id not in seen and _launched(one) is not None]

    async def _ask_container(self, one: Published) -> Found | None:
        launch = _launched(one)
        if launch is None or launch.port not in one.ports:
            return None
        address, port = one.ports[launch.port]
        url = _url(launch, address, port)
        if not await answers(url, launch.kind, self._deadline):
            return None
        label = self._table.label_at(port)
        return Found(url, label, None, f"docker:{one.name or one.id[:12]}", "published by docker", launch.kind)


async def find_servers(hostname: str, *, deadline: float = DEADLINE) -> list[Found]:
    """Look once, for a command that ends then: ``doctor``, ``config init``. ``hostname`` is the host of the labels,
    ``deadline`` the seconds that each server has to answer."""
    table = ProcessTable(hostname)
    await table.refresh(0)
    return await ServerFinder(table, deadline=deadline).find()


async def answers(url: str, kind: Kind, deadline: float = DEADLINE) -> bool:
    """Whether a server of this kind is at ``url``. Sends no key, and follows no redirection; a certificate is not
    looked at, since nothing secret is sent."""
    try:
        async with (
            asyncio.timeout(deadline),
            httpx.AsyncClient(
                timeout=deadline,
                verify=False,  # noqa: S501 - see above
                trust_env=False,
                headers={"User-Agent": "gpumon"},
            ) as client,
        ):
            for path in _VERSION_PATHS[kind]:
                status, body = await _get(client, url + path)
                if status == 200 and _is(kind, path, body):
                    return True
    except (TimeoutError, httpx.HTTPError, httpx.InvalidURL):
        pass  # no answer is an answer: it is no server, or not yet
    return False


async def _get(client: httpx.AsyncClient, url: str) -> tuple[int, bytes]:
    async with client.stream("GET", url) as response:
        body = b""
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) > _MAX_ANSWER:
                break
        return response.status_code, body


def _is(kind: Kind, path: str, body: bytes) -> bool:
    if path == "/metrics":
        return bool(_FAMILY[kind].search(body))
    try:
        answer = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return isinstance(answer, dict) and isinstance(answer.get(_KEY[kind]), str)


async def _within(limit: asyncio.Semaphore, work: Awaitable[Found | None]) -> Found | None:
    async with limit:
        return await work


def _url(launch: Launch, address: str, port: int) -> str:
    return f"{'https' if launch.tls else 'http'}://{_dialled(address)}:{port}"


def _dialled(address: str) -> str:
    """The address to ask for one that is listened at."""
    if address in ("", "0.0.0.0"):  # noqa: S104 - what a server listens at, not what we do
        return "127.0.0.1"
    if address == "::":
        return "[::1]"
    return f"[{address}]" if ":" in address else address


def _launched(one: Published) -> Launch | None:
    try:
        return launch_of(shlex.split(one.command))
    except ValueError:  # an open quote
        return launch_of(one.command.split())
