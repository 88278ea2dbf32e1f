"""Loaded by a daemon whose PYTHONPATH names this folder, to have bugs on demand: SIGUSR2 blocks its main thread, and so
its loop, for ever; SIGUSR1 lets the task that evaluates rules wait for ever, and everything else run."""

import asyncio
import signal
import sys
import time


def _block(number: int, frame: object) -> None:
    time.sleep(86_400)


def _stand(number: int, frame: object) -> None:
    sleep = asyncio.sleep

    async def but_for_rules(delay: float, result: object = None) -> object:
        task = asyncio.current_task()
        return await sleep(86_400 if task is not None and task.get_name() == "rules" else delay, result)

    asyncio.sleep = but_for_rules  # type: ignore[assignment]


if sys.orig_argv[-4:-1] == ["monitor", "daemon", "--config"]:
    signal.signal(signal.SIGUSR2, _block)
    signal.signal(signal.SIGUSR1, _stand)
