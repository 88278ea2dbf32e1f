"""Which layer of a model is of what kind, by the fields that say so in a ``config.json``.

Families say it in ways of their own: a list of names, a text of signs, a period with an offset, a list of places. What
each means is as in transformers' ``configuration_*.py`` and vLLM's models (both read at vLLM 0.32.0).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from monitor.planning.fields import MOST_LAYERS, BadModel, Fields
from monitor.planning.shape import Block, Feed, Layer

_STATE = ("mamba", "linear_attention", "conv", "recurrent", "ssm", "lightning", "delta", "kda")
_SIGNS = {"M": "linear_attention", "*": "full_attention", "-": "mlp", "E": "moe"}
"""Of Nemotron-H's ``hybrid_override_pattern``."""
_UNREAD = {
    "ffn_config": "its experts or the width of its feed-forward",
    "attn_config": "its KV heads",
    "mamba_step": "which layers are Mamba",
    "mb_per_layer": "which layers are Mamba or share a KV cache",
    "n_mamba_per_block": "which layers are Mamba",
    "num_mem_blocks": "weights that layers share, and adapters beside them",
    "use_cla": "layers that use another layer's keys and values",
    "dense_attention_every_n_layers": "layers with sparse attention",
    "attention_types": "which layers have a window",
    "ffn_multipliers": "the width of each layer's feed-forward",
    "num_query_heads": "the heads of each layer",
    "attention_other_setting": "heads of its layers with a window",
    "swa_num_key_value_heads": "KV heads of its layers with a window",
    "swa_head_dim": "the size of heads in its layers with a window",
    "num_global_key_value_heads": "KV heads of its layers without a window",
    "global_head_dim": "the size of heads in its layers without a window",
    "hidden_size_per_layer_input": "embeddings of each layer",
    "altup_num_inputs": "matrices between its parallel streams",
    "index_topk": "an indexer's own cache for sparse attention",
    "compress_ratios": "layers whose KV cache is compressed",
    "zero_expert_num": "a second attention in each layer",
    "is_encoder_decoder": "an encoder, and attention to what it says",
}
"""Fields that are known to change the figures and are not gone by: what they say."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """All layers in order, and what of it stands in no relation to the figures."""

    blocks: tuple[Block, ...]
    doubts: tuple[str, ...]

    @property
    def layers(self) -> tuple[Layer, ...]:
        """Those with a KV cache of their own."""
        return tuple(one.cache for one in self.blocks if one.cache is not None)


def read_schedule(text: Fields, *, mixed: bool) -> Schedule:
    """The layers that ``text`` describes; ``mixed`` where it has experts."""
    doubts: list[str] = []
    names, count = _names(text, doubts)
    alone = any(name in ("mlp", "moe") for name in names)
    window, patterned = _window(text)
    chunk = text.optional("attention_chunk_size") or 0
    if names:
        blocks = [_by_name(name, window, chunk) for name in names]
    else:
        blocks = [Block("attention", cache=one) for one in _by_window(text, count, window, patterned, chunk)]
    if str(text.raw("model_type") or "") == "falcon_h1":
        blocks = [Block("both", cache=one.cache) for one in blocks]
    if not alone:
        sparse = _sparse(text, count) if mixed else lambda at: False
        blocks = [Block(one.mixer, "experts" if sparse(at) else "dense", one.cache) for at, one in enumerate(blocks)]
        blocks = _without(text, blocks)
    doubts += _unread(text, blocks)
    return Schedule(tuple(blocks), tuple(doubts))


def _names(text: Fields, doubts: list[str]) -> tuple[list[str], int]:
    """A name for each layer where any field gives one, and how many layers there are."""
    said = text.optional("num_hidden_layers", "n_layer", "n_layers", "num_layers", most=MOST_LAYERS)
    field = next((one for one in ("layer_types", "layers_block_type") if text.raw(one)), "")
    kinds = text.raw(field) if field else None
    pattern = text.raw("hybrid_override_pattern")
    if not isinstance(kinds, list) and isinstance(pattern, str) and pattern:
        field, kinds = "hybrid_override_pattern", [_SIGNS.get(sign, sign) for sign in pattern]
    if isinstance(kinds, list) and kinds:
        names = [str(one) for one in kinds]
        if len(names) > MOST_LAYERS:
            raise BadModel(f'"{text.path(field)}" names {len(names):,} layers: more than {MOST_LAYERS:,} is no model')
        if any(name in ("mlp", "moe") for name in names):  # Nemotron-H: transformers goes by these alone
            if said is not None and said != len(names):
                doubts.append(
                    f"num_hidden_layers says {said} layers, and {field} names {len(names)}: these are reckoned."
                )
            return names, len(names)
        count = len(names) if said is None else said
        if len(names) < count:
            _check_names(names)
            raise BadModel(f'"{text.path(field)}" names {len(names)} layers, and num_hidden_layers says {count}')
        return names[:count], count
    count = text.number("num_hidden_layers", "n_layer", "n_layers", "num_layers", most=MOST_LAYERS)
    full = _full(text, count)
    if full is None:
        return [], count
    return ["full_attention" if full(at) else "linear_attention" for at in range(count)], count


def _full(text: Fields, count: int) -> Callable[[int], bool] | None:
    """Whether the layer of this number, from 0, has full attention, and not a state; None where all have."""
    if (each := text.optional("full_attention_interval")) is not None:  # Qwen3-Next, Qwen3.5
        return lambda at: (at + 1) % each == 0
    if (period := text.optional("attn_layer_period")) is not None:  # Jamba
        offset = text.whole("attn_layer_offset")
        return lambda at: at % period == offset % period
    if isinstance(kinds := text.raw("attn_type_list"), list) and kinds:  # MiniMax
        if len(kinds) < count:
            raise BadModel(f'"{text.path("attn_type_list")}" names {len(kinds)} layers of {count}')
        return lambda at: kinds[at] == 1
    for name in ("attn_layer_indices", "full_attn_idxs"):  # Bamba, LFM2
        if (places := text.places(name)) is not None:
            return _among(places)
    linear = text.child("linear_attn_config")  # Kimi Linear, which counts from 1
    if linear is not text and (places := linear.places("full_attn_layers")) is not None:
        return _among(frozenset(at - 1 for at in places))
    if (group := text.optional("layer_group_size")) is not None and group > 1:  # Ring and Ling, linear
        return lambda at: (at + 1) % group == 0
    if str(text.raw("model_type") or "") == "qwen3_next":  # transformers' own where the file has none
        return lambda at: (at + 1) % 4 == 0
    return None


def _among(places: frozenset[int]) -> Callable[[int], bool]:
    return lambda at: at in places


def _check_names(names: list[str]) -> None:
    for name in names:
        _by_name(name, 0, 0)


def _by_name(kind: str, window: int, chunk: int) -> Block:
    if kind in ("mlp", "moe"):
        return Block("none", "experts" if kind == "moe" else "dense")
    mixer_only: Feed = "none"
    if "sliding" in kind:
        return Block("attention", mixer_only, Layer("sliding", window) if window else Layer("full"))
    if "chunked" in kind:
        return Block("attention", mixer_only, Layer("chunked", chunk) if chunk else Layer("full"))
    if "full" in kind or kind == "attention":
        return Block("attention", mixer_only, Layer("full"))
    if kind.startswith("hybrid"):  # Zamba: a Mamba layer with attention beside it
        return Block("both", mixer_only, Layer("full"))
    if any(part in kind for part in _STATE):
        return Block("state", mixer_only)
    raise BadModel(f'its config.json names a layer "{kind}" that is not known here')


def _window(text: Fields) -> tuple[int, list[bool]]:
    """Tokens, and which layers have it where a list says so (it is repeated)."""
    for name in ("sliding_window", "interleaved_sliding_window"):
        found = text.raw(name)
        if isinstance(found, list) and found:
            if any(one is not None and (isinstance(one, bool) or not isinstance(one, int) or one < 0) for one in found):
                raise BadModel(f'"{text.path(name)}" of its config.json is no list of windows: {str(found)[:40]}')
            sizes = {one for one in found if one}
            if len(sizes) > 1:
                raise BadModel(f'"{text.path(name)}" of its config.json has windows of several sizes: {found[:8]}')
            return (next(iter(sizes)), [bool(one) for one in found]) if sizes else (0, [])
    window = text.optional("sliding_window", "sliding_window_size") or 0
    pattern = text.raw("sliding_window_pattern", text.raw("_sliding_window_pattern"))
    if isinstance(pattern, str) and pattern and set(pattern) <= set("LG"):  # EXAONE: local and global
        return window, [sign == "L" for sign in pattern]
    if isinstance(pattern, list) and pattern:
        return window, [bool(one) for one in pattern]
    if isinstance(pattern := text.raw("hybrid_layer_pattern"), list) and pattern:  # MiMo
        return window, [one == 1 for one in pattern]
    return window, []


def _by_window(text: Fields, count: int, window: int, patterned: list[bool], chunk: int) -> list[Layer]:
    full, sliding = Layer("full"), Layer("sliding", window)
    model = str(text.raw("model_type") or "")
    if chunk and model.startswith("llama4"):
        return _chunks(text, count, chunk)
    if not window or text.raw("use_sliding_window") is False:
        return [full] * count
    if patterned:
        return [sliding if patterned[at % len(patterned)] else full for at in range(count)]
    pattern = text.optional("sliding_window_pattern", "_sliding_window_pattern", "global_attn_every_n_layers")
    if model.startswith(("gemma2", "cohere2", "gemma3")) or pattern:
        each = pattern or (2 if model == "gemma2" else 4 if model == "cohere2" else 5 if model == "gemma3n_text" else 6)
        return [full if not (at + 1) % each else sliding for at in range(count)]
    first = text.optional("max_window_layers") if model.startswith("qwen") else None
    return [full if first and at < first else sliding for at in range(count)]


def _chunks(text: Fields, count: int, chunk: int) -> list[Layer]:
    """Llama 4: layers with rotary embeddings look at a chunk, those without at all."""
    rotary = text.raw("no_rope_layers")
    if isinstance(rotary, list) and len(rotary) >= count:
        return [Layer("chunked", chunk) if rotary[at] else Layer("full") for at in range(count)]
    each = text.optional("no_rope_layer_interval") or 4
    return [Layer("chunked", chunk) if (at + 1) % each else Layer("full") for at in range(count)]


def _sparse(text: Fields, count: int) -> Callable[[int], bool]:
    """Whether the layer of this number has experts; the rest have one feed-forward."""
    for name in (
        "mlp_layer_types",
        "moe_layer_freq",
    ):  # of the latter MiMo and MiniMax have a list, 1 for each that has
        if isinstance(kinds := text.raw(name), list) and kinds:
            if len(kinds) < count:
                raise BadModel(f'"{text.path(name)}" names {len(kinds)} layers of {count}')
            marked = frozenset(at for at, kind in enumerate(kinds) if kind and kind != "dense")
            return _among(marked)
    for name in ("moe_layers", "moe_layers_enum"):  # Llama 4, Step 3
        if (places := text.places(name)) is not None:
            return _among(places)
    if text.raw("interleave_moe_layer_step") is not None:  # Llama 4; 0: none
        step = text.whole("interleave_moe_layer_step")
        return lambda at: bool(step) and (at + 1) % step == 0
    if (period := text.optional("expert_layer_period")) is not None:  # Jamba
        offset = text.whole("expert_layer_offset")
        return lambda at: at % period == offset % period
    dense = text.optional("first_k_dense_replace", "num_dense_layers") or 0
    each = text.optional("moe_layer_freq") or 1  # DeepSeek counts from 0
    step = text.optional("decoder_sparse_step", "moe_layer_interval") or 1  # Qwen and Ernie from 1
    begin = text.whole("moe_layer_start_index")
    end = last if isinstance(last := text.raw("moe_layer_end_index"), int) and last >= 0 else count
    plain = text.places("mlp_only_layers") or frozenset()
    return lambda at: max(dense, begin) <= at <= end and at % each == 0 and (at + 1) % step == 0 and at not in plain


def _without(text: Fields, blocks: list[Block]) -> list[Block]:
    """The same, less the caches that are another's, or of no tokens, and what is left out of a layer."""
    found = list(blocks)
    shared = min(text.whole("num_kv_shared_layers"), len(found))  # Gemma 3n: the last ones
    for at in range(len(found) - shared, len(found)):
        found[at] = Block("shared", found[at].feed)
    for at in text.places("cross_attention_layers") or ():  # Llama 3.2 Vision
        if 0 <= at < len(found):
            found[at] = Block("cross", found[at].feed)
    each = text.raw("block_configs")  # Nemotron made by pruning
    if isinstance(each, list):
        for at, one in enumerate(each[: len(found)]):
            attention, feed = (_part(one, name) for name in ("attention", "ffn"))
            block = found[at]
            if attention.get("no_op") or attention.get("replace_with_linear"):
                block = Block("none", block.feed)
            if feed.get("no_op"):
                block = Block(block.mixer, "none", block.cache)
            found[at] = block
    return found


def _part(block: Any, name: str) -> Mapping[str, Any]:
    part = block.get(name) if isinstance(block, Mapping) else None
    return part if isinstance(part, Mapping) else {}


def _unread(text: Fields, blocks: list[Block]) -> list[str]:
    found = [f"Its {name} ({what}) is not gone by: figures are off by it." for name, what in _UNREAD.items()
             if text.raw(name)]  # fmt: skip
    if text.raw("block_configs"):
        found.append(
            "Its block_configs are gone by for layers that are left out, not for the width of each feed-forward nor "
            "KV heads that differ: figures are off by it."
        )
    if any(one.mixer == "both" for one in blocks) and str(text.raw("model_type") or "").startswith("zamba"):
        found.append("Its layers share the weights of their attention, which is not gone by: it has fewer parameters.")
    return found
