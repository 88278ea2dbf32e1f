"""The unit that is shipped, started by a real systemd in all of its sandbox: that it starts at all, that everything it
is meant to read and tell comes through, that nothing else does, and that its drop-ins give what they say."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.live import machine_peers
from tests.live.booted import TREE, Booted, why_not
from tests.nvml_stub.control import Stub, compile_library

pytestmark = [pytest.mark.live, pytest.mark.skipif(bool(why_not()), reason=f"a machine of its own {why_not()}")]

PEERS = f"http://127.0.0.1:{machine_peers.HTTP_PORT}"
SECRET = "shown-by-systemd-5c1e"
CONFIG = f"""\
node: {{hostname: node7}}
sources:
  vllm:
    servers:
      - {{url: 'http://127.0.0.1:8000', log: {{unit: engine.service}}}}
      - {{url: 'http://127.0.0.1:8001', log: {{file: /srv/vllm/engine.log}}}}
alerting: {{rule_files: [/etc/gpumon/rules.yaml]}}
receivers:
  - name: all
    webhook: {{url: {PEERS}/webhook, bearer_token: {{file: /run/credentials/gpumon.service/slack}}}}
    apprise:
      - json://127.0.0.1:{machine_peers.HTTP_PORT}/apprise
      - mailto://127.0.0.1:{machine_peers.SMTP_PORT}/?from=gpumon@example.org&to=oncall@example.org
route: {{receiver: all, group_wait: 0s}}
heartbeat: {PEERS}/heartbeat
"""
RULES = """\
groups:
- name: hot
  interval: 1s
  rules:
  - alert: GpuHot
    expr: DCGM_FI_DEV_GPU_TEMP > 90
    labels: {severity: critical}
    annotations: {summary: "GPU {{ $labels.gpu }} is hot"}
