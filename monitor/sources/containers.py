"""Containers: which one a process runs in, from its control groups, and which ports a docker or podman publishes."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import msgspec

_ID = "([0-9a-f]{64})"
_FORMS = (
    ("podman", re.compile(rf"libpod-{_ID}(?:\.scope)?(?:/|$)")),
    ("containerd", re.compile(rf"(?:cri-containerd|nerdctl)[-:]{_ID}(?:\.scope)?(?:/|$)")),
    ("cri-o", re.compile(rf"crio-{_ID}(?:\.scope)?(?:/|$)")),
    ("docker", re.compile(rf"(?:docker-|/docker/|/ecs/[^/]+/){_ID}(?:\.scope)?(?:/|$)")),
    ("containerd", re.compile(rf"/(?:default|k8s\.io|moby|kubepods[^/]*(?:/[^/]+)*)/{_ID}(?:/|$)")),
    # A pod beside our own one, seen from within it: what both are in is left out of the path.
    (
        "containerd",
        re.compile(rf"/pod(?:[0-9a-f]{{8}}-(?:[0-9a-f]{{4}}-){{3}}[0-9a-f]{{12}}|[0-9a-f]{{32}})/{_ID}(?:/|$)"),
    ),
)
_POD = re.compile(r"pod([0-9a-f]{8}[-_](?:[0-9a-f]{4}[-_]){3}[0-9a-f]{12}|[0-9a-f]{32})(?:\.slice)?(?:[/:]|$)")

_LONGEST = 300
"""Characters of a control group's path that are told."""
MAX_ANSWER = 4 << 20
"""Bytes of a list of containers; a longer one is given up."""


class Container(msgspec.Struct, frozen=True):
    """Where a process runs."""

    runtime: str
    id: str
    """All 64 digits."""
    pod: str = ""
    """The UID of its Kubernetes pod."""

    def __str__(self) -> str:
        short = self.id[:12]
        return f"pod/{self.pod}/{short}" if self.pod else f"{self.runtime}:{short}"


def container_of(cgroup: str) -> Container | None:
    """The container that ``/proc/PID/cgroup`` names, in the layouts of cgroup v1 and v2 and of the systemd and the
    cgroupfs driver. The innermost where one runs in another."""
    for line in cgroup.splitlines():
        path = line.split(":", 2)[-1]
        best: tuple[int, str, str] | None = None
        for runtime, form in _FORMS:
            for match in form.finditer(path):
                if best is None or match.start(1) > best[0]:
                    best = (match.start(1), runtime, match.group(1))
        if best is not None:
            pods = _POD.findall(path)
            return Container(best[1], best[2], pods[-1].replace("_", "-") if pods else "")
    return None


def group_of(cgroup: str) -> str:
    """The path of the control group that ``/proc/PID/cgroup`` names: of v2, else of v1's memory; "" for the root."""
    paths = {}
    for line in cgroup.splitlines():
        controllers, _, path = line.partition(":")[2].partition(":")
        paths["v2" if not controllers else "memory" if "memory" in controllers.split(",") else "other"] = path
    path = paths.get("v2") or ""
    if path in ("", "/"):  # v1, with or without an empty tree of v2 beside it
        path = paths.get("memory", path)
    return "" if path == "/" else path[:_LONGEST]


class Published(msgspec.Struct, frozen=True):
    """A container that a docker or podman runs."""

    id: str
    name: str
    command: str
    """Its entry point and arguments. May hold keys: never shown."""
    ports: Mapping[int, tuple[str, int]] = msgspec.field(default_factory=dict)
    """Its TCP ports that are reached from here: the address and the port on this machine."""


def sockets() -> list[Path]:
    """The sockets of docker and podman that we may use."""
    runtime = os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}"
    places = (
        "/var/run/docker.sock",
        "/run/podman/podman.sock",
        f"{runtime}/docker.sock",
        f"{runtime}/podman/podman.sock",
    )
    return [Path(place) for place in places if os.access(place, os.R_OK | os.W_OK)]


async def published(socket: Path, deadline: float = 1.0) -> Sequence[Published]:
    """The containers that run, asked over the API of docker, which podman speaks too. Only reads.

    Raises ``httpx.HTTPError`` where there is no answer in ``deadline`` seconds, and ``ValueError`` where it is no list
    of containers."""
    body = b""
    async with (
        httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(uds=str(socket)), timeout=deadline, trust_env=False
        ) as client,
        # Without a version in the path: each daemon refuses versions that are too old or too new for it.
        client.stream("GET", "http://localhost/containers/json") as response,
    ):
        if response.status_code != 200:
            raise ValueError(f"{socket}: HTTP {response.status_code}")
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) > MAX_ANSWER:
                raise ValueError(f"{socket}: the answer has more than {MAX_ANSWER >> 20} MiB")
    try:
        rows = msgspec.json.decode(body, type=list[dict[str, Any]])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{socket}: no list of containers: {error}") from None
    return [_published(row) for row in rows if isinstance(row.get("Id"), str)]


def _published(row: Mapping[str, Any]) -> Published:
    ports: dict[int, tuple[str, int]] = {}
    for port in row.get("Ports") or ():
        private, public = port.get("PrivatePort"), port.get("PublicPort")
        if port.get("Type") == "tcp" and isinstance(private, int) and isinstance(public, int):
            ports.setdefault(private, (str(port.get("IP") or ""), public))
    names = row.get("Names") or [""]
    command = row.get("Command") or ""
    # Podman gives a list where docker gives a text.
    return Published(
        row["Id"],
        str(names[0]).lstrip("/"),
        " ".join(map(str, command)) if isinstance(command, list) else str(command),
        ports,
    )
