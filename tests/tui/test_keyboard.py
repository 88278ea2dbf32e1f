"""Keys that come all at once are dealt with one after another."""

from __future__ import annotations

from textual.events import Key
from textual.keys import _character_to_key
from textual.pilot import Pilot

from monitor.tui.app import GpumonApp
from monitor.tui.screens.engine import EngineScreen
from monitor.tui.screens.silence_window import SilenceWindow
from tests.tui.screen import settle, text_of
from tests.tui.test_travel import Past, run


def all_at_once(app: GpumonApp, *keys: str) -> None:
    """Put keys into the application's queue, as a line does that was held up."""
    for key in keys:
        single = len(key) == 1
        app.post_message(Key(_character_to_key(key) if single else key, key if single else None))


def test_a_screen_a_filter_and_its_letters_in_one_go() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        all_at_once(app, "2", "/", *"gpu 2q", "backspace", "enter", "o")
        await pilot.pause()
        await settle(app, pilot)
        assert not app._exit
        assert "/ gpu 2" in "\n".join(text_of(app))

    run(look)


def test_a_window_gets_what_is_typed_behind_the_key_that_opens_it() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        all_at_once(app, "4", "s", *"why not")
        await pilot.pause()
        assert isinstance(app.screen, SilenceWindow)
        assert app.screen.comment.text == "why not"

    run(look)


def test_a_list_can_be_opened_and_an_entry_of_it_in_one_go() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        all_at_once(app, "3", "enter")
        await pilot.pause()
        await settle(app, pilot)
        assert isinstance(app.page, EngineScreen)

    run(look)
