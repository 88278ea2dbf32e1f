"""The source outlives the driver: hangs, crashes, no driver, and readers that cannot be ended."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from monitor.sources.nvml import NvmlSource
from monitor.sources.source import Source, SourceAbsent, SourceDown
from tests.nvml_stub.control import Stub
from tests.sources.nvml_polls import (
    PATIENCE,
    ask,
    down_reason,
    is_running,
    source_of,
    until_ended,
    until_up,
    value,
    values,
    wait_gone,
)

HANG = "hang:nvmlDeviceGetPowerUsage"


@pytest.fixture(autouse=True)
def no_core_files() -> Iterator[None]:
    """Readers that crash on purpose leave nothing behind."""
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))
    yield
    resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))


def test_it_is_a_source() -> None:
    source: Source = NvmlSource(hostname="node1")
    assert (source.name, source.server, source.interval, source.deadline) == ("nvml", "", 1.0, 2.0)


def test_a_hang_is_given_up_while_the_loop_stays_free_and_mended_when_it_ends(nvml: Stub) -> None:
    nvml.gpus(1)

    async def test(source: NvmlSource) -> None:
        await until_up(source)
        hung = source.reader_pid
        assert hung is not None
        nvml.fault(0, HANG)
        beats = 0

        async def beat() -> None:
            nonlocal beats
            while True:
                await asyncio.sleep(0.01)
                beats += 1

        beating = asyncio.create_task(beat())
        assert await down_reason(source) == "no answer from the driver in 0.5 s (GPU 0, nvmlDeviceGetPowerUsage)"
        beating.cancel()
        assert beats > 5
        assert source.reader_pid is None
        wait_gone(hung)
        nvml.clear(0)
        scrape = await until_up(source)
        assert values(scrape, 0)["DCGM_FI_DEV_GPU_TEMP"] == 36
        assert value(scrape, "gpumon_nvml_reader_restarts_total") == 1
        assert source.left_behind == 0

    ask(source_of(nvml, deadline=0.5), test)


def test_the_reason_stays_while_it_waits_before_the_next_try(nvml: Stub) -> None:
    nvml.gpus(1)

    async def test(source: NvmlSource) -> None:
        await until_up(source)
        nvml.fault(0, HANG)
        assert await down_reason(source) == "no answer from the driver in 0.3 s (GPU 0, nvmlDeviceGetPowerUsage)"
        opened = nvml.calls(None, "nvmlInitWithFlags")
        for _ in range(3):
            assert await down_reason(source) == "no answer from the driver in 0.3 s (GPU 0, nvmlDeviceGetPowerUsage)"
        assert nvml.calls(None, "nvmlInitWithFlags") == opened
        assert source.reader_pid is None

    ask(source_of(nvml, deadline=0.3, pauses=(1_000.0,)), test)


def test_pauses_grow_with_each_failure(nvml: Stub) -> None:
    nvml.fault(None, "unknown:nvmlInitWithFlags")

    async def test(source: NvmlSource) -> None:
        # The first two pauses are none, the third never ends.
        for _ in range(3):
            assert await down_reason(source) == "cannot open the driver: Unknown Error"
        for _ in range(3):
            assert await down_reason(source) == "cannot open the driver: Unknown Error"
        assert nvml.calls(None, "nvmlInitWithFlags") == 3

    ask(source_of(nvml, pauses=(0.0, 0.0, 1_000.0)), test)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("crash:nvmlDeviceGetTemperatureV", "the reader died: SIGSEGV (GPU 0, nvmlDeviceGetTemperatureV)"),
        ("exit:nvmlDeviceGetTemperatureV:3", "the reader died: exit status 3 (GPU 0, nvmlDeviceGetTemperatureV)"),
    ],
)
def test_a_crash_is_said_and_another_reader_started(nvml: Stub, fault: str, reason: str) -> None:
    async def test(source: NvmlSource) -> None:
        await until_up(source)
        first = source.reader_pid
        nvml.fault(0, fault)
        assert await down_reason(source) == reason
        nvml.clear(0)
        scrape = await until_up(source)
        assert source.reader_pid != first
        assert value(scrape, "gpumon_nvml_reader_restarts_total") == 1

    ask(source_of(nvml), test)


def test_a_reader_that_died_between_two_polls(nvml: Stub) -> None:
    async def test(source: NvmlSource) -> None:
        await until_up(source)
        pid = source.reader_pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        wait_gone(pid)
        assert await down_reason(source) == "the reader died: SIGKILL"
        await until_up(source)

    ask(source_of(nvml), test)


@pytest.mark.parametrize(
    ("library", "reason"),
    [
        (True, "no NVIDIA driver: libnvidia-ml.so.1 is not installed"),
        (False, "no NVIDIA driver: the kernel module is not loaded"),
    ],
)
def test_no_driver_is_absent_and_one_that_comes_later_is_found(nvml: Stub, library: bool, reason: str) -> None:
    nvml.driver_absent(library=library)

    async def test(source: NvmlSource) -> None:
        with pytest.raises(SourceAbsent, match=f"^{reason}$"):
            await source.poll(1)
        assert source.reader_pid is None
        nvml.driver_present()
        scrape = await until_up(source)
        assert values(scrape, 1)["DCGM_FI_DEV_GPU_TEMP"] == 36
        assert value(scrape, "gpumon_nvml_reader_restarts_total") == 0  # nothing had failed

    ask(source_of(nvml), test)


def test_no_driver_is_absent_also_when_that_is_learnt_after_the_poll(nvml: Stub) -> None:
    nvml.driver_absent(library=True)

    async def test(source: NvmlSource) -> None:
        assert "is being opened" in await down_reason(source)
        reader = source._reader
        assert reader is not None
        await reader.gone  # it has answered, and ended
        reason = await down_reason(source)
        assert reason == "no NVIDIA driver: libnvidia-ml.so.1 is not installed"

    ask(source_of(nvml, deadline=0.001, absent_pause=1_000.0), test)


def test_gpus_of_a_driver_that_was_slow_to_open_are_there(nvml: Stub) -> None:
    async def test(source: NvmlSource) -> None:
        assert "is being opened" in await down_reason(source)
        reader = source._reader
        assert reader is not None
        assert reader.answer is not None
        await reader.answer  # between two polls, as no reader starts in a millisecond
        source.deadline = PATIENCE
        scrape = await source.poll(1)
        assert values(scrape, 1)["DCGM_FI_DEV_GPU_TEMP"] == 36

    ask(source_of(nvml, deadline=0.001), test)


def test_an_absent_driver_is_looked_for_seldom(nvml: Stub) -> None:
    nvml.driver_absent(library=False)

    async def test(source: NvmlSource) -> None:
        for _ in range(4):
            with pytest.raises(SourceAbsent, match="no NVIDIA driver"):
                await source.poll(1)
        assert nvml.calls(None, "nvmlInitWithFlags") == 1

    ask(source_of(nvml, absent_pause=1_000.0), test)


def test_a_driver_that_cannot_be_opened_is_down_and_not_absent(nvml: Stub) -> None:
    nvml.fault(None, "version_mismatch:nvmlInitWithFlags")

    async def test(source: NvmlSource) -> None:
        with pytest.raises(SourceDown, match="differ in version") as caught:
            await source.poll(1)
        assert not isinstance(caught.value, SourceAbsent)
        nvml.clear(None)
        await until_up(source)

    ask(source_of(nvml), test)


def test_a_driver_without_gpus_is_opened_again(nvml: Stub) -> None:
    nvml.gpus(0)

    async def test(source: NvmlSource) -> None:
        assert await down_reason(source) == "the NVIDIA driver is loaded and lists no GPU"
        nvml.gpus(1)
        assert values(await until_up(source), 0)["DCGM_FI_DEV_GPU_TEMP"] == 36

    ask(source_of(nvml), test)


def test_opening_may_take_longer_than_a_poll(nvml: Stub) -> None:
    nvml.fault(None, "hang:nvmlInitWithFlags")

    async def test(source: NvmlSource) -> None:
        assert await down_reason(source) == "the driver is being opened"
        reader = source.reader_pid
        assert reader is not None
        assert await down_reason(source) == "the driver is being opened"
        nvml.clear(None)
        await until_up(source)
        assert source.reader_pid == reader

    ask(source_of(nvml, deadline=0.2, first_deadline=1_000.0), test)


def test_opening_that_never_ends_is_given_up(nvml: Stub) -> None:
    nvml.fault(None, "hang:nvmlInitWithFlags")

    async def test(source: NvmlSource) -> None:
        reasons = {await down_reason(source) for _ in range(4)}
        assert reasons == {"the driver is being opened", "no answer from the driver in 0.5 s"}

    ask(source_of(nvml, deadline=0.2, first_deadline=0.5), test)


def test_never_more_than_one_new_reader_beside_one_that_cannot_be_ended(nvml: Stub) -> None:
    nvml.gpus(1)
    immortal: list[asyncio.SubprocessTransport] = []

    async def test(source: NvmlSource) -> None:
        await until_up(source)
        nvml.fault(0, HANG)
        opened = nvml.calls(None, "nvmlInitWithFlags")
        assert await down_reason(source) == "no answer from the driver in 0.5 s (GPU 0, nvmlDeviceGetPowerUsage)"
        assert source.left_behind == 1
        while source.left_behind < 2:
            await down_reason(source)
            await asyncio.sleep(0.01)
        for _ in range(5):
            await asyncio.sleep(0.02)
            reason = await down_reason(source)
        assert reason.startswith("no answer from the driver in ")
        assert reason.endswith("; 2 readers hang in it and cannot be ended")
        assert nvml.calls(None, "nvmlInitWithFlags") == opened + 1
        assert source.reader_pid is None
        pids = [transport.get_pid() for transport in immortal]
        assert len(pids) == 2
        assert all(is_running(pid) for pid in pids)
        # One of them comes back from the kernel, and the signal that waited for it takes effect.
        nvml.clear(0)
        immortal[0].kill()
        scrape = await until_up(source)
        assert source.left_behind == 1
        assert value(scrape, "gpumon_nvml_readers_left_behind") == 1
        immortal[1].kill()
        wait_gone(pids[1])
        await until_ended(source)
        assert value(await source.poll(1), "gpumon_nvml_readers_left_behind") == 0

    ask(source_of(nvml, deadline=0.5, first_deadline=2.0, kill=immortal.append), test)


def test_a_poll_that_was_given_up_from_outside_leaves_no_second_reader(nvml: Stub) -> None:
    async def test(source: NvmlSource) -> None:
        await until_up(source)
        reader = source.reader_pid
        nvml.fault(0, HANG)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await source.poll(1)
        nvml.clear(0)
        await source.poll(2)
        assert source.reader_pid == reader
        nvml.set(0, "temperature", 77)
        assert values(await source.poll(3), 0)["DCGM_FI_DEV_GPU_TEMP"] == 77

    ask(source_of(nvml), test)


def test_a_busy_loop_is_not_taken_for_a_hang(nvml: Stub) -> None:
    async def test(source: NvmlSource) -> None:
        await until_up(source)
        poll = asyncio.create_task(source.poll(1))
        await asyncio.sleep(0)
        time.sleep(0.6)  # noqa: ASYNC251 - the daemon, busy past the deadline; the answer waits in the pipe
        assert values(await poll, 0)["DCGM_FI_DEV_GPU_TEMP"] == 36

    ask(source_of(nvml, deadline=0.3), test)


def test_ctrl_c_in_the_terminal_is_not_the_readers(nvml: Stub) -> None:
    async def test(source: NvmlSource) -> None:
        await until_up(source)
        reader = source.reader_pid
        assert reader is not None
        os.kill(reader, signal.SIGINT)
        await source.poll(1)
        assert source.reader_pid == reader

    ask(source_of(nvml), test)


def test_close_ends_the_reader_also_one_that_hangs(nvml: Stub) -> None:
    pids: list[int | None] = []

    async def test(source: NvmlSource) -> None:
        await until_up(source)
        pids.append(source.reader_pid)
        nvml.fault(0, HANG)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await source.poll(1)

    source = source_of(nvml)
    ask(source, test)
    (pid,) = pids
    assert pid is not None
    wait_gone(pid)
    with pytest.raises(SourceDown, match="closed"):
        asyncio.run(source.poll(1))


PARENT = """
import asyncio, sys
from monitor.sources.nvml import NvmlSource

