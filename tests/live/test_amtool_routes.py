"""Matchers, routes and time intervals, judged by a real amtool: what it reads, refuses, and where it sends an alert."""

from __future__ import annotations

import json
import random
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

import pytest

from monitor.config import ConfigError, loads
from monitor.matchers import LabelMatcher, MatcherError, format_matchers, parse_matchers
from monitor.notify.route import routes_of
from monitor.samples import labels_of
from tests.live.install_prometheus import amtool
from tests.test_matchers import READ, REFUSED

Json: TypeAlias = "Mapping[str, Json] | list[Json] | str | int | bool"

pytestmark = pytest.mark.live

TREES = 40
LABEL_SETS = 10
TEXTS = 400
_PIECES = ("a", "b c", "=", "=~", "!", "{", "}", ",", '"', '"b"', "\\", " ", "'", "é", "x", ",c=")
_NAMES = ("a", "b", "severity", "a b", "é.x")
_VALUES = ("", "x", "y", "critical", "x y", 'q"\\', "x\ny", "é")
_REGEXES = ("x|y", ".*", ".+", "", "c.*l", "(?i)CRITICAL", "[^x]", "x.y", "x\\sy", "^x$", "(?s)x.y", "é?")


@pytest.fixture(scope="module")
def tool() -> Path:
    """Fails, and is not skipped, where there is none: the error says how to get it."""
    return amtool()


