"""``gpumon config init``: what it writes is good as it stands, whatever it found, and it writes over nothing."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jsonschema
import pytest
from click.testing import CliRunner

from monitor.cli import cli
from monitor.commands import config_init
from monitor.commands.check import run as check
from monitor.commands.config_init import make_text, write
from monitor.commands.driver_look import DriverGpu, DriverLook
from monitor.config import loads
from monitor.config_fields import GPUMON_YAML
from monitor.field_schema import schema
from monitor.notify.route import Route, every_route, routes_of, wants
from monitor.records import replace
from monitor.samples import labels_of
from tests.editor_yaml import editor_value


@dataclass(frozen=True)
class Server:
    url: str
    server: str
    how: str = "process 4711 listens on it"


EVIL = 'H200"}\n\x1b[31m# x: [\n'
EIGHT = DriverLook(
    "580.159.04", "13.0", tuple(DriverGpu(n, f"GPU-{n}", "NVIDIA H200", 150_754_820_096) for n in range(8))
)
DRIVERS = {
    "eight GPUs": EIGHT,
    "no GPU": DriverLook("580.159.04", "13.0"),
    "no driver": DriverLook(absent="no NVIDIA driver: libnvidia-ml.so.1 is not installed"),
    "a driver that hangs": DriverLook(down="no answer from the driver in 15 s"),
    "a lost GPU": DriverLook("580.1", "13.0", (DriverGpu(0, "", "", None, "GPU is lost"),)),
    "evil names": DriverLook(EVIL, EVIL, (DriverGpu(0, EVIL, EVIL, None, EVIL),)),
}
SERVERS = {
    "none": (),
    "one": (Server("http://127.0.0.1:8000", "gpu7:8000"),),
    "two and TLS": (Server("http://127.0.0.1:8000", "gpu7:8000"), Server("https://172.17.0.2:8443", "vllm-1:8443", "")),
    "one twice": (Server("http://127.0.0.1:8000", "gpu7:8000"), Server("http://127.0.0.2:8000", "gpu7:8000")),
    "one that cannot be": (Server("ftp://x", "gpu7:8000"),),
    "one that can and one that cannot": (Server("ftp://x", "x:1"), Server("http://127.0.0.1:8001", "gpu7:8001")),
    "evil": (Server("http://127.0.0.1:8000", EVIL, EVIL), Server(EVIL, "gpu7:1", EVIL)),
}


@pytest.mark.parametrize("driver", DRIVERS.values(), ids=DRIVERS.keys())
@pytest.mark.parametrize("servers", SERVERS.values(), ids=SERVERS.keys())
def test_what_it_writes_is_good(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], driver: DriverLook, servers: Sequence[Server]
) -> None:
    path = tmp_path / "gpumon.yaml"
    path.write_text(make_text("gpu7", driver, servers))
    assert check((path,)) == 0, capsys.readouterr().out + path.read_text()
    jsonschema.validate(editor_value(path.read_text()), schema(GPUMON_YAML), jsonschema.Draft7Validator)


def test_what_was_found_is_in_it() -> None:
    text = make_text("gpu7", EIGHT, SERVERS["two and TLS"])
    config = loads(text)
    assert [server.server for server in config.vllm_servers] == ["gpu7:8000", "vllm-1:8443"]
    assert "#   GPU 7: NVIDIA H200, 140 GiB, GPU-7" in text
    assert "process 4711" in text
    assert (config.receivers, config.rule_files) == ((), ())


def test_what_cannot_be_is_left_out_and_said() -> None:
    text = make_text("gpu7", EIGHT, SERVERS["one that can and one that cannot"])
    assert [server.server for server in loads(text).vllm_servers] == ["gpu7:8001"]
    assert "# left out: ftp://x" in text


def test_the_defaults_are_the_real_ones() -> None:
    text = make_text("gpu7", EIGHT, ())
    config = loads("node: {hostname: gpu7}")
    assert f'hostname: "{config.hostname}"' in text
    assert f'instance: "{config.instance}"' in text
    assert loads(text).nvml == config.nvml
    assert f"socket: {config.api.socket}" in text
    assert f"state_directory: {config.state_directory}" in text


def uncommented(text: str) -> str:
    """With every example as if its mark had been taken away."""
    lines = []
    for line in text.splitlines():
        # An example is what is a key or an item behind the mark; the other comments are sentences.
        example = re.match(r"( *)# ( *(?:- )?\{?[a-z_]+:.*| +- \{.*)$", line)
        lines.append(f"{example[1]}{example[2]}" if example else line)
    return "\n".join(lines)


@pytest.mark.parametrize("servers", [(), SERVERS["one"]], ids=["no server", "a server"])
def test_every_example_is_good_without_its_mark(tmp_path: Path, servers: Sequence[Server]) -> None:
    text = make_text("gpu7", EIGHT, servers)
    config = loads(uncommented(text), str(tmp_path / "gpumon.yaml"))
    jsonschema.validate(editor_value(uncommented(text)), schema(GPUMON_YAML), jsonschema.Draft7Validator)
    assert [receiver.name for receiver in config.receivers] == ["chat", "mail", "hook", "pager"]
    assert config.route is not None
    assert {name for route in every_route(config.route) for name in route.receivers} == {
        receiver.name for receiver in config.receivers
    }
    defaults = Route("0", ("chat",))
    assert replace(config.route, routes=()) == defaults  # what it shows as its values are the defaults
    assert config.latency_targets == loads("").latency_targets
    assert (len(config.inhibit_rules), len(config.heartbeats), len(config.alertmanagers)) == (1, 1, 1)
    assert set(config.time_intervals) == {"weekend"}
    assert config.api.token is not None
    assert config.rule_files
    assert len(config.vllm_servers) == 1


def test_its_route_wakes_nobody_for_a_warning() -> None:
    root = loads(uncommented(make_text("gpu7", EIGHT, ()))).route
    assert root is not None

    def told(**labels: str) -> list[str]:
        routes = routes_of(root, labels_of(labels))
        severity = labels["severity"]
        return [name for one in routes for name in one.receivers if wants(one, name == "pager", severity)]

    assert told(alertname="GpuTooHot", severity="critical") == ["pager", "chat"]
    assert told(alertname="GpuHot", severity="warning") == ["chat", "hook"]
    assert told(alertname="HostMemoryLow", severity="warning") == ["mail"]
    assert told(alertname="Watchdog", severity="none") == []


def test_it_writes_over_nothing(tmp_path: Path) -> None:
    path = tmp_path / "gpumon.yaml"
    path.write_text("mine")
    result = CliRunner().invoke(cli, ["config", "init", "--output", str(path)])
    assert result.exit_code == 1
    assert "--force" in result.stderr
    assert path.read_text() == "mine"
    with pytest.raises(FileExistsError):
        write(path, "new", force=False)
    assert [one.name for one in tmp_path.iterdir()] == ["gpumon.yaml"]


def test_force_writes_over(tmp_path: Path) -> None:
    path = tmp_path / "gpumon.yaml"
    path.write_text("mine")
    write(path, "new", force=True)
    assert path.read_text() == "new"
    assert os.stat(path).st_mode & 0o777 == 0o640


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config_init, "look_at_driver", lambda: EIGHT)
    monkeypatch.setattr(config_init, "servers_here", lambda hostname: SERVERS["one"])
    path = tmp_path / "gpumon.yaml"
    result = CliRunner().invoke(cli, ["config", "init", "-o", str(path)])
    assert result.exit_code == 0, result.output
    assert "8 GPUs; 1 vLLM server" in result.output
    assert CliRunner().invoke(cli, ["check", str(path)]).exit_code == 0
    shown = CliRunner().invoke(cli, ["config", "init", "-o", "-"])
    assert shown.stdout == path.read_text()
    assert list(tmp_path.iterdir()) == [path]


def test_a_look_for_servers_that_takes_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def slow(hostname: str) -> list[Server]:
        await asyncio.sleep(60)
        return []

    monkeypatch.setattr(config_init, "look_at_driver", lambda: EIGHT)
    monkeypatch.setattr(config_init, "find_servers", slow)
    monkeypatch.setattr(config_init, "FIND_SECONDS", 0.01)
    result = CliRunner().invoke(cli, ["config", "init", "-o", str(tmp_path / "gpumon.yaml")])
    assert result.exit_code == 0
    assert "took too long" in result.stderr
    assert "8 GPUs; 0 vLLM servers" in result.stdout


def test_the_look_for_servers_is_the_daemons() -> None:
    assert isinstance(config_init.servers_here("gpu7"), list)


def test_where_it_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config_init, "look_at_driver", lambda: EIGHT)
    monkeypatch.setattr(config_init, "servers_here", lambda hostname: ())
    result = CliRunner().invoke(cli, ["config", "init", "-o", str(tmp_path / "none" / "gpumon.yaml")])
    assert result.exit_code == 1
    assert "cannot be written: No such file or directory" in result.stderr
