"""How the GPUs are joined to one another and to the processors; read once. A part of the NVML reader."""

from __future__ import annotations

from typing import Any

import pynvml

from monitor.sources.nvml_calls import Lost, Values, once, progress, text
from monitor.sources.nvml_gpu import Gpu

_MAX_LINKS = 36
_WORDS = 16
"""Of 64 bits: processors that an affinity may name."""

_ANCESTORS = {
    pynvml.NVML_TOPOLOGY_INTERNAL: "PSB",
    pynvml.NVML_TOPOLOGY_SINGLE: "PIX",
    pynvml.NVML_TOPOLOGY_MULTIPLE: "PXB",
    pynvml.NVML_TOPOLOGY_HOSTBRIDGE: "PHB",
    pynvml.NVML_TOPOLOGY_NODE: "NODE",
    pynvml.NVML_TOPOLOGY_SYSTEM: "SYS",
}
"""As ``nvidia-smi topo -m`` names them."""


def topology(gpus: list[Gpu]) -> Values:
    """A row for each GPU: its index, its NUMA node, the processors near it, and how it is joined to each other GPU, as
    ``nvidia-smi topo -m`` writes it: ``NV18`` for eighteen NVLinks, else what lies between on PCIe. "" is unknown."""
    rows: list[Values] = []
    for gpu in gpus:
        progress.gpu(gpu.index)
        try:
            rows.append(_row(gpu, gpus))
        except Lost:
            continue
    return {"rows": rows}


def _row(gpu: Gpu, gpus: list[Gpu]) -> Values:
    handle = gpu.handle
    peers = _nvlinks(handle)
    links = {}
    for other in gpus:
        if other is not gpu:
            links[str(other.index)] = _joined(handle, other, peers)
    return {"index": gpu.index, "numa": _numa(gpu), "cpus": _cpus(handle), "links": links}


def _joined(handle: Any, other: Gpu, peers: list[str]) -> str:
    direct = peers.count(str(other.facts.get("bus_id", "")).lower())
    if not direct and peers:
        # Through a switch every link leads to every GPU.
        status = once(
            "nvmlDeviceGetP2PStatus",
            lambda: pynvml.nvmlDeviceGetP2PStatus(handle, other.handle, pynvml.NVML_P2P_CAPS_INDEX_NVLINK),
        )
        direct = len(peers) if status == pynvml.NVML_P2P_STATUS_OK else 0
    if direct:
        return f"NV{direct}"
    level = once(
        "nvmlDeviceGetTopologyCommonAncestor",
        lambda: pynvml.nvmlDeviceGetTopologyCommonAncestor(handle, other.handle),
    )
    return _ANCESTORS.get(level, "")


def _nvlinks(handle: Any) -> list[str]:
    """The PCI addresses at the far ends of the links that are up."""
    ends = []
    for link in range(_MAX_LINKS):
        try:
            if pynvml.nvmlDeviceGetNvLinkState(handle, link):
                ends.append(_far_end(handle, link))
        except pynvml.NVMLError:
            break  # no more links, or none at all; what is wrong with them is the poll's to say
    return ends


def _far_end(handle: Any, link: int) -> str:
    info = once(
        "nvmlDeviceGetNvLinkRemotePciInfo_v2", lambda: pynvml.nvmlDeviceGetNvLinkRemotePciInfo(handle, link).busId
    )
    return text(info or "").lower()


def _numa(gpu: Gpu) -> int | None:
    """The NUMA node of its slot, as the kernel has it; None where the machine has but one."""
    address = str(gpu.facts.get("bus_id", "")).lower()[-12:]
    try:
        with open(f"/sys/bus/pci/devices/{address}/numa_node", encoding="ascii") as file:
            node = int(file.read())
    except (OSError, ValueError):
        return None
    return node if node >= 0 else None


def _cpus(handle: Any) -> str:
    """The processors near it, as ``0-15,32-47``."""
    words = once("nvmlDeviceGetCpuAffinity", lambda: list(pynvml.nvmlDeviceGetCpuAffinity(handle, _WORDS)), [])
    mask = sum(word << (64 * at) for at, word in enumerate(words))
    ranges, at = [], 0
    while mask >> at:
        if mask >> at & 1:
            first = at
            while mask >> (at + 1) & 1:
                at += 1
            ranges.append(str(first) if first == at else f"{first}-{at}")
        at += 1
    return ",".join(ranges)
