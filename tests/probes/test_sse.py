"""Events out of pieces: however the pieces are cut, the same events come."""

from __future__ import annotations

import random

import pytest

from monitor.probes.sse import Events, TooLong


def test_whole_events_in_a_piece() -> None:
    events = Events()
    assert events.feed(b'data: {"a":1}\n\n') == [b'{"a":1}']
    assert events.feed(b'data: {"a":1}\n\ndata: {"b":2}\n\ndata: [DONE]\n\n') == [b'{"a":1}', b'{"b":2}', b"[DONE]"]
    assert events.rest() == (b"", False)


MIXED = (
    b": a comment\n\n"
    b"data: one\n\n"
    b"event: message\r\nid: 7\r\ndata: two\r\n\r\n"
    b"data:three\n"
    b"data: and more\n\n"
    b"\n\n"
    b"retry: 10\n\n"
    b'data: {"text": "a\xc3\xa9"}\n\n'
    b"data: [DONE]\n\n"
)
EXPECTED = [b"one", b"two", b"three\nand more", b'{"text": "a\xc3\xa9"}', b"[DONE]"]


def test_it_does_not_matter_how_the_pieces_are_cut() -> None:
    rng = random.Random(4)
    cuts = [[], list(range(1, len(MIXED)))] + [
        sorted(rng.sample(range(1, len(MIXED)), rng.randrange(1, 30))) for _ in range(300)
    ]
    for cut in cuts:
        events = Events()
        found: list[bytes] = []
        for begin, end in zip([0, *cut], [*cut, len(MIXED)], strict=True):
            found += events.feed(MIXED[begin:end])
        assert found == EXPECTED, cut
        assert events.rest() == (b"", False)


def test_what_is_left_at_the_end_is_known() -> None:
    def rest(piece: bytes) -> tuple[bytes, bool]:
        events = Events()
        assert events.feed(piece) == []
        return events.rest()

    assert rest(b"data: [DONE]") == (b"[DONE]", True)
    assert rest(b'data: {"a"') == (b'{"a"', True)
    assert rest(b'data: {"a":1}\n') == (b'{"a":1}', False)
    assert rest(b": comment") == (b"", True)
    assert rest(b"") == (b"", False)


@pytest.mark.parametrize("piece", [b"data: " + b"x" * 100, b"data: " + b"x" * 40 + b"\n", b"x" * 20])
def test_an_event_without_an_end_is_given_up(piece: bytes) -> None:
    events = Events(max_bytes=100)

    def feed_all() -> None:
        for _ in range(10):
            events.feed(piece)

    with pytest.raises(TooLong):
        feed_all()


def test_many_short_events_are_not_one_long() -> None:
    events = Events(max_bytes=100)
    assert len(events.feed(b"data: 1234567890\n\n" * 100)) == 100
    assert len(events.feed(b"data: 1234567890\r\n\r\n" * 100)) == 100
