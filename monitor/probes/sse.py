"""Server-sent events out of the pieces in which they come: only the data of each, as bytes.

The usual piece is one whole event, or several; it costs a few comparisons. All else goes line by line: events in two
pieces, CRLF, comments, data of several lines.
"""

from __future__ import annotations

MAX_EVENT = 4 << 20
"""Bytes of one event. A token's is a few hundred."""


class TooLong(ValueError):
    """An event that does not end."""


class Events:
    """Takes pieces, gives the data of events that are complete."""

    def __init__(self, max_bytes: int = MAX_EVENT) -> None:
        self._max = max_bytes
        self._line: list[bytes] = []
        """The pieces of a line that has not ended."""
        self._line_bytes = 0
        self._data: list[bytes] = []
        """The data lines of an event that has not ended."""
        self._data_bytes = 0

    def feed(self, piece: bytes) -> list[bytes]:
        """The events that this piece completes. Raises ``TooLong``."""
        whole = not self._line and not self._data and piece.startswith(b"data: ") and piece.endswith(b"\n\n")
        if whole and len(piece) <= self._max:
            if piece.find(b"\n") == len(piece) - 2:
                if b"\r" not in piece:
                    return [piece[6:-2]]
            else:
                events = piece[:-2].split(b"\n\n")
                if all(one.startswith(b"data: ") and b"\n" not in one for one in events) and b"\r" not in piece:
                    return [one[6:] for one in events]
        return self._by_lines(piece)

    def rest(self) -> tuple[bytes, bool]:
        """What is left when the stream ends: the data of an event without its empty line, b"" for none; and whether
        its last line was cut."""
        line = b"".join(self._line)
        data = [*self._data, _value(line)] if line.startswith(b"data:") else self._data
        return b"\n".join(data), bool(line)

    def _by_lines(self, piece: bytes) -> list[bytes]:
        events: list[bytes] = []
        *lines, rest = piece.split(b"\n")
        for line in lines:
            if self._line:
                line = b"".join((*self._line, line))
                self._line, self._line_bytes = [], 0
            self._take(line.removesuffix(b"\r"), events)
        if rest:
            self._line.append(rest)
            self._line_bytes += len(rest)
        if self._line_bytes + self._data_bytes > self._max:
            raise TooLong(f"an event of more than {self._max >> 20} MiB")
        return events

    def _take(self, line: bytes, events: list[bytes]) -> None:
        if line.startswith(b"data:"):
            self._data.append(_value(line))
            self._data_bytes += len(line)
            if self._data_bytes > self._max:
                raise TooLong(f"an event of more than {self._max >> 20} MiB")
        elif not line and self._data:
            events.append(b"\n".join(self._data))
            self._data, self._data_bytes = [], 0
        # Comments, and the fields event, id and retry, say nothing that is measured.


def _value(line: bytes) -> bytes:
    return line[5:].removeprefix(b" ")
