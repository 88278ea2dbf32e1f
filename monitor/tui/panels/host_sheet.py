"""What is told of a host in words, bars and tables: its processors, memory, filesystems, disks, networks and kernel."""

from __future__ import annotations

from collections.abc import Sequence

from rich.style import Style

from monitor.client.format import (
    ABSENT,
    celsius,
    clock,
    count,
    duration,
    number,
    percent,
    rate,
    seconds,
    size,
)
from monitor.client.host_queries import PRESSURES
from monitor.client.results import Answers
from monitor.client.snapshot import Host
from monitor.digits import by_number
from monitor.tui.palette import (
    CPU,
    CRITICAL,
    DIM,
    FAINT,
    GOOD,
    HOST_MEMORY,
    NOTICE,
    PLAIN,
    STRONG,
    WARNING,
)
from monitor.tui.panels.blocks import heading, said
from monitor.tui.rows import Row, field, flow

_LEVELS = " ▁▂▃▄▅▆▇█"
_MODES = ("user", "system", "iowait", "steal", "softirq", "nice", "irq")
_ALWAYS = 5
"""So many of them are always shown, so that nothing moves when one begins."""
_FULL, _NEARLY = 0.95, 0.9
_NO_LIMIT = 1e15
"""A maximum that is none: kernels have 2^63 file handles."""


class Told:
    """What the queries of a host's screen say, by name; of ``node_x`` the name is ``x``."""

    def __init__(self, answers: Answers) -> None:
        self.answers = answers
        self._values = {
            labels.get("__name__", "").removeprefix("node_"): value for labels, _, value in answers.rows("now")
        }

    def get(self, name: str) -> float | None:
        """A reading, or None."""
        return self._values.get(name)

    def total(self, name: str) -> float | None:
        """A reading that there is of each of several parts, of all together; None where there is none."""
        values = [value for labels, _, value in self.answers.rows("now") if labels.get("__name__") == f"node_{name}"]
        return sum(values) if values else None

    def by(self, id: str, label: str = "device") -> dict[str, float]:
        """A query's values by one of its labels."""
        return {labels.get(label, ""): value for labels, _, value in self.answers.rows(id)}

    def named(self, id: str, *keys: str) -> dict[tuple[str, ...], dict[str, float]]:
        """A query's values by labels, and for each by the series' name."""
        found: dict[tuple[str, ...], dict[str, float]] = {}
        for labels, _, value in self.answers.rows(id):
            key = tuple(labels.get(one, "") for one in keys)
            found.setdefault(key, {})[labels.get("__name__", "").removeprefix("node_")] = value
        return found

    @property
    def uname(self) -> dict[str, str]:
        """What the kernel calls itself."""
        rows = self.answers.rows("uname")
        return rows[0][0] if rows else {}


def bar(ratio: float | None, width: int, style: Style) -> Row:
    """A bar of so many cells, with eighths."""
    if ratio is None:
        return Row().put(" " * width)
    eighths = round(min(1.0, max(0.0, ratio)) * width * 8)
    full, rest = divmod(eighths, 8)
    text = "█" * full + (" ▏▎▍▌▋▊▉"[rest] if rest else "")
    row = Row().graph(text, style)
    return row.put("·" * (width - row.width), FAINT)


def level(ratio: float | None, style: Style = PLAIN) -> Style:
    """How a share looks that must not be full."""
    if ratio is None:
        return DIM
    return CRITICAL if ratio >= _FULL else WARNING if ratio >= _NEARLY else style


