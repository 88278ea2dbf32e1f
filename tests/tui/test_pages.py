"""The screens: the first picture loads none but its own, and all are there soon after."""

from __future__ import annotations

import subprocess
import sys

import pytest
from textual.pilot import Pilot

from monitor.tui import app as app_module
from monitor.tui.app import GpumonApp
from monitor.tui.pages import KEYS, NAMES, Pages
from monitor.tui.screens.page import Page
from monitor.tui.screens.window import Window
from tests.tui.test_travel import LIVE, Past, press, run

_LOADED = """
import sys
import monitor.tui.app
print(*sorted(one for one in sys.modules if one.startswith(("monitor.tui.screens.", "httpx", "monitor.client.api"))))
"""


def test_what_is_imported_before_the_first_picture_has_no_screen_and_no_http() -> None:
    got = subprocess.run([sys.executable, "-c", _LOADED], capture_output=True, text=True, check=True, timeout=60)
    screens = set(got.stdout.split())
    assert screens <= {f"monitor.tui.screens.{one}" for one in ("page", "plain", "window")}, "none but their base"


def test_each_is_made_once_and_installed() -> None:
    installed: list[tuple[str, Page]] = []
    pages = Pages(lambda page, name: installed.append((name, page)))
    for name in (*NAMES, *NAMES):
        assert isinstance(pages[name], Page)
    assert [name for name, _ in installed] == list(NAMES)
    assert {name for _, name, _ in KEYS} <= set(NAMES)
    again = pages.anew(keep="fleet")
    assert again["fleet"] is pages["fleet"]
    assert again["gpus"] is not pages["gpus"]


@pytest.mark.parametrize("key", [keys[0] for keys, _, _ in KEYS])
def test_one_that_is_being_left_draws_no_more(key: str) -> None:
    """What it is told while the application ends: a picture, its size. Its widgets are gone before it is."""

    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        await press(app, pilot, key)
        page = app.page
        app.exit()
        await page.query("*").remove()
        assert not page.query("*")
        page.show(app.view())
        page.draw()

    run(look)


def test_a_window_that_is_being_left_draws_no_more() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        await press(app, pilot, "?")
        window = app.screen
        assert isinstance(window, Window)
        app.exit()
        await window.query("*").remove()
        window.draw()
        window.clicked(1, 1)

    run(look)


def test_all_are_there_soon_after_the_first_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app_module, "_LATER_SECONDS", 0.0)
    monkeypatch.setattr(app_module, "_BETWEEN_SECONDS", 0.0)

    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        for worker in [one for one in app.workers if one.name == "pages"]:
            await worker.wait()
        assert {name for name, _ in app._pages.made()} == set(NAMES)
        app.take(LIVE)
        assert "overview" in await press(app, pilot, "8", "1")

    run(look)
