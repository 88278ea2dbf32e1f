"""All that is read beside a step: which GPUs, by whom, and that nothing of it ends a run."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import cast

import pytest

from monitor.client.api import Client
from monitor.client.errors import Unreachable
from monitor.client.wire import Series
from monitor.probes.daemon_gpus import DaemonGpus
from monitor.probes.schema import Facts, Live, Readings, Spec
from monitor.probes.watch import SIMULATED, Watch, is_here
from tests.daemons import RunningDaemon, daemon
from tests.nvml_stub.control import Stub
from tests.nvml_stub.fixtures import nvml, nvml_library

__all__ = ["nvml", "nvml_library"]

HERE = "http://127.0.0.1:8000"
ELSEWHERE = "http://192.0.2.7:8000"
PAGE = (Path(__file__).parent.parent / "data" / "preemption-storm-2.prom").read_text()


async def page() -> str | None:
    return PAGE


async def silent() -> str | None:
    return None


def watched(
    spec: Spec,
    stub: Stub,
    *,
    socket: str = "",
    server: str = "",
    fetch: Callable[[], Awaitable[str | None]] = page,
    seconds: float = 0.3,
) -> tuple[Readings, Watch, Live]:
    """One step of a run in which nothing is sent."""
    watch = Watch(spec, Facts(server=server, url=spec.url), socket, fetch, environment=stub.env())

    async def run() -> tuple[Readings, Live]:
        await watch.open()
        try:
            watch.begin()
            await asyncio.sleep(seconds)
            live = Live(**watch.live())
            return await watch.end([], seconds), live
        finally:
            await watch.close()

    readings, live = asyncio.run(run())
    return readings, watch, live


def test_gpus_server_and_machine_of_one_step(nvml: Stub) -> None:
    nvml.load(1)
    readings, watch, live = watched(Spec("latency", HERE), nvml)
    assert [gpu.gpu for gpu in readings.gpus] == ["0", "1"]
    assert readings.gpus[1].util == pytest.approx(0.98)
    assert readings.gpus[1].throttled == {"power cap": 1.0}
    assert readings.server is not None
    assert (readings.server.generation_tokens, readings.server.running) == (0.0, 4.0)
    assert readings.host is not None
    assert readings.host.client_cpu is not None
    assert readings.notes == (
        "it is not known which GPUs the server uses: all 2 of this machine were read (name those of the server: "
        "--gpus)",
    )
    assert watch.gpu_names == ("NVIDIA H200", "NVIDIA H200")
    assert watch.driver == "580.159.04"
    assert live.waiting == 12
    assert live.gpu_util == pytest.approx(0.49)


def test_gpus_that_are_named_and_a_server_that_says_nothing(nvml: Stub) -> None:
    readings, _, live = watched(Spec("latency", ELSEWHERE, gpus=("1",)), nvml, fetch=silent)
    assert [gpu.gpu for gpu in readings.gpus] == ["1"]
    assert readings.server is None
    assert readings.notes == ("the server's /metrics did not always answer",)
    assert live.kv_usage is None


def test_gpus_of_this_machine_are_not_those_of_another(nvml: Stub) -> None:
    readings, watch, _ = watched(Spec("latency", ELSEWHERE), nvml)
    assert readings.gpus == ()
    assert readings.notes == (
        "the GPUs were not read: the server is on another machine (where it is not, name its GPUs: --gpus)",
    )
    assert watch.gpu_names == ()


def test_a_simulated_server_has_no_gpu(nvml: Stub) -> None:
    readings, _, _ = watched(Spec("latency", HERE, simulated=True), nvml)
    assert readings.gpus == ()
    assert readings.notes == (SIMULATED,)
    assert nvml.calls(None, "nvmlInitWithFlags") == 0


def test_no_driver_and_no_daemon(nvml: Stub, tmp_path: Path) -> None:
    nvml.driver_absent()
    readings, _, _ = watched(Spec("latency", HERE), nvml, socket=str(tmp_path / "none.sock"))
    assert readings.gpus == ()
    first, second = readings.notes
    assert first.startswith("the daemon was not asked which GPUs the server uses: ")
    assert second == "no GPU was read: no NVIDIA driver: libnvidia-ml.so.1 is not installed"


@pytest.mark.parametrize(
    ("url", "here"),
    [
        ("http://127.0.0.1:8000", True),
        ("http://localhost:8000", True),
        ("http://[::1]:8000", True),
        (ELSEWHERE, False),
        ("http://:8000", False),
        ("nonsense", False),
    ],
)
def test_which_addresses_are_this_machine(url: str, here: bool) -> None:
    assert asyncio.run(is_here(url)) is here


# -- by a daemon ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDaemon]:
    """A daemon of a simulated node."""
    with daemon(tmp_path_factory.mktemp("daemon"), "--simulate", "--past", "60") as one:
        yield one


def test_the_gpus_of_a_server_on_a_simulated_node(simulated: RunningDaemon, nvml: Stub) -> None:
    owned = simulated.query("gpumon_engine_gpu_info")
    server = owned[0][0]["server"]
    own = {labels["gpu"] for labels, _ in owned if labels["server"] == server}
    readings, watch, live = watched(
        Spec("latency", HERE), nvml, socket=str(simulated.socket), server=server, seconds=0.1
    )
    assert {gpu.gpu for gpu in readings.gpus} == own
    first = readings.gpus[0]
    assert first.util is not None
    assert 0 <= first.util <= 1
    assert first.power_w is not None
    assert first.memory_total_bytes is not None
    assert first.memory_total_bytes > 1 << 30
    assert first.sm_clock_max_mhz is not None
    assert "the GPUs are those of a simulated node" in readings.notes
    assert watch.gpu_names[0].startswith("NVIDIA")
    assert live.power_w is not None
    assert nvml.calls(None, "nvmlInitWithFlags") == 0, "a driver that is here has nothing to do with them"


class Answers:
    """In the place of a client: what a daemon says, one answer after the other, the last for ever."""

    def __init__(self, *answers: tuple[Series, ...] | None) -> None:
        self._answers = list(answers)

    async def query(self, expr: str) -> tuple[Series, ...]:
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if answer is None:
            raise Unreachable("no answer in time", "unix:/x")
        return answer


def series(name: str, value: float, gpu: str = "0", **labels: str) -> Series:
    metric = {"__name__": name, "gpu": gpu, "UUID": f"GPU-{gpu}abcdef", "modelName": "NVIDIA X", **labels}
    return Series(metric, (0.0, str(value)))


def test_series_become_readings_and_what_is_not_there_is_not() -> None:
    busy = (
        series("DCGM_FI_DEV_GPU_UTIL", 80),
        series("DCGM_FI_DEV_POWER_USAGE", 500),
        series("DCGM_FI_DEV_POWER_USAGE_INSTANT", 510),
        series("DCGM_FI_DEV_FB_USED", 1024),
        series("gpumon_gpu_throttle_active", 1, reason="sw_power_cap"),
        series("gpumon_gpu_throttle_active", 0, reason="hw_thermal"),
        series("DCGM_FI_DEV_GPU_UTIL", 10, gpu="1"),
    )

    async def test() -> None:
        gpus = DaemonGpus(cast(Client, Answers(busy)), ("GPU-0abc",), interval=0.01)
        assert await gpus.open()
        gpus.begin()
        await asyncio.sleep(0.1)
        (found,) = await gpus.end(2.0)
        assert (found.gpu, found.uuid, found.name) == ("0", "GPU-0abcdef", "NVIDIA X")
        assert found.util == pytest.approx(0.8)
        assert found.power_w == pytest.approx(500)
        assert found.power_max_w == pytest.approx(510)
        assert found.energy_j == pytest.approx(1000), "power × time"
        assert found.memory_used_bytes == 1 << 30
        assert found.throttled == {"power cap": 1.0}
        assert (found.tensor_active, found.sm_clock_mhz, found.temperature_c) == (None, None, None)
        assert gpus.live() == pytest.approx((0.8, 500.0))
        assert list(gpus.notes) == ["tensor and memory activity are not measurable: no GPM on this GPU"]
        await gpus.close()

    asyncio.run(test())


def test_a_daemon_that_has_no_gpu_or_goes_away() -> None:
    async def test() -> None:
        assert not await DaemonGpus(cast(Client, Answers(()))).open()
        once = (series("DCGM_FI_DEV_GPU_UTIL", 50), series("DCGM_FI_PROF_DRAM_ACTIVE", 0.5))
        gpus = DaemonGpus(cast(Client, Answers(once, None)), interval=0.01)
        assert await gpus.open()
        gpus.begin()
        await asyncio.sleep(0.05)
        assert await gpus.end(1.0) == ()
        assert gpus.live() == (None, None)
        assert list(gpus.notes) == ["the daemon did not always answer: unix:/x: no answer in time"]
        await gpus.close()

    asyncio.run(test())
