"""Which readings a board does not have, and what its driver says when they are asked for."""

from __future__ import annotations

import pynvml

from monitor.samples import NAME, Scrape, label
from monitor.sources.nvml_calls import fast, slow, static
from monitor.sources.nvml_gpm import supported as gpm_supported
from monitor.sources.nvml_table import GPM, GPU, LINK_UP, PCIE, SLOW
from monitor.sources.nvml_table import Row as TableRow


def print_absent(scrape: Scrape) -> None:
    """Which series have no sample here, and what the driver says of each call behind them."""
    here: dict[str, set[str]] = {}
    for series in scrape.shape.series:
        here.setdefault(label(series, NAME), set()).add(label(series, "gpu"))
    gpus = sorted(here.get("gpumon_gpu_up", {"0"}))
    print("\nabsent:")
    for row in (*GPU, *SLOW, LINK_UP, *GPM, *PCIE):
        without = [gpu for gpu in gpus if gpu not in here.get(row.name, set())]
        if without:
            print(f"  {row.name}: gpu {','.join(without)}: {why_absent(row, int(without[0]))}")


def why_absent(row: TableRow, index: int) -> str:
    """What the driver says when asked in the way of this row."""
    try:
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        call, _, numbers = row.call.partition(" ")
        if row in GPM:
            return f"GPM supported: {gpm_supported(handle)}"
        if row in PCIE:
            return "shown only where there is no GPM"
        if numbers:
            fields = [int(text) for text in numbers.split(", ")]
            answers = pynvml.nvmlDeviceGetFieldValues(handle, [(field, 0) for field in fields])
            return ", ".join(f"field {a.fieldId}: {pynvml.nvmlErrorString(a.nvmlReturn)}" for a in answers)
        errors: list[str] = []
        for ways in (*static(), *fast(), *slow()):
            for way in ways:
                if way.call == call or (way.call.rstrip("_v23") == call.rstrip("_v23")):
                    try:
                        answer = way.read(handle)
                        if row.name in answer or not row.name.startswith(tuple(answer)):
                            errors.append(f"answers {answer}")
                    except pynvml.NVMLError as error:
                        errors.append(str(error))
        return "; ".join(dict.fromkeys(errors)) or "not asked by itself"
    except pynvml.NVMLError as error:
        return str(error)
