"""How vLLM shares a GPU's memory out: weights, what a step needs, and blocks of KV cache for the rest.

Blocks, tokens and requests that fit are vLLM's own arithmetic, exactly, for a given amount of memory
(``v1/kv_cache_interface.py`` and ``v1/core/kv_cache_utils.py``, read at 0.32.0):

- a block holds ``block_size`` tokens of one group of layers; a token of a layer takes ``2 × KV heads × head size ×
  bytes``, with the heads shared out over tensor parallel ranks, at least one on each; MLA keeps one vector of
  ``kv_lora_rank + qk_rope_head_dim`` values on every rank;
- layers with a sliding window make groups of their own, as many layers in each as the rarest kind has;
- blocks = memory // (bytes of the widest group's block), the fewest of all pipeline stages;
- a request of the longest context takes ``ceil(context / block_size)`` blocks of each full group, and of a sliding one
  ``ceil(min(window - 1 + tokens in flight, context) / block_size) + 1``;
- requests that fit = blocks / those; KV cache size in tokens = that × the longest context.

What is left for them is only reckoned: what a step of ``max_num_batched_tokens`` needs beside the weights, and CUDA's
and NCCL's own memory, depend on kernels and versions. vLLM measures them when it starts.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from math import ceil

from monitor.planning.gpus import GIB, MIB
from monitor.planning.model import BYTES, BadModel, Layer, Model

BLOCK = 16
"""Tokens in a block, vLLM's default on GPUs."""
_CUDA = 600 * MIB
"""A context, kernels and what the allocator cannot give back: about so much on each GPU."""
_NCCL = 900 * MIB
"""More where GPUs talk to each other."""
_GRAPHS = 700 * MIB
"""CUDA graphs, of vLLM's default sizes."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How it is to be served. ``kv_dtype`` ``auto`` is the model's own."""

    context: int
    """Tokens of the longest request, prompt and output: ``--max-model-len``."""
    tensor_parallel: int = 1
    pipeline_parallel: int = 1
    block_size: int = BLOCK
    kv_dtype: str = "auto"
    quantization: str = ""
    batched_tokens: int = 8192
    """Tokens of one step at most: ``--max-num-batched-tokens``."""
    sequences: int = 256
    """``--max-num-seqs``."""
    batches_in_flight: int = 2
    """Steps that are scheduled before the first is done: 2 with asynchronous scheduling, vLLM's default on GPUs."""


@dataclass(frozen=True, slots=True)
class Group:
    """Layers that share a block table, all pipeline stages together."""

    layer: Layer
    count: int


@dataclass(frozen=True, slots=True)
class Kv:
    """What a KV cache of some bytes holds."""

    blocks: int
    tokens: int
    """As vLLM logs it: requests of the longest context that fit, times that context."""
    requests: float
    """Of the longest context."""


@dataclass(frozen=True, slots=True)
class Share:
    """One GPU's memory, in bytes; of the GPU with the least left."""

    total: int
    usable: int
    """``gpu_memory_utilization`` of the total."""
    weights: int
    weights_known: bool
    """Whether the size of all weights is known from files."""
    step: int
    """What a step needs beside them, reckoned."""
    other: int
    """CUDA, graphs, NCCL, reckoned."""
    kv: int
    """What is left; negative where it does not fit."""


def kv_bytes(model: Model, layout: Layout) -> float:
    """Of one value in the KV cache. Raises ``BadModel`` for a dtype that is unknown."""
    name = model.dtype if layout.kv_dtype == "auto" else layout.kv_dtype
    found = BYTES.get(name) or BYTES.get(name.split("_")[0])
    if found is None:
        raise BadModel(f'"{layout.kv_dtype}" is no dtype of a KV cache that is known here: auto, bfloat16, fp8, …')
    return found


