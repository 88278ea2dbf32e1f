"""The process of one run: ``python -m monitor.probes``.

Standard input: the ``Order`` as one line of JSON, then ``cancel`` to end it early; its end ends the run, too, since
whoever started it is gone. Standard output: one ``Message`` a line, ``Done`` as the last. Standard error: for people.
SIGTERM ends it early; SIGINT and SIGHUP of a terminal are for whoever started it. The exit status is 0 where ``Done``
was written, whatever became of the run.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import queue
import signal
import sys
import threading
from collections.abc import Callable

import msgspec

from monitor.probes.measure import Stop
from monitor.probes.run import Run
from monitor.probes.schema import Message, Order, Progress

MAX_ORDER = 64 << 20
FLUSH_S = 30.0
_BEHIND = 100


class Lines:
    """Standard input, line by line, read past Python's own buffer: a thread that waits in that one would keep the
    process from ending."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._rest = b""

    def next(self) -> bytes | None:
        """The next line; None at the end. Blocks. Raises ``ValueError`` for one without end."""
        while b"\n" not in self._rest:
            piece = os.read(self._descriptor, 1 << 16)
            if not piece:
                line, self._rest = self._rest, b""
                return line or None
            self._rest += piece
            if len(self._rest) > MAX_ORDER:
                raise ValueError(f"a line of more than {MAX_ORDER >> 20} MiB")
        line, _, self._rest = self._rest.partition(b"\n")
        return line


class Teller:
    """Writes messages from a thread of its own: a reader who does not read must not hold up a measurement."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._queue: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write, name="messages", daemon=True)
        self._encoder = msgspec.json.Encoder()
        self.nobody_reads = threading.Event()
        self.when_nobody_reads: Callable[[], None] = lambda: None
        """Called from the thread, once."""
        self._thread.start()

    def say(self, message: Message) -> None:
        """Hand it over. Where nobody reads, what is out of date by then is left out."""
        if not isinstance(message, Progress) or self._queue.qsize() < _BEHIND:
            self._queue.put(message)

    def close(self) -> bool:
        """Whether all was written, after waiting for it a while."""
        self._queue.put(None)
        self._thread.join(FLUSH_S)
        return not self._thread.is_alive() and not self.nobody_reads.is_set()

    def _write(self) -> None:
        while (message := self._queue.get()) is not None:
            if self.nobody_reads.is_set():
                continue
            line = memoryview(self._encoder.encode(message) + b"\n")
            try:
                while line:
                    line = line[os.write(self._descriptor, line) :]
            except OSError:
                self.nobody_reads.set()
                self.when_nobody_reads()


def main() -> int:
    """Run what the first line orders."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    # Whatever a library prints must not come between the messages.
    messages = os.dup(1)
    os.dup2(2, 1)
    lines = Lines(0)
    try:
        order = msgspec.json.decode(lines.next() or b"", type=Order)
    except (ValueError, msgspec.DecodeError) as error:
        sys.stderr.write(f"the first line on standard input must be an order: {error}\n")
        return 2
    teller = Teller(messages)
    asyncio.run(_run(order, lines, teller))
    return 0 if teller.close() else 1


async def _run(order: Order, lines: Lines, teller: Teller) -> None:
    loop = asyncio.get_running_loop()
    stop = Stop()

    def cancel() -> None:
        stop.set("cancelled")

    def cancel_from_thread() -> None:
        with contextlib.suppress(RuntimeError):  # the run ended first
            loop.call_soon_threadsafe(cancel)

    def listen() -> None:
        # At the end of the file too: whoever started the run is gone.
        with contextlib.suppress(ValueError, OSError):
            while (line := lines.next()) is not None and line.strip() != b"cancel":
                pass
        cancel_from_thread()

    teller.when_nobody_reads = cancel_from_thread
    loop.add_signal_handler(signal.SIGTERM, cancel)
    threading.Thread(target=listen, name="commands", daemon=True).start()
    await Run(order, stop, teller.say).go()


if __name__ == "__main__":
    sys.exit(main())
