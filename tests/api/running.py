"""An API server over a store that a test fills, and a client of its unix socket."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx

from monitor.api.node import Node
from monitor.api.server import ApiServer
from monitor.clock import Clock
from monitor.config import loads
from monitor.records import replace
from monitor.rules.engine import Engine
from monitor.rules.rule_file import load_rules
from monitor.store.head import Head


class Running:
    """What a test has: the node, whose parts it may change, and a client."""

    def __init__(self, node: Node, client: httpx.AsyncClient, socket: Path, port: int, server: ApiServer) -> None:
        self.node = node
        self.client = client
        self.socket = socket
        self.port = port
        self.server = server


@asynccontextmanager
async def running(
    head: Head,
    rules: str = "groups: []",
    place: Path | None = None,
    *,
    config: str = "node: {hostname: n1, instance: 'n1:9519'}",
    clock: Clock | None = None,
    is_open: bool = False,
) -> AsyncIterator[Running]:
    """Serve ``head`` with the rule file ``rules`` on a unix socket, in ``place``, and a free loopback port.
    ``config`` is a gpumon.yaml, whose sockets are not taken. With ``is_open`` the port is taken for one that others
    reach, too."""
    with tempfile.TemporaryDirectory() as folder:
        rule_file = Path(folder) / "rules.yaml"
        rule_file.write_text(rules)
        socket = (place or Path(folder)) / "run" / "gpumon.sock"
        read = loads(config)
        listen = ("127.0.0.1", 0)
        engine = Engine(load_rules((rule_file,)), default_interval_ms=5_000)
        api = replace(read.api, socket=socket, listen=("192.0.2.1", 0) if is_open else listen)
        node = Node(replace(read, api=api), clock or Clock(), head, engine, mode="system", simulated=False)
        server = ApiServer(node)
        server.bind(socket, listen)
        task = asyncio.create_task(server.run())
        transport = httpx.AsyncHTTPTransport(uds=str(socket))
        try:
            async with httpx.AsyncClient(transport=transport, base_url="http://gpumon", timeout=10) as client:
                assert server.port is not None
                yield Running(node, client, socket, server.port, server)
        finally:
            server.close()
            await task
