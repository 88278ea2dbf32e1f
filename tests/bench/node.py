"""The daemon with all that belongs to it, beside Prometheus, node_exporter and Alertmanager over the same things."""

from __future__ import annotations

import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psutil

from monitor.rules.rule_file import default_rules_path, load_rules
from tests.bench.rules import moving_page
from tests.bench.table import Row, Table, half, no_more
from tests.bench.weigh import memory, weigh_together
from tests.gpu.costs import DirectReader
from tests.live import install_prometheus, servers
from tests.live.cache import InstallError
from tests.nvml_stub.control import Stub, compile_library

DATA = Path(__file__).parent.parent / "data"
GPUS = 8
HOUR_SPEED = 24.0
"""How much faster the clock runs of the daemon that gathers an hour."""
_HOUR = 3600.0
_STARTS = 7
_LOOKS = 5
_CHEAPEST = """
import json, pynvml, sys, time
pynvml.nvmlInit()
handles = [pynvml.nvmlDeviceGetHandleByIndex(n) for n in range(int(sys.argv[1]))]
clocks = (pynvml.NVML_CLOCK_SM, pynvml.NVML_CLOCK_MEM)
def look():
    for one in handles:
        pynvml.nvmlDeviceGetUtilizationRates(one)
        pynvml.nvmlDeviceGetEncoderUtilization(one)
        pynvml.nvmlDeviceGetDecoderUtilization(one)
        pynvml.nvmlDeviceGetMemoryInfo(one, version=pynvml.nvmlMemory_v2)
        pynvml.nvmlDeviceGetTemperature(one, pynvml.NVML_TEMPERATURE_GPU)
        pynvml.nvmlDeviceGetPowerUsage(one)
        pynvml.nvmlDeviceGetEnforcedPowerLimit(one)
        pynvml.nvmlDeviceGetPerformanceState(one)
        pynvml.nvmlDeviceGetCurrentClocksEventReasons(one)
        pynvml.nvmlDeviceGetComputeRunningProcesses(one)
        pynvml.nvmlDeviceGetFieldValues(one, [82])
        for clock in clocks:
            pynvml.nvmlDeviceGetClockInfo(one, clock)
taken = []
for _ in range(60):
    began = time.perf_counter()
    look()
    taken.append((time.perf_counter() - began) * 1000)
    time.sleep(0.05)
print(json.dumps(taken))
"""
"""What moves, by the calls that cost least, in a loop that does nothing else."""


