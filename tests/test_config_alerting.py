"""gpumon.yaml's sections on who is told: receivers, routes, times, inhibition, Alertmanagers, heartbeats; and what
latencies are measured against."""

from __future__ import annotations

from pathlib import Path

import pytest

from monitor.config import AlertmanagerServer, Canary, ConfigError, Receiver, Secret, Webhook, loads
from monitor.matchers import parse_matchers
from monitor.notify.inhibition import InhibitRule

A = "receivers: [{name: a, apprise: 'json://x'}]\n"


def told(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        loads(text)
    return [str(problem) for problem in caught.value.problems]


def plain(value: str) -> Secret:
    return Secret("plain", value)


def test_receivers() -> None:
    config = loads(
        """
receivers:
  - name: all
    apprise: {env: SLACK}
    webhook: http://x/hook
    pages: true
    rate_limit: 5
    send_resolved: false
  - name: hooks
    webhook:
      - {file: hook-url}
      - url: https://y/
        headers: {X-Team: infra, X-Key: {env: KEY}}
        bearer_token: {file: token}
        max_alerts: 50
        ca_file: ca.pem
        insecure_skip_verify: true
route: {receiver: [all, hooks]}
""",
        "/etc/gpumon/gpumon.yaml",
    )
    assert config.receivers == (
        Receiver("all", (Secret("env", "SLACK"),), False, (Webhook(plain("http://x/hook")),), True, 5),
        Receiver(
            "hooks",
            (),
            True,
            (
                Webhook(Secret("file", "/etc/gpumon/hook-url")),
                Webhook(
                    plain("https://y/"),
                    (("X-Team", plain("infra")), ("X-Key", Secret("env", "KEY"))),
                    Secret("file", "/etc/gpumon/token"),
                    50,
                    Path("/etc/gpumon/ca.pem"),
                    True,
                ),
            ),
            None,
            20,
        ),
    )
    assert config.receivers[0].apprise[0].place == (4, 14)


def test_where_alerts_go_on_to() -> None:
    config = loads(
        """
alerting:
  evaluator: remote
  external_url: https://gpus.example.com/n1/
  external_labels: {site: b, rack: "7"}
  alertmanagers:
    - http://am-1:9093/
    - {url: "https://am-2/alertmanager", bearer_token: {env: AM}, ca_file: /ca, insecure_skip_verify: false}
heartbeat: [https://hc.example.com/uuid, {env: BEAT}]
api: {token: {file: /etc/gpumon/token}}
"""
    )
    assert (config.evaluator, config.external_url) == ("remote", "https://gpus.example.com/n1")
    assert config.external_labels == (("rack", "7"), ("site", "b"))
    assert config.alertmanagers == (
        AlertmanagerServer("http://am-1:9093"),
        AlertmanagerServer("https://am-2/alertmanager", Secret("env", "AM"), Path("/ca")),
    )
    assert config.heartbeats == (plain("https://hc.example.com/uuid"), Secret("env", "BEAT"))
    assert config.api.token == Secret("file", "/etc/gpumon/token")
    assert loads("heartbeat: https://x").heartbeats == (plain("https://x"),)


def test_a_file_that_says_nothing_sends_nothing_on() -> None:
    config = loads("")
    assert (config.evaluator, config.external_url, config.external_labels, config.alertmanagers) == (
        "local",
        "",
        (),
        (),
    )
    assert (config.heartbeats, config.api.token, config.route, config.time_intervals) == ((), None, None, {})


@pytest.mark.parametrize(
    ("canary", "expected"),
    [
        ("true", Canary(10.0, 30.0, "")),
        ("false", None),
        ("{}", Canary()),
        ("{deadline: 5s, still: 1m, model: m}", Canary(5.0, 60.0, "m")),
    ],
)
def test_the_canary(canary: str, expected: Canary | None) -> None:
    (server,) = loads(f"sources: {{vllm: {{servers: [{{url: 'http://a:1', canary: {canary}}}]}}}}").vllm_servers
    assert server.canary == expected


def test_a_server_that_does_not_say_so_has_no_canary() -> None:
    assert loads("sources: {vllm: {servers: ['http://a:1']}}").vllm_servers[0].canary is None


def test_targets_of_a_metric_take_the_place_of_its_defaults() -> None:
    itl = (("itl", "0.5", 0.05), ("itl", "0.99", 0.1))
    ttft = (("ttft", "0.95", 2.0), ("ttft", "0.99", 5.0))
    assert loads("").latency_targets == itl + ttft
    assert loads("sources: {vllm: {targets: {ttft: {p99: 1m, p50: 250ms}}}}").latency_targets == (
        *itl,
        ("ttft", "0.5", 0.25),
        ("ttft", "0.99", 60.0),
    )
    assert loads("sources: {vllm: {targets: {itl: {}}}}").latency_targets == ttft
    assert loads("sources: {vllm: {targets: {e2e: {p95: 30s}}}}").latency_targets == (
        ("e2e", "0.95", 30.0),
        *itl,
        *ttft,
    )


def test_inhibit_rules() -> None:
    rules = loads(
        """
inhibit_rules:
  - name: down
    source_matchers: [alertname=Down]
    target_matchers: ['severity=~"warning|info"', gpu!=""]
    equal: [instance, server]
"""
    ).inhibit_rules
    targets = parse_matchers('severity=~"warning|info",gpu!=""')
    assert rules == (InhibitRule(parse_matchers("alertname=Down"), targets, ("instance", "server")),)


def test_both_names_of_time_intervals() -> None:
    config = loads(
        "time_intervals: [{name: a, time_intervals: [{weekdays: [monday]}, {}]}]\n"
        "mute_time_intervals: [{name: b, time_intervals: [{months: ['1:3']}]}]"
    )
    assert {name: len(intervals) for name, intervals in config.time_intervals.items()} == {"a": 2, "b": 1}
    assert config.time_intervals["a"][0].weekdays == ((1, 1),)
    assert config.time_intervals["b"][0].months == ((1, 3),)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("receivers: [{name: a}]", '1:13: a receiver needs "apprise" or "webhook"'),
        ("receivers: [{name: a, apprise: []}]", '1:32: "apprise" holds no URL'),
        ("receivers: [{name: a, webhook: }]", '1:32: "webhook" holds no URL'),
        ("receivers: [{name: a, webhook: ftp://x}]", "1:32: this is no http or https URL"),
        ("receivers: [{name: a, webhook: http//x}]", "1:32: this is no http or https URL"),
        ("receivers: [{name: a, webhook: [{headers: {}}]}]", '1:33: a webhook needs a "url"'),
        ("receivers: [{name: a, webhook: [{url: http://x, haeders: {}}]}]", '1:49: unknown field "haeders"'),
        ("receivers: [{name: a, webhook: {url: http://x, headers: {a b: c}}}]", '1:58: "a b" is no name of an HTTP'),
        ("receivers: [{name: a, webhook: {url: http://x, headers: {a: c, A: d}}}]", '1:64: the header "A" stands here'),
        (
            'receivers: [{name: a, webhook: {url: http://x, headers: {a: "c\\nd"}}}]',
            "1:61: a header's value is one line",
        ),
        (
            "receivers: [{name: a, webhook: {url: http://x, bearer_token: t, headers: {Authorization: u}}}]",
            "1:75: give either this header or bearer_token",
        ),
        ("receivers: [{name: a, webhook: {url: http://x, max_alerts: -1}}]", "1:60: -1 is out of range"),
        ("receivers: [{name: a, apprise: 'json://x', rate_limit: 0}]", "1:56: 0 is out of range: 1 to 6000"),
        ("receivers: [{name: a, apprise: 'json://x', pages: maybe}]", '1:51: expected true or false, found "maybe"'),
        ("receivers: [{name: a, apprise: ''}]", "1:32: expected a text, found nothing between the quotes"),
        ("heartbeat: hc.example.com", "1:12: this is no http or https URL"),
        ("api: {token: {evn: X}}", '1:15: unknown field "evn"'),
        ("alerting: {evaluator: locale}", '1:23: "locale" is none of local, remote (did you mean "local"?)'),
        ("alerting: {alertmanagers: ['am:9093']}", '1:28: "am:9093" is not an http or https URL, such as http://alert'),
        ("alerting: {alertmanagers: ['http://u:hush@am']}", "1:28: a password has no place in this URL"),
        ("alerting: {alertmanagers: ['http://am', 'http://am/']}", "1:41: this Alertmanager stands here a second time"),
        ("alerting: {alertmanagers: [{bearer_token: x}]}", '1:28: an Alertmanager needs a "url"'),
        ("alerting: {alertmanagers: ['http://am?x=1']}", '1:28: "http://am?x=1": the URL ends before the ? or #'),
        ("alerting: {external_labels: {a-b: c}}", '1:30: "a-b" is no name of a label'),
        ("alerting: {external_labels: {a: c, a: d}}", '1:36: the label "a" stands here a second time'),
        ("alerting: {external_url: gpus}", '1:26: "gpus" is not an http or https URL'),
        ("sources: {vllm: {targets: {ttft: {95: 2s}}}}", '1:35: "95" is none of the percentiles p50, p95 and p99'),
        ("sources: {vllm: {targets: {ttft: {p0: 2s}}}}", '1:35: "p0" is none of the percentiles'),
        ("sources: {vllm: {targets: {ttft: {p95: 2}}}}", "1:40: expected a duration such as 30s or 5m"),
        ("sources: {vllm: {targets: {itl: {p50: 1s, p50: 2s}}}}", '1:43: the field "p50" stands here a second time'),
        ("sources: {vllm: {targets: {tpot: {}}}}", '1:28: unknown field "tpot"'),
        ("sources: {vllm: {servers: [{url: 'http://a:1', canary: 5}]}}", "1:56: expected true or false"),
        ("sources: {vllm: {servers: [{url: 'http://a:1', canary: {deadline: 1ms}}]}}", "1:67: 1ms is out of range"),
        (A + "route: {receiver: b}", '2:19: there is no receiver "b"'),
        (A + "route: {receiver: [a, a]}", '2:23: the receiver "a" stands here a second time'),
        (A + "route: {}", '2:8: a route needs a "receiver"'),
        (A + "route: {receiver: []}", '2:19: the first route needs a "receiver"'),
        ("route: {receiver: a}", '1:19: there is no receiver "a"'),
        (
            A + "route: {receiver: a, matchers: [a=b]}",
            '2:32: the first route has no "matchers": every alert comes to it',
        ),
        (A + "route: {receiver: a, continue: true}", '2:32: the first route has no "continue"'),
        (
            A + "route: {receiver: a, mute_time_intervals: [x]}",
            '2:43: the first route has no "mute_time_intervals": give them to a route below it',
        ),
        (
            A + "route: {receiver: a, routes: [{reciever: a}]}",
            '2:32: unknown field "reciever" (did you mean "receiver"?)',
        ),
        (
            A + "route: {receiver: a, routes: [{match: {a: b}}]}",
            '2:39: "match" is out of use: write `matchers: [\'LABEL=',
        ),
        (A + "route: {receiver: a, routes: [{match_re: {a: b}}]}", "write `matchers: ['LABEL=~\"REGEX\"']`"),
        (A + "route: {receiver: a, routes: [{matchers: [a]}]}", '2:43: "a" is no matcher: write LABEL="VALUE"'),
        (
            A + "route: {receiver: a, routes: [{matchers: [{a: b}]}]}",
            "2:43: a matcher is a text: put it in single quotes",
        ),
        (
            A + "route: {receiver: a, routes: [{matchers: ['a=~\"(\"']}]}",
            "2:43: a=~: error parsing regexp: missing closing )",
        ),
        (A + "route: {receiver: a, group_by: [x, x]}", "2:32: a label stands here a second time"),
        (A + "route: {receiver: a, group_by: [x, '...']}", '2:32: "..." stands for every label, and stands alone'),
        (A + "route: {receiver: a, group_by: ['']}", "2:33: a label's name is empty"),
        (A + "route: {receiver: a, group_interval: 0s}", "2:38: 0s is out of range"),
        (A + "route: {receiver: a, repeat_interval: 4 h}", '2:39: expected a duration such as 30s or 5m, found "4 h"'),
        (
            "time_intervals: [{name: nights, time_intervals: [{}]}]\n"
            + A
            + "route: {receiver: a, routes: [{mute_time_intervals: [night]}]}",
            '3:54: there is no time interval "night" (did you mean "nights"?)',
        ),
        ("time_intervals: [{time_intervals: [{}]}]", '1:18: a time interval needs a "name"'),
        ("time_intervals: [{name: a}]", '1:18: a time interval needs "time_intervals"'),
        (
            "time_intervals: [{name: a, time_intervals: [{}]}]\nmute_time_intervals: [{name: a, time_intervals: [{}]}]",
            '2:30: a second time interval called "a"',
        ),
        (
            "time_intervals: [{name: a, time_intervals: [{weekdays: [mon]}]}]",
            '1:57: "mon" is none of weekdays: write monday, or monday:friday (did you mean "monday"?)',
        ),
        (
            "time_intervals: [{name: a, time_intervals: [{times: [{start_time: 9:00, end_time: 10:00}]}]}]",
            '1:67: "9:00" is no time of day: write HH:MM, 00:00 to 24:00',
        ),
        (
            "time_intervals: [{name: a, time_intervals: [{times: [{start_time: 22:00, end_time: 06:00}]}]}]",
            "1:54: start_time is not before end_time: for a night, write two",
        ),
        (
            "time_intervals: [{name: a, time_intervals: [{times: [{start_time: 22:00}]}]}]",
            '1:54: a time of day needs "end_time"',
        ),
        (
            "time_intervals: [{name: a, time_intervals: [{location: Europe/Berln}]}]",
            '1:56: there is no time zone "Europe/Berln" here',
        ),
        ("inhibit_rules: [{source_matchers: [a=b]}]", '1:17: an inhibit rule needs "target_matchers"'),
        (
            "inhibit_rules: [{source_match: {a: b}, target_matchers: [a=b]}]",
            '1:32: "source_match" is out of use: write `source_matchers:',
        ),
    ],
)
def test_what_is_refused_and_where(text: str, problem: str) -> None:
    said = told(text)
    assert any(problem in line for line in said), said
    assert "hush" not in "".join(said)


