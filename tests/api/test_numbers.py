"""Numbers of ``/metrics``: as every exporter writes them, and none changed by it."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.utils import floatToGoString

from monitor.api.exposition import _format
from tests.properties import settings_for


@settings_for(200)
@given(st.floats() | st.integers(-(2**60), 2**60).map(float) | st.decimals(allow_nan=False, places=3).map(float))
def test_a_number_is_written_as_the_official_client_does(value: float) -> None:
    assert _format(value) == floatToGoString(value)  # type: ignore[no-untyped-call]
    assert math.isnan(value) or float(_format(value)) == value


def test_from_a_million_it_has_an_exponent() -> None:
    assert [_format(value) for value in (999999.5, 1e6, 1234567.25, -1e7)] == [
        "999999.5",
        "1e+06",
        "1.23456725e+06",
        "-10000000.0",
    ]
