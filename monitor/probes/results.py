"""The folder of a run: written whole or not at all, and read again.

    baseline_metrics.json   the headline step as ``vllm bench serve`` writes one; under ``gpumon`` all of the run
    steps/*.json            each step as ``vllm bench serve`` writes one
    <workload>_results.csv  a line for each step (``lengths``: ``sequence_length_results.csv``)
    summary.md, report.html for people
    plots/*.png             where they were asked for, and the extra ``report`` is installed

Under ``gpumon`` requests stand in columns, those that hold nothing but their default left out.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import msgspec

from monitor.probes import bench_json
from monitor.probes.errors import ProbeError
from monitor.probes.figures import headline_step
from monitor.probes.json_place import BadFile, Text, load
from monitor.probes.result_csv import csv_files
from monitor.probes.schema import VERSION, Record, Result, RunRow, Step

log = logging.getLogger(__name__)

METRICS_FILE = "baseline_metrics.json"
_DIGITS = 7
_PARTIAL = ".partial-"
_DEFAULTS = {field.name: field for field in msgspec.structs.fields(Record)}
_Columns = msgspec.defstruct(
    "_Columns",
    [("n", int), *((name, list[field.type] | None, None) for name, field in _DEFAULTS.items())],  # type: ignore[name-defined]
)


class CannotWrite(ProbeError):
    """The folder could not be made, or something is there."""


# -- write ----------------------------------------------------------------------------------------------------------


def write(folder: Path, result: Result, *, png: bool = False) -> tuple[str, ...]:
    """Make ``folder`` with all files; their names come back. ``png``: plots as PNG too.

    It is made beside it, under a name that begins with a dot, and renamed: a folder of that name is a whole one, and
    one that is there stays as it is. Raises ``CannotWrite``.
    """
    partial = folder.with_name(f".{folder.name}{_PARTIAL}{secrets.token_hex(4)}")
    try:
        _check_free(folder)
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial.mkdir()
        _write_files(partial, result, png)
        _sync(partial)
        names_ = names(partial)
        _check_free(folder)
        partial.rename(folder)
        _sync(folder.parent)
    except OSError as error:
        raise CannotWrite(f"the results could not be written to {folder}: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            shutil.rmtree(partial)
    return names_


def names(folder: Path) -> tuple[str, ...]:
    """The files of a run, relative to its folder, in order; links are none."""
    found = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return tuple(sorted(path.relative_to(folder).as_posix() for path in found))


def _check_free(folder: Path) -> None:
    if folder.is_symlink() or (folder.exists() and (not folder.is_dir() or any(folder.iterdir()))):
        raise CannotWrite(f"{folder} is there already: it is left as it is. Give another folder.")


def _write_files(folder: Path, result: Result, png: bool) -> None:
    # Here, so that who only reads (the daemon) does not load what draws.
    from monitor.probes import report_html, report_markdown

    (folder / "steps").mkdir()
    for name, step in zip(step_files(result), result.steps, strict=True):
        _write(folder / name, msgspec.json.encode(bench_json.to_bench(step, result)))
    _write(folder / METRICS_FILE, encode(result))
    for name, text in csv_files(result).items():
        _write(folder / name, text.encode())
    _write_report(folder / "summary.md", report_markdown.summary, result)
    _write_report(folder / "report.html", report_html.report, result)
    if png:
        from monitor.probes import report_png

        try:
            report_png.draw(result, folder / "plots")
        except ProbeError as error:
            log.warning("no plots as PNG: %s", error)


def _write_report(path: Path, draw: Callable[[Result], str], result: Result) -> None:
    try:
        text = draw(result)
    except Exception:
        # What was measured must not be lost with it.
        log.exception("%s could not be drawn; all numbers are in %s", path.name, METRICS_FILE)
        return
    _write(path, text.encode())


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def step_files(result: Result) -> list[str]:
    """The name of each step's own file: ``steps/03-throughput-concurrency-4.json``."""
    several = len({step.repeat for step in result.steps}) > 1
    found = []
    for number, step in enumerate(result.steps, 1):
        words = re.sub(r"[^a-z0-9.]+", "-", f"{step.workload}-{step.name}".lower()).strip("-.")[:80].rstrip("-.")
        found.append(f"steps/{number:02d}-{words}{f'-repeat-{step.repeat + 1}' if several else ''}.json")
    return found


def encode(result: Result) -> bytes:
    """What stands in ``baseline_metrics.json``."""
    step = headline_step(result)
    value = bench_json.to_bench(step, result) if step is not None else {}
    steps = tuple(msgspec.structs.replace(one, records=None) for one in result.steps)
    own = msgspec.to_builtins(msgspec.structs.replace(result, steps=steps))
    own["records"] = [_columns(one.records) if one.records is not None else None for one in result.steps]
    return msgspec.json.encode({**value, "gpumon": own}) + b"\n"


