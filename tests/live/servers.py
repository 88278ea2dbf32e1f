"""The real servers of the live tier, as context managers: vLLM, Prometheus, gpumon's daemon, and the load of a storm.

Each server gets a free port of loopback and a log that is shown when it does not come up. ``guard`` says how it ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx

from tests.live import install_prometheus, install_vllm

PROJECT = Path(__file__).resolve().parents[2]
MODEL = "tiny"
STORM_ARGUMENTS = ("--num-gpu-blocks-override", "64", "--block-size", "32", "--max-num-seqs", "16")
"""A KV cache of 2,048 tokens: 16 requests at once of 500 tokens each do not fit, so they preempt each other."""

_GUARD = Path(__file__).with_name("guard.py")


class NotReady(Exception):
    """What was waited for did not come. The text says what, and the end of the server's log."""


def free_port() -> int:
    """A port of loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def get(url: str, **parameters: str) -> httpx.Response:
    """GET, whatever proxies the environment names. Raises ``httpx.HTTPError``."""
    with httpx.Client(trust_env=False, timeout=10) as client:
        return client.get(url, params=parameters)


_Found = TypeVar("_Found")


def wait_for(what: str, look: Callable[[], _Found | None], seconds: float, process: Process | None = None) -> _Found:
    """Look again and again until the look gives something true, and return that.

    The deadline is generous and only ends a failure. Raises ``NotReady``, at once where ``process`` has ended."""
    until = time.monotonic() + seconds
    while True:
        last: object = None
        try:
            found = look()
            if found:
                return found
            last = found
        except httpx.HTTPError as error:
            last = error
        if process is not None and not process.alive:
            raise NotReady(f"{what}: {process.name} ended ({process.status})\n{process.tail()}")
        if time.monotonic() > until:
            tail = f"\n{process.tail()}" if process is not None else ""
            raise NotReady(f"{what}: not within {seconds:g} s; the last look gave {last!r}{tail}")
        time.sleep(0.1)


class Process:
    """A server under a guard."""

    def __init__(self, name: str, command: Sequence[str | Path], log: Path, environment: Mapping[str, str]) -> None:
        self.name = name
        self.log = log
        with log.open("ab") as output:
            self._guard = subprocess.Popen(
                [sys.executable, str(_GUARD), *map(str, command)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                env={**os.environ, **environment},
                # A Ctrl-C in the terminal must not end it before the test says so.
                start_new_session=True,
            )
        assert self._guard.stdout is not None
        self.pid = int(self._guard.stdout.readline() or -1)
        """The server's own."""

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self._guard.poll() is None

    @property
    def status(self) -> int | None:
        """Its exit status, or None while it runs."""
        return self._guard.poll()

    def tail(self, lines: int = 40) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def stop(self) -> None:
        """End it, with everything it started."""
        assert self._guard.stdin is not None
        assert self._guard.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._guard.stdin.close()
        self._guard.stdout.close()
        self._guard.wait(timeout=60)


@contextmanager
def running(
    name: str,
    command: Sequence[str | Path],
    folder: Path,
    ready: Callable[[], bool],
    *,
    seconds: float = 60,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Process]:
    """A server that is up when the block begins and gone when it ends. Its log is ``folder/<name>.log``, or in
    ``$GPUMON_LIVE_LOGS``."""
    logs = Path(os.environ.get("GPUMON_LIVE_LOGS") or folder)
    logs.mkdir(parents=True, exist_ok=True)
    process = Process(name, command, logs / f"{name}.log", environment or {})
    try:
        wait_for(f"{name} answers", ready, seconds, process)
        yield process
    finally:
        process.stop()


def _answers(url: str) -> Callable[[], bool]:
    return lambda: get(url).status_code == 200


# -- vLLM --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Vllm:
    """A real vLLM that serves the tiny model as ``tiny``."""

    url: str
    port: int
    process: Process

    def metrics(self) -> str:
        """What ``/metrics`` says now."""
        return get(f"{self.url}/metrics").text


