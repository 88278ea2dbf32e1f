"""Plans: what fits, what would, and the flags."""

from __future__ import annotations

import pytest

from monitor.planning.gpus import GIB, find
from monitor.planning.memory import Layout
from monitor.planning.model import BadModel, read_model
from monitor.planning.plan import Plan, Wish, flags, make
from monitor.records import replace
from tests.planning.test_model import LLAMA, SHAPES


def plan(config: dict[str, object], gpu: str, count: int, wish: Wish, layout: Layout | None = None) -> Plan:
    return make(read_model(config, "m"), find(gpu), count, layout or Layout(wish.context), wish, 0.9)


def test_the_fewest_gpus_that_do_are_taken() -> None:
    big = SHAPES["llama-3.1-70b"]["config"]
    assert plan(LLAMA, "H100", 8, Wish(8192, 8)).fit.gpus == 1
    found = plan(big, "H100", 8, Wish(8192, 8))
    assert found.fit.fits
    assert found.fit.gpus == 4
    assert found.others == ()
    assert not plan(big, "H100", 2, Wish(8192, 8)).fit.fits


def test_what_does_not_fit_says_what_would() -> None:
    found = plan(SHAPES["llama-3.1-70b"]["config"], "80GiB", 1, Wish(8192))
    assert not found.fit.fits
    assert found.fit.kv is None
    assert [(one.change, one.fit.fits) for one in found.others][-1] == ("--tensor-parallel-size 2", True)


def test_a_cache_of_fp8_holds_twice_as_many() -> None:
    found = plan(LLAMA, "24GiB", 1, Wish(32768, 2), Layout(32768, batched_tokens=2048))
    change = next(one for one in found.others if one.change == "--kv-cache-dtype fp8")
    assert change.fit.at_once == pytest.approx(2 * found.fit.at_once, rel=0.01)


def test_the_usual_request_is_what_fits_at_once() -> None:
    long, usual = plan(LLAMA, "H100", 1, Wish(131072)), plan(LLAMA, "H100", 1, Wish(131072, typical=2048))
    assert long.fit.kv == usual.fit.kv
    assert usual.fit.at_once == pytest.approx(64 * long.fit.at_once, rel=0.01)


def test_given_memory_needs_no_gpu() -> None:
    found = make(read_model(LLAMA), None, 1, Layout(8192), Wish(8192), 0.9, kv_memory=GIB)
    assert found.fit.kv is not None
    assert found.fit.kv.tokens == 8192
    assert found.fit.share is None


def test_flags_are_those_of_vllm_serve() -> None:
    layout = Layout(4096, quantization="fp8", kv_dtype="fp8", pipeline_parallel=2, sequences=64)
    found = flags(plan(SHAPES["llama-3.1-70b"]["config"], "H100", 8, Wish(4096, 100), layout))
    assert "--max-model-len 4096" in found
    assert "--pipeline-parallel-size 2" in found
    assert "--quantization fp8" in found
    assert "--kv-cache-dtype fp8" in found
    assert "--max-num-seqs 100" in found
    assert "--gpu-memory-utilization 0.9" in found


def test_notes_tell_what_is_not_reckoned() -> None:
    notes = " ".join(plan({**LLAMA, "layer_types": ["mamba", "full_attention"] * 16}, "H100", 1, Wish(200_000)).notes)
    assert "16 of its layers keep a state" in notes
    assert "more than the 131,072" in notes
    deep = plan(SHAPES["deepseek-v3"]["config"], "H200", 8, Wish(4096), Layout(4096, quantization="fp8"))
    assert "the same vector on each tensor parallel rank" in " ".join(deep.notes)
    spread = plan(LLAMA, "H100", 8, Wish(4096))
    assert "--data-parallel-size 8" in " ".join(spread.notes)


def test_heads_that_cannot_be_shared_out_are_said() -> None:
    with pytest.raises(BadModel, match="32 heads cannot be shared out over 3"):
        plan(LLAMA, "H100", 8, Wish(4096), replace(Layout(4096), tensor_parallel=3))
    with pytest.raises(BadModel, match="no 40 stages"):
        plan(LLAMA, "H100", 80, Wish(4096), replace(Layout(4096), pipeline_parallel=40))
