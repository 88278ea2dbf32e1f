"""The overview at the sizes that people have."""

from __future__ import annotations

import re

import pytest
from msgspec import structs

from monitor.client.builder import SnapshotBuilder
from monitor.client.snapshot import Snapshot
from monitor.records import replace
from tests.client.story import ALERTS, FACTS, SERVER, START_MS, Story, alert, snapshot
from tests.tui.screen import lines_at

SIZES = [(80, 24), (120, 40), (200, 50)]


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_all_that_matters_is_on_the_screen(width: int, height: int) -> None:
    lines = lines_at([snapshot(seconds=5)], width, height)
    text = "\n".join(lines)
    assert len(lines) == height
    assert lines[0].startswith("gpumon  h200-07  8 × H200  4.3/5.6 kW")
    for gpu in range(8):
        assert any(re.match(rf" +{gpu} +\d+ %", line) for line in lines), gpu
    for part in (
        "power cap",
        "sw thermal",
        "°C",
        "/700 W",
        "1980 MHz",
        f"vLLM {SERVER}  up",
        "running 43",
        "generation 2.9k tok/s",
        "first token mean 151 ms p95 546 ms",
        "inter-token mean 18 ms  p95 32 ms",
        "KV cache 71 %",
        "prefix hits 44 %",
        "CPU 20 % of 192 cores",
        "1 firing  1 pending",
        "critical firing   2 min    GpuTemperatureHigh",
        "nvml ok",
        "q quit",
    ):
        assert part in text, part
    assert "⣿" in text or "⣶" in text


@pytest.mark.parametrize(("width", "height"), [*SIZES, (60, 15), (40, 8), (300, 90)])
def test_no_line_is_wider_than_the_screen(width: int, height: int) -> None:
    story = Story(alerts=tuple(alert(f"Alert{n}", summary="much to say " * 30) for n in range(20)))
    lines = lines_at([snapshot(story, seconds=1)], width, height)
    assert all(len(line) <= width for line in lines)


def test_larger_screens_show_more() -> None:
    picture = snapshot(seconds=5)
    small, middle, large = ("\n".join(lines_at([picture], *size)) for size in SIZES)
    assert "HBM 69 °C" not in small
    assert "HBM 69 °C" in middle
    assert f"{SERVER} rank 7" not in middle
    assert f"{SERVER} rank 7" in large
    assert "utilization, last 10 min" in large
    assert "network 37 MB/s" in large
    assert small.count("⣿") < middle.count("⣿") < large.count("⣿")


def test_eight_servers_have_a_line_each_in_80_by_24() -> None:
    servers = tuple(f"{SERVER[:-1]}{n}" for n in range(8))
    text = "\n".join(lines_at([snapshot(Story(servers=servers, alerts=ALERTS), seconds=5)], 80, 24))
    for server in servers:
        assert f"vLLM {server} up run" in text
    assert "GpuTemperatureHigh" in text


def test_sixteen_gpus_say_how_many_are_not_shown() -> None:
    lines = lines_at([snapshot(Story(gpus=16), seconds=1)], 80, 20)
    hidden = [int(match[1]) for line in lines if (match := re.search(r"and (\d+) more: make the window higher", line))]
    shown = sum(bool(re.match(r" +\d+ +\d+ %", line)) for line in lines)
    assert len(hidden) == 1
    assert hidden[0] + shown == 16


def test_sources_and_servers_that_are_down_say_why() -> None:
    story = Story(alerts=ALERTS)
    builder = SnapshotBuilder(FACTS)
    builder.apply(story.frame(START_MS))
    story.nvml_down, story.vllm_down = "no answer in 2 s", "connection refused"
    text = "\n".join(lines_at([builder.apply(story.frame(START_MS + 30_000))], 120, 40))
    assert f"vLLM {SERVER}  DOWN connection refused, last answer 30 s ago" in text
    assert "nvml DOWN no answer in 2 s, 30 s" in text
    assert text.count("gone 30 s") == 8
    assert "running 43" not in text


