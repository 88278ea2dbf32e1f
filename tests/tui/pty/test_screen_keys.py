"""The keys that single screens have, in a real terminal: what each does is seen on the screen."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.tui.pty.terminal import Terminal, terminal, tui
from tests.tui.pty.test_keys import on


@pytest.fixture(scope="module")
def open_terminal(url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminal]:
    folder = str(tmp_path_factory.mktemp("home"))
    env = {"HOME": folder, "XDG_STATE_HOME": folder, "XDG_CONFIG_HOME": folder}
    with terminal(tui(url), (120, 40), env=env) as one:
        yield one
        one.press("q")
        assert one.end() == 0
        assert one.is_restored


@pytest.fixture
def shown(open_terminal: Terminal) -> Terminal:
    """The terminal, on the overview."""
    for _ in range(2):
        open_terminal.press("escape")
        open_terminal.pump_for(0.15)
    open_terminal.press("1")
    on(open_terminal, "overview")
    return open_terminal


def leave(shown: Terminal) -> None:
    """Escape, as a person does: what follows it at once is part of it for a terminal."""
    shown.press("escape")
    shown.pump_for(0.15)


def test_v_shows_gpus_as_cards_or_as_lines(shown: Terminal) -> None:
    shown.press("2")
    on(shown, "GPUs")
    shown.see("▌ GPU 0")
    shown.press("v")
    shown.see("SM clock", "state")
    shown.lose("▌ GPU 0")
    shown.press("v")
    shown.see("▌ GPU 0")


def test_enter_opens_a_gpu_and_r_its_readings_and_escape_leads_back(shown: Terminal) -> None:
    shown.press("2", "enter")
    shown.see("clocks held down", "slowdown 89 °C", "processes", "NVLink")
    shown.press("r")
    shown.see("readings", "DCGM_FI_DEV_", "lowest")
    leave(shown)
    shown.see("clocks held down")
    leave(shown)
    on(shown, "GPUs")


def test_enter_opens_a_server_and_r_its_readings(shown: Terminal) -> None:
    shown.press("3", "enter")
    shown.see("latencies", "phases", "within target", "headroom")
    shown.press("r")
    shown.see("readings", "lowest")
    shown.press("/", *"http_requests", "enter")
    shown.see("http_requests_total")
    leave(shown)  # the filter
    leave(shown)
    shown.see("latencies")


def test_v_shows_alerts_of_one_state(shown: Terminal) -> None:
    shown.press("4")
    on(shown, "alerts")
    for said in ("firing only", "pending only", "silenced or inhibited only", "resolved only"):
        shown.press("v")
        shown.see(f"alerts, {said}")
    shown.press("v")
    shown.lose("only")


def test_a_silence_is_written_sent_and_ended(shown: Terminal) -> None:
    shown.press("4", "S")
    on(shown, "silences")
    shown.press("n")
    shown.see("every alert that all of these match")
    shown.press(*"alertname=Tried", "enter")
    shown.see("not yet: say why")
    shown.press("down", "down", *"a test")
    shown.see("why       a test")
    shown.press("enter")
    shown.see('alertname="Tried"', "active")
    shown.press("x")
    shown.see("enter")
    shown.press("enter")
    shown.wait(lambda: re.search(r"^▌? *expired ", shown.text, re.MULTILINE), "its end")


def test_the_rules_with_their_last_evaluation(shown: Terminal) -> None:
    shown.press("4", "R")
    on(shown, "rules")
    shown.see("never matched any series", "evaluated", "ago")
    shown.press("v")
    shown.see("rules, fails only")
    for _ in range(12):
        if "only" not in shown.text:
            break
        shown.press("v")
        shown.settle()
    assert "only" not in shown.text
    cursor = "▌"
    shown.press("g")
    shown.wait(lambda: shown.lines[6].startswith(cursor), "the first")
    shown.press("ctrl+d")
    shown.wait(lambda: not shown.lines[6].startswith(cursor), "one further down")
    shown.press("g")
    shown.wait(lambda: shown.lines[6].startswith(cursor), "the first again")


def test_t_shows_processes_as_a_tree_or_a_list_and_x_ends_none_that_is_simulated(shown: Terminal) -> None:
    shown.press("5")
    on(shown, "processes")
    shown.see("└─ VLLM::EngineCore")
    shown.press("t")
    shown.lose("└─")
    shown.press("t")
    shown.see("└─ VLLM::EngineCore")
    shown.press("x")
    shown.see("these processes are simulated")


def test_v_shows_events_of_one_kind(shown: Terminal) -> None:
    shown.press("7")
    on(shown, "events")
    shown.press("v")
    shown.see("events: alerts")
    shown.press("V")
    shown.lose("events: alerts")


def test_a_range_is_chosen_from_a_list(shown: Terminal) -> None:
    shown.press("R")
    shown.see("range of the graphs")
    shown.press(*"5 min", "enter")
    shown.lose("range of the graphs")
    shown.see("last 5 min")


def test_t_in_capital_is_another_theme(shown: Terminal) -> None:
    shown.settle()
    before = shown.screen.buffer[0][0].fg
    shown.press("T")
    shown.wait(lambda: shown.screen.buffer[0][0].fg != before, "other colours")


def test_what_was_copied_is_shown_to_be_selected(shown: Terminal) -> None:
    shown.press("y")
    shown.see("copy the PromQL of")
    shown.press(*"power", "enter")
    shown.settle()
    leave(shown)
    shown.press("Y")
    shown.see("DCGM_FI_DEV_POWER_USAGE")
    shown.wait(lambda: "overview" not in shown.text, "nothing but the text")
    shown.press("space")
    on(shown, "overview")
