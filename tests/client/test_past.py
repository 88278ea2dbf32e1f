"""Pictures of the past, asked of a real API over a store that a test fills."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from monitor.client.errors import ClientError, Refused
from monitor.client.past import Pictures, grain
from monitor.client.snapshot import Snapshot
from monitor.client.wire import Query
from monitor.samples import Labels, make_labels
from tests.commands.serving import T0, head_of, serving

GPU = {"gpu": "0", "UUID": "u", "modelName": "NVIDIA H200"}
SECONDS = 900


def stored() -> dict[Labels, list[float]]:
    """A GPU that warms by a degree a minute, and an alert that fired during the second five minutes."""
    counting = range(SECONDS)
    silent = float("nan")
    fired = [1.0 if 300 <= i < 600 else silent for i in counting]
    alert = {"alertname": "GpuTooHot", "severity": "critical", "gpu": "0"}
    return {
        make_labels("DCGM_FI_DEV_GPU_TEMP", GPU): [float(i // 60) for i in counting],
        make_labels("DCGM_FI_DEV_GPU_UTIL", GPU): [50.0 for _ in counting],
        make_labels("ALERTS", {**alert, "alertstate": "firing"}): fired,
        make_labels("ALERTS_FOR_STATE", alert): [(T0 - 600_000) / 1000 for _ in counting],
        make_labels("gpumon_source_up", {"source": "nvml"}): [float(i < 700) for i in counting],
        make_labels("gpumon_source_age_seconds", {"source": "nvml"}): [2.0 for _ in counting],
    }


def ask(*wanted: tuple[int | None, int]) -> list[Snapshot]:
    with serving(head_of(stored())) as target:

        async def main() -> list[Snapshot]:
            pictures = Pictures(target)
            try:
                return [await pictures.at(at_ms, range_seconds) for at_ms, range_seconds in wanted]
            finally:
                await pictures.close()

        return asyncio.run(main())


def test_a_picture_is_of_its_moment() -> None:
    then, now = ask((T0 - 400_000, 600), (T0, 300))
    assert (then.now_ms, now.now_ms) == (T0 - 400_000, T0)
    assert (then.gpus[0].temperature, now.gpus[0].temperature) == (8.0, 14.0)
    assert then.gpus[0].model == "NVIDIA H200"
    assert [(one.name, one.state, one.since_ms) for one in then.alerts] == [("GpuTooHot", "firing", T0 - 600_000)]
    assert [(one.name, one.up, one.reason) for one in then.sources] == [("nvml", True, "it was down")]
    assert [one.up for one in now.sources] == [False]
    assert then.sources[0].last_success_ms == T0 - 402_000


def test_of_now_the_graphs_alone_are_asked_for() -> None:
    then, now = ask((T0, 300), (None, 300))
    assert now.histories.keys() == then.histories.keys() != set()
    assert then.gpus[0].temperature is not None
    assert now.gpus[0].temperature is None, "a feed tells it each second"
    assert (len(then.sources), now.sources) == (1, ())


def test_a_graph_ends_at_the_moment_and_goes_back_as_far_as_it_is_asked_to() -> None:
    (then,) = ask((T0 - 300_000, 300))
    history = then.history("gpu_temp_h", ("n1:9519", "0"))
    assert history is not None
    assert history.span_ms == 300_000
    assert T0 - 302_000 <= history.times[-1] <= T0 - 300_000
    assert history.times[0] <= T0 - 598_000
    assert (history.values[0], history.values[-1]) == (4.0, 9.0)


def test_nothing_is_older_than_the_oldest() -> None:
    _, then = ask((None, 300), (0, 300))
    assert then.now_ms == T0 - (SECONDS - 1) * 1000 + 5_000
    assert then.gpus


@pytest.mark.parametrize(
    ("range_seconds", "step"), [(300, 2), (600, 2), (3600, 12), (3 * 3600, 60), (86_400, 300), (7 * 86_400, 2040)]
)
def test_long_ranges_have_steps_of_whole_minutes(range_seconds: int, step: int) -> None:
    assert grain(range_seconds) == step


def test_a_server_that_is_gone_is_an_error_and_the_next_try_is_fresh() -> None:
    async def main() -> None:
        pictures = Pictures("unix:/nonexistent/gpumon.sock")
        for _ in range(2):
            with pytest.raises(ClientError):
                await pictures.at(None, 300)

    asyncio.run(main())


def test_what_one_screen_is_refused_ends_no_other_ones_stream() -> None:
    with serving(head_of(stored())) as target:

        async def main() -> None:
            pictures = Pictures(target)
            try:
                async with aclosing(pictures.watch(lambda _: [Query("t", "time()")], None, 600)) as answers:
                    await anext(answers)
                    with pytest.raises(Refused):
                        await anext(pictures.watch(lambda _: [Query("x", "up{")], None, 600))
                    assert (await anext(answers)).value("t") is not None
            finally:
                await pictures.close()

        asyncio.run(main())
