"""The GPUs: cards where all fit, else lines; MIG instances under their GPU; nodes with their names."""

from __future__ import annotations

import pytest
from textual.pilot import Pilot

from monitor.client.snapshot import Gpu, Happening
from monitor.client.wire import ProcessRow
from monitor.tui.app import GpumonApp
from tests.client.node_story import END_MS, Node, boards, exported, simulated
from tests.tui.nodes import press, run, screen

EIGHT = boards(8)


def cards(text: str) -> int:
    """How many cards are shown."""
    return sum(line.count("GPU ") for line in text.splitlines() if "──" in line)


@pytest.mark.parametrize(
    ("count", "size"), [(1, (80, 24)), (1, (120, 40)), (8, (120, 40)), (8, (200, 50)), (16, (200, 50))]
)
def test_cards_have_numbers_and_graphs_of_every_gpu(count: int, size: tuple[int, int]) -> None:
    text = screen(Node(boards(count)), size, "2")
    assert cards(text) == count
    for word in ("utilization", "memory", "temperature", "power"):
        assert text.count(f"{word} ") >= count, word
    assert text.count("╌") > 10, "thresholds are drawn"
    assert all(len(line) <= size[0] for line in text.splitlines())
    lines = text.splitlines()
    used = max(number for number, line in enumerate(lines[:-1]) if line.strip())
    assert used >= size[1] - 6, "the screen is used"


@pytest.mark.parametrize("count", [8, 16])
def test_at_80_columns_every_gpu_has_a_line_and_none_is_hidden(count: int) -> None:
    text = screen(Node(boards(count)), (80, 24), "2")
    indices = [line.replace("▌", " ").split()[0] for line in text.splitlines() if " GiB " in line and "/700 W" in line]
    assert indices == [str(index) for index in range(count)]
    assert "tensor 61 %" in text or count == 16, "and the one under the cursor is told of, where there is room"
    assert len(text.splitlines()) == 24


def test_a_narrow_line_has_the_gravest_reason_and_the_rank_in_full() -> None:
    text = screen(Node(simulated()), (80, 24), "2")
    assert "h200-07:8000 r3" in text
    text = screen(Node(boards(8, reasons=0x44)), (80, 24), "2")
    assert text.count("hw thermal") == 8
    assert "…" not in text


def test_the_cursor_goes_down_the_cards_and_enter_opens_the_one_that_it_is_on() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None]) -> None:
        async def under(*keys: str) -> str:
            await press(app, pilot, *keys)
            entry = app.page.under  # type: ignore[attr-defined]
            assert isinstance(entry.thing, Gpu)
            return entry.thing.index

        assert await under("2") == "0"
        assert await under("down") == "4", "four are beside each other"
        assert await under("down") == "1", "from the last one of a column to the next column"
        assert await under("up") == "4"
        assert await under("tab") == "5"
        assert await under("shift+tab", "shift+tab") == "3"
        text = await press(app, pilot, "enter")
        assert "GPU 3" in text
        assert "clocks held down" in text
        assert app.page.NAME == "GPU"
        assert await under("escape") == "3"
        assert await under("G") == "7"

    run(Node(EIGHT), (200, 50), look)


def test_a_click_chooses_a_card_then_opens_it_and_on_a_graph_goes_to_that_moment() -> None:
    node = Node(EIGHT)

    async def look(app: GpumonApp, pilot: Pilot[None]) -> None:
        text = await press(app, pilot, "2")
        line = next(number for number, line in enumerate(text.splitlines()) if "GPU 6" in line)
        column = text.splitlines()[line].index("GPU 6")
        await pilot.click(offset=(column, line))
        assert app.page.under.thing.index == "6"  # type: ignore[attr-defined]
        await pilot.click(offset=(column, line))
        assert "GPU 6" in await press(app, pilot)
        assert app.page.NAME == "GPU"
        await press(app, pilot, "escape")
        graph = next(number for number, one in enumerate(text.splitlines()) if number > line and "utilization" in one)
        await pilot.click(offset=(column + 10, graph + 2))
        assert "PAST" in await press(app, pilot)
        assert app.page.NAME == "GPUs"

    run(node, (200, 50), look)


def test_v_turns_between_cards_and_lines() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None]) -> None:
        assert cards(await press(app, pilot, "2")) == 8
        text = await press(app, pilot, "v")
        assert cards(text) == 0
        assert "SM clock" in text
        assert "utilization, last 10 min" in text
        assert cards(await press(app, pilot, "v")) == 8

    run(Node(EIGHT), (160, 48), look)


