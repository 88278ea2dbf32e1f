"""Alerts against Prometheus itself: random rule files over random series, through promtool and through our engine.

GPUMON_ALERT_FILES says how many rule files, GPUMON_ALERT_SEED with what seed to begin. promtool tells what fires and
with which labels and annotations, at times that it is asked for; it stops at a rule that fails, so none here does.
"""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from monitor.rules.engine import Engine
from monitor.rules.rule_file import read_rules
from monitor.rules.template_lex import TemplateError, unquote
from monitor.rules.templates import Template
from monitor.samples import STALE, Labels, format_labels, labels_of, make_labels
from monitor.store.head import Head
from tests.live.install_prometheus import prometheus_bin
from tests.rules.test_templates import ANSWERS, PREFIX, SERIES, broken

pytestmark = pytest.mark.live

FILES = int(os.environ.get("GPUMON_ALERT_FILES", "12"))
SEED = int(os.environ.get("GPUMON_ALERT_SEED", "1"))
STEP_MS = 30_000
STEPS = 60
EXTERNAL = {"site": "north"}
GROUPS = ["g0", "g1", "g2"]

Told: TypeAlias = dict[tuple[str, int], list[tuple[Labels, dict[str, str]]]]
"""For an alert's name and a step: labels and annotations of what fires, in the order of the labels."""


@pytest.fixture(scope="module")
def promtool() -> Path:
    """Of Prometheus 3 or later. Fails, and is not skipped, where there is none: the error says how to get it."""
    return prometheus_bin() / "promtool"


# -- what is made ----------------------------------------------------------------------------------------------------

Values: TypeAlias = list[float | None]
"""One for each step; None is a gap, STALE ends the series."""

COMPARED = (
    "x > {n}",
    "x >= {n}",
    "x == {n}",
    "x{{a='1'}} > {n}",
    "x > y",
    "x > on (a, b) (y or x * 0 + {n})",
    "max by (a) (x) > {n}",
    "count by (b) (x > {n}) > 1",
    "x > {n} and y < {m}",
    "x > {n} unless on (a) y > {m}",
    "x > {n} or y > {m}",
    "avg_over_time(x[2m]) > {n}",
    "increase(c_total[2m]) > {n}",
    "rate(c_total[90s]) * 60 > {m}",
    "absent(x{{a='3'}} > {n})",
    "sum(x) > {n} * 4",
    "r > {n}",
    "changes(x[3m]) > 2",
    "vector({n}) > {m}",
    "vector(time() % 300) < 120",
    "x offset 1m > {n}",
)
RECORDED = ("max by (a) (x)", "x - y", "sum without (b) (x)", "clamp_max(x, {n})")
OF_ALERTS = ("ALERTS{{alertname='{of}', alertstate='firing'}} == 1", "ALERTS_FOR_STATE{{alertname='{of}'}} > 0")
LABELS = (
    ("severity", "warning"),
    ("severity", "{{ if gt $value 4.0 }}critical{{ else }}warning{{ end }}"),
    ("a", "new"),
    ("b", ""),
    ("value", "{{ $value }}"),
    ("old", "{{ $labels.a }}-{{ .Labels.b }}"),
    ("site", "{{ $externalLabels.site }}"),
    ("broken", "{{ gt $value 4 }}"),
)
ANNOTATIONS = (
    "{{ $value }}",
    '{{ $value | printf "%.1f" }} of {{ $labels.a }}',
    "{{ humanize $value }} {{ humanizePercentage $value }} {{ humanizeDuration $value }}",
    "{{ range $k, $v := $labels }}{{ $k }}={{ $v }},{{ end }}",
    '{{ with query "count(x)" }}{{ . | first | value }}{{ end }} {{ query "x" | len }}',
    '{{ range query "x" | sortByLabel "b" | sortByLabel "a" }}{{ .Labels.a }}{{ .Labels.b }}={{ .Value }} {{ end }}',
    '{{ reReplaceAll "(.)" "<$1>" $labels.a }}{{ match "^1" $labels.a }} {{ title "of " }}{{ toUpper $labels.b }}',
    "{{ $labels.b | humanize }}",
    '{{ (query "none" | first).Value }}',
    "line one\nline {{ $labels.nope.x }}",
    '{{ (toTime $value).Format "15:04:05" }} {{ $externalLabels }}',
    '{{ define "t" }}[{{ . }}]{{ end }}{{ template "t" $value }}{{ if eq $labels.a "1" }} one{{ end }}',
)


