"""What a config.json says of a model. ``model_shapes.json`` has parameters as transformers counts them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from monitor.planning.model import BadModel, read_model

SHAPES: dict[str, dict[str, Any]] = json.loads((Path(__file__).parents[1] / "data/model_shapes.json").read_text())
LLAMA = SHAPES["llama-3.1-8b"]["config"]


@pytest.mark.parametrize("name", SHAPES)
def test_parameters_are_those_that_transformers_counts(name: str) -> None:
    found = read_model(SHAPES[name]["config"]).parameters
    assert abs(found / SHAPES[name]["parameters"] - 1) < 0.0005


@pytest.mark.parametrize("name", ["llama-3.1-70b", "mixtral-8x7b", "qwen2.5-7b", "deepseek-v3", "deepseek-v2-lite"])
def test_of_plain_families_to_the_last_one(name: str) -> None:
    assert read_model(SHAPES[name]["config"]).parameters == SHAPES[name]["parameters"]


def test_a_mixture_has_those_that_one_token_meets() -> None:
    assert round(read_model(SHAPES["mixtral-8x7b"]["config"]).active_parameters / 1e9, 1) == 12.9
    assert round(read_model(SHAPES["deepseek-v3"]["config"]).active_parameters / 1e9, 1) == 37.6
    dense = read_model(LLAMA)
    assert dense.active_parameters == dense.parameters


def test_layers_by_their_windows() -> None:
    gemma = read_model(SHAPES["gemma-3-1b"]["config"])
    assert [one.kind for one in gemma.layers].count("full") == 4
    assert {one.window for one in gemma.layers if one.kind == "sliding"} == {512}
    mistral = read_model(SHAPES["mistral-7b-v0.1"]["config"])
    assert {(one.kind, one.window) for one in mistral.layers} == {("sliding", 4096)}
    qwen = read_model({**SHAPES["qwen2.5-7b"]["config"], "sliding_window": 131072, "use_sliding_window": False})
    assert {one.kind for one in qwen.layers} == {"full"}


def test_layers_without_a_cache_of_tokens_are_counted_apart() -> None:
    kinds = ["linear_attention", "linear_attention", "linear_attention", "full_attention"] * 8
    model = read_model({**LLAMA, "layer_types": kinds})
    assert (len(model.layers), model.others) == (8, 24)


def test_a_model_that_sees_is_read_by_its_text_part() -> None:
    model = read_model({"architectures": ["Gemma3ForConditionalGeneration"], "text_config": LLAMA, "vision_config": {}})
    assert model.parameters == SHAPES["llama-3.1-8b"]["parameters"]
    assert "images" in model.beside


@pytest.mark.parametrize(
    ("quantization", "bits"),
    [
        ({"quant_method": "awq", "bits": 4}, 4),
        ({"quant_method": "fp8"}, 8),
        ({"quant_method": "mxfp4"}, 4),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, 8),
        ({"quant_method": "compressed-tensors", "config_groups": {"group_0": {"weights": {"num_bits": 8}}}}, 8),
        ({"quant_method": "never-heard-of"}, None),
    ],
)
def test_quantized_weights(quantization: dict[str, Any], bits: int | None) -> None:
    model = read_model({**LLAMA, "quantization_config": quantization})
    assert model.weight_bits == bits
    whole, known = model.bytes_of()
    assert not known
    if bits is not None:
        assert whole < 0.75 * model.parameters * 2


def test_what_the_files_weigh_is_taken_as_it_is() -> None:
    model = read_model(LLAMA, weights_bytes=16_060_522_496)
    assert model.bytes_of() == (16_060_522_496.0, True)
    whole, known = model.bytes_of("fp8")
    assert not known
    assert 0.5 < whole / 16_060_522_496 < 0.6


def test_an_unknown_quantization_is_named() -> None:
    with pytest.raises(BadModel, match='"zip" is no quantization'):
        read_model(LLAMA).bytes_of("zip")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"num_hidden_layers": None}, 'no "num_hidden_layers"'),
        ({"hidden_size": "large"}, "\"hidden_size\" of its config.json is 'large'"),
        ({"vocab_size": 0}, 'no "vocab_size"'),
        ({"num_attention_heads": -2}, 'no "num_attention_heads"'),
        ({"layer_types": ["full_attention", "telepathy"]}, '"telepathy"'),
        ({"kv_lora_rank": 512}, 'no "qk_rope_head_dim"'),
    ],
)
def test_a_bad_config_names_its_field(change: dict[str, Any], words: str) -> None:
    with pytest.raises(BadModel) as found:
        read_model({**LLAMA, **change})
    assert words in str(found.value)


def test_what_is_no_object_is_refused() -> None:
    with pytest.raises(BadModel, match="no object"):
        read_model([1, 2])  # type: ignore[arg-type]
