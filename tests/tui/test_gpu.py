"""One GPU, opened: charts with thresholds, what holds its clocks down, its health in words, what runs on it."""

from __future__ import annotations

import re

from textual.pilot import Pilot

from monitor.client import gpu_queries
from monitor.client.wire import ProcessRow
from monitor.records import replace
from monitor.samples import labels_of
from monitor.tui.app import GpumonApp
from tests.client.node_story import END_MS, Node, boards, exported, simulated
from tests.client.story import INSTANCE
from tests.tui.nodes import press, run, screen

OPEN = ("2", "enter")
SECOND_NS = 1e9


def test_all_of_a_gpu_is_on_one_screen() -> None:
    node = Node(simulated())
    node.rows = (
        ProcessRow(
            "0", "", 4711, 3 << 30, user="vllm", name="VLLM::Worker_TP0", sm_ratio=0.5, started_ms=END_MS - 7_200_000
        ),
        ProcessRow("1", "", 4712, 3 << 30, user="vllm", name="VLLM::Worker_TP1"),
    )
    text = screen(node, (200, 50), *OPEN)
    for title in (
        "utilization",
        "memory",
        "temperature",
        "power",
        "SM clock",
        "SMs active",
        "tensor cores",
        "memory bandwidth",
        "memory temperature",
        "PCIe in",
        "NVLink in",
        "memory clock",
    ):
        assert f"{title} " in text, title
    assert "slowdown 89 °C" in text
    assert "max 1980 MHz" in text
    assert "PCI 00000000:1B:00.0" in text
    assert "driver 580.159.04" in text
    assert "MIG off" in text
    assert "the driver advises nothing" in text
    assert "18 of 18 links up" in text
    assert "gen 5 × 16, its most  no replay" in text
    assert "no row was ever remapped" in text
    assert "4711" in text
    assert "SM 50 %" in text
    assert "  2 h" in text, "how long it has run"
    assert "4712" not in text, "it is another GPU's"
    assert "encoder" not in text, "it encodes nothing"
    assert " of " not in text.splitlines()[2], "nothing has to be scrolled to"


def test_what_holds_its_clocks_down_is_told_now_and_as_a_share_of_the_range() -> None:
    grown = {
        "DCGM_FI_DEV_CLOCKS_EVENT_REASON_HW_THERM_SLOWDOWN_NS": 0.25 * SECOND_NS,
        "DCGM_FI_DEV_CLOCKS_EVENT_REASON_SW_POWER_CAP_NS": 0.5 * SECOND_NS,
    }
    text = screen(Node(boards(1, per_second=grown, reasons=0x44)), (120, 40), *OPEN)
    assert "clocks held down  now, and share of the last 5 min" in text
    line = next(line for line in text.splitlines() if line.startswith("hw thermal slowdown"))
    assert line.split()[3:6] == ["now", "25", "%"]
    line = next(line for line in text.splitlines() if line.startswith("power cap"))
    assert line.split()[2:5] == ["now", "50", "%"]
    assert "not: sw thermal slowdown, power brake" in text
    assert "GPU 0  hw thermal, power cap" in text, "the first line says it, too"


def test_energy_is_of_the_range_and_power_its_mean() -> None:
    head = boards(1, per_second={"DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION": 400_000.0}, power_mw=400_000)
    text = " ".join(screen(Node(head), (160, 60), *OPEN).split())
    assert "energy 33 Wh in the last 5 min mean power 400 W" in text
    assert re.search(r" [1-9]\d* Wh since the driver was loaded", text), "not 0.0 kWh"


def test_a_sick_gpu_says_what_is_wrong() -> None:
    slow = {
        "DCGM_FI_DEV_ECC_DBE_VOL_TOTAL": 2,
        "DCGM_FI_DEV_ECC_DBE_AGG_TOTAL": 7,
        "DCGM_FI_DEV_ROW_REMAP_PENDING": 1,
        "gpumon_gpu_recovery_action": 1,
        "DCGM_FI_DEV_PCIE_LINK_GEN": 5,
        "DCGM_FI_DEV_PCIE_LINK_WIDTH": 8,
        "DCGM_FI_DEV_PCIE_REPLAY_COUNTER": 40,
        "DCGM_FI_DEV_NVLINK_REPLAY_ERROR_COUNT_TOTAL": 3,
    }
    text = " ".join(screen(Node(boards(1, slow=slow, links_down=2, gpm=False)), (140, 60), *OPEN).split())
    assert "the driver advises: reset the GPU" in text
    assert "2 errors not corrected" in text
    assert "7 not corrected in its life" in text
    assert "rows wait for a reset to be remapped" in text
    assert "gen 5 × 8 of gen 5 × 16" in text
    assert "40 replays" in text
    assert "16 of 18 links up down: 0, 1" in text
    assert "3 replay errors" in text
    assert "tensor, SM and DRAM activity (they need a Hopper" in text
    assert "SMs active" not in text


