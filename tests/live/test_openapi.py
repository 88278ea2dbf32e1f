"""schemathesis reads a daemon's description of its API and asks for all of it: answers are as described, none is 500.
``make fuzz`` does so for longer."""

from __future__ import annotations

import pytest

from tests.fuzz import api
from tests.live.cache import InstallError

pytestmark = pytest.mark.live


def test_a_daemon_answers_as_its_description_says() -> None:
    try:
        report = api.run(None, phases="coverage")
    except InstallError as error:  # as on a machine without the package index
        pytest.skip(str(error))
    assert report.failures == []
    tried, _, described = report.operations.partition(" of ")
    assert int(described) - int(tried) == len(api.LEFT_OUT)
    assert report.requests > 200
