"""Probes in a real terminal, against a simulated node whose daemon has each run done by a process of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.tui.pty.terminal import Terminal, terminal, tui
from tests.tui.pty.test_keys import on


@pytest.fixture
def shown(url: str) -> Iterator[Terminal]:
    """The list of runs."""
    with terminal(tui(url), (120, 40)) as one:
        one.press("8")
        on(one, "probes")
        yield one
        one.press("escape")
        one.pump_for(0.15)
        one.press("q")
        assert one.end() == 0
        assert one.is_restored


def leave(shown: Terminal) -> None:
    """Escape, as a person does: what follows it at once is part of it for a terminal."""
    shown.press("escape")
    shown.pump_for(0.15)


def fill_in(shown: Terminal, workload: str, *options: str) -> None:
    """The form of a workload with its first options; it is sent, after one more enter where the server has other
    work, as simulated ones have."""
    shown.press("n")
    shown.see("which probe?")
    shown.press(*workload, "enter")
    shown.see(f"new probe: {workload}")
    for text in options:
        shown.press("down", "ctrl+u", *text)
    shown.press("enter")
    shown.wait(lambda: "has other work" in shown.text or "new probe" not in shown.text, "an answer to the form")
    if "has other work" in shown.text:
        shown.press("enter")
    shown.lose("new probe")


def test_a_run_is_begun_watched_kept_named_and_deleted(shown: Terminal) -> None:
    fill_in(shown, "latency", "3", "16", "8")
    on(shown, "probe")
    shown.wait(lambda: "● done" in shown.text, "its end")
    shown.see("what was found", "one at a time #1", "TTFT p50")
    leave(shown)
    shown.wait(lambda: any("● done" in line and "latency" in line for line in shown.lines), "it in the list")
    shown.press("b")
    shown.see("later runs of this workload")
    shown.press("ctrl+u", *"mine", "enter")
    shown.see("the baseline mine is latency")
    shown.press("b")
    shown.see("╭─ baseline")
    shown.press("ctrl+u", "enter")
    shown.see("it is no baseline now")
    shown.press("d")
    shown.see("delete this result?")
    shown.press("enter")
    shown.see("deleted 2")
    shown.press("7")
    shown.see("probe over")
    shown.press("g")
    shown.see("enter opens the run")


def test_a_run_is_cancelled_with_what_it_has(shown: Terminal) -> None:
    fill_in(shown, "soak")
    shown.see("measuring", "in flight")
    shown.press("x")
    shown.see("cancel this run?")
    shown.press("enter")
    shown.wait(lambda: "◐ cancelled" in shown.text, "its end")
    leave(shown)
    shown.wait(lambda: any("◐ cancelled" in line and "soak" in line for line in shown.lines), "it in the list")
