"""Server-sent events: the daemon's stream as screens read it, and the two parsers of them beside each other."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from monitor.client import queries
from monitor.client.builder import SnapshotBuilder
from monitor.client.errors import ClientError
from monitor.client.snapshot import NodeFacts
from monitor.client.sse import SseParser
from monitor.client.wire import Frame
from monitor.probes.sse import Events, TooLong
from tests.fuzz.target import Broken, Target


def run(data: bytes) -> None:
    """The first byte says how the rest is cut. However that is, the same events come, and both parsers agree on their
    data; those that are frames make pictures."""
    if not data:
        return
    size, stream = data[0] + 1, data[1:]
    pieces = [stream[at : at + size] for at in range(0, len(stream), size)]
    parser, by_pieces = SseParser(), SseParser()
    whole = list(parser.feed(stream))
    parts = [one for piece in pieces for one in by_pieces.feed(piece)]
    if whole != parts:
        raise Broken(f"in one piece {whole!r}, in pieces of {size} {parts!r}")
    try:
        probe, probe_pieces = Events(), Events()
        once = probe.feed(stream)
        many = [one for piece in pieces for one in probe_pieces.feed(piece)]
    except TooLong:
        return
    if once != many:
        raise Broken(f"probe: in one piece {once!r}, in pieces of {size} {many!r}")
    if b"data\n" not in stream and b"data\r" not in stream and once != [found for _, found in whole]:
        raise Broken(f"the probe's parser finds {once!r}, the screens' {whole!r}")
    _pictures([found for _, found in whole])


def _pictures(bodies: list[bytes]) -> None:
    builder = SnapshotBuilder(NodeFacts(target="unix:/x", hostname="n1"))
    for body in bodies:
        try:
            frame = msgspec.json.decode(body, type=Frame)
            builder.apply(frame)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ClientError):
            return


def _event(frame: object) -> bytes:
    return b"event: frame\ndata: " + msgspec.json.encode(frame) + b"\n\n"


def seeds() -> Iterable[bytes]:
    """Frames with what screens ask for, comments, CRLF."""
    asked = [one.id for one in queries.overview()]
    results = {
        name: {"labels": [{"__name__": "DCGM_FI_DEV_GPU_UTIL", "gpu": "0", "UUID": "G", "instance": "n1:9519"}],
               "times": [1000.0], "values": [3.0], "reset": True}
        for name in asked
    }  # fmt: skip
    first = {"seq": 1, "now_ms": 1_700_000_000_000, "results": results, "alerts": [], "sources": []}
    for name in asked:
        yield b"\xff" + _event({**first, "results": {name: results[name]}})
        ranged = {**results[name], "values": [[3.0, None]], "times": [1000.0, 1002.0]}
        yield (
            b"\x40"
            + _event({**first, "results": {name: ranged}})
            + _event({"seq": 2, "now_ms": 5, "results": {name: {"times": [1], "values": [2]}}})
        )
    alert = {
        "labels": {"alertname": "A", "gpu": "1"},
        "state": "firing",
        "activeAt": "2026-01-01T00:00:00Z",
        "value": "1e+00",
    }
    source = {"source": "nvml", "server": "", "up": False, "absent": False, "reason": "gone", "last_success_ms": None,
              "age_seconds": None, "poll_seconds": None, "interval_seconds": 1.0, "facts": {}}  # fmt: skip
    yield b"\x01" + _event({"seq": 1, "now_ms": 1, "alerts": [alert], "sources": [source], "dropped": 3})
    yield b"\x03: ping\r\n\r\nevent: frame\r\ndata: {}\r\n\r\ndata:a\ndata: b\n\nid: 1\nretry: 2\n\n"
    yield b'\x02data: {"a"'


TARGET = Target(
    what="the daemon's stream of frames, as screens read it",
    promise="however the stream is cut the same events come, to both of our parsers; frames make pictures or a ClientError",
    modules=("monitor.client.sse", "monitor.probes.sse", "monitor.client.builder", "monitor.client.results"),
    run=run,
    seeds=seeds,
    words=("data: ", "event: ", "\n\n", "\r\n\r\n", '"results":{', '"labels":[{', '"values":[', '"times":[', "null",
           '"reset":true', '"gpu":"0"', '"seq":', '"now_ms":', "1e308", '"error":"', '"alerts":[', '"sources":['),
)  # fmt: skip
