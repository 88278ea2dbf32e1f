"""The routes as Alertmanager's configuration: what is written is read back as what it was."""

from __future__ import annotations

from typing import Any

import yaml

from monitor.api.alertmanager_config import config_text
from monitor.config import loads

RECEIVERS = """
receivers:
- {name: chat, apprise: 'json://secret-place:1/x'}
- {name: pager, webhook: {url: 'http://secret-place:2/y', bearer_token: secret-token}}
"""
ROUTES = """
route:
  receiver: chat
  group_by: [alertname]
  group_wait: 10s
  routes:
  - receiver: pager
    matchers: ['severity="critical"', 'server!~"a|b\\d"']
    group_by: ['...']
    continue: true
    repeat_interval: 1h30m
    routes:
    - {receiver: chat, matchers: ['gpu=""', 'name="say \\"hi\\""'], group_by: ['...'], repeat_interval: 1h30m}
  - receiver: chat
    mute_time_intervals: [night, feast]
    active_time_intervals: [work]
    group_interval: 5m
time_intervals:
- name: night
  time_intervals:
  - {times: [{start_time: '22:15', end_time: '24:00'}, {start_time: '00:00', end_time: '06:00'}], location: Local}
- name: feast
  time_intervals:
  - {days_of_month: ['1:3', '-1', '-7:-5'], months: [december, 'march:may'], years: ['2026', '2028:2030']}
- name: work
  time_intervals: [{weekdays: ['monday:friday', sunday], location: Europe/Berlin}]
inhibit_rules:
- {source_matchers: [alertname=A], target_matchers: ['alertname=~"B.*"'], equal: [instance, gpu]}
- {source_matchers: [alertname=C], target_matchers: [alertname=D]}
"""


def written(text: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(config_text(loads(text)))
    return found


def test_what_is_written_is_read_back_as_what_it_was() -> None:
    config = loads(RECEIVERS + ROUTES)
    parts = {key: value for key, value in written(RECEIVERS + ROUTES).items() if key != "receivers"}
    again = loads(RECEIVERS + yaml.safe_dump(parts))
    assert again.route == config.route
    assert again.time_intervals == config.time_intervals
    assert again.inhibit_rules == config.inhibit_rules


def test_no_secret_is_written() -> None:
    assert "secret" not in config_text(loads(RECEIVERS + ROUTES))


def test_several_receivers_of_a_route_are_one_that_is_named_after_them() -> None:
    found = written(RECEIVERS + "route: {receiver: [chat, pager]}\n")
    assert found["route"]["receiver"] == "chat, pager"
    assert [one["name"] for one in found["receivers"]] == ["chat", "pager", "chat, pager"]


def test_without_receivers_there_is_a_route_to_nobody() -> None:
    found = written("node: {hostname: n1}\n")
    assert found["route"] == {"receiver": "nobody"}
    assert found["receivers"] == [{"name": "nobody"}]
    assert found["inhibit_rules"], "those that are shipped"
