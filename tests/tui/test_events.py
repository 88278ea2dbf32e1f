"""The events' screen: kinds, how long things lasted, the line of time, and the moments that it leads to."""

from __future__ import annotations

import pytest
from textual.pilot import Pilot

from monitor.client.errors import ClientError
from monitor.client.snapshot import Happening
from monitor.client.wire import AlertRow
from monitor.records import replace
from monitor.tui.app import GpumonApp
from monitor.tui.screens.events import EventsScreen
from tests.client.story import Story, snapshot
from tests.tui.test_probes import going, kept
from tests.tui.test_processes import press
from tests.tui.test_travel import LIVE, Past, run

NOW = LIVE.now_ms


def event(ago: float, kind: str, severity: str = "info", title: str = "", detail: str = "", **labels: str) -> Happening:
    return Happening(NOW - round(ago * 1000), kind, severity, title or kind, labels, detail)


DOWN = {"source": "vllm", "server": "h200-07:8000"}
EVENTS = (
    event(20, "resolved", "critical", "GpuTooHot: GPU 3 is too hot: 88 °C", gpu="3"),
    event(60, "source_up", "info", "h200-07:8000 (vllm) is up again after 4 min", **DOWN),
    event(100, "xid", "critical", "XID 79 on GPU 3: fallen off the bus", "reboot", gpu="3"),
    event(140, "firing", "critical", "GpuTooHot: GPU 3 is too hot: 91 °C", gpu="3"),
    event(300, "source_down", "warning", "h200-07:8000 (vllm) is down: connection refused", **DOWN),
    event(3_600, "daemon_started", "info", "gpumon 0.1.0 began"),
)


def row(text: str, word: str) -> str:
    body = text.split("───", 1)[0]
    return next(line for line in body.splitlines() if word in line)


def test_the_newest_first_with_how_long_each_lasted() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        past.events = EVENTS
        text = await press(app, pilot, "7")
        assert "events  6" in text
        assert "○ over" in row(text, "88 °C")
        assert "120 s" not in row(text, "88 °C")
        assert "2 min" in row(text, "91 °C")
        assert "■ critical" in row(text, "91 °C")
        assert "4 min" in row(text, "connection refused")
        assert "goes on" not in text
        assert text.index("88 °C") < text.index("XID 79") < text.index("gpumon 0.1.0 began")

    run(look)


def test_the_line_of_time_has_a_line_for_each_group_where_there_is_room() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        past.events = EVENTS
        text = await press(app, pilot, "7", "G", "up", "up", "up")
        lanes = {line.split()[0]: line for line in text.splitlines() if "┈" in line}
        assert list(lanes) == ["alerts", "faults", "servers", "sources", "gpumon"]
        assert "■" in lanes["faults"]
        assert "━" in lanes["alerts"]
        assert "━" in lanes["sources"]
        assert "▲" not in lanes["gpumon"]
        assert "■ critical 2   ▲ warning 1   ○ over 2   · note 0   in 10 min" in text
        xid = lanes["faults"].index("■")
        assert any(len(line) > xid and line[xid] == "▲" for line in text.splitlines()), "the cursor's mark is below it"
        text = await press(app, pilot, "right_square_bracket", "right_square_bracket", "right_square_bracket")
        assert "· note 1" in text

    run(look, (120, 40))


def test_on_a_small_terminal_it_is_one_line_and_the_list_has_room() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        past.events = EVENTS
        text = await press(app, pilot, "7")
        assert len([line for line in text.splitlines() if "┈" in line]) == 1
        assert all(len(line) <= 80 for line in text.splitlines())
        assert "h200-07:8000 (vllm) is down: connection" in text
        assert "gpumon 0.1.0 began" in text

    run(look, (80, 24))


def test_v_shows_the_next_kinds_alone() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        past.events = EVENTS
        await press(app, pilot, "7")
        text = await press(app, pilot, "v")
        assert "events: alerts  2" in text
        assert "XID" not in text
        text = await press(app, pilot, "v")
        assert "events: faults  1" in text
        assert "■ critical 1" in text
        assert "no event of this kind: servers" in await press(app, pilot, "v")
        assert "events: faults  1" in await press(app, pilot, "V")
        assert "events  6" in await press(app, pilot, *["v"] * 5)

    run(look)


def test_what_goes_on_says_so_only_while_it_does() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        fires = event(50, "firing", "warning", "KvCacheHigh: full", server="a")
        lost = event(90, "firing", "warning", "GpuHot: hot", gpu="1")
        past.events = (event(30, "source_down", "warning", "source nvml is down: x", source="nvml"), fires, lost)
        alerts = (AlertRow({"alertname": "KvCacheHigh", "server": "a"}, {}, "firing"),)
        app.take(snapshot(Story(alerts=alerts), seconds=6))
        text = await press(app, pilot, "7")
        assert "goes on" in row(text, "nvml is down")
        assert "goes on" in row(text, "KvCacheHigh")
        assert " –" in row(text, "GpuHot"), "that it ended is not on record, but it does not fire"

    run(look)


