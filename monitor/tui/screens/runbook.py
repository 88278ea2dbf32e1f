"""A runbook: what to do about an alert that gpumon ships. The text is in the package, whoever is looked at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import takewhile
from typing import ClassVar

from rich.style import Style
from textual.binding import Binding, BindingType

from monitor import runbooks
from monitor.client.format import cells
from monitor.runbooks import Block, Piece
from monitor.tui.palette import CURSOR, DIM, HERE, KEY, PLAIN, STRONG, TITLE, severity
from monitor.tui.panels.wrapped import wrapped
from monitor.tui.rows import Row, View
from monitor.tui.screens.page import ELSEWHERE
from monitor.tui.screens.selecting import SelectingScreen

_WIDEST = 100
"""Lines that are longer than this are hard to read."""
_LINK = "to "
"""How the title of what leads to another runbook begins."""


class RunbookScreen(SelectingScreen):
    """``tab`` chooses a command or another runbook, ``y`` copies the one, ``enter`` opens the other."""

    NAME = "runbook"
    KEYS = (
        ("↑ ↓", "scroll"),
        ("tab", "choose"),
        ("y", "copy a command"),
        ("enter", "open a link"),
        ("esc", "back"),
        *ELSEWHERE,
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("tab", "select(1)", "the next command or link"),
        Binding("shift+tab", "select(-1)", "the one before"),
        Binding("y", "copy", "copy the command"),
        Binding("enter", "follow", "open the runbook"),
        Binding("space", "page(1)", "page down"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.subject = ""
        """The alert's name."""
        self._url = ""
        """Where its rule says that its runbook is."""
        self._blocks: Sequence[Block] = ()
        self._trail: list[tuple[str, int]] = []
        """The runbooks that led here, each with how far it was scrolled."""

    def about(self, **about: object) -> None:
        """``name`` is the alert's, ``url`` what its rule says of its runbook."""
        super().about()
        self._trail = []
        self._url = str(about.get("url", ""))
        self._take(str(about["name"]))

    def _take(self, name: str, top: int = 0) -> None:
        self.subject, self.top, self.selected, self.said = name, top, "", ""
        text = runbooks.text_of(name)
        self._blocks = runbooks.blocks(text) if text is not None else ()

    def copies(self) -> str:
        return dict(self.charts).get(self.selected, "")

    # -- keys --------------------------------------------------------------------------------------------------------

    def action_copy(self) -> None:
        """Give the terminal's clipboard the command that is chosen."""
        command = self.copies()
        if command:
            self.shell.copy(command)
            self.said = f"copied {command}"
        else:
            self.said = "tab chooses a command, y copies it"
        self.draw()

    def action_follow(self) -> None:
        """Open the runbook that is chosen."""
        if self.selected.startswith(_LINK):
            self._trail.append((self.subject, self.top))
            self._take(self.selected.removeprefix(_LINK))
        else:
            self.said = "tab chooses a link, enter opens it"
        self.draw()

    def action_leave(self) -> None:
        """Let go of what is chosen, go back to the runbook that led here, or to where all of this was opened."""
        if not self.selected and self._trail:
            self._take(*self._trail.pop())
            self.draw()
        else:
            super().action_leave()

    # -- drawing -----------------------------------------------------------------------------------------------------

    def heading(self) -> Row:
        return Row().put("runbook  ", TITLE).put(self.subject, STRONG)

    def body(self, view: View, width: int, height: int) -> Sequence[Row]:
        if not self._blocks:
            return self._unknown(min(width, _WIDEST))
        rows: list[Row] = []
        width = min(width, _WIDEST)
        number = 0
        before = ""
        linked: set[str] = set()
        for block in self._blocks[1:]:  # its title is the screen's
            if rows and before != "heading" and not block.kind == before == "item":
                rows.append(Row())
            before = block.kind
            if block.kind == "heading":
                rows.append(Row().put(block.text, TITLE).rule(width))
            elif block.kind == "code":
                for line in block.lines:
                    number += 1
                    self._command(rows, f"command {number}", line, width)
            else:
                self._text(rows, block, width, linked)
        return rows

    def _command(self, rows: list[Row], title: str, line: str, width: int) -> None:
        begin = len(rows)
        command, gap, remark = line.partition("  #")
        chosen = title == self.selected
        first, *more = wrapped("", command, width - 6, HERE if chosen else STRONG, indent=0)
        shown = [Row().put("  ▸ " if chosen else "    ", CURSOR).extend(first)]
        shown += [Row().to(6).extend(row) for row in more]
        if gap and shown[-1].width + len(remark) + 3 <= width:
            shown[-1].put(f"  #{remark}", DIM)
        elif gap:
            shown += wrapped("", f"#{remark}", width, DIM, indent=8)
        rows += shown
        self.choosable(title, command.rstrip(), begin, len(rows))

    def _text(self, rows: list[Row], block: Block, width: int, linked: set[str]) -> None:
        mark = f"{block.number}. " if block.number else "· " if block.kind == "item" else ""
        indent = 2 + len(mark)
        row = Row().put(f"  {mark}", DIM)
        words = list(_words(block.pieces, self.selected, min(60, width - indent)))
        for number, (word, style, target, spaced) in enumerate(words):
            gap = 1 if spaced and row.width > indent else 0
            # What no blank stands between, as a bracket and the code in it, stays together.
            joined = takewhile(lambda one: not one[3], words[number + 1 :])
            long = min(cells(word) + sum(cells(one[0]) for one in joined), width - indent)
            if row.width > indent and row.width + gap + (long if spaced else cells(word)) > width:
                rows.append(row)
                row, gap = Row().to(indent), 0
            row.put(" " * gap).put(word, style)
            if target and target not in linked:
                linked.add(target)
                self.choosable(f"{_LINK}{target}", f"gpumon runbook {target}", len(rows), len(rows) + 1)
        rows.append(row)

    def _unknown(self, width: int) -> list[Row]:
        rows = wrapped("", f"{self.subject} is no alert that gpumon ships, so there is no runbook of it here.", width)
        if self._url:
            rows += wrapped("", f"Its rule says that its runbook is at {self._url}", width, STRONG)
            self.choosable("address", self._url, len(rows) - 1, len(rows))
        else:
            rows += wrapped("", "Its rule names none either: an annotation runbook_url would.", width, DIM)
        near = runbooks.nearest(self.subject)
        if near is not None:
            rows += wrapped("", f"The shipped alert with the most similar name is {near}", width, DIM)
            self.choosable(f"{_LINK}{near}", f"gpumon runbook {near}", len(rows) - 1, len(rows))
        return rows


def _words(pieces: Sequence[Piece], selected: str, most: int) -> Iterator[tuple[str, Style, str, bool]]:
    """The words of a text: each with its style, the runbook that it leads to, and whether a blank is before it. What
    is code keeps its blanks up to ``most`` cells, so that it is not broken."""
    spaced = False
    for piece in pieces:
        style = _style(piece, selected)
        if piece.text[:1].isspace():
            spaced = True
        words = [piece.text.strip()] if piece.style == "code" and cells(piece.text) <= most else piece.text.split()
        for number, word in enumerate(words):
            yield word, style, piece.runbook if not number else "", spaced or number > 0
            spaced = False
        spaced = spaced or piece.text[-1:].isspace()


def _style(piece: Piece, selected: str) -> Style:
    if piece.style == "strong":
        return severity(piece.text) if piece.text in ("critical", "warning") else STRONG
    if piece.style == "link":
        return HERE if piece.runbook and selected == f"{_LINK}{piece.runbook}" else KEY
    return STRONG if piece.style == "code" else PLAIN
