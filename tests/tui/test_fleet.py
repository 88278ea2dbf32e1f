"""The fleet on the screen: its rows, and the way to a node and back."""

from __future__ import annotations

import asyncio
import gc
import re
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from textual.pilot import Pilot

from monitor.client.access import Address
from monitor.client.snapshot import FleetNode, Snapshot
from monitor.records import replace
from monitor.tui.app import GpumonApp
from monitor.tui.server import Asked, Feed
from tests.client.fleet_story import fleet
from tests.client.story import START_MS, snapshot
from tests.tui.screen import Clock, lines_at, settle, text_of
from tests.tui.test_travel import Past


class Dialled:
    """Remembers which nodes were opened, and which of the feeds still run."""

    def __init__(self) -> None:
        self.opened: list[Address] = []
        self.running: list[str] = []
        self.servers: list[Past] = []

    def __call__(self, where: Address) -> tuple[Feed, Asked | None]:
        self.opened.append(where)
        picture = snapshot(seconds=5)
        picture = replace(picture, node=replace(picture.node, hostname=where.name, fleet=where.fleet))
        self.servers.append(Past())
        return self.feed(where.name, picture), self.servers[-1]

    def feed(self, name: str, picture: Snapshot) -> Feed:
        async def feed() -> AsyncIterator[Snapshot]:
            self.running.append(name)
            try:
                yield picture
                await asyncio.Event().wait()
            finally:
                self.running.remove(name)

        return feed


class FleetPast(Past):
    async def at(self, at_ms: int | None, range_seconds: int) -> Snapshot:
        self.asked.append((at_ms, range_seconds))
        picture = fleet(12, at_ms=at_ms or START_MS)
        return replace(picture, fleet=tuple(with_range(one, range_seconds) for one in picture.fleet))


def with_range(node: FleetNode, seconds: int) -> FleetNode:
    """A node whose graphs look back so far."""
    history = node.history
    return node if history is None else replace(node, history=replace(history, span_ms=seconds * 1000))


Look = Callable[[GpumonApp, Pilot[None], Dialled], Awaitable[None]]


def run(many: int, size: tuple[int, int], look: Look, picture: Snapshot | None = None) -> None:
    async def main() -> None:
        dialled = Dialled()
        feed = dialled.feed("fleet", picture or fleet(many))
        app = GpumonApp(feed, server=FleetPast(), monotonic=Clock(), dial=dialled)
        async with app.run_test(size=size) as pilot:
            await pilot.pause()
            await settle(app, pilot)
            await look(app, pilot, dialled)

    asyncio.run(main())


async def press(app: GpumonApp, pilot: Pilot[None], *keys: str) -> str:
    await pilot.press(*keys)
    for worker in [one for one in app.workers if one.name == "past"]:
        await worker.wait()
    await settle(app, pilot)
    await settle(app, pilot)
    return "\n".join(text_of(app))


def test_it_begins_with_the_nodes_the_worst_first() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], dialled: Dialled) -> None:
        lines = text_of(app)
        assert lines[0].startswith("gpumon  20 nodes")
        assert "20 nodes, 1 down   alerts 8 firing (1 of no node)   152 GPUs" in lines[2]
        assert lines[4].split() == ["node", "state", "why", "GPUs", "util", "mem", "hot", "tok/s"]
        shown = [line[3:].split() for line in lines[5:11]]
        assert [one[0] for one in shown] == ["h200-05", "h200-03", "h200-04", "h200-13", "h200-02", "h200-12"]
        assert [one[1] for one in shown] == ["down", "critical", "vLLM", "warning", "hot", "hot"]
        assert "12 min, no exporter" in lines[5]
        assert lines[5].split()[-4:] == ["–"] * 4, "nothing is shown of what is down"
        assert "GpuTooHot +2" in lines[6]
        assert "▇▇▇▆▅▆▆▄" in lines[6], "a bar for each GPU"
        assert max(map(len, lines)) <= 80

    run(20, (80, 24), look)


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (200, 50)])
@pytest.mark.parametrize("many", [1, 3, 100])
def test_it_fits_in_any_terminal(many: int, size: tuple[int, int]) -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], dialled: Dialled) -> None:
        lines = text_of(app)
        assert len(lines) == size[1]
        assert any("h200-01" in line or "h200-05" in line for line in lines)
        assert "TTFT p95" in "\n".join(lines) or size[0] == 80
        assert ("utilization, last 30 min" in "\n".join(lines)) == (size[0] == 200)

    run(many, size, look)


def test_enter_opens_a_node_alone_and_escape_leads_back() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], dialled: Dialled) -> None:
        text = await press(app, pilot, "down", "enter")
        (opened,) = dialled.opened
        assert (opened.name, opened.part and opened.part.matchers) == ("h200-03", ',instance="h200-03:9519"')
        assert text.startswith("gpumon  h200-03  9 fleet: 20 nodes of prometheus:9090")
        assert "llama" in text.lower(), "the node's servers"
        assert dialled.running == ["h200-03"], "nobody listens to the fleet meanwhile"
        text = await press(app, pilot, "escape")
        assert text.startswith("gpumon  20 nodes")
        assert next(line for line in text.split("\n") if line.startswith("▌"))[3:].startswith("h200-03")
        assert dialled.running == ["fleet"]

    run(20, (120, 40), look)


