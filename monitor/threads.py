"""Work that may hang, such as a file on a network mount whose server is gone, in threads that nobody has to wait for.

``asyncio.to_thread`` has a few threads for everybody, and a program does not end before they do: some calls that hang
would hold up all others, and the end.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import threading
import time
from collections.abc import Callable
from typing import ParamSpec, TypeVar

MOST = 32
"""Calls at a time of one user: whoever asks again and again for what hangs must not take all of the machine's
threads."""

_LOOK_SECONDS = 0.005

P = ParamSpec("P")
T = TypeVar("T")


class Places:
    """So many calls at a time. Each user has his own: what hangs of one must not refuse another."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._free = threading.BoundedSemaphore(most)

    async def apart(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What ``work`` gives, called in a daemon thread of its own. Whoever no longer waits for it lets it go on.

        Raises what ``work`` raises, and ``OSError`` where no place is free or no thread can be had.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def settle(result: T | None, error: BaseException | None) -> None:
            if future.done():
                return
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)  # type: ignore[arg-type] # of what gave no error it is the result

        def run() -> None:
            result: T | None = None
            failed: BaseException | None = None
            try:
                result = work(*args, **kwargs)
            except BaseException as error:
                failed = error
            finally:
                self._free.release()
            # Where the loop has closed meanwhile, nobody waits any more.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(settle, result, failed)

        if not self._free.acquire(blocking=False):
            raise OSError(errno.EAGAIN, f"{self._most} calls wait already for a disk that does not answer")
        try:
            start(run, getattr(work, "__name__", "apart"))
        except OSError:
            self._free.release()
            raise
        return await future


apart = Places().apart
"""For those that have no places of their own."""


async def ended(thread: threading.Thread, seconds: float) -> bool:
    """Wait until a thread has ended, but not longer than so many seconds; whether it has."""
    until = time.monotonic() + seconds
    while thread.is_alive() and time.monotonic() < until:  # noqa: ASYNC110 - a thread that ends sets no event
        await asyncio.sleep(_LOOK_SECONDS)
    return not thread.is_alive()


def start(work: Callable[[], object], name: str) -> threading.Thread:
    """Start a daemon thread. Raises ``OSError`` where the system gives none, as where too many of them run."""
    thread = threading.Thread(target=work, name=name, daemon=True)
    try:
        thread.start()
    except RuntimeError as error:
        raise OSError(errno.EAGAIN, f"no thread can be started: {os.strerror(errno.EAGAIN)}") from error
    return thread