def make_series(rng: random.Random) -> dict[Labels, Values]:
    out: dict[Labels, Values] = {}
    for name in ("x", "y"):
        for a in "12":
            for b in ("p", "q"):
                if rng.random() < 0.9:
                    out[make_labels(name, a=a, b=b)] = _gauge(rng)
    for a in "12":
        total, values = 0.0, []
        for _ in range(STEPS):
            total = 0.0 if rng.random() < 0.03 else total + rng.choice((0, 0, 1, 2, 5))
            values.append(total)
        out[make_labels("c_total", a=a)] = _with_holes(rng, values)
    return out


def _gauge(rng: random.Random) -> Values:
    values, level = [], float(rng.randrange(9))
    for _ in range(STEPS):
        if rng.random() < 0.2:  # alerts are made of what stays for a while
            level = float(rng.choice((0, 1, 3, 4, 5, 6, 8, 4.5)))
        values.append(level)
    return _with_holes(rng, values)


def _with_holes(rng: random.Random, values: Sequence[float]) -> Values:
    out: Values = [None if rng.random() < 0.05 else value for value in values]
    if rng.random() < 0.4:
        at = rng.randrange(1, STEPS)
        out[at] = STALE
        length = rng.randrange(20)
        out[at + 1 : at + 1 + length] = [None] * len(out[at + 1 : at + 1 + length])
    if rng.random() < 0.2:
        late = rng.randrange(1, 20)
        out = [None if k < late else value for k, value in enumerate(out)]
    return out


def make_rules(rng: random.Random) -> dict[str, Any]:
    groups: list[dict[str, Any]] = []
    number = 0
    for g in GROUPS:
        labels = {"team": "b", "severity": "none"} if rng.random() < 0.3 else {}
        rules: list[dict[str, Any]] = [{"record": "r", "expr": _filled(rng, rng.choice(RECORDED)), "labels": {"g": g}}]
        for _ in range(8):
            name = f"A{number}"
            # (Labels of the group can make alerts of alerts the same, too.)
            of_alerts = number > 0 and not labels and rng.random() < 0.2
            expr = (
                rng.choice(OF_ALERTS).format(of=f"A{number - 1}") if of_alerts else _filled(rng, rng.choice(COMPARED))
            )
            rule: dict[str, Any] = {"alert": name, "expr": expr}
            if rng.random() < 0.7:
                rule["for"] = rng.choice(("10s", "30s", "45s", "1m", "2m", "3m30s"))
            if rng.random() < 0.4:
                rule["keep_firing_for"] = rng.choice(("30s", "1m", "100s", "4m"))
            # What would make two alerts the same is left alone: that fails the rule.
            rule["labels"] = (
                {f"of{number}": "{{ $labels.alertname }}"} if of_alerts else dict(rng.sample(LABELS, rng.randrange(3)))
            )
            if {"a", "b"} & rule["labels"].keys():
                rule["labels"]["kept"] = "{{ $labels }}"
            rule["annotations"] = {f"n{i}": text for i, text in enumerate(rng.sample(ANNOTATIONS, rng.randrange(1, 4)))}
            rules.append(rule)
            number += 1
        group: dict[str, Any] = {"name": g, "rules": rules, "labels": labels}
        if rng.random() < 0.3:
            group["query_offset"] = rng.choice(("30s", "1m"))
        groups.append(group)
    return {"groups": groups}


