"""GPUs by the names that people give them, and how much memory CUDA sees on each.

Sizes are what ``cudaMemGetInfo`` calls total, in MiB, as near as the vendors' data sheets and public listings of
``nvidia-smi`` tell: a per cent off for some boards, since ECC and firmware keep a little. Where a daemon sees the real
GPU, its reading is taken instead.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

MIB = 1 << 20
GIB = 1 << 30

_MIB = {
    "A10": 22_592, "A10G": 22_592, "A16": 14_900, "A30": 24_062, "A40": 45_416,
    "A100-40GB": 40_326, "A100-80GB": 81_037, "A6000": 48_541,
    "B200": 182_642, "B300": 274_000, "GH200-96GB": 96_768, "GH200-144GB": 144_384,
    "H100": 81_079, "H100-NVL": 95_320, "H20": 97_871, "H200": 143_156,
    "L4": 22_565, "L40": 45_469, "L40S": 45_469,
    "RTX 3090": 24_135, "RTX 4090": 24_080, "RTX 5090": 32_110,
    "RTX 6000 Ada": 48_509, "RTX PRO 6000": 96_700, "T4": 14_914, "V100-16GB": 16_151, "V100-32GB": 32_501,
}  # fmt: skip
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(GiB|GB|MiB|MB|G|M)?B?", re.IGNORECASE)
_UNITS = {"gib": GIB, "g": GIB, "mib": MIB, "m": MIB, "gb": 10**9, "mb": 10**6}


@dataclass(frozen=True, slots=True)
class Gpu:
    """``memory`` is in bytes."""

    name: str
    memory: int


class BadGpu(Exception):
    """A name that is no GPU known here, with those that are."""


def find(text: str) -> Gpu:
    """A GPU by its name in any spelling (``h100``, ``NVIDIA H100 80GB HBM3``, ``4090``), or by the size of its memory
    (``80GiB``). Raises ``BadGpu``."""
    if (size := size_of(text)) is not None:
        return Gpu(text.strip(), size)
    plain = _plain(text)
    for name in sorted(_MIB, key=len, reverse=True):
        if _plain(name) == plain:
            return Gpu(name, _MIB[name] * MIB)
    # As drivers say it: "NVIDIA A100-SXM4-80GB", "NVIDIA H200".
    for name in sorted(_MIB, key=len, reverse=True):
        words = [_plain(word) for word in re.split(r"[- ]", name)]
        said = [_plain(word) for word in re.split(r"[- ]", text)]
        if all(word in said for word in words):
            return Gpu(name, _MIB[name] * MIB)
    if plain == "a100":
        raise BadGpu(f'"{text}" is made with two sizes of memory: say A100-40GB or A100-80GB')
    if plain in ("v100", "gh200"):
        raise BadGpu(f'"{text}" is made with two sizes of memory: say which, as {text}-…GB, or give its memory: 32GiB')
    known = ", ".join(sorted(_MIB))
    raise BadGpu(f'"{text}" is no GPU that is known here. Give its memory instead, such as 80GiB, or one of: {known}')


def size_of(text: str) -> int | None:
    """Bytes in ``80GiB``, ``24 GB`` or ``1.5G``; None where that is no size with a unit. GiB is 2**30, GB 10**9."""
    found = _SIZE.fullmatch(text.strip())
    if found is None or found[2] is None or float(found[1]) <= 0:
        return None
    return round(float(found[1]) * _UNITS[found[2].lower()])


def _plain(text: str) -> str:
    plain = re.sub(r"[^a-z0-9]", "", text.lower())
    for word in ("nvidia", "tesla", "geforce", "rtx"):
        plain = plain.replace(word, "")
    return plain.removesuffix("80gbhbm3") if plain.startswith("h100") else plain
