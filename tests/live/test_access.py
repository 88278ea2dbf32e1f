"""A node that is read from elsewhere: a real Prometheus over TLS with a token's file or with a certificate, a real
amtool, and gpumon's own client. Who shows the wrong thing, or nothing, gets nothing."""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.certificates import Authority
from tests.live import install_prometheus
from tests.live.servers import PROJECT, Process, Prometheus, free_port, get, running, wait_for
from tests.live.terminal import terminal

pytestmark = pytest.mark.live

READER, CHANGER = "reader-7f3a9c51d0e2", "changer-1b77e2d09c44"


@dataclass(frozen=True)
class Node:
    """A simulated one with all three ways in."""

    folder: Path
    address: str
    authority: Authority
    process: Process

    @property
    def url(self) -> str:
        return f"https://{self.address}"

    def gpumon(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Our own command line, with nothing of this machine's in its environment."""
        home = {"HOME": str(self.folder), "XDG_RUNTIME_DIR": str(self.folder), "PYTHONPATH": str(PROJECT)}
        environment = {key: value for key, value in os.environ.items() if not key.startswith("GPUMON_")}
        return subprocess.run(
            [sys.executable, "-m", "monitor", *arguments],
            capture_output=True, text=True, timeout=60, env={**environment, **home}, cwd=self.folder,
        )  # fmt: skip


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    folder = tmp_path_factory.mktemp("access")
    authority = Authority(folder)
    cert, key = authority.sign("node")
    authority.sign("prometheus")
    for name, secret in (("reader", READER), ("changer", CHANGER)):
        (folder / name).write_text(f"{secret}\n")
        (folder / name).chmod(0o640)
    port = free_port()
    config = {
        "node": {"hostname": "node1", "instance": "node1:9519"},
        "state_directory": str(folder / "state"),
        "api": {
            "socket": str(folder / "gpumon.sock"),
            "listen": f"0.0.0.0:{port}",
            "token": {"file": str(folder / "changer")},
            "read_token": {"file": str(folder / "reader")},
            "tls": {"cert_file": str(cert), "key_file": str(key), "client_ca_file": str(authority.ca)},
        },
        "receivers": [{"name": "team", "webhook": "http://127.0.0.1:1/"}],
    }
    file = folder / "gpumon.yaml"
    file.write_text(json.dumps(config))
    context = ssl.create_default_context(cafile=authority.ca)

    def ready() -> bool:
        with httpx.Client(trust_env=False, timeout=10, verify=context) as client:
            return client.get(f"https://127.0.0.1:{port}/-/ready").status_code == 200

    command: list[str | Path] = [sys.executable, "-m", "monitor", "daemon", "--config", file, "--simulate"]
    with running("node", command, folder, ready, environment={"PYTHONPATH": str(PROJECT)}) as process:
        yield Node(folder, f"127.0.0.1:{port}", authority, process)


@contextmanager
def prometheus_of(folder: Path, jobs: list[dict[str, Any]]) -> Iterator[Prometheus]:
    """A real Prometheus with these jobs, each scraped every second."""
    port = free_port()
    file = folder / "prometheus.yml"
    settings = {"scrape_interval": "1s", "scrape_timeout": "1s"}
    file.write_text(json.dumps({"global": settings, "scrape_configs": jobs}))
    checked = subprocess.run(
        [install_prometheus.prometheus_bin() / "promtool", "check", "config", file], capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    command: list[str | Path] = [
        install_prometheus.prometheus_bin() / "prometheus", f"--config.file={file}",
        f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address=127.0.0.1:{port}",
    ]  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    with running("prometheus", command, folder, lambda: get(f"{url}/-/ready").status_code == 200) as process:
        yield Prometheus(url, process)


def test_prometheus_scrapes_with_a_tokens_file_or_a_certificate(node: Node, tmp_path: Path) -> None:
    folder, ca = node.folder, str(node.authority.ca)
    (tmp_path / "wrong").write_text("no-such-token")
    shown: dict[str, dict[str, Any]] = {
        "reader": {"authorization": {"credentials_file": str(folder / "reader")}, "tls_config": {"ca_file": ca}},
        "certificate": {
            "tls_config": {
                "ca_file": ca,
                "cert_file": str(folder / "prometheus.pem"),
                "key_file": str(folder / "prometheus.key"),
            }
        },
        "nothing": {"tls_config": {"ca_file": ca}},
        "wrong": {"authorization": {"credentials_file": str(tmp_path / "wrong")}, "tls_config": {"ca_file": ca}},
    }
    jobs = [
        {"job_name": name, "scheme": "https", "static_configs": [{"targets": [node.address]}], **setting}
        for name, setting in shown.items()
    ]
    with prometheus_of(tmp_path, jobs) as server:

        def up() -> dict[str, str] | None:
            found = {dict(labels)["job"]: value for labels, value in server.query("up").items()}
            return found if len(found) == 4 and found["reader"] == found["certificate"] == "1" else None

        seen = wait_for("both are scraped", up, 30, server.process)
        assert seen == {"reader": "1", "certificate": "1", "nothing": "0", "wrong": "0"}
        errors = {one["labels"]["job"]: one["lastError"] for one in server.api("targets")["activeTargets"]}
        assert "401 Unauthorized" in errors["nothing"]
        assert "401 Unauthorized" in errors["wrong"]
        assert len(server.query('DCGM_FI_DEV_GPU_TEMP{job="reader"}')) == 8


def test_amtool_silences_with_the_token_and_not_with_the_readers(node: Node, tmp_path: Path) -> None:
    def amtool(token: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        file = tmp_path / f"{token}.yml"
        authorization = {"credentials_file": str(node.folder / token)} if token != "nobody" else {}
        ca = {"ca_file": str(node.authority.ca)}
        file.write_text(
            yaml.safe_dump({"tls_config": ca} | ({"authorization": authorization} if authorization else {}))
        )
        command: list[str | Path] = [install_prometheus.prometheus_bin() / "amtool", f"--alertmanager.url={node.url}"]
        return subprocess.run(
            [*command, f"--http.config.file={file}", *arguments], capture_output=True, text=True, timeout=60
        )

    added = amtool("changer", "silence", "add", "GpuHot", "-c", "test", "-a", "kim", "-d", "1h")
    assert added.returncode == 0, added.stderr
    ident = added.stdout.strip()
    assert amtool("reader", "silence", "query", "-q").stdout.split() == [ident]
    for refused in (("add", "GpuHot", "-c", "c", "-a", "kim"), ("expire", ident)):
        ran = amtool("reader", "silence", *refused)
        assert ran.returncode == 1
        assert "403" in ran.stderr
    nobody = amtool("nobody", "silence", "query")
    assert nobody.returncode == 1
    assert "401" in nobody.stderr
    assert amtool("changer", "silence", "expire", ident).returncode == 0


def test_our_own_client_shows_what_it_is_given(node: Node, tmp_path: Path) -> None:
    way = ("--url", node.url, "--ca", str(node.authority.ca))
    told = node.gpumon("snapshot", *way, "--token-file", "reader", "--json")
    assert told.returncode == 0, told.stderr
    assert len(json.loads(told.stdout)["gpus"]) == 8
    by_certificate = node.gpumon("query", "count(DCGM_FI_DEV_GPU_TEMP)", *way, "--cert", "prometheus.pem", "--key",
                                 "prometheus.key")  # fmt: skip
    assert by_certificate.returncode == 0, by_certificate.stderr
    nothing = node.gpumon("snapshot", *way)
    assert nothing.returncode != 0
    assert "this needs a token" in nothing.stderr
    assert "--token-file" in nothing.stderr
    silenced = node.gpumon("silence", "add", "GpuHot", "-c", "why", *way, "--token-file", "reader")
    assert silenced.returncode != 0
    assert "what was shown only reads" in silenced.stderr
    with terminal([sys.executable, "-m", "monitor", "tui", *way, "--token-file", str(node.folder / "reader")],
                  environment={"PYTHONPATH": str(PROJECT), "HOME": str(tmp_path)}) as tui:  # fmt: skip
        tui.wait("node1", "H200")


def test_clients_that_say_nothing_delay_nobody(node: Node) -> None:
    import socket

    host, _, port = node.address.rpartition(":")
    context = ssl.create_default_context(cafile=node.authority.ca)
    held: list[socket.socket] = []
    try:
        for number in range(300):
            one = socket.create_connection((host, int(port)), timeout=5)
            if number % 3 == 1:
                one.send(b"\x16\x03\x01\x02")  # the beginning of a handshake
            held.append(context.wrap_socket(one, server_hostname=host) if number % 3 == 2 else one)
        with httpx.Client(trust_env=False, timeout=10, verify=context) as client:
            for _ in range(5):
                answer = client.get(f"{node.url}/metrics", headers={"Authorization": f"Bearer {READER}"})
                assert answer.status_code == 200
    finally:
        for one in held:
            one.close()
    assert READER not in node.process.log.read_text()
