"""When there is room for a frame, and when one is left out."""

from __future__ import annotations

import pytest

from monitor.tui.output import Output
from tests.tui.screen import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def output(clock: Clock) -> Output:
    return Output(clock)


def send(output: Output, size: int) -> bool:
    """One frame that the system takes; whether the terminal is asked."""
    output.queue(size)
    output.take(size)
    return output.frame()


def test_what_the_system_has_not_taken_keeps_the_next_frame_back(output: Output) -> None:
    woken: list[bool] = []
    output.wake = lambda: woken.append(output.is_busy)
    output.queue(100)
    output.queue(50)
    assert (output.queued, output.is_busy) == (150, True)
    output.take(100)
    assert (output.queued, woken) == (50, [])
    output.take(50)
    assert (output.queued, woken) == (0, [False])


def test_a_terminal_that_answers_gets_the_next_frame_when_it_has_shown_the_last(output: Output) -> None:
    send(output, 10)
    output.answer()
    assert send(output, 9000)
    assert output.is_busy
    output.answer()
    assert not output.is_busy


def test_small_frames_follow_each_other_without_an_answer(output: Output) -> None:
    send(output, 10)
    output.answer()
    sent = 0
    while not output.is_busy:
        send(output, 300)
        sent += 300
    assert 2048 < sent <= 2048 + 300
    output.answer()
    assert not output.is_busy


def test_a_terminal_that_never_answers_is_asked_five_times(output: Output) -> None:
    assert [send(output, 5000) for _ in range(7)] == [True] * 5 + [False] * 2
    assert not output.is_busy
    output.answer()  # a late one is one
    assert send(output, 5000)
    assert output.is_busy


def test_an_answer_that_is_lost_is_waited_for_ten_seconds_and_then_twenty(output: Output, clock: Clock) -> None:
    send(output, 10)
    output.answer()
    for patience in (10, 20):
        send(output, 9000)
        clock.now += patience - 1
        assert output.is_busy
        clock.now += 2
        assert not output.is_busy
    send(output, 9000)
    output.answer()
    send(output, 9000)
    clock.now += 11
    assert not output.is_busy


def test_without_a_terminal_nothing_is_drawn_and_nothing_is_waited_for(output: Output) -> None:
    output.queue(100)
    output.lose()
    assert (output.is_busy, output.queued) == (True, 0)


def test_the_rate_is_of_the_last_ten_seconds(output: Output, clock: Clock) -> None:
    for _ in range(30):
        clock.now += 1
        output.queue(500)
    assert output.rate() == pytest.approx(500, rel=0.11)
    clock.now += 11
    assert output.rate() == 0
