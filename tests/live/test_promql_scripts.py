"""Prometheus' own scripts of the language, all that is in them of numbers and classic histograms."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from tests.live.install_prometheus import promql_scripts
from tests.promql import promqltest

pytestmark = pytest.mark.live

KNOWN = (
    # Prometheus runs its scripts with delayed name removal, which is off by default: a function of a range, or an
    # operator, leaves the name (and type and unit) until the end, where a later operator can still see it.
    ("name_label_dropping.test", re.compile(r'rate\(\{env="1"\}')),
    ("type_and_unit.test", re.compile(r'\(http_requests_total\{group="canary"\} \+ 1\) (and|or) http_requests_total')),
)
"""Expectations that hold in Prometheus itself only with an experimental flag, by the script and the expression."""

LEAST = {
    "aggregators.test": 115,
    "at_modifier.test": 40,
    "collision.test": 2,
    "functions.test": 230,
    "histograms.test": 50,
    "literals.test": 20,
    "operators.test": 125,
    "range_queries.test": 8,
    "selectors.test": 30,
    "staleness.test": 17,
    "subquery.test": 30,
    "trig_functions.test": 19,
    "name_label_dropping.test": 10,
}
"""How many expectations of a script at least are to be met, so that one that reads nothing does not pass."""


def test_the_scripts_give_what_they_expect(capsys: pytest.CaptureFixture[str]) -> None:
    folder = promql_scripts()
    failures = []
    passed = known = 0
    skipped: Counter[str] = Counter()
    few = []
    for script in sorted(folder.glob("*.test")):
        report = promqltest.run(script.read_text())
        skipped += report.skipped
        passed += report.passed
        if report.passed < LEAST.get(script.name, 0):
            few.append(f"{script.name}: {report.passed}")
        for one, why in report.failures:
            if _is_known(script, one.expr):
                known += 1
            else:
                failures.append(f"{script.name}:{one.line}: {one.expr}: {why}")
    with capsys.disabled():
        print(f"\n{passed:,} expectations met, {known} known, {len(failures)} not; left out: {dict(skipped)}")
    assert not failures, f"{len(failures)} are not met:\n" + "\n".join(failures[:20])
    assert not few, f"too few are met: {few}"


def _is_known(script: Path, expr: str) -> bool:
    return any(script.name == name and pattern.search(expr) for name, pattern in KNOWN)
