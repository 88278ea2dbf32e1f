"""How what the daemon takes grows with what it has to do: 1 to 8 GPUs, 1 to 64 servers, 10 to 1,000 rules, 1 to 100
clients, one of them at a time.

    python -m tests.bench [--quick] [--keep] growth

A line through the logarithms of sizes and costs has the exponent as its slope: 1 where twice as much costs twice as
much, less where there is a part that is paid once. What one more costs is told beside it, between the least and the
most. The rest is as small as may be meanwhile: one GPU, one server of 500 series, ten rules, nobody who asks. --keep
writes the table into docs/weight.md.
"""

from __future__ import annotations

from monitor.records import replace
from tests.bench import marks
from tests.bench.load import Found, Size, measure
from tests.bench.slopes import exponent
from tests.bench.weigh import line

BASE = Size(gpus=1, servers=1, series=500, rules=10, clients=0)
SWEEPS = {
    "GPUs": ("gpus", (1, 2, 4, 8)),
    "servers of 500 series": ("servers", (1, 8, 64)),
    "rules": ("rules", (10, 100, 1000)),
    "clients": ("clients", (1, 10, 100)),
}


def growth(seconds: float, *, keep: bool = False) -> None:
    """Measure all sizes, and print a row for each kind. Raises ``ExceptionGroup`` at the end where one could not be
    measured: the others are printed and kept."""
    known: dict[Size, Found] = {}
    rows, failed = [], []
    for what, (field, sizes) in SWEEPS.items():
        found = []
        try:
            for size in (replace(BASE, **{field: number}) for number in sizes):
                if size not in known:
                    known[size] = measure(size, seconds)
                found.append(known[size])
        except Exception as error:
            failed.append(error)
            rows.append((what, f"not measured: {type(error).__name__}", "", "", "", "", ""))
            line(*rows[-1][:2])
            continue
        more = sizes[-1] - sizes[0]
        cpu, memory = [one.cpu for one in found], [one.memory for one in found]
        row = (
            f"{', '.join(f'{size:,}' for size in sizes)} {what}",
            " / ".join(f"{one:.1f}" for one in cpu) + " %",
            f"{exponent(sizes, cpu):.2f}",
            f"{(cpu[-1] - cpu[0]) / more:.3f} %",
            " / ".join(f"{one:.0f}" for one in memory) + " MiB",
            f"{exponent(sizes, memory):.2f}",
            ", ".join(f"{one.beats}" for one in found) + f" of {found[0].beats_due}",
        )
        rows.append(row)
        line(f"{row[0]}: CPU of a core", row[1], f"exponent {row[2]}; one more {row[3]}")
        line("    memory (PSS); evaluations done", row[4], f"exponent {row[5]}; {row[6]}")
    if keep:
        head = ("", "CPU of a core", "exponent", "one more", "memory (PSS)", "exponent", "evaluations done")
        marks.write("growth", f"{marks.measured(f'{seconds:.0f} s each')}\n\n{marks.table(head, rows)}")
    if failed:
        raise ExceptionGroup("growth", failed)
