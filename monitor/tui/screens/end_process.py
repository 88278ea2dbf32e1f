"""The window that asks before a process is ended: which one it is, whose, what it holds, and what will happen."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType

from monitor.client.format import duration, short_range, size
from monitor.tui.ending import Local, why_refused
from monitor.tui.palette import CRITICAL, PLAIN, STRONG
from monitor.tui.process_tree import Process
from monitor.tui.rows import Row
from monitor.tui.screens.listing import words
from monitor.tui.screens.window import Window

_COMMAND_LINES = 3


class EndProcess(Window):
    """``confirmed`` is called on ``y`` or enter, and on nothing else."""

    KEYS = (("y", "do it"), ("enter", "do it"), ("esc", "do not"))
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y,enter", "confirm", "do it"),
        Binding("n,q", "close", "do not"),
    ]

    def __init__(
        self,
        process: Process,
        below: Sequence[Process],
        number: signal.Signals,
        found: Local,
        now_ms: int,
        confirmed: Callable[[], None],
    ) -> None:
        super().__init__()
        self._process = process
        self._below = below
        self._number = number
        self._found = found
        self._now_ms = now_ms
        self._confirmed = confirmed

    def caption(self) -> str:
        return "kill this process?" if self._number is signal.SIGKILL else "end this process?"

    def rows(self, width: int, height: int) -> Sequence[Row]:
        one = self._process.one
        rows = [
            Row().put(f"{one.name or 'process'}  ", STRONG).put(f"pid {one.pid}", STRONG).put(f"  of {one.user or '–'}")
        ]
        rows += [Row().extend(row) for row in words("command", [one.command or one.name], width)[:_COMMAND_LINES]]
        told: list[tuple[str, str]] = [
            ("server", one.server and f"{one.server}{f', rank {one.rank}' if one.rank else ''}")
        ]
        if self._process.gpus:
            gpus = f"{size(self._process.memory)} on GPU {short_range(self._process.gpus)}"
            told.append(("GPU memory", gpus))
        told.append(("container", one.container))
        if one.started_ms is not None:
            told.append(("runs for", duration(max(0, self._now_ms - one.started_ms) / 1000)))
        for label, text in told:
            if text:
                rows += words(label, [text], width)
        rows.append(Row())
        for text in self._meanings():
            rows += _flowed(text, width)
        refused = why_refused(one.pid, self._found.uid, self._number)
        if refused:
            rows += [Row(), *_flowed(f"You will be refused: {refused}", width, critical=True)]
        return rows

    def _meanings(self) -> list[str]:
        one, below = self._process.one, self._below
        kills = self._number is signal.SIGKILL
        if kills:
            told = ["SIGKILL: it ends at once, answers nobody and tidies nothing up. Try x, SIGTERM, first."]
        else:
            told = ["SIGTERM: it is asked to end, and may take its time."]
        if one.server:
            how = "With it" if not one.engine and not one.rank else "vLLM does not go on without it: with it"
            told.append(f"{how} the server {one.server} goes down, and requests in flight fail.")
        if below:
            which = "The process" if len(below) == 1 else f"The {len(below)} processes"
            numbers = ", ".join(str(each.pid) for each in below[:6]) + (", …" if len(below) > 6 else "")
            held = sum(each.memory or 0 for each in below)
            if kills or not one.server:
                keep = f" and keep {size(held)} of GPU memory" if held else ""
                told.append(f"{which} under it ({numbers}) may stay{keep}.")
            else:
                free = f" and free {size(held)} of GPU memory" if held else ""
                told.append(f"{which} under it ({numbers}) should end too{free}.")
        if self._process.memory:
            told.append(f"{size(self._process.memory)} of GPU memory are free when it has ended.")
        return told

    def action_confirm(self) -> None:
        """Do it."""
        if self.is_current:
            self.dismiss()
            self._confirmed()


def _flowed(text: str, width: int, *, critical: bool = False) -> list[Row]:
    rows = [Row()]
    for word in text.split():
        if rows[-1].width + len(word) + 1 > width and rows[-1].width:
            rows.append(Row())
        rows[-1].put(word + " ", CRITICAL if critical else PLAIN)
    return rows