async def run():
    source = NvmlSource(hostname="node1", deadline=60)
    await source.poll(1)
    print(source.reader_pid, flush=True)
    for line in sys.stdin:
        await source.poll(2)

asyncio.run(run())
"""


@pytest.mark.parametrize("hangs", [False, True])
def test_the_reader_ends_with_its_parent(nvml: Stub, hangs: bool) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], env=nvml.env(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        reader = int(parent.stdout.readline())
        assert is_running(reader)
        if hangs:
            asked = nvml.calls(0, "nvmlDeviceGetPowerUsage")
            nvml.fault(0, HANG)
            parent.stdin.write("poll\n")
            parent.stdin.flush()
            while nvml.calls(0, "nvmlDeviceGetPowerUsage") == asked:
                time.sleep(0.01)
        parent.kill()
    wait_gone(reader)


def test_the_reader_explains_itself_to_one_who_starts_it_by_hand() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "monitor.sources.nvml_reader"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "gpumon starts it itself" in done.stderr


@pytest.mark.parametrize(
    ("module", "kept_out"),
    [
        ("monitor.sources.nvml", {"pynvml", "httpx", "psutil"}),
        ("monitor.sources.nvml_reader", {"asyncio", "httpx", "msgspec", "psutil", "dataclasses", "inspect"}),
    ],
)
def test_imports_stay_small(module: str, kept_out: set[str]) -> None:
    code = f"import {module}, json, sys; print(json.dumps(list(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert kept_out.isdisjoint(json.loads(done.stdout))
