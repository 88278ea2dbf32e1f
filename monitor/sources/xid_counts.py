"""Counts XIDs by GPU and code, each once although the kernel's log and NVML both tell of it, and makes the series.

``gpumon_gpu_xid_errors_total{gpu, UUID, pci_bus_id, code}``
    0 from the start for ``COUNTED_CODES`` and each GPU that NVML lists. Any other code starts when it is first seen.
    Whatever the code, the first sample is 0 and the next poll's has the count, so that ``increase()`` sees the first
    XID. One for each line that the driver wrote: an XID 13 comes as several.
``gpumon_gpu_last_xid_timestamp_seconds{gpu, UUID, pci_bus_id, code}``
    When the last one of a code was, absent before the first. For those who scrape too seldom to see a first 0.
``DCGM_FI_DEV_XID_ERRORS{…, err_code, err_msg}``
    The code of the last one, 0 before the first, as dcgm-exporter has it; like there it does not go back to 0.
"""

from __future__ import annotations

import msgspec

from monitor.samples import NAME, Labels, Shape, label, make_labels
from monitor.sources.kernel_messages import normal_bus
from monitor.sources.xid import COUNTED_CODES, describe

ERRORS = "gpumon_gpu_xid_errors_total"
LAST = "gpumon_gpu_last_xid_timestamp_seconds"
DCGM = "DCGM_FI_DEV_XID_ERRORS"

SAME_MS = 10_000
"""The kernel's line and NVML's event of one XID are no further apart."""

PATIENCE_MS = 5_000
"""How long an event of NVML waits for its line in the kernel's log, which says more."""

MAX_CODES = 64
"""Codes beyond ``COUNTED_CODES`` that get series, over all GPUs. There are few; a log full of nonsense is not."""

_MOST_WAITING = 500
_KEPT = ("gpu", "UUID", "pci_bus_id")
_DCGM_KEPT = (*_KEPT, "device", "modelName", "Hostname")


class _Cell:
    """One series and its value. A counter shows 0 once before it shows what it has counted."""

    __slots__ = ("labels", "value", "zero_first")

    def __init__(self, labels: Labels, value: float = 0.0, *, zero_first: bool = False) -> None:
        self.labels = labels
        self.value = value
        self.zero_first = zero_first

    def take(self) -> float:
        if self.zero_first:
            self.zero_first = False
            return 0.0
        return self.value


class Note(msgspec.Struct, frozen=True):
    """An XID that NVML told of and that waits for its line in the kernel's log."""

    bus: str
    code: int
    at_ms: int