def run(tool: Path, *arguments: Path | str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([tool, *arguments], capture_output=True, text=True, timeout=60, check=False)


def written(folder: Path, config: Mapping[str, Json]) -> Path:
    path = folder / "alertmanager.yml"
    path.write_text(json.dumps(config, ensure_ascii=False))  # JSON is YAML
    return path


def read(tool: Path, folder: Path, text: str) -> str | None:
    """How amtool writes the matchers that it read; None where it refuses them."""
    route: Json = {"receiver": "r", "routes": [{"matchers": [text]}]}
    ran = run(tool, "config", "routes", "show", f"--config.file={written(folder, _whole(route, ['r']))}")
    if ran.returncode:
        return None
    shown = re.search(r"── default-route .*\n +└── (.*)  receiver: r\n", ran.stdout, re.DOTALL)
    assert shown is not None, ran.stdout
    return "{}" if shown[1] == "default-route" else shown[1]


def ours(text: str) -> str | None:
    try:
        return format_matchers(sorted(parse_matchers(text), key=LabelMatcher.sort_key))
    except MatcherError:
        return None


def _whole(route: Json, receivers: list[str]) -> dict[str, Json]:
    return {"route": route, "receivers": [{"name": name} for name in receivers]}


def test_the_matchers_of_our_tests_are_read_so(tool: Path, tmp_path: Path) -> None:
    texts = [text for text, _ in READ] + [text for text, _, _ in REFUSED]
    texts.remove('""=b')  # which it takes: a name that no label can have
    differing = {text: (ours(text), theirs) for text in texts if ours(text) != (theirs := read(tool, tmp_path, text))}
    assert not differing


def test_random_texts_are_read_the_same(tool: Path, tmp_path: Path) -> None:
    dice = random.Random(4)
    differing = {}
    accepted = 0
    for _ in range(TEXTS):
        text = "".join(dice.choice(_PIECES) for _ in range(dice.randint(1, 7)))
        if dice.random() < 0.7:
            text = f"a{dice.choice(('=', '!=', '=~'))}{text}"
        theirs = read(tool, tmp_path, text)
        accepted += theirs is not None
        if ours(text) != theirs:
            differing[text] = (ours(text), theirs)
    assert not differing
    assert TEXTS / 5 < accepted < TEXTS * 4 / 5


def test_alerts_go_where_it_sends_them(tool: Path, tmp_path: Path) -> None:
    differing = []
    reached = set()
    for seed in range(TREES):
        dice = random.Random(seed)
        receivers: list[str] = []
        tree = _tree(dice, receivers, 0)
        path = written(tmp_path, _whole(tree, receivers))
        named = [{"name": name, "apprise": "json://x"} for name in receivers]
        root = loads(json.dumps({"route": tree, "receivers": named})).route
        assert root is not None
        for _ in range(LABEL_SETS):
            labels = {name: dice.choice(_VALUES) for name in _NAMES if dice.random() < 0.7}
            words = [str(LabelMatcher(name, "=", value)) for name, value in labels.items()]
            ran = run(tool, "config", "routes", "test", f"--config.file={path}", *words)
            assert ran.returncode == 0, ran.stderr
            found = [name for route in routes_of(root, labels_of(labels)) for name in route.receivers]
            reached.add(len(found))
            if ",".join(found) != ran.stdout.strip():
                differing.append((seed, labels, found, ran.stdout))
    assert not differing
    assert reached >= {1, 2, 3}, "the trees are too plain to tell much"


def _tree(dice: random.Random, receivers: list[str], depth: int) -> dict[str, Json]:
    route: dict[str, Json] = {}
    if depth == 0 or dice.random() < 0.8:  # else it has its parent's
        receivers.append(f"r{len(receivers)}")
        route["receiver"] = receivers[-1]
    if depth:
        route["matchers"] = [_matcher(dice) for _ in range(dice.choice((0, 1, 1, 1, 2)))]
        route["continue"] = dice.random() < 0.4
    if depth < 4:
        children = dice.randint(0 if depth else 2, 4 - depth)
        route["routes"] = [_tree(dice, receivers, depth + 1) for _ in range(children)]
    return route


def _matcher(dice: random.Random) -> str:
    name = dice.choice(_NAMES)
    if dice.random() < 0.5:
        return str(LabelMatcher(name, "=~" if dice.random() < 0.6 else "!~", dice.choice(_REGEXES)))
    return str(LabelMatcher(name, "=" if dice.random() < 0.6 else "!=", dice.choice(_VALUES)))


ROUTES = [
    ("group_by: []", True),
    ("group_by: [alertname, gpu]", True),
    ("group_by: [a, a]", False),
    ("group_by: ['...']", True),
    ("group_by: ['...', a]", False),
    ("group_by: ['']", False),
    ("group_wait: 0s", True),
    ("group_interval: 0s", False),
    ("repeat_interval: 0s", False),
    ("repeat_interval: 1d12h", True),
    ("repeat_interval: 5", False),
    ("continue: true", False),
    ("continue: false", True),
    ("matchers: []", True),
    ("matchers: [a=b]", False),
    ("match: {a: b}", False),
    ("mute_time_intervals: [x]", False),
    ("active_time_intervals: [x]", False),
    ("mute_time_intervals: []", True),
    ("routes: [{}]", True),
    ("routes: [{receiver: nobody}]", False),
    ("routes: [{mute_time_intervals: [x], active_time_intervals: [x]}]", True),
    ("routes: [{mute_time_intervals: [nope]}]", False),
    ("routes: [{active_time_intervals: [nope]}]", False),
    ("routes: [{matchers: ['{a=b}', 'c=d,e=f']}]", True),
    ("rotes: []", False),
]
INTERVALS = [
    ("times: [{start_time: 09:00, end_time: '24:00'}]", True),
    ("times: [{start_time: '9:00', end_time: '10:00'}]", False),
    ("times: [{start_time: '00:00', end_time: '00:00'}]", False),
    ("times: [{start_time: '22:00', end_time: '06:00'}]", False),
    ("times: [{start_time: '22:00'}]", False),
    ("times: [{start_time: '00:00', end_time: '24:30'}]", False),
    ("times: []", True),
    ("weekdays: [Monday, 'tuesday:friday']", True),
    ("weekdays: ['saturday:sunday']", False),
    ("weekdays: [1]", False),
    ("weekdays: [' monday']", False),
    ("days_of_month: [1, '5:10', '-3:-1', '5:-3']", True),
    ("days_of_month: [0]", False),
    ("days_of_month: ['32']", False),
    ("days_of_month: ['-32']", False),
    ("days_of_month: ['-3:5']", False),
    ("days_of_month: ['2:-31']", False),
    ("days_of_month: ['10:5']", False),
    ("days_of_month: ['1:2:3']", False),
    ("days_of_month: ['-1:-3']", False),
    ("months: [january, 'march:5', 12]", True),
    ("months: ['may:march']", False),
    ("months: [jan]", False),
    ("years: [2020, '2021:2022']", True),
    ("years: ['2022:2021']", False),
    ("location: Europe/Berlin", True),
    ("location: Local", True),
    ("location: ''", True),
    ("location: Nowhere", False),
    ("location: utc", False),
    ("", True),
]
CASES = [(f"{{receiver: a, {fields}}}", "{}", good) for fields, good in ROUTES]
CASES += [("{receiver: a}", f"{{{fields}}}", good) for fields, good in INTERVALS]


@pytest.mark.parametrize(("route", "interval", "good"), CASES)
def test_what_it_refuses_is_refused(tool: Path, tmp_path: Path, route: str, interval: str, good: bool) -> None:
    text = f"time_intervals: [{{name: x, time_intervals: [{interval}]}}]\nroute: {route}\n"
    path = tmp_path / "alertmanager.yml"
    path.write_text(text + "receivers: [{name: a}]\n")
    ran = run(tool, "check-config", path)
    assert (ran.returncode == 0) == good, ran.stdout
    ours = text + "receivers: [{name: a, apprise: 'json://x'}]\n"
    if good:
        assert loads(ours).route is not None
    else:
        with pytest.raises(ConfigError):
            loads(ours)
