"""A plan: a model on some GPUs, what of it fits, what would fit otherwise, and the flags of ``vllm serve``. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from monitor.planning.gpus import Gpu
from monitor.planning.memory import Kv, Layout, Share, blocks_of_request, kv_of, share, token_bytes
from monitor.planning.model import BadModel, Model
from monitor.records import replace


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked for."""

    context: int
    """Tokens of the longest request."""
    concurrency: int = 1
    """Requests at once."""
    typical: int | None = None
    """Tokens of the usual request; None: each is as long as the longest."""


@dataclass(frozen=True, slots=True)
class Fit:
    """How a layout does."""

    layout: Layout
    share: Share | None
    """None where the memory of the KV cache was given."""
    kv_memory: int
    """Bytes of KV cache on each GPU; at most 0 where nothing is left."""
    kv: Kv | None
    """None where nothing is left."""
    at_once: float
    """Requests of the usual length that it holds."""
    fits: bool
    """Whether it serves what is asked for."""

    @property
    def gpus(self) -> int:
        """How many it takes."""
        return self.layout.tensor_parallel * self.layout.pipeline_parallel


@dataclass(frozen=True, slots=True)
class Other:
    """Another way, and what it changes."""

    change: str
    fit: Fit


@dataclass(frozen=True, slots=True)
class Plan:
    """All of it."""

    model: Model
    gpu: Gpu | None
    utilization: float
    wish: Wish
    fit: Fit
    others: tuple[Other, ...]
    notes: tuple[str, ...]


def fit(model: Model, layout: Layout, wish: Wish, memory: int, utilization: float, kv_memory: int | None = None) -> Fit:
    """How ``layout`` does on GPUs of ``memory`` bytes; or with ``kv_memory`` bytes of KV cache on each."""
    shared = None if kv_memory is not None else share(model, layout, memory, utilization)
    left = kv_memory if kv_memory is not None else shared.kv if shared is not None else 0
    kv = kv_of(model, layout, left) if left > 0 else None
    if kv is None:
        return Fit(layout, shared, left, None, 0.0, False)
    at_once = kv.blocks / blocks_of_request(model, layout, min(wish.typical or wish.context, wish.context))
    return Fit(layout, shared, left, kv, at_once, kv.requests >= 1 and at_once >= wish.concurrency)


