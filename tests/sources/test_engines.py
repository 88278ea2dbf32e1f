"""Which engine runs on which GPU: as the configuration says, else as the processes say."""

from __future__ import annotations

import pytest

from monitor.samples import GpuProcess, make_labels
from monitor.sources.engines import Row, engine_gpus, gpus_of

GPUS = {"0": "GPU-a", "1": "GPU-b"}


def row(gpu: str, server: str, engine: str, rank: str) -> Row:
    return (("gpu", gpu), ("UUID", GPUS[gpu]), ("server", server), ("engine", engine), ("rank", rank))


def process(gpu: str, server: str, engine: str = "0", rank: str = "0", pid: int = 1) -> GpuProcess:
    uuid = GPUS.get(gpu, "")
    return GpuProcess(gpu, uuid, pid, None, "compute", server=server, engine=engine, rank=rank)


def test_the_gpus_of_a_scrape() -> None:
    series = [
        make_labels("x", gpu="0", UUID="GPU-a"),
        make_labels("y", gpu="0", UUID="GPU-a"),
        make_labels("z", gpu="7"),
    ]
    assert gpus_of(series) == {"0": "GPU-a"}


def test_what_the_configuration_says() -> None:
    assert engine_gpus({"n:1": ("1", "GPU-a", "9", "GPU-z")}, GPUS) == [
        row("1", "n:1", "0", "0"),
        row("0", "n:1", "0", "1"),
    ]


def test_what_the_processes_say() -> None:
    processes = [process("0", "n:1", "0", "0"), process("1", "n:1", "1", "0"), process("1", "n:2", "0", "3", pid=2)]
    expected = [row("0", "n:1", "0", "0"), row("1", "n:1", "1", "0"), row("1", "n:2", "0", "3")]
    assert engine_gpus({}, GPUS, processes) == expected
    # A server of the configuration that has no `gpus:` is one of them.
    assert engine_gpus({"n:1": ()}, GPUS, processes) == expected


def test_the_configuration_wins_for_the_server_that_it_names() -> None:
    processes = [process("0", "n:1"), process("1", "n:2")]
    assert engine_gpus({"n:1": ("1",)}, GPUS, processes) == [row("1", "n:1", "0", "0"), row("1", "n:2", "0", "0")]


def test_no_row_is_there_twice() -> None:
    assert engine_gpus({}, GPUS, [process("0", "n:1", pid=1), process("0", "n:1", pid=2)]) == [
        row("0", "n:1", "0", "0")
    ]


@pytest.mark.parametrize(
    "one",
    [process("0", ""), process("0", "n:1", engine=""), process("0", "n:1", rank=""), process("", "n:1")],
    ids=["no server", "no engine", "no rank", "no GPU"],
)
def test_what_is_not_known_gives_no_row(one: GpuProcess) -> None:
    assert engine_gpus({}, GPUS, [one]) == []
