"""Who is told."""

from __future__ import annotations

from dataclasses import replace

import pytest

from monitor.config import Receiver
from monitor.notify.records import Kind
from monitor.notify.route import kind_of, receivers_of
from monitor.rules.transition import State
from tests.notify.parts import alert, firing

RECEIVERS = {"ops": Receiver("ops", ()), "page": Receiver("page", (), send_resolved=False)}


@pytest.mark.parametrize(
    ("before", "after", "kind"),
    [
        ("inactive", "pending", None),
        ("pending", "firing", "firing"),
        ("inactive", "firing", "firing"),
        ("firing", "firing", None),
        ("firing", "inactive", "resolved"),
        ("firing", "pending", "resolved"),
        ("pending", "inactive", None),
    ],
)
def test_what_a_transition_is_to_a_receiver(before: State, after: State, kind: Kind | None) -> None:
    assert kind_of(replace(firing(), before=before, after=after)) == kind


def test_all_of_the_route_get_an_alert_once_and_in_its_order() -> None:
    assert receivers_of(alert(), "firing", ["page", "ops", "page", "gone"], RECEIVERS) == ["page", "ops"]


def test_an_end_goes_to_those_who_want_it() -> None:
    assert receivers_of(alert(), "resolved", ["page", "ops"], RECEIVERS) == ["ops"]


def test_severity_none_is_never_sent() -> None:
    assert receivers_of(alert(severity="none"), "firing", ["ops"], RECEIVERS) == []
