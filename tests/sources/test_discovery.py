"""Servers that are found by themselves: real listening processes, and trees of /proc beside real sockets."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from monitor.sources import discovery, procfs
from monitor.sources.command_line import Kind
from monitor.sources.discovery import Found, ServerFinder, answers, find_servers
from monitor.sources.processes import INTERVAL_MS, ProcessTable
from tests.http_server import Handler, answer, drip, hang_up, never, serve
from tests.sources.proc_tree import DOCKER, ProcTree

VERSION = answer(b'{"version": "0.32.0"}')


def by_path(answers_of: dict[str, Handler]) -> Handler:
    """Each path its answer, 404 for the others."""

    async def handle(request: bytes, writer: asyncio.StreamWriter) -> None:
        path = request.split(b" ")[1].decode()
        await answers_of.get(path, answer(b"no", "404 Not Found"))(request, writer)

    return handle


METRICS = by_path({"/metrics": answer(b"# HELP vllm:num_requests_running x\nvllm:num_requests_running 1\n")})


@pytest.mark.parametrize(
    ("kind", "handler", "is_one"),
    [
        ("vllm", VERSION, True),
        ("vllm", METRICS, True),
        ("vllm", by_path({"/metrics": answer(b"python_info 1\nvllm_x 1\n")}), True),
        ("sglang", by_path({"/get_model_info": answer(b'{"model_path": "m"}')}), True),
        ("sglang", by_path({"/metrics": answer(b"sglang:num_running_reqs 1\n")}), True),
        ("tgi", by_path({"/info": answer(b'{"model_id": "m"}')}), True),
        ("vllm", by_path({"/metrics": answer(b"go_goroutines 1\nx_vllm:y 2\n")}), False),
        ("vllm", answer(b'{"version": 3}'), False),
        ("vllm", answer(b'["version"]'), False),
        ("vllm", answer(b"<html>version</html>"), False),
        ("vllm", answer(b'{"version": "1"}', "401 Unauthorized"), False),
        ("vllm", answer(b"", "302 Found", "Location: http://127.0.0.1:1/\r\n"), False),
        ("tgi", VERSION, False),
        ("vllm", drip, False),
        ("vllm", never, False),
        ("vllm", hang_up, False),
    ],
)
def test_what_answers_as_a_server(kind: Kind, handler: Handler, is_one: bool) -> None:
    async def main() -> None:
        async with serve(handler) as server:
            # Those that would never end are given up; the others have time.
            deadline = 0.2 if handler in (drip, never) else 10.0
            assert await answers(server.url, kind, deadline) is is_one
            assert all(b"Authorization" not in request for request in server.requests)

    asyncio.run(main())


def test_nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    assert not asyncio.run(answers(f"http://127.0.0.1:{port}", "vllm"))


# -- on a tree of /proc ------------------------------------------------------------------------------------------------


def port_of(url: str) -> int:
    port = urlsplit(url).port
    assert port is not None
    return port


def launch(tree: ProcTree, pid: int, port: int, *, address: str = "127.0.0.1", **process: object) -> None:
    tree.process(pid, ["vllm", "serve", "m", "--port", str(port)], **process)  # type: ignore[arg-type]
    tree.listen(pid, port, address=address, inode=pid * 10)


async def found_after(table: ProcessTable, finder: ServerFinder, now_ms: int) -> list[Found]:
    assert await table.refresh(now_ms, deadline=30)
    return await finder.find()


def test_servers_are_found_asked_once_and_forgotten(tmp_path: Path) -> None:
    async def main() -> None:
        tree = ProcTree(tmp_path)
        table = ProcessTable("n", root=tree.root)
        finder = ServerFinder(table, deadline=10, sockets=list)
        async with serve(VERSION) as first, serve(VERSION) as second:
            one, two = port_of(first.url), port_of(second.url)
            launch(tree, 100, one, address="0.0.0.0")  # noqa: S104 - what the tree says
            launch(tree, 200, two)
            found = await found_after(table, finder, 0)
            assert found == sorted(
                [
                    Found(f"http://127.0.0.1:{one}", f"n:{one}", 100, "", "process 100 listens"),
                    Found(f"http://127.0.0.1:{two}", f"n:{two}", 200, "", "process 200 listens"),
                ],
                key=lambda each: each.server,
            )
            asked = len(first.requests)
            assert await found_after(table, finder, INTERVAL_MS) == found
            assert len(first.requests) == asked == 1
            tree.end(100)
            assert [each.pid for each in await found_after(table, finder, 2 * INTERVAL_MS)] == [200]

    asyncio.run(main())


def test_only_what_a_server_listens_on_is_asked(tmp_path: Path) -> None:
    async def main() -> None:
        tree = ProcTree(tmp_path)
        table = ProcessTable("n", root=tree.root)
        async with serve(VERSION) as other, serve(VERSION) as side, serve(VERSION) as main_port:
            # A program that is none, and says it is vLLM's.
            tree.process(50, ["nginx", "vllm", "serve"])
            tree.listen(50, port_of(other.url), inode=1)
            # One whose other ports speak another protocol.
            launch(tree, 100, port_of(main_port.url))
            tree.listen(100, port_of(side.url), inode=2)
            found = await found_after(table, ServerFinder(table, deadline=10, sockets=list), 0)
            assert [each.url for each in found] == [main_port.url.replace("localhost", "127.0.0.1")]
            assert (other.requests, side.requests) == ([], [])

    asyncio.run(main())


def test_a_server_that_does_not_answer_yet_is_asked_again(tmp_path: Path) -> None:
    ready = False

    async def handle(request: bytes, writer: asyncio.StreamWriter) -> None:
        await (VERSION if ready else never)(request, writer)

    async def main() -> None:
        nonlocal ready
        tree = ProcTree(tmp_path)
        table = ProcessTable("n", {}, root=tree.root)
        async with serve(handle) as server:
            launch(tree, 100, port_of(server.url))
            assert await found_after(table, ServerFinder(table, deadline=0.1, sockets=list), 0) == []
            ready = True
            (found,) = await found_after(table, ServerFinder(table, deadline=10, sockets=list), INTERVAL_MS)
            assert found.pid == 100

    asyncio.run(main())


def test_the_configurations_label(tmp_path: Path) -> None:
    async def main() -> None:
        tree = ProcTree(tmp_path)
        async with serve(VERSION) as server:
            table = ProcessTable("n", {server.url: "llama"}, root=tree.root)
            launch(tree, 100, port_of(server.url))
            (found,) = await found_after(table, ServerFinder(table, deadline=10, sockets=list), 0)
            assert found.server == "llama"

    asyncio.run(main())


# -- containers --------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def docker(path: Path, rows: Sequence[dict[str, object]]) -> AsyncIterator[list[bytes]]:
    """A docker that lists ``rows``; gives the list of the requests it got."""
    asked: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        body = json.dumps(rows).encode()
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body)
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_unix_server(handle, path):
        yield asked


def published(identity: str, private: int, public: int, command: str) -> dict[str, object]:
    ports = [{"IP": "127.0.0.1", "PrivatePort": private, "PublicPort": public, "Type": "tcp"}]
    return {"Id": identity, "Names": ["/llama"], "Command": command, "Ports": ports}


def test_a_container_with_a_network_of_its_own(tmp_path: Path) -> None:
    async def main() -> None:
        tree = ProcTree(tmp_path / "proc")
        tree.process(100, ["vllm", "serve", "m"], cgroup=f"0::/system.slice/docker-{DOCKER}.scope\n")
        tree.listen(100, 8000, inode=6, own_network=True)
        table = ProcessTable("n", root=tree.root)
        path = tmp_path / "s"
        now = 0.0
        finder = ServerFinder(table, deadline=10, sockets=lambda: [path], clock=lambda: now)
        async with serve(VERSION) as server:
            port = port_of(server.url)
            async with docker(path, [published(DOCKER, 8000, port, "vllm serve m")]) as asked:
                (found,) = await found_after(table, finder, 0)
                how = "process 100, published by docker"
                assert found == Found(f"http://127.0.0.1:{port}", f"n:{port}", 100, f"docker:{DOCKER[:12]}", how)
                assert [row.server for row in table.engine_processes(0)] == [f"n:{port}"]
                # Docker is asked seldom.
                await found_after(table, finder, INTERVAL_MS)
                assert len(asked) == 1
                now = 61.0
                await found_after(table, finder, 2 * INTERVAL_MS)
                assert len(asked) == 2

    asyncio.run(main())


def test_a_container_whose_processes_are_not_seen(tmp_path: Path) -> None:
    async def main() -> None:
        table = ProcessTable("n", root=ProcTree(tmp_path / "proc").root)
        path = tmp_path / "s"
        finder = ServerFinder(table, deadline=10, sockets=lambda: [path])
        async with serve(VERSION) as server, serve(VERSION) as other:
            rows = [
                published("1" * 64, 8000, port_of(server.url), "vllm serve m --api-key 'k"),
                published("2" * 64, 80, port_of(other.url), "nginx -g daemon off"),
                published("3" * 64, 9999, port_of(other.url), "vllm serve m"),
            ]
            async with docker(path, rows):
                (found,) = await found_after(table, finder, 0)
                assert (found.pid, found.container, found.server) == (None, "docker:llama", f"n:{port_of(server.url)}")
                assert other.requests == []

    asyncio.run(main())


def test_pods_are_found_at_the_addresses_of_their_own_networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    there = {"http://10.244.1.7:8000", "http://10.244.1.8:8000", "http://[fd00::9]:8000"}

    async def answers(url: str, kind: Kind, deadline: float) -> bool:
        asked.append(url)
        return url in there

    monkeypatch.setattr(discovery, "answers", answers)

    async def main() -> None:
        tree = ProcTree(tmp_path / "proc")
        pod = "0::/../../kubepods-burstable-pod1f2e3d4c_5b6a_4978_8695_a4b3c2d1e0f{}.slice/cri-containerd-{}.scope"
        for number, (address, own) in enumerate(
            [
                ("0.0.0.0", ["10.244.1.7"]),  # noqa: S104 - what the tree says
                ("::", ["10.244.1.8"]),  # a socket of both families
                ("::", ["10.244.1.9", "fd00::9"]),
                ("10.244.1.10", ["10.244.1.10"]),
                ("127.0.0.1", ["10.244.1.11"]),  # nobody else reaches it
            ]
        ):
            tree.process(100 + number, ["vllm", "serve", "m"], uid=0, cgroup=pod.format(number, DOCKER))
            # Another user's, as from a container that is not privileged.
            tree.listen(
                100 + number, 8000, address=address, inode=6 + number, own_network=True, own_addresses=own, shown=False
            )
        # The configuration may give one of them a name; it is not watched twice.
        table = ProcessTable("n", {"http://10.244.1.8:8000": "llama"}, root=tree.root)
        found = await found_after(table, ServerFinder(table, sockets=list), 0)
        assert {each.url: each.server for each in found} == {
            "http://10.244.1.7:8000": "10.244.1.7:8000",
            "http://10.244.1.8:8000": "llama",
            "http://[fd00::9]:8000": "[fd00::9]:8000",
        }
        assert {each.how for each in found} == {f"process {pid} listens in its own network" for pid in (100, 101, 102)}
        assert {each.container for each in found} == {
            f"pod/1f2e3d4c-5b6a-4978-8695-a4b3c2d1e0f{number}/{DOCKER[:12]}" for number in (0, 1, 2)
        }
        assert sorted(asked) == sorted([*there, "http://10.244.1.9:8000", "http://10.244.1.10:8000"])
        # Who runs on the GPUs is told by the same name.
        rows = {row.pid: row.server for row in table.engine_processes(0)}
        assert rows == {100: "10.244.1.7:8000", 101: "llama", 102: "[fd00::9]:8000", 103: "", 104: ""}

    asyncio.run(main())


ROUTES = """\
Iface	Destination	Gateway 	Flags	RefCnt	Use	Metric	Mask		MTU	Window	IRTT
eth0	00000000	0101FEA9	0003	0	0	0	00000000	0	0	0
eth0	0101FEA9	00000000	0001	0	0	0	FFFFFFFF	0	0	0
net1	0003A8C0	00000000	0001	0	0	0	00FFFFFF	0	0	0
net2	0004A8C0	00000000	0001	0	0	0	00FFFFFF	0	0	0
"""


def test_a_pods_own_address_comes_before_those_of_its_cards_for_rdma(tmp_path: Path) -> None:
    tree = ProcTree(tmp_path)
    tree.process(100, ["vllm", "serve", "m"])
    own = ["192.168.3.7", "192.168.4.7", "192.168.5.20", "fd00::7"]
    tree.listen(100, 8000, inode=6, own_network=True, own_addresses=own)
    assert procfs.own_addresses(100, tree.root) == own, "without routes, as they come"
    (tree.root / "100/net/route").write_text(ROUTES)
    assert procfs.own_addresses(100, tree.root) == ["192.168.5.20", "192.168.3.7", "192.168.4.7", "fd00::7"]


def test_own_addresses_are_those_that_the_interfaces_have() -> None:
    told = {
        address.address
        for addresses in psutil.net_if_addrs().values()
        for address in addresses
        if address.family in (socket.AF_INET, socket.AF_INET6)
    }
    expected = {one for one in told if "%" not in one and one != "::1" and not one.startswith(("127.", "fe80:"))}
    assert set(procfs.own_addresses(os.getpid())) == expected
    assert procfs.own_addresses(0) == []


def test_without_docker(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        table = ProcessTable("n", root=ProcTree(tmp_path / "proc").root)
        now = 0.0
        finder = ServerFinder(table, sockets=lambda: [tmp_path / "gone"], clock=lambda: now)
        with caplog.at_level("INFO"):
            assert await found_after(table, finder, 0) == []
            now = 100.0
            assert await finder.find() == []
        assert len([r for r in caplog.records if "containers are not looked at" in r.message]) == 1

    asyncio.run(main())


# -- real processes ----------------------------------------------------------------------------------------------------

SERVER = """
import http.server, sys, threading
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = b'{"version": "0.32.0"}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(server.server_port, flush=True)
sys.stdin.read()
"""


@contextmanager
def python(script: Path, *arguments: str) -> Iterator[tuple[int, int]]:
    """A server in a process of its own: its PID and port."""
    script.write_text(SERVER)
    process = subprocess.Popen(
        [sys.executable, script, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield process.pid, int(process.stdout.readline())
    finally:
        process.stdin.close()
        process.wait(timeout=60)
        process.stdout.close()


def run(work: Callable[[], Awaitable[list[Found]]]) -> dict[int | None, Found]:
    async def main() -> list[Found]:
        return await work()

    return {found.pid: found for found in asyncio.run(main())}


def test_real_processes(tmp_path: Path) -> None:
    with (
        python(tmp_path / "vllm", "serve", "m", "--api-key", "k") as (pid, port),
        python(tmp_path / "other", "serve", "m") as (other, _),
    ):
        found = run(lambda: find_servers("node1", deadline=10))
        assert found[pid] == Found(
            f"http://127.0.0.1:{port}", f"node1:{port}", pid, found[pid].container, f"process {pid} listens"
        )
        assert other not in found
    assert pid not in run(lambda: find_servers("node1", deadline=10))
