"""Numbers and times as Prometheus writes and reads them."""

import asyncio
import math

import pytest
from starlette.requests import Request
from starlette.types import Message

from monitor.api.http import BadRequest, bounded_body, go_float, parse_step_ms, parse_time_ms, rfc3339


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.0, "1"),
        (0.1, "0.1"),
        (-0.0, "-0"),
        (1e20, "100000000000000000000"),
        (1e21, "1e+21"),
        (1e-6, "0.000001"),
        (1e-7, "1e-07"),
        (1.5e-5, "0.000015"),
        (-2.5e-5, "-0.000025"),
        (1.2345678912345678e16, "12345678912345678"),
        (123456789.125, "123456789.125"),
        (1.7976931348623157e308, "1.7976931348623157e+308"),
        (math.inf, "+Inf"),
        (-math.inf, "-Inf"),
        (math.nan, "NaN"),
    ],
)
def test_numbers_are_written_as_go_does(value: float, text: str) -> None:
    assert go_float(value) == text


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("0", 0),
        ("1700000000.25", 1_700_000_000_250),
        ("1.7e9", 1_700_000_000_000),
        ("2023-11-14T22:13:20Z", 1_700_000_000_000),
        ("2023-11-14T23:13:20.250+01:00", 1_700_000_000_250),
    ],
)
def test_times_are_read(text: str, ms: int) -> None:
    assert parse_time_ms(text, "time") == ms


@pytest.mark.parametrize("text", ["", "now", "nan", "1e400", "2023-11-14", "2023-11-14T22:13:20", "0x10", "1_000"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(BadRequest, match='invalid parameter "time"'):
        parse_time_ms(text, "time")


def test_steps() -> None:
    assert [parse_step_ms(text, "step") for text in ("15", "0.5", "1m30s")] == [15_000, 500, 90_000]
    with pytest.raises(BadRequest, match='invalid parameter "step"'):
        parse_step_ms("soon", "step")


def test_moments_are_written_as_prometheus_does() -> None:
    assert rfc3339(1_700_000_000_250) == "2023-11-14T22:13:20.25Z"
    assert rfc3339(1_700_000_000_000) == "2023-11-14T22:13:20Z"


def test_digits_of_other_scripts_are_no_numbers() -> None:
    with pytest.raises(BadRequest):
        parse_time_ms("٣", "time")


def test_a_client_that_leaves_before_its_request_is_whole_is_no_fault_of_ours() -> None:
    async def receive() -> Message:
        return {"type": "http.disconnect"}

    request = Request({"type": "http", "method": "POST", "headers": []}, receive)
    with pytest.raises(BadRequest, match="left"):
        asyncio.run(bounded_body(request))
