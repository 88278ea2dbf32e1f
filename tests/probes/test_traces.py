"""Where a server writes its torch traces, by what ``/proc`` tells of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from monitor.probes import traces

SERVE = ("vllm", "serve", "m", "--port", "8000")


def _process(
    proc: Path, pid: int, *arguments: str, environment: str = "", cgroup: str = "", cwd: Path | None = None
) -> None:
    home = proc / str(pid)
    home.mkdir(parents=True)
    (home / "cmdline").write_bytes(b"".join(each.encode() + b"\0" for each in arguments))
    (home / "environ").write_bytes(environment.replace(" ", "\0").encode())
    (home / "cgroup").write_text(cgroup)
    if cwd is not None:
        (home / "cwd").symlink_to(cwd)


@pytest.mark.parametrize(
    "arguments",
    [
        ("--profiler-config", '{"profiler": "torch", "torch_profiler_dir": "/t"}'),
        ('--profiler-config={"profiler": "torch", "torch_profiler_dir": "/t"}',),
        ("--profiler-config.profiler", "torch", "--profiler-config.torch_profiler_dir", "/t"),
        ("--profiler-config.torch_profiler_dir=/t",),
        ("--profiler_config.torch_profiler_dir=/t",),
    ],
)
def test_the_folder_stands_in_the_command_line(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    _process(tmp_path, 7, *SERVE, *arguments)
    found = traces.find("http://127.0.0.1:8000", tmp_path)
    assert (found.path, found.seen, found.whose) == ("/t", "/t", "")


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--profiler-config", "{no json"),
        ("--profiler-config", '{"profiler": "cuda"}'),
        ("--profiler-config",),
        ("--profiler-config", '["torch_profiler_dir"]'),
    ],
)
def test_one_that_names_none_is_told(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    _process(tmp_path, 7, *SERVE, *arguments)
    found = traces.find("http://127.0.0.1:8000", tmp_path)
    assert found.path == ""
    assert found.why_not.startswith("neither its command line nor its environment")


def test_the_folder_stands_in_the_environment(tmp_path: Path) -> None:
    _process(tmp_path, 7, *SERVE, environment="HOME=/root VLLM_TORCH_PROFILER_DIR=/e SECRET=x")
    assert traces.find("http://localhost:8000", tmp_path).path == "/e"


def test_the_server_is_the_one_on_that_port(tmp_path: Path) -> None:
    _process(tmp_path, 7, "vllm", "serve", "m", "--port", "8001", "--profiler-config.torch_profiler_dir=/other")
    _process(tmp_path, 8, "python3", "-m", "other", "--port", "8000", "--profiler-config.torch_profiler_dir=/wrong")
    found = traces.find("http://127.0.0.1:8000", tmp_path)
    assert (found.path, found.why_not) == ("", "no process of this node is seen to serve port 8000")


def test_a_folder_below_the_servers_own_is_made_whole(tmp_path: Path) -> None:
    _process(tmp_path / "proc", 7, *SERVE, "--profiler-config.torch_profiler_dir=./out", cwd=tmp_path)
    assert traces.find("http://127.0.0.1:8000", tmp_path / "proc").path == f"{tmp_path}/out"


def test_a_container_is_named_and_looked_into(tmp_path: Path) -> None:
    group = f"0::/system.slice/docker-{'ab' * 32}.scope\n"
    _process(tmp_path, 7, *SERVE, "--profiler-config.torch_profiler_dir=/t", cgroup=group)
    inside = tmp_path / "7" / "root" / "t"
    inside.mkdir(parents=True)
    (inside / "rank0.1.pt.trace.json.gz").write_bytes(b"")
    found = traces.find("http://127.0.0.1:8000", tmp_path)
    assert (found.path, found.whose) == ("/t", "(inside the container docker:abababababab)")
    assert found.files_since(0) == (f"{inside}/rank0.1.pt.trace.json.gz",)


def test_a_bucket_is_no_folder_of_ours(tmp_path: Path) -> None:
    _process(tmp_path, 7, *SERVE, "--profiler-config.torch_profiler_dir=gs://bucket/t")
    found = traces.find("http://127.0.0.1:8000", tmp_path)
    assert (found.path, found.seen) == ("gs://bucket/t", "")
    assert found.files_since(0) == ()


def test_another_machines_processes_are_not_looked_at(tmp_path: Path) -> None:
    _process(tmp_path, 7, *SERVE, "--profiler-config.torch_profiler_dir=/t")
    found = traces.find("http://192.0.2.7:8000", tmp_path)
    assert (found.path, found.why_not) == ("", "it runs on another machine")
    assert traces.find("", tmp_path).why_not == "its address is not known"


def test_the_traces_of_this_profile_are_named_before_their_tables(tmp_path: Path) -> None:
    for name, age in (("rank0.1.pt.trace.json.gz", 3600), ("rank0.2.pt.trace.json.gz", 0), ("notes.md", 0),
                      ("a_profiler_out.txt", 0), ("vm.async_llm.3.pt.trace.json.gz", 0)):  # fmt: skip
        file = tmp_path / name
        file.write_bytes(b"x")
        os.utime(file, (1_000_000 - age, 1_000_000 - age))
    found = traces.Folder(str(tmp_path), str(tmp_path)).files_since(1_000_000 - 1)
    assert [Path(each).name for each in found] == [
        "rank0.2.pt.trace.json.gz", "vm.async_llm.3.pt.trace.json.gz", "a_profiler_out.txt",
    ]  # fmt: skip


def test_a_folder_that_is_not_there_has_no_traces(tmp_path: Path) -> None:
    assert traces.Folder("/x", str(tmp_path / "none")).files_since(0) == ()
