"""The client against a daemon, and what it says where there is none."""

from __future__ import annotations

import asyncio
import socket
from contextlib import aclosing
from pathlib import Path

import pytest

from monitor.client.api import Client
from monitor.client.errors import ClientError, Refused, Unreachable
from monitor.client.wire import Capabilities, Frame, Query
from tests.client.fake_daemon import FakeDaemon
from tests.client.story import INSTANCE, START_MS


def test_a_daemon_answers_in_types(tmp_path: Path) -> None:
    async def ask(target: str) -> None:
        async with Client(target) as client:
            told = await client.capabilities()
            assert isinstance(told, Capabilities)
            assert (told.node.instance, told.heartbeat) == (INSTANCE, False)
            assert [one.source for one in await client.sources()] == ["nvml", "host", "vllm"]
            (process,) = (await client.processes()).processes
            assert (process.pid, process.memory_bytes) == (7, None)
            assert (await client.alerts())[0].labels["alertname"] == "GpuTemperatureHigh"
            (series,) = await client.query("up", 1_795_198_800_123)
            assert series.value == (1_795_198_800.123, "1")
            (scalar,) = await client.query("1")
            assert scalar.value == (1.5, "1")

    with FakeDaemon(tmp_path / "d.sock").serving() as target:
        asyncio.run(ask(target))


def test_frames_come_in_order_with_what_was_asked(tmp_path: Path) -> None:
    asked = [Query("a", "up"), Query("b_h", "up", 300, 2)]

    async def listen(target: str) -> list[Frame]:
        frames = []
        async with Client(target) as client, aclosing(client.stream(asked, interval=0.5)) as stream:
            async for frame in stream:
                frames.append(frame)
                if len(frames) == 3:
                    break
        return frames

    daemon = FakeDaemon(tmp_path / "d.sock")
    with daemon.serving() as target:
        frames = asyncio.run(listen(target))
    assert [frame.seq for frame in frames] == [1, 2, 3]
    assert [frame.now_ms for frame in frames] == [START_MS, START_MS + 1000, START_MS + 2000]
    assert daemon.requests == [
        {
            "interval": 0.5,
            "queries": [
                {"id": "a", "expr": "up"},
                {"id": "b_h", "expr": "up", "range_seconds": 300, "step_seconds": 2},
            ],
            "alerts": True,
            "sources": True,
        }
    ]


def test_a_stream_that_the_daemon_ends_is_an_error(tmp_path: Path) -> None:
    async def listen(target: str) -> None:
        async with Client(target) as client, aclosing(client.stream([Query("a", "up")])) as stream:
            assert [(await anext(stream)).seq, (await anext(stream)).seq] == [1, 2]
            with pytest.raises(Unreachable, match="ended the stream"):
                await anext(stream)

    with FakeDaemon(tmp_path / "d.sock", frames=2).serving() as target:
        asyncio.run(listen(target))


def test_a_refusal_has_the_servers_words(tmp_path: Path) -> None:
    async def ask(target: str) -> None:
        async with Client(target) as client:
            with pytest.raises(Refused, match="unexpected end") as refused:
                await client.query("1 +")
            assert refused.value.status == 400
            with pytest.raises(Refused, match='query "x": empty'):
                async for _ in client.stream([Query("x", "")]):
                    pass
            with pytest.raises(Refused, match="HTTP 404"):
                await client.rules()

    with FakeDaemon(tmp_path / "d.sock").serving() as target:
        asyncio.run(ask(target))


async def failing(target: str) -> Unreachable:
    async with Client(target) as client:
        with pytest.raises(Unreachable) as error:
            await client.capabilities()
    return error.value


def test_a_client_that_somebody_closed_meanwhile_says_so_as_any_lost_connection(tmp_path: Path) -> None:
    async def ask(target: str) -> None:
        client = Client(target)
        await client.capabilities()
        await client.close()
        with pytest.raises(Unreachable, match="closed"):
            await client.capabilities()
        with pytest.raises(Unreachable, match="closed"):
            await anext(client.stream([]))

    with FakeDaemon(tmp_path / "d.sock").serving() as target:
        asyncio.run(ask(target))


def test_no_socket(tmp_path: Path) -> None:
    error = asyncio.run(failing(f"unix:{tmp_path}/none.sock"))
    assert error.what == "there is no such socket"
    assert "gpumon daemon" in error.cure


def test_a_socket_that_refuses_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "dead.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    error = asyncio.run(failing(f"unix:{path}"))
    assert "nobody listens" in error.what
    assert f"rm {path}" in error.cure


def test_a_port_that_refuses() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    error = asyncio.run(failing(f"http://127.0.0.1:{port}"))
    assert str(error).startswith(f"http://127.0.0.1:{port}: connection refused. ")


@pytest.mark.parametrize("target", ["", "localhost:9519", "ftp://node", "unix:", "http://", "http://a:b"])
def test_what_is_no_address_is_refused_at_once(target: str) -> None:
    with pytest.raises(ClientError):
        Client(target)
