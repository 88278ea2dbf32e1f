"""Which engine runs on which GPU: ``gpumon_engine_gpu_info``, over which rules join the two.

It is what the configuration says, ``gpus:`` of a server; the GPUs' indices and UUIDs are what the driver said last.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from monitor.samples import Labels, label

NAME = "gpumon_engine_gpu_info"
HELP = "1 for each GPU that an engine runs on, with its rank in the engine's tensor-parallel group."


def gpus_of(series: Iterable[Labels]) -> dict[str, str]:
    """Index to UUID of every GPU that the series of a scrape name."""
    found = {}
    for labels in series:
        uuid = label(labels, "UUID")
        if uuid:
            found[label(labels, "gpu")] = uuid
    return found


def engine_gpus(
    configured: Mapping[str, tuple[str, ...]], gpus: Mapping[str, str]
) -> list[tuple[tuple[str, str], ...]]:
    """The label sets of ``gpumon_engine_gpu_info``: ``configured`` has each server's GPUs by index or UUID, in the
    order of its ranks. A GPU that the driver does not have is left out."""
    by_uuid = {uuid: index for index, uuid in gpus.items()}
    rows: list[tuple[tuple[str, str], ...]] = []
    for server, names in configured.items():
        for rank, name in enumerate(names):
            index = name if name in gpus else by_uuid.get(name)
            if index is not None:
                rows.append(
                    (
                        ("gpu", index),
                        ("UUID", gpus[index]),
                        ("server", server),
                        ("engine", "0"),
                        ("rank", str(rank)),
                    )
                )
    return rows