"""
ASK = ("curl", "-s", "--max-time", "20", "--unix-socket", "/run/gpumon/gpumon.sock")


@pytest.fixture(scope="module")
def stub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stub]:
    directory = tmp_path_factory.mktemp("driver")
    stub = Stub(directory, compile_library(tmp_path_factory.mktemp("nvml")))
    for path in (directory, *directory.rglob("*")):
        path.chmod(0o777 if path.is_dir() else 0o666)
    yield stub
    stub.close()


@pytest.fixture(scope="module")
def machine(stub: Stub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Booted]:
    driver = Path(stub.env()["NVML_STUB_CONTROL"]).parent
    drop_ins = {name: (TREE / "systemd" / name).read_text() for name in ("credentials.conf", "vllm-log.conf")}
    drop_ins["driver.conf"] = (
        "[Service]\nEnvironment=LD_LIBRARY_PATH=/srv/driver NVML_STUB_CONTROL=/srv/driver/control\n"
        "ReadWritePaths=/srv/driver\nWatchdogSec=10\nTimeoutAbortSec=1\n"
    )
    files = {
        "/etc/gpumon/gpumon.yaml": CONFIG,
        "/etc/gpumon/rules.yaml": RULES,
        "/etc/credstore/gpumon-slack": SECRET,
        "/srv/vllm/engine.log": "",
        "/home/alice/kept": "",
    }
    directory = tmp_path_factory.mktemp("machine")
    with Booted(directory, files, drop_ins, {"/srv/driver": driver}) as machine:
        machine.run("groupadd", "--system", "vllm")
        machine.run("chgrp", "-R", "vllm", "/srv/vllm")
        machine.run("chmod", "-R", "u=rwX,g=rX,o=", "/srv/vllm")
        machine.run("chmod", "0600", "/etc/credstore/gpumon-slack")
        for path in ("/etc/open", "/home/alice/open", "/srv/open"):
            machine.run("mkdir", "-m", "0777", path)
        machine.run("install", "-m", "0666", "/dev/null", "/etc/gpumon/open")
        machine.run("mknod", "-m", "0666", "/dev/other", "c", "60", "0")  # a number that no driver has
        start = ("systemd-run", "--quiet", "--working-directory", str(TREE))
        machine.run(*start, "--unit=peers", sys.executable, "-m", "tests.live.machine_peers", "/run/peers.jsonl")
        for port in (8000, 8001):
            server = (sys.executable, "-m", "monitor.probes.pace", "--port", str(port), "--itl-ms", "1")
            machine.run(*start, f"--unit={'engine' if port == 8000 else 'engine-1'}", "--uid=member", *server)
        pid = int(machine.show("MainPID", "engine"))
        stub.processes(0, (pid, 8 << 30, "compute"))
        machine.systemctl("start", "gpumon")
        yield machine


def ask(machine: Booted, path: str, user: str = "member", *more: str) -> Any:
    return json.loads(machine.run(*ASK, *more, f"http://gpumon{path}", user=user))


def value(machine: Booted, expr: str) -> float | None:
    found = ask(machine, "/api/v1/query", "member", "--data-urlencode", f"query={expr}")["data"]["result"]
    return float(found[0]["value"][1]) if found else None


def wait_value(machine: Booted, expr: str) -> None:
    """Wait until an expression has a value."""
    query = [*ASK, "--data-urlencode", f"query={expr}", "http://gpumon/api/v1/query"]
    machine.wait(expr, *query, holds='"value"', user="member")


def came(machine: Booted, where: str, word: str = "") -> str:
    """The first body that came in at a place, with a word in it; it is waited for."""
    pattern = f'"at": "{where}.*{word}'
    return machine.wait(f"{where} with {word!r}", "grep", "-m1", "-e", pattern, "/run/peers.jsonl", holds=where)


def test_it_starts_and_stays_as_a_service(machine: Booted) -> None:
    assert machine.show("ActiveState") == "active"
    assert machine.show("NRestarts") == "0"
    assert machine.run("id", "-un").strip() == "root"
    main = machine.show("MainPID")
    status = machine.run("cat", f"/proc/{main}/status")
    for line in ("CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"):
        assert line in status, status
    assert machine.run("stat", "-c", "%a %U %G", "/run/gpumon/gpumon.sock").strip() == "660 gpumon gpumon"
    assert machine.run("stat", "-c", "%a %U %G", "/run/gpumon").strip() == "750 gpumon gpumon"
    assert machine.run("stat", "-c", "%a %U %G", "/var/lib/gpumon").strip() == "700 gpumon gpumon"
    open_to_others = machine.run("find", "/var/lib/gpumon", "-perm", "/077", "-not", "-type", "d")
    assert open_to_others == ""


def test_the_group_may_and_a_stranger_may_not(machine: Booted) -> None:
    assert ask(machine, "/api/v1/status/buildinfo")["status"] == "success"
    assert machine.run(*ASK, "http://gpumon/-/healthy", user="stranger", check=False) == ""
    assert "ermission denied" in machine.run("ls", "/run/gpumon", user="stranger", check=False)
    assert "watches as" in machine.log()


def test_everything_is_read(machine: Booted) -> None:
    wait_value(machine, 'DCGM_FI_DEV_GPU_TEMP{gpu="1"}')
    wait_value(machine, 'gpumon_source_up{source="vllm", server="node7:8000"} == 1')
    wait_value(machine, 'vllm:num_requests_running{server="node7:8001"}')
    wait_value(machine, "node_load1")
    wait_value(machine, 'node_filesystem_avail_bytes{mountpoint="/srv/driver"}')
    wait_value(machine, "node_network_receive_bytes_total")
    wait_value(machine, "node_pressure_cpu_waiting_seconds_total or node_vmstat_pgfault")
    sources = ask(machine, "/api/v1/query", "member", "--data-urlencode", "query=gpumon_source_up == 0")
    down = {one["metric"]["source"] for one in sources["data"]["result"]}
    assert down <= {"kernel_log"}, down  # there is no kernel in this journal
    # Names come at the first look at /proc, which may be after the first poll.
    asked = (*ASK, "http://gpumon/api/gpumon/v1/processes")
    rows = json.loads(machine.wait("a command line", *asked, holds='"command":"python', user="member"))["processes"]
    engine = next(row for row in rows if row["pid"] == int(machine.show("MainPID", "engine")))
    assert engine["user"] == "member", "whose it is"
    assert engine["command"] == "python -m monitor.probes.pace …", "and what, but for its arguments"


def test_logs_of_servers_are_read(machine: Booted) -> None:
    said = "ERROR 11-20 20:30:31 [core.py:400] the engine broke"
    machine.run("bash", "-c", f"echo '{said}' >> /srv/vllm/engine.log")
    wait_value(machine, 'gpumon_engine_log_errors_total{server="node7:8001"} > 0')
    wait_value(machine, 'gpumon_engine_log_lines_total{server="node7:8000"}')


def test_everybody_is_told(machine: Booted, stub: Stub) -> None:
    came(machine, "/heartbeat")
    stub.set(1, "temperature", 93)
    webhook = json.loads(json.loads(came(machine, f"/webhook Bearer {SECRET}", "GPU 1 is hot"))["body"])
    assert webhook["alerts"][0]["labels"]["alertname"] == "GpuHot"
    assert "GPU 1 is hot" in came(machine, "/apprise", "GPU 1 is hot")
    mail = json.loads(came(machine, "mail", "GpuHot"))["body"]
    assert "image/png" in mail, "with the picture that pillow draws"
    stub.set(1, "temperature", 40)
    assert SECRET not in machine.log()


def test_a_probe_and_a_report_are_made(machine: Booted) -> None:
    load = "--requests 3 --repeats 1 --input-len 16 --output-len 4 --server node7:8000 --json -o /tmp/results"
    run = ("env", "PATH=/usr/local/bin:/usr/bin:/bin", "gpumon", "probe", "latency", *load.split())
    assert '"workload"' in machine.run(*run, user="member")
    end = machine.run("date", "+%s").strip()
    body = json.dumps({"receiver": "all", "start_ms": (int(end) - 3600) * 1000, "end_ms": int(end) * 1000})
    sent = ask(machine, "/api/gpumon/v1/reports/send", "member", "--max-time", "60", "-d", body)
    assert [one["ok"] for one in sent["results"]] == [True] * len(sent["results"])
    assert sent["results"]


CANNOT = {
    "write to the system": ("open('/etc/open/x', 'w')", "EROFS"),
    "write to its configuration": ("open('/etc/gpumon/open', 'w')", "EROFS"),
    "write to a home": ("open('/home/alice/open/x', 'w')", "EROFS"),
    "write to what is everybody's": ("open('/srv/open/x', 'w')", "EROFS"),
    "set the kernel's": ("open('/proc/sys/kernel/hostname', 'w')", "EROFS"),
    "use a device": ("open('/dev/other')", "EPERM"),
    "read the kernel's log": ("open('/dev/kmsg')", "EACCES"),
    "run what it wrote in memory": ("import mmap; mmap.mmap(-1, 4096, prot=7)", "EPERM"),
    "make a namespace": ("call('unshare', 0x10000000)", "EPERM"),
    "speak raw": ("import socket; socket.socket(socket.AF_PACKET, socket.SOCK_RAW)", "EAFNOSUPPORT"),
    "be traced": ("call('ptrace', 0, 0, 0, 0)", "EPERM"),
    "give a file away": ("os.chown(own('x'), -1, -1)", "EPERM"),
    "have another priority": ("os.setpriority(os.PRIO_PROCESS, 0, 19)", "EPERM"),
    "make a program of its user's": ("os.chmod(own('y'), 0o4755)", "EPERM"),
    "be of another system": ("call('personality', 0x0008)", "EPERM"),
    "leave its memory behind": ("call('setrlimit', 4, (ctypes.c_ulong * 2)(1, 1))", "EPERM"),
}
"""What a process may not, by a program, and how it is refused. Nothing but the sandbox refuses it so: without, the
same user either does it or is refused otherwise."""
CAN = {
    "read others' command lines": "assert b'systemd' in open('/proc/1/cmdline', 'rb').read()",
    "see homes' file systems": "import os; os.statvfs('/home')",
    "write to its own": "open('/var/lib/gpumon/z', 'w').write('x')",
    "have its own /tmp": "import os; assert not os.listdir('/tmp'); open('/tmp/x', 'w')",
    "resolve names": "import socket; socket.getaddrinfo('localhost', 80)",
    "see interfaces": "import psutil; assert psutil.net_if_addrs()",
    "use Python's libraries": "import ctypes, ssl, PIL.Image, apprise, aiohttp; ctypes.CFUNCTYPE(None)",
    "open a GPU, were there one": (
        "import errno, os\ntry: os.open('/dev/nvidia0', os.O_RDWR)\n"
        "except OSError as error: assert error.errno == errno.ENXIO, error"
    ),
}


def lines_of(text: str) -> list[str]:
    """The lines of a unit's section ``[Service]`` that say what its processes may."""
    section = text.partition("[Service]")[2].partition("[Install]")[0]
    left_out = r"(Type|NotifyAccess|Exec\w+|WatchdogSec|Restart\w*|TimeoutStopSec|RuntimeDirectory\w*)="
    return [one for one in section.splitlines() if "=" in one and one[0] not in "#" and not re.match(left_out, one)]


