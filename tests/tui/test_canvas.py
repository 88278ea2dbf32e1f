"""What a canvas sends: nothing for what is equal, and of a line no more than what changed."""

from __future__ import annotations

import asyncio
import random
import re

import pyte
from rich.style import Style
from textual.app import App, ComposeResult
from textual.screen import Screen

from monitor.client.format import cells
from monitor.tui.compositor import LiveScreen, TightUpdate
from monitor.tui.palette import DIM, PLAIN, STRONG
from monitor.tui.rows import Line, Row
from monitor.tui.widgets.canvas import Canvas, changes


def line(*runs: tuple[str, Style]) -> Line:
    return tuple(runs)


def test_equal_lines_have_no_changes() -> None:
    one = line(("abc", PLAIN), ("°C", DIM))
    assert changes(one, line(("abc", PLAIN), ("°C", DIM))) == []


def test_a_change_within_a_run_is_cut_on_both_sides() -> None:
    before, after = line(("   0123456789", PLAIN)), line(("   01234x6789", PLAIN))
    assert changes(before, after) == [(8, 9)]


def test_two_changes_far_apart_are_two_and_close_ones_are_one() -> None:
    before = line(("1", PLAIN), ("          ", DIM), ("2", PLAIN), ("  ", DIM), ("3", PLAIN))
    after = line(("4", PLAIN), ("          ", DIM), ("5", PLAIN), ("  ", DIM), ("6", PLAIN))
    assert changes(before, after) == [(0, 1), (11, 15)]


def test_another_style_is_a_change() -> None:
    assert changes(line(("ab", PLAIN), ("cd", PLAIN)), line(("ab", PLAIN), ("cd", STRONG))) == [(2, 4)]


def test_lines_of_other_runs_change_from_where_they_part() -> None:
    assert changes(line(("ab", PLAIN), ("c", DIM)), line(("ab", PLAIN), ("cdef", DIM))) == [(2, 6)]
    assert changes(line(("ab", PLAIN), ("c", DIM), ("d", PLAIN)), line(("ab", PLAIN))) == [(2, 4)]
    assert changes(line(("日本", PLAIN)), line(("日b本", PLAIN))) == [(0, 5)]


def random_line(chance: random.Random) -> Line:
    row = Row()
    for _ in range(chance.randrange(5)):
        text = "".join(chance.choice("ab日°⣿ ") for _ in range(chance.randrange(6)))
        row.put(text, chance.choice([PLAIN, DIM, STRONG]))
    return row.line()


def cells_of(one: Line, width: int) -> list[tuple[str, Style]]:
    out: list[tuple[str, Style]] = []
    for text, style in one:
        for character in text:
            out.append((character, style))
            if character == "日":
                out.append(("", style))
    return (out + [(" ", PLAIN)] * width)[:width]


def test_changes_cover_every_cell_that_differs() -> None:
    chance = random.Random(7)
    for _ in range(3000):
        before, after = random_line(chance), random_line(chance)
        spans = changes(before, after)
        old, new = cells_of(before, 80), cells_of(after, 80)
        covered = {x for begin, end in spans for x in range(begin, end)}
        assert {x for x in range(80) if old[x] != new[x]} <= covered, (before, after)


class Terminal:
    """The least of a terminal: it understands where to write and what."""

    def __init__(self, width: int, height: int) -> None:
        self.cells = [[" "] * width for _ in range(height)]
        self.bytes = 0

    def feed(self, text: str) -> None:
        self.bytes += len(text.encode())
        x = y = at = 0
        while at < len(text):
            if text[at] == "\x1b":
                end = at + 2
                while not text[end].isalpha():
                    end += 1
                if text[end] == "H":
                    row, column = text[at + 2 : end].split(";")
                    x, y = int(column) - 1, int(row) - 1
                at = end + 1
            elif text[at] == "\n":
                at += 1
            else:
                self.cells[y][x] = text[at]
                x += 1
                at += 1

    @property
    def text(self) -> list[str]:
        return ["".join(row) for row in self.cells]


