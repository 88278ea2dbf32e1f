"""Rules that cannot be evaluated, in the log: once when it begins, and once when it is over."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from monitor.failing_rules import FailingRules
from monitor.rules.engine import Engine
from monitor.rules.rule_file import load_rules
from monitor.samples import NAME, Scrape, Shape
from monitor.store.head import Head

RULES = """
groups:
  - name: g
    rules:
      - {record: "a:b", expr: a * on () b}
      - {record: "a:c", expr: a + 1}
"""


def test_a_rule_that_fails_is_told_once_and_so_is_its_end(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "rules.yaml"
    file.write_text(RULES)
    engine = Engine(load_rules((file,)), default_interval_ms=1_000)
    head = Head("gpumon", "n1:9519")
    failing = FailingRules(engine)

    def second(number: int, *partners: str) -> list[str]:
        """What is said when ``b`` has so many series that ``a`` could go with."""
        now_ms = 1_790_000_000_000 + number * 1000
        series = [((NAME, "a"),), *(((NAME, "b"), ("x", one)) for one in partners)]
        head.ingest("test", Scrape(now_ms, Shape(series, {}), [1.0] * len(series)))
        caplog.clear()
        engine.step(now_ms, head)
        failing.tell(now_ms)
        return [record.getMessage() for record in caplog.records]

    with caplog.at_level(logging.INFO, logger="monitor.failing_rules"):
        assert second(0, "1") == []
        (said,) = second(1, "1", "2")
        assert said.startswith("rule a:b of g fails: ")
        assert second(2, "1", "2") == []
        (over,) = second(3, "1")
        assert "rule a:b of g is evaluated again" in over
        assert second(4, "1") == []