@contextmanager
def real_vllm(
    folder: Path, *arguments: str, name: str = "vllm", port: int = 0, model: Path | None = None
) -> Iterator[Vllm]:
    """vLLM on the CPU, healthy; ``arguments`` go to ``vllm serve``. Takes about 30 s to come up. ``port`` 0 is a free
    one, ``model`` None the tiny one."""
    port = port or free_port()
    # A real one computes on GPUs: here it must not take the cores from those that watch it.
    command: list[str | Path] = [
        "nice", "-n", "10",
        install_vllm.python(), "-m", "vllm.entrypoints.cli.main", "serve", model or install_vllm.model(),
        "--load-format", "dummy", "--served-model-name", MODEL, "--max-model-len", "1024", "--enforce-eager",
        "--host", "127.0.0.1", "--port", str(port), *arguments,
    ]  # fmt: skip
    environment = {
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        # One thread computes: a machine of two cores has one left for the daemon, as a node with GPUs has many.
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": "1",
        "VLLM_CACHE_ROOT": str(folder / "vllm-cache"),
        "VLLM_CONFIG_ROOT": str(folder / "vllm-config"),
    }
    url = f"http://127.0.0.1:{port}"
    with running(
        name, command, folder, _answers(f"{url}/health"), seconds=300, environment=environment
    ) as process:  # 25 s on two idle cores
        yield Vllm(url, port, process)


@dataclass
class Storm:
    """Load that runs beside the test until it is told to end."""

    completed: int = 0
    failures: list[str] = field(default_factory=list)
    """What was refused."""
    broken: int = 0
    """Connections that closed under a request: vLLM closes those that rest, and one may just have been taken up."""


