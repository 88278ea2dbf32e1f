"""The lists: what is in them, the cursor, the filter, and Enter, which takes everything to a moment."""

from __future__ import annotations

from array import array

from textual.pilot import Pilot

from monitor.client.errors import ClientError
from monitor.client.snapshot import Happening, History, Reading
from monitor.client.wire import AlertRow, ProcessRow
from monitor.records import replace
from monitor.tui.app import GpumonApp
from tests.client.story import ALERTS, START_MS, Story, snapshot
from tests.tui.screen import settle, text_of
from tests.tui.test_travel import LIVE, Past, run

XID = Happening(START_MS + 1000, "xid", "critical", "XID 79 on GPU 3: fallen off the bus", {"gpu": "3"}, "reboot")
OOM = Happening(START_MS, "oom_kill", "warning", "the kernel ended python", {})


def process(gpu: str, pid: int, **more: object) -> ProcessRow:
    return ProcessRow(gpu, "", pid, 1 << 30, user="vllm", name="python", **more)  # type: ignore[arg-type]


async def press(app: GpumonApp, pilot: Pilot[None], *keys: str) -> str:
    """Press keys; the screen afterwards."""
    await pilot.press(*keys)
    for worker in [one for one in app.workers if one.name in ("past", "list")]:
        await worker.wait()
    await pilot.pause()
    await settle(app, pilot)
    return "\n".join(text_of(app))


def test_alerts_with_what_to_do_and_1_is_the_overview() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        words = {"summary": "GPU 3 is too hot", "description": "Over its limit.", "action": "See its fans."}
        alerts = (AlertRow({"alertname": "GpuTooHot", "severity": "critical"}, words, "firing", value="9.1e+01"),)
        app.take(snapshot(Story(alerts=alerts), seconds=6))
        text = await press(app, pilot, "4")
        assert "alerts  1" in text
        assert "GpuTooHot" in text
        assert " 91  GPU 3 is too hot" in text
        assert "See its fans." in text
        assert "utilization" in await press(app, pilot, "1")

    run(look)


def test_the_filter_takes_letters_that_are_keys_elsewhere() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        past.rows = (process("0", 11, command="vllm serve qpl"), process("1", 12, command="python train.py"))
        text = await press(app, pilot, "5")
        assert "processes  2" in text
        text = await press(app, pilot, "slash", "q", "p", "l")
        assert "processes  1 of 2   / qpl" in text
        assert "train.py" not in text
        assert not app._exit
        text = await press(app, pilot, "x")
        assert "none has “qplx”" in text
        text = await press(app, pilot, "backspace", "enter", "j")
        assert "processes  1 of 2   / qpl  esc: all" in text
        assert "processes  2" in await press(app, pilot, "escape")
        assert "utilization" in await press(app, pilot, "escape")

    run(look)


def test_the_cursor_stays_on_its_entry_while_others_come() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        past.rows = (process("2", 20), process("5", 50))
        text = await press(app, pilot, "5", "down")
        assert next(line for line in text.splitlines() if line.startswith("▌")).split()[:3] == ["▌", "5", "50"]
        past.rows = (process("0", 1), process("2", 20), process("5", 50), process("7", 70))
        app._monotonic.now += 3  # type: ignore[attr-defined]
        app._age()
        text = await press(app, pilot)
        assert next(line for line in text.splitlines() if line.startswith("▌")).split()[:3] == ["▌", "5", "50"]

    run(look)


def test_a_long_list_follows_the_cursor_on_a_small_terminal() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        past.rows = tuple(process("0", 1000 + i) for i in range(100))
        text = await press(app, pilot, "5", "G")
        assert "1099" in text
        assert "1000 " not in text
        assert len(text.splitlines()) == 24
        text = await press(app, pilot, "pageup", "pageup", "g")
        assert next(line for line in text.splitlines() if line.startswith("▌")).split()[2] == "1000"

    run(look, (80, 24))


def test_enter_on_an_event_takes_everything_to_its_moment() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        past.events = (XID, OOM)
        text = await press(app, pilot, "7")
        assert "events  2" in text
        assert "XID 79 on GPU 3" in text
        assert "reboot" in text
        text = await press(app, pilot, "enter")
        assert past.asked == [(XID.at_ms, 600)]
        assert "PAST" in text
        assert "utilization" in text
        # In the past there is nothing that came after it, and no process is stored.
        text = await press(app, pilot, "shift+left", "7")
        assert "XID 79" not in text
        assert "processes are not stored" in await press(app, pilot, "5")
        assert "PAST" not in await press(app, pilot, "l")

    run(look)