def make(
    model: Model, gpu: Gpu | None, count: int, layout: Layout, wish: Wish, utilization: float,
    *, kv_memory: int | None = None, choose: bool = True,
) -> Plan:  # fmt: skip
    """Plan for at most ``count`` GPUs. ``choose`` takes the fewest that do, in one tensor parallel group. Raises
    ``BadModel`` where the model cannot be shared out like this."""
    _check(model, layout)
    memory = gpu.memory if gpu is not None else 0
    chosen = fit(model, layout, wish, memory, utilization, kv_memory)
    if choose and not chosen.fits and kv_memory is None:
        for ranks in _ranks(model, count // layout.pipeline_parallel):
            if ranks <= chosen.layout.tensor_parallel:
                continue
            more = fit(model, replace(layout, tensor_parallel=ranks), wish, memory, utilization)
            if more.fits or more.at_once > chosen.at_once or more.kv_memory > chosen.kv_memory:
                chosen = more
            if more.fits:
                break
    others = () if chosen.fits else tuple(_others(model, chosen, wish, memory, utilization, kv_memory))
    return Plan(model, gpu, utilization, wish, chosen, others, tuple(_notes(model, chosen, wish, count)))


def _check(model: Model, layout: Layout) -> None:
    if model.heads % layout.tensor_parallel:
        raise BadModel(
            f"its {model.heads} heads cannot be shared out over {layout.tensor_parallel} tensor parallel ranks: "
            f"take one of {', '.join(map(str, _ranks(model, model.heads)))}"
        )
    if layout.pipeline_parallel > len(model.blocks):
        raise BadModel(f"it has {len(model.blocks)} layers: no {layout.pipeline_parallel} stages")


def _ranks(model: Model, most: int) -> list[int]:
    """Sizes of a tensor parallel group that share its heads out; powers of two first come, since nodes are so made."""
    return [ranks for ranks in (1, 2, 4, 8, 16, 32, 64) if ranks <= most and model.heads % ranks == 0]


def _others(
    model: Model, now: Fit, wish: Wish, memory: int, utilization: float, kv_memory: int | None
) -> Iterator[Other]:
    """What would fit, or come nearer: one change each, then two together."""
    layout = now.layout
    changes: list[tuple[str, Layout]] = []
    if not layout.kv_dtype.startswith("fp8") and model.dtype != "float32":
        changes.append(("--kv-cache-dtype fp8", replace(layout, kv_dtype="fp8")))
    if kv_memory is None and not model.quantization and not layout.quantization:
        changes.append(("--quantization fp8", replace(layout, quantization="fp8")))
        if changes[0][1].kv_dtype == "fp8":
            both = replace(layout, kv_dtype="fp8", quantization="fp8")
            changes.append(("--quantization fp8 --kv-cache-dtype fp8", both))
    if kv_memory is None:
        further = [ranks for ranks in _ranks(model, 64) if ranks > layout.tensor_parallel]
        changes += [(f"--tensor-parallel-size {ranks}", replace(layout, tensor_parallel=ranks)) for ranks in further]
    for change, other in changes:
        found = fit(model, other, wish, memory, utilization, kv_memory)
        if found.kv is not None and found.at_once > now.at_once:
            yield Other(change, found)
            if found.fits and "tensor" in change:
                return


def _notes(model: Model, now: Fit, wish: Wish, count: int) -> Iterator[str]:
    layout = now.layout
    if wish.context > model.context:
        yield (
            f"{wish.context:,} tokens are more than the {model.context:,} that it was made for: vLLM refuses them, "
            "unless its rope scaling says otherwise."
        )
    yield from _layer_notes(model)
    yield from model.doubts
    if model.beside:
        yield f"It has more than a language model: {model.beside}."
    if model.latent is not None and layout.tensor_parallel > 1:
        yield (
            "Multi-head latent attention keeps the same vector on each tensor parallel rank: more ranks give more "
            "room by holding fewer weights each, not by sharing the cache out. Data parallel attention would."
        )
    elif model.kv_heads < layout.tensor_parallel:
        yield (
            f"It has {model.kv_heads} KV heads for {layout.tensor_parallel} tensor parallel ranks: "
            f"each is held {layout.tensor_parallel // model.kv_heads} times."
        )
    if now.share is not None and not now.share.weights_known:
        yield "The weights are reckoned from its shape: its files were not seen."
    if now.gpus < count:
        rest = count // now.gpus
        if rest > 1:
            yield f"{count} GPUs hold {rest} such servers: --data-parallel-size {rest} takes {rest} times the requests."


def _layer_notes(model: Model) -> Iterator[str]:
    """Of layers that keep something else than a KV cache of their own tokens."""
    kinds = Counter(block.mixer for block in model.blocks)
    name = model.state.name if model.state is not None else ""
    if kinds["state"]:
        yield (
            f"{kinds['state']} of its layers keep a state and no tokens ({name}): that memory is not reckoned, and "
            "vLLM makes blocks of another size for it."
        )
    if kinds["both"]:
        yield (
            f"{kinds['both']} of its layers keep a state beside their tokens ({name}): that memory is not reckoned, "
            "and vLLM makes blocks of another size for it."
        )
    if kinds["shared"]:
        yield f"{kinds['shared']} of its layers use the KV cache of another layer, and have none of their own."
    if kinds["cross"]:
        yield f"{kinds['cross']} of its layers look at an image: what they keep of it is not reckoned."
    if kinds["none"]:
        yield f"{kinds['none']} of its layers have no attention and no state: they keep nothing."


def flags(plan: Plan) -> tuple[str, ...]:
    """Of ``vllm serve``, those that are not its own habit."""
    layout, wish = plan.fit.layout, plan.wish
    found = [f"--max-model-len {layout.context}"]
    if layout.tensor_parallel > 1:
        found.append(f"--tensor-parallel-size {layout.tensor_parallel}")
    if layout.pipeline_parallel > 1:
        found.append(f"--pipeline-parallel-size {layout.pipeline_parallel}")
    if layout.quantization:
        found.append(f"--quantization {layout.quantization}")
    if layout.kv_dtype != "auto":
        found.append(f"--kv-cache-dtype {layout.kv_dtype}")
    if plan.utilization != UTILIZATION:
        found.append(f"--gpu-memory-utilization {plan.utilization:g}")
    if layout.block_size != 16:
        found.append(f"--block-size {layout.block_size}")
    found.append(f"--max-num-seqs {max(layout.sequences, wish.concurrency)}")
    found.append(f"--max-num-batched-tokens {layout.batched_tokens}")
    return tuple(found)


UTILIZATION = 0.92
"""vLLM's own ``--gpu-memory-utilization``, 0.32."""


def token_size(model: Model, layout: Layout) -> tuple[float, float]:
    """Bytes of one token: on each GPU, and on all together. Of all layers; those with a window keep only theirs."""
    layers = len(model.layers)
    each = token_bytes(model, layout) * layers
    return each / layout.pipeline_parallel, each * layout.tensor_parallel
