"""What is at hand: the keys of each screen, finding what can be done, moments that are typed, copying, the title, and
terminals of any size."""

from __future__ import annotations

import asyncio
import gc
from datetime import datetime

import pytest
from textual.events import Key
from textual.pilot import Pilot
from textual.strip import Strip

from monitor.client.wire import AlertRow
from monitor.records import replace
from monitor.tui.app import GpumonApp
from monitor.tui.fuzzy import fuzzy
from monitor.tui.keys import key_of, shown
from monitor.tui.panels.footer import footer
from monitor.tui.personal import title_of
from monitor.tui.rows import View
from monitor.tui.screens.choose import ChooseWindow
from monitor.tui.screens.commands import CommandsWindow, choices
from monitor.tui.screens.help import HelpScreen
from monitor.tui.screens.page import Page
from monitor.tui.screens.plain import PlainScreen
from monitor.tui.when import when
from tests.client.story import ALERTS, Story, snapshot
from tests.tui.screen import resize, settle, text_of
from tests.tui.screen import run as run_alone
from tests.tui.test_travel import LIVE, Past, press, run

NOW = round(datetime(2026, 11, 21, 18, 30).timestamp() * 1000)
CRITICAL = AlertRow({"alertname": "GpuLost", "severity": "critical"}, {"summary": "GPU 4 is gone"}, "firing")


def shown_by(app: GpumonApp) -> str:
    return "\n".join(text_of(app))


# -- help --------------------------------------------------------------------------------------------------------------


def test_the_help_has_the_keys_of_its_screen_and_none_of_another() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        text = await press(app, pilot, "question_mark")
        assert "Keys of this screen: overview" in text
        assert "copy the PromQL of a number" in text
        assert "filter" not in text
        await press(app, pilot, "escape", "2")
        text = await press(app, pilot, "question_mark")
        assert "Keys of this screen: GPUs" in text
        assert "filter" in text
        assert "copy the PromQL of a number" not in text

    run(look, (100, 60))


def test_the_help_offers_nothing_that_needs_a_server_where_there_is_none() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None]) -> None:
        await pilot.press("question_mark")
        await settle(app, pilot)
        text = shown_by(app)
        assert "pause" in text
        assert "earlier" not in text
        assert "range" not in text

    run_alone([snapshot(seconds=5)], (100, 60), look)


def test_a_help_that_is_too_long_scrolls_to_its_end() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        text = await press(app, pilot, "question_mark")
        assert "grey" not in text
        assert "1–" in text.split("\n")[0] + text.split("\n")[1]
        assert "old: its age stands beside it" in await press(app, pilot, "G")
        assert "Keys of this screen" in await press(app, pilot, "g")
        await press(app, pilot, "question_mark")
        assert not isinstance(app.screen, HelpScreen)

    run(look, (80, 24))


def test_every_screen_has_a_help_and_can_be_looked_at_in_any_size() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        for key in "123456789":
            await press(app, pilot, key)
            page = app.page
            for size in ((20, 5), (1, 1), (40, 12), (250, 70)):
                await resize(app, pilot, *size)
                await press(app, pilot)
                assert app.page is page
                assert all(len(line) <= size[0] for line in text_of(app))
            for size in ((20, 5), (1, 1)):
                await resize(app, pilot, *size)
                for name, window in (("question_mark", HelpScreen), ("colon", CommandsWindow)):
                    await pilot.press(name)
                    await settle(app, pilot)
                    assert isinstance(app.screen, window)
                    await press(app, pilot, "escape")

    run(look)


# -- commands ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["colon", "ctrl+p"])
def test_a_screen_is_found_by_a_few_letters_and_opened(key: str) -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        await press(app, pilot, key)
        assert isinstance(app.screen, CommandsWindow)
        await press(app, pilot, *"scrproc", "enter")
        await press(app, pilot)
        assert app.page is app._pages["processes"]

    run(look)


def test_a_gpu_a_server_and_an_alert_are_opened_by_name() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        for words, page in (("gpu 5", "gpu"), ("server h200", "engine"), ("alert gputemp", "alerts")):
            about_it = AlertRow({"alertname": "Busy", "severity": "critical"}, {"summary": "GPU 5 of h200"}, "firing")
            app.take(snapshot(Story(alerts=(about_it, *ALERTS)), seconds=6))
            await press(app, pilot, "colon", *["space" if one == " " else one for one in words], "enter")
            await press(app, pilot)
            assert app.page is app._pages[page], words

    run(look)


def test_a_moment_that_is_typed_is_gone_to() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        text = await press(app, pilot, "colon", "5", "m", "i", "n")
        assert "5 min ago" in text
        await press(app, pilot, "enter")
        await press(app, pilot)
        assert past.asked[-1][0] == LIVE.now_ms - 300_000

    run(look)


