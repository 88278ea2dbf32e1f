"""Seconds from the moment an idle engine freezes to the notification's arrival at a webhook, with the shipped rules and
every setting as it is by default.

    python -m tests.live.freeze_times [ROUNDS]

Each round has a daemon of its own, as the alert is kept firing for minutes. The freezes are spread evenly over the half
minute between two canaries. Two servers are frozen side by side, to halve the time: ten rounds take eight minutes.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.live.freezing import frozen
from tests.live.receivers import JsonReceiver, json_receiver
from tests.live.servers import Vllm, daemon, real_vllm, wait_for

CYCLE = 31.0
"""Seconds between two canaries of an idle engine: half a minute, and its own step is seen a second later."""
TRACKS = 2


def one(folder: Path, vllm: Vllm, number: int, phase: float) -> float:
    """Seconds from the freeze, ``phase`` seconds after a canary, to the notification."""
    with json_receiver() as receiver:
        config = {
            "sources": {
                "nvml": {"enabled": False},
                "vllm": {"discover": False, "servers": [{"url": vllm.url, "canary": True}]},
            },
            "receivers": [{"name": "ops", "webhook": f"http://127.0.0.1:{receiver.port}/"}],
            "route": {"receiver": "ops"},
        }
        with daemon(folder, config, name=f"node{number}") as node:
            alive = 'gpumon_canary_state{state="alive"} == 1'
            wait_for("the first canary", lambda: node.query(alive), 120, node.process)
            time.sleep(phase)
            with frozen(vllm):
                began = time.monotonic()
                wait_for("the notification", lambda: told(receiver), 240, node.process)
                return time.monotonic() - began


def told(receiver: JsonReceiver) -> bool:
    """Whether the webhook was told of the frozen engine."""
    alerts = [alert for body in list(receiver.bodies) for alert in body["alerts"]]
    return any(alert["labels"]["alertname"] == "EngineFrozen" and alert["status"] == "firing" for alert in alerts)


def measure(folder: Path, rounds: int) -> list[float]:
    """All rounds' seconds."""

    def track(first: int) -> list[float]:
        found = []
        with real_vllm(folder, name=f"vllm-{first}") as vllm:
            for number in range(first, rounds, TRACKS):
                phase = CYCLE * (number + 0.5) / rounds
                found.append(one(folder, vllm, number, phase))
                print(f"frozen {phase:4.1f} s after a canary: told after {found[-1]:5.1f} s", flush=True)
        return found

    with ThreadPoolExecutor(TRACKS) as pool:
        return [seconds for some in pool.map(track, range(TRACKS)) for seconds in some]


def main() -> int:
    """Print them, and the median."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    with tempfile.TemporaryDirectory() as folder:
        times = measure(Path(folder), rounds)
    print(
        f"from the freeze to the notification's arrival, {len(times)} times: "
        f"median {statistics.median(times):.1f} s, {min(times):.1f} to {max(times):.1f} s"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