def identity(host: Host, told: Told, now_ms: int, width: int) -> list[Row]:
    """Which machine, and how its kernel is."""
    uname = told.uname
    fields = []
    if uname:
        fields.append(Row().put(uname.get("nodename", ""), STRONG))
        fields.append(Row().put(" ".join(uname.get(key, "") for key in ("sysname", "release", "machine"))))
    if host.cpus is not None:
        fields.append(field("CPUs", str(host.cpus), 1))
    if host.boot_time_seconds is not None:
        up = f"{duration(now_ms / 1000 - host.boot_time_seconds)}"
        fields.append(field("up", up, 1).put(f" since {clock(round(host.boot_time_seconds * 1000), date=True)}", DIM))
    sync, offset, most = (
        told.get("timex_sync_status"),
        told.get("timex_offset_seconds"),
        told.get("timex_maxerror_seconds"),
    )
    if sync is not None:
        words = "in sync" if sync else "NOT in sync"
        row = Row().put("clock ", DIM).put(words, GOOD if sync else WARNING)
        if offset is not None:
            row.put(f"  off by {_small(abs(offset))}", PLAIN if abs(offset) < 0.05 else WARNING)
        if most is not None:
            row.put(f", {_small(most)} at most", DIM)
        fields.append(row)
    handles, top = told.get("filefd_allocated"), told.get("filefd_maximum")
    if handles is not None:
        limited = top is not None and top < _NO_LIMIT
        share = handles / top if limited and top else None
        of = f" of {number(top)}" if limited else ""
        fields.append(Row().put("file handles ", DIM).put(number(handles), level(share)).put(of, DIM))
    return flow(fields, width)


def processors(host: Host, told: Told, width: int) -> list[Row]:
    """What the CPUs do, each of them, the load, and who waits."""
    rows = [heading("CPU", width, "" if host.cpus is None else count(host.cpus, "CPU"))]
    modes = told.by("modes", "mode")
    busy = 1 - modes["idle"] if "idle" in modes else host.cpu
    fields = [field("busy", percent(busy), 5, level(busy, STRONG))]
    for name in _MODES:
        value = modes.get(name)
        if value is not None and (value >= 0.005 or name in _MODES[:_ALWAYS]):
            bad = name in ("iowait", "steal") and value >= 0.1
            fields.append(field(name, percent(value), 5, WARNING if bad else PLAIN))
    rows += flow(fields, width)
    rows += _cores(told, width)
    loads = [told.get(f"load{minutes}") for minutes in (1, 5, 15)]
    fields = []
    if loads[0] is not None:
        crowded = host.cpus is not None and loads[0] > host.cpus
        words = " ".join(ABSENT if value is None else f"{value:.1f}" for value in loads)
        fields.append(Row().put("load ", DIM).put(words, WARNING if crowded else PLAIN, 17))
    for name, label in (("procs_running", "running"), ("procs_blocked", "blocked")):
        value = told.get(name)
        if value is not None:
            bad = name == "procs_blocked" and value >= 8
            fields.append(field(label, number(value), 4, WARNING if bad else PLAIN))
    for id, label in (("switches", "switches"), ("forks", "forks")):
        value = told.answers.value(id)
        if value is not None:
            fields.append(field(label, rate(value, "/s"), 7))
    return [*rows, *flow(fields, width), *_pressure(told, width)]