def _filled(rng: random.Random, text: str) -> str:
    return text.format(n=rng.choice((0, 1, 3, 4, 5)), m=rng.choice((1, 2, 4, 6)))


# -- the two answers -------------------------------------------------------------------------------------------------


def ours(text: str, series: Mapping[Labels, Values], asked: Sequence[tuple[str, int]]) -> Told:
    head = Head("j", "i")
    engine = Engine(read_rules(text), default_interval_ms=STEP_MS, external_labels=EXTERNAL)
    out: Told = {}
    for k in range(STEPS):
        for labels, values in series.items():
            value = values[k]
            if value is not None:
                head.append(labels, k * STEP_MS, value)
        engine.step(k * STEP_MS, head)
        assert engine.failing() == [], [one for g in engine.groups_status() for one in g.rules if one.health == "err"]
        firing = [one for one in engine.alerts() if one.state == "firing"]
        for name, step in asked:
            if step == k:
                out[name, k] = sorted((one.labels, dict(one.annotations)) for one in firing if one.rule == name)
    return out


def theirs(
    promtool: Path, text: str, series: Mapping[Labels, Values], asked: Sequence[tuple[str, int]], folder: Path
) -> Told:
    (folder / "rules.yaml").write_text(text)
    wrong = [{"exp_labels": {"oracle": "wrong"}}]
    story = {
        "interval": f"{STEP_MS}ms",
        "external_labels": EXTERNAL,
        "input_series": [
            {"series": format_labels(labels), "values": " ".join(map(_written, values))}
            for labels, values in series.items()
        ],
        "alert_rule_test": [
            {"alertname": name, "eval_time": f"{step * STEP_MS}ms", "exp_alerts": wrong} for name, step in asked
        ],
    }
    file = folder / "tests.yaml"
    body = {
        "rule_files": ["rules.yaml"],
        "evaluation_interval": f"{STEP_MS}ms",
        "group_eval_order": GROUPS,
        "tests": [story],
    }
    file.write_text(json.dumps(body))
    done = subprocess.run([promtool, "test", "rules", file], capture_output=True, text=True, timeout=120, check=False)
    found = read_answers(done.stdout + done.stderr)
    assert sorted(found) == sorted(asked), f"promtool stopped: {(done.stdout + done.stderr)[-2000:]}"
    return found


def _written(value: float | None) -> str:
    return "_" if value is None else "stale" if value != value else repr(value)


_QUOTED = r'"(?:[^"\\]|\\.)*"'
_ALERT = re.compile(rf"Labels:\{{((?:[^\"}}]|{_QUOTED})*)\}}\s+Annotations:\{{((?:[^\"}}]|{_QUOTED})*)\}}")
_PAIR = re.compile(rf"(\w+)=({_QUOTED})")