class OneCanvas(LiveScreen):
    def compose(self) -> ComposeResult:
        yield Canvas("one")


class CanvasApp(App[None]):
    def get_default_screen(self) -> Screen[None]:
        return OneCanvas()


def test_updates_draw_the_right_cells_and_no_others() -> None:
    chance = random.Random(3)
    width, height = 40, 6

    async def main() -> None:
        app = CanvasApp(ansi_color=True)
        async with app.run_test(size=(width, height)) as pilot:
            await pilot.pause()
            canvas = app.screen.query_one(Canvas)
            rows = [["x" * width] for _ in range(height)]
            canvas.show([((rows[y][0], PLAIN),) for y in range(height)])
            await pilot.pause()
            screen = app.screen
            screen._compositor._dirty_regions.clear()
            terminal = Terminal(width, height)
            terminal.cells = [list("x" * width) for _ in range(height)]
            for _ in range(50):
                y, x = chance.randrange(height), chance.randrange(width)
                text = rows[y][0]
                rows[y][0] = text[:x] + chance.choice("abc⣿") + text[x + 1 :]
                canvas.show([((rows[y][0], PLAIN),) for y in range(height)])
                screen._compositor.update_widgets({canvas})
                update = screen._compositor.render_partial_update()
                if update is None:
                    assert rows[y][0] == text
                    continue
                assert isinstance(update, TightUpdate)
                screen._compositor._dirty_regions.clear()
                terminal.feed(update.render_segments(app.console))
                assert terminal.text == [row[0] for row in rows]
            assert terminal.bytes < 50 * 16, "a changed cell is sent with its line"

    asyncio.run(main())


def test_a_whole_screen_is_what_the_lines_show() -> None:
    chance = random.Random(7)
    width, height = 30, 8

    async def main() -> None:
        app = CanvasApp(ansi_color=True)
        async with app.run_test(size=(width, height)) as pilot:
            await pilot.pause()
            canvas = app.screen.query_one(Canvas)
            compositor = app.screen._compositor
            for _ in range(100):
                canvas.show([random_line(chance) for _ in range(height)])
                compositor._dirty_regions = {compositor.size.region}
                update = compositor.render_update()
                assert isinstance(update, TightUpdate)
                terminal = pyte.Screen(width, height)
                terminal.draw("x" * width * height)
                pyte.Stream(terminal).feed(update.render_segments(app.console))
                for y in range(height):
                    # The emulator keeps an empty cell behind each wide character.
                    shown = "".join(terminal.buffer[y][x].data for x in range(width))
                    assert shown == canvas.render_line(y).text

    asyncio.run(main())


def test_what_is_painted_is_what_the_line_shows() -> None:
    chance = random.Random(11)
    width = 30

    async def main() -> None:
        app = CanvasApp(ansi_color=True)
        async with app.run_test(size=(width, 4)) as pilot:
            await pilot.pause()
            canvas = app.screen.query_one(Canvas)
            for _ in range(500):
                canvas.show([random_line(chance)])
                begin = chance.randrange(width)
                end = chance.randrange(begin + 1, width + 1)
                painted = re.sub(r"\x1b\[[0-9;]*m", "", canvas.paint(0, begin, end, app.console))
                assert painted == canvas.render_line(0).crop(begin, end).text
                assert cells(painted) == end - begin

    asyncio.run(main())


def test_equal_lines_send_nothing() -> None:
    async def main() -> None:
        app = CanvasApp(ansi_color=True)
        async with app.run_test(size=(40, 6)) as pilot:
            canvas = app.screen.query_one(Canvas)
            canvas.show([(("same", PLAIN),)])
            await pilot.pause()
            canvas._exchange_repaint_regions()
            canvas.show([(("same", PLAIN),)])
            assert list(canvas._exchange_repaint_regions()) == []

    asyncio.run(main())


def test_a_row_cleans_what_is_put_in_it() -> None:
    row = Row().put("a\x1b[2Jb\nc").value("1\x07 W").put("日", width=4)
    assert "".join(text for text, _ in row.line()) == "a·[2Jb·c1· W日  "
    assert row.width == 16
