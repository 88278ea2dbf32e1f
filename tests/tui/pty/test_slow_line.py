"""A slow line with a delay: frames are left out and none is queued. What is counted is bytes, not time."""

from __future__ import annotations

import pytest

from tests.tui.pty.terminal import Terminal, terminal, tui

SIZE = (200, 50)
RATE = 40_000.0
DELAY = 0.1
SCREEN_BYTES = 20_000
"""What a whole screen takes, at most."""
PTY_BYTES = 24_000
"""What Linux takes for a pseudo-terminal that nobody reads."""


def see_events(shown: Terminal) -> None:
    shown.wait(lambda: any(line.startswith("events ") for line in shown.lines[:4]), "the list of events")


def turn_pages(shown: Terminal) -> int:
    """Turn from screen to screen faster than the line can follow: the bytes that come after the last key."""
    shown.see("GPU", "vLLM")
    for key in "12" * 14:
        shown.press(key)
        shown.pump(0.05)
    shown.press("7")
    before = len(shown.raw)
    see_events(shown)
    return len(shown.raw) - before


def test_no_more_than_two_screens_are_on_their_way_to_a_terminal_that_answers(url: str) -> None:
    with terminal(tui(url), SIZE, rate=RATE, delay=DELAY) as shown:
        # The one that was on its way, and the one that was asked for last.
        assert turn_pages(shown) < 2 * SCREEN_BYTES
        shown.press("q")
        assert shown.end() == 0
        assert shown.is_restored


def test_of_one_that_does_not_answer_it_is_what_the_system_takes(url: str) -> None:
    with terminal(tui(url), SIZE, rate=RATE, delay=DELAY, answers=False) as shown:
        assert turn_pages(shown) < PTY_BYTES + 2 * SCREEN_BYTES


@pytest.mark.parametrize("answers", [True, False])
def test_a_terminal_that_is_not_read_for_long_then_shows_the_newest(url: str, answers: bool) -> None:
    with terminal(tui(url), SIZE, answers=answers) as shown:
        shown.see("GPU", "vLLM")
        for key in "12" * 20:
            shown.press(key)
        shown.press("7")
        shown.wait_unread()
        before = len(shown.raw)
        see_events(shown)
        assert len(shown.raw) - before < PTY_BYTES + 2 * SCREEN_BYTES