def _cores(told: Told, width: int) -> list[Row]:
    """A bar for each core, in as few lines as they take, under what is the first one's number."""
    cores = told.by("cores", "cpu")
    order = sorted(cores, key=by_number)
    if not order:
        return []
    label = len(str(len(order))) + 1
    room = max(8, width - label)
    lines = -(-len(order) // room)
    each = -(-len(order) // lines)
    each = min(room, -(-each // 8) * 8) if room >= 8 else each
    rows = []
    for begin in range(0, len(order), each):
        row = Row().put(order[begin], DIM, label)
        for part in _alike([cores[name] for name in order[begin : begin + each]]):
            row.graph(*part)
        rows.append(row)
    return rows


def _alike(values: Sequence[float]) -> list[tuple[str, Style]]:
    """Bars, those of one look joined."""
    found: list[tuple[str, Style]] = []
    for value in values:
        place = min(8, max(1, round(value * 8)))
        style = WARNING if value >= 0.9 else CPU
        if found and found[-1][1] is style:
            found[-1] = (found[-1][0] + _LEVELS[place], style)
        else:
            found.append((_LEVELS[place], style))
    return found


def _pressure(told: Told, width: int) -> list[Row]:
    values = {id: told.answers.value(id) for id in PRESSURES}
    if all(value is None for value in values.values()):
        return []
    fields = [Row().put("who waits ", DIM)]
    for id, label in (("cpu_waiting", "for CPU"), ("io_waiting", "for disks"), ("memory_waiting", "for memory")):
        value = values[id]
        if value is None:
            continue
        row = field(label, percent(value), 5, WARNING if value >= 0.2 else PLAIN)
        stalled = values.get(id.replace("waiting", "stalled"))
        if stalled is not None and stalled >= 0.01:
            row.put(f" all {percent(stalled)}", WARNING if stalled >= 0.1 else DIM)
        fields.append(row)
    return flow(fields, width, gap=1)


def memory(told: Told, width: int) -> list[Row]:
    """What is used, what only seems so, and swap."""
    total, available = told.get("memory_MemTotal_bytes"), told.get("memory_MemAvailable_bytes")
    rows = [heading("memory", width, "" if total is None else size(total))]
    if total is None or available is None or not total:
        return [*rows, Row().put("no readings", DIM)]
    used = total - available
    ratio = used / total
    rows.append(
        bar(ratio, max(8, width - 22), level(ratio, HOST_MEMORY)).put("  ").value(percent(ratio)).put(f" {size(used)}")
    )
    cached = _sum(told, "memory_Cached_bytes", "memory_Buffers_bytes", "memory_SReclaimable_bytes")
    fields = [field("available", size(available), 8)]
    for label, value in (
        ("cached", cached),
        ("free", told.get("memory_MemFree_bytes")),
        ("shared", told.get("memory_Shmem_bytes")),
        ("to be written", told.get("memory_Dirty_bytes")),
    ):
        if value is not None:
            fields.append(field(label, size(value), 8))
    swap, swap_free = told.get("memory_SwapTotal_bytes"), told.get("memory_SwapFree_bytes")
    if swap:
        taken = swap - (swap_free or 0)
        fields.append(Row().put("swap ", DIM).put(f"{size(taken)} of {size(swap)}", level(taken / swap)))
    elif swap is not None:
        fields.append(Row().put("no swap", DIM))
    moved = [told.answers.value(id) for id in ("swap_in", "swap_out")]
    if swap and any(value for value in moved):
        words = " ".join(f"{way} {rate(value, 'pages/s')}" for way, value in zip(("in", "out"), moved, strict=True))
        fields.append(Row().put(words, WARNING))
    pages, page = told.get("memory_HugePages_Total"), told.get("memory_Hugepagesize_bytes")
    if pages:
        free = told.get("memory_HugePages_Free") or 0
        fields.append(field("huge pages", f"{pages - free:.0f} of {pages:.0f} × {size(page)}", 1))
    faults = told.answers.value("faults")
    if faults is not None:
        fields.append(field("major faults", rate(faults, "/s"), 7))
    return [*rows, *flow(fields, width)]


def faults(told: Told, range_seconds: int, width: int) -> list[Row]:
    """What has gone wrong: processes that the kernel ended, and errors of the memory."""
    texts: list[tuple[str, Style]] = []
    killed, new = told.get("vmstat_oom_kill"), told.answers.value("oom")
    if killed is not None:
        if killed or new:
            processes = "process" if round(killed) == 1 else "processes"
            texts.append((f"{killed:.0f} {processes} ended for want of memory since the start", NOTICE))
            lately = f"{number(round(new or 0))} in the last {duration(range_seconds)}"
            texts.append((lately, CRITICAL if new and new >= 0.5 else DIM))
        else:
            texts.append(("no process was ended for want of memory", GOOD))
    # Each memory controller has its own, of which the most loaded machines have many.
    lost, fixed = told.total("edac_uncorrectable_errors_total"), told.total("edac_correctable_errors_total")
    if lost:
        texts.append((f"{lost:.0f} errors of the memory not corrected", CRITICAL))
    if fixed:
        texts.append((f"{fixed:.0f} errors of the memory corrected", NOTICE))
    if lost is not None and not lost and not fixed:
        texts.append(("no error of the memory", GOOD))
    rows = said("", texts, width, 0) if texts else []
    rows += _heat(told)
    return [heading("faults", width), *rows] if rows else []


def _heat(told: Told) -> list[Row]:
    values = [value for _, _, value in told.answers.rows("heat")]
    if not values:
        return []
    return [field("hottest sensor", celsius(max(values)), 6).put(f" of {len(values)}", DIM)]


def _sum(told: Told, *names: str) -> float | None:
    values = [value for name in names if (value := told.get(name)) is not None]
    return sum(values) if values else None


def _small(value: float) -> str:
    """A short time: ``30 µs``, ``4.0 ms``."""
    return f"{value * 1e6:.0f} µs" if value < 1e-3 else seconds(value)
