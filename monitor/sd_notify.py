"""Tells systemd how the service is doing, as sd_notify(3) does: a datagram to the socket that it names."""

from __future__ import annotations

import logging
import os
import socket

log = logging.getLogger(__name__)

_senders: dict[str, socket.socket] = {}
"""Kept: where clients have taken every file that may be open, the watchdog is still to be fed."""


def notify(*lines: str) -> None:
    """Send lines such as ``READY=1``; nothing where no service manager listens."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    message = "\n".join(lines).encode()
    try:
        try:
            _sender(address).sendall(message)
        except ConnectionError:  # another service manager has its place
            if address in _senders:
                _senders.pop(address).close()
            _sender(address).sendall(message)
    except OSError as error:
        log.warning("systemd's socket does not take %s: %s", lines[0], error)


def _sender(address: str) -> socket.socket:
    if address not in _senders:
        sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        try:
            sender.connect("\0" + address[1:] if address.startswith("@") else address)  # @: an abstract one
        except OSError:
            sender.close()
            raise
        _senders[address] = sender
    return _senders[address]


def watchdog_seconds() -> float | None:
    """How often to feed the watchdog: half of what systemd waits; None where it does not watch this process."""
    try:
        usec = int(os.environ.get("WATCHDOG_USEC", "0"))
        pid = int(os.environ.get("WATCHDOG_PID", os.getpid()))
    except ValueError:
        return None
    return usec / 2e6 if usec > 0 and pid == os.getpid() else None
