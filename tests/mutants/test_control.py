"""What fails in a fork for reasons of its own has killed nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]
_PRODUCT = """
def gate(n):
    if n > 3:
        return "high"
    return "low"
"""
_TESTS = """
import os
from gate import gate

HERE = os.getpid()

def test_low():
    assert gate(1) == "low"

def test_high_here_alone():
    assert gate(5) == "high"
    assert os.getpid() == HERE
"""
_RUN = """
import sys
from pathlib import Path
import pytest
from tests.mutants.__main__ import Plugin, _all_broken
from tests.mutants.operators import mutants

path = Path(sys.argv[1]) / "gate.py"
sys.path.insert(0, sys.argv[1])
returns = {(path, one.number) for one, _ in mutants(path.read_text()) if one.words.endswith("return None")}
plugin = Plugin(list(_all_broken(path, returns)), 2)
words = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-c", "/dev/null", "--rootdir", sys.argv[1], sys.argv[1]]
pytest.main([*words, f"--basetemp={sys.argv[1]}/t"], plugins=[plugin])
print("counted:", plugin.counts[path], plugin.unfit)
"""


def test_a_test_that_fails_in_a_fork_by_itself_kills_nothing(tmp_path: Path) -> None:
    (tmp_path / "gate.py").write_text(_PRODUCT)
    (tmp_path / "test_gate.py").write_text(_TESTS)
    done = subprocess.run(
        [sys.executable, "-c", _RUN, str(tmp_path)], cwd=_ROOT, capture_output=True, text=True, timeout=120, check=True
    )
    assert "left out: test_gate.py::test_high_here_alone" in done.stdout
    assert "counted: Count(killed=1, survived=0, unreached=1) 0" in done.stdout
