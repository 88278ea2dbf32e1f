"""Numbers and words for people."""

from __future__ import annotations

import pytest

from monitor.client import format as words


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0, "0"),
        (0.04, "0"),
        (3.44, "3.4"),
        (9.94, "9.9"),
        (9.96, "10"),
        (999.4, "999"),
        (999.6, "1k"),
        (1234, "1.2k"),
        (9949, "9.9k"),
        (9951, "10k"),
        (999_600, "1M"),
        (5_600_000, "5.6M"),
        (-1234, "-1.2k"),
    ],
)
def test_number(value: float | None, text: str) -> None:
    assert words.number(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (0.0084, "8.4 ms"), (0.2104, "210 ms"), (1.238, "1.24 s"), (38, "38 s"), (300, "5 min")],
)
def test_seconds(value: float | None, text: str) -> None:
    assert words.seconds(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (-3, "0 s"),
        (119, "119 s"),
        (120, "2 min"),
        (7800, "2 h 10 min"),
        (36_000, "10 h"),
        (12.4 * 86400, "12 d"),
    ],
)
def test_duration(value: float | None, text: str) -> None:
    assert words.duration(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (0.0, "0 /s"), (0.003, "<0.01 /s"), (0.03, "0.03 /s"), (0.06, "0.1 /s"), (1234, "1.2k /s")],
)
def test_a_rate_that_is_small_is_not_zero(value: float | None, text: str) -> None:
    assert words.rate(value, "/s") == text


def test_shares_below_one_percent_are_not_zero() -> None:
    assert words.percent(0.004) == "0.4 %"
    assert words.percent(0.0) == "0 %"
    assert words.percent(None) == "–"


def test_sizes_and_throughputs() -> None:
    assert words.size(1536) == "1.5 KiB"
    assert words.size(2 * 1024**4) == "2.0 TiB"
    assert words.size(0) == "0 B"
    assert words.throughput(1_200_000) == "1.2 MB/s"
    assert words.throughput(0) == "0 B/s"
    assert words.throughput(None) == "–"


def test_a_half_that_is_absent_is_a_dash() -> None:
    assert words.used_of(412, 700, "W") == "412/700 W"
    assert words.used_of(None, 700, "W") == "–/700 W"
    assert words.used_of(412, None, "W") == "412 W"
    assert words.used_of(None, None, "W") == "–"


def test_clean_takes_all_that_a_terminal_would_obey() -> None:
    evil = "a\x1b[31mb\x9b2J\x07\r\nc\u202ed\u200be\u2028f\x7f"
    cleaned = words.clean(evil)
    assert cleaned == "a·[31mb·2J···c·d·e·f·"
    assert words.clean("87 °C, 日本") == "87 °C, 日本"
    assert len(words.clean("x" * 10_000)) == 400


def test_fit_counts_wide_characters_as_two_cells() -> None:
    assert words.cells("日本") == 4
    assert words.fit("日本", 6) == "日本  "
    assert words.fit("日本語", 4) == "日… "
    assert words.cells(words.fit("日本語", 4)) == 4
    assert words.fit("abcdef", 4) == "abc…"
    assert words.fit("ab", 4, right=True) == "  ab"


def test_short_range() -> None:
    assert words.short_range(["3", "0", "1", "2", "6"]) == "0-3,6"
    assert words.short_range(["GPU-a", "1"]) == "GPU-a,1"
    assert words.short_range([]) == ""


def test_colours_are_the_terminals_matter_unless_nobody_wants_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert words.wants_color() is None
    monkeypatch.setenv("NO_COLOR", "1")
    assert words.wants_color() is False
