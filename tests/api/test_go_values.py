"""Times, durations and numbers as Prometheus 3.5's API reads them. What is expected here, it answered itself."""

from __future__ import annotations

import math

import pytest

from monitor.api.go_values import (
    MOST,
    Moment,
    parse_duration_ns,
    parse_float,
    parse_moment,
    parse_truth,
    parse_whole,
    unescaped_label,
)


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("0", 0),
        ("1700000000.25", 1_700_000_000_250),
        ("1.7e9", 1_700_000_000_000),
        ("-5", -5_000),
        ("5.", 5_000),
        ("1_000", 1_000_000),
        ("0x1p4", 16_000),
        ("2023-11-14T22:13:20Z", 1_700_000_000_000),
        ("2023-11-14T23:13:20.250+01:00", 1_700_000_000_250),
        ("2024-01-01T00:00:00,5Z", 1_704_067_200_500),
        ("2024-02-29T00:00:00-00:30", 1_709_166_600_000),
        # What overflows.
        ("NaN", -9_223_372_036_854),
        ("-Inf", -9_223_372_036_854),
        ("1e20", 0),
        ("1e13", 1_864_712_049_423),
        ("1e18", -6_930_898_827_444),
        ("9223372036854775", 192),
        ("0000-01-01T00:00:00Z", -6_826_986_978_871),
        ("9999-12-31T23:59:59Z", -4_852_116_232_933),
        ("-292273086-05-16T16:47:06Z", 6_795_364_580_679),
        ("292277025-08-18T07:12:54.999999999Z", -6_795_364_579_679),
    ],
)
def test_times_of_queries(text: str, ms: int) -> None:
    moment = parse_moment(text)
    assert moment is not None
    assert moment.query_ms == ms


@pytest.mark.parametrize(
    "text",
    [
        "", "now", "+nan", "1e400", "0x10", "1__0", "_1", "1_.5", "٣", "1d", "2023-11-14", "2023-11-14T22:13:20",
        "2024-01-01T00:00:00z", "2024-01-01t00:00:00Z", "2024-01-01T00:00:00+0100", "2024-01-01T24:00:00Z",
        "2024-02-30T00:00:00Z", "2023-02-29T00:00:00Z", "20240101T000000Z", "2024-01-01T00:00Z",
        "2024-W01-1T00:00:00Z", "2024-01-01T00:00:60Z", "2024-00-01T00:00:00Z", " 1",
    ],
)  # fmt: skip
def test_what_is_no_time(text: str) -> None:
    assert parse_moment(text) is None


def test_an_order_that_overflows_too() -> None:
    moments = {text: parse_moment(text) for text in ("5", "1e13", "1e20", "NaN")}
    five, far, further, none = moments.values()
    assert five is not None
    assert far is not None
    assert further is not None
    assert none is not None
    assert five.before(far)
    assert further.before(five)
    assert none.before(five)
    assert far.since(five) == (1 << 63) - 1
    assert five.since(far) == -(1 << 63)
    assert Moment.of(1, 0).since(Moment.of(0, 1)) == 999_999_999
    assert five.before(MOST)


def test_labels_take_times_in_another_way() -> None:
    moment = parse_moment("9999-12-31T23:59:59.5Z")
    assert moment is not None
    assert moment.label_ms == 253_402_300_799_500
    assert Moment.of(-1, 500_000_000).label_ms == Moment.of(-1, 500_000_000).query_ms == -500


def test_durations() -> None:
    found = [parse_duration_ns(text) for text in ("15", "0.5", "1m30s", "0s", "-1", "1_0", "1w2d")]
    assert found == [15 * 10**9, 5 * 10**8, 90 * 10**9, 0, -(10**9), 10**10, 9 * 86_400 * 10**9]
    assert parse_duration_ns("NaN") < 0
    for text, why in (("1h30", ""), ("", ""), ("1.5h", ""), ("Inf", " It overflows int64"), ("9223372037", " It")):
        with pytest.raises(ValueError, match=rf'^cannot parse "{text}" to a valid duration' + (r"\." if why else "$")):
            parse_duration_ns(text)


def test_numbers() -> None:
    assert [parse_float(text) for text in ("1_0.5e+1", ".5", "0X_1.8P1", "-inf", "Infinity")] == [
        105.0, 0.5, 3.0, -math.inf, math.inf
    ]  # fmt: skip
    assert parse_whole("+12") == 12
    for text, why in (("1.5", "invalid syntax"), ("1_0", "invalid syntax"), ("9" * 20, "value out of range")):
        with pytest.raises(ValueError, match=rf'^strconv.Atoi: parsing "{text}": {why}$'):
            parse_whole(text)
    with pytest.raises(ValueError, match="out of range"):
        parse_whole("9" * 5000)
    assert (parse_truth("T"), parse_truth("false")) == (True, False)
    with pytest.raises(ValueError, match=r'^strconv.ParseBool: parsing "odd": invalid syntax$'):
        parse_truth("odd")


def test_labels_that_are_escaped() -> None:
    assert unescaped_label("gpu") == "gpu"
    assert unescaped_label("U__gpu") == "gpu"
    assert unescaped_label("U__a_2e_b__c") == "a.b_c"
    for broken in ("U__a_", "U__a_zz_", "U__a_110000_", "U__a_d800_"):
        assert unescaped_label(broken) == broken
