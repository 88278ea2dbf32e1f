"""What a program in a pseudo-terminal is said to have taken."""

from __future__ import annotations

import sys

import pytest

from tests.bench.pane import pane

_BURN = "import time\nwhile time.process_time() < 0.3: pass"


def test_a_child_that_has_ended_counts() -> None:
    with pane(["sh", "-c", f'"{sys.executable}" -c "{_BURN}"; printf done; read line']) as one:
        assert one.painted.wait(60)
        assert one.cpu() > 0.2


def test_a_program_that_has_ended_is_not_weighed() -> None:
    with pane(["sh", "-c", "echo no such terminal; exit 3"]) as one:
        one.process.wait(60)
        one._thread.join(60)
        with pytest.raises(RuntimeError, match="has ended with 3: no such terminal"):
            one.cpu()
