"""From frames to snapshots: what is kept, what is appended, and what is seen to be gone."""

from __future__ import annotations

import math

import pytest

from monitor.client.builder import SnapshotBuilder, make_alerts, make_sources
from monitor.client.errors import ClientError
from monitor.client.wire import AlertRow, Frame, Result, SourceRow, parse_time
from monitor.records import replace
from tests.client.story import ALERTS, FACTS, INSTANCE, SERVER, START_MS, Story, alert, snapshot

GPU = {"instance": INSTANCE, "gpu": "0"}


def instant(values: list[float | None], names: list[str] | None, at_ms: int = START_MS) -> Result:
    """A result of the query for GPU readings."""
    labels = None if names is None else tuple({"__name__": name, **GPU} for name in names)
    return Result(labels=labels, times=[float(at_ms)] * len(values), values=list(values))


def test_the_story_gives_a_whole_picture() -> None:
    picture = snapshot(Story(alerts=ALERTS), seconds=2)
    assert [gpu.index for gpu in picture.gpus] == [str(n) for n in range(8)]
    gpu = picture.gpus[0]
    assert gpu.memory_total == 143_771 * 1024 * 1024
    assert gpu.utilization is not None
    assert 0 <= gpu.utilization <= 1
    assert gpu.engine == f"{SERVER} rank 0"
    assert gpu.throttles == ()
    assert not gpu.stale
    assert picture.gpus[3].throttles == ("sw thermal",)
    (engine,) = picture.engines
    assert (engine.server, engine.up, engine.models) == (SERVER, True, ("meta-llama/Llama-3.1-70B-Instruct",))
    assert engine.gpus == tuple("01234567")
    assert picture.host is not None
    assert picture.host.cpus == 192
    assert [one.mountpoint for one in picture.host.filesystems] == ["/", "/models"]
    assert picture.node.driver == "580.159.04"
    assert [(one.name, one.state) for one in picture.alerts] == [
        ("GpuTemperatureHigh", "firing"),
        ("VllmRequestsWaiting", "pending"),
    ]


def test_labels_are_kept_until_new_ones_come_and_null_is_absent() -> None:
    builder = SnapshotBuilder(FACTS)
    names = ["DCGM_FI_DEV_GPU_UTIL", "DCGM_FI_DEV_GPU_TEMP"]
    first = builder.apply(Frame(1, START_MS, {"gpu": instant([50, 60], names)}))
    second = builder.apply(Frame(2, START_MS + 1000, {"gpu": instant([51, None], None, START_MS + 1000)}))
    third = builder.apply(Frame(3, START_MS + 2000))
    assert (first.gpus[0].utilization, first.gpus[0].temperature) == (0.5, 60)
    assert (second.gpus[0].utilization, second.gpus[0].temperature) == (0.51, None)
    assert third.gpus[0].utilization == 0.51
    assert first.gpus[0].temperature == 60, "a picture that was given out never changes"


def test_a_mig_instance_is_not_taken_for_its_gpu() -> None:
    whole, part = GPU, {**GPU, "GPU_I_ID": "1", "GPU_I_PROFILE": "1g.18gb"}
    rows: list[tuple[str, dict[str, str], float]] = [
        ("DCGM_FI_DEV_FB_USED", whole, 100),
        ("DCGM_FI_DEV_FB_USED", part, 7),
        ("DCGM_FI_DEV_POWER_USAGE", part, 200),
        ("DCGM_FI_DEV_FB_USED", {**part, "gpu": "1"}, 9),
        ("DCGM_FI_DEV_GPU_TEMP", {**part, "gpu": "1"}, 50),
    ]
    labels = tuple({"__name__": name, **more} for name, more, _ in rows)
    values: list[float | list[float | None] | None] = [value for *_, value in rows]
    result = Result(labels=labels, times=[float(START_MS)] * len(rows), values=values)
    past = Result(labels=(whole, part), times=[float(START_MS)], values=[[100.0], [7.0]], reset=True)
    picture = SnapshotBuilder(FACTS).apply(Frame(1, START_MS, {"gpu": result, "gpu_memory_h": past}))
    first, second = picture.gpus
    assert (first.memory_used, first.power) == (100 * 1024 * 1024, 200)
    assert (second.memory_used, second.temperature) == (None, 50), "some exporters tell of instances alone"
    history = picture.history("gpu_memory_h", first.key)
    assert history is not None
    assert history.newest == 100


def test_readings_that_grow_old_are_stale() -> None:
    builder = SnapshotBuilder(FACTS)
    names = ["DCGM_FI_DEV_GPU_UTIL"]
    story = Story()
    builder.apply(story.frame(START_MS))
    fresh = builder.apply(Frame(2, START_MS + 4000, {"gpu": instant([50], names, START_MS)}))
    old = builder.apply(Frame(3, START_MS + 6000, {"gpu": instant([50], names, START_MS)}))
    assert [picture.gpus[0].stale for picture in (fresh, old)] == [False, True]


