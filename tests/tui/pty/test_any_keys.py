"""Keys in any order, faster than anything can be read: nothing ends it but a key or a signal that is to."""

from __future__ import annotations

import random
import signal
from pathlib import Path

import pytest

from tests.tui.pty.terminal import terminal, tui

LETTERS = "123456789aefjkgG[]-+?lpoO,.<>yYvVtTrRsSmndhH:/"
NAMED = ("enter", "escape", "tab", "shift+tab", "up", "down", "left", "right", "home", "end", "pageup", "pagedown")


@pytest.mark.parametrize(("seed", "size"), [(1, (80, 24)), (2, (200, 50)), (3, (50, 12))])
def test_keys_in_any_order_leave_it_alive(url: str, seed: int, size: tuple[int, int], tmp_path: Path) -> None:
    chance = random.Random(seed)
    env = {"HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)}
    with terminal(tui(url, "--readonly"), size, env=env) as shown:
        shown.see("gpumon")
        for _ in range(200):
            # A filter takes every letter, so that escape comes often.
            shown.press(chance.choice((chance.choice(LETTERS), chance.choice(NAMED), "escape")))
            shown.pump(0.005)
        shown.settle()
        assert shown.process.poll() is None, shown.text
        assert shown.end(signal.SIGTERM) == 128 + signal.SIGTERM
        assert shown.is_restored


def test_bytes_that_are_no_text_leave_it_alive(url: str, tmp_path: Path) -> None:
    """Of a terminal with another encoding, of a binary file that is pasted, of a line that is noisy."""
    env = {"HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)}
    with terminal(tui(url, "--readonly"), (80, 24), env=env) as shown:
        shown.see("gpumon")
        shown.send(b"\xe9\xff\xfe\xc3")
        shown.send(b"\x1b[200~\x80\x00\xf0\x28\x1b[201~")
        shown.settle()
        shown.press("4")
        shown.see("alerts  ")
        assert shown.process.poll() is None, shown.text
        assert shown.end(signal.SIGTERM) == 128 + signal.SIGTERM
        assert shown.is_restored