def test_a_theme_a_range_and_the_bell_are_chosen() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        for words in ("theme: light", "graphs last 3 h", "bell off"):
            await press(
                app, pilot, "colon", *["space" if one == " " else "colon" if one == ":" else one for one in words]
            )
            await press(app, pilot, "enter")
            await press(app, pilot)
        assert app.colours.name == "light"
        assert app.travel.range_seconds == 3 * 3600
        assert app.kept("bell") == "off"

    run(look)


def test_what_nothing_is_called_chooses_nothing_and_esc_closes() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        text = await press(app, pilot, "colon", *"zzzz")
        assert "nothing is called so" in text
        await press(app, pilot, "enter")
        assert isinstance(app.screen, CommandsWindow)
        await press(app, pilot, "escape")
        assert isinstance(app.screen, Page)

    run(look)


def test_every_command_of_every_screen_can_be_done() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        leaves = ("quit", "to the shell; fg comes back")
        for key in "123456789":
            await press(app, pilot, key)
            own = [one for one in choices(app) if one.more == app.page.NAME or (key == "1" and one.more != "go to")]
            for one in own:
                if one.title in leaves:
                    continue
                done = one.does()
                if asyncio.iscoroutine(done):
                    await done
                await settle(app, pilot)
                while not isinstance(app.screen, Page):
                    await pilot.press("escape")
                    await settle(app, pilot)
                app.action_live()
                app.action_screen("overview")
                await pilot.press(key)
                await settle(app, pilot)
            assert app._exception is None

    run(look)


def test_letters_in_order_find_and_whole_words_come_first() -> None:
    things = ["screen: GPUs", "GPU 5", "group of unions", "alert GpuTooHot"]
    assert fuzzy("gpu 5", things, str) == ["GPU 5"]
    assert fuzzy("gpu", things, str)[0] in ("GPU 5", "screen: GPUs")
    assert fuzzy("gpu", things, str)[-1] == "group of unions"
    assert fuzzy("toohot", things, str) == ["alert GpuTooHot"]
    assert fuzzy("", things, str) == things
    assert fuzzy("xq", things, str) == []


@pytest.mark.parametrize(
    ("text", "ago"),
    [
        ("18:00", 1800),
        ("18:29:30", 30),
        ("19:00", 23.5 * 3600),
        ("yesterday 18:30", 86_400),
        ("2h ago", 7200),
        ("2h", 7200),
        ("-90s", 90),
        ("1h30m ago", 5400),
        ("5 min ago", 300),
        ("3 days ago", 3 * 86_400),
        ("2026-11-20 18:30", 86_400),
        ("2026-11-20T18:30:00", 86_400),
    ],
)
def test_a_moment_as_people_write_it(text: str, ago: float) -> None:
    assert when(text, NOW) == NOW - round(ago * 1000)


@pytest.mark.parametrize(
    "text", ["", "gpu 5", "25:00", "soon", "2026-11-22 10:00", "today 19:00", "5", "9999999999d ago"]
)
def test_what_is_no_moment_or_is_to_come_is_none(text: str) -> None:
    assert when(text, NOW) is None


def test_keys_are_printed_as_people_know_them_and_found_again() -> None:
    for key in ("shift+left", "escape", "question_mark", "left_square_bracket", "minus", "plus", "a", "G", "ctrl+p"):
        assert key_of(shown(key)) == key
    assert [key_of(text) for text in ("1-9", "← →", "1 … 9", "")] == ["", "", "", ""]


# -- copying -----------------------------------------------------------------------------------------------------------


def test_the_promql_of_a_number_on_the_overview_is_copied() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        got: list[str] = []
        app.copy_to_clipboard = got.append  # type: ignore[method-assign, assignment]
        await press(app, pilot, "y")
        assert isinstance(app.screen, ChooseWindow)
        await press(app, pilot, *"temperature", "enter")
        await press(app, pilot)
        assert got == ["DCGM_FI_DEV_GPU_TEMP"]
        assert isinstance(app.screen, Page), "outside of tmux it is only copied"
        await press(app, pilot, "Y")
        assert isinstance(app.screen, PlainScreen)
        assert app.screen.text == "DCGM_FI_DEV_GPU_TEMP"
        await press(app, pilot, "x")
        assert isinstance(app.screen, Page)

    run(look)


