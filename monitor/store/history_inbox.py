"""What history is told, on its way to the file: from the loop into a queue, and from that, in the thread, into rows of
the journal and chunks that are owed to the disk."""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Protocol

import msgspec

from monitor.samples import Event, Family, Labels
from monitor.store.chunk import Chunk
from monitor.store.history_journal import pack_scrapes
from monitor.store.history_rows import window_of
from monitor.store.history_schema import AWAIT_MS

MOST_OWED_BYTES = 16 << 20
"""What may be kept in memory for a disk that takes nothing: some two hours."""
_MOST_KNOWN = 200_000
_MOST_KNOWN_BYTES = 64 << 20
"""Their labels, and what else one takes: a server whose labels are long and ever new ones stays within what the head
takes of it, and has as many of them an hour."""
_ONE_KNOWN_BYTES = 300
_WIDEST = 500_000
"""Series in all layouts that are remembered: 8 MB."""
_UNUSED_MS = 15 * 60_000
"""What nobody told of for so long is forgotten, and looked up again should it come back: series and scrapes that come
and go would pile up to those bounds, in a daemon that needs a tenth of it."""


class Keyed(Protocol):
    """What history needs to know of a series."""

    @property
    def labels(self) -> Labels: ...

    @property
    def uid(self) -> int:
        """Never another's for as long as this process lives."""
        ...


class TakenScrape(msgspec.Struct, frozen=True):
    """A scrape that came in."""

    series: Sequence[Keyed]
    at_ms: int
    values: array[float]


class TakenSample(msgspec.Struct, frozen=True):
    """A sample by itself."""

    series: Keyed
    at_ms: int
    value: float


class TakenChunk(msgspec.Struct, frozen=True):
    """A chunk of samples that came in before."""

    series: Keyed
    chunk: Chunk


class Rewound(msgspec.Struct, frozen=True):
    """The clock went back: what came in before is not continued after this time."""

    to_ms: int


Taken = TakenScrape | TakenSample | TakenChunk | Rewound | Event | Family


class Known(msgspec.Struct):
    """A series, and its id in the file once that is known."""

    labels: Labels
    ident: int | None = None
    used: bool = True
    """Since unused ones were last forgotten."""


class Layout(msgspec.Struct):
    """The series of a scrape. It keeps the list, so that no other list can take its place."""

    series: Sequence[Keyed]
    known: list[Known]
    ids: array[int] | None = None
    used: bool = True
    """Since unused ones were last forgotten."""


class OwedRow(msgspec.Struct):
    """A row of the journal that is not written yet: of a layout, or of single samples."""

    layout: Layout | None
    singles: list[tuple[Known, int, float]]
    first_ms: int
    last_ms: int
    count: int
    data: bytes

    @property
    def samples(self) -> int:
        return self.count * (len(self.layout.known) if self.layout else 1)


class Owed(msgspec.Struct):
    """What came in between two transactions, up to a moment at which the clock went back."""

    rows: list[OwedRow] = msgspec.field(default_factory=list)
    chunks: list[tuple[Known, Chunk]] = msgspec.field(default_factory=list)
    events: list[Event] = msgspec.field(default_factory=list)
    rewound_ms: int | None = None
    began_ms: int | None = None
    """Where the clock went back before all this: at the end of something that was given up."""

    @property
    def weight(self) -> int:
        rows = sum(len(row.data) + 100 + 100 * len(row.singles) for row in self.rows)
        return rows + sum(len(c.values) + 200 for _, c in self.chunks) + 500 * len(self.events)