def thirds(values: Sequence[float]) -> list[float]:
    """The median of each third."""
    size = max(1, len(values) // 3)
    return [statistics.median(values[at : at + size]) for at in range(0, size * 3, size) if values[at : at + size]]


@contextmanager
def _driver(folder: Path) -> Iterator[Stub]:
    stub = Stub(folder, compile_library(folder))
    try:
        stub.gpus(GPUS)
        for gpu in range(GPUS):
            stub.load(gpu)
        yield stub
    finally:
        stub.close()


def reading(table: Table, seconds: float) -> None:
    """Polls of the reader, and the bare calls beside them. The stub answers at once: what is seen is our own part."""
    with tempfile.TemporaryDirectory() as text, _driver(Path(text)) as stub:
        before = dict(os.environ)
        os.environ.update(stub.env())
        try:
            bare = json.loads(subprocess.check_output([sys.executable, "-c", _CHEAPEST, str(GPUS)], timeout=120))
            ours = {gpm: _polls(gpm=gpm) for gpm in (False, True)}
        finally:
            os.environ.clear()
            os.environ.update(before)
    peers = {"the cheapest calls alone": thirds(bare)}
    what = f"reading {GPUS} stub GPUs, a poll"
    table.add(Row("poll", f"{what}, without GPM", "ms", ours[False], "10 ms", 10.0, peers=peers))
    table.add(Row("poll-gpm", f"{what}, with GPM", "ms", ours[True], "40 ms", 40.0, peers=peers))


def _polls(*, gpm: bool) -> list[float]:
    reader = DirectReader(GPUS, gpm=gpm, every={"gpm_watched": 0.05})
    try:
        taken = []
        for _ in range(61):
            taken.append(float(reader.poll(watched=gpm)["seconds"]) * 1000)
            time.sleep(0.05)
        return thirds(taken[1:])
    finally:
        reader.close()


# -- from the command to an answer -------------------------------------------------------------------------------------


def _until(
    command: Sequence[str | Path], answers: Callable[[], bool], environment: Mapping[str, str]
) -> tuple[float, float]:
    """Milliseconds from a command to its first answer, and of CPU until then, of itself alone. Raises ``RuntimeError``
    where it ends or is silent."""
    began = time.perf_counter()
    with subprocess.Popen(
        command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env={**os.environ, **environment}
    ) as process:
        try:
            while not answers():
                if process.poll() is not None or time.perf_counter() - began > 60:
                    raise RuntimeError(f"no answer: {command[0]}")
                time.sleep(0.002)
            took = time.perf_counter() - began
            spent = psutil.Process(process.pid).cpu_times()
            return took * 1000, (spent.user + spent.system) * 1000
        finally:
            process.terminate()


def _answer_of(address: str | tuple[str, int], path: str) -> Callable[[], bool]:
    """Whether something at a socket's path, or an address, answers a request."""

    def answers() -> bool:
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        with socket.socket(family) as one:
            one.settimeout(5)
            try:
                one.connect(address)
                one.sendall(f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
                return one.recv(16).split()[1:2] == [b"200"]
            except OSError:
                return False

    return answers


def ready(table: Table, seconds: float) -> None:
    """From the command to the first answer, turn about with Prometheus."""
    ours, theirs = [], []
    with tempfile.TemporaryDirectory() as text, _driver(Path(text)) as stub:
        folder = Path(text)
        for number in range(_STARTS + 1):
            home = folder / str(number)
            home.mkdir()
            (home / "gpumon.yaml").write_text(json.dumps({"sources": {"vllm": {"discover": False}}}))
            command = [sys.executable, "-m", "monitor", "daemon", "--config", str(home / "gpumon.yaml")]
            command += ["--socket", str(home / "s"), "--listen", "none", "--state-dir", str(home)]
            took = _until(command, _answer_of(str(home / "s"), "/-/ready"), stub.env())
            if number:  # the first writes bytecode, as an installation does
                ours.append(took)
                theirs += _prometheus_start(home)
    clock, cpu = ([one[at] for one in ours] for at in (0, 1))
    peers, peers_cpu = ({"Prometheus": [one[at] for one in theirs]} if theirs else {} for at in (0, 1))
    table.add(Row("ready", "daemon: from the command until it is ready", "ms", clock, "300 ms", 300.0, peers=peers))
    table.add(Row("ready-cpu", "the same, CPU until then", "ms", cpu, peers=peers_cpu))


def _prometheus_start(home: Path) -> list[tuple[float, float]]:
    try:
        binary = install_prometheus.prometheus_bin() / "prometheus"
    except InstallError:
        return []
    port = servers.free_port()
    config = {"rule_files": [str(default_rules_path())]}
    (home / "prometheus.yml").write_text(json.dumps(config))
    command: list[str | Path] = [
        binary,
        f"--config.file={home / 'prometheus.yml'}",
        f"--storage.tsdb.path={home / 'data'}",
    ]
    command += [f"--web.listen-address=127.0.0.1:{port}"]
    return [_until(command, _answer_of(("127.0.0.1", port), "/-/ready"), {})]


# -- the daemon, and what does its work elsewhere ----------------------------------------------------------------------


def _config(vllm: str) -> dict[str, Any]:
    return {
        # As often as the peer reads it.
        "sources": {"vllm": {"servers": [f"http://{vllm}"], "discover": False}, "host": {"interval": "1s"}},
        "alerting": {"evaluation_interval": "1s"},
    }


def _stack(stack: ExitStack, folder: Path, vllm: str, gpus: str) -> tuple[servers.Prometheus, list[int], str]:
    """Prometheus with what belongs to it over the same things: it, all PIDs, and its name. Raises ``InstallError``."""
    port = servers.free_port()
    node = stack.enter_context(
        servers.running(
            "node_exporter",
            [
                install_prometheus.prometheus_bin() / "prometheus-node-exporter",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            folder,
            lambda: servers.get(f"http://127.0.0.1:{port}/metrics").status_code == 200,
        )
    )
    name, pids, managers = "Prometheus + node_exporter", [node.pid], []
    try:
        manager = stack.enter_context(servers.alertmanager(folder))
        pids.append(manager.process.pid)
        managers.append(f"127.0.0.1:{manager.port}")
        name += " + Alertmanager"
    except (servers.NotReady, InstallError) as error:
        print(f"the peer is weighed without Alertmanager: {str(error).splitlines()[0]}")
    targets = {"vllm": [vllm], "gpus": [gpus], "node": [f"127.0.0.1:{port}"]}
    prometheus = stack.enter_context(
        servers.prometheus(folder, targets, rule_files=[default_rules_path()], interval="1s", alertmanagers=managers)
    )
    return prometheus, [prometheus.process.pid, *pids], name


def daemon(table: Table, seconds: float) -> None:
    """CPU, memory and rules of the daemon and of the Prometheus stack over the same things, side by side."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        stub = stack.enter_context(_driver(folder))
        vllm = stack.enter_context(moving_page((DATA / "preemption-storm-2.prom").read_text()))
        ours = stack.enter_context(servers.daemon(folder, _config(vllm), environment=stub.env()))
        servers.wait_for("a temperature", lambda: ours.query("DCGM_FI_DEV_GPU_TEMP"), 60)
        page = servers.get(f"{ours.url}/metrics", **{"collect[]": "nvml"}).text
        groups, prometheus, stack_name = {"ours": [ours.process.pid]}, None, ""
        try:
            gpus = stack.enter_context(moving_page(page))
            prometheus, pids, stack_name = _stack(stack, folder, vllm, gpus)
            groups["theirs"] = pids
        except InstallError as error:
            print(f"no peer: {error}")
        time.sleep(15)
        cpu = weigh_together(groups, seconds, 4)
        pss = {name: memory(pids) for name, pids in groups.items()}
        rules: dict[str, list[float]] = {name: [] for name in groups}
        for _ in range(_LOOKS):
            time.sleep(1.1)
            rules["ours"].append(_evaluation(ours))
            if prometheus is not None:
                rules["theirs"].append(_evaluation(prometheus))
    evaluated = {"Prometheus": rules["theirs"]} if prometheus is not None else {}
    what = f"evaluating the {len(load_rules((default_rules_path(),)))} shipped rules"
    table.add(Row("rules", what, "ms", rules["ours"], "no slower", no_more(evaluated), peers=evaluated))
    peers = {stack_name: cpu["theirs"]} if stack_name else {}
    what = f"daemon, all processes: {GPUS} GPUs, the host, a vLLM, the shipped rules, 1 s"
    table.add(Row("daemon-cpu", f"{what}: CPU", "% of a core", cpu["ours"], "half", half(peers), peers=peers))
    beside = {f"{stack_name}, as young": [pss["theirs"]]} if stack_name else {}
    table.add(
        Row("daemon-young", f"the same: memory (PSS) after {seconds + 20:.0f} s", "MiB", [pss["ours"]], peers=beside)
    )
    _hour(table, beside)


def _evaluation(one: servers.QueryApi) -> float:
    """Milliseconds that the last evaluation of all rules took, as it says itself."""
    return sum(float(group["evaluationTime"]) for group in one.api("rules")["groups"]) * 1000


def _hour(table: Table, beside: Mapping[str, Sequence[float]]) -> None:
    """Memory when an hour at 1 s can be asked for, gathered under a faster clock. The peer is younger: it has less."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        stub = stack.enter_context(_driver(folder))
        vllm = stack.enter_context(moving_page((DATA / "preemption-storm-2.prom").read_text()))
        port = servers.free_port()
        api = {"socket": str(folder / "s"), "listen": f"127.0.0.1:{port}"}
        file = folder / "gpumon.yaml"
        file.write_text(json.dumps({**_config(vllm), "state_directory": str(folder / "state"), "api": api}))
        url = f"http://127.0.0.1:{port}"
        process = stack.enter_context(
            servers.running(
                "daemon",
                [sys.executable, "-m", "tests.bench.fast_daemon", file, f"{HOUR_SPEED:g}"],
                folder,
                lambda: servers.get(f"{url}/-/ready").status_code == 200,
                environment={**stub.env(), "PYTHONPATH": str(servers.PROJECT)},
            )
        )
        time.sleep(_HOUR / HOUR_SPEED + 2)
        pss = memory([process.pid])
        found = servers.QueryApi(url).query('count_over_time(DCGM_FI_DEV_GPU_TEMP{gpu="0"}[1h])')
        points = int(float(next(iter(found.values()), "0")))
        (series,) = servers.QueryApi(url).query("gpumon_store_series").values()
    what = f"the same: memory (PSS), an hour queryable, {float(series):,.0f} series"
    most: float | None = 64.0
    if points < _HOUR * 0.9:  # the machine was too busy for the faster clock: that is less than an hour
        what, most = f"{what}, {points} points of {_HOUR:.0f} alone", None
    table.add(Row("daemon-hour", what, "MiB", [pss], "64 MiB", most, peers=beside))
