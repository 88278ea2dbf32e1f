"""The parser of server-sent events."""

from __future__ import annotations

import pytest

from monitor.client import sse
from monitor.client.sse import SseParser

STREAM = (
    b": ping\n\nevent: frame\ndata: {}\n\ndata: a\ndata: b\r\n\r\n: ping\n\nid: 7\nevent:x\ndata:c\n\nevent: empty\n\n"
)
EVENTS = [("frame", b"{}"), ("message", b"a\nb"), ("x", b"c")]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_events_come_whole_however_the_bytes_are_cut(size: int) -> None:
    parser = SseParser()
    got = [event for at in range(0, len(STREAM), size) for event in parser.feed(STREAM[at : at + size])]
    assert got == EVENTS


def test_an_unfinished_event_is_not_given() -> None:
    parser = SseParser()
    assert list(parser.feed(b"data: 1\n")) == []
    assert list(parser.feed(b"\n")) == [("message", b"1")]


def test_an_event_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "MAX_EVENT_BYTES", 1 << 20)
    parser = SseParser()
    for _ in range(10):
        assert list(parser.feed(b"data: " + b"x" * 100_000 + b"\n")) == []
    with pytest.raises(ValueError, match="more than 1 MiB"):
        list(parser.feed(b"data: " + b"x" * 100_000))
