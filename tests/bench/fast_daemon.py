"""A daemon that watches real things with a clock that runs faster than the world: for a soak, where an hour must be a
day. The command refuses that, since readings would bear times that are nobody's; everything else is the daemon's own.

    python -m tests.bench.fast_daemon CONFIG SPEED
"""

from __future__ import annotations

import sys
from pathlib import Path

from monitor.commands.daemon import start

if __name__ == "__main__":
    start(
        config_path=Path(sys.argv[1]),
        rule_paths=(),
        vllm_urls=(),
        socket_path=None,
        listen=None,
        state_dir=None,
        simulate=False,
        speed=float(sys.argv[2]),
        past_seconds=0.0,
        mode="system",
        verbose=False,
    )
