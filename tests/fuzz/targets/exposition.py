"""The reader of Prometheus' text format: what vLLM and other servers send."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from monitor.samples import NAME, Labels, make_labels
from monitor.sources.aliases import translate
from monitor.sources.exposition import ExpositionError, ExpositionReader
from tests.fuzz.target import Broken, Target

_DATA = Path(__file__).resolve().parents[2] / "data"


def run(data: bytes) -> None:
    """Read it twice, as a server is read again and again; then hold it against prometheus_client's parser."""
    reader = ExpositionReader({"server": "n1:8000"}, max_series=500)
    try:
        values = reader.read(data)
    except ExpositionError as error:
        if not all(c.isprintable() for c in str(error)):
            raise Broken(f"an error that a terminal would obey: {error!r}") from None
        return
    shape = reader.shape
    if len(shape.series) != len(values):
        raise Broken(f"{len(shape.series)} series and {len(values)} values")
    again = reader.read(data)
    if reader.shape is not shape or not _same(values, again):
        raise Broken("the same body again is something else")
    translated = translate(shape)
    if len(translated.values(values)) != len(translated.shape.series):
        raise Broken("translated series and values differ in number")
    _compare(data, list(zip(shape.series, values, strict=True)))


def _same(one: list[float], other: list[float]) -> bool:
    return len(one) == len(other) and all(
        a == b or (math.isnan(a) and math.isnan(b)) for a, b in zip(one, other, strict=True)
    )


def _compare(data: bytes, found: list[tuple[Labels, float]]) -> None:
    """Where prometheus_client takes the text, too, it finds the same samples."""
    try:
        families = list(text_string_to_metric_families(data.decode()))
    except Exception:
        return
    if b"#" in data or b"\r" in data:
        return  # families' suffixes and exemplars are told otherwise there; it splits lines at more than \n
    expected = []
    for family in families:
        for sample in family.samples:
            if sample.name.endswith("_created") or sample.name.startswith("python_gc_"):
                continue
            pairs = {f"exported_{k}" if k == "server" else k: v for k, v in sample.labels.items()}
            expected.append((make_labels(sample.name, pairs | {"server": "n1:8000"}), float(sample.value)))
    key = dict.fromkeys(labels for labels, _ in expected)
    mine = dict.fromkeys(labels for labels, _ in found)
    if len(found) != len(expected) or set(key) != set(mine):
        raise Broken(f"prometheus_client finds {expected[:3]!r}, we {found[:3]!r}")
    for (labels, value), (_, theirs) in zip(
        sorted(found, key=_by_labels), sorted(expected, key=_by_labels), strict=True
    ):
        if value != theirs and not (math.isnan(value) and math.isnan(theirs)):
            raise Broken(f"{dict(labels)[NAME]}: {theirs!r} for prometheus_client, {value!r} for us")


def _by_labels(sample: tuple[Labels, float]) -> tuple[Labels, str]:
    return sample[0], repr(sample[1])


def seeds() -> Iterable[bytes]:
    """Lines of real servers, a few at a time, and the corners of the format."""
    for path in sorted(_DATA.glob("*.prom")):
        lines = path.read_bytes().splitlines(keepends=True)
        for at in range(0, min(len(lines), 400), 12):
            yield b"".join(lines[at : at + 12])
    yield b'a{b="c\\n\\"\\\\",} 1 1700000000000\n'
    yield b"a 1e400\nb -Inf\nc NaN\nd +Inf\ne 0x10\nf 1_0\n"
    yield b'# TYPE x histogram\nx_bucket{le="+Inf"} 3 # {t="1"} 2 3\nx_sum 1\nx_count 3\n# EOF\n'
    yield b'{"a.b",c="d"} 4\n{"q"} 1\n'
    yield b' a{ b = "c" , } 3\ta\n'


TARGET = Target(
    what="metrics of vLLM and other servers",
    promise="read again it is the same; prometheus_client's parser finds the same; errors hold nothing a terminal obeys",
    modules=("monitor.sources.exposition", "monitor.sources.aliases"),
    run=run,
    seeds=seeds,
    words=(
        "# TYPE ",
        "# HELP ",
        "histogram",
        "_bucket",
        'le="+Inf"',
        "NaN",
        "+Inf",
        " # {",
        "vllm:",
        "exported_server",
    ),
)
