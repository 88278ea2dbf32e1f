"""Lines of a model server's log: requests' own words may stand in them."""

from __future__ import annotations

from collections.abc import Iterable

from monitor.sources.vllm_log import ServerLog
from tests.fuzz.target import Broken, Target, text_of


def run(data: bytes) -> None:
    """Lines, two polls of them."""
    log = ServerLog("n1:8000", path="/nowhere")
    lines = text_of(data).split("\n")
    for at_ms, some in ((1_000_000, lines[::2]), (1_002_000, lines[1::2])):
        for event in log._events(log._understand([line[:4096] for line in some]), at_ms):
            if not (event.title + event.detail).isprintable() or len(event.title) > 400:
                raise Broken(f"an event that a terminal would obey: {event!r}")


def seeds() -> Iterable[bytes]:
    """vLLM's, uvicorn's, with colours and tracebacks."""
    yield b"(EngineCore pid=7) ERROR 11-20 20:30:31 [core.py:400] EngineCore encountered a fatal error.\n"
    yield b"ERROR 11-20 20:30:31,123 [a.py:1] Traceback\nERROR 11-20 20:30:31,123 [a.py:1] torch.OutOfMemoryError: CUDA out of memory\n"
    yield b"\x1b[31mERROR:\x1b[0m    Exception in ASGI application Bearer sk-12345678\n"
    yield b"EPLB step: 3 for model m: avg_tokens=1.0, balancedness=0.31\nEPLB step: 4: balancedness=0.9\n"


TARGET = Target(
    what="a model server's log",
    promise="events hold nothing a terminal obeys",
    modules=("monitor.sources.vllm_log",),
    run=run,
    seeds=seeds,
    words=(
        "ERROR ",
        "CRITICAL ",
        "(EngineCore pid=7) ",
        "11-20 20:30:31 [a.py:1] ",
        "EPLB step: ",
        "balancedness=",
        "\x1b[31m",
    ),
)
