"""A secret, read beside the loop: it may lie on a file system that hangs."""

from __future__ import annotations

import asyncio

from monitor import threads
from monitor.notify.route import Revealing

DEADLINE = 5.0
"""Seconds after which a secret counts as one that cannot be read."""

_reading: dict[Revealing, asyncio.Future[str]] = {}
_last: dict[Revealing, str] = {}
"""What was read last of each, for when no thread can be had to read it anew."""


class Unreadable(Exception):
    """A secret cannot be had. The text says why, and holds no part of it."""


async def reveal(secret: Revealing, deadline: float = DEADLINE) -> str:
    """The secret, read now. Raises ``Unreadable``.

    One whose reading hangs is not read a second time meanwhile: each attempt would keep a thread, until there are none
    left for the other secrets. Where no thread can be had at all, it is what it was when it was read last.
    """
    if secret.is_at_hand:
        try:
            return secret.reveal()
        except ValueError as error:
            raise Unreadable(str(error)) from None
    reading = _reading.get(secret)
    if reading is None or reading.get_loop() is not asyncio.get_running_loop():
        reading = _reading[secret] = asyncio.ensure_future(threads.apart(secret.reveal))
        reading.add_done_callback(lambda done: _forget(secret, done))
    await asyncio.wait({reading}, timeout=deadline)
    if not reading.done():
        raise Unreadable(f"{secret!r} cannot be read: no answer in {deadline:g} s")
    try:
        _last[secret] = reading.result()
    except ValueError as error:
        raise Unreadable(str(error)) from None
    except OSError as error:  # no thread could be had
        if secret in _last:
            return _last[secret]
        raise Unreadable(f"{secret!r} cannot be read: {error.strerror}") from None
    return _last[secret]


def _forget(secret: Revealing, done: asyncio.Future[str]) -> None:
    if _reading.get(secret) is done:
        del _reading[secret]
    if not done.cancelled():
        done.exception()  # seen: who waited for it learns of it, where somebody still does
