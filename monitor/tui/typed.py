"""A text that is being typed: what a key does to it."""

from __future__ import annotations

from textual.events import Key

from monitor.tui.palette import DIM, STRONG
from monitor.tui.rows import Row


class Typed:
    """A line of text with a cursor."""

    def __init__(self, text: str = "") -> None:
        self.text = text
        self.at = len(text)

    def take(self, event: Key) -> bool:
        """Do what a key does to a text; whether it does anything."""
        key = event.key
        if key in ("backspace", "ctrl+h"):
            if self.at:
                self.text = self.text[: self.at - 1] + self.text[self.at :]
                self.at -= 1
        elif key in ("delete", "ctrl+d"):
            self.text = self.text[: self.at] + self.text[self.at + 1 :]
        elif key in ("left", "ctrl+b"):
            self.at = max(0, self.at - 1)
        elif key in ("right", "ctrl+f"):
            self.at = min(len(self.text), self.at + 1)
        elif key in ("home", "ctrl+a"):
            self.at = 0
        elif key in ("end", "ctrl+e"):
            self.at = len(self.text)
        elif key == "ctrl+u":
            self.text, self.at = self.text[self.at :], 0
        elif key == "ctrl+w":
            kept = self.text[: self.at].rstrip().rpartition(" ")[0]
            kept += " " if kept else ""
            self.text, self.at = kept + self.text[self.at :], len(kept)
        elif event.character is not None and event.is_printable:
            self.text = self.text[: self.at] + event.character + self.text[self.at :]
            self.at += 1
        else:
            return False
        return True

    def paste(self, text: str) -> None:
        """Put in a text, of which only the first line can be in a line."""
        line = next(iter(text.splitlines()), "")
        self.text = self.text[: self.at] + line + self.text[self.at :]
        self.at += len(line)

    def row(self, *, typing: bool = True) -> Row:
        """How it looks."""
        if not typing:
            return Row().put(self.text, DIM)
        return Row().put(self.text[: self.at], STRONG).put("▏", STRONG).put(self.text[self.at :], STRONG)
