"""Files of rules' unit tests, and their notation of series."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from monitor.rules.unit_test_files import read_text
from monitor.rules.unit_test_series import parse_metric, parse_series
from monitor.rules.unit_test_tokens import SeriesError
from monitor.rules.unit_test_yaml import UnitTestError
from tests.fuzz.target import Target, text_of

_TESTS = Path(__file__).resolve().parents[2] / "rules" / "alerts_test.yaml"


def run(data: bytes) -> None:
    """As a file, as a series, as a metric."""
    text = text_of(data)
    for read in (lambda: read_text(text, "t.yaml"), lambda: parse_series(text), lambda: parse_metric(text)):
        try:
            read()
        except (UnitTestError, SeriesError):
            continue


def seeds() -> Iterable[bytes]:
    """The shipped tests' beginnings, and the notation."""
    blocks = _TESTS.read_text().split("\n  - name: ")
    for block in blocks[1:8]:
        yield ("tests:\n  - name: " + "\n".join(block.splitlines()[:14]) + "\n").encode()
    for text in (
        'x{a="b"} 1+1x3 _ stale -2-0.5x4 1e3x2 NaN Inf',
        "x 1x99999999",
        "{\"a.b\",c='d'} _x5 {{schema:1}}",
        "x 0x10+1x2",
    ):
        yield text.encode()
    yield b"a: &x [*x]\ntests: !!seq []\n<<: {b: 1}\n"
    yield b"evaluation_interval: 1m\nfuzzy_compare: yes\ngroup_eval_order: [a, b]\nrule_files: [x]\n"


TARGET = Target(
    what="files of rules' unit tests",
    promise="bounded, whatever aliases and repetitions say",
    modules=("monitor.rules.unit_test_files", "monitor.rules.unit_test_series", "monitor.rules.unit_test_tokens",
             "monitor.rules.unit_test_yaml"),
    run=run,
    seeds=seeds,
    words=("tests:", "- interval: ", "input_series:", "series: ", "values: ", "alert_rule_test:", "exp_alerts:", "eval_time: ",
           "promql_expr_test:", "exp_samples:", "1+1x3", "_x3", "stale", "&a ", "*a", "<<: *a", "x9999"),
    longest=1000,
)  # fmt: skip