@pytest.mark.parametrize(
    ("environment", "wanted", "plain"),
    [
        ({"TERM": "xterm-256color"}, None, False),
        ({"TERM": "tmux-256color"}, None, True),
        ({"TERM": "xterm-256color", "TMUX": "/tmp/tmux-0/default,1,0"}, None, True),
        ({"TERM": "screen-256color"}, "never", False),
        ({"TERM": "xterm-256color"}, "always", True),
    ],
)
def test_inside_of_tmux_which_drops_it_a_copy_is_shown_too(
    environment: dict[str, str], wanted: str | None, plain: bool
) -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        app._environment = environment
        app.keep("copied", wanted)
        app.copy("up")
        await settle(app, pilot)
        assert isinstance(app.screen, PlainScreen) == plain

    run(look)


# -- the title and the bell --------------------------------------------------------------------------------------------


def test_the_title_says_the_node_and_the_gravest_alert_cleaned() -> None:
    assert title_of(snapshot(Story(), seconds=1)) == "h200-07 – gpumon"
    firing = snapshot(Story(alerts=(CRITICAL,)), seconds=1)
    assert title_of(firing) == "● GpuLost – h200-07 – gpumon"
    evil = replace(firing, alerts=(replace(firing.alerts[0], name="x\x1b]2;y\x07" + "z" * 500),))
    assert "\x1b" not in title_of(evil)
    assert "\x07" not in title_of(evil)
    assert len(title_of(evil)) <= 100
    silenced = replace(firing, alerts=(replace(firing.alerts[0], muted="silenced"),))
    assert title_of(silenced) == "h200-07 – gpumon"


@pytest.mark.parametrize("bell", [None, "off"])
def test_live_too_a_critical_alert_that_begins_rings_once_and_once_more_when_it_comes_back(bell: str | None) -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        rung: list[bool] = []
        app.bell = lambda: rung.append(True)  # type: ignore[method-assign]
        app.keep("bell", bell)
        lost = (*ALERTS, CRITICAL)
        for seconds, alerts in ((6, lost), (7, lost), (8, ALERTS), (9, ALERTS), (10, lost)):
            app.take(snapshot(Story(alerts=alerts), seconds=seconds))
        assert rung == ([True, True] if bell is None else [])

    run(look)


def test_what_fired_before_anybody_looked_does_not_ring() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None]) -> None:
        rung: list[bool] = []
        app.bell = lambda: rung.append(True)  # type: ignore[method-assign]
        app.take(snapshot(Story(alerts=(CRITICAL,)), seconds=6))
        assert rung == []

    run_alone([], (80, 24), look)


def test_news_that_came_in_the_past_stay_until_the_alerts_are_opened() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        await press(app, pilot, "left")
        app.take(snapshot(Story(alerts=(*ALERTS, CRITICAL)), seconds=6))
        assert "firing now  GpuLost" in await press(app, pilot, "2")
        assert "firing now" not in await press(app, pilot, "4")
        assert "firing now" not in await press(app, pilot, "1")

    run(look)


def test_what_is_typed_at_once_is_found_and_done() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        for key in (":", *"gpu 5"):
            app.post_message(Key({":": "colon", " ": "space"}.get(key, key), key))
        app.press("enter")
        await press(app, pilot)
        await press(app, pilot)
        assert app.page is app._pages["gpu"]

    run(look)


def test_in_the_past_every_screen_has_the_key_that_leads_back() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        assert "l live" not in (await press(app, pilot, "2")).split("\n")[-1]
        assert (await press(app, pilot, "left")).split("\n")[-1].startswith("l live")
        for key in "1345679":
            assert "l live" in (await press(app, pilot, key)).split("\n")[-1], key

    run(look, (80, 24))


def test_the_last_line_always_has_the_help() -> None:
    keys = (("a", "one thing"), ("b", "another thing"), ("?", "help"), ("q", "quit"))
    lines = {width: "".join(text for text, _ in footer(View(), width, keys)).rstrip() for width in range(6, 60)}
    assert all("? help" in line for line in lines.values())
    assert all(len(line) <= width for width, line in lines.items())
    assert lines[59] == "a one thing  b another thing  ? help  q quit"


def test_a_window_that_is_closed_leaves_nothing_behind() -> None:
    def drawn() -> int:
        gc.collect()
        return sum(isinstance(one, Strip) for one in gc.get_objects())

    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        counts = []
        for _ in range(3):
            for key in ("question_mark", "colon"):
                await press(app, pilot, key)
                await press(app, pilot, "escape")
                for _ in range(100):  # it is taken apart after it is no longer seen
                    if any(isinstance(one, HelpScreen | CommandsWindow) for one in app._registry):
                        await pilot.pause()
            await press(app, pilot)  # the screen below it is drawn in full
            counts.append(drawn())
        assert counts[2] == counts[1]

    run(look)
