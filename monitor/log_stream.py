"""Writes the log's lines to a terminal, a pipe or a file in a thread of its own, so that one that takes nothing (its
reader was stopped, its disk hangs) holds up nothing else. Lines for which there is no room are counted, and told of as
soon as lines are taken again.
"""

from __future__ import annotations

import logging
import os
import select
import sys
import threading
from collections import deque
from typing import TextIO

_MOST_WAITING = 1 << 20
"""Bytes of lines that wait to be taken."""
_PATIENCE = 1.0
"""Seconds that the end waits for the last lines."""


class PatientHandler(logging.Handler):
    """Writes each record as a line to ``stream``, standard error without one. Never blocks for longer than a second,
    and that only at the end."""

    def __init__(self, stream: TextIO | None = None) -> None:
        super().__init__()
        self._stream = stream or sys.stderr
        try:
            self._file = self._stream.fileno()
        except (OSError, ValueError):
            self._file = -1
        self._changed = threading.Condition()
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self._lost = 0
        self._is_cut = False
        """Whether what was taken last ends within a line: its disk is full."""
        self._thread: threading.Thread | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Have it written."""
        try:
            line = self.format(record) + "\n"
            if self._file < 0:  # what only looks like a file: nothing to wait for
                self._stream.write(line)
                return
            self._put(line.encode(errors="backslashreplace"))
        except Exception:
            self.handleError(record)

    def flush(self) -> None:
        """Wait until all is written, but not long."""
        with self._changed:
            self._changed.wait_for(lambda: not self._size, _PATIENCE)

    def close(self) -> None:
        """Wait as ``flush`` does, and end the thread."""
        self.flush()
        with self._changed:
            self._thread = None
            self._changed.notify_all()
        super().close()

    def _put(self, line: bytes) -> None:
        with self._changed:
            if self._size and self._size + len(line) > _MOST_WAITING:
                self._lost += 1
                return
            self._waiting.append(line)
            self._size += len(line)
            self._changed.notify_all()
            if self._thread is None:
                self._thread = threading.Thread(target=self._write_all, name="log", daemon=True)
                try:
                    self._thread.start()
                except RuntimeError:  # none can be had: the next line tries again
                    self._thread = None

    def _write_all(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._thread is not threading.current_thread())
                if not self._waiting:
                    return
                line = self._waiting.popleft()
            # In the queue's size until it is written: ``flush`` waits for it too.
            taken = self._write(line)
            with self._changed:
                self._size -= len(line)
                self._lost += not taken
                if taken and self._lost and not self._waiting:
                    self._tell_lost()
                self._changed.notify_all()

    def _tell_lost(self) -> None:
        text = "%d lines of the log before this one were lost: what it is written to did not take them"
        record = logging.LogRecord(__name__, logging.WARNING, __file__, 0, text, (self._lost,), None, "_tell_lost")
        self._lost = 0
        line = (self.format(record) + "\n").encode(errors="backslashreplace")
        self._waiting.append(line)
        self._size += len(line)

    def _write(self, line: bytes) -> bool:
        """Whether it was taken."""
        if self._is_cut:
            line = b"\n" + line
        while line:
            try:
                taken = os.write(self._file, line)
                self._is_cut = not line[:taken].endswith(b"\n") if taken else self._is_cut
                line = line[taken:]
            except BlockingIOError:  # somebody who has it too made it so
                waiting = select.poll()
                waiting.register(self._file, select.POLLOUT)
                waiting.poll()
            except OSError:
                return False
        return True
