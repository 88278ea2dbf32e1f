"""What a model is made of, as far as memory goes: read out of its ``config.json``.

The names in a ``config.json`` are those of Hugging Face's transformers; which of them vLLM goes by, and what it makes
of them, is in its ``transformers_utils/model_arch_config_convertor.py`` (read at 0.32.0).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

Kind: TypeAlias = Literal["full", "sliding", "chunked"]

BYTES = {
    "float32": 4.0, "float": 4.0, "float16": 2.0, "half": 2.0, "bfloat16": 2.0,
    "fp8": 1.0, "fp8_e4m3": 1.0, "fp8_e5m2": 1.0, "int8": 1.0, "int4": 0.5, "fp4": 0.5,
}  # fmt: skip
"""Of one value."""

_NO_ATTENTION = ("mamba", "linear_attention", "conv", "recurrent", "ssm", "moe", "mlp")
_UNGATED = (
    "GPT2",
    "OPT",
    "Falcon",
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


class BadModel(Exception):
    """What is wrong with a ``config.json``, and what to do."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer, as its KV cache sees it."""

    kind: Kind
    window: int = 0
    """Tokens; of ``sliding`` and ``chunked``."""


@dataclass(frozen=True, slots=True)
class Latent:
    """Multi-head latent attention: one vector for all heads."""

    kv_rank: int
    rope: int
    nope: int
    value: int
    query_rank: int = 0


@dataclass(frozen=True, slots=True)
class Experts:
    """A mixture of experts."""

    count: int
    chosen: int
    intermediate: int
    shared: int = 0
    """Width of the shared ones together."""
    dense_layers: int = 0
    """How many layers at the beginning have none."""
    every: int = 1


@dataclass(frozen=True, slots=True)
class Model:
    """A decoder. Sizes are numbers of values, not bytes."""

    name: str
    architecture: str
    layers: tuple[Layer, ...]
    hidden: int
    heads: int
    kv_heads: int
    head: int
    """Of one key or value head."""
    intermediate: int
    vocabulary: int
    context: int
    """The longest it was made for, in tokens."""
    dtype: str
    tied: bool
    gated: bool
    bias: bool
    latent: Latent | None = None
    experts: Experts | None = None
    quantization: str = ""
    """The method of its checkpoint: ``fp8``, ``awq``, ``gptq``, …; "" for none."""
    weight_bits: int | None = None
    """Of a quantized matrix."""
    weights_bytes: int | None = None
    """Of its files, where they are known: exact, where ``parameters`` is made from the formula."""
    others: int = 0
    """Layers without a KV cache of tokens: Mamba, linear attention, …"""
    beside: str = ""
    """What it has that is not counted: a vision tower."""

    @property
    def value_bytes(self) -> float:
        """Of one weight, unquantized."""
        return BYTES.get(self.dtype, 2.0)

    def attention_parameters(self) -> int:
        """Of one layer."""
        if (latent := self.latent) is not None:
            query = self.heads * (latent.nope + latent.rope)
            down = self.hidden * latent.query_rank + latent.query_rank * (query + 1) if latent.query_rank else 0
            return (
                (down or self.hidden * query)
                + self.hidden * (latent.kv_rank + latent.rope)
                + latent.kv_rank * (self.heads * (latent.nope + latent.value) + 1)
                + self.heads * latent.value * self.hidden
            )
        wide, narrow = self.heads * self.head, self.kv_heads * self.head
        return self.hidden * (wide + 2 * narrow) + wide * self.hidden + (wide + 2 * narrow if self.bias else 0)

    def feed_forward_parameters(self, layer: int) -> int:
        """Of the layer with this number."""
        matrices = 3 if self.gated else 2
        experts = self.experts
        if experts is None or layer < experts.dense_layers or layer % experts.every:
            return matrices * self.hidden * self.intermediate
        each = matrices * self.hidden * experts.intermediate
        return experts.count * (each + self.hidden) + matrices * self.hidden * experts.shared

    def layer_parameters(self, layer: int) -> int:
        """Attention, feed-forward and the two norms."""
        return self.attention_parameters() + self.feed_forward_parameters(layer) + 2 * self.hidden

    @property
    def embedding_parameters(self) -> int:
        """One matrix between tokens and vectors."""
        return self.vocabulary * self.hidden

    @property
    def parameters(self) -> int:
        """All, by the formula of its family: norms within attention and biases of some families are left out, which is
        less than a thousandth."""
        layers = sum(self.layer_parameters(each) for each in range(len(self.layers) + self.others))
        return layers + self.embedding_parameters * (1 if self.tied else 2) + self.hidden

    @property
    def active_parameters(self) -> int:
        """Those that one token meets."""
        experts = self.experts
        if experts is None:
            return self.parameters
        idle = (experts.count - experts.chosen) * (3 if self.gated else 2) * self.hidden * experts.intermediate
        mixed = sum(
            1
            for each in range(len(self.layers) + self.others)
            if each >= experts.dense_layers and not each % experts.every
        )
        return self.parameters - mixed * idle

    def bytes_of(self, quantization: str = "") -> tuple[float, bool]:
        """Of all weights, and whether that is known from the files (else it is reckoned). ``quantization`` is what
        vLLM would make of them when it loads them: ``fp8``, …"""
        if quantization:
            return self._reckoned(_bits(quantization)), False
        if self.weights_bytes is not None:
            return float(self.weights_bytes), True
        return self._reckoned(self.weight_bits), False

    def _reckoned(self, bits: int | None) -> float:
        embeddings = self.embedding_parameters * (1 if self.tied else 2)
        if bits is None:
            return self.parameters * self.value_bytes
        # Scales and zeros of groups of 128 are about a quarter bit for four bits; embeddings stay as they are.
        matrices = self.parameters - embeddings
        return matrices * (bits + (0.25 if bits <= 4 else 0.0)) / 8 + embeddings * self.value_bytes