def sandboxed(machine: Booted, program: str, *drop_ins: str) -> str:
    """Run a program as the unit would, with these of its drop-ins: what it wrote."""
    lines = [
        one
        for name in ("gpumon.service", *drop_ins)
        for one in lines_of((TREE / "systemd" / name).read_text(encoding="utf-8"))
    ]
    return machine.unit(sys.executable, "-c", program, properties=lines)


TRY = f"""
import ctypes, errno, json, os

def call(name, *arguments):
    if getattr(ctypes.CDLL(None, use_errno=True), name)(*arguments) < 0:
        raise OSError(ctypes.get_errno(), name)

def own(name):
    path = os.path.join(os.environ.get('STATE_DIRECTORY', '/tmp'), name)
    open(path, 'w').close()
    return path

def tried(text):
    ours, its = os.pipe()
    if os.fork() == 0:
        said = 'done'
        try:
            exec(text)
        except OSError as error:
            said = errno.errorcode[error.errno]
        except BaseException as error:
            said = repr(error)
        os.write(its, said.encode())
        os._exit(0)
    os.close(its)
    said = os.read(ours, 4096).decode()
    os.wait()
    return said

print(json.dumps({{what: tried(text) for what, text in { ({w: t for w, (t, _) in CANNOT.items()} | CAN)!r}.items()}}))
"""
"""Says of each whether it was done or how it was refused; each in a process of its own."""


