"""What a soak says of how things grew, and how its file is read."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

import pytest

from tests.bench.slopes import Look, Soaked, exponent, read, slope


def _looks(hours: float) -> list[Look]:
    rng = random.Random(1)
    times = [hours * number / 600 for number in range(601)]
    return [
        {
            "hours": at,
            "leaks": 10 + at + rng.random(),
            "step": 10 + rng.random() + (at > hours / 2),
            "flat": 10 + rng.random(),
            "gone": 10 - at + rng.random(),
            "constant": 3.0,
        }
        for at in times
    ]


def test_the_exponent_of_a_power_is_that_power() -> None:
    assert exponent((1, 8, 64), (3.0, 3.0 * 8**1.5, 3.0 * 64**1.5)) == pytest.approx(1.5)
    assert exponent((1, 2, 4), (5.0, 5.0, 5.0)) == pytest.approx(0)
    # What is paid once hides a part of it.
    assert 0.3 < exponent((1, 10, 100), (11.0, 20.0, 110.0)) < 0.6
    assert math.isnan(exponent((1, 2), (0.0, 1.0)))
    assert math.isnan(exponent((4,), (3.0,)))
    assert math.isnan(exponent((1, 1), (1.0, 1.0)))


def test_the_slope_of_a_line_is_found_within_its_interval() -> None:
    rng = random.Random(2)
    times = [float(number) for number in range(400)]
    steep, half = slope(times, [2 + 0.5 * at + rng.gauss(0, 1) for at in times])
    assert abs(steep - 0.5) <= half < 0.01


def test_each_thing_is_flat_or_grows_or_falls_in_both_parts() -> None:
    rows = {row[0]: (row[3], row[5]) for row in Soaked(_looks(9.0)).rows()}
    assert rows["leaks"] == ("grows", "grows")
    assert rows["step"] == ("grows", "flat")
    assert rows["flat"] == ("flat", "flat")
    assert rows["gone"] == ("falls", "falls")
    assert rows["constant"] == ("flat", "flat")


def test_what_came_and_stayed_is_seen_in_the_fifths() -> None:
    (row,) = (row for row in Soaked(_looks(9.0)).rows() if row[0] == "step")
    assert [round(float(mean)) for mean in row[1].split(" / ")] == [10, 10, 11, 12, 12]


def test_a_soak_that_was_short_says_nothing_of_slopes() -> None:
    looks: list[Look] = [{"hours": number / 100, "files": 3.0} for number in range(5)]
    assert Soaked(looks).rows()[0] == ("files", "3.0 / 3.0 / 3.0 / 3.0 / 3.0", "", "too few", "", "too few")


def test_nothing_that_clients_did_is_left_out() -> None:
    found = Soaked(_looks(1.0), did={f"kind{n}": 1 for n in range(9)}, failed={"query: ReadTimeout": 2})
    rows = {row[0]: row[1:3] for row in found.rows()}
    assert rows["what clients did"] == ("9", ", ".join(f"kind{n} 1" for n in range(9)))
    assert rows["what they could not do"] == ("2", "query: ReadTimeout 2")


def test_a_soaks_file_is_read_back_and_one_that_has_no_end_is_refused(tmp_path: Path) -> None:
    found = Soaked(_looks(1.0), "Measured", {"query": 2}, {}, 3, 1, 0)
    file = tmp_path / "soak.jsonl"
    lines = [json.dumps(one) for one in (*found.looks, found.ended())]
    file.write_text("\n".join(lines))
    assert read(file) == found
    file.write_text("\n".join(lines[:-1]))
    with pytest.raises(ValueError, match=r"soak\.jsonl: this soak has not ended"):
        read(file)