def test_what_cannot_be_read_says_why_and_what_is_empty_says_that() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        assert "nothing has happened" in await press(app, pilot, "7")
        assert "nothing runs on the GPUs" in await press(app, pilot, "5")
        app.take(snapshot(Story(alerts=()), seconds=6))
        assert "no alert fires" in await press(app, pilot, "4")

        async def refuses(since_ms: int = 0) -> tuple[Happening, ...]:
            raise ClientError("a Prometheus knows none", "http://x")

        past.happened = refuses  # type: ignore[method-assign]
        app._monotonic.now += 3  # type: ignore[attr-defined]
        assert "events cannot be read: a Prometheus knows none" in await press(app, pilot, "7")

    run(look)


def test_what_an_empty_list_says_is_read_to_its_end_on_a_narrow_terminal() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        app.take(replace(snapshot(seconds=6), engines=()))
        text = " ".join((await press(app, pilot, "3")).split())
        assert "gpumon finds those of this node by itself, `--vllm URL` names one" in text

    run(look, (80, 24))


def test_where_no_card_fits_the_key_to_them_says_so() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        assert "no room" not in await press(app, pilot, "2")
        assert "no room for cards" in await press(app, pilot, "v")

    run(look, (80, 24))


def test_what_fires_is_seen_on_a_list_too() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        await press(app, pilot, "4")
        app.take(snapshot(Story(alerts=ALERTS), seconds=7))
        await settle(app, pilot)
        assert "alerts  0" not in "\n".join(text_of(app))
        assert LIVE.now_ms != app._snapshot.now_ms  # type: ignore[union-attr]

    run(look)


def reading(name: str, value: float | None, *, counts: bool = False) -> Reading:
    times = array("q", range(START_MS, START_MS + 600_001, 2000))
    values = array("d", (float(i % 50) for i in range(len(times))))
    return Reading(name, {"rank": "0"}, value, History(times, values, 7, 600_000), counts, f"What {name} is.")


def test_a_gpu_opened_has_every_reading_and_escape_leads_back() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        past.found = (reading("DCGM_FI_DEV_GPU_TEMP", 61.0), reading("x_total", 2.5, counts=True), reading("y", None))
        text = await press(app, pilot, "2")
        assert "GPUs  8" in text
        text = await press(app, pilot, "tab", "enter", "r")
        (opened,) = past.opened
        assert opened[0].startswith('{gpu="1"')
        assert opened[1:] == (None, 600)
        assert "GPU 1  readings  3" in text
        assert "What DCGM_FI_DEV_GPU_TEMP is." in text
        assert "DCGM_FI_DEV_GPU_TEMP{gpu=" in text
        assert " 61" in text
        assert "2.5 /s" in text
        assert "⣿" in text or "⣶" in text or "⡇" in text
        assert "–" in next(line for line in text.splitlines() if " y " in line)
        assert "rate(x_total" in await press(app, pilot, "down")
        text = await press(app, pilot, "y")
        assert app.clipboard == 'rate(x_total{gpu="1",instance="h200-07:9519",rank="0"}[1m])'
        assert "copied rate(x_total" in text
        assert "copied" not in await press(app, pilot, "up")
        await press(app, pilot, "right_square_bracket")
        assert past.opened[-1][2] == 1800
        await press(app, pilot, "left")
        assert past.opened[-1][1] is not None
        assert "GPU 1  " in (await press(app, pilot, "escape")).splitlines()[2]
        await press(app, pilot, "escape")
        assert app.page.NAME == "GPUs"
        await press(app, pilot, "escape")
        assert app.page.NAME == "overview"

    run(look, (140, 40))


def test_a_servers_readings_likewise_and_80_columns_are_enough() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        text = await press(app, pilot, "3")
        assert "vLLM  1" in text
        text = await press(app, pilot, "enter", "r")
        assert "nothing was read of h200-07:8000 then" in text
        assert past.opened[0][0].startswith('{server="h200-07:8000"')
        past.found = (reading("vllm:num_requests_running", 43.0),)
        app._monotonic.now += 6  # type: ignore[attr-defined]
        app._age()
        text = await press(app, pilot)
        assert "43" in text
        assert all(len(line) <= 80 for line in text.splitlines())

    run(look, (80, 24))


def test_the_host_has_all_of_its_readings() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        past.found = (reading("node_load1", 1.5), reading("node_disk_io_time_seconds_total", 0.0322, counts=True))
        text = await press(app, pilot, "6", "r")
        assert "host  readings  2" in text
        assert "0.0322 /s" in text, "what is small is not 0"
        assert past.opened[-1][0].startswith('{__name__=~"node_.+"')
        await press(app, pilot, "y")
        assert app.clipboard == 'node_load1{rank="0"}'
        await press(app, pilot, "2", "enter", "r", "6", "r")
        assert past.opened[-1][0].startswith('{__name__=~"node_.+"')
        await press(app, pilot, "escape")
        assert app.page.NAME == "host"

    run(look)