def token_bytes(model: Model, layout: Layout) -> float:
    """Of one token in one layer on one GPU."""
    if model.latent is not None:
        if layout.kv_dtype == "fp8_ds_mla":
            return 656.0
        return (model.latent.kv_rank + model.latent.rope) * kv_bytes(model, layout)
    heads = max(1, model.kv_heads // layout.tensor_parallel)
    return 2 * heads * model.head * kv_bytes(model, layout)


def groups(model: Model) -> tuple[Group, ...]:
    """vLLM's groups of layers."""
    kinds = Counter(model.layers)
    if len(kinds) <= 1:
        return tuple(Group(layer, count) for layer, count in kinds.items())
    least, most = min(kinds.values()), max(kinds.values())
    size = most if most < least * 1.5 else least
    return tuple(
        Group(layer, len(range(at, count, -(-count // size))))
        for layer, count in kinds.items()
        for at in range(-(-count // size))
    )


def stages(model: Model, pipeline_parallel: int) -> tuple[tuple[int, int], ...]:
    """The layers of each pipeline stage, from and to."""
    count = len(model.blocks)
    parts = [count // pipeline_parallel] * pipeline_parallel
    for at in range(2, count % pipeline_parallel + 2):
        parts[-at] += 1
    begins = [sum(parts[:at]) for at in range(pipeline_parallel)]
    return tuple((begin, begin + part) for begin, part in zip(begins, parts, strict=True))


def block_bytes(model: Model, layout: Layout, stage: int = 0) -> float:
    """Of one block in the widest group of a pipeline stage, on one GPU."""
    page = layout.block_size * token_bytes(model, layout)
    begin, end = stages(model, layout.pipeline_parallel)[stage]
    begin, end = (sum(block.cache is not None for block in model.blocks[:at]) for at in (begin, end))
    mine: list[int] = []
    for layer in dict.fromkeys(model.layers):
        places = [at for at, one in enumerate(model.layers) if one == layer]
        parts = sum(1 for group in groups(model) if group.layer == layer)
        mine += [sum(1 for at in places[part::parts] if begin <= at < end) for part in range(parts)]
    return page * max(mine)


def blocks_of_request(model: Model, layout: Layout, tokens: int | None = None) -> int:
    """Blocks that a request of so many tokens takes (None: of the longest context)."""
    return sum(_blocks(group.layer, layout, tokens or layout.context) for group in groups(model))


def _blocks(layer: Layer, layout: Layout, tokens: int) -> int:
    flying = layout.batches_in_flight * layout.batched_tokens
    if layer.kind == "sliding":
        return ceil(min(layer.window - 1 + flying, tokens) / layout.block_size) + 1
    if layer.kind == "chunked":
        return ceil(min(layer.window + flying, tokens) / layout.block_size)
    return ceil(tokens / layout.block_size)


def kv_of(model: Model, layout: Layout, memory: int) -> Kv:
    """What ``memory`` bytes on each GPU hold."""
    if not model.layers:
        raise BadModel("none of its layers keeps a KV cache")
    each = [block_bytes(model, layout, stage) for stage in range(layout.pipeline_parallel)]
    blocks = min(int(memory // size) for size in each if size)
    return kv_of_blocks(model, layout, blocks)


def kv_of_blocks(model: Model, layout: Layout, blocks: int) -> Kv:
    """What so many blocks hold."""
    requests = blocks / blocks_of_request(model, layout)
    return Kv(blocks, int(requests * layout.context), requests)


def share(model: Model, layout: Layout, memory: int, utilization: float) -> Share:
    """How a GPU of ``memory`` bytes is shared out, on the stage with the least left."""
    return min(
        (_share(model, layout, memory, utilization, stage) for stage in range(layout.pipeline_parallel)),
        key=lambda one: one.kv,
    )


def _share(model: Model, layout: Layout, memory: int, utilization: float, stage: int) -> Share:
    usable = ceil(memory * utilization)
    whole, known = model.bytes_of(layout.quantization)
    weights = ceil(whole * _part(model, layout, stage))
    step = step_bytes(model, layout, last=stage == layout.pipeline_parallel - 1)
    several = layout.tensor_parallel * layout.pipeline_parallel > 1
    other = _CUDA + _GRAPHS + (_NCCL if several else 0)
    return Share(memory, usable, weights, known, step, other, usable - weights - step - other)


def _part(model: Model, layout: Layout, stage: int) -> float:
    """The part of all weights that one GPU of this stage holds."""
    begin, end = stages(model, layout.pipeline_parallel)[stage]
    tensor = layout.tensor_parallel
    mine = 0.0
    for at in range(begin, end):
        replicated = _replicated(model, tensor, at)
        mine += (model.layer_parameters(at) - replicated) / tensor + replicated
    first, last = stage == 0, stage == layout.pipeline_parallel - 1
    matrices = (first or last) if model.tied else first + last
    mine += matrices * model.embedding_parameters / tensor
    return mine / model.parameters


def _replicated(model: Model, tensor: int, layer: int) -> float:
    """Parameters of the layer with this number that every GPU holds whole, more than its part: KV heads where there are
    fewer of them than GPUs; what leads into MLA's latent vector; the norms."""
    norms = model.norm_parameters(layer)
    if model.blocks[layer].mixer in ("state", "none"):
        return norms
    if (latent := model.latent) is not None:
        return model.hidden * (latent.kv_rank + latent.rope + latent.query_rank) + norms
    if model.kv_heads >= tensor:
        return norms
    # Each rank has one head: seen from all of them that is tensor heads instead of kv_heads.
    more = (tensor - model.kv_heads) / (tensor - 1) if tensor > 1 else 0.0
    return 2 * model.hidden * model.head * more + norms


def step_bytes(model: Model, layout: Layout, *, last: bool = True) -> int:
    """What the largest step takes beside the weights, about: the activations of one layer for all its tokens, or the
    logits and their sorted copies for all its sequences, whichever is more. A reckoning, in bytes on one GPU."""
    tensor = layout.tensor_parallel
    experts = model.experts
    width = model.intermediate if experts is None else experts.intermediate * experts.chosen + experts.shared
    hidden = layout.batched_tokens * (4 * model.hidden + 3 * width / tensor) * max(2.0, min(model.value_bytes, 4.0))
    # As 16 bits, as floats, sorted, with the places of the sorted, and a mask.
    logits = min(layout.sequences, layout.batched_tokens) * model.vocabulary * (2 + 4 + 4 + 8 + 1) if last else 0
    return ceil(max(hidden, logits))


def gib(size: float) -> float:
    """Bytes as GiB."""
    return size / GIB
