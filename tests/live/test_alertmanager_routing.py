"""Groups, inhibition and mute times, judged by a real Alertmanager that was given the same configuration and alerts."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest

from monitor.config import Config, loads
from monitor.matchers import all_match
from monitor.notify.inhibition import Inhibitor, InhibitRule
from monitor.notify.mute_times import is_muted
from monitor.notify.route import routes_of
from monitor.rules.transition import Alert
from monitor.samples import Labels, labels_of
from tests.live.receivers import json_receiver
from tests.live.servers import Alertmanager, alertmanager

pytestmark = pytest.mark.live

_DAYS = ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday")
_PLACES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Pacific/Kiritimati", "Pacific/Niue")


def ours(config: Mapping[str, Any]) -> Config:
    """The same for us: each receiver has an address of ours."""
    names = [{"name": one["name"], "apprise": "json://x"} for one in config["receivers"]]
    return loads(json.dumps({**config, "receivers": names}))


def post(server: Alertmanager, alerts: Sequence[Labels]) -> None:
    answer = httpx.post(f"{server.url}/api/v2/alerts", json=[{"labels": dict(labels)} for labels in alerts], timeout=30)
    assert answer.status_code == 200, answer.text


def shown(server: Alertmanager) -> dict[Labels, dict[str, Any]]:
    """What it says of each alert."""
    return {labels_of(one["labels"]): one for one in server.alerts()}


def some_labels(dice: random.Random, names: str, values: str) -> dict[str, str]:
    return {name: dice.choice(values) for name in names if dice.random() < 0.8}


def distinct(dice: random.Random, count: int, names: str, values: str) -> list[Labels]:
    found: dict[Labels, None] = {}
    while len(found) < count:
        found[labels_of({"alertname": dice.choice(("Up", 'A"\\é\n')), **some_labels(dice, names, values)})] = None
    return list(found)


def test_the_same_alerts_are_the_same_groups_under_the_same_keys(tmp_path: Path) -> None:
    dice = random.Random(11)
    receivers: list[str] = []

    def tree(depth: int) -> dict[str, Any]:
        receivers.append(f"r{len(receivers)}")
        route: dict[str, Any] = {"receiver": receivers[-1]}
        if depth == 0:
            route |= {"group_wait": "0s", "group_interval": "1s", "repeat_interval": "1h"}
        else:
            count = dice.choice((1, 1, 2, 3))
            route["matchers"] = [f"{dice.choice('abc')}{dice.choice(('=', '!=', '=~'))}{dice.choice('12')}"
                                 for _ in range(count)]  # fmt: skip
            route["continue"] = dice.random() < 0.5
        if depth == 0 or dice.random() < 0.6:
            route["group_by"] = dice.choice((["alertname"], ["c", "a"], ["..."], ["alertname", "b", "absent"]))
        if depth < 3:
            route["routes"] = [tree(depth + 1) for _ in range(3 - depth)]
        return route

    with json_receiver() as hook:
        config: dict[str, Any] = {"route": tree(0)}
        webhook = {"url": f"http://127.0.0.1:{hook.port}/", "send_resolved": False}
        config["receivers"] = [{"name": name, "webhook_configs": [webhook]} for name in receivers]
        alerts = distinct(dice, 40, "abc", "12")
        root = ours(config).route
        assert root is not None
        expected = {
            (route.receivers[0], route.key(labels), route.group_labels(labels), labels)
            for labels in alerts
            for route in routes_of(root, labels)
        }

        def told() -> set[tuple[str, str, Labels, Labels]]:
            return {
                (body["receiver"], body["groupKey"], labels_of(body["groupLabels"]), labels_of(one["labels"]))
                for body in list(hook.bodies)
                for one in body["alerts"]
            }

        with alertmanager(tmp_path, config) as server:
            post(server, alerts)
            deadline = time.monotonic() + 30
            while told() != expected and time.monotonic() < deadline:
                time.sleep(0.2)
            time.sleep(1.5)  # nothing more comes
            assert told() - expected == set()
            assert expected - told() == set()
    assert len({key for _, key, _, _ in expected}) > 15


def test_the_same_alerts_are_inhibited(tmp_path: Path) -> None:
    dice = random.Random(12)

    def side() -> list[str]:
        return [f"{dice.choice('abcd')}{dice.choice(('=', '=~', '!='))}\"{dice.choice(('1', '2', '1|2', ''))}\""
                for _ in range(dice.choice((1, 2, 2)))]  # fmt: skip

    inhibited = told = 0
    for turn in range(4):
        rules = [
            {
                "source_matchers": side(),
                "target_matchers": side(),
                "equal": dice.sample("abcd", dice.choice((1, 2, 2, 3))),
            }
            for _ in range(5)
        ]
        config = {"route": {"receiver": "r"}, "receivers": [{"name": "r"}], "inhibit_rules": rules}
        alerts = distinct(dice, 40, "abcd", "123")
        inhibitor = Inhibitor(ours(config).inhibit_rules)
        inhibitor.update(Alert(str(n), "", "", "firing", labels, {}, 1, 0, 0, None) for n, labels in enumerate(alerts))
        expected = {labels: {alerts[int(key)] for key in inhibitor.inhibited_by(labels)} for labels in alerts}
        certain = {labels for labels in alerts if _certainly(labels, alerts, ours(config).inhibit_rules)}
        inhibited += len(certain)
        told += sum(not one for one in expected.values())
        with alertmanager(tmp_path, config, name=f"alertmanager{turn}") as server:
            post(server, alerts)

            def differing(
                server: Alertmanager = server,
                expected: Mapping[Labels, set[Labels]] = expected,
                certain: set[Labels] = certain,
            ) -> dict[Labels, set[Labels] | None]:
                """What it says of those of which we say another thing. It names one source for each rule, we all."""
                found = shown(server)
                by_print = {one["fingerprint"]: labels for labels, one in found.items()}
                theirs = {
                    labels: {by_print[one] for one in alert["status"]["inhibitedBy"]} for labels, alert in found.items()
                }
                good = {
                    labels for labels, by in theirs.items() if by <= expected[labels] and (by or labels not in certain)
                }
                return {labels: theirs.get(labels) for labels in expected.keys() - good}

            deadline = time.monotonic() + 20
            while differing() and time.monotonic() < deadline:
                time.sleep(0.2)
            assert differing() == {}
    assert min(inhibited, told) > 20, "too plain to tell much"


def _certainly(labels: Labels, alerts: Sequence[Labels], rules: Sequence[InhibitRule]) -> bool:
    """Whether Alertmanager has to inhibit these. Of several sources with the same values of the labels ``equal`` it
    looks at one alone: where that is a target, too, and we are both, it passes over the others."""
    own = dict(labels)
    for rule in rules:
        sources = [
            source
            for source in map(dict, alerts)
            if all_match(rule.source_matchers, source)
            and all(source.get(name, "") == own.get(name, "") for name in rule.equal)
        ]
        if not sources or not all_match(rule.target_matchers, own):
            continue
        both = all_match(rule.source_matchers, own)
        if not both or not any(all_match(rule.target_matchers, source) for source in sources):
            return True
    return False


def test_the_same_routes_are_mute_now(tmp_path: Path) -> None:
    dice = random.Random(time.time_ns() // 86_400_000_000_000)  # other times each day, the same within one
    count = 120
    intervals = [{"name": f"i{n}", "time_intervals": [_interval(dice)]} for n in range(count)]
    routes = [
        {"matchers": [f"n={n}"], dice.choice(("mute_time_intervals", "active_time_intervals")): [f"i{n}"]}
        for n in range(count)
    ]
    config = {
        "time_intervals": intervals,
        "route": {"receiver": "r", "group_wait": "0s", "group_interval": "1s", "routes": routes},
        "receivers": [{"name": "r"}],
    }
    mine = ours(config)
    assert mine.route is not None

    def muted() -> set[int]:
        assert mine.route is not None
        now_ms = time.time_ns() // 1_000_000
        return {n for n, route in enumerate(mine.route.routes) if is_muted(route, mine.time_intervals, now_ms)}

    with alertmanager(tmp_path, config) as server:
        post(server, [labels_of({"alertname": "A", "n": str(n)}) for n in range(count)])

        def theirs() -> set[int]:
            groups = httpx.get(f"{server.url}/api/v2/alerts/groups", timeout=30).json()  # /alerts does not say it
            alerts = [one for group in groups for one in group["alerts"]]
            return {int(one["labels"]["n"]) for one in alerts if one["status"]["mutedBy"]}

        deadline = time.monotonic() + 30
        while theirs() != muted() and time.monotonic() < deadline:
            time.sleep(0.5)
        differing = theirs() ^ muted()
        assert {n: (routes[n], intervals[n]) for n in differing} == {}
    assert 10 < len(muted()) < count - 10


def _interval(dice: random.Random) -> dict[str, Any]:
    """One that is about as likely to be now as not: each of its fields lies around this moment, or beside it."""
    place = dice.choice(_PLACES)
    now = datetime.now(ZoneInfo(place))
    found: dict[str, Any] = {"location": place}
    for field in dice.sample(("times", "weekdays", "days_of_month", "months", "years"), dice.choice((1, 1, 2))):
        match field:
            case "times":
                start = dice.choice((0, now.hour - 1, now.hour, now.hour + 1)) % 24
                end = dice.choice((now.hour, now.hour + 2, 24))
                if start >= end:
                    start, end = 0, max(end, 1)
                found[field] = [{"start_time": f"{start:02}:00", "end_time": f"{min(end, 24):02}:00"}]
            case "weekdays":
                days = sorted(((now.isoweekday() + dice.choice((-1, 0, 1))) % 7, dice.randrange(7)))
                found[field] = [f"{_DAYS[days[0]]}:{_DAYS[days[1]]}", dice.choice(_DAYS)]
            case "days_of_month":
                from_end = min(max(now.day - 32 + dice.choice((-1, 0, 1, 2, 3)), -31), -1)
                found[field] = [
                    dice.choice((str(now.day), f"1:{now.day}", f"{min(now.day + 1, 31)}:31", str(from_end),
                                 f"{from_end}:-1" if from_end < -2 else "-2:-1"))
                ]  # fmt: skip
            case "months":
                found[field] = [dice.choice((f"1:{now.month}", f"{now.month}:12", str(now.month % 12 + 1)))]
            case "years":
                found[field] = [dice.choice((str(now.year), f"2000:{now.year - 1}", f"{now.year}:{now.year + 5}"))]
    return found
