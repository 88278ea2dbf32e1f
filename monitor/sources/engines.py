"""Which engine runs on which GPU: ``gpumon_engine_gpu_info``, over which rules join the two.

For a server with ``gpus:`` in the configuration it is what that says; for all others, what the processes on the GPUs
say of themselves. The GPUs' indices and UUIDs are what the driver said last.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeAlias

from monitor.samples import GpuProcess, Labels, label

NAME = "gpumon_engine_gpu_info"
HELP = "1 for each GPU that an engine runs on, with its rank in the engine's tensor-parallel group."

Row: TypeAlias = tuple[tuple[str, str], ...]


def gpus_of(series: Iterable[Labels]) -> dict[str, str]:
    """Index to UUID of every GPU that the series of a scrape name."""
    found = {}
    for labels in series:
        uuid = label(labels, "UUID")
        if uuid:
            found[label(labels, "gpu")] = uuid
    return found


def engine_gpus(
    configured: Mapping[str, tuple[str, ...]], gpus: Mapping[str, str], processes: Iterable[GpuProcess] = ()
) -> list[Row]:
    """The label sets of ``gpumon_engine_gpu_info``: gpu, UUID, server, engine, rank.

    ``configured`` has each server's GPUs by index or UUID, in the order of its ranks; a GPU that the driver does not
    have is left out. ``processes`` are the enriched ones of the last scrape (``ProcessTable.enrich``); those of a
    server whose GPUs are configured are not asked, and one whose rank is not known gives no row."""
    by_uuid = {uuid: index for index, uuid in gpus.items()}
    rows: list[Row] = []
    for server, names in configured.items():
        for rank, name in enumerate(names):
            index = name if name in gpus else by_uuid.get(name)
            if index is not None:
                rows.append(_row(index, gpus[index], server, "0", str(rank)))
    said = {server for server, names in configured.items() if names}
    seen: dict[Row, None] = {}
    for process in processes:
        if process.server and process.engine and process.rank and process.gpu and process.server not in said:
            seen[_row(process.gpu, process.uuid, process.server, process.engine, process.rank)] = None
    rows.extend(seen)
    return rows


def _row(gpu: str, uuid: str, server: str, engine: str, rank: str) -> Row:
    return (("gpu", gpu), ("UUID", uuid), ("server", server), ("engine", engine), ("rank", rank))
