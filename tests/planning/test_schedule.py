"""Which layer is of what kind. ``hybrid_shapes.json`` has models whose ``config.json`` says so without
``layer_types``, with parameters as transformers counts them."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from monitor.planning.gpus import GIB, find
from monitor.planning.memory import Layout, block_bytes, share, token_bytes
from monitor.planning.model import BadModel, Model, read_model
from monitor.planning.plan import Wish, make
from tests.planning.test_model import LLAMA, SHAPES

HYBRIDS: dict[str, dict[str, Any]] = json.loads((Path(__file__).parent / "hybrid_shapes.json").read_text())
QWEN_MOE = SHAPES["qwen3-30b-a3b"]["config"]
SIGNS = {"attention": "a", "state": "s", "both": "b", "shared": "h", "cross": "x", "none": "."}
SLIDING = {"sliding_window": 512}
PLAIN = {**LLAMA, "num_hidden_layers": 8}
MIXED = {**QWEN_MOE, "num_hidden_layers": 8}


def mixers(model: Model) -> str:
    return "".join(SIGNS[block.mixer] for block in model.blocks)


def experts(model: Model) -> str:
    return "".join({"experts": "e", "dense": "d", "none": "."}[block.feed] for block in model.blocks)


def caches(model: Model) -> str:
    return "".join(layer.kind[0] for layer in model.layers)


def notes(config: dict[str, Any]) -> str:
    model = read_model(config, "m")
    return " ".join(make(model, find("H200"), 8, Layout(4096), Wish(4096), 0.9).notes)


@pytest.mark.parametrize("name", HYBRIDS)
def test_parameters_are_those_that_transformers_counts(name: str) -> None:
    found = read_model(HYBRIDS[name]["config"]).parameters
    assert abs(found / HYBRIDS[name]["parameters"] - 1) < 0.00005


@pytest.mark.parametrize(
    ("name", "kept", "others", "active"),
    [
        ("qwen3-next-80b-a3b", {"full": 12}, 36, 3.9),
        ("jamba-v0.1", {"full": 4}, 28, 12.1),
        ("llama-4-maverick", {"chunked": 36, "full": 12}, 0, 17.2),
        ("nemotron-nano-9b-v2", {"full": 4}, 52, 8.9),
        ("nemotron-3-nano-30b", {"full": 6}, 46, 3.6),
        ("bamba-9b", {"full": 3}, 29, 9.8),
        ("falcon-h1-7b", {"full": 44}, 0, 7.6),
        ("lfm2-1.2b", {"full": 6}, 10, 1.2),
    ],
)
def test_layers_with_a_cache_and_parameters_that_a_token_meets(
    name: str, kept: dict[str, int], others: int, active: float
) -> None:
    model = read_model(HYBRIDS[name]["config"])
    assert Counter(layer.kind for layer in model.layers) == kept
    assert model.others == others
    assert round(model.active_parameters / 1e9, 1) == active


@pytest.mark.parametrize(
    ("config", "published"),
    [
        (
            {
                "architectures": ["MiniMaxText01ForCausalLM"], "model_type": "minimax_text_01",
                "attn_type_list": [0, 0, 0, 0, 0, 0, 0, 1] * 10, "head_dim": 128, "hidden_size": 6144,
                "intermediate_size": 9216, "num_attention_heads": 64, "num_hidden_layers": 80,
                "num_key_value_heads": 8, "num_experts_per_tok": 2, "num_local_experts": 32, "vocab_size": 200064,
                "shared_intermediate_size": 0,
            },
            456,
        ),
        (
            {
                "architectures": ["KimiLinearForCausalLM"], "model_type": "kimi_linear", "hidden_size": 2304,
                "intermediate_size": 9216, "moe_intermediate_size": 1024, "num_attention_heads": 32,
                "num_hidden_layers": 27, "num_experts": 256, "num_experts_per_token": 8, "num_shared_experts": 1,
                "first_k_dense_replace": 1, "moe_layer_freq": 1, "vocab_size": 163840, "kv_lora_rank": 512,
                "q_lora_rank": None, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128,
                "linear_attn_config": {
                    "full_attn_layers": [4, 8, 12, 16, 20, 24, 27], "head_dim": 128, "num_heads": 32,
                    "kda_layers": [1, 2, 3, 5, 6, 7, 9, 10, 11, 13, 14, 15, 17, 18, 19, 21, 22, 23, 25, 26],
                    "short_conv_kernel_size": 4,
                },
            },
            49,
        ),
    ],
)  # fmt: skip
def test_what_transformers_does_not_count_is_as_published(config: dict[str, Any], published: int) -> None:
    model = read_model(config)
    assert round(model.parameters / 1e9) == published
    assert len(model.layers) in (7, 10)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"full_attention_interval": 4}, "sssasssa"),
        ({"model_type": "qwen3_next"}, "sssasssa"),
        ({"full_attention_interval": 4, "layer_types": ["full_attention"] * 8}, "aaaaaaaa"),
        ({"attn_layer_period": 4, "attn_layer_offset": 1}, "sasssass"),
        ({"attn_type_list": [0, 1] * 4}, "sasasasa"),
        ({"attn_layer_indices": [2, 5]}, "ssassass"),
        ({"full_attn_idxs": [0]}, "asssssss"),
        ({"linear_attn_config": {"full_attn_layers": [4, 8]}}, "sssasssa"),
        ({"layer_group_size": 4}, "sssasssa"),
        ({"layers_block_type": ["mamba", "hybrid"] * 4}, "sbsbsbsb"),
        ({"layers_block_type": ["mamba", "attention"] * 4}, "sasasasa"),
        ({"layers_block_type": ["linear_attention", "mlp", "full_attention"]}, "s.a"),
        ({"hybrid_override_pattern": "M-M*-M-*"}, "s.sa.s.a"),
        ({"num_kv_shared_layers": 3}, "aaaaahhh"),
        ({"cross_attention_layers": [1, 6]}, "axaaaaxa"),
        ({"block_configs": [{"attention": {"no_op": True}, "ffn": {}}, {"attention": {"n_heads_in_group": 8}}]},
         ".aaaaaaa"),
    ],
)  # fmt: skip
def test_what_each_layer_looks_at_tokens_with(change: dict[str, Any], expected: str) -> None:
    model = read_model({**PLAIN, **change})
    assert mixers(model) == expected
    assert len(model.layers) == expected.count("a") + expected.count("b")
    assert len(model.layers) + model.others == len(expected)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, "eeeeeeee"),
        ({"decoder_sparse_step": 2}, "dededede"),
        ({"mlp_only_layers": [0, 3]}, "deedeeee"),
        ({"decoder_sparse_step": 1, "first_k_dense_replace": 2}, "ddeeeeee"),
        ({"num_dense_layers": 2}, "ddeeeeee"),
        ({"moe_layer_freq": 2, "first_k_dense_replace": 1}, "ddededed"),
        ({"moe_layer_freq": [0, 0, 1, 1, 1, 1, 1, 0]}, "ddeeeeed"),
        ({"mlp_layer_types": ["dense", *["sparse"] * 7]}, "deeeeeee"),
        ({"interleave_moe_layer_step": 2}, "dededede"),
        ({"interleave_moe_layer_step": 0}, "dddddddd"),
        ({"interleave_moe_layer_step": 2, "moe_layers": [0, 1]}, "eedddddd"),
        ({"moe_layers_enum": "4,5, 7"}, "ddddeede"),
        ({"expert_layer_period": 4, "expert_layer_offset": 1}, "dedddedd"),
        ({"moe_layer_start_index": 1, "moe_layer_end_index": 5, "moe_layer_interval": 1}, "deeeeedd"),
        ({"moe_layer_start_index": 2, "moe_layer_end_index": -1}, "ddeeeeee"),
    ],
)
def test_which_layers_have_experts(change: dict[str, Any], expected: str) -> None:
    plain = {key: value for key, value in MIXED.items() if key != "decoder_sparse_step"}
    assert experts(read_model({**plain, **change})) == expected


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({**SLIDING, "sliding_window_pattern": 4}, "sssfsssf"),
        ({**SLIDING, "sliding_window_pattern": "LLLG"}, "sssfsssf"),
        ({**SLIDING, "global_attn_every_n_layers": 2}, "sfsfsfsf"),
        ({**SLIDING, "hybrid_layer_pattern": [0, 1, 1, 1, 1, 1, 1, 0]}, "fssssssf"),
        ({"sliding_window": [512, None]}, "sfsfsfsf"),
        ({"sliding_window": [None]}, "ffffffff"),
        ({"model_type": "llama4_text", "attention_chunk_size": 512}, "cccfcccf"),
        ({"model_type": "llama4_text", "attention_chunk_size": 512, "no_rope_layers": [1, 0] * 4}, "cfcfcfcf"),
        ({**SLIDING, "layer_types": ["sliding_attention"] * 8, "num_kv_shared_layers": 2}, "ssssss"),
    ],
)
def test_which_layers_have_a_window(change: dict[str, Any], expected: str) -> None:
    assert caches(read_model({**PLAIN, **change})) == expected


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (HYBRIDS["qwen3-next-80b-a3b"]["config"], "36 of its layers keep a state and no tokens (Gated DeltaNet)"),
        (HYBRIDS["jamba-v0.1"]["config"], "28 of its layers keep a state and no tokens (Mamba)"),
        (HYBRIDS["nemotron-nano-9b-v2"]["config"], "27 of its layers keep a state and no tokens (Mamba 2)"),
        (HYBRIDS["nemotron-nano-9b-v2"]["config"], "25 of its layers have no attention and no state"),
        (HYBRIDS["falcon-h1-7b"]["config"], "44 of its layers keep a state beside their tokens (Mamba 2)"),
        ({**PLAIN, "num_kv_shared_layers": 3}, "3 of its layers use the KV cache of another layer"),
        ({**PLAIN, "cross_attention_layers": [3]}, "1 of its layers look at an image"),
        ({**PLAIN, "hybrid_override_pattern": "M-*-"}, "hybrid_override_pattern names 4: these are reckoned"),
        ({**PLAIN, "hybrid_override_pattern": "M-*-"}, "does not say how large its Mamba layers are"),
        ({**PLAIN, "full_attention_interval": 4}, "does not say how large its linear attention layers are"),
        ({**PLAIN, "num_key_value_heads": [8] * 7 + [2]}, '"num_key_value_heads" differs from layer to layer: 8'),
        ({**PLAIN, "ffn_config": {"moe_num_experts": 16}}, "Its ffn_config (its experts"),
        ({**PLAIN, "swa_num_key_value_heads": 4}, "Its swa_num_key_value_heads (KV heads of its layers"),
        ({**PLAIN, "hidden_size_per_layer_input": 256}, "Its hidden_size_per_layer_input (embeddings"),
        ({**PLAIN, "mamba_step": 2}, "Its mamba_step (which layers are Mamba)"),
        ({**PLAIN, "block_configs": [{"attention": {"no_op": True}}]}, "Its block_configs are gone by for layers"),
    ],
)
def test_a_plan_names_what_it_does_not_count(config: dict[str, Any], words: str) -> None:
    assert words in notes(config)


def test_a_plain_model_has_no_such_notes() -> None:
    assert read_model(LLAMA).doubts == ()
    assert read_model({**MIXED, "moe_layer_freq": [0, *[1] * 7], "mlp_layer_types": None}).doubts == ()
    assert "layers" not in notes({**LLAMA, "use_cla": False, "mlp_only_layers": [], "num_kv_shared_layers": 0})


def test_heads_of_a_pruned_model_are_those_of_its_blocks() -> None:
    blocks = [{"attention": {"no_op": False, "n_heads_in_group": 8}, "ffn": {"no_op": at == 0}} for at in range(8)]
    model = read_model({**PLAIN, "num_key_value_heads": None, "block_configs": blocks})
    assert (model.kv_heads, experts(model)) == (4, ".ddddddd")


def test_stages_hold_the_caches_of_their_own_layers() -> None:
    kinds = ["full_attention"] * 6 + ["linear_attention"] * 2
    model = read_model({**PLAIN, "layer_types": kinds})
    layout = Layout(4096, pipeline_parallel=2)
    page = layout.block_size * token_bytes(model, layout)
    assert [block_bytes(model, layout, stage) / page for stage in (0, 1)] == [4, 2]


@pytest.mark.parametrize("name", ["qwen3-next-80b-a3b", "jamba-v0.1", "nemotron-nano-9b-v2", "llama-4-maverick"])
def test_all_gpus_together_hold_the_weights(name: str) -> None:
    model = read_model(HYBRIDS[name]["config"])
    whole, _ = model.bytes_of()
    for tensor in (1, 2, 4, 8):
        each = share(model, Layout(4096, tensor), 80 * GIB, 0.9).weights
        assert whole / tensor <= each * 1.001
        assert each <= whole / tensor * 1.05


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"num_hidden_layers": 99_999_999_999}, '"num_hidden_layers" of its config.json is 99,999,999,999: more than'),
        ({"num_hidden_layers": 10**400}, "is a number of 401 digits: more than 10,000"),
        ({"hidden_size": 10**18}, '"hidden_size" of its config.json is a number of 19 digits'),
        ({"hybrid_override_pattern": "M" * 20_000}, '"hybrid_override_pattern" names 20,000 layers'),
        ({"hybrid_override_pattern": "M-?"}, 'a layer "?"'),
        ({"layer_types": ["full_attention"] * 2}, '"layer_types" names 2 layers, and num_hidden_layers says 8'),
        ({"attn_type_list": [1, 0]}, '"attn_type_list" names 2 layers of 8'),
        ({"attn_layer_indices": [1, "two"]}, '"attn_layer_indices" of its config.json is no list of layers'),
        ({"attn_layer_period": 8, "attn_layer_offset": -1}, '"attn_layer_offset" of its config.json is -1'),
        ({"sliding_window": [512, 1024]}, '"sliding_window" of its config.json has windows of several sizes'),
        ({"sliding_window": [[512]]}, '"sliding_window" of its config.json is no list of windows: [[512]]'),
        ({"hidden_size": 1, "head_dim": None}, "has 32 heads for a hidden size of 1, and no head_dim"),
        ({"mlp_layer_types": ["dense"]}, '"mlp_layer_types" names 1 layers of 8'),
        ({"moe_layer_freq": [0, 1]}, '"moe_layer_freq" names 2 layers of 8'),
        ({"num_kv_shared_layers": "all"}, '"num_kv_shared_layers" of its config.json is all'),
    ],
)
def test_a_layout_that_cannot_be_is_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(BadModel) as found:
        read_model({**MIXED, **change})
    assert words in str(found.value)
