"""Every key of the application in a real terminal does what the help says."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator

import pytest

from tests.tui.pty.terminal import Terminal, terminal, tui

SCREENS = {
    "1": "overview",
    "2": "GPUs",
    "3": "vLLM",
    "4": "alerts",
    "5": "processes",
    "6": "host",
    "7": "events",
    "8": "probes",
    "9": "fleet",
    "a": "alerts",
    "e": "events",
    "f": "fleet",
}


@pytest.fixture(scope="module")
def open_terminal(url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminal]:
    folder = str(tmp_path_factory.mktemp("home"))
    with terminal(
        tui(url), (120, 40), env={"HOME": folder, "XDG_STATE_HOME": folder, "XDG_CONFIG_HOME": folder}
    ) as one:
        yield one
        one.press("q")
        assert one.end() == 0
        assert one.is_restored


@pytest.fixture
def shown(open_terminal: Terminal) -> Terminal:
    """The terminal, on the overview, live."""
    open_terminal.press("escape")
    open_terminal.pump(0.15)  # an escape with a letter right behind it is another key
    open_terminal.press("l", "1")
    on(open_terminal, "overview")
    return open_terminal


def is_on(shown: Terminal, name: str) -> bool:
    """Whether a screen is open: its name begins one of the first lines; the overview's panels have theirs."""
    if name == "overview":
        return any(line.lstrip("─ ").startswith(("GPU ", "GPU  util")) for line in shown.lines[1:5])
    return any(re.match(rf"{name}( |$)", line) for line in shown.lines[1:5])


def on(shown: Terminal, name: str) -> None:
    shown.wait(lambda: is_on(shown, name), f"the screen {name}")


def clock(shown: Terminal) -> str:
    """The time in the first line."""
    found = re.search(r"\d\d:\d\d:\d\d", shown.lines[0])
    assert found is not None, shown.lines[0]
    return found[0]


@pytest.mark.parametrize(("key", "name"), SCREENS.items())
def test_a_key_opens_its_screen(shown: Terminal, key: str, name: str) -> None:
    shown.press(key)
    on(shown, name)


def test_a_screen_is_never_what_it_was_when_it_was_left(shown: Terminal) -> None:
    shown.press("2")
    on(shown, "GPUs")
    left = clock(shown)
    shown.press("1")
    on(shown, "overview")
    shown.wait(lambda: clock(shown) > left, "a later moment")
    shown.press("2")
    seen = []
    while not is_on(shown, "GPUs"):
        shown.pump()
        seen.append(clock(shown))
    assert left not in seen


@pytest.mark.parametrize("key", ["p", "space"])
def test_pause_lets_the_picture_stand_and_go_on(shown: Terminal, key: str) -> None:
    shown.press(key)
    shown.see("paused")
    shown.settle()
    stands = shown.text
    shown.press("2")  # something that is answered later than what was on its way
    on(shown, "GPUs")
    shown.press("1")
    shown.wait(lambda: shown.text == stands, "the same picture")
    shown.press(key)
    shown.lose("paused")
    shown.wait(lambda: clock(shown) not in stands, "a later moment")


@pytest.mark.parametrize("key", ["left", ",", "shift+left", "<"])
def test_a_step_back_is_the_past_and_forth_again(shown: Terminal, key: str) -> None:
    shown.press(key)
    shown.see("PAST")
    shown.settle()
    there = clock(shown)
    shown.press({"left": "right", ",": ".", "shift+left": "shift+right", "<": ">"}[key])
    shown.wait(lambda: "PAST" not in shown.text or clock(shown) != there, "another moment")
    shown.press("l")
    shown.lose("PAST")


@pytest.mark.parametrize("key", ["l", "end"])
def test_the_oldest_moment_and_live_again(shown: Terminal, key: str) -> None:
    shown.press("home")
    # The node has ten minutes behind it: until they are read, the clock is that of the last picture.
    shown.wait(lambda: re.search(r"PAST +(9|[1-9]\d) min ago", shown.lines[0]), "the oldest")
    oldest = clock(shown)
    shown.press("left")
    shown.settle()
    assert clock(shown) == oldest
    shown.press(key)
    shown.lose("PAST")


