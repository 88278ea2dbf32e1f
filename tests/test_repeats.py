"""What lasts is told at once, now and then with a count, and once when it is over; nothing is told each second."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from monitor import logs
from monitor.repeats import BURST, FIRST_EVERY, WINDOW, Collapsing, Trouble


class Kept(logging.Handler):
    """Keeps what it gets."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it."""
        self.said.append(record.getMessage())


class Now:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def log() -> Iterator[tuple[logging.Logger, Kept, Now]]:
    logger = logging.getLogger("tests.repeats")
    logger.propagate = False
    logger.setLevel(logging.DEBUG)
    kept, now = Kept(), Now()
    net = Collapsing(kept, now)
    logger.addHandler(net)
    yield logger, kept, now
    logger.removeHandler(net)
    net.close()


def test_a_source_that_fails_each_second_for_a_day_takes_a_line_an_hour() -> None:
    logger, kept, now = logging.getLogger("tests.trouble"), Kept(), Now()
    logger.propagate = False
    logger.setLevel(logging.DEBUG)
    logger.addHandler(kept)
    trouble = Trouble(logger, clock=now)
    for _ in range(86_400):
        trouble.again("source nvml is down: no answer")
        now.seconds += 1
    assert trouble.lasts
    trouble.over("source nvml is up again")
    trouble.over("source nvml is up again")
    logger.removeHandler(kept)
    assert kept.said[0] == "source nvml is down: no answer"
    assert kept.said[1] == "source nvml is down: no answer (still; 301 times in 5 min)"
    assert kept.said[2] == "source nvml is down: no answer (still; 901 times in 15 min)"
    assert kept.said[-1] == "source nvml is up again (after 86400 failures in 24 h)"
    assert len(kept.said) == 28  # the first, those after 5, 15, 35 and 75 minutes, each hour, and the end


def test_another_reason_is_told_at_once() -> None:
    logger, kept, now = logging.getLogger("tests.trouble"), Kept(), Now()
    logger.propagate = False
    logger.setLevel(logging.DEBUG)
    logger.addHandler(kept)
    trouble = Trouble(logger, clock=now)
    trouble.again("down: refused")
    trouble.again("down: refused")
    trouble.again("down: no answer")
    now.seconds += FIRST_EVERY
    trouble.again("down: no answer")
    trouble.over("up")
    logger.removeHandler(kept)
    assert kept.said == [
        "down: refused",
        "down: no answer",
        "down: no answer (still; 4 times in 5 min)",
        "up (after 4 failures in 5 min)",
    ]


def test_a_source_that_goes_up_and_down_each_second_is_caught_by_the_net(
    log: tuple[logging.Logger, Kept, Now],
) -> None:
    logger, kept, now = log
    trouble = Trouble(logger, about={"source": "vllm", "server": "a:8000"}, clock=now)
    for _ in range(int(WINDOW)):
        trouble.again("down")
        trouble.over("up")
        now.seconds += 1
    logger.info("something else")
    downs = [line for line in kept.said if line.startswith("down")]
    assert len(downs) == BURST + 1
    assert downs[-1] == f"down (and {int(WINDOW) - BURST - 1} more like it in 5 min)"
    assert kept.said[-1] == "something else"


def test_lines_that_differ_by_numbers_and_ids_are_alike_and_those_of_other_things_are_not(
    log: tuple[logging.Logger, Kept, Now],
) -> None:
    logger, kept, now = log
    for n in range(50):
        logger.warning("process %d of 3f2a91bc-%04x hangs", n, n)
        for gpu in ("0", "1"):
            logger.warning("xid on %s", gpu, extra=logs.about(gpu=gpu))
    assert sum(line.startswith("process") for line in kept.said) == BURST
    assert sum(line == "xid on 0" for line in kept.said) == BURST
    assert sum(line == "xid on 1" for line in kept.said) == BURST
    now.seconds += WINDOW + 1
    logger.handlers[0].settle()  # type: ignore[attr-defined]
    assert "process 49 of 3f2a91bc-0031 hangs (and 44 more like it in 5 min)" in kept.said
    told = len(kept.said)
    now.seconds += WINDOW + 1
    logger.handlers[0].settle()  # type: ignore[attr-defined]
    assert len(kept.said) == told  # nothing came since: nothing is said


def test_it_goes_on_with_a_line_for_each_window_and_tells_the_rest_at_the_end(
    log: tuple[logging.Logger, Kept, Now],
) -> None:
    logger, kept, now = log
    for _ in range(int(3 * WINDOW)):
        logger.error("100% of the disk is full")
        now.seconds += 1
    assert len(kept.said) == BURST + 2
    logger.handlers[0].close()
    assert kept.said[-1].startswith("100% of the disk is full (and ")


def test_what_is_critical_always_passes(log: tuple[logging.Logger, Kept, Now]) -> None:
    logger, kept, _ = log
    for _ in range(2 * BURST):
        logger.critical("the end")
    assert kept.said == ["the end"] * (2 * BURST)