def test_a_servers_health_says_why_its_metrics_are_down() -> None:
    loading = {"state": "loading", "reason": "loading the model: its port is not open yet"}
    rows = (
        SourceRow("vllm", "n:8000", up=False, reason="connection refused"),
        SourceRow("engine", "n:8000", up=True, facts=loading),
        SourceRow("vllm", "n:8001", up=False, reason="HTTP 500"),
        SourceRow("engine", "n:8001", up=True, facts={"state": "serving"}),
        SourceRow("engine", "n:8002", up=False, reason="internal error"),
    )
    assert [(one.name, one.server, one.reason) for one in make_sources(rows)] == [
        ("vllm", "n:8000", "loading the model: its port is not open yet"),
        ("vllm", "n:8001", "HTTP 500"),
        ("engine", "n:8002", "internal error"),
    ]


def test_on_a_faster_clock_a_fresh_reading_may_be_older() -> None:
    builder = SnapshotBuilder(replace(FACTS, speed=10.0))
    builder.apply(Story().frame(START_MS))
    reading = {"gpu": instant([50], ["DCGM_FI_DEV_GPU_UTIL"], START_MS)}
    fresh = builder.apply(Frame(2, START_MS + 40_000, reading))
    old = builder.apply(Frame(3, START_MS + 60_000, reading))
    assert [picture.gpus[0].stale for picture in (fresh, old)] == [False, True]


def test_a_gpu_that_is_lost_stays_to_be_seen() -> None:
    story = Story()
    builder = SnapshotBuilder(FACTS)
    builder.apply(story.frame(START_MS))
    story.gpus_lost = (5,)
    lost = builder.apply(story.frame(START_MS + 1000)).gpus
    assert len(lost) == 8
    assert lost[5].stale
    assert lost[5].utilization is None
    assert lost[5].at_ms == START_MS
    assert lost[5].model == "NVIDIA H200"
    story.gpus_lost = ()
    back = builder.apply(story.frame(START_MS + 2000)).gpus[5]
    assert not back.stale
    assert back.utilization is not None


def test_a_gpu_that_was_lost_before_is_known_from_the_past() -> None:
    past = Result(
        labels=({**GPU, "modelName": "NVIDIA H200"},), times=[START_MS - 60_000.0], values=[[7.0]], reset=True
    )
    picture = SnapshotBuilder(FACTS).apply(Frame(1, START_MS, {"gpu_util_h": past}))
    (gpu,) = picture.gpus
    assert (gpu.index, gpu.stale, gpu.utilization, gpu.at_ms) == ("0", True, None, None)


def test_a_server_that_is_down_has_its_reason_and_no_numbers() -> None:
    story = Story()
    builder = SnapshotBuilder(FACTS)
    builder.apply(story.frame(START_MS))
    story.vllm_down = "connection refused"
    (engine,) = builder.apply(story.frame(START_MS + 20_000)).engines
    assert (engine.up, engine.reason) == (False, "connection refused")
    assert engine.running is None
    assert engine.generation_rate is None
    assert engine.age_seconds == 20
    assert engine.models == ("meta-llama/Llama-3.1-70B-Instruct",)


def test_a_server_that_was_never_up_is_there() -> None:
    (engine,) = snapshot(Story(vllm_down="HTTP 500")).engines
    assert (engine.server, engine.up, engine.reason, engine.running) == (SERVER, False, "HTTP 500", None)


def test_a_rate_of_a_server_that_is_gone_is_not_shown() -> None:
    story = Story()
    builder = SnapshotBuilder(FACTS)
    frame = story.frame(START_MS)
    frame.results["engine"] = Result(labels=(), times=[], values=[])
    (engine,) = builder.apply(frame).engines
    assert engine.generation_rate is None


def test_ranges_are_begun_appended_and_cut() -> None:
    builder = SnapshotBuilder(FACTS, range_seconds=10)
    times = [float(START_MS + second * 1000) for second in range(0, 11, 2)]
    begun = builder.apply(
        Frame(1, START_MS, {"gpu_util_h": Result(labels=(GPU,), times=times, values=[[1, 2, 3, 4, 5, 6]], reset=True)})
    )
    grown = builder.apply(
        Frame(2, START_MS, {"gpu_util_h": Result(times=[times[-1] + 2000, times[-1] + 4000], values=[[None, 8]])})
    )
    key = (INSTANCE, "0")
    before, after = begun.history("gpu_util_h", key), grown.history("gpu_util_h", key)
    assert before is not None
    assert after is not None
    assert list(before.values) == [1, 2, 3, 4, 5, 6]
    assert list(after.values[:4]) == [3, 4, 5, 6]
    assert math.isnan(after.values[4])
    assert after.values[5] == 8
    assert after.times[0] == START_MS + 4000
    assert after.epoch == before.epoch
    assert after.newest == 8