@contextmanager
def storm(vllm: Vllm, *, at_once: int = 16, tokens_in: int = 100, tokens_out: int = 400) -> Iterator[Storm]:
    """``at_once`` requests in flight all the time, each with a prompt of its own, so that no cache helps. With a server
    of ``STORM_ARGUMENTS`` they preempt each other. The block's end waits for the requests in flight, so that the server
    is idle after it, and raises where one was refused."""
    seen = Storm()
    stop = threading.Event()

    async def send(number: int, client: httpx.AsyncClient) -> None:
        noise = random.Random(number)
        while not stop.is_set():
            prompt = [noise.randrange(5, 2000) for _ in range(tokens_in)]
            body = {"model": MODEL, "prompt": prompt, "max_tokens": tokens_out, "ignore_eos": True}
            try:
                answer = await client.post(f"{vllm.url}/v1/completions", json=body)
            except (httpx.ReadError, httpx.RemoteProtocolError, httpx.WriteError):
                seen.broken += 1
                continue
            except httpx.HTTPError as error:
                seen.failures.append(repr(error))
                return
            if answer.status_code != 200:
                seen.failures.append(f"{answer.status_code}: {answer.text[:200]}")
                return
            seen.completed += 1

    async def blow() -> None:
        async with httpx.AsyncClient(trust_env=False, timeout=300) as client:
            await asyncio.gather(*(send(number, client) for number in range(at_once)))

    thread = threading.Thread(target=lambda: asyncio.run(blow()), name="storm", daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        stop.set()
        thread.join(timeout=300)
    if thread.is_alive() or seen.failures or seen.broken > max(2, seen.completed // 50):
        raise NotReady(f"the storm did not go as meant: {seen}; running still: {thread.is_alive()}")


# -- Prometheus --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class QueryApi:
    """Whatever answers Prometheus' HTTP API: Prometheus itself, or a daemon."""

    url: str

    def api(self, path: str, **parameters: str) -> Any:
        """The ``data`` of ``/api/v1/<path>``; fails where it is an error."""
        answer = get(f"{self.url}/api/v1/{path}", **parameters)
        body = answer.json()
        assert body["status"] == "success", f"{self.url} {path} {parameters}: {answer.status_code} {body}"
        return body["data"]

    def query(self, expression: str, at: float | None = None) -> dict[tuple[tuple[str, str], ...], str]:
        """An instant vector as labels (sorted pairs, ``__name__`` with them) and the value as it stood in the JSON."""
        moment = {} if at is None else {"time": f"{at:.3f}"}
        data = self.api("query", query=expression, **moment)
        assert data["resultType"] == "vector", data
        found = {tuple(sorted(each["metric"].items())): each["value"][1] for each in data["result"]}
        assert len(found) == len(data["result"]), f"{expression}: the same labels twice"
        return found

    def alerts(self, name: str) -> list[dict[str, Any]]:
        """The alerts of a rule that are pending or firing now."""
        return [each for each in self.api("alerts")["alerts"] if each["labels"]["alertname"] == name]


@dataclass(frozen=True)
class Prometheus(QueryApi):
    """A real Prometheus 3."""

    process: Process


@contextmanager
def prometheus(
    folder: Path,
    targets: Mapping[str, Sequence[str]],
    *,
    rule_files: Sequence[Path] = (),
    interval: str = "1s",
    alertmanagers: Sequence[str] = (),
) -> Iterator[Prometheus]:
    """Prometheus 3 that scrapes ``targets`` (job: addresses) plainly, without ``honor_labels``, evaluates the rule
    files as they are, and tells Alertmanagers (addresses)."""
    port = free_port()
    home = folder / "prometheus"
    home.mkdir(parents=True)
    config = {
        "global": {"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": interval},
        "rule_files": [str(file) for file in rule_files],
        "alerting": {
            "alertmanagers": [{"static_configs": [{"targets": list(alertmanagers)}]}] if alertmanagers else []
        },
        "scrape_configs": [
            {"job_name": job, "static_configs": [{"targets": list(addresses)}]} for job, addresses in targets.items()
        ],
    }
    file = home / "prometheus.yml"
    file.write_text(json.dumps(config))
    command: list[str | Path] = [
        install_prometheus.prometheus_bin() / "prometheus", f"--config.file={file}",
        f"--storage.tsdb.path={home / 'data'}", f"--web.listen-address=127.0.0.1:{port}",
    ]  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    with running("prometheus", command, folder, _answers(f"{url}/-/ready")) as process:
        yield Prometheus(url, process)


# -- Alertmanager ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Alertmanager:
    """A real Alertmanager."""

    url: str
    port: int
    process: Process

    def alerts(self, **parameters: str) -> list[dict[str, Any]]:
        """What ``/api/v2/alerts`` says now."""
        answer = get(f"{self.url}/api/v2/alerts", **parameters)
        assert answer.status_code == 200, answer.text
        found: list[dict[str, Any]] = answer.json()
        return found


@contextmanager
def alertmanager(
    folder: Path, config: Mapping[str, Any] | None = None, *arguments: str, name: str = "alertmanager", port: int = 0
) -> Iterator[Alertmanager]:
    """Alertmanager alone, without a cluster. ``config`` is its alertmanager.yml; without one it notifies nobody.

    Started again with the same folder, name and port it is the one that was stopped."""
    port = port or free_port()
    home = folder / name
    home.mkdir(parents=True, exist_ok=True)
    file = home / "alertmanager.yml"
    file.write_text(json.dumps(config or {"route": {"receiver": "nobody"}, "receivers": [{"name": "nobody"}]}))
    command: list[str | Path] = [
        *install_prometheus.alertmanager_command(), f"--config.file={file}", f"--storage.path={home / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address=", *arguments,
    ]  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    with running(name, command, folder, _answers(f"{url}/-/ready")) as process:
        yield Alertmanager(url, port, process)


# -- the daemon --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Daemon(QueryApi):
    """gpumon's daemon, as a user starts it."""

    port: int
    instance: str
    process: Process

    def sources(self) -> dict[str, dict[str, Any]]:
        """Each source by ``<source>`` or ``<source>:<server>``."""
        found = get(f"{self.url}/api/gpumon/v1/sources").json()["sources"]
        return {f"{each['source']}:{each['server']}" if each["server"] else each["source"]: each for each in found}


@contextmanager
def daemon(
    folder: Path,
    config: Mapping[str, Any],
    *arguments: str,
    name: str = "node1",
    environment: Mapping[str, str] | None = None,
) -> Iterator[Daemon]:
    """``gpumon daemon`` on a node called ``name``, with a state directory, socket and port of its own; ``config`` is
    the rest of its gpumon.yaml. Its ``instance`` is the address that Prometheus scrapes it by."""
    home = folder / name
    home.mkdir(parents=True)
    port = free_port()
    address = f"127.0.0.1:{port}"
    whole = {
        "node": {"job": "gpumon", "instance": address, "hostname": name},
        "state_directory": str(home),
        **config,
        "api": {"socket": str(home / "gpumon.sock"), "listen": address, **config.get("api", {})},
    }
    file = home / "gpumon.yaml"
    file.write_text(json.dumps(whole, indent=1))
    command: list[str | Path] = [sys.executable, "-m", "monitor", "daemon", "--config", file, *arguments]
    url = f"http://{address}"
    homes = {"PYTHONPATH": str(PROJECT), "XDG_STATE_HOME": str(home), "XDG_RUNTIME_DIR": str(home)}
    with running(
        name, command, folder, _answers(f"{url}/-/ready"), environment={**homes, **(environment or {})}
    ) as process:
        yield Daemon(url, port, address, process)
