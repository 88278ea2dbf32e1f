"""Settings: they are found again, they survive another process' and a broken file, and they are no reason to fail."""

from __future__ import annotations

import json
from pathlib import Path

from textual.pilot import Pilot

from monitor.tui.app import GpumonApp
from monitor.tui.settings import Settings, settings_path
from tests.tui.test_travel import LIVE, Past, press, run


def test_they_are_in_the_users_state_directory() -> None:
    assert settings_path({"XDG_STATE_HOME": "/s"}) == Path("/s/gpumon/tui.json")
    assert settings_path({"HOME": "/home/x"}) == Path("/home/x/.local/state/gpumon/tui.json")


def test_what_is_chosen_is_found_again_and_none_forgets_it(tmp_path: Path) -> None:
    path = tmp_path / "new" / "tui.json"
    one = Settings(path)
    one.set("theme", "light")
    one.set("order GPUs", ["power", True])
    assert one.waits
    one.write()
    assert not one.waits
    again = Settings(path)
    assert (again.get("theme"), again.get("order GPUs"), again.get("bell")) == ("light", ["power", True], None)
    again.set("theme", None)
    again.write()
    assert json.loads(path.read_text()) == {"order GPUs": ["power", True]}
    assert [one.name for one in path.parent.iterdir()] == ["tui.json"], "nothing is left behind"


def test_two_at_a_time_keep_each_others_choices(tmp_path: Path) -> None:
    path = tmp_path / "tui.json"
    one, other = Settings(path), Settings(path)
    one.set("theme", "light")
    one.write()
    other.set("bell", "off")
    other.write()
    assert json.loads(path.read_text()) == {"bell": "off", "theme": "light"}


def test_a_file_that_cannot_be_understood_is_set_aside_and_said(tmp_path: Path) -> None:
    for text in (b'{"theme": "li', b"[1]", b"\xff\xfe", b"[" * 100_000, b" " * (2 << 20)):
        path = tmp_path / "tui.json"
        path.write_bytes(text)
        settings = Settings(path)
        assert settings.get("theme") is None
        assert "set aside" in settings.problem
        assert not path.exists()
        assert (tmp_path / "tui.json.broken").read_bytes() == text


def test_where_nothing_can_be_written_it_is_said_once_and_settings_hold_for_now(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    settings = Settings(tmp_path / "file" / "tui.json")
    settings.problem = ""
    settings.set("theme", "light")
    settings.write()
    assert "not kept" in settings.problem
    settings.problem = ""
    settings.set("theme", "dark")
    settings.write()
    assert settings.problem == ""
    assert settings.get("theme") == "dark"


def test_the_application_writes_what_is_chosen_and_says_what_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "tui.json"

    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        app.settings = Settings(path)
        await press(app, pilot, "T", "right_square_bracket")
        for worker in [one for one in app.workers if one.name == "settings"]:
            await worker.wait()
        assert json.loads(path.read_text()) == {"theme": app.colours.name, "range": 1800}

    run(look)


def test_what_is_wrong_with_the_file_is_said_on_the_screen_for_a_while(tmp_path: Path) -> None:
    path = tmp_path / "tui.json"
    path.write_text("{")

    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        app.settings = Settings(path)
        app.take(LIVE)
        assert "set aside" in await press(app, pilot)
        app._monotonic.now += 30  # type: ignore[attr-defined]
        app.take(LIVE)
        assert "set aside" not in await press(app, pilot)

    run(look)
