"""``gpumon dmon``: a line for each GPU each second, as ``nvidia-smi dmon`` has it, with what its vLLM server does.

For logs and for terminals that no screen fits into. Units stand in the second line; what is absent is ``-``, never 0.
"""

from __future__ import annotations

import asyncio
import csv
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import TextIO

import click

from monitor.client import format as words
from monitor.client.errors import ClientError
from monitor.client.events import ConnectionLost
from monitor.client.feed import live
from monitor.client.snapshot import Engine, Gpu, Snapshot
from monitor.commands.for_programs import json_text, output

_MIB = 1024 * 1024
_HEAD_EVERY = 20
"""Lines, or as many as one moment has."""

COLUMNS = (
    # name, unit, width
    ("time", "h:m:s", 8),
    ("gpu", "idx", 3),
    ("pwr", "W", 4),
    ("gtemp", "C", 5),
    ("mtemp", "C", 5),
    ("sm", "%", 4),
    ("mem", "%", 4),
    ("fb", "MiB", 7),
    ("mclk", "MHz", 5),
    ("pclk", "MHz", 5),
    ("run", "req", 4),
    ("wait", "req", 4),
    ("kv", "%", 4),
    ("hit", "%", 4),
    ("in", "tok/s", 7),
    ("out", "tok/s", 7),
    ("ttft", "ms", 6),
    ("itl", "ms", 5),
    ("server", "", 0),
)
"""pclk is the clock of the multiprocessors, mclk that of the memory, as ``nvidia-smi dmon`` calls them."""


def run(url: str | None, *, gpus: str | None, delay: float, count: int, form: str) -> int:
    """Print until interrupted, or ``count`` moments; 0, or 1 where there is nothing to be asked."""
    wanted = None if gpus is None else {one.strip() for one in gpus.split(",") if one.strip()}
    writer = Writer(output(sys.stdout) if form == "csv" else sys.stdout, form)
    try:
        return asyncio.run(_follow(url, wanted, delay, count, writer))
    except ClientError as error:
        click.echo(f"gpumon dmon: {error}", err=True)
        return 1


async def _follow(url: str | None, wanted: set[str] | None, delay: float, count: int, writer: Writer) -> int:
    shown = 0
    async with aclosing(_pictures(url, delay)) as pictures:
        async for picture in pictures:
            if wanted is not None and picture.gpus and not any(gpu.index in wanted for gpu in picture.gpus):
                there = ", ".join(gpu.index for gpu in picture.gpus)
                raise ClientError(f"no GPU {', '.join(sorted(wanted))} is there", "", f"There are {there}")
            if not shown and not picture.gpus and not picture.engines:
                why = next((f": {one.reason}" for one in picture.sources if one.name == "nvml" and one.reason), "")
                click.echo(
                    f"gpumon dmon: there is no GPU and no server to show{why}. Lines come with the first", err=True
                )
            writer.write_moment(picture, wanted)
            shown += 1
            if count and shown >= count:
                return 0
    return 0


async def _pictures(url: str | None, delay: float) -> AsyncGenerator[Snapshot, None]:
    async with aclosing(live(url, interval=delay, start_private=False)) as events:
        async for event in events:
            if isinstance(event, ConnectionLost):
                raise event.error
            if isinstance(event, Snapshot) and event.has_data:
                yield event


def rows_of(picture: Snapshot, wanted: set[str] | None = None) -> list[tuple[str, ...]]:
    """The cells of a moment, a row for each GPU, and one for each server of which no GPU is known."""
    time = words.clock(picture.now_ms)
    engines = {engine.key: engine for engine in picture.engines}
    rows = []
    shown: set[tuple[str, str]] = set()
    for gpu in picture.gpus:
        if wanted is not None and gpu.index not in wanted:
            continue
        engine = engines.get((gpu.instance, gpu.engine.partition(" rank ")[0]))
        if engine is not None:
            shown.add(engine.key)
        rows.append((time, *_gpu(gpu), *_engine(engine)))
    if wanted is None:
        rows += [(time, *["-"] * 9, *_engine(one)) for key, one in engines.items() if key not in shown]
    return rows


def objects_of(picture: Snapshot, wanted: set[str] | None = None) -> list[dict[str, object]]:
    """The same for programs, in base units, without what is absent: ``gpu`` or ``server`` says whose it is."""
    engines = {engine.key: engine for engine in picture.engines}
    found: list[dict[str, object]] = []
    shown: set[tuple[str, str]] = set()
    for gpu in picture.gpus:
        if wanted is not None and gpu.index not in wanted:
            continue
        engine = engines.get((gpu.instance, gpu.engine.partition(" rank ")[0]))
        if engine is not None:
            shown.add(engine.key)
        readings = {} if gpu.stale else {name: getattr(gpu, field) for name, field in _GPU_FIELDS.items()}
        whose = {"at_ms": picture.now_ms, "instance": gpu.instance, "gpu": gpu.index}
        found.append(whose | _present(readings) | _engine_object(engine))
    if wanted is None:
        rest = (one for key, one in engines.items() if key not in shown)
        found += [{"at_ms": picture.now_ms, "instance": one.key[0]} | _engine_object(one) for one in rest]
    return found


