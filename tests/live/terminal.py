"""A real terminal, tmux, with a program in it: keys go in as from a keyboard, and what is on the screen is read.

tmux gets a server of its own, which ends with the context.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.live.servers import NotReady


class Terminal:
    """One window of tmux. Keys have tmux' names: ``Enter``, ``Escape``, ``Left``, ``C-c``; else a key is a letter."""

    def __init__(self, name: str) -> None:
        self._name = name

    def tmux(self, *arguments: str) -> str:
        """A command of tmux; what it prints."""
        done = subprocess.run(["tmux", "-L", self._name, *arguments], capture_output=True, text=True, timeout=20)
        if done.returncode:
            raise NotReady(f"tmux {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    @property
    def text(self) -> str:
        """What is on the screen."""
        return self.tmux("capture-pane", "-p")

    def press(self, *keys: str) -> None:
        """Press keys, one after another."""
        for key in keys:
            self.tmux("send-keys", key)
            time.sleep(0.05)  # as fast as a person, so that an escape is no part of a sequence

    def type(self, text: str) -> None:
        """Type a text."""
        self.tmux("send-keys", "-l", text)

    def wait(self, *texts: str, seconds: float = 60) -> str:
        """The screen, when all of these texts are on it. Raises ``NotReady`` with the last one."""
        until = time.monotonic() + seconds
        while True:
            shown = self.text
            missing = [text for text in texts if text not in shown]
            if not missing:
                return shown
            if time.monotonic() > until:
                raise NotReady(f"not on the screen within {seconds:g} s: {missing}\n{shown}")
            time.sleep(0.2)

    def wait_match(self, pattern: str, seconds: float = 60) -> str:
        """The screen, when the pattern is found on it: what moves is there at one look and not at the next."""
        until = time.monotonic() + seconds
        while re.search(pattern, shown := self.text) is None:
            if time.monotonic() > until:
                raise NotReady(f"not on the screen within {seconds:g} s: {pattern}\n{shown}")
            time.sleep(0.2)
        return shown

    def clipboard(self, seconds: float = 20) -> str:
        """What the program gave the clipboard last."""
        until = time.monotonic() + seconds
        while True:
            try:
                return self.tmux("show-buffer")
            except NotReady:
                if time.monotonic() > until:
                    raise
                time.sleep(0.2)


@contextmanager
def terminal(
    command: Sequence[str | Path],
    *,
    width: int = 120,
    height: int = 40,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Terminal]:
    """A terminal in which a command runs. It takes the clipboard's sequences, as with ``set-clipboard on``."""
    name = f"gpumon-{uuid.uuid4().hex[:8]}"
    line = " ".join(shlex.quote(str(word)) for word in command)
    told = [f"{key}={value}" for key, value in (environment or {}).items()]
    quoted = " ".join(shlex.quote(word) for word in told)
    shown = Terminal(name)
    # What it says when it ends is to be read: the shell stays for it.
    inside = f'{f"env {quoted} " if told else ""}{line}; echo "ended with $?"; exec sleep 600'
    begin: list[str] = ["tmux", "-L", name, "-f", os.devnull, "start-server"]
    for option in (
        ("-g", "default-size", f"{width}x{height}"),
        ("-s", "set-clipboard", "on"),
        ("-s", "escape-time", "20"),
    ):
        begin += [";", "set-option", *option]
    begin += [";", "new-session", "-d", "-x", str(width), "-y", str(height), inside]
    # Not what C has: readline, which a debugger loads, leaves the size of another terminal there.
    subprocess.run(begin, check=True, timeout=20, env=dict(os.environ))
    try:
        yield shown
    finally:
        subprocess.run(["tmux", "-L", name, "kill-server"], capture_output=True, timeout=20, check=False)