@pytest.mark.parametrize(("shorter", "longer"), [("[", "]"), ("-", "+")])
def test_ranges_of_graphs(shown: Terminal, shorter: str, longer: str) -> None:
    def said() -> str:
        return shown.lines[0] + shown.lines[1]

    shown.press(longer, longer)
    shown.see("last 1")
    shown.settle()
    long = said()
    shown.press(shorter)
    shown.wait(lambda: re.search(r"last \d+ \w+", said()) and said() != long, "a shorter range")


@pytest.mark.parametrize("key", ["?", "h", "f1"])
def test_help_is_over_the_screen_until_it_is_closed(shown: Terminal, key: str) -> None:
    shown.press("2")
    on(shown, "GPUs")
    shown.press(key)
    shown.see("Keys of this screen", "esc close")
    shown.press("4", "escape")
    shown.lose("Keys of this screen")
    on(shown, "GPUs")


@pytest.mark.parametrize("key", [":", "ctrl+p"])
def test_the_palette_finds_what_can_be_done(shown: Terminal, key: str) -> None:
    shown.press(key)
    shown.see("enter choose")
    for letter in "events":
        shown.press(letter)
    shown.see("> events")
    shown.press("enter")
    on(shown, "events")


def test_a_list_moves_filters_orders_and_opens(shown: Terminal) -> None:
    shown.press("3")
    on(shown, "vLLM")
    shown.wait(lambda: under(shown).startswith("vm:8000") or ":8000" in under(shown), "the first server")
    for back, forth in (("k", "j"), ("up", "down"), ("g", "G")):
        shown.press(forth)
        shown.wait(lambda: ":8001" in under(shown), f"the second, by {forth}")
        shown.press(back)
        shown.wait(lambda: ":8000" in under(shown), f"the first, by {back}")
    shown.press("/")
    for letter in "8001":
        shown.press(letter)
    shown.see("1 of 2")
    shown.press("enter", "enter")
    shown.wait(lambda: any(re.match(r"vLLM \S+:8001", line) for line in shown.lines[1:5]), "the server")
    shown.press("escape")
    shown.see("1 of 2")
    shown.press("escape")
    shown.wait(lambda: any(line.startswith("vLLM  2") for line in shown.lines[1:5]), "both")
    shown.press("o")
    shown.see("▼")
    shown.press("O")
    shown.see("▲")


def under(shown: Terminal) -> str:
    """The line under the cursor."""
    return next((line[1:].strip() for line in shown.lines if line.startswith("▌")), "")


def test_copy_gives_the_terminal_s_clipboard_the_promql(shown: Terminal) -> None:
    shown.press("6")
    on(shown, "host")
    shown.see("0–100 %")
    before = len(shown.raw)
    shown.press("tab", "y")
    shown.see_bytes(b"\x1b]52;c;", before)
    shown.settle()
    found = re.search(rb"\x1b\]52;c;([A-Za-z0-9+/=]+)", bytes(shown.raw[before:]))
    assert found is not None
    assert b"node_" in base64.b64decode(found[1])


def test_the_shell_is_had_in_between(shown: Terminal) -> None:
    before = len(shown.raw)
    shown.press("ctrl+z")
    shown.see_bytes(b"\x1b[?1049l", before)
    shown.wait(shown.is_stopped, "that it stands still")
    before = len(shown.raw)
    shown.go_on()
    shown.see_bytes(b"\x1b[?1049h", before)
    shown.press("2")
    on(shown, "GPUs")


@pytest.mark.parametrize("size", [(80, 24), (200, 50)])
def test_every_screen_at_another_size(shown: Terminal, size: tuple[int, int]) -> None:
    shown.resize(*size)
    try:
        for key in "123456789":
            shown.press(key)
            on(shown, SCREENS[key])
            shown.settle()
            assert shown.lines[0].startswith("gpumon")
            assert shown.lines[-1], f"the keys in the last line of {SCREENS[key]}"
            assert "Traceback" not in shown.text
    finally:
        shown.resize(120, 40)
