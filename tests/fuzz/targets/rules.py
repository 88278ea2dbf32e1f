"""Rule files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from monitor.promql.errors import PromQLError
from monitor.rules.engine import Engine
from monitor.rules.reach import needs
from monitor.rules.rule_file import read_rules
from monitor.store.head import Head
from monitor.yaml_reader import ConfigError
from tests.fuzz.target import Broken, Target, text_of

_RULES = Path(__file__).resolve().parents[3] / "alerts.yaml"


def check_problems(error: ConfigError, text: str) -> None:
    """Every problem has a place in the file, and nothing that a terminal obeys."""
    lines = text.count("\n") + text.count("\r") + text.count("\x85") + text.count("\u2028") + text.count("\u2029") + 2
    for problem in error.problems:
        if not (1 <= problem.line <= lines and problem.column >= 1):
            raise Broken(f"a problem outside of the {lines} lines: {problem}")
        if not str(problem).isprintable():
            raise Broken(f"an error that a terminal would obey: {problem!r}")


def run(data: bytes) -> None:
    """Read it, and where it is good evaluate it three times over an empty store."""
    text = text_of(data)
    try:
        rules = read_rules(text)
    except ConfigError as error:
        check_problems(error, text)
        return
    for group in rules.groups:
        for rule in group.rules:
            rule.place_of(len(rule.expr))
            list(needs(rule.plan.expr))
    engine = Engine(rules, default_interval_ms=1_000)
    head = Head("j", "i")
    try:
        for now_ms in (1_000_000, 1_001_000, 1_300_000):
            engine.step(now_ms, head)
    except PromQLError as error:  # the engine tells of them, rather than raise them
        raise Broken(f"evaluation raised {error}") from None


def seeds() -> Iterable[bytes]:
    """The shipped groups' beginnings, and what may be written strangely."""
    blocks = _RULES.read_text().split("\n  - name: ")
    for block in blocks[1:]:
        yield ("groups:\n  - name: " + "\n".join(block.splitlines()[:25]) + "\n").encode()
    yield b"groups:\n- name: g\n  interval: 1s\n  limit: 0x10\n  rules:\n  - alert: A\n    expr: |\n      vector(1) >\n      0\n    for: 1m\n"
    yield b"groups: [{name: g, labels: {a: b}, rules: [{record: 'a:b', expr: 'vector(1)', labels: {c: '{{ $value }}'}}]}]\n"
    yield b'groups:\n- name: "g\\n\\u00e9"\n  rules:\n  - &r {alert: A, expr: "vector(1)", annotations: {s: "{{ $labels.a }}"}}\n  - *r\n'
    yield b"groups:\n- {name: a, rules: [{<<: {alert: x}, expr: !!str 1}]}\n---\ngroups: []\n"
    yield b"%YAML 1.1\n--- \n? groups\n: - name: >-\n      x\n    rules: ~\n"


TARGET = Target(
    what="rule files",
    promise="a problem's place is in the file, and it holds nothing a terminal obeys; good rules are evaluated",
    modules=(
        "monitor.rules.rule_file", "monitor.yaml_reader", "monitor.rules.places", "monitor.rules.durations",
        "monitor.rules.alerting", "monitor.rules.engine",
    ),
    run=run,
    seeds=seeds,
    words=("groups:", "- name: ", "rules:", "alert: ", "expr: ", "record: ", "for: ", "labels: {", "annotations: {",
           "keep_firing_for: ", "interval: ", "limit: ", "query_offset: ", "{{ $value }}", "!!", "&a ", "*a", "<<: ", "|\n",
           ">-\n", "vector(1)", "1m", "\\u0000", "? "),
    longest=1500,
)  # fmt: skip
