"""A parser of server-sent events, fed with bytes as they come."""

from __future__ import annotations

from collections.abc import Iterator

MAX_EVENT_BYTES = 64 << 20
"""An event beyond this is no frame of ours: the stream is given up rather than the memory."""


class SseParser:
    """Cuts a byte stream into events: ``feed`` gives each finished one as ``(event, data)``.

    Lines end with LF or CRLF. A lone CR, which the format allows too, is not taken: no server of ours sends it, and
    our JSON cannot hold a raw one. Comments (the pings) give nothing.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._event = ""
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, chunk: bytes) -> Iterator[tuple[str, bytes]]:
        """Take bytes; give the events that they finish. Raises ``ValueError`` for an event of absurd size."""
        lines = (self._rest + chunk if self._rest else chunk).split(b"\n")
        self._rest = lines.pop()
        if len(self._rest) + self._size > MAX_EVENT_BYTES:
            raise ValueError(f"an event of more than {MAX_EVENT_BYTES >> 20} MiB")
        for line in lines:
            if line.endswith(b"\r"):
                line = line[:-1]
            if not line:
                if self._data:
                    yield self._event or "message", b"\n".join(self._data)
                self._event, self._data, self._size = "", [], 0
                continue
            name, _, value = line.partition(b":")
            value = value[1:] if value.startswith(b" ") else value
            if name == b"data":
                self._data.append(value)
                self._size += len(value)
            elif name == b"event":
                self._event = value.decode("utf-8", "replace")
