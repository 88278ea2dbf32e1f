"""Numbers and times as Prometheus writes and reads them."""

import asyncio
import math

import pytest
from starlette.requests import Request
from starlette.types import Message

from monitor.api.http import BadRequest, bounded_body, go_float, parse_step_ns, parse_time, rfc3339


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


def test_what_is_no_time_and_no_step() -> None:
    with pytest.raises(BadRequest, match=r'^invalid parameter "start": cannot parse "soon" to a valid timestamp$'):
        parse_time("soon", "start")
    with pytest.raises(BadRequest, match=r'^invalid parameter "step": cannot parse "soon" to a valid duration$'):
        parse_step_ns("soon", "step")


def test_moments_are_written_as_prometheus_does() -> None:
    assert rfc3339(1_700_000_000_250) == "2023-11-14T22:13:20.25Z"
    assert rfc3339(1_700_000_000_000) == "2023-11-14T22:13:20Z"


def test_a_client_that_leaves_before_its_request_is_whole_is_no_fault_of_ours() -> None:
    async def receive() -> Message:
        return {"type": "http.disconnect"}

    request = Request({"type": "http", "method": "POST", "headers": []}, receive)
    with pytest.raises(BadRequest, match="left"):
        asyncio.run(bounded_body(request))
