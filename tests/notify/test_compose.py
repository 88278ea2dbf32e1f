"""From a batch to a notice."""

from __future__ import annotations

from monitor.notify.compose import ident_of, notice_of, trial_notice
from monitor.notify.groups import Batch, Group, Place
from monitor.notify.records import Delivery, event_id
from monitor.notify.route import Route
from monitor.records import replace
from tests.notify.parts import T0, alert, firing, resolved

ROUTE = Route("0", ("ops",))


def group(name: str) -> Group:
    labels = alert(name).labels
    return Group(Place(ROUTE.key(labels), ROUTE.group_labels(labels), ROUTE), T0)


def delivery(name: str, ends: bool = False) -> Delivery:
    change = resolved(name) if ends else firing(name)
    return Delivery(event_id(change), "ops", "resolved" if ends else "firing", change)


def test_what_fires_comes_first_as_it_is_now_and_what_ended_last() -> None:
    known = alert("Hot", gpu="1")
    hotter = replace(alert("Hot"), value=99.0)
    batch = Batch((group("Hot"),), (delivery("Old", ends=True), delivery("Hot")), (known.key,))
    current = {one.key: one for one in (known, hotter)}
    notice = notice_of(batch, current, "ops", "node1", T0, external_url="http://x", unrecorded=False)
    assert [(e.alert.rule, e.kind, e.new) for e in notice.entries] == [
        ("Hot", "firing", True),
        ("Hot", "firing", False),
        ("Old", "resolved", True),
    ]
    assert notice.entries[0].alert.value == 99.0
    assert notice.entries[0].event_id == event_id(firing("Hot")), "its value is no part of its id"
    assert notice.group_key == '{}:{alertname="Hot"}'


def test_an_id_is_the_same_when_the_same_is_sent_again() -> None:
    assert ident_of(["a"], 0) == "a"
    assert ident_of(["a", "b"], 0) == ident_of(["b", "a"], 0)
    assert len({ident_of(["a", "b"], 0), ident_of(["a", "b"], 1), ident_of(["a"], 1), "a"}) == 4


def test_several_groups_have_no_labels_in_common_to_tell() -> None:
    batch = Batch((group("A"), group("B")), (delivery("A"), delivery("B")), (), unreachable_since_ms=T0 - 1)
    notice = notice_of(batch, {}, "ops", "node1", T0, external_url="", unrecorded=True)
    assert (notice.group_labels, notice.group_key) == ((), "{}:{}")
    assert (notice.unreachable_since_ms, notice.unrecorded) == (T0 - 1, True)


def test_a_trial_says_that_it_is_one() -> None:
    notice = trial_notice("ops", "node1", "node1:9519", T0, "")
    assert "test" in notice.entries[0].alert.annotations["summary"]
