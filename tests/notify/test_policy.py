"""Who is told of what, and what keeps it back."""

from __future__ import annotations

import pytest

from monitor.config import Webhook
from monitor.matchers import parse_matchers
from monitor.notify.inhibition import InhibitRule
from monitor.notify.policy import Desk, Policy, keeps_incidents, pages
from monitor.notify.route import Route
from monitor.notify.silences import Silence, Silences
from monitor.records import replace
from tests.notify.parts import T0, To, Url, alert

OPS = To("ops", (Url("json://ops"),))
CHAT = To("chat", (Url("slack://a/b/c"),))
ROOT = Route("0", ("ops",))


def desk(route: Route | None, *receivers: To, rules: tuple[InhibitRule, ...] = ()) -> Desk:
    return Desk(Policy(receivers, route, rules), Silences())


def test_without_a_route_nobody_is_told() -> None:
    assert desk(None).places(alert().labels) == {}


def test_where_two_routes_lead_to_one_receiver_the_first_tells_it() -> None:
    first = Route("0/0", ("chat", "ops"), parse_matchers('gpu="3"'), continues=True)
    second = Route("0/1", ("ops",), parse_matchers('gpu=~".+"'))
    places = desk(replace(ROOT, routes=(first, second)), OPS, CHAT).places(alert().labels)
    assert {name: place.route.ident for name, place in places.items()} == {"chat": "0/0", "ops": "0/0"}


def test_a_receiver_that_no_route_leads_to_any_more_keeps_a_place_for_what_it_heard() -> None:
    place = desk(ROOT, OPS, CHAT).place("chat", alert().labels)
    assert place.route is ROOT
    assert place.key == ROOT.key(alert().labels)


def test_silences_and_inhibition_are_both_told() -> None:
    rule = InhibitRule(parse_matchers('alertname="TooHot"'), parse_matchers('alertname="Hot"'), ("gpu",))
    one = desk(ROOT, OPS, rules=(rule,))
    one.silences.load([Silence("x", parse_matchers('gpu="3"'), T0, T0 + 1000, "anna", "why")])
    source, target = alert("TooHot"), alert("Hot")
    one.update([source, target])
    found = one.suppression(target.labels, T0)
    assert (found.silenced_by, found.inhibited_by) == (("x",), (source.key,))
    assert not one.suppression(alert("Hot", gpu="4").labels, T0)
    assert not one.suppression(target.labels, T0 + 1000).silenced_by
    one.update([target])
    assert not one.suppression(target.labels, T0 + 1000)


@pytest.mark.parametrize(
    ("urls", "said", "expected"),
    [
        (("json://ops",), None, False),
        (("json://ops", "pagerduty://key@app"), None, True),
        (("json://ops",), True, True),
        (("pagerduty://key@app",), False, False),
        (("missing:",), None, False),
    ],
)
def test_a_receiver_pages_by_its_schemes_unless_the_file_says_otherwise(
    urls: tuple[str, ...], said: bool | None, expected: bool
) -> None:
    assert pages(To("x", tuple(Url(url) for url in urls), pages=said)) is expected


def test_who_keeps_incidents() -> None:
    assert keeps_incidents(To("x", (Url("json://ops"), Url("opsgenie://key"))))
    assert not keeps_incidents(OPS)
    assert not keeps_incidents(To("x", (), webhooks=(Webhook(Url("http://h/hook")),)))  # type: ignore[arg-type]
