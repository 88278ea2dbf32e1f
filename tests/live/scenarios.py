"""The stories in which alerts must fire, and those in which none may: real vLLM servers, a pretended NVIDIA driver that
has the faults, the shipped rules. ``python -m tests.live.scenarios`` plays them and prints what fired beside what was
expected; ``test_scenarios.py`` asserts it.

Each scenario has a daemon of its own that begins with it, so that nothing which is kept firing reaches the next. Three
servers and a node full of ill GPUs are played side by side; all of it takes about ten minutes. Not here, because they
need hours: ``HostDiskFilling``, ``PrefixCacheHitRateHalved``, ``QueueTimeGrowing`` and a night; ``tests/rules`` has
them with moved time.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.live.freezing import frozen, kill
from tests.live.servers import MODEL, STORM_ARGUMENTS, Daemon, NotReady, Vllm, daemon, real_vllm, wait_for
from tests.nvml_stub.control import Stub, compile_library
from tests.nvml_stub.layout import GPU_VALUES

SETTLE = 10.0
"""Seconds that a scenario goes on after all that was expected has fired."""
_TARGETS = {"ttft": {"p95": "2m"}, "itl": {"p99": "1m"}}
"""A CPU that computes a model is no GPU: its latencies are none that anybody promised."""
_SMALL = ("--max-num-seqs", "4", "--max-num-queued-reqs", "16")
"""Four at once and twelve that wait; more are answered 503, as vLLM does where its queue has a limit."""


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    scenario: str
    expected: frozenset[str]
    fired: frozenset[str]
    seconds: float


@dataclass
class Stage:
    """Where the scenarios are played, and what came of them."""

    folder: Path
    library: Path
    rows: list[Row] = field(default_factory=list)
    say: Callable[[str], None] = print

    @property
    def disk(self) -> Path:
        """Where a disk is full."""
        return self.folder / "disk"

    def folder_of(self, scenario: str) -> Path:
        """A folder for a scenario's daemon and driver. A socket's path must be short."""
        folder = self.folder / re.sub(r"[^a-z0-9]+", "-", scenario.lower())[:12]
        folder.mkdir()
        return folder

    def play(
        self,
        scenario: str,
        node: Daemon,
        expected: set[str],
        *,
        most: float,
        least: float = 0.0,
        settle: float = SETTLE,
        where: str = "",
    ) -> None:
        """Wait until all that is expected has fired, at most ``most`` seconds, and at least ``least``; and then
        ``settle`` for what was not expected. Write down all that has. ``where`` are more matchers for ``ALERTS``."""
        where = where or f',mountpoint!="{self.disk}"'  # the disk is full for every daemon of this machine
        began = time.monotonic()
        while True:
            done = expected <= fired(node, where) and time.monotonic() - began >= least
            if done or time.monotonic() - began > most:
                break
            time.sleep(1.0)
        time.sleep(settle)
        row = Row(scenario, frozenset(expected), fired(node, where), time.monotonic() - began)
        self.rows.append(row)
        self.say(line_of(row))


def fired(node: Daemon, where: str = "") -> frozenset[str]:
    """Every alert that has fired since the daemon began, with its severity."""
    vector = node.query(f'max_over_time(ALERTS{{alertstate="firing",severity!="none"{where}}}[1h])')
    return frozenset(f"{dict(labels)['alertname']} {dict(labels)['severity']}" for labels in vector)


def table_of(rows: list[Row]) -> str:
    """All lines, with a head."""
    head = f"{'scenario':46} | {'expected':64} | {'fired':64} | seconds"
    return "\n".join((head, "-" * len(head), *map(line_of, rows)))


def line_of(row: Row) -> str:
    """Its line of the table."""
    expected, got = (", ".join(sorted(some)) or "nothing" for some in (row.expected, row.fired))
    mark = "" if row.expected == row.fired else "   <-- not equal"
    return f"{row.scenario:46} | {expected:64} | {got:64} | {row.seconds:4.0f}{mark}"


# -- a node, and what is done to it ------------------------------------------------------------------------------------


@contextmanager
def node_of(stage: Stage, scenario: str, vllm: Vllm | None, **server: Any) -> Iterator[tuple[Daemon, Stub]]:
    """A daemon with the shipped rules and eight idle H200, which watches ``vllm`` as the engine on GPU 0. ``server`` is
    what else its configuration says of the server."""
    folder = stage.folder_of(scenario)
    servers = [] if vllm is None else [{"url": vllm.url, "gpus": ["0"], **server}]
    config = {
        "sources": {"vllm": {"interval": "1s", "discover": False, "targets": _TARGETS, "servers": servers}},
        "alerting": {"evaluation_interval": "1s"},
    }
    stub = Stub(folder, stage.library)
    try:
        stub.gpus(8 if vllm else 16)
        hold(stub, 0, 0.92 if vllm else 0.0)
        with daemon(folder, config, name=folder.name, environment=stub.env()) as node:
            wait_for("the GPUs are read", lambda: node.query("gpumon_gpu_up"), 60, node.process)
            if vllm is not None:
                wait_for("vLLM is scraped", lambda: node.query("vllm:num_requests_running"), 60, node.process)
            yield node, stub
    finally:
        stub.close()


def hold(stub: Stub, gpu: int, share: float) -> None:
    """Let so much of a GPU's memory be taken."""
    total, reserved = GPU_VALUES["memory_total"], GPU_VALUES["memory_reserved"]
    used = int(total * share)
    stub.set(gpu, "memory_used", used)
    stub.set(gpu, "memory_free", total - reserved - used)


