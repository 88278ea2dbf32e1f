"""What a run's end looks like on a terminal: numbers to the digit that is compared, and their units."""

from __future__ import annotations

import io

import msgspec
import pytest
from rich.console import Console

from monitor.commands.probe_view import headline, per_second, steps_table
from tests.probes.made_results import made


@pytest.mark.parametrize(
    ("value", "words"), [(None, "–"), (3.44, "3.4"), (113.2, "113"), (1075.4, "1,075"), (1099.0, "1,099")]
)
def test_tokens_of_a_second_are_to_the_token(value: float | None, words: str) -> None:
    assert per_second(value) == words


def test_steps_that_differ_by_little_are_told_apart() -> None:
    one = made("throughput").steps[0]
    steps = [
        msgspec.structs.replace(one, metrics=msgspec.structs.replace(one.metrics, output_throughput=value))
        for value in (1075.4, 1099.3)
    ]
    console = Console(width=120, file=io.StringIO(), record=True)
    console.print(steps_table(steps, 120))
    shown = console.export_text()
    assert " 1,075 " in shown
    assert " 1,099 " in shown


def test_figures_say_their_units() -> None:
    figures = {
        "output_throughput": 1099.3,
        "request_throughput": 34.34,
        "ttft_p99_ms": 22.44,
        "joules_per_token": 0.0336,
        "peak_memory_bytes": 3 * 2.0**30,
        "knee": 16.0,
    }
    assert headline(figures) == (
        "output_throughput 1,099 tok/s  request_throughput 34.34 req/s  ttft_p99_ms 22.44 ms  "
        "joules_per_token 0.0336 J/tok  peak_memory_bytes 3.0 GiB  knee 16"
    )
