"""The processes' screen: tree and list, columns by width, and ending one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
from textual.pilot import Pilot

from monitor.client.errors import ClientError
from monitor.client.wire import ProcessRow
from monitor.records import replace
from monitor.tui import ending
from monitor.tui.app import GpumonApp
from monitor.tui.screens.end_process import EndProcess
from monitor.tui.screens.processes import ProcessesScreen
from tests.client.story import SERVER, START_MS
from tests.tui.screen import settle, text_of
from tests.tui.test_travel import LIVE, Past, run

GIB = 1 << 30


def process(pid: int, name: str, parent: int | None = None, gpu: str = "", **more: object) -> ProcessRow:
    held = 60 * GIB if gpu else None
    told = {
        "user": "vllm",
        "server": SERVER,
        "engine": "0",
        "command": name,
        "started_ms": START_MS - 3_600_000,
        **more,
    }
    return ProcessRow(gpu, "", pid, held, "compute" if gpu else "host", name, parent=parent, **told)  # type: ignore[arg-type]


ROWS = (
    process(104, "VLLM::Worker_TP1", 102, "1", rank="1", sm_ratio=0.9),
    process(103, "VLLM::Worker_TP0", 102, "0", rank="0", sm_ratio=0.2),
    process(102, "VLLM::EngineCore", 100, cpu_ratio=1.0),
    process(100, "vllm serve", 1, engine="", command="python3 /usr/bin/vllm serve org/m --port 8000", threads=212),
    process(
        900, "python", 899, "3", server="", engine="", user="alice", command="python train.py", container="docker:ab"
    ),
)


async def press(app: GpumonApp, pilot: Pilot[None], *keys: str) -> str:
    await pilot.press(*keys)
    for worker in [one for one in app.workers if one.name in ("past", "list")]:
        await worker.wait()
    await pilot.pause()
    await settle(app, pilot)
    return "\n".join(text_of(app))


def lines(text: str, *words: str) -> list[str]:
    return [line for line in text.splitlines() if any(word in line for word in words)]


def pids(text: str) -> list[str]:
    """The numbers in the list, from above."""
    known = {str(row.pid) for row in ROWS}
    body = text.split("command\n", 1)[1].split("───", 1)[0]
    return [next(word for word in line.split() if word in known) for line in body.splitlines() if line.strip()]


def test_a_tree_and_a_list() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        past.rows = ROWS
        text = await press(app, pilot, "5")
        assert pids(text) == ["100", "102", "103", "104", "900"]
        assert "vllm serve org/m --port 8000" in text
        assert "└─ VLLM::EngineCore" in text
        assert "   ├─ VLLM::Worker_TP0" in text
        assert "   └─ VLLM::Worker_TP1" in text
        assert "GPU memory  vllm 120 GiB  alice 60 GiB   of no server 60 GiB" in text
        text = await press(app, pilot, "t")
        assert pids(text) == ["103", "104", "900", "100", "102"]
        assert "─ VLLM" not in text
        assert "└─ VLLM::EngineCore" in await press(app, pilot, "t")

    run(look, (140, 40))


def test_ordered_by_a_column_or_filtered_it_is_flat_and_t_leads_back_to_the_tree() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        past.rows = ROWS
        await press(app, pilot, "5")
        screen = app.page
        assert isinstance(screen, ProcessesScreen)
        text = await press(app, pilot, *["o"] * 5)
        assert "sm▼" in text
        assert pids(text)[:2] == ["104", "103"], "the busiest first"
        assert "─ VLLM" not in text
        assert "└─ VLLM" in await press(app, pilot, "t")
        text = await press(app, pilot, "slash", *"worker", "enter")
        assert pids(text) == ["103", "104"]
        assert "─ VLLM" not in text
        assert "└─ VLLM" in await press(app, pilot, "escape")

    run(look, (140, 40))


@pytest.mark.parametrize(
    ("size", "there", "absent"),
    [
        ((80, 24), ("gpu mem", "60 GiB", "VLLM::Worker_TP0", "90 %"), ("rss", "container")),
        ((120, 40), ("rss", "age", "server", "rank", SERVER, "60 min"), ("docker:ab  ",)),
        ((200, 50), ("container", "docker:ab", "60 min"), ()),
    ],
)
def test_columns_give_way(size: tuple[int, int], there: tuple[str, ...], absent: tuple[str, ...]) -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        past.rows = ROWS
        text = await press(app, pilot, "5")
        assert all(len(line) <= size[0] for line in text.splitlines())
        assert [word for word in there if word not in text] == []
        assert [word for word in absent if word in text] == []

    run(look, size)


def test_a_process_on_several_gpus_is_one_line_with_each_in_the_detail() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        one = ROWS[-1]
        past.rows = tuple(replace_row(one, gpu=str(gpu), memory_bytes=gpu * GIB) for gpu in (3, 4, 5, 6))
        text = await press(app, pilot, "5")
        assert "processes  1" in text
        (line,) = lines(text, "train.py --x", " train.py")[:1]
        assert line.split()[1:3] == ["3-6", "900"]
        assert "18 GiB" in line
        assert "GPU 5 5.0 GiB" in text

    run(look)


def test_memory_that_no_process_is_seen_to_hold_is_told() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        boards = tuple(replace(gpu, memory_used=61.0 * GIB if gpu.index in "013" else 0.0) for gpu in LIVE.gpus)
        past.rows = ROWS
        app.take(replace(LIVE, gpus=boards))
        assert "held by no process" not in await press(app, pilot, "5")
        app.take(replace(LIVE, gpus=(*boards[:5], replace(boards[5], memory_used=40.0 * GIB), *boards[6:])))
        assert "held by no process that is seen  GPU 5 40 GiB" in await press(app, pilot)
        past.rows = tuple(replace_row(row, memory_bytes=None) for row in ROWS[:2])
        app._monotonic.now += 3  # type: ignore[attr-defined]
        app._age()
        text = await press(app, pilot)
        assert "the driver does not say who holds it" in text
        assert "GPU 0 61" not in text, "what is not said may be all of it"

    run(look)


def test_detail_tells_all_that_is_known() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        past.rows = (replace_row(ROWS[3], cgroup="/system.slice/vllm.service"), *ROWS[:3])
        text = await press(app, pilot, "5")
        assert "pid 100  parent 1  212 threads" in text
        assert "python3 /usr/bin/vllm serve org/m --port 8000" in text
        assert "/system.slice/vllm.service" in text
        await press(app, pilot, "down", "down", "y")
        assert app.clipboard == "103"

    run(look)


def test_where_there_is_room_the_detail_has_what_its_gpus_did() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        past.rows = ROWS
        text = await press(app, pilot, "5")
        graphs = next(line for line in text.splitlines() if "100 %" in line and "GPU 0" in line)
        assert "GPU 1" in graphs, "those of the workers under the API server"
        assert "GPU 2" not in graphs
        assert "⣿" in text.rsplit("───", 1)[1]
        text = await press(app, pilot, "G")
        assert "GPU 3 " in text.rsplit("───", 1)[1]
        assert "GPU 0" not in text.rsplit("───", 1)[1]

    run(look, (160, 50))


def test_the_past_has_none_and_neither_has_a_prometheus() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        past.rows = ROWS
        await press(app, pilot, "5")
        text = await press(app, pilot, "left")
        assert "processes are not stored" in text
        assert "GPU memory" not in text
        assert "this is the past" in await press(app, pilot, "x")
        await press(app, pilot, "l")

        async def refuses() -> tuple[ProcessRow, ...]:
            raise ClientError("a Prometheus knows none", "http://x")

        past.processes = refuses  # type: ignore[method-assign]
        app._monotonic.now += 3  # type: ignore[attr-defined]
        app._age()
        assert "not read again: a Prometheus knows none" in await press(app, pilot)
        app.take(replace(LIVE, node=replace(LIVE.node, mode="prometheus")))
        screen = app.page
        assert isinstance(screen, ProcessesScreen)
        screen.processes = None
        screen.draw()
        assert "a Prometheus has no processes" in await press(app, pilot)

    run(look)


# -- ending one --------------------------------------------------------------------------------------------------------


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as child:
        try:
            yield child
        finally:
            child.kill()


def replace_row(row: ProcessRow, **more: object) -> ProcessRow:
    return ProcessRow(**{name: getattr(row, name) for name in row.__struct_fields__} | more)


def ours(child: subprocess.Popen[bytes], **more: object) -> ProcessRow:
    found = ending.look(child.pid)
    assert found is not None
    return replace_row(ROWS[-1], pid=child.pid, started_ms=round(found.started_ms), **more)


def test_x_asks_and_sends_only_on_y(sleeper: subprocess.Popen[bytes]) -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        past.rows = (ours(sleeper),)
        await press(app, pilot, "5")
        text = await press(app, pilot, "x")
        assert isinstance(app.screen, EndProcess)
        assert f"pid {sleeper.pid}" in text
        assert "of alice" in text
        assert "60 GiB on GPU 3" in text
        assert "SIGTERM: it is asked to end" in text
        await press(app, pilot, "escape")
        await press(app, pilot, "x", "n")
        assert isinstance(app.screen, ProcessesScreen)
        assert sleeper.poll() is None
        text = await press(app, pilot, "x", "y")
        assert sleeper.wait(30) == -signal.SIGTERM
        assert f"SIGTERM was sent to {sleeper.pid}" in text
        past.rows = ()
        app._monotonic.now += 3
        app._age()
        assert f"{sleeper.pid} has ended" in await press(app, pilot)
        for _ in range(20):
            app._monotonic.now += 3
            app._age()
            text = await press(app, pilot)
        assert "has ended" not in text, "it is no news any more"

    run(look)


def test_capital_x_kills_and_enter_confirms(sleeper: subprocess.Popen[bytes]) -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        past.rows = (ours(sleeper),)
        await press(app, pilot, "5")
        assert "SIGKILL: it ends at once" in await press(app, pilot, "X")
        await press(app, pilot, "enter")
        assert sleeper.wait(30) == -signal.SIGKILL

    run(look, (80, 24))


def test_what_does_not_end_in_time_is_told(sleeper: subprocess.Popen[bytes]) -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        sent: list[int] = []

        def end(row: ProcessRow, number: signal.Signals) -> str:
            sent.append(row.pid)
            return ""

        past.rows = (ours(sleeper),)
        await press(app, pilot, "5")
        screen = app.page
        assert isinstance(screen, ProcessesScreen)
        found = screen.under.thing if screen.under is not None else None
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ending, "end", end)
            screen._end(found, signal.SIGTERM)  # type: ignore[arg-type]
        assert sent == [sleeper.pid]
        app.take(replace(LIVE, now_ms=LIVE.now_ms + 11_000))
        app._monotonic.now += 3  # type: ignore[attr-defined]
        app._age()
        assert f"{sleeper.pid} has not ended in 10 s: X kills it" in await press(app, pilot)

    run(look)


def test_a_number_that_another_has_now_is_not_asked_about(sleeper: subprocess.Popen[bytes]) -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        past.rows = (replace_row(ours(sleeper), started_ms=1_000_000),)
        text = await press(app, pilot, "5", "x")
        assert f"{sleeper.pid} is another process here" in text
        assert not isinstance(app.screen, EndProcess)

    run(look)


@pytest.mark.parametrize("readonly", [True, False])
def test_readonly_and_simulated_processes_are_left_alone(readonly: bool, sleeper: subprocess.Popen[bytes]) -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        past.rows = (ours(sleeper),)
        app.readonly = readonly
        if not readonly:
            app.take(replace(LIVE, node=replace(LIVE.node, simulated=True)))
        text = await press(app, pilot, "5", "X")
        assert ("--readonly" if readonly else "simulated: there is nothing to end") in text
        assert not isinstance(app.screen, EndProcess)
        assert sleeper.poll() is None

    run(look)


def test_a_servers_process_says_what_goes_down_with_it(sleeper: subprocess.Popen[bytes]) -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        head = replace_row(ROWS[3], pid=sleeper.pid, started_ms=ours(sleeper).started_ms)
        past.rows = (head, replace_row(ROWS[2], parent=sleeper.pid), *ROWS[:2])
        text = " ".join((await press(app, pilot, "5", "x")).replace("│", " ").split())
        assert f"With it the server {SERVER} goes down" in text
        assert "The 3 processes under it (103, 102, 104)" in text or "The 3 processes under it (102, 103, 104)" in text
        assert "should end too and free 120 GiB of GPU memory" in text
        text = " ".join((await press(app, pilot, "escape", "X")).replace("│", " ").split())
        assert "may stay and keep 120 GiB of GPU memory" in text
        assert (os.geteuid() == 0) or "You will be refused" not in text

    run(look)
