"""The probes' client and ``vllm bench serve`` see the same of one real vLLM. How near they are is measured elsewhere
(``python -m tests.bench probe_vllm``): on a machine that does other things too, only the order of magnitude is certain.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.live.servers import real_vllm
from tests.live.side_by_side import FIGURES, SERVER, Work, alternate, medians

pytestmark = pytest.mark.live


def test_both_see_the_same(tmp_path: Path) -> None:
    work = Work(requests=24, concurrency=4, input_tokens=48, output_tokens=32)
    with real_vllm(tmp_path, *SERVER, name="vllm-probed") as server:
        rounds = list(alternate(server.url, work, tmp_path, 1))
    for one in rounds:
        for found in one.values():
            assert (found["completed"], found["failed"]) == (24, 0)
            assert found["total_output_tokens"] == 24 * 32
            # What the other writes of random tokens is read as a few more or less.
            assert found["total_input_tokens"] == pytest.approx(24 * 48, rel=0.05)
            # On a busy machine a server gives a whole answer at once, where it was to give it token by token.
            assert 0 < found["median_ttft_ms"] <= found["median_e2el_ms"]
        assert one["ours"]["total_input_tokens"] == 24 * 48
    for name, (mine, other) in medians(rounds).items():
        if name != "ITL":  # its median is 0 where several chunks come in one read
            assert 0.1 < mine / other < 10.0, f"{name}: {mine:.2f} {FIGURES[name][1]} beside {other:.2f}"