@contextmanager
def counting(stub: Stub, rates: Mapping[tuple[int, str], float]) -> Iterator[None]:
    """Counters of nanoseconds that grow: GPU and reading, and the share of the time."""
    stop = threading.Event()
    began = time.monotonic()

    def count() -> None:
        while not stop.wait(0.5):
            for (gpu, name), share in rates.items():
                stub.set(gpu, name, int((time.monotonic() - began) * 1e9 * share))

    thread = threading.Thread(target=count, name="counters", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@contextmanager
def load(
    vllm: Vllm, *, at_once: int, tokens_in: int, tokens_out: int, pause: float = 0.0
) -> Iterator[Counter[int | str]]:
    """``at_once`` clients, each with one request after the other, prompts that share nothing; gives their answers by
    status. At the end of the block those in flight are given up."""
    answers: Counter[int | str] = Counter()
    loop = asyncio.new_event_loop()

    async def client(number: int, http: httpx.AsyncClient) -> None:
        noise = random.Random(f"{number} {time.monotonic()}")
        while True:
            prompt = [noise.randrange(5, 2000) for _ in range(tokens_in)]
            body = {"model": MODEL, "prompt": prompt, "max_tokens": tokens_out, "ignore_eos": True}
            try:
                status: int | str = (await http.post(f"{vllm.url}/v1/completions", json=body)).status_code
            except httpx.HTTPError as error:
                status = type(error).__name__
            answers[status] += 1
            await asyncio.sleep(pause if status == 200 else max(pause, 0.5))

    async def blow() -> None:
        limits = httpx.Limits(max_connections=at_once)
        async with httpx.AsyncClient(trust_env=False, timeout=900, limits=limits) as http:
            await asyncio.gather(*(client(number, http) for number in range(at_once)))

    task = loop.create_task(blow())

    def work() -> None:
        asyncio.set_event_loop(loop)
        loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
        loop.close()

    thread = threading.Thread(target=work, name="load", daemon=True)
    thread.start()
    try:
        yield answers
    finally:
        loop.call_soon_threadsafe(task.cancel)
        thread.join(60)
    # One connection or two may close under a request, as vLLM closes those that rest. More is no load.
    broken = sum(count for status, count in answers.items() if isinstance(status, str))
    if thread.is_alive() or broken > max(2, answers.total() // 50):
        raise NotReady(f"the load did not go as meant: answers {dict(answers)}, running still: {thread.is_alive()}")


def runs(node: Daemon) -> bool:
    """Whether its server has a request running."""
    return bool(node.query("vllm:num_requests_running > 0"))


# -- the stories -------------------------------------------------------------------------------------------------------


def one_that_freezes(stage: Stage) -> None:
    """A server that is idle, freezes idle and busy, and dies."""
    with real_vllm(stage.folder, name="vllm-one") as vllm:
        with node_of(stage, "idle, 92 % of the memory taken", vllm, canary=True) as (node, _):
            stage.play("idle, 92 % of the memory taken", node, set(), most=180, least=180)
        with node_of(stage, "frozen idle", vllm, canary=True) as (node, _):
            wait_for("the canary", lambda: node.query('gpumon_canary_state{state="alive"} == 1'), 90, node.process)
            with frozen(vllm):
                stage.play("frozen idle", node, {"EngineFrozen critical"}, most=180)
        with node_of(stage, "frozen busy", vllm, canary=True) as (node, stub):
            stub.load(0)
            hold(stub, 0, 0.92)
            # Long ones: in the moment between two, the engine would freeze as an idle one does.
            with load(vllm, at_once=4, tokens_in=20, tokens_out=900):
                wait_for("requests run", lambda: runs(node), 60, node.process)
                with frozen(vllm):
                    stage.play("frozen busy", node, {"EngineFrozen critical", "EngineStuck critical"}, most=300)
        with node_of(stage, "dead", vllm, canary=True) as (node, _):
            wait_for("the engine's state", lambda: node.query('gpumon_engine_state{state="serving"} == 1'), 60)
            kill(vllm)
            stage.play("dead", node, {"VllmServerDown critical"}, most=120)


def one_under_load(stage: Stage) -> None:
    """A server with a small KV cache: busy and well, in a storm, and restarted."""
    with ExitStack() as stack:
        vllm = stack.enter_context(real_vllm(stage.folder, *STORM_ARGUMENTS, name="vllm-two"))
        with node_of(stage, "healthy and busy", vllm, canary=True) as (node, stub):
            stub.load(0)
            hold(stub, 0, 0.92)
            # At work it is at its power limit all the time, as the H200 that was recorded.
            with (
                counting(stub, {(0, "power_cap_ns"): 0.99}),
                load(vllm, at_once=2, tokens_in=100, tokens_out=100, pause=0.1),
            ):
                stage.play("healthy and busy", node, set(), most=150, least=150)
        with node_of(stage, "preemption storm", vllm) as (node, stub):
            stub.load(0)
            hold(stub, 0, 0.92)
            with load(vllm, at_once=40, tokens_in=100, tokens_out=400):
                expected = {
                    "KvCacheFull critical",
                    "KvCacheHigh warning",
                    "PreemptionStorm warning",
                    "RequestQueueLong warning",
                }
                stage.play("preemption storm", node, expected, most=300)
        with node_of(stage, "restarted", vllm) as (node, _):
            stack.close()
            with real_vllm(stage.folder, *STORM_ARGUMENTS, name="vllm-two-again", port=vllm.port):
                stage.play("restarted", node, {"VllmRestarted warning"}, most=60)


def one_with_a_short_queue(stage: Stage) -> None:
    """A server that takes on little: overloaded after a stall, answering 503, and one whose prompts share nothing."""
    with real_vllm(stage.folder, *_SMALL, name="vllm-three") as vllm:
        with node_of(stage, "overloaded", vllm, canary={"still": "15s", "deadline": "8s"}) as (node, stub):
            stub.load(0)
            hold(stub, 0, 0.92)
            wait_for("the canary", lambda: node.query('gpumon_canary_state{state="alive"} == 1'), 90, node.process)
            # After a stall the engine has a long queue, and the canary stands at its end.
            with frozen(vllm), ExitStack() as stack:
                stack.enter_context(load(vllm, at_once=14, tokens_in=20, tokens_out=900))
                wait_for("a canary failed", lambda: node.query("gpumon_canary_failures == 1"), 60, node.process)
                time.sleep(8)  # the next is sent after 5
                later = stack.pop_all()
            with later:
                stage.play("overloaded", node, {"EngineOverloaded warning"}, most=60)
        with load(vllm, at_once=24, tokens_in=20, tokens_out=100) as answers:
            wait_for("an answer 503", lambda: answers[503], 60)  # its series is there before the daemon
        with node_of(stage, "answers 503", vllm) as (node, stub):
            stub.load(0)
            hold(stub, 0, 0.92)
            time.sleep(5)
            with load(vllm, at_once=24, tokens_in=20, tokens_out=100):
                stage.play("answers 503", node, {"ErrorRateHigh critical"}, most=90)
        with node_of(stage, "low hit rate", vllm) as (node, stub):
            stub.load(0)
            hold(stub, 0, 0.92)
            with load(vllm, at_once=1, tokens_in=900, tokens_out=2, pause=2.0):
                stage.play("low hit rate", node, {"PrefixCacheHitRateLow warning"}, most=600)


ILL: tuple[tuple[str, int, Mapping[str, int], set[str]], ...] = (
    ("lost GPU", 5, {}, {"GpuLost critical"}),
    ("too hot (91 °C)", 2, {"temperature": 91}, {"GpuTooHot critical", "GpuHot warning"}),
    ("hot (86 °C)", 1, {"temperature": 86}, {"GpuHot warning"}),
    ("HBM too hot (97 °C)", 3, {"memory_temperature": 97}, {"GpuMemoryTooHot critical"}),
    ("XID 48 (uncorrected ECC error)", 6, {"xid": 48}, {"GpuXidCritical critical"}),
    ("XID 92 (many corrected errors)", 14, {"xid": 92}, {"GpuXidWarning warning"}),
    ("XID 13 (a program's fault)", 12, {"xid": 13}, set()),
    ("uncorrected ECC errors", 8, {"ecc_dbe_volatile": 2}, {"GpuEccUncorrected critical"}),
    ("row remapping failed", 9, {"remap_failure": 1}, {"GpuRowRemapFailure critical"}),
    ("an NVLink down", 10, {"nvlinks_down": 1}, {"NvlinkDown warning"}),
    ("the driver advises a reset", 11, {"recovery_action": 1}, {"GpuRecoveryNeeded critical"}),
    ("throttled for heat", 4, {"clocks_event_reasons": 64}, {"GpuThrottledHot critical"}),
    ("memory 97 % full, no engine", 7, {}, {"GpuMemoryFull critical"}),
    ("well, beside the ill ones", 13, {}, set()),
    ("held back by the power supply", 0, {"clocks_event_reasons": 128}, {"GpuThrottledPower warning"}),
)
"""Scenario, GPU, its readings, what is expected; what takes longest comes last."""


def ill_gpus(stage: Stage) -> None:
    """A node whose GPUs have each a fault of its own, and a disk that is full."""
    with full_disk(stage.disk) as mounted, node_of(stage, "ill GPUs", None) as (node, stub):
        time.sleep(20)  # a slow reading has been taken before
        for _, gpu, readings, _ in ILL:
            for name, value in readings.items():
                stub.set(gpu, name, value)
        hold(stub, 7, 0.97)
        stub.fault(5, "lost")
        with counting(stub, {(4, "hardware_thermal_ns"): 0.3, (0, "power_brake_ns"): 0.3}):
            for scenario, gpu, _, expected in ILL[:-1]:
                stage.play(scenario, node, expected, most=150, settle=2, where=f',gpu="{gpu}"')
            if mounted:
                expected = {"HostDiskFull critical"}
                stage.play("full disk", node, expected, most=150, where=f',mountpoint="{stage.disk}"')
            scenario, gpu, _, expected = ILL[-1]
            stage.play(scenario, node, expected, most=500, where=f',gpu="{gpu}"')
            # What the machine itself suffers from, as a full disk, is no fault of the scenarios.
            own = ',gpu="",alertname!~"(Host|ModelCache).*"'
            stage.play("nothing else on that node", node, set(), most=0, where=own)


@contextmanager
def full_disk(folder: Path) -> Iterator[bool]:
    """A small file system that is full; False where this user may not mount one."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode != 0:
        yield False
        return
    try:
        (folder / "core").write_bytes(bytes(8_100 * 1024))
        yield True
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


STORIES = (one_that_freezes, one_under_load, one_with_a_short_queue, ill_gpus)


def play_all(folder: Path, say: Callable[[str], None] = print, only: str = "") -> list[Row]:
    """Play the stories side by side, all or those whose name has ``only`` in it. Raises what one of them raised."""
    library = folder / "nvml"
    library.mkdir()
    stage = Stage(folder, compile_library(library), say=say)
    stories = [story for story in STORIES if only in story.__name__]
    with ThreadPoolExecutor(len(stories)) as pool:
        played = [pool.submit(story, stage) for story in stories]
    for future in played:
        future.result()
    return stage.rows


def main() -> int:
    """Print the table; 1 where the columns differ."""
    with tempfile.TemporaryDirectory() as folder:
        rows = play_all(Path(folder), lambda line: print(line, flush=True), *sys.argv[1:])
    print("\n" + table_of(rows))
    return int(any(row.expected != row.fired for row in rows))


if __name__ == "__main__":
    sys.exit(main())
