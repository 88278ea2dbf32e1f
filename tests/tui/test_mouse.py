"""The mouse: what is clicked is pressed, opened, chosen or gone to, and a graph that is dragged moves time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from textual.events import MouseScrollDown
from textual.pilot import Pilot

from monitor.tui.app import GpumonApp
from monitor.tui.mouse import WHEEL, key_at
from monitor.tui.palette import DIM, KEY, PLAIN
from monitor.tui.rows import Row, View
from monitor.tui.screens.choose import ChooseWindow
from monitor.tui.screens.help import HelpScreen
from monitor.tui.screens.listing import Column, Entry, ListScreen
from monitor.tui.screens.overview import OverviewScreen
from tests.tui.screen import settle, text_of
from tests.tui.test_travel import LIVE, Past, press, run


def find(app: GpumonApp, text: str) -> tuple[int, int]:
    """Where a text is on the screen."""
    for y, line in enumerate(text_of(app)):
        if text in line:
            return line.index(text), y
    raise AssertionError(f"{text} is not on the screen")


async def click(app: GpumonApp, pilot: Pilot[None], where: str | tuple[int, int]) -> str:
    """Click on a text, or on a cell; the screen afterwards."""
    await pilot.click(offset=find(app, where) if isinstance(where, str) else where)
    return await press(app, pilot)


def test_a_key_is_found_at_itself_and_at_its_words() -> None:
    line = Row().put("← →", KEY).put(" past  ", DIM).put("?", KEY).put(" help  ", DIM).put("1-9", KEY).line()
    assert [key_at(line, x) for x in (0, 2, 5, 10, 13, 18, 40)] == [
        "left",
        "right",
        "left",
        "question_mark",
        "question_mark",
        "colon",
        "",
    ]


def test_a_key_of_the_last_line_is_pressed_by_a_click() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        await click(app, pilot, "? help")
        assert isinstance(app.screen, HelpScreen)
        await click(app, pilot, "esc close")
        assert isinstance(app.screen, OverviewScreen)

    run(look)


def test_a_click_beside_a_window_closes_it() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        await press(app, pilot, "question_mark")
        await click(app, pilot, (1, 20))
        assert isinstance(app.screen, OverviewScreen)

    run(look)


def test_what_is_clicked_in_a_list_of_choices_is_chosen_and_the_wheel_moves_its_cursor() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        await press(app, pilot, "colon", *"theme")
        assert isinstance(app.screen, ChooseWindow)
        under = app.screen._place
        app.screen.post_message(MouseScrollDown(None, 60, 20, 0, 1, 0, False, False, False, 60, 20))
        await press(app, pilot)
        assert app.screen._place == under + 1
        await click(app, pilot, "theme: light, for the colour-blind")
        await press(app, pilot)
        assert app.colours.name == "colour-blind light"
        assert isinstance(app.screen, OverviewScreen)

    run(look)


def test_a_screen_is_opened_in_the_line_that_names_them() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        assert "1 overview  2 GPUs" in text_of(app)[1]
        await click(app, pilot, "2 GPUs")
        assert app.page.NAME == "GPUs"

    run(look)


def test_a_gpu_and_a_server_on_the_overview_are_opened() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        x, y = find(app, "GPU  ")
        rows = app.page._made.gpu_rows  # type: ignore[attr-defined]
        await click(app, pilot, (x + 2, y + 1 + 3 * rows))
        assert app.page is app._pages["gpu"]
        assert "GPU 3" in "\n".join(text_of(app))
        await press(app, pilot, "escape")
        await click(app, pilot, "vLLM h200-07:8000")
        assert app.page is app._pages["engine"]

    run(look)


def test_the_badge_of_the_past_leads_back_to_now() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        assert "PAST" in await press(app, pilot, "left")
        assert "PAST" not in await click(app, pilot, "PAST")

    run(look)


def graph_at(app: GpumonApp) -> tuple[int, int, int]:
    """A cell in the first graph of the overview, and its milliseconds."""
    assert isinstance(app.page, OverviewScreen)
    spot = app.page._spots[0]
    return spot.x + spot.width - 10, spot.y, spot.cell_ms


def test_a_click_on_a_graph_goes_to_that_moment() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        x, y, cell_ms = graph_at(app)
        await click(app, pilot, (x, y))
        (at_ms, _) = past.asked[-1]
        assert at_ms is not None
        assert 8 * cell_ms <= LIVE.now_ms - at_ms <= 11 * cell_ms

    run(look)


def test_a_graph_that_is_dragged_to_the_right_goes_back_by_its_cells_and_to_the_left_is_now() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        x, y, cell_ms = graph_at(app)
        await pilot.mouse_down(offset=(x, y))
        await pilot.hover(offset=(x + 3, y))
        await pilot.hover(offset=(x + 5, y))
        await pilot.mouse_up(offset=(x + 5, y))
        await press(app, pilot)
        assert past.asked[-1][0] == LIVE.now_ms - 5 * cell_ms
        await pilot.mouse_down(offset=(x, y))
        await pilot.hover(offset=(x - 9, y))
        await pilot.mouse_up(offset=(x - 9, y))
        assert "PAST" not in await press(app, pilot)

    run(look)


def test_dragging_asks_for_the_last_moment_and_not_for_each() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        past.gate = asyncio.Event()
        x, y, cell_ms = graph_at(app)
        await pilot.mouse_down(offset=(x, y))
        for by in range(1, 9):
            await pilot.hover(offset=(x + by, y))
        await pilot.mouse_up(offset=(x + 8, y))
        past.gate.set()
        await press(app, pilot)
        assert [at for at, _ in past.asked] == [LIVE.now_ms - cell_ms, LIVE.now_ms - 8 * cell_ms]

    run(look)


def test_with_shift_the_mouse_is_the_terminals() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        await pilot.click(offset=find(app, "? help"), shift=True)
        await settle(app, pilot)
        assert isinstance(app.screen, OverviewScreen)

    run(look)


class Lines(ListScreen):
    """Forty entries with a number and a word each."""

    NAME = "lines"

    def columns(self, view: View) -> Sequence[Column]:
        return (Column("number", 8, right=True), Column("word", 10), Column("more"))

    def entries(self, view: View) -> list[Entry]:
        return [
            Entry(
                str(n), ((str(n), PLAIN), (f"w{n % 7}", PLAIN), ("m", PLAIN)), f"w{n}", (float(n), f"w{n % 7}"), at_ms=n
            )
            for n in range(40)
        ]


def in_a_list(look: Callable[[OfLines], Awaitable[None]]) -> None:
    """Look at a list of forty."""

    async def begin(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        page = app._pages["host"] = Lines()
        await press(app, pilot, "6")
        await look(OfLines(app, pilot, past, page))

    run(begin)


@dataclass(frozen=True)
class OfLines:
    """What such a test looks at."""

    app: GpumonApp
    pilot: Pilot[None]
    past: Past
    page: Lines


def test_in_a_list_a_click_chooses_a_second_opens_and_the_wheel_moves() -> None:
    async def look(on: OfLines) -> None:
        x, y = find(on.app, "12w5")
        await click(on.app, on.pilot, (x, y))
        assert on.page.under is not None
        assert on.page.under.key == "12"
        on.app.post_message(MouseScrollDown(None, x, y, 0, 1, 0, False, False, False, x, y))
        await settle(on.app, on.pilot)
        assert on.page.under.key == str(12 + WHEEL)
        await click(on.app, on.pilot, (x, y))
        await click(on.app, on.pilot, (x, y))
        assert on.past.asked[-1][0] == 12, "the moment of the entry"

    in_a_list(look)


def test_a_click_on_a_heading_orders_and_another_turns_it_round() -> None:
    async def look(on: OfLines) -> None:
        await click(on.app, on.pilot, "number")
        assert on.page._entries[0].key == "39"
        assert "number▼" in "\n".join(text_of(on.app))
        await click(on.app, on.pilot, "number▼")
        assert on.page._entries[0].key == "0"
        await click(on.app, on.pilot, "word")
        assert (on.page.order, on.page.reversed) == (1, False)
        assert on.app.kept("order lines") == ["word", False]

    in_a_list(look)


def test_an_order_that_was_kept_is_the_order_from_the_beginning() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        app.keep("order lines", ["number", False])
        page = app._pages["host"] = Lines()
        await press(app, pilot, "6")
        assert page._entries[0].key == "39"

    run(look)
