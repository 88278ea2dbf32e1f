"""Containers by control group, and the ports that a docker publishes, against a server on a unix socket."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import httpx
import pytest

from monitor.sources.containers import container_of, group_of, published

ID = "0123456789abcdef" * 4
OTHER = "fedcba9876543210" * 4
UID = "1f2e3d4c-5b6a-4978-8695-a4b3c2d1e0f9"
UNDERSCORED = UID.replace("-", "_")


@pytest.mark.parametrize(
    ("cgroup", "shown"),
    [
        (f"0::/system.slice/docker-{ID}.scope\n", "docker:0123456789ab"),
        (f"12:memory:/docker/{ID}\n1:name=systemd:/docker/{ID}\n", "docker:0123456789ab"),
        (f"0::/docker/{ID}/init\n", "docker:0123456789ab"),
        (f"9:cpu:/ecs/abcd/{ID}\n", "docker:0123456789ab"),
        (f"0::/../docker-{ID}.scope\n", "docker:0123456789ab"),
        (f"0::/machine.slice/libpod-{ID}.scope/container\n", "podman:0123456789ab"),
        (f"0::/user.slice/user-1.slice/user@1.service/user.slice/libpod-{ID}.scope\n", "podman:0123456789ab"),
        (f"4:pids:/libpod_parent/libpod-{ID}\n", "podman:0123456789ab"),
        (f"0::/system.slice/nerdctl-{ID}.scope\n", "containerd:0123456789ab"),
        (f"4:pids:/default/{ID}\n", "containerd:0123456789ab"),
        (
            f"0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{UNDERSCORED}.slice/cri-containerd-{ID}.scope",
            f"pod/{UID}/0123456789ab",
        ),
        (f"0::/kubepods.slice/kubepods-pod{UNDERSCORED}.slice/crio-{ID}.scope", f"pod/{UID}/0123456789ab"),
        (f"0::/kubepods.slice/kubepods-pod{UNDERSCORED}.slice/docker-{ID}.scope", f"pod/{UID}/0123456789ab"),
        (f"11:cpu:/kubepods/besteffort/pod{UID}/{ID}\n", f"pod/{UID}/0123456789ab"),
        (
            f"2:cpu:/system.slice/containerd.service/kubepods-besteffort-pod{UNDERSCORED}.slice:cri-containerd:{ID}",
            f"pod/{UID}/0123456789ab",
        ),
        (f"0::/docker/{OTHER}/kubelet/kubepods/burstable/pod{UID}/{ID}\n", f"pod/{UID}/0123456789ab"),
        (f"0::/../../kubepods-burstable-pod{UNDERSCORED}.slice/cri-containerd-{ID}.scope\n", f"pod/{UID}/0123456789ab"),
        (f"0::/../../pod{UID}/{ID}\n", f"pod/{UID}/0123456789ab"),
        (f"0::/../../../besteffort/pod{UID}/{ID}\n", f"pod/{UID}/0123456789ab"),
        (f"11:cpu:/\n0::/system.slice/docker-{ID}.scope\n", "docker:0123456789ab"),
        ("0::/\n", None),
        ("", None),
        ("0::/user.slice/user-1000.slice/session-4.scope\n", None),
        ("0::/system.slice/docker.service\n", None),
        (f"0::/system.slice/docker-{ID[:40]}.scope\n", None),
        (f"0::/system.slice/{ID}\n", None),
        ("nonsense", None),
    ],
)
def test_the_container_of_a_process(cgroup: str, shown: str | None) -> None:
    found = container_of(cgroup)
    assert (str(found) if found is not None else None) == shown
    assert found is None or found.id == ID


async def ask(socket: Path, answer: bytes, deadline: float = 5.0) -> tuple[object, bytes]:
    heard = b""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal heard
        heard = await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        if not answer:
            await reader.read()  # until the other side gives up
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_unix_server(handle, socket)
    async with server:
        try:
            return await published(socket, deadline), heard
        finally:
            server.close()


def http(body: bytes, status: str = "200 OK") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body


@pytest.mark.parametrize(
    ("cgroup", "path"),
    [
        ("0::/system.slice/vllm.service\n", "/system.slice/vllm.service"),
        ("0::/\n", ""),
        ("", ""),
        ("12:cpu,cpuacct:/a\n7:memory:/slurm/job_12\n1:name=systemd:/b\n", "/slurm/job_12"),
        ("7:memory:/slurm/job_12\n0::/\n", "/slurm/job_12"),
        ("7:memory:/\n0::/user.slice/x:y\n", "/user.slice/x:y"),
        ("0::/" + "x" * 999, "/" + "x" * 299),
    ],
)
def test_the_control_group_of_a_process(cgroup: str, path: str) -> None:
    assert group_of(cgroup) == path


def test_published_ports(tmp_path: Path) -> None:
    rows = [
        {
            "Id": ID,
            "Names": ["/llama"],
            "Command": "vllm serve m --api-key k",
            "Ports": [
                {"IP": "127.0.0.1", "PrivatePort": 8000, "PublicPort": 18000, "Type": "tcp"},
                {"IP": "::", "PrivatePort": 8000, "PublicPort": 18000, "Type": "tcp"},
                {"PrivatePort": 9000, "Type": "tcp"},
                {"IP": "", "PrivatePort": 53, "PublicPort": 53, "Type": "udp"},
            ],
        },
        {"Id": OTHER, "Names": None, "Command": ["vllm", "serve"], "Ports": None},
        {"Id": 5},
    ]
    found, heard = asyncio.run(ask(tmp_path / "s", http(json.dumps(rows).encode())))
    assert isinstance(found, list)
    assert heard.startswith(b"GET /containers/json HTTP/1.1\r\n")
    assert [(each.id, each.name, each.command, dict(each.ports)) for each in found] == [
        (ID, "llama", "vllm serve m --api-key k", {8000: ("127.0.0.1", 18000)}),
        (OTHER, "", "vllm serve", {}),
    ]


@pytest.mark.parametrize("answer", [http(b"nonsense"), http(b"{}"), http(b"[1]"), http(b"[]", "403 Forbidden")])
def test_an_answer_that_is_no_list_of_containers(tmp_path: Path, answer: bytes) -> None:
    with pytest.raises(ValueError, match=str(tmp_path)):
        asyncio.run(ask(tmp_path / "s", answer))


def test_a_docker_that_does_not_answer(tmp_path: Path) -> None:
    with pytest.raises(httpx.HTTPError):
        asyncio.run(ask(tmp_path / "s", b"", deadline=0.05))
    with pytest.raises(httpx.HTTPError):
        asyncio.run(published(tmp_path / "nobody"))