def test_a_reset_begins_anew() -> None:
    builder = SnapshotBuilder(FACTS)
    key = (INSTANCE, "0")
    one = Result(labels=(GPU,), times=[float(START_MS)], values=[[1.0]], reset=True)
    first = builder.apply(Frame(1, START_MS, {"gpu_util_h": one})).history("gpu_util_h", key)
    other = Result(labels=(GPU,), times=[float(START_MS)], values=[[9.0]], reset=True)
    second = builder.apply(Frame(2, START_MS, {"gpu_util_h": other})).history("gpu_util_h", key)
    assert first is not None
    assert second is not None
    assert list(second.values) == [9.0]
    assert second.epoch != first.epoch


@pytest.mark.parametrize(
    "bad",
    [
        {"gpu": Result(times=[1.0], values=[1.0])},
        {"gpu": Result(labels=(GPU,), times=[1.0, 2.0], values=[1.0])},
        {"gpu_util_h": Result(labels=(GPU,), times=[1.0], values=[[1.0, 2.0]], reset=True)},
        {"gpu_util_h": Result(labels=(), times=[1.0], values=[[1.0]], reset=True)},
        {"gpu_util_h": Result(times=[1.0], values=[[1.0]])},
    ],
)
def test_frames_that_do_not_fit_are_refused(bad: dict[str, Result]) -> None:
    with pytest.raises(ClientError, match="frame 3"):
        SnapshotBuilder(FACTS).apply(Frame(3, START_MS, bad))


def test_a_query_that_fails_is_told_and_its_readings_go() -> None:
    builder = SnapshotBuilder(FACTS)
    builder.apply(Frame(1, START_MS, {"gpu": instant([50], ["DCGM_FI_DEV_GPU_UTIL"])}))
    failed = builder.apply(Frame(2, START_MS, {"gpu": Result(error="too\x1bmany samples")}))
    assert failed.problems == {"gpu": "too·many samples"}
    assert failed.gpus[0].utilization is None


def test_memory_total_is_made_of_its_parts_where_it_is_not_given() -> None:
    names = ["DCGM_FI_DEV_FB_USED", "DCGM_FI_DEV_FB_FREE", "DCGM_FI_DEV_FB_RESERVED"]
    (gpu,) = SnapshotBuilder(FACTS).apply(Frame(1, START_MS, {"gpu": instant([60, 30, 10], names)})).gpus
    assert gpu.memory_ratio == 0.6


def test_two_engines_of_a_server_are_one_row() -> None:
    def row(name: str, engine: str) -> dict[str, str]:
        return {"__name__": name, "instance": INSTANCE, "server": SERVER, "engine": engine, "model_name": "m"}

    rows = tuple(row(name, e) for name in ("vllm:num_requests_running", "vllm:kv_cache_usage_perc") for e in "01")
    result = Result(labels=rows, times=[float(START_MS)] * 4, values=[3.0, 4.0, 0.2, 0.9])
    (engine,) = SnapshotBuilder(FACTS).apply(Frame(1, START_MS, {"engine": result})).engines
    assert (engine.running, engine.kv_cache, engine.waiting) == (7, 0.9, None)


def test_alerts_are_ordered_by_gravity_and_the_watchdog_is_none() -> None:
    rows = [
        alert("Watchdog", severity="none"),
        alert("Pending", state="pending", severity="critical"),
        alert("Old", severity="warning", since_ms=START_MS - 9000),
        alert("New", severity="warning"),
        alert("Info", severity="info"),
        alert("Critical", severity="critical"),
    ]
    assert [one.name for one in make_alerts(rows)] == ["Critical", "New", "Old", "Info", "Pending"]


def test_times_of_alerts() -> None:
    (one,) = make_alerts([AlertRow({"alertname": "A"}, {}, "firing", "2026-11-20T14:01:02.123456789Z", "1")])
    assert one.since_ms == parse_time("2026-11-20T15:01:02.123+01:00")
    assert one.since_ms is not None
    assert one.since_ms % 1000 == 123
    assert parse_time("0001-01-01T00:00:00Z") is None
    assert parse_time("yesterday") is None


def test_nothing_in_a_picture_can_command_a_terminal() -> None:
    evil = "x\x1b]0;owned\x07"
    story = Story(model=evil, servers=(evil,), vllm_down="", alerts=(alert(evil, summary=evil, label=evil),))
    text = repr(snapshot(story, seconds=1))
    assert "\\x1b" not in text
    assert "\\x07" not in text
    assert "x·]0;owned·" in text