def test_the_detail_says_what_ended_it_and_what_was_around() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        past.events = EVENTS
        text = await press(app, pilot, "7", "down", "down")
        detail = text.rsplit("───", 1)[1]
        assert "XID 79 on GPU 3" in detail
        assert "reboot" in detail
        assert "100 s ago" in detail
        assert "+40 s" in detail
        assert "-40 s" in detail
        text = await press(app, pilot, "down")
        assert "lasted 2 min, until" in text.rsplit("───", 1)[1]
        await press(app, pilot, "y")
        assert app.clipboard == "GpuTooHot: GPU 3 is too hot: 91 °C"
        text = await press(app, pilot, "down")
        assert "is up again after 4 min" in text.rsplit("───", 1)[1]

    run(look, (140, 45))


def test_in_the_past_there_is_nothing_from_later_and_a_click_on_the_line_goes_to_its_moment() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        past.events = EVENTS
        await press(app, pilot, "7")
        text = await press(app, pilot, *["left"] * 4)
        listed = text.split("───", 1)[0]
        assert "events  3" in listed
        assert "88 °C" not in listed
        assert "91 °C" in listed
        # When it ended is known by now.
        assert "lasted 2 min, until" in text
        screen = app.page
        assert isinstance(screen, EventsScreen)
        line = next(y for y, line in enumerate(text.splitlines()) if "┈" in line)
        spot = screen.spot_at(60, line)
        assert spot is not None
        moment = spot.moment(60, line)
        assert moment is not None
        assert screen._scale is not None
        assert abs(moment - (screen._scale.begin_ms + 50 * screen._scale.cell_ms)) <= screen._scale.cell_ms
        assert screen.spot_at(5, line) is None, "the names of the lines are no time"
        assert screen.spot_at(60, line + 10) is None

    run(look)


def test_a_prometheus_says_what_it_cannot() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        app.take(replace(LIVE, node=replace(LIVE.node, mode="prometheus")))
        text = await press(app, pilot, "7")
        assert "a Prometheus keeps alerts alone" in text
        assert "no alert has fired" in text

        async def refuses(since_ms: int = 0) -> tuple[Happening, ...]:
            raise ClientError("connection refused", "http://x")

        past.happened = refuses  # type: ignore[method-assign]
        app._monotonic.now += 6  # type: ignore[attr-defined]
        assert "not read again: connection refused" in await press(app, pilot, "1", "7")

    run(look)


def test_entries_are_made_anew_only_when_something_is() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        past.events = EVENTS
        await press(app, pilot, "7")
        screen = app.page
        assert isinstance(screen, EventsScreen)
        before = screen._made
        app.take(replace(LIVE, now_ms=NOW + 1000))
        await press(app, pilot)
        assert screen._made is before
        past.events = (event(-1, "xid", "critical", "another"), *EVENTS)
        app._monotonic.now += 6  # type: ignore[attr-defined]
        assert "another" in await press(app, pilot, "1", "7")
        assert screen._made is not before

    run(look)


@pytest.mark.parametrize("key", ["o", "O"])
def test_orders_do_not_disturb_what_is_kept(key: str) -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        past.events = EVENTS
        first = await press(app, pilot, "7")
        await press(app, pilot, key, key)
        text = await press(app, pilot, *(["o"] * 4 if key == "o" else []))
        assert row(text, "XID") == row(first, "XID")
        assert text.index("XID 79") < text.index("gpumon 0.1.0 began")

    run(look)


def test_a_probe_lasts_and_enter_opens_its_run() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        one = kept("throughput", 60)
        labels = {"server": "n1:8000", "probe": "throughput", "run": one.row.id}
        now_ms = LIVE.now_ms
        past.probing.put(one)
        past.events = (
            Happening(now_ms - 60_000, "probe_ended", "info", "throughput against n1:8000 is done", labels),
            Happening(now_ms - 180_000, "probe_started", "info", "throughput against n1:8000 began", labels),
        )
        text = await press(app, pilot, "7")
        began = next(row for row in text.splitlines() if "probe began" in row)
        assert "2 min" in began
        assert "━━" in next(row for row in text.splitlines() if row.startswith("  probes"))
        assert "enter opens the run" in text
        text = await press(app, pilot, "enter")
        assert "what was found" in text
        assert "events  2" in await press(app, pilot, "escape")

    run(look)


def test_the_first_line_says_that_load_is_a_test_for_as_long_as_it_is() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        one = going()
        labels = {"server": "n1:8000", "probe": "throughput", "run": one.row.id}
        past.probing.put(one)
        past.events = (Happening(LIVE.now_ms - 60_000, "probe_started", "info", "throughput began", labels),)
        app._reading.start()
        text = await press(app, pilot, "1")
        app.show_page()
        text = await press(app, pilot)
        assert "probe throughput 43 %" in text.splitlines()[0]
        assert "probe throughput" not in (await press(app, pilot, "left")).splitlines()[0]
        over = Happening(LIVE.now_ms - 1000, "probe_ended", "info", "throughput is done", labels)
        past.events = (over, *past.events)
        app._reading.start()
        await press(app, pilot, "l")
        app.show_page()
        assert "probe throughput" not in (await press(app, pilot)).splitlines()[0]

    run(look, (160, 40))