def test_nothing_else_can_be_done(machine: Booted) -> None:
    said = json.loads(sandboxed(machine, TRY))
    assert {what: said[what] for what in CANNOT} == {what: refused for what, (_, refused) in CANNOT.items()}
    assert {what: said[what] for what in CAN} == dict.fromkeys(CAN, "done")
    # By the sandbox: its user is not refused so without.
    bare = json.loads(machine.unit(sys.executable, "-c", TRY, properties=["User=gpumon", "Group=gpumon"]))
    assert [what for what, (_, refused) in CANNOT.items() if bare[what] == refused] == [], bare


def test_a_credential_is_not_read_where_it_is_kept(machine: Booted) -> None:
    look = "open('/etc/credstore/gpumon-slack').read()"
    assert "PermissionError" in sandboxed(machine, look)
    assert SECRET in machine.python(f"print({look})")


def test_a_drop_in_gives_what_it_says_and_nothing_else(machine: Booted) -> None:
    capabilities = "print(next(one for one in open('/proc/self/status') if one.startswith('CapEff')))"
    assert int(sandboxed(machine, capabilities, "gpm.conf").split()[1], 16) == 1 << 38, "CAP_PERFMON alone"

    homes = "import os; print(os.listdir('/home'))"
    assert "alice" in sandboxed(machine, homes)
    assert "alice" not in sandboxed(machine, homes, "tighter.conf")

    machine.run("groupadd", "--system", "proc")
    machine.run("mount", "-o", "remount,hidepid=2,gid=proc", "/proc")
    try:
        of_another = f"/proc/{machine.show('MainPID', 'engine')}/cmdline"
        look = f"import os; print(os.path.exists({of_another!r}))"
        assert "No such file" in machine.run("ls", of_another, user="stranger", check=False)
        # systemd gives it a /proc of its own; the drop-in is for systems where that one hides processes, too.
        assert sandboxed(machine, look).strip() == "True"
        groups = "import grp, os; print([grp.getgrgid(one).gr_name for one in os.getgroups()])"
        assert "'proc'" in sandboxed(machine, groups, "hidden-processes.conf")
    finally:
        machine.run("mount", "-o", "remount,hidepid=0", "/proc")


def test_a_reload_and_what_it_refuses(machine: Booted) -> None:
    machine.run("bash", "-c", "cp /etc/gpumon/gpumon.yaml /tmp/kept; echo 'nod: 1' >> /etc/gpumon/gpumon.yaml")
    machine.systemctl("reload", "gpumon")
    machine.wait("the refusal", "journalctl", "-o", "cat", "-u", "gpumon", holds="gpumon.yaml:")
    machine.run("cp", "/tmp/kept", "/etc/gpumon/gpumon.yaml")
    machine.systemctl("reload", "gpumon")
    assert machine.show("ActiveState") == "active"


def test_killed_it_comes_back_and_hanging_it_is_ended_by_the_watchdog(machine: Booted) -> None:
    machine.systemctl("kill", "--kill-whom=main", "-s", "KILL", "gpumon")
    machine.wait("the new one", "systemctl", "show", "-p", "NRestarts", "gpumon", holds="NRestarts=1")
    machine.wait("its answer", *ASK, "http://gpumon/-/ready", holds="Ready")
    machine.systemctl("kill", "--kill-whom=main", "-s", "STOP", "gpumon")
    machine.wait("the watchdog", "systemctl", "show", "-p", "NRestarts", "gpumon", holds="NRestarts=2")
    machine.wait("its answer", *ASK, "http://gpumon/-/ready", holds="Ready")
    assert "gpumon.service: Watchdog timeout" in machine.log()
