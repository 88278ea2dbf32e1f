"""What a model is made of, as far as memory goes: read out of its ``config.json``.

The names in a ``config.json`` are those of Hugging Face's transformers; which of them vLLM goes by, and what it makes
of them, is in its ``transformers_utils/model_arch_config_convertor.py`` (read at 0.32.0).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from monitor.planning.fields import BadModel, Fields
from monitor.planning.schedule import Schedule, read_schedule
from monitor.planning.shape import BYTES, Block, Experts, Latent, Layer, Model, bits_of
from monitor.planning.states import read_state

__all__ = ["BYTES", "BadModel", "Block", "Experts", "Latent", "Layer", "Model", "read_model"]

_UNGATED = (
    "GPT2",
    "OPT",
    "FalconFor",
    "Bloom",
    "GPTNeoX",
    "GPTJ",
    "Starcoder2",
    "PhiFor",
    "StableLmAlpha",
    "MPT",
    "Nemotron",
)
"""Architectures whose feed-forward has two matrices and no gate."""


def read_model(config: Mapping[str, Any], name: str = "", weights_bytes: int | None = None) -> Model:
    """The model that a parsed ``config.json`` describes. Raises ``BadModel``, which names the field."""
    found = Fields(config)
    text = found.child("text_config", "llm_config", "language_config")
    beside = "" if text is found else "its encoder for images or sound is not counted"
    architectures = found.raw("architectures") or text.raw("architectures")
    architecture = str(architectures[0]) if isinstance(architectures, list) and architectures else ""
    experts = _experts(text)
    schedule = read_schedule(text, mixed=experts is not None)
    hidden = text.number("hidden_size", "n_embd", "d_model")
    heads = text.number("num_attention_heads", "n_head", "n_heads")
    blocks, layers = schedule.blocks, schedule.layers
    state = read_state(text, hidden, heads) if any(one.mixer in ("state", "both") for one in blocks) else None
    head = text.optional("head_dim", "attention_head_dim") or hidden // heads
    if not head:
        raise BadModel(f"its config.json has {heads:,} heads for a hidden size of {hidden:,}, and no head_dim")
    kv_heads, intermediate = _kv_heads(text, heads), _dense(text, hidden)
    method, bits = _quantization(found, text)
    latent = _latent(text)
    return Model(
        name=name or str(found.raw("_name_or_path") or found.raw("model_type") or "model"),
        architecture=architecture,
        layers=layers,
        hidden=hidden,
        heads=heads,
        kv_heads=kv_heads,
        head=head,
        intermediate=intermediate,
        vocabulary=text.number("vocab_size"),
        context=text.optional("max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "n_ctx") or 2048,
        dtype=str(
            text.raw("torch_dtype") or text.raw("dtype") or found.raw("torch_dtype") or found.raw("dtype") or "bfloat16"
        ),
        # What transformers takes where a config.json does not say; most that tie say so.
        tied=bool(text.raw("tie_word_embeddings", text.raw("tie_embedding", found.raw("tie_word_embeddings", False)))),
        gated=not architecture.startswith(_UNGATED),
        bias=bool(text.raw("attention_bias") or text.raw("qkv_bias") or architecture.startswith("Qwen2")),
        latent=latent,
        experts=experts if any(one.feed == "experts" for one in blocks) else None,
        quantization=method,
        weight_bits=bits,
        weights_bytes=weights_bytes,
        others=len(blocks) - len(layers),
        beside=beside,
        blocks=blocks,
        state=state,
        output_gate=bool(text.raw("attn_output_gate", text.raw("model_type") == "qwen3_next")),
        doubts=_doubts(text, schedule, state is None or state.known, state.name if state else ""),
    )


def _kv_heads(text: Fields, heads: int) -> int:
    if text.raw("multi_query") is True and text.raw("num_kv_heads") is None:  # Falcon, StarCoder
        return 1
    if isinstance(each := text.raw("block_configs"), list) and text.raw("num_key_value_heads") is None:
        parts = [one.get("attention") if isinstance(one, Mapping) else None for one in each]  # Nemotron made by pruning
        sizes = [one.get("n_heads_in_group") for one in parts if isinstance(one, Mapping)]
        if known := [one for one in sizes if isinstance(one, int) and one > 0]:
            return max(1, heads // min(known))
    return (
        text.optional("num_key_value_heads", "num_kv_heads", "n_head_kv", "n_kv_heads", "multi_query_group_num")
        or heads
    )


def _latent(text: Fields) -> Latent | None:
    rank = text.optional("kv_lora_rank")
    if rank is None:
        return None
    return Latent(
        rank,
        text.number("qk_rope_head_dim"),
        text.number("qk_nope_head_dim"),
        text.number("v_head_dim"),
        text.optional("q_lora_rank") or 0,
    )


def _experts(text: Fields) -> Experts | None:
    count = text.optional("n_routed_experts", "num_local_experts", "num_experts", "moe_num_experts")
    if count is None or count < 2:
        return None
    width = text.optional("moe_intermediate_size", "expert_ffn_hidden_size") or text.number("intermediate_size")
    return Experts(
        count,
        text.optional("num_experts_per_tok", "num_experts_per_token", "moe_top_k", "moe_k", "experts_per_token") or 1,
        width,
        _shared(text, width),
        text.optional("first_k_dense_replace", "num_dense_layers") or 0,
        _every(text),
        text.optional("moe_latent_size") or 0,
    )


def _every(text: Fields) -> int:
    freq = "moe_layer_freq" if isinstance(text.raw("moe_layer_freq"), int) else ""  # where it is a list, it names them
    return text.optional(freq, "decoder_sparse_step", "interleave_moe_layer_step", "expert_layer_period") or 1


def _shared(text: Fields, width: int) -> int:
    """Width of the experts that every token meets, together."""
    if str(text.raw("model_type") or "").startswith("llama4"):
        return width
    whole = text.optional(
        "shared_expert_intermediate_size", "moe_shared_expert_intermediate_size", "shared_intermediate_size"
    )
    count = text.optional("n_shared_experts", "num_shared_experts", "moe_num_shared_experts", "num_shared_expert")
    return whole or width * (count or 0)


def _dense(text: Fields, hidden: int) -> int:
    """Width of the feed-forward of layers without experts."""
    if str(text.raw("model_type") or "") == "granitemoehybrid" and (wide := text.optional("shared_intermediate_size")):
        return wide
    wide = text.optional("block_ff_dim")
    if wide is not None and text.raw("block_auto_adjust_ff_dim", True):  # LFM2: two thirds, in whole steps
        many, step = text.raw("block_ffn_dim_multiplier", 1.0), text.optional("block_multiple_of") or 256
        wide = int((many if isinstance(many, (int, float)) and 0 < many < 100 else 1.0) * (2 * wide // 3))
        return -(-wide // step) * step
    return (
        wide
        or text.optional("intermediate_size_mlp", "intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size")
        or 4 * hidden
    )


def _doubts(text: Fields, schedule: Schedule, state_known: bool, state_name: str) -> tuple[str, ...]:
    found = list(schedule.doubts)
    if not state_known:
        found.append(
            f"Its config.json does not say how large its {state_name} layers are: their parameters are reckoned as "
            "6 × hidden_size², the usual."
        )
    found += [
        f'"{name}" differs from layer to layer: {most:,}, the largest, is taken for all.'
        for name, most in text.varied.items()
    ]
    return tuple(found)


def _quantization(*places: Fields) -> tuple[str, int | None]:
    for place in places:
        found = place.raw("quantization_config") or place.raw("compression_config")
        if not isinstance(found, Mapping):
            continue
        method = str(found.get("quant_method") or found.get("quant_algo") or "unknown").lower()
        bits = found.get("bits") or found.get("w_bit")
        if isinstance(bits, int) and bits > 0:
            return method, bits
        if found.get("load_in_4bit"):
            return method, 4
        if found.get("load_in_8bit"):
            return method, 8
        groups = found.get("config_groups")
        if isinstance(groups, Mapping):
            for group in groups.values():
                weights = group.get("weights") if isinstance(group, Mapping) else None
                if isinstance(weights, Mapping) and isinstance(weights.get("num_bits"), int):
                    return method, int(weights["num_bits"])
        try:
            return method, bits_of(method)
        except BadModel:
            return method, None
    return "", None
