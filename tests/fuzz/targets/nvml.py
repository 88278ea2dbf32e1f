"""Frames of the NVML reader, a process that may be killed in the middle of one."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import msgspec

from monitor.sources.nvml_frame import decode
from monitor.sources.nvml_process import Reader
from monitor.sources.nvml_series import NvmlSeries
from monitor.store.head import Head
from tests.fuzz.target import Broken, Target, event_loop

_FACTS = {
    "driver_version": "580.1", "cuda_version": "13.0", "count": 2,
    "gpus": [{"index": i, "uuid": f"GPU-{i}", "name": "H200", "bus_id": f"00000000:{i}0:00.0", "mig": False} for i in (0, 1)],
    "topology": [{"index": 0, "numa": 0, "cpus": "0-15", "links": {"1": "NV18"}}],
}  # fmt: skip
_FRAME: dict[str, Any] = {
    "gpus": [
        {"index": 0, "util": 3, "used": 1 << 30, "total": 1 << 37, "power_mw": 70000, "reasons": 4, "links": [1, 1],
         "slow": {"DCGM_FI_DEV_ECC_DBE_VOL_TOTAL": 0.0}, "gpm": {"DCGM_FI_PROF_SM_ACTIVE": 0.5},
         "processes": [[77, 1024, "compute", "python", "root", 5, None]]},
        {"index": 1, "error": "GPU is lost", "lost": True},
    ],
    "facts": _FACTS, "seconds": 0.004, "cpu_seconds": 1.5, "rss_bytes": 20 << 20, "xids": [[0, 79]],
}  # fmt: skip


def framed(body: bytes) -> bytes:
    """A frame as it stands on the pipe."""
    return len(body).to_bytes(4, "big") + body


def run(data: bytes) -> None:
    """The first byte says how the rest is cut into pieces. However that is, the same frames come; those that can be
    read become scrapes that the store takes."""
    if not data:
        return
    size, stream = data[0] + 1, data[1:]
    whole, pieces = _frames([stream]), _frames([stream[at : at + size] for at in range(0, len(stream), size)])
    if whole != pieces:
        raise Broken(f"in one piece {whole!r}, in pieces of {size} {pieces!r}")
    series, head = NvmlSeries("n1"), Head("j", "i")
    for number, body in enumerate(one for one in whole if one is not None):
        try:
            frame = decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue
        scrape = series.scrape(frame, 1_000_000 + number * 1000, restarts=0, left_behind=0)
        series.missing()
        head.ingest("nvml", scrape)


def _frames(pieces: list[bytes]) -> list[bytes | None]:
    """What a reader settles on for each piece of its pipe, in order."""
    reader = Reader(event_loop(), lambda _: None, -1)
    found: list[bytes | None] = []
    reader._settle = found.append  # type: ignore[method-assign,assignment]
    for piece in pieces:
        reader.pipe_data_received(1, piece)
        if None in found:
            break  # what is no frame ends a reader
    return found[: found.index(None) + 1] if None in found else found


def seeds() -> Iterable[bytes]:
    """Frames of a reader, whole, two at once, cut and damaged."""
    body = json.dumps(_FRAME, separators=(",", ":")).encode()
    yield b"\xff" + framed(body)
    yield b"\x05" + framed(b'{"gpus":[{"index":0,"util":1}]}') * 2
    yield b"\x00" + framed(b'{"absent":"no NVIDIA driver"}') + framed(b'{"down":"gone"}')
    yield b"\x10" + framed(body)[:200]
    yield b"\x01\xff\xff\xff\xff{}"
    yield (
        b"\x20"
        + framed(b"{}")
        + framed(b'{"seconds":1e999}')
        + framed(b'{"gpus":[{"index":-1,"used":99999999999999999999}]}')
    )


TARGET = Target(
    what="frames of the NVML reader",
    promise="however the pipe is cut the same frames come; what can be read is a scrape that the store takes",
    modules=("monitor.sources.nvml_process", "monitor.sources.nvml_frame", "monitor.sources.nvml_series"),
    run=run,
    seeds=seeds,
    words=('"index":', '"gpus":[', '"facts":', '"mig":[', '"gpm":{', '"slow":{', '"uuid":', '"processes":[', "null", "1e308",
           '"topology":[', '"links":[', '"id":', '"profile":', '"lost":true', '"error":'),
)  # fmt: skip