_GPU_FIELDS = {
    "power_watts": "power",
    "temperature_celsius": "temperature",
    "memory_temperature_celsius": "memory_temperature",
    "utilization_ratio": "utilization",
    "memory_busy_ratio": "memory_busy",
    "memory_used_bytes": "memory_used",
    "memory_clock_mhz": "memory_clock",
    "sm_clock_mhz": "sm_clock",
}
_ENGINE_FIELDS = {
    "requests_running": "running",
    "requests_waiting": "waiting",
    "kv_cache_ratio": "kv_cache",
    "prefix_hit_ratio": "prefix_hits",
    "prompt_tokens_per_second": "prompt_rate",
    "generation_tokens_per_second": "generation_rate",
    "ttft_seconds": "ttft_mean",
    "itl_seconds": "itl_mean",
}


def _engine_object(engine: Engine | None) -> dict[str, object]:
    if engine is None:
        return {}
    whose: dict[str, object] = {"server": engine.server}
    if engine.up is not None:
        whose["server_up"] = engine.up
    if engine.up is False:
        return whose | {"server_reason": engine.reason}
    return whose | _present({name: getattr(engine, field) for name, field in _ENGINE_FIELDS.items()})


def _present(readings: dict[str, float | None]) -> dict[str, object]:
    return {name: value for name, value in readings.items() if value is not None and value == value}


def _gpu(gpu: Gpu) -> tuple[str, ...]:
    if gpu.stale:  # an old reading is worse than none
        return (gpu.index, *["-"] * 8)
    used = None if gpu.memory_used is None else gpu.memory_used / _MIB
    return (
        gpu.index,
        _whole(gpu.power),
        _whole(gpu.temperature),
        _whole(gpu.memory_temperature),
        _whole(gpu.utilization, 100),
        _whole(gpu.memory_busy, 100),
        _whole(used),
        _whole(gpu.memory_clock),
        _whole(gpu.sm_clock),
    )


def _engine(engine: Engine | None) -> tuple[str, ...]:
    if engine is None:
        return (*["-"] * 8, "-")
    if engine.up is False:
        return (*["-"] * 8, f"{engine.server} DOWN: {engine.reason}")
    return (
        _whole(engine.running),
        _whole(engine.waiting),
        _whole(engine.kv_cache, 100),
        _whole(engine.prefix_hits, 100),
        _whole(engine.prompt_rate),
        _whole(engine.generation_rate),
        _whole(engine.ttft_mean, 1000),
        _whole(engine.itl_mean, 1000),
        engine.server,
    )


def _whole(value: float | None, factor: float = 1) -> str:
    return "-" if value is None or value != value else f"{value * factor:.0f}"


class Writer:
    """Writes rows as columns with a head now and then, or as CSV with one; and objects as JSON, one a line."""

    def __init__(self, out: TextIO, form: str) -> None:
        self._out = out
        self._csv = csv.writer(out, lineterminator="\n") if form == "csv" else None
        self._json = form == "json"
        self._since_head: int | None = None

    def write_moment(self, picture: Snapshot, wanted: set[str] | None) -> None:
        """What a moment has, in this writer's form."""
        if self._json:
            self.write_objects(objects_of(picture, wanted))
        else:
            self.write(rows_of(picture, wanted))

    def write(self, rows: Sequence[tuple[str, ...]]) -> None:
        """One moment; what is written is out at once."""
        if self._csv is not None:
            if self._since_head is None:
                self._csv.writerow([f"{name} [{unit}]" if unit else name for name, unit, _ in COLUMNS])
            self._csv.writerows(["" if cell == "-" else cell for cell in row] for row in rows)
        else:
            if self._since_head is None or self._since_head >= _HEAD_EVERY:
                self._line("#", [name for name, _, _ in COLUMNS])
                self._line("#", [unit for _, unit, _ in COLUMNS])
                self._since_head = 0
            for row in rows:
                self._line(" ", row)
        self._since_head = (self._since_head or 0) + len(rows)
        self._out.flush()

    def write_objects(self, objects: Sequence[dict[str, object]]) -> None:
        """One moment as JSON."""
        self._out.writelines(json_text(one) + "\n" for one in objects)
        self._out.flush()

    def _line(self, mark: str, row: Sequence[str]) -> None:
        cells = [
            words.fit(cell, width, right=True) if width else cell
            for cell, (_, _, width) in zip(row, COLUMNS, strict=True)
        ]
        self._out.write(f"{mark} {' '.join(cells)}".rstrip() + "\n")