def test_a_screens_key_opens_the_node_there_and_9_leads_back_from_anywhere() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], dialled: Dialled) -> None:
        text = await press(app, pilot, "4")
        assert dialled.opened[0].name == "h200-05"
        assert app.page.NAME == "alerts"
        assert "GpuTemperatureHigh" in text
        await press(app, pilot, "2")
        assert app.page.NAME == "GPUs"
        assert len(dialled.opened) == 1, "another screen is of the same node"
        assert (await press(app, pilot, "9")).startswith("gpumon  20 nodes")
        assert app.page.NAME == "fleet"
        await press(app, pilot, "down", "down", "enter")
        assert [one.name for one in dialled.opened] == ["h200-05", "h200-04"]
        assert dialled.running == ["h200-04"]

    run(20, (120, 40), look)


def test_a_node_that_is_left_before_it_was_listened_to_leaves_nothing_behind() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], dialled: Dialled) -> None:
        nodes = [one.address for one in fleet(3).fleet]
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            for where in nodes[:2]:  # all of it before anything else can run, as keys that come at once do
                app.open_node(where)
                app.nodes.back()
            await settle(app, pilot)
            gc.collect()
        assert [str(one.message) for one in told] == []
        assert dialled.running == ["fleet"]
        assert [one.closed for one in dialled.servers] == [True, True]

    run(3, (80, 24), look)


def test_what_was_read_of_one_node_is_not_shown_of_the_next() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], dialled: Dialled) -> None:
        await press(app, pilot, "enter")
        first = app.page
        await press(app, pilot, "p", "9", "down", "enter")
        assert app.page is not first
        assert not app.view().paused
        assert app.chronicle.happened in ((), None)
        assert [one.closed for one in dialled.servers] == [True, False]

    run(3, (120, 40), look)


def test_the_fleet_has_a_past_and_a_node_is_opened_in_it() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], dialled: Dialled) -> None:
        text = await press(app, pilot, "left")
        assert "PAST" in text.split("\n")[0]
        assert "12 nodes" in text, "the picture is of that moment"
        text = await press(app, pilot, "enter")
        await settle(app, pilot)
        assert dialled.servers[0].asked == [(START_MS - 30_000, 600)]
        assert "PAST" in text.split("\n")[0]
        text = await press(app, pilot, "9")
        assert "12 nodes" in text
        assert "PAST" in text.split("\n")[0]

    run(20, (120, 40), look)


def test_a_chosen_range_is_that_of_a_live_fleets_graphs_too() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], dialled: Dialled) -> None:
        assert "last 30 min, 0 to 100 %" in "\n".join(text_of(app))
        text = await press(app, pilot, "]")
        assert "last 30 min" in text.split("\n")[0]
        text = await press(app, pilot, "]")
        assert "last 60 min" in text.split("\n")[0]
        assert "last 60 min, 0 to 100 %" in text
        assert "last 30 min" not in text
        assert "PAST" not in text

    run(12, (160, 50), look)


def test_power_in_the_graphs_is_in_kilowatts() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], dialled: Dialled) -> None:
        power = next(one for one in text_of(app) if re.search(r"power \d\.\d kW +0 to", one))
        assert "k W" not in power

    run(12, (160, 50), look)


def test_escape_in_the_fleet_stays_there_and_a_filter_finds_by_words() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], dialled: Dialled) -> None:
        await press(app, pilot, "escape")
        assert app.page.NAME == "fleet"
        text = await press(app, pilot, "slash", *"down", "enter")
        assert "fleet  2 of 20" in text
        assert "h200-05" in text
        assert "h200-01" not in text

    run(20, (80, 24), look)


def test_without_a_fleet_it_says_how_to_get_one() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], dialled: Dialled) -> None:
        assert app.page.NAME == "overview"
        assert "give --url of a Prometheus" in await press(app, pilot, "9")
        await press(app, pilot, "escape")
        assert app.page.NAME == "overview"
        assert dialled.opened == []

    run(1, (80, 24), look, snapshot(seconds=5))


def test_that_any_certificate_is_taken_is_said_where_it_is_seen() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], dialled: Dialled) -> None:
        assert "any certificate is taken (--insecure)" in "\n".join(text_of(app)[:3])

    plain = snapshot(seconds=5)
    run(1, (80, 24), look, replace(plain, node=replace(plain.node, insecure=True)))
    many = fleet(3)
    run(3, (80, 24), look, replace(many, node=replace(many.node, insecure=True)))


def test_a_node_is_found_by_name_and_opened() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], dialled: Dialled) -> None:
        await press(app, pilot, "colon", *"node 17", "enter")
        assert [one.name for one in dialled.opened] == ["h200-17"]

    run(20, (120, 40), look)


def test_that_nothing_can_fire_is_said_in_words() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], dialled: Dialled) -> None:
        text = "\n".join(text_of(app))
        assert "no rules that alert" in text

    quiet = fleet(1)
    nodes = tuple(replace(one, firing=0, alert="", severity="") for one in quiet.fleet)
    run(1, (80, 24), look, replace(quiet, node=replace(quiet.node, rules=False), fleet=nodes, elsewhere=0))
    plain = snapshot(seconds=5)
    run(1, (80, 24), look, replace(plain, node=replace(plain.node, mode="prometheus", rules=False)))


def test_a_share_below_nothing_or_beyond_all_is_drawn_as_that() -> None:
    whole = fleet(3)
    nodes = [replace(one, utilization=(share,)) for one, share in zip(whole.fleet, (-2.0, 5e300, 0.5), strict=True)]
    lines = lines_at([replace(whole, fleet=tuple(nodes))], 160, 50)
    assert "gpumon" in lines[0]
