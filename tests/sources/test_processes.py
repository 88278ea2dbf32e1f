"""Who runs on the GPUs: on trees of /proc as vLLM's processes make them, and on real processes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import psutil
import pytest

from monitor.samples import GpuProcess
from monitor.sources import node_scan, nvml_reader, procfs
from monitor.sources.processes import HURRY_MS, INTERVAL_MS, MAX_LEFT_BEHIND, ProcessTable
from tests.sources.proc_tree import ANYWHERE, BOOT, DOCKER, ProcTree, vllm_node


def on_gpu(pid: int, gpu: int = 0) -> GpuProcess:
    return GpuProcess(str(gpu), f"GPU-{gpu}", pid, 1 << 30, "compute")


def looked(table: ProcessTable, rows: Iterable[GpuProcess], now_ms: int = 1_000) -> tuple[GpuProcess, ...]:
    """The rows of a second poll, after the processes were looked at."""
    table.enrich(rows, now_ms)
    assert asyncio.run(table.refresh(now_ms, deadline=30))
    return table.enrich(rows, now_ms + 1_000)


def said(rows: Iterable[GpuProcess]) -> dict[int, tuple[str, str, str]]:
    return {row.pid: (row.server, row.engine, row.rank) for row in rows}


def test_workers_name_their_server_and_rank(tmp_path: Path) -> None:
    tree = vllm_node(tmp_path)
    table = ProcessTable("node1", root=tree.root)
    rows = looked(table, [on_gpu(103), on_gpu(104, 1)])
    assert said(rows) == {103: ("node1:8000", "0", "0"), 104: ("node1:8000", "0", "1")}
    assert [row.name for row in rows] == ["VLLM::Worker_TP0", "VLLM::Worker_TP1"]
    assert [(row.gpu, row.uuid, row.memory_bytes, row.kind) for row in rows] == [
        ("0", "GPU-0", 1 << 30, "compute"),
        ("1", "GPU-1", 1 << 30, "compute"),
    ]
    others = table.engine_processes(2_000, beside=rows)
    assert said(others) == {100: ("node1:8000", "", ""), 102: ("node1:8000", "0", "")}
    assert [row.name for row in others] == ["vllm serve", "VLLM::EngineCore"]
    assert others[0].command == "python3 vllm serve org/m-7b --tensor-parallel-size 2 --api-key …"
    assert {(row.gpu, row.uuid, row.memory_bytes, row.kind) for row in others} == {("", "", None, "host")}
    assert {row.pid: row.parent for row in (*rows, *others)} == {100: 1, 102: 100, 103: 102, 104: 102}


def test_numbers_of_a_process(tmp_path: Path) -> None:
    tree = vllm_node(tmp_path)
    table = ProcessTable("n", root=tree.root)
    cgroup = f"0::/system.slice/docker-{DOCKER}.scope\n"
    worker = {"parent": 102, "comm": "VLLM::Worker_TP", "start": 250 * procfs.TICKS, "cgroup": cgroup, "rss_pages": 3}
    tree.process(103, "VLLM::Worker_TP0", ticks=0, **worker)  # type: ignore[arg-type]
    (first,) = table.enrich([on_gpu(103)], 1_000)
    assert (first.cpu_ratio, first.command) == (None, "")
    assert (first.rss_bytes, first.started_ms) == (3 * procfs.PAGE, (BOOT + 250) * 1000)
    tree.process(103, "VLLM::Worker_TP0", ticks=3 * procfs.TICKS, **worker)  # type: ignore[arg-type]
    asyncio.run(table.refresh(2_000))
    (second,) = table.enrich([on_gpu(103)], 3_000)
    assert second.cpu_ratio == 1.5
    assert second.container == "docker:" + DOCKER[:12]
    assert second.cgroup == f"/system.slice/docker-{DOCKER}.scope"
    assert (second.parent, second.threads) == (102, 7)
    assert second.command == "VLLM::Worker_TP0"
    # Asked again too soon, it is the same: a tick is too coarse.
    assert table.enrich([on_gpu(103)], 3_100)[0].cpu_ratio == 1.5


def test_a_process_that_is_not_to_be_seen_stays_as_it_was(tmp_path: Path) -> None:
    table = ProcessTable("n", root=vllm_node(tmp_path).root)
    row = GpuProcess("0", "GPU-0", 999, None, "compute", "given", "bob")
    assert looked(table, [row]) == (row,)


def test_a_process_that_ends_and_whose_pid_is_used_again(tmp_path: Path) -> None:
    tree = vllm_node(tmp_path)
    table = ProcessTable("n", root=tree.root)
    assert looked(table, [on_gpu(103)])[0].server == "n:8000"
    tree.end(103)
    assert table.enrich([on_gpu(103)], 3_000)[0].command == ""
    tree.process(103, ["sleep", "5"], start=5_000, ticks=700, comm="sleep")
    (row,) = table.enrich([on_gpu(103)], 4_000)
    assert (row.server, row.rank, row.name, row.cpu_ratio) == ("", "", "sleep", None)
    assert asyncio.run(table.refresh(1_000 + HURRY_MS, deadline=30))
    (row,) = table.enrich([on_gpu(103)], 5_000)
    assert (row.server, row.command) == ("", "sleep …")


def test_a_process_that_ends_while_it_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = vllm_node(tmp_path)
    table = ProcessTable("n", root=tree.root)
    real = procfs.read_command

    def ends(pid: int, root: Path = procfs.PROC) -> bytes:
        command = real(pid, root)
        if pid in (100, 103):
            tree.end(pid)
        return command

    monkeypatch.setattr(procfs, "read_command", ends)
    # The server is gone: its workers are still known for what they are.
    assert said(looked(table, [on_gpu(103), on_gpu(104)])) == {103: ("", "", ""), 104: ("", "0", "1")}


def test_a_title_that_comes_later_is_seen(tmp_path: Path) -> None:
    tree = vllm_node(tmp_path)
    tree.process(103, "VLLM::Worker", parent=102, comm="VLLM::Worker")
    table = ProcessTable("n", root=tree.root)
    looked(table, [on_gpu(103)])
    assert not asyncio.run(table.refresh(1_000 + HURRY_MS))
    tree.process(103, "VLLM::Worker_TP1", parent=102, comm="VLLM::Worker_TP")
    table.enrich([on_gpu(103)], 3_500)
    assert asyncio.run(table.refresh(1_000 + HURRY_MS, deadline=30))
    assert table.enrich([on_gpu(103)], 4_000)[0].rank == "1"


def test_it_looks_seldom(tmp_path: Path) -> None:
    table = ProcessTable("n", root=vllm_node(tmp_path).root)
    times = [0, 1_000, 9_999, INTERVAL_MS, INTERVAL_MS + 1]
    assert [asyncio.run(table.refresh(at)) for at in times] == [True, False, False, True, False]
    # A clock that was set back is no reason to look no more.
    assert asyncio.run(table.refresh(5))


LAYOUTS = {
    "data parallel": (
        {102: ("VLLM::EngineCore_DP0", 100), 103: ("VLLM::EngineCore_DP1", 100)},
        {102: ("n:8000", "0", "0"), 103: ("n:8000", "1", "0")},
    ),
    "data parallel, workers that do not know of it": (
        {
            102: ("VLLM::EngineCore_DP0", 100),
            103: ("VLLM::Worker_TP0", 102),
            104: ("VLLM::Worker_TP1", 102),
            105: ("VLLM::EngineCore_DP1", 100),
            106: ("VLLM::Worker_TP1", 105),
        },
        {103: ("n:8000", "0", "0"), 104: ("n:8000", "0", "1"), 106: ("n:8000", "1", "1"), 105: ("n:8000", "1", "")},
    ),
    "expert parallel": (
        {102: ("VLLM::EngineCore_DP1", 100), 103: ("VLLM::Worker_DP1_TP0_EP2", 102)},
        {103: ("n:8000", "1", "0")},
    ),
    "pipeline and tensor parallel": (
        {
            102: ("VLLM::EngineCore", 100),
            103: ("VLLM::Worker_PP0_TP1", 102),
            104: ("VLLM::Worker_PP1_TP0", 102),
            105: ("VLLM::Worker_PP1_TP1", 102),
        },
        {103: ("n:8000", "0", "1"), 104: ("n:8000", "0", "2"), 105: ("n:8000", "0", "3")},
    ),
    "pipeline parallel only": (
        {102: ("VLLM::EngineCore", 100), 103: ("VLLM::Worker_PP1", 102)},
        {103: ("n:8000", "0", "1")},
    ),
    "one worker": (
        {102: ("VLLM::EngineCore", 100), 103: ("VLLM::Worker", 102)},
        {103: ("n:8000", "0", "0"), 102: ("n:8000", "0", "")},
    ),
    "an older version's title": ({102: ("VLLM::EngineCore_0", 100)}, {102: ("n:8000", "0", "0")}),
    "the coordinator has no engine": ({102: ("VLLM::DPCoordinator", 100)}, {102: ("n:8000", "", "")}),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_engines_and_ranks(tmp_path: Path, layout: str) -> None:
    titles, expected = LAYOUTS[layout]
    tree = ProcTree(tmp_path)
    tree.process(100, ["vllm", "serve", "m"])
    for pid, (title, parent) in titles.items():
        tree.process(pid, title, parent=parent, comm=title[:15])
    table = ProcessTable("n", root=tree.root)
    assert said(looked(table, [on_gpu(pid) for pid in expected])) == expected


def test_each_engine_with_an_api_server_of_its_own(tmp_path: Path) -> None:
    tree = ProcTree(tmp_path)
    tree.process(100, ["vllm", "serve", "m", "--port", "9000"])
    for rank in (0, 1):
        tree.process(110 + rank, f"VLLM::APIServer_DP{rank}", parent=100)
        tree.process(120 + rank, f"VLLM::EngineCore_DP{rank}", parent=110 + rank)
        tree.listen(110 + rank, 9000 + rank, inode=70 + rank)
    table = ProcessTable("n", root=tree.root)
    assert said(looked(table, [on_gpu(120), on_gpu(121)])) == {120: ("n:9000", "0", "0"), 121: ("n:9001", "1", "0")}


def test_several_api_servers_of_one_port(tmp_path: Path) -> None:
    tree = ProcTree(tmp_path)
    tree.process(100, ["vllm", "serve", "m", "--config", "c.yaml"])
    tree.process(110, "VLLM::APIServer_0", parent=100)
    tree.process(111, "VLLM::APIServer_1", parent=100)
    tree.listen(111, 9100, inode=71)
    tree.process(120, "VLLM::EngineCore", parent=100)
    table = ProcessTable("n", root=tree.root)
    assert said(looked(table, [on_gpu(120)])) == {120: ("n:9100", "0", "0")}
    assert [(server.pid, server.addresses) for server in table.servers] == [(100, ((ANYWHERE, 9100),))]


def test_workers_without_titles_are_numbered_by_their_gpus(tmp_path: Path) -> None:
    tree = ProcTree(tmp_path)
    tree.process(100, ["vllm", "serve", "m"])
    spawned = ["python3", "-c", "from multiprocessing.spawn import spawn_main", "--multiprocessing-fork"]
    for pid, parent in ((101, 100), (102, 101), (103, 101)):
        tree.process(pid, spawned, parent=parent)
    table = ProcessTable("n", root=tree.root)
    rows = looked(table, [on_gpu(103, 2), on_gpu(102, 10)])
    assert said(rows) == {103: ("n:8000", "0", "0"), 102: ("n:8000", "0", "1")}
    # A server that does all the work itself.
    assert said(looked(table, [on_gpu(100)], 20_000)) == {100: ("n:8000", "0", "0")}


def test_a_stranger_on_the_gpu_belongs_to_nobody(tmp_path: Path) -> None:
    tree = vllm_node(tmp_path)
    tree.process(200, ["python3", "train.py", "--token", "hunter2"], comm="python3")
    (row,) = looked(ProcessTable("n", root=tree.root), [on_gpu(200)])
    assert (row.server, row.engine, row.rank, row.command) == ("", "", "", "python3 train.py …")


def test_labels_of_the_configuration(tmp_path: Path) -> None:
    tree = vllm_node(tmp_path)
    for url, label in (
        ("http://127.0.0.1:8000", "llama"),
        ("http://[::1]:8000", "llama"),
        ("https://n:8000", "llama"),
        ("http://gpu2:8000", "n:8000"),
        ("http://localhost:8001", "n:8000"),
    ):
        table = ProcessTable("n", {url: "llama"}, root=tree.root)
        assert looked(table, [on_gpu(103)])[0].server == label


def test_a_server_of_another_user_is_known_by_its_port(tmp_path: Path) -> None:
    tree = ProcTree(tmp_path)
    tree.process(100, ["vllm", "serve", "m", "--port", "9000"], uid=4711)
    tree.listen(100, 9000, inode=5, uid=4711, shown=False)
    tree.process(200, ["vllm", "serve", "m", "--port", "9001"], uid=4711)
    tree.listen(200, 9001, inode=6, uid=4712, shown=False)  # somebody else's
    table = ProcessTable("n", root=tree.root)
    asyncio.run(table.refresh(0))
    assert {server.pid: server.addresses for server in table.servers} == {100: ((ANYWHERE, 9000),), 200: ()}


@pytest.mark.parametrize("shown", [True, False])
def test_a_server_in_a_network_of_its_own_has_no_label_of_ours(tmp_path: Path, shown: bool) -> None:
    tree = ProcTree(tmp_path)
    tree.process(50, ["nginx"])
    tree.listen(50, 8000, inode=5)  # the same port, another program
    tree.process(100, ["vllm", "serve", "m"], cgroup=f"0::/docker/{DOCKER}\n")
    tree.listen(100, 8000, inode=6, own_network=True, shown=shown)
    tree.process(101, "VLLM::EngineCore", parent=100)
    table = ProcessTable("n", root=tree.root)
    assert said(looked(table, [on_gpu(101)])) == {101: ("", "0", "0")}
    (server,) = table.servers
    assert (server.reachable, server.ports) == (False, (8000,))
    table.learn(server, "n:18000")
    assert said(table.enrich([on_gpu(101)], 4_000)) == {101: ("n:18000", "0", "0")}
    asyncio.run(table.refresh(20_000))
    assert said(table.enrich([on_gpu(101)], 20_000)) == {101: ("n:18000", "0", "0")}


def test_a_process_whose_command_line_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = vllm_node(tmp_path)
    table = ProcessTable("n", root=tree.root)
    looked(table, [on_gpu(103), on_gpu(104)])
    release = threading.Event()
    real = procfs.read_command

    def hangs(pid: int, root: Path = procfs.PROC) -> bytes:
        if pid == 103:
            release.wait(60)
        return real(pid, root)

    monkeypatch.setattr(procfs, "read_command", hangs)
    try:
        tree.process(200, ["sleep", "1"], comm="sleep")
        assert not asyncio.run(table.refresh(20_000, deadline=0.05))
        assert table.left_behind == 1
        # The others are looked at all the same, and what was known of the one that hangs stays.
        assert asyncio.run(table.refresh(40_000, deadline=30))
        rows = table.enrich([on_gpu(103), on_gpu(104), on_gpu(200)], 41_000)
        assert said(rows)[103] == ("n:8000", "0", "0")
        assert said(rows)[104] == ("n:8000", "0", "1")
        asyncio.run(table.refresh(60_000))
        assert table.enrich([on_gpu(200)], 61_000)[0].command == "sleep …"
    finally:
        release.set()
    until = time.monotonic() + 30
    now = 80_000
    while table.left_behind and time.monotonic() < until:
        now += INTERVAL_MS
        asyncio.run(table.refresh(now))
    assert table.left_behind == 0


def test_a_directory_of_users_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = vllm_node(tmp_path)
    uid = 2_000_000_000
    tree.process(103, "VLLM::Worker_TP0", parent=102, uid=uid)
    release, ended = threading.Event(), threading.Event()

    def hangs(_uid: int) -> object:
        release.wait(60)
        ended.set()
        raise KeyError

    monkeypatch.setattr("pwd.getpwuid", hangs)
    monkeypatch.setattr(node_scan, "USER_PATIENCE", 0.01)
    monkeypatch.setattr(node_scan, "_users", {})
    try:
        assert looked(ProcessTable("n", root=tree.root), [on_gpu(103)])[0].user == str(uid)
        assert not ended.is_set()
    finally:
        release.set()
    assert ended.wait(30)


def test_a_users_name_is_asked_for_again_once_a_thread_can_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(node_scan, "_users", {})
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", none)
        assert node_scan._user(0) == "0"
        users = nvml_reader.Names()
        assert users._user(0) == "0"
    assert node_scan._user(0) == users._user(0) == pwd.getpwuid(0).pw_name


def test_no_more_than_a_few_threads_hang(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = vllm_node(tmp_path)
    table = ProcessTable("n", root=tree.root)
    release = threading.Event()
    begun = []

    def hangs(pid: int, root: Path = procfs.PROC) -> bytes:
        begun.append(pid)
        release.wait(60)
        return b""

    monkeypatch.setattr(procfs, "read_command", hangs)
    try:
        for at in range(MAX_LEFT_BEHIND + 3):
            assert not asyncio.run(table.refresh(at * INTERVAL_MS, deadline=0.05))
        assert len(begun) == len(set(begun)) == table.left_behind == MAX_LEFT_BEHIND
    finally:
        release.set()


def test_a_fault_in_the_look_is_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> node_scan.Scan:
        raise RuntimeError("broken")

    monkeypatch.setattr("monitor.sources.processes.scan", fails)
    with pytest.raises(RuntimeError, match="broken"):
        asyncio.run(ProcessTable("n", root=tmp_path).refresh(0))


# -- real processes ----------------------------------------------------------------------------------------------------

SERVER = """
import os, socket, subprocess, sys
listening = socket.create_server(("127.0.0.1", 0))
worker = subprocess.Popen(
    ["VLLM::Worker_TP3", "-c", "import sys; sys.stdin.read()"], executable=sys.executable, stdin=subprocess.PIPE
)
print(listening.getsockname()[1], worker.pid, flush=True)
sys.stdin.read()
worker.stdin.close()
worker.wait()
"""


@contextlib.contextmanager
def real_server(tmp_path: Path) -> Iterator[tuple[int, int, int]]:
    """A process with the arguments of ``vllm serve``, and a child: PIDs of both, and the port it listens on."""
    script = tmp_path / "vllm"
    script.write_text(SERVER)
    process = subprocess.Popen(
        [sys.executable, script, "serve", "org/m", "--api-key", "hunter2"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        port, worker = map(int, process.stdout.readline().split())
        yield process.pid, worker, port
    finally:
        process.stdin.close()
        process.wait(timeout=60)
        process.stdout.close()


def test_real_processes(tmp_path: Path) -> None:
    with real_server(tmp_path) as (pid, worker, port):
        table = ProcessTable("n")
        rows = looked(table, [on_gpu(pid), on_gpu(worker, 1), on_gpu(os.getpid(), 2)], 10_000)
        server = next(server for server in table.servers if server.pid == pid)
        # No --port, and nobody on 8000: its own socket says it.
        assert server.addresses == (("127.0.0.1", port),)
        assert [row.server for row in rows] == [f"n:{port}", f"n:{port}", ""]
        real = psutil.Process(pid)
        assert rows[0].command == f"{Path(sys.executable).name} vllm serve org/m --api-key …"
        assert rows[0].user == real.username()
        assert rows[0].started_ms is not None
        assert abs(rows[0].started_ms - real.create_time() * 1000) < 2_000
        assert rows[0].rss_bytes is not None
        assert rows[0].rss_bytes == pytest.approx(real.memory_info().rss, rel=0.5)
        assert "hunter2" not in repr(rows)
    assert table.enrich([on_gpu(pid)], 20_000) == (on_gpu(pid),)


def test_the_kernels_own_forms(tmp_path: Path) -> None:
    mine = procfs.read_stat(os.getpid())
    assert mine is not None
    assert mine.parent == os.getppid()
    assert mine.ticks > 0
    assert procfs.read_uid(os.getpid()) == os.getuid()
    assert procfs.read_stat(2**22 + 1) is None
    assert procfs.boot_ms() == pytest.approx(psutil.boot_time() * 1000, abs=2_000)
    assert os.getpid() in procfs.pids()
    families = [socket.AF_INET] + ([socket.AF_INET6] if has_ipv6() else [])
    for family in families:
        address = "127.0.0.1" if family == socket.AF_INET else "::1"
        with socket.create_server((address, 0), family=family) as listening:
            inode = os.fstat(listening.fileno()).st_ino
            (found,) = [each for each in procfs.listeners() if each.inode == inode]
            assert (found.address, found.port, found.uid) == (address, listening.getsockname()[1], os.getuid())
            assert inode in (procfs.socket_inodes(os.getpid()) or set())


def has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


def test_a_name_with_brackets(tmp_path: Path) -> None:
    tree = ProcTree(tmp_path)
    tree.process(7, ["x"], parent=3, comm="a) (b c")
    stat = procfs.read_stat(7, tree.root)
    assert stat is not None
    assert (stat.comm, stat.parent, stat.start) == ("a) (b c", 3, 1000)
    for bad in ("", "7 (x", "7 (x) S 1", "7 (x) S " + "y " * 30):
        (tree.root / "7/stat").write_text(bad)
        assert procfs.read_stat(7, tree.root) is None