def test_no_gpu_at_all_is_said() -> None:
    picture = snapshot(Story(nvml_down="no NVIDIA driver on this machine"))
    assert "GPU  no readings no NVIDIA driver on this machine" in "\n".join(lines_at([picture], 80, 24))
    absent = replace(picture, sources=tuple(replace(s, absent=s.name == "nvml") for s in picture.sources))
    text = "\n".join(lines_at([absent], 80, 24))
    assert "GPU  none on this machine: no NVIDIA driver" in text
    assert "nvml not here" in text


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        (replace(FACTS, mode="private", notifies=False), "private: nobody is notified"),
        (replace(FACTS, notifies=False), "no receivers: nobody is notified"),
        (replace(FACTS, heartbeat=False), "no heartbeat: a dead node is silent"),
        (replace(FACTS, mode="demo", simulated=True, speed=10.0), "simulated ×10"),
        (replace(FACTS, simulated=True), "simulated"),
    ],
)
@pytest.mark.parametrize(("width", "height"), SIZES)
def test_the_header_says_how_it_runs(facts: object, said: str, width: int, height: int) -> None:
    picture = replace(snapshot(seconds=1), node=facts)  # type: ignore[arg-type]
    assert said in "\n".join(lines_at([picture], width, height)[:2])


def test_a_node_in_order_has_no_notes() -> None:
    lines = lines_at([snapshot(seconds=1)], 80, 24)
    assert lines[1].startswith("GPU")


def test_what_is_absent_is_a_dash_and_never_zero() -> None:
    picture = snapshot(seconds=1)
    bare = replace(
        picture,
        gpus=tuple(
            replace(g, utilization=None, power=None, sm_clock=None, throttles=None, temperature=None)
            for g in picture.gpus
        ),
        engines=tuple(replace(e, ttft_mean=None, ttft_p95=None, prefix_hits=None) for e in picture.engines),
    )
    lines = lines_at([bare], 80, 24)
    (row,) = [line for line in lines if re.match(r" +0 ", line)]
    assert re.match(r" +0 +– +135/140 GiB +96 % +– +–/700 W +– +–", row)
    text = "\n".join(lines)
    assert "first token mean –      p95 –" in text
    assert "prefix hits –" in text
    assert "0 MHz" not in text


def test_names_from_outside_command_nothing() -> None:
    evil = "\x1b[31mred\x1b]0;owned\x07\n[bold]x[/bold]\u202e"
    for width, height in SIZES:
        story = Story(model=evil, servers=(evil,), alerts=(alert(evil, summary=evil),))
        lines = lines_at([snapshot(story, seconds=1)], width, height)
        text = "".join(lines)
        assert not re.search(r"[\x00-\x1f\x7f-\x9f\u202e]", text)
        assert "[bold]x" in text, "markup is text"


def test_a_picture_without_readings_says_that_it_waits() -> None:
    assert "waiting for the first readings" in "\n".join(lines_at([Snapshot(1, START_MS, FACTS)], 80, 24))


def test_several_nodes_of_a_fleet_are_told_apart() -> None:
    picture = snapshot(seconds=1)
    two = replace(picture, gpus=(picture.gpus[0], replace(picture.gpus[0], instance="other:9400")))
    text = "\n".join(lines_at([two], 120, 40))
    assert "h200-07/0" in text
    assert "other/0" in text


def test_what_is_silenced_or_inhibited_is_dimmed_last_and_counted_apart() -> None:
    loud = alert("Loud", summary="heard")
    silenced = structs.replace(alert("Quiet", severity="critical", summary="unheard"), silenced_by=("x",))
    inhibited = structs.replace(alert("Held", severity="critical"), inhibited_by=("y",))
    story = Story(alerts=(silenced, inhibited, loud))
    text = "\n".join(lines_at([snapshot(story, seconds=5)], 120, 40))
    assert "1 firing  1 silenced  1 inhibited" in text
    assert text.index("Loud") < text.index("Held") < text.index("Quiet")
    assert "critical silenced" in text


def test_lost_frames_are_told_for_as_long_as_they_are_many() -> None:
    def last(dropped: int, seq: int) -> str:
        return lines_at([replace(snapshot(seconds=5), dropped=dropped, seq=seq)], 200, 50)[-1]

    assert "1 frame lost" in last(1, 20)
    assert "lost" not in last(1, 60)
    assert "3 frames lost" in last(3, 60)
