"""Sockets and their rights, and who is answered."""

import asyncio
import socket
import stat
from pathlib import Path

import httpx
import pytest

from monitor.api.server import CannotListen, bind_unix
from monitor.store.head import Head
from tests.api.running import Running, running


def test_the_socket_is_for_its_owner_and_group_alone(tmp_path: Path) -> None:
    path = tmp_path / "run" / "gpumon.sock"
    with bind_unix(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        assert stat.S_IMODE(path.parent.stat().st_mode) & 0o007 == 0


def test_a_dead_daemons_socket_is_replaced_and_a_living_ones_is_not(tmp_path: Path) -> None:
    path = tmp_path / "gpumon.sock"
    bind_unix(path).close()
    with bind_unix(path), pytest.raises(CannotListen, match="running already"):
        bind_unix(path)


def test_what_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "gpumon.sock"
    path.write_text("mine")
    with pytest.raises(CannotListen, match="is no socket"):
        bind_unix(path)
    assert path.read_text() == "mine"


def test_a_directory_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CannotListen, match="cannot make the directory"):
        bind_unix(tmp_path / "file" / "run" / "gpumon.sock")


def test_the_servers_socket_is_gone_when_it_has_ended(tmp_path: Path) -> None:
    async def main() -> tuple[bool, bool]:
        async with running(Head("j", "i"), place=tmp_path) as api:
            await api.client.get("/-/healthy")
            before = api.socket.exists()
        return before, api.socket.exists()

    assert asyncio.run(main()) == (True, False)


def test_tcp_answers_this_machines_names_alone() -> None:
    async def work(api: Running) -> list[int]:
        hosts = (f"127.0.0.1:{api.port}", "localhost", "[::1]:1", "evil.example", "127.0.0.1.evil.example:80")
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{api.port}") as client:
            return [(await client.get("/-/healthy", headers={"Host": host})).status_code for host in hosts]

    async def main() -> list[int]:
        async with running(Head("j", "i")) as api:
            return await work(api)

    assert asyncio.run(main()) == [200, 200, 200, 403, 403]


def test_health_readiness_and_what_is_not_there() -> None:
    async def main() -> list[tuple[int, str]]:
        async with running(Head("j", "i")) as api:
            said = []
            for path in ("/-/healthy", "/-/ready", "/nothing"):
                response = await api.client.get(path)
                said.append((response.status_code, response.text))
            api.node.ready = True
            said.append(((await api.client.get("/-/ready")).status_code, ""))
            return said

    healthy, unready, unknown, ready = asyncio.run(main())
    assert healthy == (200, "gpumon is Healthy.\n")
    assert unready[0] == 503
    assert unknown[0] == 404
    assert "there is no /nothing here" in unknown[1]
    assert ready[0] == 200


def test_a_wrong_method_is_told_as_every_other_error() -> None:
    async def main() -> tuple[int, str]:
        async with running(Head("j", "i")) as api:
            response = await api.client.delete("/api/v1/query")
            return response.status_code, response.json()["error"]

    assert asyncio.run(main()) == (405, "DELETE is not for /api/v1/query")


def test_a_body_that_is_too_large_is_refused() -> None:
    async def main() -> int:
        async with running(Head("j", "i")) as api:
            return (await api.client.post("/api/v1/query", content=b"query=" + b"x" * 300_000)).status_code

    assert asyncio.run(main()) == 413


def test_a_port_that_is_taken_is_told_and_leaves_no_socket(tmp_path: Path) -> None:
    from monitor.api.server import _bind_tcp

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(CannotListen, match="--listen"):
            _bind_tcp("127.0.0.1", taken.getsockname()[1])
