"""An estimate of what a GPU does where it cannot be measured: the roofline. Pure.

A GPU computes at most so many operations, and moves at most so many bytes, a second; how many operations a program
makes of each byte (its arithmetic intensity) decides which of the two it meets first (Williams, Waterman and
Patterson, *Roofline: an insightful visual performance model*, CACM 52(4), 2009).

**Of a language model** that writes, a step reads all weights once, whatever the batch, and makes two operations for
each parameter and sequence (one multiplication and one addition; Kaplan et al., arXiv 2001.08361, section 2.1). So the
intensity of a step is two operations a parameter times the tokens in it, over the bytes of a parameter: for weights of
two bytes it is the number of tokens. What is left out: the KV cache that is read beside the weights, attention's own
operations, experts that a token does not use, and any communication. So the share of the bandwidth is a lower bound of
the true one, and of a model with experts an upper bound.

Where the server estimates its own work (vLLM's ``--enable-mfu-metrics``: ``vllm:estimated_flops_per_gpu_total`` and
``…_bytes_per_gpu_total``, which know the attention and the KV cache), that is taken instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

TERA = 1e12

MEASURED_TENSOR = 0.93
"""What GPM reads as tensor activity while an H200 multiplies matrices of 8192² in bf16 and nothing else: the most that
a program is seen to reach."""
MEASURED_DRAM = 0.89
"""DRAM activity while it copies memory, or multiplies a matrix with one vector: 0.887 to 0.897."""


@dataclass(frozen=True, slots=True)
class Peak:
    """What a GPU can at most, by its maker."""

    name: str
    flops: float
    """Operations a second of its tensor cores, bf16 with sums in fp32, dense."""
    bandwidth: float
    """Bytes a second of its memory."""

    @property
    def ridge(self) -> float:
        """Operations a byte above which it is the computing that limits."""
        return self.flops / self.bandwidth


_PEAKS: tuple[tuple[tuple[str, ...], float, float], ...] = (
    # Words that are all in the name, TFLOP/s, TB/s. The first row that fits counts, so the special ones stand first.
    (("GB300",), 2500, 8.0),
    (("B300",), 2250, 8.0),
    (("GB200",), 2500, 8.0),
    (("B200",), 2250, 8.0),
    (("GH200", "480GB"), 989.4, 4.0),
    (("GH200", "144G"), 989.4, 4.9),
    (("H200", "NVL"), 835.5, 4.8),
    (("H200",), 989.4, 4.8),
    (("H100", "NVL"), 835.5, 3.9),
    (("H100", "PCIe"), 756.0, 2.0),
    (("H100",), 989.4, 3.35),
    (("H800", "PCIe"), 756.0, 2.0),
    (("H800",), 989.4, 3.35),
    (("H20",), 148.0, 4.0),
    (("A100", "PCI", "80GB"), 312.0, 1.935),
    (("A100", "80GB"), 312.0, 2.039),
    (("A100",), 312.0, 1.555),
    (("A800",), 312.0, 2.039),
    (("A40",), 149.7, 0.696),
    (("A30",), 165.0, 0.933),
    (("RTX A6000",), 154.8, 0.768),
    (("A10G",), 70.0, 0.600),
    (("A10",), 125.0, 0.600),
    (("L40S",), 362.0, 0.864),
    (("L40",), 181.0, 0.864),
    (("L4",), 121.0, 0.300),
    (("RTX 6000 Ada",), 364.2, 0.960),
    (("RTX PRO 6000",), 503.8, 1.792),
    (("RTX 5090",), 209.5, 1.792),
    (("RTX 4090",), 165.2, 1.008),
    (("RTX 3090",), 71.0, 0.936),
)
"""From the makers' data sheets: NVIDIA's of each product (tensor core, bf16, without sparsity), for GeForce and RTX the
white papers of their architectures (Ampere GA102, Ada, Blackwell), with sums in fp32."""


def peak(name: str) -> Peak | None:
    """What the GPU of this name can, as NVML names it; None for one that is not known."""
    for words, teraflops, terabytes in _PEAKS:
        if all(_holds(name, word) for word in words):
            return Peak(" ".join(words), teraflops * TERA, terabytes * TERA)
    return None


def _holds(name: str, word: str) -> bool:
    """Whether a word stands in a name by itself: ``L4`` is not in ``L40S``; ``80GB`` is in ``A100-SXM4-80GB``."""
    at = name.find(word)
    while at >= 0:
        before, after = name[:at][-1:], name[at + len(word) :][:1]
        if not before.isalnum() and (not after.isalnum() or word in ("PCI", "144G")):
            return True
        at = name.find(word, at + 1)
    return False


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a step takes of what its GPUs can. Always an estimate."""

    compute: float | None
    """Share of the operations, 0–1."""
    bandwidth: float | None
    """Share of the bytes, 0–1."""
    intensity: float | None
    """Operations a byte."""
    ridge: float
    source: Literal["server", "weights"]
    """``server``: it estimates its own work; ``weights``: weights × steps, see above."""

    @property
    def nearer(self) -> Literal["compute", "memory bandwidth"] | None:
        """Which of the two is nearer to its limit."""
        if self.compute is None or self.bandwidth is None:
            return None
        return "compute" if self.compute > self.bandwidth else "memory bandwidth"


def by_server(top: Peak, flops_per_s: float | None, bytes_per_s: float | None) -> Estimate | None:
    """By what the server says that each of its GPUs does; None where it says nothing."""
    if flops_per_s is None and bytes_per_s is None:
        return None
    return Estimate(
        None if flops_per_s is None else flops_per_s / top.flops,
        None if bytes_per_s is None else bytes_per_s / top.bandwidth,
        flops_per_s / bytes_per_s if flops_per_s and bytes_per_s else None,
        top.ridge,
        "server",
    )


def by_weights(
    top: Peak,
    *,
    weights_bytes: float,
    steps_per_s: float,
    tokens_per_s: float,
    gpus: int,
    bytes_per_parameter: float = 2.0,
) -> Estimate | None:
    """By the model's weights: ``gpus`` share them, each step reads all of them once, and each of ``tokens_per_s``
    (prompts' and answers') takes two operations a parameter. None where nothing was computed."""
    if weights_bytes <= 0 or gpus < 1 or steps_per_s <= 0 or bytes_per_parameter <= 0:
        return None
    read = weights_bytes * steps_per_s / gpus
    operations = 2 * weights_bytes / bytes_per_parameter * tokens_per_s / gpus
    return Estimate(operations / top.flops, read / top.bandwidth, operations / read, top.ridge, "weights")
