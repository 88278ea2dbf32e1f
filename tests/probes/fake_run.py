"""A run's process that loads nothing: it says what ``Spec.labels`` has it play, in the words of a real one.

python -m tests.probes.fake_run     the order on its standard input, as for ``python -m monitor.probes``
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import msgspec

from monitor.probes.schema import (
    Done,
    Facts,
    Finding,
    Known,
    Message,
    Metrics,
    Note,
    Order,
    Progress,
    Result,
    RunState,
    Step,
    StepDone,
)

LAUNCH = (sys.executable, "-m", "tests.probes.fake_run")


def say(message: Message) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(message) + b"\n")
    sys.stdout.buffer.flush()


def step(number: int, workload: str = "throughput") -> Step:
    metrics = Metrics(
        2.0,
        10,
        0,
        1280,
        1280,
        5.0,
        100.0 * number,
        200.0 * number,
    )
    return Step(workload, f"concurrency {number}", {"concurrency": number}, 1_000, 3_000, metrics)  # type: ignore[arg-type]


def result(order: Order, state: RunState, steps: tuple[Step, ...], began_ms: int, error: str = "") -> Result:
    peak = max((one.metrics.output_throughput for one in steps), default=0.0)
    speed = float(order.spec.labels.get("speed", "1"))
    return Result(
        order.id,
        order.spec.workload,
        state,
        began_ms,
        time.time_ns() // 1_000_000,
        order.spec,
        Facts(server=order.spec.server, url=order.spec.url, model="fake-model"),
        steps,
        (Finding("knee", "info", "the knee is at 2"),) if steps else (),
        {"output_throughput": peak * speed, "ttft_p50_ms": 20.0 / speed} if steps else {},
        error,
        ("cached tokens: 512",) if order.spec.labels.get("invalid") else (),
    )


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    order = msgspec.json.decode(sys.stdin.buffer.readline(), type=Order)
    plays = order.spec.labels.get("play", "done")
    began_ms = time.time_ns() // 1_000_000
    if plays == "crash":
        sys.stderr.write(f"Traceback: the key is {order.secrets.api_key}\nValueError: no such thing\n")
        sys.exit(3)
    if plays == "busy":
        say(Progress(began_ms, "preparing"))
        say(Done(result(order, "busy", (), began_ms, "16 running, 0 waiting; --yes loads it anyway"), ()))
        return
    say(Known(Facts(server=order.spec.server, url=order.spec.url, model="fake-model")))
    say(Progress(began_ms, "measuring", "concurrency 1", 0, 2, 0.1))
    say(StepDone(step(1)))
    if plays in ("profiled", "profile written"):
        say(Note(began_ms, "the server's torch profiler runs, for 30 s at most: it slows the server down"))
    if plays == "profile written":
        say(Note(began_ms, "the torch profile was written in 2.0 s; it is in /traces"))
    say(Note(began_ms, "a note"))
    sys.stdout.buffer.write(b"this is no message\n")
    if plays == "long line":
        sys.stdout.buffer.write(b"x" * (40 << 20))
        sys.stdout.buffer.flush()
    if plays == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        say(Progress(began_ms, "measuring", "deaf", 0, 2, 0.2))
        while True:
            time.sleep(60)
    if plays == "silent":
        time.sleep(60)
    cancelled = False
    if plays in ("wait", "slow to write", "profiled", "profile written"):
        # Until it is told to end, or whoever started it is gone.
        cancelled = sys.stdin.buffer.readline() in (b"cancel\n", b"")
    if plays == "slow to write":
        time.sleep(1.5)
    steps = (step(1),) if cancelled else (step(1), step(2))
    say(StepDone(steps[-1])) if not cancelled else None
    done = result(order, "cancelled" if cancelled else "done", steps, began_ms)
    folder = Path(order.folder)
    partial = folder.with_name(f".{folder.name}.partial-1")
    (partial / "steps").mkdir(parents=True)
    (partial / "summary.md").write_text(f"# {order.id}\n")
    (partial / "report.html").write_text("<script>alert(1)</script>")
    (partial / "steps" / "01.json").write_text("{}")
    (partial / "baseline_metrics.json").write_bytes(msgspec.json.encode({"gpumon": done}))
    os.rename(partial, folder)
    try:
        say(Done(done, ("baseline_metrics.json", "report.html", "steps/01.json", "summary.md")))
    except BrokenPipeError:
        os._exit(0)


if __name__ == "__main__":
    main()
