"""Prometheus as an oracle, without a server: ``promtool test rules`` with wrong expectations says what it gets."""

from __future__ import annotations

import json
import math
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

from monitor.promql.literals import unquote
from monitor.samples import Labels, is_stale, labels_of
from tests.promql.generate import STEP_MS, Made, written

Outcome = dict[Labels, float] | str
"""What an expression gives: its samples, or an error's message."""


def ask(promtool: str, series: list[Made], queries: Sequence[tuple[str, int]], folder: Path) -> list[Outcome]:
    """What Prometheus gives for each query, an expression and a time in milliseconds, over the series."""
    wrong = {"labels": '{oracle="wrong"}', "value": 12345.678}
    tests = [
        {"expr": f"{expr} # {i}", "eval_time": f"{at_ms}ms", "exp_samples": [wrong]}
        for i, (expr, at_ms) in enumerate(queries)
    ]
    # It loads no samples that are newer than the last whole minute before the last of all times.
    last_ms = max(at_ms for _, at_ms in queries) + 60_000
    tests.append({"expr": "vector(0)", "eval_time": f"{last_ms}ms", "exp_samples": [wrong]})
    body = {
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": f"{STEP_MS}ms",
                "input_series": [{"series": written(one.labels), "values": _values(one)} for one in series],
                "promql_expr_test": tests,
            }
        ],
    }
    file = folder / "queries.json"
    file.write_text(json.dumps(body))
    done = subprocess.run(
        [promtool, "test", "rules", str(file)], capture_output=True, text=True, errors="surrogateescape", check=False
    )
    text = done.stdout + done.stderr
    found: dict[int, Outcome] = {}
    pattern = re.compile(
        r'^    expr: "(?:[^"\\]|\\.)* # (\d+)", time: [^,]+,(?: err: (.*)|\n.*\n +got: ?(.*))$', re.MULTILINE
    )
    for match in pattern.finditer(text):
        found[int(match[1])] = match[2] if match[2] is not None else _samples(match[3])
    missing = [queries[i] for i in range(len(queries)) if i not in found]
    if missing:
        raise AssertionError(f"promtool says nothing of {missing[:3]}: {text[:2000]}")
    return [found[i] for i in range(len(queries))]


def verdicts(promtool: str, expressions: Sequence[str], folder: Path) -> list[str | None]:
    """For each expression the error with which Prometheus refuses it, or None."""
    rules = [{"record": f"r{i}", "expr": expr} for i, expr in enumerate(expressions)]
    file = folder / "rules.json"
    file.write_text(json.dumps({"groups": [{"name": "g", "rules": rules}]}))
    done = subprocess.run(
        [promtool, "check", "rules", str(file)], capture_output=True, text=True, errors="surrogateescape", check=False
    )
    errors = {
        int(m[1]): m[2] for m in re.finditer(r'"r(\d+)": could not parse expression: (.*)', done.stdout + done.stderr)
    }
    return [errors.get(i) for i in range(len(expressions))]


def _values(one: Made) -> str:
    return " ".join("_" if v is None else "stale" if is_stale(v) else _number(v) for v in one.values)


def _number(value: float) -> str:
    if math.isinf(value):
        return "Inf" if value > 0 else "-Inf"
    return "NaN" if value != value else repr(value)


_SAMPLE = re.compile(r'\{((?:[^"}]|"(?:[^"\\]|\\.)*")*)\} (\S+?)(?:, |$)')
_PAIR = re.compile(r'([A-Za-z_][A-Za-z0-9_]*|"(?:[^"\\]|\\.)*")=("(?:[^"\\]|\\.)*")')


def _samples(text: str) -> dict[Labels, float]:
    if text == "nil":
        return {}
    out: dict[Labels, float] = {}
    for inside, value in _SAMPLE.findall(text):
        pairs = {
            unquote(name, 0, "") if name[0] == '"' else name: unquote(quoted, 0, "")
            for name, quoted in _PAIR.findall(inside)
        }
        out[labels_of(pairs)] = float(value)
    return out