def _columns(records: tuple[Record, ...]) -> dict[str, Any]:
    columns: dict[str, Any] = {"n": len(records)}
    for name, field in _DEFAULTS.items():
        values = [getattr(one, name) for one in records]
        default = field.default if field.default is not msgspec.NODEFAULT else None
        if field.default_factory is not msgspec.NODEFAULT:
            default = field.default_factory()
        if any(value != default for value in values):
            columns[name] = [_short(value) for value in values]
    return columns


def _short(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, _DIGITS)
    return [round(one, _DIGITS) for one in value] if isinstance(value, list) else value


# -- read -----------------------------------------------------------------------------------------------------------


def read(path: Path) -> Result:
    """A folder of ours, its ``baseline_metrics.json``, or what ``vllm bench serve`` wrote, with ``--append-result``
    too. Raises ``BadFile`` with the place and what to do."""
    if path.is_dir():
        file = path / METRICS_FILE
        if not file.exists():
            raise BadFile(f"{path}: there is no {METRICS_FILE} in it, so it is no folder of a probe")
        path = file
    text = load(path)
    values = text.values()
    offset, first = values[0]
    if len(values) == 1 and isinstance(first, dict) and "gpumon" in first:
        return _ours(text, offset, first["gpumon"])
    return bench_json.from_bench(text, list(_bench(text, values)))


def _bench(text: Text, values: list[tuple[int, Any]]) -> Iterator[tuple[int, dict[str, Any]]]:
    for offset, value in values:
        if isinstance(value, list):
            hint = "a list"
            if ".pytorch." in text.path.name:
                hint = "in PyTorch's form: take the file of the same name without `.pytorch`"
            raise text.bad(offset, f"it is {hint}; a result of a probe or of `vllm bench serve` is an object")
        if not bench_json.is_bench(value):
            raise text.bad(
                offset,
                "it is no result: neither of a probe (it has no 'gpumon'), nor of `vllm bench serve --save-result` "
                "(it has no 'duration' and 'completed')",
            )
        yield offset, value


def _ours(text: Text, offset: int, value: Any) -> Result:
    version = value.get("version", VERSION) if isinstance(value, dict) else VERSION
    if isinstance(version, int) and version > VERSION:
        place = text.place(offset, ".gpumon.version")
        raise text.bad(place, f"a newer gpumon wrote it (version {version}, this one knows {VERSION}): update gpumon")
    records = value.pop("records", None) if isinstance(value, dict) else None
    if isinstance(value, dict) and isinstance(value.get("steps"), list):
        # One by one, for msgspec does not say in which item of a list it is.
        value["steps"] = [
            text.convert(step, Step, offset, f".gpumon.steps[{index}]") for index, step in enumerate(value["steps"])
        ]
    result = text.convert(value, Result, offset, ".gpumon")
    if records is None:
        return result
    if not isinstance(records, list) or len(records) != len(result.steps):
        place = text.place(offset, ".gpumon.records")
        raise text.bad(place, f"'records' is to be a list of {len(result.steps)}, one for each step")
    steps = []
    for index, (step, columns) in enumerate(zip(result.steps, records, strict=True)):
        where = f".gpumon.records[{index}]"
        found = (
            None if columns is None else _records(text, offset, text.convert(columns, _Columns, offset, where), where)
        )
        steps.append(msgspec.structs.replace(step, records=found))
    return msgspec.structs.replace(result, steps=tuple(steps))


def _records(text: Text, offset: int, columns: Any, where: str) -> tuple[Record, ...]:
    filled: dict[str, list[Any]] = {
        name: values for name in _DEFAULTS if (values := getattr(columns, name)) is not None
    }
    for name, values in filled.items():
        if len(values) != columns.n:
            place = text.place(offset, f"{where}.{name}")
            raise text.bad(place, f"'{name}' has {len(values)} items, and there were {columns.n} requests")
    if "start_s" not in filled and columns.n:
        filled["start_s"] = [0.0] * columns.n
    rows = zip(*filled.values(), strict=True) if filled else iter(())
    return tuple(Record(**cast("dict[str, Any]", dict(zip(filled, row, strict=True)))) for row in rows)


def row(result: Result) -> RunRow:
    """As it stands in a list."""
    return RunRow(
        id=result.id,
        name=result.spec.name or result.workload,
        workload=result.workload,
        server=result.facts.server or result.spec.server,
        model=result.facts.model or result.spec.model,
        state=result.state,
        began_ms=result.began_ms,
        ended_ms=result.ended_ms,
        error=result.error,
        headline=result.headline,
        valid=not result.invalid,
        labels=result.spec.labels,
    )


def without_records(result: Result) -> Result:
    """As it is sent to screens."""
    steps: tuple[Step, ...] = tuple(msgspec.structs.replace(one, records=None) for one in result.steps)
    return msgspec.structs.replace(result, steps=steps)
