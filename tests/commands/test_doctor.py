"""``gpumon doctor``: each outcome of each check, and that none of them stops or breaks the others."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from monitor import __version__
from monitor.cli import cli
from monitor.client.errors import Unreachable
from monitor.client.wire import Capabilities, HistoryRow, SourceRow
from monitor.commands import doctor_gpumon as ours
from monitor.commands import doctor_node as node
from monitor.commands import doctor_telling as telling
from monitor.commands.doctor import CHECKS, examine, render, to_json
from monitor.commands.doctor_machine import (
    Answer,
    DaemonTold,
    Finding,
    Machine,
    Ran,
    Setting,
    Terminal,
    ask_daemon,
    can_listen,
    clock_in_sync,
    fetch,
    read_setting,
    run_command,
)
from monitor.commands.driver_look import DriverGpu, DriverLook, look_at_driver
from monitor.commands.series import all_entries
from monitor.config import loads
from monitor.records import replace
from tests.client.fake_daemon import FakeDaemon
from tests.nvml_stub.control import Stub
from tests.nvml_stub.fixtures import nvml, nvml_library

__all__ = ["nvml", "nvml_library"]

H200 = DriverLook("580.159.04", "13.0", (DriverGpu(0, "GPU-0", "NVIDIA H200", 150 << 30),))
REFUSED = Answer(error="connection refused")


@dataclass(frozen=True)
class Server:
    url: str
    server: str


def machine_at(root: Path, text: str = "", **parts: Any) -> Machine:
    """A machine on which all is well, but for ``parts``; its files are under ``root``."""
    told = DaemonTold("unix:/run/gpumon/gpumon.sock", Capabilities(version=__version__, heartbeat=True))
    defaults: dict[str, Any] = {
        "root": root,
        "environment": {"TERM": "xterm-256color"},
        "uid": 1000,
        "groups": frozenset({"gpumon", "systemd-journal"}),
        "group_exists": lambda name: True,
        "may": lambda path, mode: True,
        "run": lambda command: Ran(0, "line\n"),
        "driver": lambda: H200,
        "kernel_log": lambda: ("the journal", ""),
        "daemon": lambda: told,
        "fetch": lambda url, headers, verify: REFUSED,
        "clock": lambda: (True, 0.01),
        "free_bytes": lambda path: 1 << 40,
        "can_listen": lambda port: True,
        "terminal": lambda: Terminal(True, 120, 40, "UTF-8"),
    }
    return Machine(Setting(Path("gpumon.yaml") if text else None, loads(text)), **(defaults | parts))


def states(findings: Sequence[Finding]) -> list[str]:
    return [finding.state for finding in findings]


def put(root: Path, name: str, text: str = "") -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def is_bad(findings: Sequence[Finding], state: str, seen: str, cure: str) -> None:
    """One finding, in this state, with these words."""
    (one,) = [finding for finding in findings if finding.state != "ok"]
    assert one.state == state
    assert seen in one.seen
    assert cure in one.cure


# -- the machine ---------------------------------------------------------------------------------------------------


def test_a_good_driver(tmp_path: Path) -> None:
    put(tmp_path, "proc/driver/nvidia/version", "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.159.04  Tue")
    (finding,) = node.check_driver(machine_at(tmp_path))
    assert finding == Finding("driver", "ok", "NVIDIA 580.159.04, CUDA 13.0, 1 GPU")


def test_a_module_of_another_version(tmp_path: Path) -> None:
    put(tmp_path, "proc/driver/nvidia/version", "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.1  Tue")
    is_bad(node.check_driver(machine_at(tmp_path)), "problem", "module is 570.1", "reboot")


def test_no_gpu_at_all_is_no_problem(tmp_path: Path) -> None:
    machine = machine_at(tmp_path, driver=lambda: DriverLook(absent="no NVIDIA driver"))
    is_bad(node.check_driver(machine), "warning", "no NVIDIA driver", "Nothing")


def test_boards_without_a_driver(tmp_path: Path) -> None:
    put(tmp_path, "sys/bus/pci/devices/0000:06:00.0/vendor", "0x10de\n")
    put(tmp_path, "sys/bus/pci/devices/0000:06:00.0/class", "0x030200\n")
    put(tmp_path, "sys/bus/pci/devices/0000:07:00.0/vendor", "0x10de\n")
    put(tmp_path, "sys/bus/pci/devices/0000:07:00.0/class", "0x068000\n")  # an NVSwitch
    machine = machine_at(tmp_path, driver=lambda: DriverLook(absent="no NVIDIA driver"))
    is_bad(node.check_driver(machine), "problem", "1 NVIDIA board on", "modprobe")


def test_a_module_without_its_library(tmp_path: Path) -> None:
    put(tmp_path, "sys/module/nvidia/version", "580.1\n")
    machine = machine_at(tmp_path, driver=lambda: DriverLook(absent="no NVIDIA driver"))
    is_bad(node.check_driver(machine), "problem", "580.1 is loaded", "library")


@pytest.mark.parametrize(
    ("down", "cure"),
    [
        ("no answer from the driver in 15 s", "The driver hangs"),
        ("the driver's library and kernel module differ in version: reload", "reboot"),
        ("Insufficient Permissions", "devices"),
        ("the reader cannot be started: Permission denied", "own environment"),
        ("Unknown Error", "NVRM"),
    ],
)
def test_a_driver_that_does_not_answer(tmp_path: Path, down: str, cure: str) -> None:
    is_bad(node.check_driver(machine_at(tmp_path, driver=lambda: DriverLook(down=down))), "problem", down, cure)


def test_a_lost_gpu_and_none(tmp_path: Path) -> None:
    lost = replace(H200, gpus=(*H200.gpus, DriverGpu(1, "GPU-1", "NVIDIA H200", None, "GPU is lost")))
    found = node.check_driver(machine_at(tmp_path, driver=lambda: lost))
    assert states(found) == ["ok", "problem"]
    is_bad(found, "problem", "GPU 1: GPU is lost", "nvidia-smi -i 1")
    empty = machine_at(tmp_path, driver=lambda: replace(H200, gpus=()))
    is_bad(node.check_driver(empty), "problem", "0 GPUs", "--gpus all")


def test_devices(tmp_path: Path) -> None:
    assert node.check_devices(machine_at(tmp_path)) == []
    for name in ("nvidiactl", "nvidia0", "nvidia-uvm"):
        put(tmp_path, f"dev/{name}")
    (good,) = node.check_devices(machine_at(tmp_path))
    assert good.seen.startswith("2 device files")
    closed = machine_at(tmp_path, may=lambda path, mode: path.name != "nvidia0")
    is_bad(node.check_devices(closed), "problem", "open /dev/nvidia0", "video,render")


@pytest.mark.parametrize(
    ("ran", "state", "seen"),
    [
        (Ran(0, "Enabled\nEnabled\n"), "ok", "on for every"),
        (Ran(0, "Enabled\nDisabled\n"), "warning", "off for GPU 1"),
        (None, "warning", "not installed"),
        (Ran(None), "warning", "no answer"),
    ],
)
def test_persistence(tmp_path: Path, ran: Ran | None, state: str, seen: str) -> None:
    assert node.check_persistence(machine_at(tmp_path)) == []
    put(tmp_path, "proc/driver/nvidia/version")
    (finding,) = node.check_persistence(machine_at(tmp_path, run=lambda command: ran))
    assert (finding.state, seen in finding.seen) == (state, True)


def test_the_group_of_the_socket(tmp_path: Path) -> None:
    assert states(node.check_groups(machine_at(tmp_path))) == ["ok"]
    assert states(node.check_groups(machine_at(tmp_path, groups=frozenset(), uid=0))) == ["ok"]
    assert "not installed" in node.check_groups(machine_at(tmp_path, group_exists=lambda name: False))[0].seen
    is_bad(node.check_groups(machine_at(tmp_path, groups=frozenset())), "warning", "not in it", "usermod -aG gpumon")


def test_the_kernel_log(tmp_path: Path) -> None:
    assert "the journal" in node.check_kernel_log(machine_at(tmp_path))[0].seen
    parts: dict[str, Any] = {
        "kernel_log": lambda: ("", "the kernel's log cannot be read (/dev/kmsg: no right): cure it")
    }
    is_bad(node.check_kernel_log(machine_at(tmp_path, **parts)), "warning", "no right)", "cure it")
    outside = machine_at(tmp_path, groups=frozenset(), **parts)
    is_bad(node.check_kernel_log(outside), "warning", "no right)", "usermod -aG systemd-journal")


def test_the_clock(tmp_path: Path) -> None:
    assert states(node.check_clock(machine_at(tmp_path))) == ["ok"]
    is_bad(node.check_clock(machine_at(tmp_path, clock=lambda: (False, 16.0))), "warning", "nobody", "chrony")
    is_bad(node.check_clock(machine_at(tmp_path, clock=lambda: None)), "warning", "does not say", "timedatectl")


def test_the_disk(tmp_path: Path) -> None:
    asked: list[Path] = []

    def free(path: Path) -> int:
        asked.append(path)
        return 50 << 20

    is_bad(node.check_disk(machine_at(tmp_path, free_bytes=free)), "problem", "50 MiB", "room")
    assert asked == [tmp_path]  # the nearest that stands
    is_bad(node.check_disk(machine_at(tmp_path, free_bytes=lambda path: 500 << 20)), "warning", "500 MiB", "room")
    assert states(node.check_disk(machine_at(tmp_path))) == ["ok"]


@pytest.mark.parametrize(
    ("environment", "terminal", "state", "seen"),
    [
        ({"TERM": "xterm-256color"}, Terminal(True, 80, 24, "utf-8"), "ok", "80×24"),
        ({"TERM": "xterm", "COLORTERM": "truecolor"}, Terminal(True, 80, 24, "UTF-8"), "ok", "xterm"),
        ({}, Terminal(False, 80, 24, ""), "ok", "no terminal"),
        ({"TERM": "dumb"}, Terminal(True, 80, 24, "utf-8"), "problem", "TERM is dumb"),
        ({"TERM": "xterm"}, Terminal(True, 80, 24, "utf-8"), "warning", "few colours"),
        ({"TERM": "xterm-256color"}, Terminal(True, 80, 24, "ascii"), "warning", "UTF-8"),
        ({"TERM": "xterm-256color"}, Terminal(True, 79, 24, "utf-8"), "warning", "79×24"),
        ({"TERM": "xterm-256color", "NO_COLOR": "1"}, Terminal(True, 80, 24, "utf-8"), "warning", "NO_COLOR"),
    ],
)
def test_the_terminal(
    tmp_path: Path, environment: Mapping[str, str], terminal: Terminal, state: str, seen: str
) -> None:
    machine = machine_at(tmp_path, environment=environment, terminal=lambda: terminal)
    (finding,) = node.check_terminal(machine)
    assert finding.state == state
    assert seen in finding.seen


# -- gpumon and its neighbours -------------------------------------------------------------------------------------


def test_the_configuration(tmp_path: Path) -> None:
    assert "shipped rules" in ours.check_configuration(machine_at(tmp_path))[0].seen
    path = tmp_path / "gpumon.yaml"
    path.write_text("api: {listen: none}\n")
    good = Machine(read_setting(path))
    assert "gpumon.yaml is good" in ours.check_configuration(good)[0].seen
    path.write_text("api: {listen: none}\nreceiver: []\n")
    is_bad(ours.check_configuration(Machine(read_setting(path))), "problem", "gpumon.yaml:2:1", "gpumon check")
    path.write_text("alerting: {rule_files: [none.yaml]}\n")
    is_bad(ours.check_configuration(Machine(read_setting(path))), "problem", "none.yaml", "gpumon check")


def test_a_configuration_that_is_not_ours_to_read(tmp_path: Path) -> None:
    machine = Machine(Setting(Path("gpumon.yaml"), None, ("gpumon.yaml:1:1: cannot be read: Permission denied",)))
    is_bad(ours.check_configuration(machine), "warning", "may not be read", "group gpumon")
    assert telling.check_receivers(machine) == []
    assert node.check_disk(machine) == []


def test_where_the_configuration_is_looked_for(tmp_path: Path) -> None:
    assert read_setting(None, tmp_path / "none.yaml").path is None
    (tmp_path / "gpumon.yaml").write_text("api: {listen: none}\n")
    setting = read_setting(None, tmp_path / "gpumon.yaml")
    assert setting.path == tmp_path / "gpumon.yaml"
    assert setting.config is not None
    assert setting.config.api.listen is None


@pytest.mark.parametrize(
    ("answer", "state", "seen"),
    [
        (Answer(200, "vllm:num_requests_running 0\n"), "ok", "answers with its metrics"),
        (Answer(200, "# HELP sglang:num_running_reqs x\n"), "ok", "answers with its metrics"),
        (Answer(200, "python_info 1\n"), "warning", "no series of an engine"),
        (Answer(401, ""), "problem", "HTTP 401"),
        (Answer(404, ""), "problem", "HTTP 404"),
        (REFUSED, "problem", "connection refused"),
    ],
)
def test_a_vllm_server(tmp_path: Path, answer: Answer, state: str, seen: str) -> None:
    asked: list[tuple[str, Mapping[str, str]]] = []

    def get(url: str, headers: Mapping[str, str], verify: bool | str) -> Answer:
        asked.append((url, headers))
        return answer

    text = "sources: {vllm: {servers: [{url: 'http://gpu7:8000', api_key: hunter2}]}}"
    (finding,) = ours.check_vllm(machine_at(tmp_path, text, fetch=get))
    assert finding.state == state
    assert seen in finding.seen
    assert bool(finding.cure) == (state != "ok")
    assert asked == [("http://gpu7:8000/metrics", {"Authorization": "Bearer hunter2"})]
    assert "hunter2" not in render([finding])


def test_vllm_servers_that_run_here(tmp_path: Path) -> None:
    is_bad(ours.check_vllm(machine_at(tmp_path)), "warning", "none found", "--vllm")
    text = "{node: {hostname: gpu7}, sources: {vllm: {servers: ['http://127.0.0.1:8000']}}}"
    running = (Server("http://127.0.0.1:8000", "gpu7:8000"), Server("http://127.0.0.1:8001", "gpu7:8001"))
    machine = machine_at(
        tmp_path, text, servers=lambda: running, fetch=lambda url, headers, verify: Answer(200, "vllm:x 1\n")
    )
    found = ours.check_vllm(machine)
    assert [finding.seen.partition(" answers")[0] for finding in found] == [
        "gpu7:8000 (configured)",
        "gpu7:8001 (found here)",
    ]


@pytest.mark.parametrize(
    ("more", "verify"),
    [("", True), (", insecure_skip_verify: true", False), (", ca_file: /ca.pem", "/ca.pem")],
)
def test_a_key_is_sent_to_whom_the_configuration_trusts(tmp_path: Path, more: str, verify: bool | str) -> None:
    asked: list[bool | str] = []

    def get(url: str, headers: Mapping[str, str], verify: bool | str) -> Answer:
        asked.append(verify)
        return Answer(200, "vllm:x 1\n")

    text = f"sources: {{vllm: {{servers: [{{url: 'https://gpu7:8000', api_key: hunter2{more}}}]}}}}"
    assert states(ours.check_vllm(machine_at(tmp_path, text, fetch=get))) == ["ok"]
    assert asked == [verify]


def test_a_key_that_cannot_be_read(tmp_path: Path) -> None:
    text = f"sources: {{vllm: {{servers: [{{url: 'http://gpu7:8000', api_key: {{file: {tmp_path}/none}}}}]}}}}"
    is_bad(ours.check_vllm(machine_at(tmp_path, text)), "problem", "api_key cannot be had", "api_key")


def _told(**fields: Any) -> DaemonTold:
    return DaemonTold("unix:x", Capabilities(**({"version": __version__} | fields)))


@pytest.mark.parametrize(
    ("told", "seen", "cure"),
    [
        (None, "none runs", "service install"),
        (_told(version="9.9"), "version 9.9", "Restart"),
        (_told(simulated=True), "simulated", "real one"),
        (_told(mode="private"), "notifies nobody", "service install"),
    ],
)
def test_a_daemon_to_be_warned_of(tmp_path: Path, told: DaemonTold | None, seen: str, cure: str) -> None:
    is_bad(ours.check_daemon(machine_at(tmp_path, daemon=lambda: told)), "warning", seen, cure)


def test_a_daemon_that_may_not_be_asked(tmp_path: Path) -> None:
    def refuses() -> DaemonTold | None:
        raise Unreachable("no right to open the socket", "unix:/run/x", "Join its group")

    machine = machine_at(tmp_path, daemon=refuses)
    is_bad(ours.check_daemon(machine), "problem", "no right to open", "Join its group")
    assert states(telling.check_heartbeat(machine)) == ["warning"]


def test_sources_that_are_down(tmp_path: Path) -> None:
    sources = (
        SourceRow("host", up=True),
        SourceRow("nvml", absent=True, reason="no driver"),
        SourceRow("vllm", "gpu7:8000", reason="connection refused", age_seconds=61.0),
    )
    told = replace(_told(), sources=sources)
    found = ours.check_daemon(machine_at(tmp_path, daemon=lambda: told))
    is_bad(found, "problem", "source vllm gpu7:8000 is down: connection refused, last read 61 s ago", "line above")
    good = replace(told, sources=sources[:2])
    assert [one.seen for one in ours.check_daemon(machine_at(tmp_path, daemon=lambda: good))][1] == "1 source read"


def test_a_history_that_is_not_written_or_was_broken(tmp_path: Path) -> None:
    def found(**fields: Any) -> list[Finding]:
        told = _told(now_ms=7_200_000, history=HistoryRow(**fields))
        return ours.check_daemon(machine_at(tmp_path, daemon=lambda: told))

    is_bad(found(ok=False, problem="the disk is full"), "problem", "not written: the disk is full", "Make room")
    (_, kept, note) = found(bytes=5 << 20, oldest_ms=0, note="a page is damaged")
    assert (kept.state, kept.seen) == ("ok", "its history has 5 MiB, 2 h back")
    assert (note.state, note.seen) == ("warning", "a page is damaged")


def test_a_daemon_that_cannot_read_the_kernels_log(tmp_path: Path) -> None:
    told = replace(_told(), sources=(SourceRow("kernel_log", absent=True, reason="no right"),))
    found = ours.check_daemon(machine_at(tmp_path, daemon=lambda: told))
    is_bad(found, "warning", "cannot read the kernel's log: no right", "systemd-journal")


def test_exporters_beside_us(tmp_path: Path) -> None:
    def get(url: str, headers: Mapping[str, str], verify: bool | str) -> Answer:
        return Answer(200, "DCGM_FI_DEV_GPU_UTIL 1\n" if ":9400/" in url else "node_load1 1\n")

    found = ours.check_ports(machine_at(tmp_path, fetch=get))
    assert states(found) == ["warning", "warning", "ok"]
    assert "dcgm-exporter" in found[0].seen
    assert "collect[]: [host, kernel_log, vllm, engine, canary, server_log, gpumon]" in found[0].cure
    assert "collect[]: [nvml, kernel_log, vllm, engine, canary, server_log, gpumon]" in found[1].cure
    assert set(ours.SOURCES) == {entry.source for entry in all_entries()}
    assert states(ours.check_ports(machine_at(tmp_path))) == ["ok", "ok", "ok"]
    strange = ours.check_ports(machine_at(tmp_path, fetch=lambda url, headers, verify: Answer(404, "")))
    assert "it is no dcgm-exporter" in strange[0].seen


def test_our_own_port(tmp_path: Path) -> None:
    def taken(answer: Answer, text: str = "") -> Finding:
        parts: dict[str, Any] = {"can_listen": lambda port: False, "fetch": lambda url, headers, verify: answer}
        return ours.check_ports(machine_at(tmp_path, text, **parts))[-1]

    assert taken(Answer(200, "gpumon is Healthy.\n")).seen == "9519 is a gpumon daemon's"
    other = taken(Answer(200, "hello"))
    assert other.state == "problem"
    assert "listen" in other.cure
    assert taken(REFUSED, "api: {listen: '[::1]:9600'}").seen == "9600 is taken by something else: connection refused"
    assert taken(REFUSED, "api: {listen: none}").state == "ok"


@pytest.mark.parametrize(
    ("listen", "asked"),
    [
        ("0.0.0.0:9600", "https://127.0.0.1:9600/-/healthy"),
        ("[::]:9600", "https://[::1]:9600/-/healthy"),
        ("10.0.0.7:9600", "https://10.0.0.7:9600/-/healthy"),
    ],
)
def test_our_own_port_where_others_reach_it(tmp_path: Path, listen: str, asked: str) -> None:
    text = f"api: {{listen: '{listen}', token: hush, tls: {{cert_file: a, key_file: b}}}}"
    urls = []

    def get(url: str, headers: Mapping[str, str], verify: bool | str) -> Answer:
        urls.append((url, dict(headers)))
        return Answer(200, "gpumon is Healthy.\n") if url == asked else REFUSED

    found = ours.check_ports(machine_at(tmp_path, text, can_listen=lambda port: False, fetch=get))[-1]
    assert found.seen == "9600 is a gpumon daemon's"
    assert urls[-1] == (asked, {}), "nothing is shown to whoever has the port"
    free = ours.check_ports(machine_at(tmp_path, text, can_listen=lambda port: True))[-1]
    assert (free.state, free.seen.startswith("9600 is free")) == ("ok", True)


def test_who_may_read_over_tcp(tmp_path: Path) -> None:
    assert ours.check_access(machine_at(tmp_path))[0].seen == "TCP is for this machine alone"
    assert not ours.check_access(machine_at(tmp_path, "api: {listen: none}"))
    text = "api: {listen: '0.0.0.0:9519', read_token: 5c7c1c9a64e0ffd1a2}"
    is_bad(ours.check_access(machine_at(tmp_path, text)), "warning", "read_token and all that is read", "tls:")


# -- all together --------------------------------------------------------------------------------------------------


def test_a_check_that_breaks_says_so_and_the_others_go_on(tmp_path: Path) -> None:
    def breaks() -> DriverLook:
        raise RuntimeError("oh")

    found = examine(machine_at(tmp_path, driver=breaks))
    (bad,) = [finding for finding in found if finding.check == "driver"]
    assert bad.state == "problem"
    assert "RuntimeError: oh" in bad.seen
    assert {finding.check for finding in found} >= {"daemon", "clock", "terminal", "own port"}


def test_a_check_that_hangs_holds_nothing_up(tmp_path: Path) -> None:
    released = threading.Event()

    def hangs(machine: Machine) -> list[Finding]:
        released.wait(60)
        return []

    try:
        found = examine(machine_at(tmp_path), (("disk", hangs), ("clock", node.check_clock)), deadline=0.2)
    finally:
        released.set()
    assert [(finding.check, finding.state) for finding in found] == [("disk", "problem"), ("clock", "ok")]
    assert "no answer in 0.2 s" in found[0].seen


def test_all_well(tmp_path: Path) -> None:
    text = "{receivers: [{name: ops, apprise: 'json://localhost'}], sources: {vllm: {servers: ['http://gpu7:8000']}}}"
    machine = machine_at(
        tmp_path, text, fetch=lambda url, headers, verify: Answer(200, "vllm:x 1\n") if "gpu7" in url else REFUSED
    )
    found = examine(machine)
    assert [finding for finding in found if finding.state != "ok"] == []
    assert render(found).endswith("0 problems, 0 warnings")


def test_the_json() -> None:
    told = json.loads(
        to_json([Finding("a", "problem", "x", "y"), Finding("b", "warning", "z"), Finding("c", "ok", "")])
    )
    assert (told["schema"], told["problems"], told["warnings"]) == (1, 1, 1)
    assert told["checks"][0] == {"check": "a", "state": "problem", "seen": "x", "cure": "y"}


def test_the_text_commands_no_terminal() -> None:
    assert "\x1b[31mevil" not in render([Finding("a", "ok", "\x1b[31mevil")])


def test_every_check_names_its_findings() -> None:
    assert len({name for name, _ in CHECKS}) == len(CHECKS)


def test_the_command_looks_at_this_machine(tmp_path: Path) -> None:
    with FakeDaemon(tmp_path / "d.sock").serving() as target:
        path = tmp_path / "gpumon.yaml"
        path.write_text("sources: {vllm: {servers: ['http://127.0.0.1:1']}}\n")
        result = CliRunner().invoke(cli, ["doctor", "--json", "--url", target, "--config", str(path)])
    assert result.exit_code == 1, result.output  # nothing serves on port 1
    told = json.loads(result.stdout)
    assert any("127.0.0.1" not in one["seen"] and "connection refused" in one["seen"] for one in told["checks"])
    assert any(target in one["seen"] for one in told["checks"])
    assert not [one for one in told["checks"] if "check itself broke" in one["seen"]]


def test_the_daemon_that_is_looked_at_is_the_one_of_the_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HOME", "XDG_RUNTIME_DIR", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.delenv("GPUMON_URL", raising=False)
    with FakeDaemon(tmp_path / "d.sock").serving():
        path = tmp_path / "gpumon.yaml"
        path.write_text(f"api: {{socket: {tmp_path}/d.sock, listen: none}}\n")
        result = CliRunner().invoke(cli, ["doctor", "--json", "--config", str(path)])
    told = json.loads(result.stdout)
    assert any(f"unix:{tmp_path}/d.sock answers" in one["seen"] for one in told["checks"])


# -- what the checks ask -------------------------------------------------------------------------------------------


def test_looking_at_a_driver(nvml: Stub) -> None:
    nvml.fault(1, "lost")
    look = look_at_driver(environment=nvml.env())
    assert (look.version, look.absent, look.down) == ("580.159.04", "", "")
    assert [(gpu.index, bool(gpu.error)) for gpu in look.gpus] == [(0, False), (1, True)]
    assert look.gpus[0].model == "NVIDIA H200"


@pytest.mark.parametrize(
    ("spoil", "word"),
    [
        (lambda stub: stub.driver_absent(), "no NVIDIA driver"),
        (lambda stub: stub.fault(None, "version_mismatch:nvmlInitWithFlags"), "differ in version"),
        (lambda stub: stub.fault(None, "crash:nvmlInitWithFlags"), "the reader died"),
        (lambda stub: stub.fault(None, "hang:nvmlInitWithFlags"), "no answer from the driver in 3 s"),
    ],
)
def test_looking_at_a_driver_that_fails(nvml: Stub, spoil: Callable[[Stub], None], word: str) -> None:
    spoil(nvml)
    look = look_at_driver(3.0, nvml.env())
    assert word in look.absent + look.down
    assert look.gpus == ()


def test_running_a_program() -> None:
    assert run_command(["no-such-program-of-gpumon"]) is None
    assert run_command(["sh", "-c", "echo out; exit 3"]) == Ran(3, "out\n")
    assert run_command(["sleep", "60"], 0.1) == Ran(None)


def test_fetching(tmp_path: Path) -> None:
    assert fetch("http://127.0.0.1:1/metrics", {}) == REFUSED
    assert fetch("http://[bad/metrics", {}).error
    assert "No such file" in fetch("https://127.0.0.1:1/metrics", {}, str(tmp_path / "ca.pem")).error


def test_whether_a_port_is_taken() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        assert not can_listen(server.getsockname()[1])
        port = server.getsockname()[1]
    assert can_listen(port)


def test_asking_a_daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GPUMON_URL", raising=False)
    with FakeDaemon(tmp_path / "d.sock").serving() as target:
        told = ask_daemon(target)
    assert told is not None
    assert told.target == target
    assert told.capabilities.node.hostname == "h200-07"
    assert told.sources
    with FakeDaemon(tmp_path / "own.sock").serving():
        told = ask_daemon(None, tmp_path / "own.sock")
    assert told is not None
    with pytest.raises(Unreachable):
        ask_daemon(f"unix:{tmp_path}/none.sock")


def test_the_kernels_clock() -> None:
    told = clock_in_sync()
    assert told is None or told[1] >= 0