def _bits(method: str) -> int:
    text = method.lower()
    if "fp8" in text or "int8" in text or "w8" in text:
        return 8
    if any(part in text for part in ("awq", "gptq", "int4", "fp4", "w4", "4bit", "bitsandbytes")):
        return 4
    raise BadModel(f'"{method}" is no quantization that is known here: fp8, int8, awq, gptq, mxfp4, nvfp4')


def read_model(config: Mapping[str, Any], name: str = "", weights_bytes: int | None = None) -> Model:
    """The model that a parsed ``config.json`` describes. Raises ``BadModel``, which names the field."""
    found = _Fields(config)
    text = found.child("text_config", "llm_config", "language_config")
    beside = "" if text is found else "its encoder for images or sound is not counted"
    architectures = found.raw("architectures") or text.raw("architectures")
    architecture = str(architectures[0]) if isinstance(architectures, list) and architectures else ""
    count = text.number("num_hidden_layers", "n_layer", "n_layers", "num_layers")
    hidden = text.number("hidden_size", "n_embd", "d_model")
    heads = text.number("num_attention_heads", "n_head", "n_heads")
    layers, others = _layers(text, count)
    method, bits = _quantization(found, text)
    latent = _latent(text)
    return Model(
        name=name or str(found.raw("_name_or_path") or found.raw("model_type") or "model"),
        architecture=architecture,
        layers=layers,
        hidden=hidden,
        heads=heads,
        kv_heads=_kv_heads(text, heads),
        head=text.optional("head_dim", "attention_head_dim") or hidden // heads,
        intermediate=text.optional("intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size") or 4 * hidden,
        vocabulary=text.number("vocab_size"),
        context=text.optional("max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "n_ctx") or 2048,
        dtype=str(
            text.raw("torch_dtype") or text.raw("dtype") or found.raw("torch_dtype") or found.raw("dtype") or "bfloat16"
        ),
        # What transformers takes where a config.json does not say; most that tie say so.
        tied=bool(text.raw("tie_word_embeddings", found.raw("tie_word_embeddings", False))),
        gated=not architecture.startswith(_UNGATED),
        bias=bool(text.raw("attention_bias") or text.raw("qkv_bias") or architecture.startswith("Qwen2")),
        latent=latent,
        experts=_experts(text),
        quantization=method,
        weight_bits=bits,
        weights_bytes=weights_bytes,
        others=others,
        beside=beside,
    )


class _Fields:
    """Reads fields under the several names that they have."""

    def __init__(self, values: Mapping[str, Any], where: str = "") -> None:
        if not isinstance(values, Mapping):
            raise BadModel(f"{where or 'config.json'} is no object")
        self._values = values
        self._where = where

    def raw(self, name: str, default: Any = None) -> Any:
        found = self._values.get(name)
        return default if found is None else found

    def child(self, *names: str) -> _Fields:
        for name in names:
            if isinstance(found := self.raw(name), Mapping):
                return _Fields(found, name)
        return self

    def optional(self, *names: str) -> int | None:
        for name in names:
            found = self.raw(name)
            if isinstance(found, list) and found and all(isinstance(one, int) for one in found):
                found = max(found)  # one for each layer
            if isinstance(found, int) and not isinstance(found, bool) and found > 0:
                return found
            if found is not None and not isinstance(found, (int, list)):
                raise BadModel(f'"{self._path(name)}" of its config.json is {found!r}, and not a number above 0')
        return None

    def number(self, *names: str) -> int:
        found = self.optional(*names)
        if found is None:
            other = f" (nor {', '.join(names[1:])})" if len(names) > 1 else ""
            raise BadModel(
                f'its config.json has no "{self._path(names[0])}"{other} above 0: is it that of a language model?'
            )
        return found

    def _path(self, name: str) -> str:
        return f"{self._where}.{name}" if self._where else name


def _kv_heads(text: _Fields, heads: int) -> int:
    if text.raw("multi_query") is True and text.raw("num_kv_heads") is None:  # Falcon, StarCoder
        return 1
    return (
        text.optional("num_key_value_heads", "num_kv_heads", "n_head_kv", "n_kv_heads", "multi_query_group_num")
        or heads
    )


def _layers(text: _Fields, count: int) -> tuple[tuple[Layer, ...], int]:
    """Those with a KV cache, and how many have none."""
    window = text.optional("sliding_window") or 0
    chunk = text.optional("attention_chunk_size") or 0
    kinds = text.raw("layer_types") or text.raw("layers_block_type")
    if isinstance(kinds, list) and kinds:
        return _by_name([str(one) for one in kinds][:count], window, chunk)
    pattern = text.optional("sliding_window_pattern", "_sliding_window_pattern")
    model = str(text.raw("model_type") or "")
    if window and text.raw("use_sliding_window") is not False:
        if model.startswith(("gemma2", "cohere2", "gemma3")) or pattern:
            each = pattern or (2 if model == "gemma2" else 4 if model == "cohere2" else 6)
            full, sliding = Layer("full"), Layer("sliding", window)
            return tuple(full if not (at + 1) % each else sliding for at in range(count)), 0
        first = text.optional("max_window_layers") if model.startswith("qwen") else None
        return tuple(Layer("full") if first and at < first else Layer("sliding", window) for at in range(count)), 0
    return (Layer("full"),) * count, 0


def _by_name(kinds: list[str], window: int, chunk: int) -> tuple[tuple[Layer, ...], int]:
    layers: list[Layer] = []
    for kind in kinds:
        if "sliding" in kind and window:
            layers.append(Layer("sliding", window))
        elif "chunked" in kind and chunk:
            layers.append(Layer("chunked", chunk))
        elif "full" in kind or kind == "attention" or "sliding" in kind:
            layers.append(Layer("full"))
        elif not any(part in kind for part in _NO_ATTENTION):
            raise BadModel(f'its config.json names a layer "{kind}" that is not known here')
    return tuple(layers), len(kinds) - len(layers)


def _latent(text: _Fields) -> Latent | None:
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


def _experts(text: _Fields) -> Experts | None:
    count = text.optional("n_routed_experts", "num_local_experts", "num_experts", "moe_num_experts")
    if count is None or count < 2:
        return None
    width = text.optional("moe_intermediate_size", "expert_ffn_hidden_size") or text.number("intermediate_size")
    shared = text.optional("shared_expert_intermediate_size") or width * (text.optional("n_shared_experts") or 0)
    return Experts(
        count,
        text.optional("num_experts_per_tok", "num_experts_per_token", "moe_top_k", "experts_per_token") or 1,
        width,
        shared,
        text.optional("first_k_dense_replace") or 0,
        text.optional("moe_layer_freq", "decoder_sparse_step") or 1,
    )


def _quantization(*places: _Fields) -> tuple[str, int | None]:
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
            return method, _bits(method)
        except BadModel:
            return method, None
    return "", None