def test_a_filter_leaves_the_cards_of_what_has_its_words() -> None:
    text = screen(Node(simulated()), (200, 50), "2", "slash", *"8001", "enter")
    assert cards(text) == 4
    assert "GPUs  4 of 8" in text
    assert "h200-07:8001 rank 0" in text
    assert "h200-07:8000" not in text


def test_mig_instances_are_under_their_gpu_whatever_the_order() -> None:
    node = Node(boards(2, parts={1: 3}))

    async def look(app: GpumonApp, pilot: Pilot[None]) -> None:
        text = await press(app, pilot, "2", "v")
        assert "GPUs and MIG instances  5" in text
        lines = [line.strip("▌ ") for line in text.splitlines()]
        assert [line[:11] for line in lines if line.startswith("└")] == ["└ 1g.18gb  "] * 3
        first = next(number for number, line in enumerate(lines) if line.startswith("└"))
        assert lines[first - 1].split()[:2] == ["1", "–"], "utilization is its instances'"
        assert "1/17 GiB" in lines[first]
        assert "90 %" in lines[first]
        text = await press(app, pilot, "o")
        lines = [line.strip("▌ ") for line in text.splitlines()]
        first = next(number for number, line in enumerate(lines) if line.startswith("└"))
        assert lines[first - 1].split()[0] == "1"
        text = await press(app, pilot, "G", "enter")
        assert "MIG  3 instances" in text
        assert "MIG on" in text

    run(node, (80, 30), look)


def test_a_card_has_its_mig_instances_with_their_memory_and_activity() -> None:
    text = screen(Node(boards(2, parts={0: 3})), (120, 40), "2")
    assert cards(text) == 2
    assert text.count("└ 1g.18gb") == 3
    assert "active 90 %" in text


def test_a_gpu_without_gpm_has_no_tensor_activity_and_not_0() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None]) -> None:
        assert "tensor" not in await press(app, pilot, "2")
        text = await press(app, pilot, "v")
        line = next(line for line in text.splitlines() if " 0 " in line and "GiB" in line)
        assert line.count("–") == 2

    run(Node(boards(2, gpm=False)), (200, 50), look)


def test_who_runs_is_on_the_card_and_not_of_another_gpu() -> None:
    node = Node(boards(2))
    node.rows = (
        ProcessRow("1", "", 77, 3 << 30, user="ann", name="python"),
        ProcessRow("1", "", 78, 9 << 30, user="bob", name="worker"),
    )
    lines = screen(node, (120, 40), "2").splitlines()
    (line,) = [line for line in lines if "worker" in line]
    assert line.index("worker 9.0 GiB bob +1") > 59, "it is on the second card"


def test_gpus_of_several_nodes_have_their_names_and_a_prometheus_is_asked_for_no_processes() -> None:
    node = Node(exported(), plain=True)
    text = screen(node, (120, 40), "2")
    assert cards(text) == 4
    for name in ("a100-1/0", "a100-1/1", "a100-2/0", "a100-2/1"):
        assert f"GPU {name}  A100-SXM4-80GB" in text
    assert "not read" not in text
    assert "memory 58.6/78.1 GiB" in text, "the total is what is used and what is free"


def test_what_happened_to_one_gpu_is_marked_on_its_card_alone() -> None:
    node = Node(boards(2))
    node.events = (Happening(END_MS - 100_000, "xid", "critical", "XID 79 on GPU 1", {"gpu": "1"}),)

    async def look(app: GpumonApp, pilot: Pilot[None]) -> None:
        text = await press(app, pilot, "2")
        left = "\n".join(line[:58] for line in text.splitlines())
        right = "\n".join(line[60:] for line in text.splitlines())
        assert "┊" not in left
        assert "┊" in right

    run(node, (120, 40), look)


def test_in_the_past_the_cards_are_of_that_moment() -> None:
    node = Node(EIGHT)

    async def look(app: GpumonApp, pilot: Pilot[None]) -> None:
        live = await press(app, pilot, "2")
        text = await press(app, pilot, "shift+left")
        assert "PAST" in text
        assert node.watched[-1][1] is not None
        assert cards(text) == 8
        assert [line for line in live.splitlines() if "power" in line] != [
            line for line in text.splitlines() if "power" in line
        ]

    run(node, (120, 40), look)
