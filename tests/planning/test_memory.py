"""vLLM's blocks. What is expected stands in the log of a real vLLM 0.32 with a KV cache of 1 GiB; the live tier asks
one again."""

from __future__ import annotations

import pytest

from monitor.planning.gpus import GIB
from monitor.planning.memory import (
    Layout,
    blocks_of_request,
    groups,
    kv_bytes,
    kv_of,
    share,
    stages,
    step_bytes,
    token_bytes,
)
from monitor.planning.model import BadModel, read_model
from monitor.planning.plan import token_size
from monitor.records import replace
from tests.planning.models import GQA, HYBRID, LATENT, SLIDING
from tests.planning.test_model import LLAMA, SHAPES

CPU = Layout(context=2048, block_size=128, batched_tokens=2048, batches_in_flight=1)


@pytest.mark.parametrize(
    ("config", "layout", "tokens", "requests"),
    [
        (GQA, CPU, 349_440, 170.62),
        (GQA, replace(CPU, tensor_parallel=2, batched_tokens=4096), 699_008, 341.31),
        (GQA, replace(CPU, kv_dtype="fp8"), 699_008, 341.31),
        (SLIDING, replace(CPU, context=4096), 798_915, 195.05),
        (HYBRID, replace(CPU, context=4096), 459_649, 112.22),
        (
            HYBRID,
            replace(CPU, context=4096, pipeline_parallel=2, batched_tokens=4096, batches_in_flight=2),
            583_555,
            142.47,
        ),
        (LATENT, replace(CPU, context=1024, block_size=16), 310_688, 303.41),
    ],
)
def test_tokens_and_requests_are_those_of_a_real_server(
    config: dict[str, object], layout: Layout, tokens: int, requests: float
) -> None:
    found = kv_of(read_model(config), layout, GIB)
    assert found.tokens == tokens
    assert f"{found.requests:.2f}" == f"{requests:.2f}"


def test_a_token_takes_keys_and_values_of_each_head_that_a_gpu_has() -> None:
    model = read_model(LLAMA)
    layout = Layout(context=8192)
    assert token_bytes(model, layout) == 2 * 8 * 128 * 2
    assert token_size(model, layout) == (131_072, 131_072)
    assert token_size(model, replace(layout, tensor_parallel=8)) == (16_384, 131_072)
    assert token_bytes(model, replace(layout, tensor_parallel=8)) == 2 * 1 * 128 * 2
    # There is no half a head: sixteen ranks hold each of eight twice.
    assert token_bytes(model, replace(layout, tensor_parallel=16)) == 2 * 1 * 128 * 2
    assert token_bytes(model, replace(layout, kv_dtype="fp8_e5m2")) == 2 * 8 * 128


def test_a_latent_vector_stands_on_every_rank() -> None:
    model = read_model(SHAPES["deepseek-v3"]["config"])
    assert token_bytes(model, Layout(1)) == token_bytes(model, Layout(1, tensor_parallel=8)) == 576 * 2
    assert token_bytes(model, Layout(1, kv_dtype="fp8_ds_mla")) == 656


def test_groups_are_as_many_layers_as_the_rarest_kind_has() -> None:
    gemma = read_model(SHAPES["gemma-3-1b"]["config"])
    assert [(one.layer.kind, one.count) for one in groups(gemma)].count(("full", 4)) == 1
    assert sum(one.count for one in groups(gemma)) == 26
    even = read_model(SHAPES["gpt-oss-20b"]["config"])
    assert [(one.layer.kind, one.count) for one in groups(even)] == [("sliding", 12), ("full", 12)]


def test_a_window_keeps_its_tokens_and_those_in_flight() -> None:
    model = read_model(SLIDING)
    short, long = replace(CPU, context=600), replace(CPU, context=1 << 20)
    assert blocks_of_request(model, short) == 5 + 1
    assert blocks_of_request(model, long) == -(-(511 + 2048) // 128) + 1


def test_layers_left_over_go_to_the_stages_before_the_last() -> None:
    model = read_model({**LLAMA, "num_hidden_layers": 34})
    assert [end - begin for begin, end in stages(model, 4)] == [8, 9, 9, 8]
    assert stages(model, 1) == ((0, 34),)


def test_all_gpus_together_hold_the_weights() -> None:
    model = read_model(LLAMA)
    whole, _ = model.bytes_of()
    for tensor, pipeline in ((1, 1), (2, 1), (8, 1), (1, 4), (4, 2)):
        layout = Layout(8192, tensor, pipeline)
        each = share(model, layout, 80 * GIB, 0.9).weights
        assert whole / (tensor * pipeline) <= each * 1.001
        assert each <= whole / (tensor * pipeline) * 1.25


def test_what_is_left_is_what_the_others_leave() -> None:
    found = share(read_model(LLAMA), Layout(8192), 80 * GIB, 0.9)
    assert found.usable == 72 * GIB
    assert found.weights + found.step + found.other + found.kv == found.usable
    assert share(read_model(LLAMA), Layout(8192), 16 * GIB, 0.9).kv < 0


def test_logits_of_many_sequences_outweigh_activations() -> None:
    model = read_model(LLAMA)
    few, many = (step_bytes(model, Layout(8192, sequences=count)) for count in (16, 1024))
    assert many > few > 0
    assert step_bytes(model, Layout(8192, sequences=1024), last=False) == few


def test_an_unknown_dtype_of_the_cache_is_named() -> None:
    with pytest.raises(BadModel, match='"fp3"'):
        kv_bytes(read_model(LLAMA), Layout(1, kv_dtype="fp3"))


def test_a_model_without_attention_has_no_kv_cache() -> None:
    model = read_model({**LLAMA, "layer_types": ["mamba"] * 32})
    with pytest.raises(BadModel, match="none of its layers"):
        kv_of(model, Layout(1024), GIB)