class Inbox:
    """What came in and is not written yet. ``queue`` is filled by the loop, all else belongs to the thread."""

    def __init__(self) -> None:
        self.queue: deque[Taken] = deque()
        self.taken = 0
        """Samples that were taken out of the queue."""
        self.lost = 0
        """Samples that were given up, for too many were owed."""
        self.now_ms: int | None = None
        """The time of the newest scrape."""
        self.families: dict[str, Family] = {}
        """Families to be written."""
        self.owed: deque[Owed] = deque()
        self.owed_bytes = 0
        self._back_ms: int | None = None
        """Where the clock went back, if that is still to be told with what is owed next."""
        self._known: dict[int, Known] = {}
        self._layouts: dict[int, Layout] = {}
        self._width = 0
        """The series of all layouts."""
        self._weight = 0
        """The bytes of all series that are known."""
        self._forgot_ms: int | None = None
        """When unused ones were last forgotten."""

    def collect(self) -> None:
        """Take what came in, and make the journal's rows of it."""
        owed = Owed()
        scrapes: dict[tuple[int, int], list[TakenScrape]] = {}
        singles: dict[int, list[TakenSample]] = {}
        for _ in range(len(self.queue)):
            try:
                item = self.queue.popleft()
            except IndexError:  # the loop took the oldest away
                break
            match item:
                case TakenScrape(series, at_ms, values):
                    scrapes.setdefault((id(series), window_of(at_ms)), []).append(item)
                    self.taken += len(values)
                    self.now_ms = at_ms
                case TakenSample(_, at_ms):
                    singles.setdefault(window_of(at_ms), []).append(item)
                    self.taken += 1
                case TakenChunk(series, chunk):
                    owed.chunks.append((self._know(series), chunk))
                case Rewound(to_ms):
                    self._make_rows(owed, scrapes, singles)
                    owed.rewound_ms = to_ms
                    self._owe(owed)
                    owed = Owed()
                    scrapes, singles = {}, {}
                case Event():
                    owed.events.append(item)
                case Family():
                    self.families[item.name] = item
        self._make_rows(owed, scrapes, singles)
        self._owe(owed)
        if self.now_ms is not None and not 0 <= self.now_ms - (self._forgot_ms or 0) < _UNUSED_MS:
            self._forgot_ms = self.now_ms
            self._forget_unused()

    def _make_rows(
        self, owed: Owed, scrapes: dict[tuple[int, int], list[TakenScrape]], singles: dict[int, list[TakenSample]]
    ) -> None:
        for taken in scrapes.values():
            layout = self._layout(taken[0].series)
            fitting = [one for one in taken if len(one.values) == len(layout.known)]
            if len(fitting) < len(taken):  # whoever told of them has a fault
                self.lost += sum(len(one.values) for one in taken if len(one.values) != len(layout.known))
                taken = fitting
            if not taken:
                continue
            times = [one.at_ms for one in taken]
            data = pack_scrapes(times, [one.values for one in taken])
            owed.rows.append(OwedRow(layout, [], times[0], times[-1], len(times), data))
        for some in singles.values():
            each = [(self._know(one.series), one.at_ms, one.value) for one in some]
            times = [one.at_ms for one in some]
            owed.rows.append(OwedRow(None, each, min(times), max(times), len(each), b""))

    def _layout(self, series: Sequence[Keyed]) -> Layout:
        found = self._layouts.get(id(series))
        if found is None:
            found = Layout(series, [self._know(one) for one in series])
            if self._width + len(series) > _WIDEST:  # a source whose series come and go makes ever new ones
                self._forget_layouts()
            self._layouts[id(series)] = found
            self._width += len(series)
        found.used = True
        return found

    def _forget_layouts(self) -> None:
        self._layouts.clear()
        self._width = 0

    def _know(self, series: Keyed) -> Known:
        found = self._known.get(series.uid)
        if found is None:
            if len(self._known) >= _MOST_KNOWN or self._weight > _MOST_KNOWN_BYTES:
                self._known.clear()
                self._weight = 0
                self._forget_layouts()
            self._weight += _weight_of(series.labels)
            found = self._known[series.uid] = Known(series.labels)
        found.used = True
        return found

    def _forget_unused(self) -> None:
        self._layouts = {key: layout for key, layout in self._layouts.items() if layout.used}
        self._width = sum(len(layout.known) for layout in self._layouts.values())
        for layout in self._layouts.values():
            layout.used = False
            for known in layout.known:
                known.used = True
        self._known = {uid: known for uid, known in self._known.items() if known.used}
        self._weight = sum(_weight_of(known.labels) for known in self._known.values())
        for known in self._known.values():
            known.used = False

    def _owe(self, owed: Owed) -> None:
        if not (owed.rows or owed.chunks or owed.events or owed.rewound_ms is not None):
            return
        owed.began_ms, self._back_ms = self._back_ms, None
        self.owed.append(owed)
        self.owed_bytes += owed.weight
        if self.owed_bytes > MOST_OWED_BYTES:
            self._shed()

    def _shed(self) -> None:
        """Too much is owed. First the journal's rows go of which there are chunks by now, then the oldest of all."""
        for one in self.owed:
            old = [row for row in one.rows if row.last_ms < (self.now_ms or 0) - AWAIT_MS]
            if old:
                self.owed_bytes -= one.weight
                one.rows = [row for row in one.rows if row.last_ms >= (self.now_ms or 0) - AWAIT_MS]
                self.owed_bytes += one.weight
        while self.owed_bytes > MOST_OWED_BYTES and len(self.owed) > 1:
            self.drop_first()

    def drop_first(self) -> None:
        """Give up the oldest of what is owed."""
        gone = self.owed.popleft()
        self.owed_bytes -= gone.weight
        self.lost += sum(row.samples for row in gone.rows) + sum(chunk.count for _, chunk in gone.chunks)
        back_ms = gone.began_ms if gone.rewound_ms is None else gone.rewound_ms
        if back_ms is not None and self.owed:
            self.owed[0].began_ms = back_ms
        elif back_ms is not None:
            self._back_ms = back_ms

    def written(self) -> None:
        """All that was owed is on the disk."""
        self.owed.clear()
        self.owed_bytes = 0

    def known(self) -> Iterator[Known]:
        """Every series that was told of lately, or is owed."""
        yield from self._known.values()
        for layout in self._layouts.values():
            yield from layout.known
        for owed in self.owed:
            for known, _ in owed.chunks:
                yield known
            for row in owed.rows:
                yield from (known for known, _, _ in row.singles)
                yield from row.layout.known if row.layout else ()

    def forget_ids(self) -> None:
        """The file is another one, or may be: the series' ids are looked up again."""
        for known in self.known():
            known.ident = None
        for layout in [*self._layouts.values(), *(row.layout for owed in self.owed for row in owed.rows if row.layout)]:
            layout.ids = None


def _weight_of(labels: Labels) -> int:
    """The bytes that a series takes which is known."""
    return _ONE_KNOWN_BYTES + sum(len(name) + len(value) for name, value in labels)
