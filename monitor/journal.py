"""Hands log records to systemd's journal in its own form, a datagram of fields, so that `journalctl GPUMON_SOURCE=nvml`
and `-p err` find what they ask for. https://systemd.io/JOURNAL_NATIVE_PROTOCOL/
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import socket
import struct
from collections.abc import Iterable
from typing import Final, TextIO

from monitor.log_stream import PatientHandler

SOCKET: Final = "/run/systemd/journal/socket"
PRIORITIES: Final = {
    logging.CRITICAL: 2,
    logging.ERROR: 3,
    logging.WARNING: 4,
    logging.INFO: 6,
    logging.DEBUG: 7,
}
_PATIENCE = 0.2
"""Seconds that a full journal may hold the daemon up; then the line is lost, and those after it are not waited for
until one is taken again."""
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL


def reads(stream: TextIO) -> bool:
    """Whether the journal reads ``stream``: systemd names the device and the inode of what it connected. A child whose
    output goes elsewhere still has the variable."""
    device, _, inode = os.environ.get("JOURNAL_STREAM", "").partition(":")
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return (device, inode) == (str(status.st_dev), str(status.st_ino))


class PriorityFormatter(logging.Formatter):
    """Lines with systemd's priorities before them, as the journal reads them from standard error."""

    def format(self, record: logging.LogRecord) -> str:
        """All lines of the record."""
        prefix = f"<{PRIORITIES.get(record.levelno, 6)}>"
        return "\n".join(prefix + line for line in super().format(record).splitlines() or [""])


class JournalHandler(logging.Handler):
    """Sends each record as a datagram. Where the socket does not take it, the line goes to ``fallback`` with its
    priority before it."""

    def __init__(self, path: str = SOCKET, fallback: TextIO | None = None) -> None:
        super().__init__()
        self._path = path
        self._fallback = PatientHandler(fallback)
        self._fallback.setFormatter(PriorityFormatter())
        self._socket: socket.socket | None = None
        self._lost = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Send it."""
        text = self.format(record)
        if self._lost:
            text += f" ({self._lost} lines before this one were lost: the journal did not take them)"
        try:
            self._send(_datagram(record, text))
        except BlockingIOError:
            self._lost += 1
        except OSError:
            self._close()
            self._fallback.handle(record)
        except Exception:
            self.handleError(record)
        else:
            self._lost = 0

    def close(self) -> None:
        """Close the socket."""
        self._close()
        self._fallback.close()
        super().close()

    def _send(self, datagram: bytes) -> None:
        wait = socket.MSG_DONTWAIT if self._lost else 0
        if self._socket is None:
            self._socket = self._connected()
        try:
            self._socket.send(datagram, wait)
        except ConnectionError:  # the journal was started anew: its socket is another
            self._close()
            with self._connected() as once:
                once.send(datagram, wait)
        except OSError as error:
            if error.errno not in (errno.EMSGSIZE, errno.ENOBUFS):
                raise
            self._send_large(datagram, wait)

    def _connected(self) -> socket.socket:
        connected = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        try:
            # Not Python's own timeout: it asks poll() first, which says "full" from a quarter of the buffer on, so that
            # every second line would be waited for and lost while there is room.
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", 0, int(_PATIENCE * 1e6)))
            connected.connect(self._path)
        except BaseException:
            connected.close()
            raise
        return connected

    def _send_large(self, datagram: bytes, wait: int) -> None:
        """What no datagram holds goes as a sealed file in memory, whose descriptor is sent."""
        assert self._socket is not None  # noqa: S101 - the caller sent by it
        large = os.memfd_create("gpumon-journal", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            with open(large, "wb", closefd=False) as file:
                file.write(datagram)
            fcntl.fcntl(large, fcntl.F_ADD_SEALS, _SEALS)
            socket.send_fds(self._socket, [b""], [large], wait)
        finally:
            os.close(large)

    def _close(self) -> None:
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.close()
            self._socket = None


def _datagram(record: logging.LogRecord, text: str) -> bytes:
    return b"".join(_field(name, value) for name, value in _fields(record, text))


def _fields(record: logging.LogRecord, text: str) -> Iterable[tuple[str, str]]:
    yield "MESSAGE", text
    yield "PRIORITY", str(PRIORITIES.get(record.levelno, 6))
    yield "SYSLOG_IDENTIFIER", "gpumon"
    yield "LOGGER", record.name
    yield "CODE_FILE", record.pathname
    yield "CODE_LINE", str(record.lineno)
    yield "CODE_FUNC", record.funcName or ""
    number = ""
    for name, value in sorted(getattr(record, "about", {}).items()):
        if name == "errno":
            number = value
        else:
            yield f"GPUMON_{name.upper()}", value
    error = record.exc_info[1] if record.exc_info else None
    if not number and isinstance(error, OSError) and error.errno:
        number = str(error.errno)
    if number:
        yield "ERRNO", number


def _field(name: str, value: str) -> bytes:
    """``NAME=value``; a value of several lines goes with its length, as eight bytes, the lowest first."""
    data = value.encode(errors="backslashreplace")
    if b"\n" not in data:
        return name.encode() + b"=" + data + b"\n"
    return name.encode() + b"\n" + struct.pack("<Q", len(data)) + data + b"\n"