def test_xids_are_counted_and_the_last_is_told() -> None:
    head = boards(1)
    of = {"gpu": "0", "UUID": "GPU-00000000", "pci_bus_id": "x", "instance": INSTANCE}
    for at_ms, count in ((END_MS - 200_000, 0.0), (END_MS - 100_000, 2.0), (END_MS, 2.0)):
        for code, value in (("79", count), ("31", 0.0)):
            head.append(labels_of({"__name__": "gpumon_gpu_xid_errors_total", "code": code, **of}), at_ms, value)
        at = labels_of({"__name__": "gpumon_gpu_last_xid_timestamp_seconds", "code": "79", **of})
        head.append(at, at_ms, (END_MS - 120_000) / 1000 if count else 0.0)
    text = " ".join(screen(Node(head), (140, 60), *OPEN).split())
    assert "XID 79 × 2 the last 2 min ago" in text
    assert "31 ×" not in text


def test_tab_and_y_give_the_promql_of_a_chart_and_r_all_readings() -> None:
    node = Node(boards(2))

    async def look(app: GpumonApp, pilot: Pilot[None]) -> None:
        await press(app, pilot, "2", "tab", "enter", "tab", "tab", "tab", "y")
        labels = f'gpu="1",instance="{INSTANCE}",GPU_I_ID=""'
        assert app.clipboard == f"DCGM_FI_DEV_GPU_TEMP{{{labels}}}"
        await press(app, pilot, "r")
        assert app.page.NAME == "readings"
        assert node.opened[-1][0] == f'{{gpu="1",instance="{INSTANCE}"}}'
        text = await press(app, pilot, "escape")
        assert "clocks held down" in text

    run(node, (120, 40), look)


def test_at_80_columns_the_first_lines_have_the_most_needed_and_the_rest_scrolls() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None]) -> None:
        text = await press(app, pilot, *OPEN)
        assert all(len(line) <= 80 for line in text.splitlines())
        for title in ("utilization", "memory", "temperature", "power", "SM clock"):
            assert f"{title} " in text
        assert "health" not in text
        text = await press(app, pilot, "G")
        assert "18 of 18 links up" in text

    run(Node(boards(1)), (80, 24), look)


def test_a_dcgm_exporter_alone_gives_what_it_has_and_words_for_the_rest() -> None:
    text = " ".join(screen(Node(exported(), plain=True), (160, 60), *OPEN).split())
    assert "A100-SXM4-80GB" in text
    assert "node a100-1:9400" in text
    assert "the driver does not say" in text, "a dcgm-exporter has no reasons unless told to"
    assert "XID the last was 31" in text
    assert "3 replays" in text
    assert "a Prometheus knows none" in text
    assert "utilization 73 %" in text
    assert "power 288 W" in text
    assert "SMs active" not in text


def test_in_the_past_it_is_of_that_moment_and_no_process_is_shown() -> None:
    node = Node(boards(1))
    node.rows = (ProcessRow("0", "", 4711, 3 << 30),)

    async def look(app: GpumonApp, pilot: Pilot[None]) -> None:
        assert "4711" in await press(app, pilot, *OPEN)
        text = await press(app, pilot, "left")
        assert "they are not stored" in text
        assert "4711" not in text
        assert node.watched[-1][1] is not None
        assert "utilization " in text

    run(node, (120, 40), look)


def test_a_gpu_that_is_gone_says_so() -> None:
    node = Node(boards(2))

    async def look(app: GpumonApp, pilot: Pilot[None]) -> None:
        await press(app, pilot, *OPEN)
        snapshot = app.page.view.snapshot
        assert snapshot is not None
        gone = replace(snapshot.gpus[0], stale=True)
        app.take(replace(snapshot, gpus=(gone, snapshot.gpus[1])))
        text = await press(app, pilot)
        assert "GPU 0  gone" in text
        app.take(replace(snapshot, gpus=(snapshot.gpus[1],)))
        assert "nothing is known of GPU 0" in await press(app, pilot)

    run(node, (120, 40), look)


def test_a_gpus_labels_select_none_of_its_instances() -> None:
    assert gpu_queries.labels_of("n:1", '3"') == 'gpu="3\\"",instance="n:1",GPU_I_ID=""'
    assert gpu_queries.labels_of("", "3") == 'gpu="3",GPU_I_ID=""'