def read_answers(text: str) -> Told:
    """What promtool says that it got: after ``alertname: A, time: 1m, exp:[…], got:[…]``."""
    out: Told = {}
    blocks = re.split(r"\n +alertname: ", text)[1:]
    for block in blocks:
        head, got = block.split("got:[", 1)
        name, time = re.match(r"(\w+), time: ([^,]+),", head).groups()  # type: ignore[union-attr] # it is always there
        step = sum(
            int(float(number) * {"h": 3_600_000, "m": 60_000, "s": 1_000}[unit])
            for number, unit in re.findall(r"([\d.]+)([hms])", time)
        )
        found = [(labels_of(_pairs(labels)), _pairs(annotations)) for labels, annotations in _ALERT.findall(got)]
        assert found or got.startswith("]"), block
        out[name, step // STEP_MS] = sorted(found)
    return out


def _pairs(text: str) -> dict[str, str]:
    return {name: unquote(quoted) for name, quoted in _PAIR.findall(text)}


# -- the tests -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(SEED, SEED + FILES))
def test_the_same_alerts_fire_as_in_prometheus(promtool: Path, tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    series, rules = make_series(rng), make_rules(rng)
    text = json.dumps(rules)
    names = [rule["alert"] for group in rules["groups"] for rule in group["rules"] if "alert" in rule]
    asked = [(name, step) for name in names for step in sorted(rng.sample(range(1, STEPS), 6))]
    expected = theirs(promtool, text, series, asked, tmp_path)
    found = ours(text, series, asked)
    by_name = {rule.get("alert"): rule for group in rules["groups"] for rule in group["rules"]}
    different = [
        f"{by_name[name]} at step {step}\n  promtool {expected[name, step]}\n  gpumon   {found[name, step]}"
        for name, step in asked
        if expected[name, step] != found[name, step]
    ]
    assert not different, f"{len(different)} of {len(asked)}:\n" + "\n".join(different[:5])
    assert sum(map(len, expected.values())) > 30, "too little fires for the comparison to mean anything"


def test_templates_give_what_promtool_gives_today(promtool: Path, tmp_path: Path) -> None:
    rules = [{"alert": f"A{i}", "expr": "x", "annotations": {"a": text}} for i, (text, _) in enumerate(ANSWERS)]
    (tmp_path / "rules.yaml").write_text(json.dumps({"groups": [{"name": "g", "rules": rules}]}))
    story = {
        "interval": "1m",
        "external_labels": EXTERNAL,
        "external_url": "http://node:9519/pre",
        "input_series": [{"series": name, "values": repr(value)} for name, value in SERIES.items()],
        "alert_rule_test": [
            {"eval_time": "0m", "alertname": f"A{i}", "exp_alerts": [{"exp_labels": {"oracle": "wrong"}}]}
            for i in range(len(ANSWERS))
        ],
    }
    (tmp_path / "tests.yaml").write_text(json.dumps({"rule_files": ["rules.yaml"], "tests": [story]}))
    done = subprocess.run(
        [promtool, "test", "rules", tmp_path / "tests.yaml"], capture_output=True, text=True, timeout=120, check=False
    )
    told = read_answers(done.stdout + done.stderr)
    different = []
    for i, (text, answer) in enumerate(ANSWERS):
        ((_, annotations),) = told[f"A{i}", 0]
        expected = PREFIX + answer[1:] if answer.startswith("!") else answer
        given = annotations.get("a", "").replace(f"__alert_A{i}", "__alert_A")
        if given != expected:
            different.append(f"{text!r}\n  promtool {given!r}\n  file     {expected!r}")
    assert not different, "\n".join(different)


@pytest.mark.parametrize("seed", range(SEED, SEED + 3))
def test_a_template_is_refused_when_promtool_refuses_it(promtool: Path, tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    # Complex numbers, `1i`, we do not have.
    texts = [text for _ in range(2000) if not re.search(r"\di", text := broken(rng))]
    rules = [{"alert": f"A{i}", "expr": "x", "annotations": {"a": text}} for i, text in enumerate(texts)]
    (tmp_path / "rules.yaml").write_text(json.dumps({"groups": [{"name": "g", "rules": rules}]}))
    done = subprocess.run(
        [promtool, "check", "rules", tmp_path / "rules.yaml"], capture_output=True, text=True, timeout=120, check=False
    )
    refused = {
        int(number): why
        for number, why in re.findall(r'"A(\d+)": annotation "a": template: (.*)', done.stdout + done.stderr)
    }
    different = []
    for i, text in enumerate(texts):
        try:
            Template.parse(text)
            why = None
        except TemplateError as error:
            why = error.message
        if (why is None) != (i not in refused):
            different.append(f"{text!r}\n  promtool {refused.get(i)}\n  gpumon   {why}")
    assert not different, "\n".join(different[:10])
    assert len(texts) / 4 < len(refused) < len(texts)
