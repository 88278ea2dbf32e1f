"""Braille as pixels: a cell of the terminal is two dots wide and four high."""

from __future__ import annotations

LEFT = (0x40, 0x04, 0x02, 0x01)
"""The dots of a cell's left column from the bottom upwards, as bits of the character."""
RIGHT = (0x80, 0x20, 0x10, 0x08)

_CELLS = (" ", *(chr(0x2800 | bits) for bits in range(1, 256)))
"""One text for each: graphs hold thousands."""


def cell(bits: int) -> str:
    """The character; the empty one is a space: one byte instead of three."""
    return _CELLS[bits]


class Dots:
    """A picture of ``width`` by ``height`` cells, each with the number of who drew last in it."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self._bits = [[0] * width for _ in range(height)]
        self._owners: list[list[int | None]] = [[None] * width for _ in range(height)]

    def dot(self, x: int, y: int, owner: int) -> None:
        """Set a dot, counted from the lower left; one that lies outside is left out."""
        column, row = x // 2, self.height - 1 - y // 4
        if x >= 0 and column < self.width and y >= 0 and row >= 0:
            self._bits[row][column] |= (RIGHT if x % 2 else LEFT)[y % 4]
            self._owners[row][column] = owner

    def line(self, begin: tuple[int, int], end: tuple[int, int], owner: int) -> None:
        """Set the dots from one to another, both included."""
        (x0, y0), (x1, y1) = begin, end
        steps = max(abs(x1 - x0), abs(y1 - y0), 1)
        for i in range(steps + 1):
            self.dot(x0 + round((x1 - x0) * i / steps), y0 + round((y1 - y0) * i / steps), owner)

    def rows(self) -> list[list[tuple[str, int | None]]]:
        """The rows, top first, as runs of one owner."""
        rows: list[list[tuple[str, int | None]]] = []
        for bits, owners in zip(self._bits, self._owners, strict=True):
            row: list[tuple[str, int | None]] = []
            for one, owner in zip(bits, owners, strict=True):
                if row and row[-1][1] == owner:
                    row[-1] = (row[-1][0] + cell(one), owner)
                else:
                    row.append((cell(one), owner))
            rows.append(row)
        return rows
