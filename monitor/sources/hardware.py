"""What a simulated node is made of: which boards, how many, and which engines are spread over them.

Memory, clocks, power limits and what a board has not are those of the vendor's data sheets and of ``nvidia-smi -q``;
the thresholds of boards other than H200 are those of typical ones. What a board does not support is None, and absent.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

MIB = 1 << 20
MOST = 16
"""GPUs of a node."""
MEMORY_SHARE = 0.92
"""Of each GPU's memory, what an engine took when it began (gpu_memory_utilization)."""
KV_TOKENS = 1_190_000
"""What the KV cache of an engine of 70 billion parameters on four H200 holds."""


class Board(msgspec.Struct, frozen=True):
    """A kind of GPU. MHz, W, C, bytes."""

    name: str
    """As the driver says it."""
    total: int
    reserved: int
    power_limit: float
    idle_watts: float
    max_sm_clock: int
    lowest_clock: float
    mem_clock: int
    slowdown_temp: int
    shutdown_temp: int
    max_op_temp: int
    mem_max_op_temp: int | None
    """None: the memory's temperature cannot be read."""
    nvlinks: int
    """0: none."""
    nvlink_bytes: float
    """How much of an H200's NVLink bandwidth it has."""
    pcie_gen: int
    gpm: bool
    """Whether it has GPU performance monitoring, as Hopper and later have."""
    mig: bool

    @property
    def resistance(self) -> float:
        """C per W from the air to the die: 46 C at the power limit, with any board."""
        return 46.2 / self.power_limit


H200 = Board(
    "NVIDIA H200",
    150_754_820_096,
    644_939_776,
    700.0,
    115.0,
    1980,
    1005.0,
    3201,
    89,
    95,
    87,
    95,
    18,
    1.0,
    5,
    True,
    True,
)
_BOARDS = {
    "A100": Board(
        "NVIDIA A100-SXM4-80GB", 81_920 * MIB, 599 * MIB,
        400.0, 62.0, 1410, 705.0, 1593, 89, 92, 85, 95, 12, 0.67, 4, False, True,
    ),
    "B200": Board(
        "NVIDIA B200", 183_359 * MIB, 724 * MIB,
        1000.0, 145.0, 1965, 1005.0, 3996, 92, 97, 89, 95, 18, 2.0, 5, True, True,
    ),
    "H100": Board(
        "NVIDIA H100 80GB HBM3", 81_559 * MIB, 551 * MIB,
        700.0, 105.0, 1980, 1005.0, 2619, 89, 95, 87, 95, 18, 1.0, 5, True, True,
    ),
    "H200": H200,
    "L40S": Board(
        "NVIDIA L40S", 46_068 * MIB, 598 * MIB,
        350.0, 36.0, 2520, 1065.0, 9001, 92, 95, 87, None, 0, 0.0, 4, False, False,
    ),
}  # fmt: skip

_LLAMAS = (("meta-llama/Llama-3.1-70B-Instruct", 141e9, 327_680), ("meta-llama/Llama-3.1-8B-Instruct", 16e9, 131_072))
_QWENS = (
    ("Qwen/Qwen2.5-72B-Instruct", 145e9, 327_680),
    ("Qwen/Qwen2.5-32B-Instruct", 65.5e9, 262_144),
    ("Qwen/Qwen2.5-7B-Instruct", 15.2e9, 57_344),
)
"""Model, bytes of its weights, and of a token in the KV cache; the largest first."""
_FIRST_PORT = 8000
_BESIDE = 6e9
"""Bytes of each GPU that an engine keeps for its activations and graphs."""


class EngineFacts(msgspec.Struct, frozen=True):
    """What does not change of an engine."""

    model: str
    port: int
    gpus: tuple[int, ...]
    """In the order of its ranks."""
    drafts: bool = False
    """Whether it decodes speculatively."""
    scale: float = 1.0
    """How much it can do and is asked to do, where 1 is an engine of four H200 with a model of 70 billion."""

    @property
    def kv_tokens(self) -> int:
        """What its KV cache holds, in whole blocks of 16."""
        return KV_TOKENS if self.scale == 1.0 else round(KV_TOKENS * self.scale) // 16 * 16


ENGINES = (
    EngineFacts("meta-llama/Llama-3.1-70B-Instruct", 8000, (0, 1, 2, 3)),
    EngineFacts("Qwen/Qwen2.5-72B-Instruct", 8001, (4, 5, 6, 7), drafts=True),
)
"""Those of eight H200."""


class Hardware(msgspec.Struct, frozen=True):
    """A node's GPUs, all of a kind."""

    count: int = 8
    model: str = "H200"
    """As ``parse`` takes it."""

    @property
    def board(self) -> Board:
        """What each of them is."""
        return _BOARDS[self.model]

    @property
    def engines(self) -> tuple[EngineFacts, ...]:
        """Two engines, each on half of the GPUs; of another number, engines of 8, 4, 2 and 1 so that all are used."""
        if (self.count, self.model) == (8, "H200"):
            return ENGINES
        found, first = [], 0
        for number, size in enumerate(_sizes(self.count)):
            gpus = tuple(range(first, first + size))
            model, scale = _fitting(self.board, size, _QWENS if number % 2 else _LLAMAS)
            found.append(EngineFacts(model, _FIRST_PORT + number, gpus, drafts=number % 2 == 1, scale=scale))
            first += size
        return tuple(found)

    @property
    def hot(self) -> int:
        """The GPU that loses its cooling: the last of the first engine's."""
        return self.engines[0].gpus[-1]

    def __str__(self) -> str:
        return f"{self.count}x{self.model}"


def parse(text: str) -> Hardware:
    """``4xL40S``. Raises ``ValueError`` with what is wrong, and what would be right."""
    found = re.fullmatch(r"\s*(\d+)\s*[xX×*]\s*(\S+)\s*", text)
    if found is None:
        raise ValueError(f'"{text}" is no hardware: say how many of which, as 4xL40S')
    count, model = int(found[1]), found[2].upper().removeprefix("NVIDIA-")
    if model not in _BOARDS:
        raise ValueError(f'"{found[2]}" is no board that can be simulated: those are {", ".join(_BOARDS)}')
    if not 1 <= count <= MOST:
        raise ValueError(f"a simulated node has 1 to {MOST} GPUs, not {count}")
    return Hardware(count, model)


def _sizes(count: int) -> list[int]:
    """So many GPUs in groups that models can be spread over: powers of two."""
    if count.bit_count() == 1 and count > 1:
        return [count // 2, count // 2]
    return [1 << bit for bit in reversed(range(count.bit_length())) if count >> bit & 1]


def _fitting(board: Board, gpus: int, models: Sequence[tuple[str, float, int]]) -> tuple[str, float]:
    """The largest model that leaves as much room for its KV cache as it takes itself, and the engine's ``scale``."""
    room = gpus * (board.total * MEMORY_SHARE - _BESIDE)
    name, weights, per_token = next((one for one in models if room >= 2 * one[1]), models[-1])
    return name, (room - weights) / per_token / KV_TOKENS