class XidCounts:
    """All GPUs' counts. ``bus`` is a bus id as ``normal_bus`` writes it."""

    def __init__(self) -> None:
        self._shape: Shape | None = None
        self._labels: dict[str, dict[str, str]] = {}
        self._counters: dict[tuple[str, int], _Cell] = {}
        self._times: dict[tuple[str, int], _Cell] = {}
        self._last: dict[str, _Cell] = {}
        self._extra = 0
        self._lines: list[Note] = []
        self._notes: list[Note] = []
        self.layout = 0
        """Counts up whenever ``series`` changes."""

    def know_gpus(self, shape: Shape) -> None:
        """Learn which GPU is at which bus id from the series of an NVML scrape. One that is lost later stays known."""
        if shape is self._shape:
            return
        self._shape = shape
        seen: set[str] = set()
        for series in shape.series:
            bus, gpu = normal_bus(label(series, "pci_bus_id")), label(series, "gpu")
            if not bus or not gpu or bus in seen or label(series, "GPU_I_ID"):
                continue
            if not label(series, NAME).startswith("DCGM_FI_DEV_"):
                continue
            seen.add(bus)
            known = {key: value for key, value in series if key in _DCGM_KEPT}
            if self._labels.get(bus) != known:
                self._place(bus, known)

    def labels(self, bus: str) -> dict[str, str]:
        """``gpu``, ``UUID`` and ``pci_bus_id`` of a GPU, as far as they are known."""
        known = self._labels.get(bus)
        if known is not None:
            return {key: value for key, value in known.items() if key in _KEPT}
        domain, _, rest = bus.partition(":")
        return {"pci_bus_id": f"{int(domain, 16):08X}:{rest.upper()}.0"} if rest else {}

    def line(self, bus: str, code: int, at_ms: int) -> None:
        """The kernel's log has a line of this XID."""
        line = Note(bus, code, at_ms)
        if (note := _match(self._notes, line)) is not None:
            self._notes.remove(note)
        else:
            self._lines.append(line)
        self._count(bus, code, at_ms)

    def note(self, gpu: str, code: int, at_ms: int) -> None:
        """NVML told of this XID on the GPU of this number. Counted by ``settle``, unless the log has it as well."""
        bus = next((bus for bus, labels in self._labels.items() if labels.get("gpu") == gpu), "")
        if not bus:
            bus = f"gpu {gpu}"
            self._labels[bus] = {"gpu": gpu}
        note = Note(bus, code, at_ms)
        if (line := _match(self._lines, note)) is not None:
            self._lines.remove(line)
        else:
            self._notes.append(note)
            del self._notes[: -2 * _MOST_WAITING]  # nobody settles while the source is absent

    def settle(self, now_ms: int, *, log_is_read: bool) -> list[Note]:
        """Count what only NVML told of, at once where no log is read. Returns them: each is an event."""
        self._lines = [line for line in self._lines if now_ms - line.at_ms <= SAME_MS][-_MOST_WAITING:]
        patience = PATIENCE_MS if log_is_read else 0
        too_many = len(self._notes) - _MOST_WAITING
        due = [note for i, note in enumerate(self._notes) if i < too_many or now_ms - note.at_ms >= patience]
        for note in due:
            self._notes.remove(note)
            self._count(note.bus, note.code, note.at_ms)
        return due

    @property
    def series(self) -> tuple[Labels, ...]:
        """The series, in the order of ``values``."""
        return tuple(cell.labels for cell in self._cells())

    def values(self) -> list[float]:
        """This poll's samples. Called once a poll: a new counter shows 0 first."""
        return [cell.take() for cell in self._cells()]

    def _cells(self) -> list[_Cell]:
        return [*self._counters.values(), *self._times.values(), *self._last.values()]

    def _count(self, bus: str, code: int, at_ms: int) -> None:
        key = (bus, code)
        if key not in self._counters:
            if self._extra >= MAX_CODES:
                return
            self._extra += 1
            self._counters[key] = _Cell(self._named(ERRORS, bus, code), zero_first=True)
            self.layout += 1
        self._counters[key].value += 1
        if key not in self._times:
            self._times[key] = _Cell(self._named(LAST, bus, code))
            self.layout += 1
        self._times[key].value = max(self._times[key].value, at_ms / 1000)
        if bus not in self._last or self._last[bus].value != code:
            self._last[bus] = _Cell(self._dcgm(bus, code), code)
            self.layout += 1

    def _place(self, bus: str, known: dict[str, str]) -> None:
        """A GPU is new, or its labels are: its series from now on."""
        self._labels[bus] = known
        for code in COUNTED_CODES:
            self._counters.setdefault((bus, code), _Cell((), zero_first=True))
        for name, cells in ((ERRORS, self._counters), (LAST, self._times)):
            for (place, code), cell in cells.items():
                if place == bus:
                    cell.labels = self._named(name, bus, code)
        code = int(self._last[bus].value) if bus in self._last else 0
        self._last[bus] = _Cell(self._dcgm(bus, code), code)
        self.layout += 1

    def _named(self, name: str, bus: str, code: int) -> Labels:
        return make_labels(name, {**self.labels(bus), "code": str(code)})

    def _dcgm(self, bus: str, code: int) -> Labels:
        said = describe(code).meaning if code else "No Error"
        known = self._labels.get(bus) or self.labels(bus)
        return make_labels(DCGM, {**known, "err_code": str(code), "err_msg": said})


def _match(waiting: list[Note], one: Note) -> Note | None:
    """The first of ``waiting`` that is the same XID as ``one``, told by the other side."""
    for other in waiting:
        if other.bus == one.bus and other.code == one.code and abs(other.at_ms - one.at_ms) <= SAME_MS:
            return other
    return None
