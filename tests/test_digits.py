from __future__ import annotations

import pytest

from monitor.digits import by_number, is_whole


@pytest.mark.parametrize("text", ["0", "007", "9" * 18])
def test_what_int_takes_is_a_number(text: str) -> None:
    assert is_whole(text)
    assert int(text) >= 0


@pytest.mark.parametrize("text", ["", "²", "①", "٣", "-1", "1_0", " 1", "1.0", "9" * 5000])
def test_other_digits_and_numbers_beyond_64_bits_are_none(text: str) -> None:
    assert not is_whole(text)


def test_numbers_are_sorted_by_value_and_the_rest_after_them() -> None:
    assert sorted(["10", "²", "x", "9", ""], key=by_number) == ["9", "10", "", "x", "²"]
