"""How it begins and ends in a real terminal: the terminal is left as it was, whatever ends it."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from monitor.tui.output import QUESTION
from tests.daemons import daemon
from tests.tui.pty.terminal import terminal, tui

NUMBERS = ("GPU", "vLLM", "°C")


@pytest.mark.parametrize("key", ["q", "ctrl+c"])
def test_a_key_ends_it_and_gives_the_terminal_back(url: str, key: str) -> None:
    with terminal(tui(url)) as shown:
        shown.see(*NUMBERS)
        assert b"\x1b[?1049h" in shown.raw
        assert not shown.is_restored
        shown.press(key)
        assert shown.end() == 0
        assert shown.is_restored


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_and_gives_the_terminal_back(url: str, number: signal.Signals) -> None:
    with terminal(tui(url)) as shown:
        shown.see(*NUMBERS)
        assert shown.end(number) == 128 + number
        assert shown.is_restored


def test_a_signal_gives_back_a_terminal_that_has_just_been_taken(url: str) -> None:
    with terminal(tui(url)) as shown:
        shown.see_bytes(b"\x1b[?1049h")
        assert shown.end(signal.SIGTERM) == 128 + signal.SIGTERM
        assert shown.is_restored


@pytest.mark.parametrize("controls", [True, False])
def test_it_ends_when_the_terminal_goes_away_with_a_signal_or_without(url: str, controls: bool) -> None:
    with terminal(tui(url), controls=controls) as shown:
        shown.see(*NUMBERS)
        shown.hang_up()
        assert shown.process.wait(20) == 128 + signal.SIGHUP


def test_no_answer_of_the_terminal_is_left_for_the_shell(url: str) -> None:
    with terminal(tui(url), delay=0.15) as shown:
        shown.see(*NUMBERS)
        shown.press("2", "q")
        assert shown.end() == 0
        assert shown.raw.count(QUESTION.encode()) == shown.answered


def test_it_draws_anew_in_another_size(url: str) -> None:
    with terminal(tui(url), (80, 24)) as shown:
        shown.see(*NUMBERS)
        for columns, lines in ((132, 43), (60, 16), (80, 24)):
            shown.resize(columns, lines)
            shown.wait(lambda columns=columns: max(map(len, shown.lines)) > columns - 30, "the width")  # type: ignore[misc]
            shown.wait(lambda: "?" in shown.lines[-1], "the last line in its place")
            shown.see("gpumon", "°C")
            assert len(shown.lines) == lines


def test_a_daemon_that_ends_leaves_a_grey_picture_and_one_that_comes_back_is_live(tmp_path: Path) -> None:
    options = ("--simulate", "--past", "60")
    with terminal(tui(f"unix:{tmp_path}/gpumon.sock"), (120, 30)) as shown:
        shown.see("no connection")
        with daemon(tmp_path, *options) as node:
            shown.see(*NUMBERS)
            node.end()
        shown.see("connection lost")
        assert "°C" in shown.text, "the last picture stays"
        shown.settle()
        rows = [y for y, line in enumerate(shown.lines) if "°C" in line]
        colours = {shown.screen.buffer[y][x].fg for y in rows for x, char in enumerate(shown.lines[y]) if char != " "}
        assert len(colours) == 1, "all in one grey"
        with daemon(tmp_path, *options):
            shown.lose("connection lost")
            shown.see(*NUMBERS)
        shown.press("q")
        assert shown.end() == 0


def test_no_color_sends_no_colour(url: str) -> None:
    with terminal(tui(url), env={"NO_COLOR": "1"}) as shown:
        shown.see(*NUMBERS)
        shown.press("4")
        shown.see("alerts  ")
        assert not shown.is_coloured
    with terminal(tui(url)) as shown:
        shown.see(*NUMBERS)
        assert shown.is_coloured


@pytest.mark.parametrize("name", ["dumb", "unknown", "vt100", "screen-256color", "linux"])
def test_any_terminal_shows_it(url: str, name: str) -> None:
    with terminal(tui(url), env={"TERM": name}) as shown:
        shown.see(*NUMBERS)
        assert (QUESTION.encode() in shown.raw) == (name not in ("dumb", "unknown"))
        shown.press("q")
        assert shown.end() == 0
        assert shown.is_restored
