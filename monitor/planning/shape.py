"""What a model is made of, as far as memory goes, and how many parameters that is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from monitor.planning.fields import BadModel

Kind: TypeAlias = Literal["full", "sliding", "chunked"]
Mixer: TypeAlias = Literal["attention", "state", "both", "shared", "cross", "none"]
"""How a layer looks at other tokens: ``state`` is Mamba, linear attention or a convolution, ``both`` has it beside
attention, ``shared`` uses the KV cache of another layer, ``cross`` looks at an image."""
Feed: TypeAlias = Literal["dense", "experts", "none"]

BYTES = {
    "float32": 4.0, "float": 4.0, "float16": 2.0, "half": 2.0, "bfloat16": 2.0,
    "fp8": 1.0, "fp8_e4m3": 1.0, "fp8_e5m2": 1.0, "int8": 1.0, "int4": 0.5, "fp4": 0.5,
}  # fmt: skip
"""Of one value."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer, as its KV cache sees it."""

    kind: Kind
    window: int = 0
    """Tokens; of ``sliding`` and ``chunked``."""


@dataclass(frozen=True, slots=True)
class Block:
    """One layer, as its weights see it."""

    mixer: Mixer = "attention"
    feed: Feed = "dense"
    cache: Layer | None = None
    """Of ``attention`` and ``both``; None for those without a KV cache of their own."""


@dataclass(frozen=True, slots=True)
class State:
    """What layers without attention are, or have beside it: all are alike."""

    name: str
    """As people call it: Mamba, Gated DeltaNet, …"""
    parameters: int
    """Of one layer."""
    known: bool = True
    """Whether the fields say all that ``parameters`` goes by."""


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
    """One of so many of the others has them; which ones, the model's ``blocks`` say."""
    latent: int = 0
    """Size of the vector that they work on; 0: the model's own."""


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
    """Of a layer without experts."""
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
    """Layers without a KV cache of their own: Mamba, linear attention, …"""
    beside: str = ""
    """What it has that is not counted: a vision tower."""
    blocks: tuple[Block, ...] = ()
    """All layers, in order."""
    state: State | None = None
    output_gate: bool = False
    """Whether attention has a gate as wide as its queries."""
    doubts: tuple[str, ...] = ()
    """What its ``config.json`` says that the figures do not go by, in sentences."""

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
        inward = wide * (2 if self.output_gate else 1) + 2 * narrow
        return self.hidden * inward + wide * self.hidden + (inward if self.bias else 0)

    def mixer_parameters(self, layer: int) -> int:
        """Of what the layer with this number looks at other tokens with."""
        mixer = self.blocks[layer].mixer
        attention = 0 if mixer in ("state", "none") else self.attention_parameters()
        return attention + (self.state.parameters if self.state is not None and mixer in ("state", "both") else 0)

    def feed_forward_parameters(self, layer: int) -> int:
        """Of the layer with this number."""
        matrices = 3 if self.gated else 2
        experts, feed = self.experts, self.blocks[layer].feed
        if feed == "none":
            return 0
        if experts is None or feed == "dense":
            return matrices * self.hidden * self.intermediate
        return (
            experts.count * (self._expert_parameters(experts) + self.hidden)
            + matrices * self.hidden * experts.shared
            + 2 * self.hidden * experts.latent
        )

    def _expert_parameters(self, experts: Experts) -> int:
        return (3 if self.gated else 2) * (experts.latent or self.hidden) * experts.intermediate

    def norm_parameters(self, layer: int) -> int:
        """One norm before each half of the layer that there is."""
        block = self.blocks[layer]
        return ((block.mixer != "none") + (block.feed != "none")) * self.hidden

    def layer_parameters(self, layer: int) -> int:
        """Attention or state, feed-forward and their norms."""
        return self.mixer_parameters(layer) + self.feed_forward_parameters(layer) + self.norm_parameters(layer)

    @property
    def embedding_parameters(self) -> int:
        """One matrix between tokens and vectors."""
        return self.vocabulary * self.hidden

    @property
    def parameters(self) -> int:
        """All, by the formula of its family: norms within attention and biases of some families are left out, which is
        less than a thousandth."""
        layers = sum(self.layer_parameters(each) for each in range(len(self.blocks)))
        return layers + self.embedding_parameters * (1 if self.tied else 2) + self.hidden

    @property
    def active_parameters(self) -> int:
        """Those that one token meets."""
        experts = self.experts
        if experts is None:
            return self.parameters
        idle = (experts.count - experts.chosen) * self._expert_parameters(experts)
        return self.parameters - sum(1 for block in self.blocks if block.feed == "experts") * idle

    def bytes_of(self, quantization: str = "") -> tuple[float, bool]:
        """Of all weights, and whether that is known from the files (else it is reckoned). ``quantization`` is what
        vLLM would make of them when it loads them: ``fp8``, …"""
        if quantization:
            return self._reckoned(bits_of(quantization)), False
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


def bits_of(method: str) -> int:
    """Of one value of a matrix, quantized by this method. Raises ``BadModel`` for an unknown one."""
    text = method.lower()
    if "fp8" in text or "int8" in text or "w8" in text:
        return 8
    if any(part in text for part in ("awq", "gptq", "int4", "fp4", "w4", "4bit", "bitsandbytes")):
        return 4
    raise BadModel(f'"{method}" is no quantization that is known here: fp8, int8, awq, gptq, mxfp4, nvfp4')