def test_routes_stand_at_most_ten_deep() -> None:
    def nested(depth: int) -> str:
        text = "{receiver: a}"
        for _ in range(depth - 1):
            text = f"{{receiver: a, routes: [{text}]}}"
        return A + f"route: {text}"

    loads(nested(10))
    assert "routes stand at most 10 deep" in told(nested(11))[0]


def test_every_mistake_of_a_tree_is_told_at_once() -> None:
    said = told(
        A
        + """
route:
  receiver: []
  group_wait: x
  routes:
    - matchers: [a, 'b=~"["']
      receiver: c
      routes: [{repeat_interval: 0s}]
inhibit_rules:
  - {source_matchers: [a], target_matchers: []}
"""
    )
    assert [line.split(": ", 1)[0] for line in said] == [
        "gpumon.yaml:4:13",
        "gpumon.yaml:5:15",
        "gpumon.yaml:7:18",
        "gpumon.yaml:7:21",
        "gpumon.yaml:8:17",
        "gpumon.yaml:9:34",
        "gpumon.yaml:11:5",
        "gpumon.yaml:11:24",
    ]


def test_no_problem_shows_a_secret_of_a_receiver() -> None:
    said = told(
        "receivers:\n"
        "  - {name: a, webhook: {url: 'ftp://hush/1', bearer_token: [hush2], headers: {X: \"hush3\\n\"}}, pages: 3}\n"
        "heartbeat: [hush4]\n"
        "api: {token: {env: hush5, file: x}}\n"
    )
    assert len(said) == 7
    assert not [line for line in said if "hush" in line]
