"""Who is told: the walk through the tree, what groups are, and who is not woken.

The walk is also held against amtool, in ``tests/live/test_amtool_routes.py``.
"""

from __future__ import annotations

import pytest

from monitor.config import loads
from monitor.notify.records import Kind
from monitor.notify.route import Route, every_route, kind_of, routes_of, wants
from monitor.records import replace
from monitor.rules.transition import State
from monitor.samples import Labels, labels_of
from tests.notify.parts import firing


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


def tree(text: str) -> Route:
    names = [f"{{name: {name}, apprise: 'json://x'}}" for name in ("ops", "page", "mail", "wide")]
    route = loads(
        f"receivers: [{', '.join(names)}]\ntime_intervals: [{{name: night, time_intervals: [{{}}]}}]\n{text}"
    ).route
    assert route is not None
    return route


def of(**labels: str) -> Labels:
    return labels_of(labels)


TREE = """
route:
  receiver: ops
  routes:
    - matchers: [severity="critical"]
      receiver: page
      continue: true
      routes:
        - {matchers: [gpu=~".+"], receiver: wide}
    - matchers: [team="infra"]
      receiver: mail
      routes:
        - {matchers: [gpu="0"], receiver: wide, continue: true}
        - {matchers: [gpu=~"0|1"]}
    - {matchers: [severity="critical", team!="infra"], receiver: mail}
"""


@pytest.mark.parametrize(
    ("labels", "idents", "receivers"),
    [
        (of(a="b"), ["0"], ["ops"]),
        (of(severity="critical"), ["0/0", "0/2"], ["page", "mail"]),
        (of(severity="critical", gpu="3"), ["0/0/0", "0/2"], ["wide", "mail"]),
        (of(severity="critical", team="infra"), ["0/0", "0/1"], ["page", "mail"]),
        (of(team="infra", gpu="0"), ["0/1/0", "0/1/1"], ["wide", "mail"]),
        (of(team="infra", gpu="1"), ["0/1/1"], ["mail"]),
        (of(team="infra", gpu="2"), ["0/1"], ["mail"]),
    ],
)
def test_the_walk(labels: Labels, idents: list[str], receivers: list[str]) -> None:
    found = routes_of(tree(TREE), labels)
    assert [route.ident for route in found] == idents
    assert [name for route in found for name in route.receivers] == receivers


def test_every_route_is_there_once() -> None:
    assert [route.ident for route in every_route(tree(TREE))] == ["0", "0/0", "0/0/0", "0/1", "0/1/0", "0/1/1", "0/2"]


def test_a_child_has_from_its_parent_what_it_does_not_say() -> None:
    root = tree("""
route:
  receiver: [ops, page]
  group_by: [server, alertname]
  group_wait: 1s
  repeat_interval: 1d
  routes:
    - matchers: [a=b]
      group_by: ['...']
      group_interval: 2m
      mute_time_intervals: [night]
      routes:
        - {group_wait: 0s, receiver: mail}
        - {group_by: [], active_time_intervals: [night]}
""")
    child = root.routes[0]
    assert (root.receivers, root.group_by, root.group_wait_ms) == (("ops", "page"), ("alertname", "server"), 1_000)
    assert (root.group_interval_ms, root.repeat_interval_ms) == (60_000, 86_400_000)
    assert (child.receivers, child.group_by, child.group_wait_ms) == (("ops", "page"), None, 1_000)
    assert (child.group_interval_ms, child.repeat_interval_ms) == (120_000, 86_400_000)
    first, second = child.routes
    assert (first.receivers, first.group_by, first.group_wait_ms, first.group_interval_ms) == (
        ("mail",),
        None,
        0,
        120_000,
    )
    assert second.group_by == ()
    # When it is mute is its own, as in Alertmanager.
    assert (child.mute_time_intervals, first.mute_time_intervals) == (("night",), ())
    assert (second.active_time_intervals, second.mute_time_intervals) == (("night",), ())


def test_the_defaults_are_those_of_one_node() -> None:
    route = loads("receivers: [{name: a, apprise: 'json://x'}]").route
    assert route == Route("0", ("a",), (), False, ("alertname",), 5_000, 60_000, 4 * 3_600_000)
    assert tree("route: {receiver: ops}") == Route("0", ("ops",))


def test_what_an_alert_s_group_is_called() -> None:
    labels = of(alertname="KvCacheFull", severity="critical", server='a"b', gpu="0")
    root = tree(TREE)
    assert root.group_labels(labels) == of(alertname="KvCacheFull")
    assert root.key(labels) == '{}:{alertname="KvCacheFull"}'
    assert root.routes[0].routes[0].key(labels) == '{}/{severity="critical"}/{gpu=~".+"}:{alertname="KvCacheFull"}'
    assert root.routes[2].key(of(a="b")) == '{}/{severity="critical",team!="infra"}:{}'
    all_labels = tree("route: {receiver: ops, group_by: ['...']}")
    assert all_labels.group_labels(labels) == labels
    two = tree("route: {receiver: ops, group_by: [server, alertname, absent]}")
    assert two.key(labels) == r'{}:{alertname="KvCacheFull", server="a\"b"}'
    assert tree("route: {receiver: ops, group_by: []}").key(labels) == "{}:{}"


def test_the_order_of_matchers_makes_no_other_group() -> None:
    keys = [
        tree(f"route: {{receiver: ops, routes: [{{matchers: {matchers}}}]}}").routes[0].key(of(alertname="x"))
        for matchers in ("[b=1, 'a=~2']", "['a=~2', b=1]", "['a=~2,b=1']")
    ]
    assert keys == ['{}/{a=~"2",b="1"}:{alertname="x"}'] * 3


@pytest.mark.parametrize(
    ("matchers", "pager", "other"),
    [
        # The severities that are told, of critical, warning, info, none, a word of one's own, and no severity at all.
        ("[]", {"critical", "page", ""}, {"critical", "warning", "info", "page", ""}),
        ("[gpu=~'.+']", {"critical", "page", ""}, {"critical", "warning", "info", "page", ""}),
        ("['severity=~\"critical|warning\"']", *[{"critical", "warning", "info", "none", "page", ""}] * 2),
        ("[severity!=info]", *[{"critical", "warning", "info", "page", ""}] * 2),
        ("['severity=~\".*\"']", *[{"critical", "warning", "info", "page", ""}] * 2),
        ("[alertname=Watchdog]", *[{"critical", "warning", "info", "none", "page", ""}] * 2),
        ("[alertname!=Watchdog]", {"critical", "page", ""}, {"critical", "warning", "info", "page", ""}),
    ],
)
def test_nobody_is_woken_for_a_warning_that_was_not_asked_for(matchers: str, pager: set[str], other: set[str]) -> None:
    severities = ("critical", "warning", "info", "none", "page", "")
    # What a route on the way asks for is asked for below it.
    route = tree(f"route: {{receiver: ops, routes: [{{matchers: {matchers}, routes: [{{matchers: [a=b]}}]}}]}}").routes[
        0
    ]
    for one in (route, route.routes[0]):
        assert {severity for severity in severities if wants(one, True, severity)} == pager
        assert {severity for severity in severities if wants(one, False, severity)} == other


def test_a_severity_is_a_warning_however_it_is_written() -> None:
    assert not wants(Route("0", ("a",)), True, "Warning")
